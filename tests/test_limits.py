"""A shard that takes too much is ended, with a sentence that says what; its siblings never notice."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cockpit.attach import state_dir
from engine.paths import StateDir
from engine.shards import census, process
from engine.shards.census import Census, Process
from engine.shards.executor import Handle
from engine.shards.footprint import DEPTH, Footprint
from engine.shards.limits import Breach, Watch, largest
from engine.shards.local import LocalExecutor
from engine.shards.outcome import Facts, classify
from engine.shards.output import TAIL
from engine.shards.room import GIB, Disk, Memory, disk_of, memory_here, shortage
from engine.shards.spec import ExitRecord
from engine.sizes import size_of, sized
from engine.types import Outcome
from tests import test_launcher as launching
from tests import test_sandbox as boxing
from tests.test_launcher import LIMIT_S, LINUX, Pipe, end_of, spec
from tests.test_sandbox import Place
from tests.test_warm import script, warmed, was_warm
from tests.tinylab import TinyLab, decide, proposal, rows, wait_for, waiting

state = launching.state
executor = launching.executor
place = boxing.place
pytestmark = LINUX
MIB = 1 << 20


@pytest.fixture(params=[3, 2, 1], ids=["box3", "box2", "limits"])
def level(request: pytest.FixtureRequest) -> int:
    """Each way of running a shard; skipped by name where this machine cannot."""
    reason = boxing.why_not(request.param) if request.param > 1 else None
    if reason is not None:
        pytest.skip(f"no box {request.param} here: {reason}")
    return int(request.param)


SIBLING = """
import os
os.write(os.open({fifo!r}, os.O_WRONLY), b"up\\n")
open({go!r}).read()
print("undisturbed")
"""


class Sibling:
    """A shard beside the one that is ended; it ends well when told to, and only then."""

    def __init__(self, place: Place, level: int) -> None:
        self.pipe, self.go = Pipe(place.talk / "sibling"), place.talk / "go"
        os.mkfifo(self.go)
        code = SIBLING.format(fifo=str(self.pipe.path), go=str(self.go))
        self.spec = place.spec(code, level, id="sibling", memory=1 << 40, disk=1 << 40, processes=100)

    async def begin(self, executor: LocalExecutor) -> None:
        await executor.launch(self.spec)
        await self.pipe.hear()

    async def ends_well(self, executor: LocalExecutor) -> None:
        self.go.write_text("")
        record = await end_of(executor)
        assert (record.id, record.how, record.code) == ("sibling", "exited", 0)
        assert launching.output(self.spec) == "undisturbed\n"


async def ended(place: Place, executor: LocalExecutor, level: int, code: str, **limits: int) -> ExitRecord:
    """How a shard ends that runs `code` beside a sibling, which ends well."""
    sibling = Sibling(place, level)
    await sibling.begin(executor)
    await executor.launch(place.spec(code, level, **limits))
    record = await end_of(executor)
    assert record.id != "sibling"
    await sibling.ends_well(executor)
    return record


def leader_of(handle: Handle) -> int:
    return int(handle.where.removeprefix("pid "))


# --- real shards

ALLOCATES = """
import signal
held = []
for _ in range(64):
    held.append(bytearray(b"x" * (16 << 20)))
    {then}
signal.pause()
"""
FORKED = """
import os, signal
held = []
for _ in range(20):
    if os.fork() == 0:
        held.append(b"x" * (32 << 20))
        signal.pause()
signal.pause()
"""


@pytest.mark.parametrize("code", [ALLOCATES.format(then="pass"), FORKED], ids=["one process", "twenty processes"])
async def test_a_shard_that_holds_too_much_memory_is_ended_as_out_of_memory(
    place: Place, executor: LocalExecutor, level: int, code: str
) -> None:
    record = await ended(place, executor, level, code, memory=256 * MIB)
    assert (record.how, record.signal) == ("memory", signal.SIGKILL)
    outcome, why = classify(record, "", Facts())
    assert outcome is Outcome.OOM
    assert why.startswith("ended because it held ")
    assert why.endswith(" MiB of memory, 256.0 MiB are allowed")
    held = float(why.split()[4])
    assert held > 256


async def test_memory_that_forks_share_is_counted_once(state: StateDir, executor: LocalExecutor) -> None:
    pipe, go = Pipe(state.root / "fifo"), state.root / "go"
    os.mkfifo(go)
    code = f"""
import gc, os, signal
held = b"x" * (64 << 20)
gc.freeze()
fifo = os.open({str(pipe.path)!r}, os.O_WRONLY)
for _ in range(8):
    if os.fork() == 0:
        signal.pause()
