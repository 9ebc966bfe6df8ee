"""What a shard prints: all of it in its log, or the first and the last of it and a count; and never at the launcher's cost."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import selectors
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.paths import StateDir
from engine.shards.local import LocalExecutor
from engine.shards.output import AT_ONCE, BURST, LINE, PIECE, REST_S, TAIL, Log, Outputs
from tests import test_launcher as launching
from tests.test_launcher import Pipe, end_of, output, spec
from tests.tinylab import wait_for

state = launching.state
executor = launching.executor

GAP = re.compile(rb"cockpit: ([\d,]+) lines? dropped \(([^)]*)\)")


def log_of(path: Path, limit: int, write: Callable[[int, bytes], int] = os.write) -> Log:
    return Log(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), limit, write)


# --- what is kept


@given(pieces=st.lists(st.binary(max_size=200), max_size=30), limit=st.integers(0, 3000))
def test_output_that_fits_comes_out_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], limit: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "output.log"
    log = log_of(path, limit)
    for piece in pieces:
        log.take(piece)
    assert log.close() is None
    assert path.read_bytes() == b"".join(pieces)  # what exceeds the limit is the tail, which is kept


@pytest.mark.parametrize("line", [b"y\n", b"a somewhat longer line of training output\n"])
def test_a_flood_keeps_its_beginning_and_its_end_and_the_count_is_right(tmp_path: Path, line: bytes) -> None:
    log = log_of(tmp_path / "log", 10_001)  # in the middle of a line
    lines = 400_000 // len(line)
    printed = line * lines + b"Traceback (most recent call last):\nValueError: at the end\n"
    for at in range(0, len(printed), PIECE):
        log.take(printed[at : at + PIECE])
    log.close()
    kept = (tmp_path / "log").read_bytes()
    assert len(kept) <= 10_001 + TAIL + 100
    assert kept.startswith(line * 10)
    assert kept.endswith(line + b"Traceback (most recent call last):\nValueError: at the end\n")
    found = GAP.search(kept)
    assert found is not None
    assert kept.splitlines().count(found[0]) == 1  # a line of its own
    assert kept.splitlines().count(line.rstrip()) + int(found[1].replace(b",", b"")) == pytest.approx(lines, abs=1)


def test_lines_by_the_million_are_counted_so(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", 100)
    for _ in range(150):
        log.take(b"\n" * 10_000)
    log.close()
    assert b"\ncockpit: 1.4 M lines dropped (1.4 MiB)\n" in (tmp_path / "log").read_bytes()


def test_a_line_without_end_is_cut_and_says_so_and_the_next_one_is_whole(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", 0)
    log.take(b"before\n")
    for _ in range(1600):
        log.take(b"x" * PIECE)
    log.take(b"y\nafter\n")
    log.take(b"z" * PIECE)
    log.take(b"z" * 1024)
    log.close()
    first, long, after, last = (tmp_path / "log").read_bytes().split(b"\n")
    assert (first, after) == (b"before", b"after")
    assert long == b"x" * LINE + b" [cockpit: 99.9 MiB of this line dropped]"
    assert last == b"z" * LINE + b" [cockpit: 1.0 KiB of this line dropped]"


def test_a_progress_bar_is_no_endless_line(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", 0)
    printed = b"".join(b"\r%5d/90000 [=====>     ]" % n for n in range(30_000))
    for at in range(0, len(printed), 5000):
        log.take(printed[at : at + 5000])
    log.close()
    assert (tmp_path / "log").read_bytes() == printed


# --- a disk that is full


class Disk:
    """Takes so many bytes, then says that it is full."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, file: int, text: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(file, text[: self.room])
        self.room -= written
        return written


