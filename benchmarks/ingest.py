"""Times taking in points: from JSON lines in files to committed rows, and batches that are parsed beside an indexed SQLite.

    python benchmarks/ingest.py [--quick] [--repeat 3]

Bars: 200,000 points a second from files, 2.5 times SQLite at 10,000 points a transaction, 15 bytes a point in the file.
Every commit of either is on the disk before it counts: DuckDB flushes its write-ahead log, SQLite runs in WAL mode with
synchronous=FULL. Both keep the same: points (SQLite with an index on shard, metric and step), the last value, the lowest one
and the count of every series, and byte offsets. Repeats take turns, and medians count. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.history.store import Store
from engine.watch.parse import JsonLines
from engine.watch.tail import Batch, Tailer

FROM_FILES, TIMES_SQLITE, BYTES = 200_000, 2.5, 15.0
NAMES = ("loss", "grad_norm", "lr", "tokens_per_s", "mfu")
UPSERT = (
    "INSERT INTO summaries VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET last = excluded.last, "
    "last_step = excluded.last_step, min = min(min, excluded.min), count = count + excluded.count"
)
SHARDS, STEPS = 20, 100  # of one transaction: 10,000 points


def line(step: int, luck: random.Random) -> bytes:
    """What a trainer writes at one step: numbers with all their digits, as `json.dumps` gives them."""
    row = {"step": step, "t": 1_790_000_000 + step * 0.31 + luck.random() / 100}
    row |= {"loss": 2 + 1 / (1 + step) + luck.gauss(0, 0.05), "grad_norm": luck.lognormvariate(0, 0.3)}
    row |= {
        "lr": 3e-4 * (1 - step / 1e6),
        "tokens_per_s": 50_000 + luck.gauss(0, 500),
        "mfu": 0.4 + luck.gauss(0, 0.01),
    }
    return json.dumps(row).encode() + b"\n"


def write_files(place: Path, steps: int) -> dict[str, Path]:
    """A file of `steps` lines for each of the shards; returns them by shard."""
    luck = random.Random(1)
    files = {}
    for number in range(SHARDS):
        shard = f"{number:04d}.screen.s0.a1"
        (place / shard).mkdir(parents=True)
        files[shard] = place / shard / "metrics.jsonl"
        files[shard].write_bytes(b"".join(line(step, luck) for step in range(steps)))
    return files


async def from_files(store: Store, files: dict[str, Path], points: int) -> float:
    """Points a second, from files that are there to the commit of the last of them: tailer, parser and index as the engine
    runs them, but that the index takes what there is whenever it is free."""
    tailer, loop, pending = Tailer(next(iter(files.values())).parent.parent), asyncio.get_running_loop(), list[Batch]()
    for shard, path in files.items():
        tailer.add(shard, path, JsonLines())
    seen, writing = 0, None
    with ThreadPoolExecutor(1) as index:
        began = time.perf_counter()
        async for batch in tailer.batches():
            pending.append(batch)
            seen += len(NAMES) * len(batch.points)
            if writing is None or writing.done():
                if writing is not None:
                    assert writing.result() == ()
                writing, pending = loop.run_in_executor(index, store.append, pending), []
            if seen == points:
                await tailer.close()
        if writing is not None:
            assert await writing == ()
        assert await loop.run_in_executor(index, store.append, pending) == ()
        return points / (time.perf_counter() - began)


def parsed_batches(count: int) -> list[list[Batch]]:
    """So many transactions of 10,000 points: what every shard wrote in one stretch of steps."""
    luck, offsets, made = random.Random(2), dict[str, int](), list[list[Batch]]()
    for n in range(count):
        together = []
        for number in range(SHARDS):
            shard = f"{number:04d}.screen.s0.a1"
            parsed = JsonLines().feed(b"".join(line(n * STEPS + step, luck) for step in range(STEPS)))
            start = offsets.get(shard, 0)
            offsets[shard] = start + parsed.consumed
            together.append(Batch(shard, parsed.points, parsed.summary, start, offsets[shard]))
        made.append(together)
    return made


def open_sqlite(path: Path) -> sqlite3.Connection:
    con = sqlite3.connect(path, isolation_level=None)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute("PRAGMA synchronous = FULL")
    con.execute("CREATE TABLE points (shard TEXT, metric TEXT, step INTEGER, t REAL, value REAL)")
    con.execute("CREATE INDEX of_series ON points (shard, metric, step)")
    con.execute("CREATE TABLE offsets (shard TEXT PRIMARY KEY, byte_offset INTEGER)")
    con.execute(
        "CREATE TABLE summaries (shard TEXT, metric TEXT, last REAL, last_step INTEGER, min REAL, count INTEGER, "
        "PRIMARY KEY (shard, metric)) WITHOUT ROWID"
    )
    return con


def append_sqlite(con: sqlite3.Connection, batches: Sequence[Batch]) -> None:
    """The same batches in one transaction of SQLite."""
    con.execute("BEGIN")
    rows = [
        (batch.shard, metric, point.step, point.t, value)
        for batch in batches
        for point in batch.points
        for metric, value in point.values.items()
    ]
    con.executemany("INSERT INTO points VALUES (?, ?, ?, ?, ?)", rows)
    series = dict[tuple[str, str], list[float]]()
    for shard, metric, *_, value in rows:
        series.setdefault((shard, metric), []).append(value)
    steps = {batch.shard: batch.points[-1].step for batch in batches}
    tallies = [(*key, each[-1], steps[key[0]], min(each), len(each)) for key, each in series.items()]
    con.executemany(UPSERT, tallies)
    con.executemany("INSERT OR REPLACE INTO offsets VALUES (?, ?)", [(each.shard, each.offset) for each in batches])
    con.execute("COMMIT")


def beside_sqlite(place: Path, batches: list[list[Batch]]) -> tuple[list[float], list[float]]:
    """Seconds of every transaction, of the history and of SQLite, taking turns."""
    ours, theirs = list[float](), list[float]()
    with (
        closing(Store.open(place / "history.duckdb")) as store,
        closing(open_sqlite(place / "points.sqlite")) as sqlite,
    ):
        for together in batches:
            began = time.perf_counter()
            assert store.append(together) == ()
            between = time.perf_counter()
            append_sqlite(sqlite, together)
            ours.append(between - began)
            theirs.append(time.perf_counter() - between)
    return ours, theirs


def main() -> int:
    """Print the figures, each beside its bar."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="a tenth of the points")
    words.add_argument("--repeat", type=int, default=3)
    given = words.parse_args()
    steps, transactions = (2_000, 15) if given.quick else (20_000, 60)
    points = SHARDS * steps * len(NAMES)
    rates, ours, theirs, size = list[float](), list[float](), list[float](), 0.0
    with tempfile.TemporaryDirectory(prefix="ingest-") as name:
        files, batches = write_files(Path(name) / "runs", steps), parsed_batches(transactions)
        with closing(Store.open(Path(name) / "empty.duckdb")) as store:
            store.checkpoint()
        empty = (Path(name) / "empty.duckdb").stat().st_size
        for repeat in range(given.repeat):
            place = Path(name) / str(repeat)
            place.mkdir()
            with closing(Store.open(place / "files.duckdb")) as store:
                rates.append(asyncio.run(from_files(store, files, points)))
                store.checkpoint()
                size = ((place / "files.duckdb").stat().st_size - empty) / points
            more, others = beside_sqlite(place, batches)
            ours, theirs = ours + more, theirs + others
    rate, mine, other = map(statistics.median, (rates, ours, theirs))
    print(f"{points:,} points from {SHARDS} files: {rate:,.0f} points/s (bar {FROM_FILES:,})")
    print(f"parsed, 10,000 points a transaction: {10_000 / mine:,.0f} points/s, {1000 * mine:.1f} ms each")
    print(f"indexed SQLite, the same batches:    {10_000 / other:,.0f} points/s, {1000 * other:.1f} ms each")
    print(f"{other / mine:.1f} times SQLite (bar {TIMES_SQLITE}); {size:.1f} bytes a point (bar {BYTES:.0f})")
    return 0 if rate >= FROM_FILES and other / mine >= TIMES_SQLITE and size <= BYTES else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the database's binding complains of its own at an orderly end