os.write(fifo, b"forked\\n")
open({str(go)!r}).read()
"""
    asked = spec(state, code, memory=256 * MIB)
    leader = leader_of(await executor.launch(asked))
    await pipe.hear()
    watch = Watch()
    assert watch.look([(asked, leader)]) == []
    assert len(watch.processes_of(asked.id)) == 9
    assert sum(map(census.memory_of, watch.processes_of(asked.id))) > 512 * MIB  # each by itself
    assert 64 * MIB < sum(map(census.fair_memory_of, watch.processes_of(asked.id))) < 256 * MIB
    go.write_text("")
    assert (await end_of(executor)).how == "exited"


FILLS = {
    "a large file": """
import os, signal
with open(os.environ["COCKPIT_RUN_DIR"] + "/big", "wb") as file:
    for _ in range(64):
        file.write(b"x" * (1 << 20))
signal.pause()
""",
    "a file without a name": """
import os, signal
with open(os.environ["COCKPIT_RUN_DIR"] + "/tmp/gone", "wb") as file:
    os.unlink(file.name)
    for _ in range(64):
        file.write(b"x" * (1 << 20))
    signal.pause()
""",
    "many small files": """
import os, signal
for n in range(40_000):
    if n % 100 == 0:
        os.makedirs(f"{os.environ['COCKPIT_RUN_DIR']}/{n // 10_000}/{n // 100}")
    with open(f"{os.environ['COCKPIT_RUN_DIR']}/{n // 10_000}/{n // 100}/{n}", "wb") as file:
        file.write(b"x")
signal.pause()
""",
}


@pytest.mark.parametrize("code", FILLS.values(), ids=FILLS.keys())
async def test_a_shard_that_fills_the_disk_is_ended_as_crashed(
    place: Place, executor: LocalExecutor, level: int, code: str
) -> None:
    record = await ended(place, executor, level, code, disk=8 * MIB)
    assert record.how == "disk", record
    outcome, why = classify(record, "", Facts())
    assert outcome is Outcome.CRASHED
    assert why.startswith("ended because it wrote ")
    assert why.endswith(" MiB into its run directory, 8.0 MiB are allowed")


# Each bomb stops by itself at some hundreds, should nobody end it: then it waits, and the test fails by its time limit.
BOMBS = {
    "plain": """
import os, signal
for _ in range(300):
    if os.fork() == 0:
        break
signal.pause()
""",
    "sessions": """
import os, signal
for _ in range(300):
    if os.fork() == 0:
        os.setsid()
        signal.pause()
signal.pause()
""",
    "daemons that come again": """
import os, signal
for _ in range(300):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        if os.fork() > 0:
            os.wait()
            os.fork()  # whoever kills its child gets another
        signal.pause()
    os.waitpid(pid, 0)
signal.pause()
""",
}


@pytest.mark.parametrize("code", BOMBS.values(), ids=BOMBS.keys())
async def test_a_fork_bomb_is_ended_to_the_last_process(
    place: Place, executor: LocalExecutor, level: int, code: str
) -> None:
    pipe = Pipe(place.talk / "bomb")  # every one of them holds it
    record = await ended(place, executor, level, f"bomb = open({str(pipe.path)!r}, 'w')\n{code}", processes=60)
    assert record.how == "processes", record
    outcome, why = classify(record, "", Facts())
    assert outcome is Outcome.CRASHED
    assert why.startswith("ended because it had ")
    assert why.endswith(" processes, 60 are allowed")
    await pipe.closed()


def test_one_that_forks_while_it_is_looked_for_leaves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It forks between the launcher's look and the launcher's signal, which no bomb can be made to do on command."""
    code = """
import os, signal
print("up", flush=True)
os.read(0, 1)
if os.fork() == 0:
    os.setsid()
    print("forked", flush=True)
signal.pause()
"""
    pipe = subprocess.PIPE
    env = {process.MARKER: "/runs/a/exit.json", "PATH": os.defpath}
    with (
        subprocess.Popen(["sleep", "60"], start_new_session=True) as leader,
        subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, env=env, start_new_session=True) as it,
    ):
        assert it.stdin is not None
        assert it.stdout is not None
        assert it.stdout.readline() == b"up\n"
        look, looks = process.processes, []

        def look_then_fork() -> list[int]:
            looks.append(list(look()))
            if len(looks) == 1:
                os.write(it.stdin.fileno(), b"g")
                assert it.stdout.readline() == b"forked\n"
            return looks[-1]

        monkeypatch.setattr(process, "processes", look_then_fork)
        process.kill_rest(leader.pid, "/runs/a/exit.json")
        monkeypatch.undo()
        try:
            assert select.select([it.stdout], [], [], LIMIT_S)[0]  # nobody holds it any more
        finally:
            process.kill_rest(leader.pid, "/runs/a/exit.json")
        assert it.stdout.read() == b""
    assert (leader.returncode, it.returncode) == (-signal.SIGKILL, -signal.SIGKILL)


