"""What a shard writes is read as it appears: whole lines at once, torn ones later, rubbish counted, nothing fatal."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.watch import parse, tail
from engine.watch.parse import Parsed, Parser, Point, make_parser
from engine.watch.tail import Batch, Tailer

PATTERN = r"step (?P<step>\S+) loss (?P<loss>\S+)|final (?P<val_bpb>\S+)"
AUTORESEARCH = (
    b"Vocab size: 8,192\n"
    b"\rstep 00000 (0.0%) | loss: 9.011 | lrm: 1.00 | dt: 300ms | tok/sec: 123,456 | mfu: 12.3% | epoch: 1 | remaining: 300s  "
    b"\rstep 00010 (3.2%) | loss: nan | lrm: 1.00 | dt: 301ms | tok/sec: 120,000 | mfu: 12.1% | epoch: 1 | remaining: 290s  "
    b"\n\n---\nval_bpb:          0.997900\ntraining_seconds: 300.1\npeak_vram_mb:     45060.2\nnum_steps:        953\n"
)


def read(data: bytes, source: str = "jsonl", pattern: str | None = None) -> Parsed:
    return total(make_parser(source, pattern), [data])  # type: ignore[arg-type]


def total(parser: Parser, pieces: Iterable[bytes]) -> Parsed:
    whole = Parsed()
    for each in [*(parser.feed(piece) for piece in pieces), parser.finish()]:
        whole.points += each.points
        whole.summary |= each.summary
        whole.garbage += each.garbage
        whole.ignored += each.ignored
        whole.consumed += each.consumed
    return whole


# --- JSON lines


def test_a_line_is_a_point_and_summaries_merge() -> None:
    found = read(
        b'{"summary": {"steps": 300, "device": "cpu"}}\n'
        b'{"step": 10, "t": 12.5, "loss": 2.31, "tokens_per_s": 51000}\n'
        b'{"step": 11, "loss": 2, "summary": {"steps": 301}}\n'
    )
    assert found.points == [Point(10, 12.5, {"loss": 2.31, "tokens_per_s": 51000.0}), Point(11, None, {"loss": 2.0})]
    assert found.summary == {"steps": 301.0, "device": "cpu"}
    assert (found.garbage, found.ignored) == (0, 0)


def test_a_diverged_run_does_not_vanish() -> None:
    found = read((json.dumps({"step": 3, "loss": math.nan, "norm": math.inf, "lr": -math.inf}) + "\n").encode())
    values = found.points[0].values
    assert math.isnan(values["loss"])
    assert (values["norm"], values["lr"]) == (math.inf, -math.inf)
    assert found.garbage == 0


@pytest.mark.parametrize(
    "line",
    [
        b"Epoch 1 done",
        b'{"step": 1, "loss": 2.0',
        b"[1, 2]",
        b'{"loss": 2.0}',
        b'{"step": -1, "loss": 2.0}',
        b'{"step": 1.0, "loss": 2.0}',
        b'{"step": true, "loss": 2.0}',
        b'{"step": "1", "loss": 2.0}',
        b'{"step": 99999999999999999999, "loss": 2.0}',
        b'{"step": 1, "loss": 2.0, "loss": 1.0}',
        b'{"step": 1, "lo\\u001bss": 2.0}',
        b'{"step": 1, "\\u202eloss": 2.0}',
        b'{"step": 1, "\\ud800": 2.0}',
        b'{"step": 1, "loss": 2.0}\xff',
        b'{"summary": 3}',
        b'{"summary": {"\\u0000": 3}}',
        b'{"a":' * 20_000,
        b"1" * 5_000,
        b" " * parse.LINE + b'{"step": 1}',
    ],
)
def test_garbage_is_one_counted_line_and_the_next_one_is_read(line: bytes) -> None:
    found = read(line + b'\n{"step": 2, "loss": 1.5}\n')
    assert found.garbage == 1
    assert found.points == [Point(2, None, {"loss": 1.5})]


def test_what_is_no_number_is_left_out_and_counted() -> None:
    found = read(b'{"step": 1, "ok": true, "phase": "warm", "nested": {"a": 1}, "none": null, "loss": 2}\n')
    assert found.points == [Point(1, None, {"loss": 2.0})]
    assert (found.garbage, found.ignored) == (0, 4)


def test_an_integer_beyond_all_floats_is_left_out() -> None:
    found = read(b'{"step": 1, "huge": 1' + b"0" * 400 + b', "loss": 2}\n')
    assert found.points[0].values.get("loss") == 2.0
    assert found.points[0].values.get("huge") in (None, math.inf)


def test_a_run_with_too_many_names_keeps_the_first_ones() -> None:
    wide = {"step": 1} | {f"n{n}": n for n in range(parse.KEYS + 10)}
    found = read((json.dumps(wide) + "\n").encode())
    assert (len(found.points[0].values), found.ignored, found.garbage) == (parse.KEYS, 10, 0)
    many = b"".join(json.dumps({"step": n, f"n{n}": 1.0}).encode() + b"\n" for n in range(parse.NAMES + 5))
    found = read(many)
    assert (len({name for point in found.points for name in point.values}), found.ignored) == (parse.NAMES, 5)
    assert read(json.dumps({"step": 1, "x" * 201: 1.0}).encode() + b"\n").ignored == 1


def test_a_torn_line_waits_and_counts_for_nothing_until_it_is_whole() -> None:
    parser = make_parser("jsonl")
    first = parser.feed(b'{"step": 1, "loss": 3}\n{"step": 2, "lo')
    assert ([point.step for point in first.points], first.consumed) == ([1], 23)
    assert parser.feed(b"").consumed == 0
    second = parser.feed(b'ss": 2}\n')
    assert second.points == [Point(2, None, {"loss": 2.0})]
    assert second.consumed == 23


def test_the_end_of_an_endless_line_is_not_taken_for_a_line() -> None:
    parser = make_parser("jsonl")
    assert parser.feed(b" " * (parse.LINE + 1)).consumed == 0
    found = parser.feed(b'{"step": 1, "loss": 0.1}\n{"step": 2}\n')
    assert ([point.step for point in found.points], found.garbage) == ([2], 1)


# --- logs


def test_named_groups_over_a_log() -> None:
    found = read(
        b"\x1b[32mstep 00010 loss 2.5\x1b[0m\rstep 1,020 loss nan\nhello\nstep x loss 1\nfinal 0.99", "regex", PATTERN
    )
    assert [point.step for point in found.points] == [10, 1020]
    assert found.points[0].values == {"loss": 2.5}
    assert math.isnan(found.points[1].values["loss"])
    assert found.summary == {"val_bpb": 0.99}
    assert found.garbage == 1


def test_a_pattern_that_is_none_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        make_parser("regex", "(")
    with pytest.raises(ValueError, match=r"names no group: write \(\?P<step>"):
        make_parser("regex", "loss")
    with pytest.raises(ValueError, match="need a pattern"):
        make_parser("regex")


def test_an_autoresearch_log() -> None:
    found = read(AUTORESEARCH, "summary")
    assert [point.step for point in found.points] == [0, 10]
    assert found.points[0].values == {
        "progress": 0.0,
        "loss": 9.011,
        "lrm": 1.0,
        "dt_ms": 300.0,
        "tokens_per_s": 123456.0,
        "mfu": 12.3,
        "epoch": 1.0,
        "remaining_s": 300.0,
    }
    assert math.isnan(found.points[1].values["loss"])
    assert found.summary == {
        "val_bpb": 0.9979,
        "training_seconds": 300.1,
        "peak_vram_mb": 45060.2,
        "num_steps": 953.0,
        "steps": 953.0,
    }
    assert found.garbage == 0


# --- any bytes, in any pieces

LINES = st.sampled_from(
    [
        b'{"step": 1, "loss": 2.5}\n',
        b'{"step": 2, "loss": NaN, "x": {"y": 1}}\n',
        b'{"summary": {"a": 1, "b": "c"}}\r\n',
        b'{"step": 3, "a": 1, "a": 2}\n',
        b"step 7 loss 1.5\r",
        b"final 0.5\n",
        b"step 00010 (3.2%) | loss: 5.123 | dt: 300ms | tok/sec: 123,456\r",
        b"val_bpb:   0.9\n",
        b"\xff\xfe\x00\n",
        b"y" * (parse.LINE + 3),
        b"z" * parse.LINE,
        b"\n",
        b" \r\n",
    ]
)
DATA = st.lists(LINES | st.binary(max_size=30), max_size=8).map(b"".join)


@settings(max_examples=120, deadline=None)
@given(DATA, st.lists(st.integers(0, 70_000), max_size=12), st.sampled_from(["jsonl", "regex", "summary"]))
def test_how_the_bytes_are_cut_makes_no_difference(data: bytes, cuts: list[int], source: str) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    assert b"".join(pieces) == data
    whole = read(data, source, PATTERN)
    cut = total(make_parser(source, PATTERN), pieces)  # type: ignore[arg-type]
    assert repr(cut) == repr(whole)  # by repr, since NaN differs from itself
    assert whole.consumed == len(data)


@settings(max_examples=60, deadline=None)
@given(DATA, st.integers(0, 70_000))
def test_reading_on_at_the_offset_loses_and_doubles_nothing(data: bytes, cut: int) -> None:
    first = make_parser("jsonl").feed(data[:cut])
    rest = read(data[first.consumed :])
    whole = read(data)
    assert repr(first.points + rest.points) == repr(whole.points)
    assert first.garbage + rest.garbage == whole.garbage


# --- tailing


@asynccontextmanager
async def tailing(tailer: Tailer) -> AsyncIterator[AsyncIterator[Batch]]:
    """The batches of `tailer`, with a limit on how long the whole takes."""
    async with asyncio.timeout(20), aclosing(tailer.batches()) as batches:  # type: ignore[type-var]
        try:
            yield batches
        finally:
            await tailer.close()


def line(step: int) -> bytes:
    return json.dumps({"step": step, "loss": 1.0}).encode() + b"\n"


def append(path: Path, data: bytes) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(data)


async def until(batches: AsyncIterator[Batch], steps: int) -> list[Batch]:
    """Batches until `steps` points came."""
    found: list[Batch] = []
    async for batch in batches:
        found.append(batch)
        if sum(len(each.points) for each in found) >= steps:
            return found
    raise AssertionError("the tailer ended early")


async def test_lines_arrive_as_they_are_written_and_a_torn_one_when_it_is_whole(tmp_path: Path) -> None:
    tailer, path = Tailer(tmp_path), tmp_path / "metrics.jsonl"
    tailer.add("s0", path, make_parser("jsonl"))
    async with tailing(tailer) as batches:
        append(path, line(1) + line(2)[:10])
        first = await until(batches, 1)
        assert first[-1].offset == len(line(1))
        append(path, line(2)[10:])
        second = await until(batches, 1)
        assert [point.step for point in second[-1].points] == [2]
        assert (second[-1].start, second[-1].offset) == (len(line(1)), path.stat().st_size)


async def test_polling_alone_sees_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_inotify(*_: object, **__: object) -> None:
        raise OSError("no space left on device (inotify watches)")

    monkeypatch.setattr(tail.watchfiles, "watch", no_inotify)
    tailer, path = Tailer(tmp_path, poll_s=0.02), tmp_path / "metrics.jsonl"
    tailer.add("s0", path, make_parser("jsonl"))
    async with tailing(tailer) as batches:
        for step in range(3):
            append(path, line(step))
            await until(batches, 1)


async def test_watching_wakes_it_where_polling_would_take_for_ever(tmp_path: Path) -> None:
    tailer, path = Tailer(tmp_path, poll_s=3600.0), tmp_path / "metrics.jsonl"
    tailer.add("s0", path, make_parser("jsonl"))
    stop = asyncio.Event()

    async def write() -> None:
        step = 0
        while not stop.is_set():  # the watch takes a moment to be in place
            append(path, line(step))
            step += 1
            await asyncio.sleep(0.05)

    async with tailing(tailer) as batches:
        writer = asyncio.create_task(write())
        await until(batches, 2)
        stop.set()
        await writer


async def test_a_restart_goes_on_at_the_offset(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, line(1) + line(2))
    tailer = Tailer(tmp_path)
    tailer.add("s0", path, make_parser("jsonl"), offset=len(line(1)))
    async with tailing(tailer) as batches:
        found = await until(batches, 1)
    assert [point.step for batch in found for point in batch.points] == [2]


async def test_a_loud_shard_does_not_silence_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "CHUNK", 1000)
    tailer = Tailer(tmp_path)
    for shard, count in (("loud", 2000), ("quiet", 1)):
        append(tmp_path / shard, b"".join(line(step) for step in range(count)))
        tailer.add(shard, tmp_path / shard, make_parser("jsonl"))
    async with tailing(tailer) as batches:
        order = [batch.shard for batch in await until(batches, 2001)]
    assert order.index("quiet") < 3
    assert len(order) > 50


async def test_one_look_finds_what_many_files_hold_and_stops_where_that_is_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"s{n:02}" for n in range(2 * tail.WATCHED)]  # too many to be watched
    tailer = Tailer(tmp_path, poll_s=0.02)
    for name in names:
        append(tmp_path / name, line(1))
        tailer.add(name, tmp_path / name, make_parser("jsonl"))
    async with asyncio.timeout(20), aclosing(tailer.rounds()) as rounds:  # type: ignore[type-var]
        assert [batch.shard for batch in await anext(rounds)] == names
        append(tmp_path / names[7], line(2))
        assert [batch.shard for batch in await anext(rounds)] == [names[7]]
        monkeypatch.setattr(tail, "ROUND", 3 * len(line(1)))
        for name in names:
            append(tmp_path / name, line(3))
        sizes, seen = [], []
        while len(seen) < len(names):
            found = await anext(rounds)
            sizes.append(len(found))
            seen += [batch.shard for batch in found]
        assert max(sizes) <= 3
        assert sorted(seen) == names
        await tailer.close()


async def test_a_shard_that_leaves_need_not_wait_for_a_loud_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "CHUNK", 100)
    tailer = Tailer(tmp_path)
    for shard, count in (("loud", 50_000), ("quiet", 1)):
        append(tmp_path / shard, b"".join(line(step) for step in range(count)))
        tailer.add(shard, tmp_path / shard, make_parser("jsonl"))
    found: list[Batch] = []

    async def follow() -> None:
        async for batch in tailer.batches():
            found.append(batch)

    async with asyncio.timeout(20):
        follower = asyncio.create_task(follow())
        await tailer.remove("quiet")
        await tailer.close()
        await follower
    assert sum(len(batch.points) for batch in found if batch.shard == "loud") < 50_000


async def test_removing_a_shard_reads_the_rest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "CHUNK", 500)
    tailer, path = Tailer(tmp_path), tmp_path / "metrics.jsonl"
    tailer.add("s0", path, make_parser("jsonl"))
    found: list[Batch] = []
    begun = asyncio.Event()

    async def follow() -> None:
        async for batch in tailer.batches():
            found.append(batch)
            begun.set()

    async with asyncio.timeout(20):
        follower = asyncio.create_task(follow())
        append(path, b"".join(line(step) for step in range(500)) + b'{"step": 500, "lo')
        await begun.wait()
        await tailer.remove("s0")
        assert sum(len(batch.points) for batch in found) == 500
        append(path, line(501))
        await tailer.remove("s0")  # not known any more: nothing happens
        await tailer.close()
        await follower
    assert found[-1].offset == sum(len(line(step)) for step in range(500))


async def test_garbage_and_nan_pass_through_the_tailer(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, b"\x00\x00\n" + b'{"step": 1, "loss": NaN}\n')
    tailer = Tailer(tmp_path)
    tailer.add("s0", path, make_parser("jsonl"))
    async with tailing(tailer) as batches:
        (batch,) = await until(batches, 1)
    assert batch.garbage == 1
    assert math.isnan(batch.points[0].values["loss"])


async def test_a_file_that_shrank_is_read_no_further_and_said_so(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, line(1) + line(2))
    tailer = Tailer(tmp_path)
    tailer.add("s0", path, make_parser("jsonl"))
    async with tailing(tailer) as batches:
        await until(batches, 2)
        os.truncate(path, 5)
        batch = await anext(batches)
        assert batch.truncated
        assert "shrank from" in str(batch.note)
        assert batch.points == []


async def test_a_file_that_was_replaced_is_read_no_further(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, line(1))
    tailer = Tailer(tmp_path)
    tailer.add("s0", path, make_parser("jsonl"))
    async with tailing(tailer) as batches:
        await until(batches, 1)
        append(tmp_path / "other", line(1) + line(9))
        os.replace(tmp_path / "other", path)
        assert (await anext(batches)).truncated


@pytest.mark.parametrize("kind", ["fifo", "symlink", "directory"])
async def test_what_is_no_plain_file_is_never_read_and_never_hangs(tmp_path: Path, kind: str) -> None:
    odd, good = tmp_path / "odd.jsonl", tmp_path / "good.jsonl"
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "symlink":
        append(tmp_path / "secret", line(7))
        odd.symlink_to(tmp_path / "secret")
    else:
        odd.mkdir()
    append(good, line(1))
    tailer = Tailer(tmp_path)
    tailer.add("odd", odd, make_parser("jsonl"))
    tailer.add("good", good, make_parser("jsonl"))
    async with tailing(tailer) as batches:
        found = {batch.shard: batch for batch in [await anext(batches), await anext(batches)]}
        assert found["odd"].points == []
        assert "it is not read" in str(found["odd"].note)
        assert [point.step for point in found["good"].points] == [1]
        append(good, line(2))
        assert (await anext(batches)).shard == "good"  # the odd one was spoken of once


async def test_a_file_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "LIMIT", 3000)
    monkeypatch.setattr(tail, "CHUNK", 1000)
    path = tmp_path / "metrics.jsonl"
    path.touch()
    os.truncate(path, 1 << 40)  # a terabyte that takes no room
    tailer = Tailer(tmp_path)
    tailer.add("s0", path, make_parser("jsonl"))
    async with tailing(tailer) as batches:
        assert "larger than" in str((await anext(batches)).note)