def test_a_full_disk_loses_only_what_does_not_fit_in_memory_and_the_log_says_so(tmp_path: Path) -> None:
    disk = Disk(1000)
    log = log_of(tmp_path / "log", 0, disk.write)
    for _ in range(300):
        log.take(b"a line of ten\n" * 50)
    disk.room = 1 << 30  # somebody made room
    log.take(b"and on it goes\n")
    assert log.close() is None
    kept = (tmp_path / "log").read_bytes()
    found = re.search(rb"\ncockpit: ([\d,]+) lines dropped \([^)]*\): No space left on device\n", kept)
    assert found is not None
    assert kept.count(b"a line of ten\n") + int(found[1].replace(b",", b"")) == pytest.approx(15_000, abs=1)
    assert kept.endswith(b"a line of ten\nand on it goes\n")


def test_a_short_while_without_room_loses_nothing(tmp_path: Path) -> None:
    disk = Disk(1000)
    log = log_of(tmp_path / "log", 0, disk.write)
    log.take(b"x" * 999 + b"\n")
    log.take(b"kept in memory\n")
    disk.room = 1000
    log.take(b"and on\n")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"x" * 999 + b"\nkept in memory\nand on\n"


def test_a_disk_that_stays_full_is_said_in_words(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", 0, Disk(10).write)
    log.take(b"x" * 2058)
    assert log.close() == "2.0 KiB of its output could not be written: No space left on device"


# --- at whose cost: a clock that stands still until the test moves it


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def turns(outputs: Outputs, selector: selectors.BaseSelector) -> int:
    """Run the loop as the launcher does until nothing is ready; how many reads that were."""
    count = 0
    while events := selector.select(0):
        for key, mask in events:
            key.data(mask)
            count += 1
        outputs.wake()
    return count


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as found:
        yield found


def fill(end: int) -> None:
    """Print into a pipe until it is full."""
    os.set_blocking(end, False)
    with suppress(BlockingIOError):
        while True:
            os.write(end, b"y\n" * 512)


def reads_of_a_second(outputs: Outputs, selector: selectors.BaseSelector, clock: Clock, ends: list[int]) -> int:
    """How often full pipes are read in a second that passes a millisecond at a time."""
    reads = 0
    for _ in range(1000):
        for end in ends:
            fill(end)
        reads += turns(outputs, selector)
        clock.now += 0.001
        outputs.wake()
    return reads


@pytest.mark.parametrize(("shards", "most"), [(1, 1 / REST_S), (20, AT_ONCE / REST_S)])
def test_pipes_that_are_always_full_are_read_so_often_and_no_more(
    tmp_path: Path, selector: selectors.BaseSelector, shards: int, most: float
) -> None:
    clock = Clock()
    outputs = Outputs(selector, clock)
    begun = [outputs.begin(os.open(tmp_path / f"{n}.log", os.O_WRONLY | os.O_CREAT), 1000) for n in range(shards)]
    ends = [end for _, end in begun]
    first = reads_of_a_second(outputs, selector, clock, ends)
    assert most / 2 < first <= most + shards * (BURST + 1)
    later = reads_of_a_second(outputs, selector, clock, ends)  # nothing is left of the burst
    assert most / 2 < later <= most + shards
    fill(ends[0])
    turns(outputs, selector)
    assert 0 < outputs.wait_s() <= REST_S * shards
    for each, end in begun:
        os.close(end)
        outputs.finish(each)


def test_a_quiet_shard_beside_a_flood_is_read_at_once(tmp_path: Path, selector: selectors.BaseSelector) -> None:
    clock = Clock()
    outputs = Outputs(selector, clock)
    loud, loud_end = outputs.begin(os.open(tmp_path / "loud.log", os.O_WRONLY | os.O_CREAT), 1000)
    quiet, quiet_end = outputs.begin(os.open(tmp_path / "quiet.log", os.O_WRONLY | os.O_CREAT), 1000)
    for n in range(20):
        reads_of_a_second(outputs, selector, clock, [loud_end])
        os.write(quiet_end, b"step %d\n" % n)
        turns(outputs, selector)
        assert (tmp_path / "quiet.log").read_bytes().endswith(b"step %d\n" % n)
    for each, end in ((loud, loud_end), (quiet, quiet_end)):
        os.close(end)
        outputs.finish(each)


def test_whoever_holds_the_pipe_when_the_shard_is_gone_delays_nobody(
    tmp_path: Path, selector: selectors.BaseSelector
) -> None:
    outputs = Outputs(selector)
    held, end = outputs.begin(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT), 0)
    fill(end)
    assert outputs.finish(held) is None  # with `end` open
    assert len((tmp_path / "log").read_bytes()) >= 4096
    with pytest.raises(BrokenPipeError):
        os.write(end, b"nobody reads this")
    os.close(end)
    assert selector.get_map() is not None
    assert not selector.get_map()