async def test_a_warm_shard_is_limited_as_a_cold_one(state: StateDir, executor: LocalExecutor) -> None:
    tree = state.trees / "t"
    tree.mkdir()
    code = "import os\nos.write(1, b'y\\n' * 200_000)\nheld = b'x' * (300 << 20)\nimport signal\nsignal.pause()\n"
    asked = script(state, tree, code, "hungry", memory=256 * MIB, log_bytes=1000)
    await warmed(state, executor, asked)
    handle = await executor.launch(asked)
    record = await end_of(executor)
    assert was_warm(state, asked.id)
    assert (record.how, f"pid {record.pid}") == ("memory", handle.where)
    assert len(launching.output(asked)) < 1000 + TAIL + 200
    assert "lines dropped" in launching.output(asked)


async def test_threads_without_end_are_ended_too(place: Place, executor: LocalExecutor, level: int) -> None:
    code = """
import signal, threading
wait = threading.Event()
for _ in range(150):
    threading.Thread(target=wait.wait, daemon=True).start()
signal.pause()
"""
    record = await ended(place, executor, level, code, processes=10)
    assert (record.how, str(record.error).split(", ")[1]) == ("processes", "80 are allowed")


async def test_one_that_hides_after_it_was_seen_is_found_again(state: StateDir, executor: LocalExecutor) -> None:
    """It leaves the session, loses its parent and has no marker: what is left is that it was seen before."""
    pipe, go = Pipe(state.root / "fifo"), state.root / "go"
    os.mkfifo(go)
    code = f"""
import os, signal, sys
fifo = os.open({str(pipe.path)!r}, os.O_WRONLY)
os.set_inheritable(fifo, True)
if os.fork() == 0:
    if os.fork() == 0:
        hidden = "import os, signal; os.setsid(); os.write(%d, b'hidden\\\\n'); signal.pause()" % fifo
        os.execve(sys.executable, [sys.executable, "-c", hidden], {{}})
    open({str(go)!r}).read()
    os._exit(0)
os.wait()
os.write(fifo, b"orphaned\\n")
signal.pause()
"""
    asked = spec(state, code, processes=100)
    await executor.launch(asked)
    await pipe.hear()
    beside = spec(state, BOMBS["plain"], id="beside", processes=2)
    await executor.launch(beside)  # when it is ended, the launcher has looked
    assert (await end_of(executor)).id == "beside"
    go.write_text("")
    await pipe.hear(2)
    await executor.kill(asked.id)
    await end_of(executor)
    await pipe.closed()


def offered(pid: int) -> int:
    """How early the kernel ends a process when memory runs out."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


async def test_shards_are_the_first_that_the_kernel_takes(place: Place, executor: LocalExecutor, level: int) -> None:
    pipe = Pipe(place.talk / "fifo")
    code = f"import os, signal; os.write(os.open({str(pipe.path)!r}, 1), b'up\\n'); signal.pause()"
    asked = place.spec(code, level)
    leader = leader_of(await executor.launch(asked))
    await pipe.hear()
    watch = Watch()
    watch.look([(replace(asked, processes=1000), leader)])
    found = watch.processes_of(asked.id)
    assert found
    assert {offered(pid) for pid in found} == {1000}
    assert offered(os.getpid()) < 1000
    await executor.kill(asked.id)
    await end_of(executor)


# --- a run directory's size, without a shard


def size(path: Path, allowed: int = 1 << 40) -> Footprint:
    found = Footprint(str(path), allowed)
    while not found.done:
        found.step(7)
    return found


def test_what_is_really_taken_is_counted_once_and_no_link_is_followed(tmp_path: Path) -> None:
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    (run / "a" / "b").mkdir(parents=True)
    (outside / "large").write_bytes(b"x" * (8 << 20))
    (run / "a" / "b" / "file").write_bytes(b"x" * (1 << 20))
    os.link(run / "a" / "b" / "file", run / "same")
    (run / "link").symlink_to(outside)
    (run / "round").symlink_to(run)
    with open(run / "hole", "wb") as file:
        file.truncate(1 << 40)
    os.mkfifo(run / "fifo")
    found = size(run)
    assert found.excess == ""
    assert found.files == 8
    assert 1 << 20 <= found.bytes < 2 << 20


def test_a_walk_stops_and_goes_on_wherever_it_is(tmp_path: Path) -> None:
    for n in range(50):
        (tmp_path / f"d{n % 5}").mkdir(exist_ok=True)
        (tmp_path / f"d{n % 5}" / str(n)).write_bytes(b"x")
    walk = Footprint(str(tmp_path), 1 << 40)
    steps = 0
    while not walk.done:
        assert walk.step(3) <= 3
        steps += 1
    assert (walk.files, steps) == (55, 19)


def test_too_many_files_are_too_much_however_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.shards.footprint.FILES", 100)
    for n in range(150):
        (tmp_path / str(n)).touch()
    assert size(tmp_path).excess == "made more than 100 files in its run directory"


def test_a_directory_without_bottom_or_without_a_door_is_too_much(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    at = os.open(deep, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d" * 200, dir_fd=at)  # a path of more than any system call takes
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    assert size(deep).excess == f"nested more than {DEPTH} directories in its run directory"
    assert size(tmp_path / "none").excess == ""  # it removed its own
    if os.getuid() != 0:
        (tmp_path / "shut").mkdir()
        (tmp_path / "shut" / "inner").mkdir(mode=0)
        assert size(tmp_path / "shut").excess == "made a directory that cannot be looked into: 'inner'"


# --- whose process it is


def test_a_process_belongs_by_tree_session_or_marker_and_stays() -> None:
    def table(**parents: int) -> dict[int, Process]:
        return {int(pid[1:]): Process(parent, 1, 1, 5) for pid, parent in parents.items()}

    marked = {30: "/runs/b/exit.json"}
    found = Census(marked.get)
    leaders, launches = {10: "a", 20: "b"}, {"/runs/a/exit.json": "a", "/runs/b/exit.json": "b"}
    seen = table(p1=0, p10=7, p11=10, p12=11, p20=7, p30=1, p31=30, p40=1)
    seen[50] = Process(1, 20, 1, 5)
    found.sort(seen, leaders, launches)
    assert found.of("a") == {10: 5, 11: 5, 12: 5}
    assert found.of("b") == {20: 5, 30: 5, 31: 5, 50: 5}
    marked.clear()
    seen = table(p1=0, p12=1, p31=1, p40=1, p41=12)
    seen[30] = Process(1, 1, 1, 99)  # the number went to another process
    found.sort(seen, {}, {})
    assert found.of("a") == {12: 5, 41: 5}
    assert found.of("b") == {31: 5}


# --- the machine's own room


def test_when_memory_runs_out_the_largest_shard_goes_and_only_one_at_a_time() -> None:
    machine = Memory(total=64 * GIB, free=3 * GIB)
    held = {"small": GIB, "large": 40 * GIB}
    (breach,) = largest(machine, held, set())
    assert (breach.shard, breach.how) == ("large", "memory")
    assert breach.why == (
        "held 40.0 GiB of memory, the most of all shards, when the machine had 3.0 GiB left; 3.2 GiB are kept free"
    )
    assert largest(machine, held, {"large"}) == []
    assert largest(Memory(64 * GIB, 4 * GIB), held, set()) == []
    assert largest(machine, {"small": GIB // 4}, set()) == []  # somebody else takes it
    assert largest(Memory(), held, set()) == []


@pytest.mark.parametrize(
    ("memory", "disk", "says"),
    [
        (Memory(64 * GIB, 32 * GIB), Disk(1000 * GIB, 100 * GIB, 10**6, 10**5), None),
        (Memory(), Disk(), None),  # nothing is known
        (Memory(), Disk(1000 * GIB, 15 * GIB), "/state has 15.0 GiB left, 16.0 GiB are kept free; delete"),
        (Memory(), Disk(100 * GIB, 1 * GIB), "/state has 1.0 GiB left, 2.0 GiB are kept free; delete"),
        (Memory(), Disk(4 * GIB, GIB // 2), None),  # a small disk is not kept empty
        (Memory(), Disk(4 * GIB, GIB // 4), "/state has 256.0 MiB left, 409.6 MiB are kept free; delete"),
        (Memory(), Disk(1000 * GIB, 500 * GIB, 10**7, 9_999), "room for 9,999 more files, 10,000 are kept; delete"),
        (Memory(64 * GIB, 6 * GIB), Disk(), "6.0 GiB of memory are left, 6.4 GiB are kept free; end other programs"),
    ],
)
def test_no_shard_is_started_into_a_full_machine(memory: Memory, disk: Disk, says: str | None) -> None:
    found = shortage(memory, disk, Path("/state"))
    if says is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith("no shard is started: ")
        assert says in found


def test_this_machine_has_figures(tmp_path: Path) -> None:
    memory, disk = memory_here(), disk_of(tmp_path)
    assert 0 < memory.free <= memory.total
    assert 0 < disk.free <= disk.total


# --- sizes


@pytest.mark.parametrize(
    ("text", "count"),
    [("8 GiB", 8 << 30), ("1.5gib", 3 << 29), ("20GB", 20 * 10**9), ("512 B", 512), (" 64 MiB ", 64 << 20)],
)
def test_sizes_as_people_write_them(text: str, count: int) -> None:
    assert size_of(text) == count


@pytest.mark.parametrize("text", ["", "8", "GiB", "8 G", "-1 GiB", "1e3 GiB", "8 GiB or so", "9" * 400 + " B"])
def test_what_is_no_size(text: str) -> None:
    assert size_of(text) is None


def test_sizes_as_the_cockpit_shows_them() -> None:
    shown = [sized(each) for each in (812, 64 << 20, int(9.1 * GIB), 3 << 40)]
    assert shown == ["812 bytes", "64.0 MiB", "9.1 GiB", "3.0 TiB"]


# --- no cost without limits


def test_without_limits_nothing_is_looked_at(state: StateDir) -> None:
    watch = Watch(machine=lambda: pytest.fail("looked"))
    shards = [(spec(state, ""), os.getpid())]
    assert watch.wait_s(shards) == float("inf")
    assert watch.look(shards) == []
    limited = [(spec(state, "", processes=1), os.getpid())]
    assert watch.wait_s(limited) <= 0


def test_a_breach_is_said_once(state: StateDir) -> None:
    clock = [0.0]
    watch = Watch(clock=lambda: clock[0])
    Path(state.runs / "a").mkdir()
    (state.runs / "a" / "file").write_bytes(b"x" * 5000)
    asked = [(spec(state, "", id="a", disk=1000), os.getpid())]
    found = []
    for second in range(10):
        clock[0] = float(second)
        found += watch.look(asked)
    assert [(each.shard, each.how) for each in found] == [("a", "disk")]
    assert isinstance(found[0], Breach)


# --- the engine


HUNGRY = proposal(
    "More is more",
    "    loss = bottom",
    "    loss = bottom\n    held = bytearray(b'x' * (400 << 20))\n    time.sleep(300)",
)


def test_an_experiment_that_takes_too_much_is_broken_and_its_row_says_why(tiny: Callable[..., TinyLab]) -> None:
    lab = tiny(HUNGRY, queue=1)
    with open(lab.root / "cockpit.toml", "a") as file:
        file.write('\n[limits]\nmemory = "200 MB"\n')
    lab.git("commit", "-qam", "Limit memory")
    with lab.session() as session:
        (row,) = wait_for(lambda: waiting(session))
        decide(session, row)
        judged = wait_for(lambda: (found := rows(session, "experiment").get("0001")) and found["verdict"] and found)
        assert judged["verdict"]["verdict"] == "broken"
        shards = [each for each in rows(session, "shard").values() if each["experiment"] == "0001"]
        assert "oom" in {each["outcome"] for each in shards}
        detail = next(each["detail"] for each in shards if each["outcome"] == "oom")
        assert detail.startswith("ended because it held ")
        assert detail.endswith(" of memory, 190.7 MiB are allowed")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 400 MB; skipped where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", str(place)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_nothing_is_started_on_a_full_disk_and_it_goes_on_once_there_is_room(
    small_disk: Path, tiny: Callable[..., TinyLab]
) -> None:
    lab = tiny(queue=0)
    with open(lab.root / "cockpit.toml", "a") as file:
        file.write(f'\n[store]\nstate_dir = "{small_disk}/state"\n')
    lab.git("commit", "-qam", "Keep the state on a small disk")
    lab.state = state_dir(lab.root)
    filler = small_disk / "somebody's films"
    filler.write_bytes(b"x" * (380 << 20))
    with lab.session() as session:
        phase = wait_for(lambda: (said := session.call("status")["phase"]).startswith("no shard") and said)
        assert " MiB left, 40.0 MiB are kept free; delete what can be spared there" in phase
        assert str(lab.state.root) in phase
        assert rows(session, "shard") == {}
        filler.unlink()
        wait_for(lambda: [each["outcome"] for each in rows(session, "shard").values()] == ["finished"] * 3)