# --- real shards


async def test_a_flood_leaves_a_bounded_log_with_the_closing_traceback(
    state: StateDir, executor: LocalExecutor
) -> None:
    code = """
import os
for _ in range(200):
    os.write(1, b"y\\n" * 25_000)
raise RuntimeError("the last thing it said")
"""
    asked = spec(state, code, log_bytes=100_000)
    await executor.launch(asked)
    assert (await end_of(executor)).code == 1
    kept = (Path(asked.run_dir) / "output.log").read_bytes()
    assert len(kept) < 100_000 + TAIL + 200
    assert kept.rstrip().endswith(b"RuntimeError: the last thing it said")
    found = re.search(rb"\ncockpit: (4\.\d) M lines dropped", kept)
    assert found is not None
    assert float(found[1]) == pytest.approx((5_000_000 - kept.count(b"y\n")) / 1e6, abs=0.06)


async def test_a_line_of_megabytes(state: StateDir, executor: LocalExecutor) -> None:
    code = "import os\nfor _ in range(32): os.write(1, b'x' * 1_000_000)\nos.write(2, b'\\nafter\\n')"
    asked = spec(state, code, log_bytes=1 << 20)
    await executor.launch(asked)
    assert (await end_of(executor)).code == 0
    kept = (Path(asked.run_dir) / "output.log").read_bytes()
    assert kept == b"x" * LINE + b" [cockpit: 30.5 MiB of this line dropped]\nafter\n"


async def test_output_is_in_the_log_as_it_comes(state: StateDir, executor: LocalExecutor) -> None:
    pipe, go = Pipe(state.root / "fifo"), state.root / "go"
    os.mkfifo(go)
    code = f"""
import os
os.write(1, b"first\\n")
os.write(os.open({str(pipe.path)!r}, os.O_WRONLY), b"said\\n")
open({str(go)!r}).read()
"""
    asked = spec(state, code)
    await executor.launch(asked)
    await pipe.hear()
    await asyncio.to_thread(wait_for, lambda: output(asked) == "first\n")  # while it runs
    go.write_text("")
    assert (await end_of(executor)).code == 0


async def test_a_shard_that_closes_its_output_goes_on(state: StateDir, executor: LocalExecutor) -> None:
    code = (
        "import os, pathlib; print('said', flush=True); os.close(1); os.close(2); pathlib.Path({!r}).write_text('on')"
    )
    asked = spec(state, code.format(str(state.root / "file")))
    await executor.launch(asked)
    assert (await end_of(executor)).code == 0
    assert (output(asked), (state.root / "file").read_text()) == ("said\n", "on")


async def test_a_log_that_the_shard_replaces_is_not_written_through(state: StateDir, executor: LocalExecutor) -> None:
    (state.root / "precious").write_text("mine\n")
    code = f"""
import os
print("first", flush=True)
log = os.environ["COCKPIT_RUN_DIR"] + "/output.log"
os.unlink(log)
os.symlink({str(state.root / "precious")!r}, log)
print("second", flush=True)
"""
    await executor.launch(spec(state, code))
    assert (await end_of(executor)).code == 0
    assert (state.root / "precious").read_text() == "mine\n"


async def test_a_grandchild_that_goes_on_printing_holds_nothing_up(state: StateDir, executor: LocalExecutor) -> None:
    code = """
import os
if os.fork() == 0:
    os.setsid()
    while True:
        os.write(1, b"and on\\n")
os.write(1, b"leader\\n")
"""
    asked = spec(state, code, log_bytes=1000)
    await executor.launch(asked)
    assert (await end_of(executor)).code == 0
    assert "leader\n" in output(asked)
