"""A researcher asks anything of the history; whatever the SQL is, the engine and its files come to no harm."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.history.console import Answer, Console, SqlRefused
from engine.history.console_process import Child
from engine.history.store import Store
from tests.history_samples import losses, small_history

ROOT = Path(__file__).parents[1]


class Bench:
    """A store with a small history, and a console on it, as the engine holds them."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "history.duckdb"
        self.workdir = directory / "queries of mine"
        self.store = Store.open(self.path)
        rows, events = small_history()
        self.store.index(rows, events, len(events))
        self.thread = ThreadPoolExecutor(1)
        self.console = Console(self.path, self.workdir, self.checkpoint)

    async def on_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.thread, call, *arguments)

    async def checkpoint(self) -> int:
        return int(await self.on_thread(self.store.checkpoint))

    async def close(self) -> None:
        await self.console.close()
        self.thread.shutdown()
        self.store.close()

    @property
    def child(self) -> int | None:
        return self.console._idle[-1].pid if self.console._idle else None

    async def ask(self, sql: str, **more: object) -> Answer:
        return await self.console.run(sql, **more)  # type: ignore[arg-type]

    async def refused(self, sql: str, **more: object) -> str:
        with pytest.raises(SqlRefused) as caught:
            await self.ask(sql, **more)
        return str(caught.value)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("console"))
    yield made
    await made.close()


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.close()


in_turn = pytest.mark.asyncio(loop_scope="module")


@in_turn
async def test_the_leaderboard_can_be_asked_for(shared: Bench) -> None:
    answer = await shared.ask("SELECT rank, experiment, verdict, effect FROM leaderboard ORDER BY rank")
    assert answer.columns == ("rank", "experiment", "verdict", "effect")
    assert answer.types == ("BIGINT", "VARCHAR", "VARCHAR", "DOUBLE")
    assert answer.rows[0] == [1, "0001", "solid", 0.1]
    assert (len(answer.rows), answer.truncated) == (4, False)
    assert answer.to_json()["rows"] == answer.rows


@in_turn
async def test_explain_show_and_describe_are_allowed(shared: Bench) -> None:
    assert "Projection" in str((await shared.ask("EXPLAIN SELECT 1")).rows)
    assert ["shards"] in (await shared.ask("SHOW TABLES")).rows
    assert (await shared.ask("DESCRIBE points")).rows[0][0] == "shard"


@in_turn
async def test_parameters_are_bound_and_never_pasted(shared: Bench) -> None:
    answer = await shared.ask("SELECT $text AS text, $n + 1 AS n", params={"text": "'; DROP TABLE shards", "n": 1})
    assert answer.rows == [["'; DROP TABLE shards", 2]]
    assert "no value was given for $n" in await shared.refused("SELECT $n")
    assert "no parameter $m" in await shared.refused("SELECT 1", params={"m": 1})


@in_turn
async def test_every_kind_of_value_becomes_plain_json(shared: Bench) -> None:
    answer = await shared.ask("""
        SELECT 'nan'::DOUBLE, '-inf'::DOUBLE, 170141183460469231731687303715884105727, 1.25::DECIMAL(4, 2), DATE '2026-11-22',
            TIMESTAMP '2026-11-22 10:00:00', INTERVAL 90 MINUTE, '\\xAA\\x01'::BLOB, [1, NULL, 'nan'::DOUBLE],
            {'a': [DATE '2026-01-01']}, MAP {1: 'x'}, true, NULL
    """)
    assert answer.rows == [
        [None, None, 2**127 - 1, 1.25, "2026-11-22", "2026-11-22T10:00:00", "1:30:00", "aa01", [1.0, None, None],
         {"a": ["2026-01-01"]}, {"1": "x"}, True, None]
    ]  # fmt: skip
    assert answer.notes == ("3 values that are not finite (NaN or infinite) are shown as null",)


@in_turn
async def test_more_rows_than_asked_for_are_cut_and_it_is_said(shared: Bench) -> None:
    endless = await shared.ask("SELECT * FROM range(1000000000000)", limit=3)
    assert (endless.rows, endless.truncated) == ([[0], [1], [2]], True)
    exact = await shared.ask("SELECT * FROM range(3)", limit=3)
    assert (len(exact.rows), exact.truncated) == (3, False)


@in_turn
async def test_a_huge_cell_and_a_huge_answer_are_cut(shared: Bench) -> None:
    cell = await shared.ask("SELECT repeat('é', 100000) AS text, range(100000) AS numbers, repeat('x', 9)::BLOB AS b")
    text, numbers, blob = cell.rows[0]
    assert text.endswith("é… (34,464 more)")
    assert numbers.startswith("[0, 1, 2")
    assert blob == "78" * 9
    assert "2 cells were cut" in cell.notes[0]
    whole = await shared.ask("SELECT repeat('y', 60000) FROM range(1000)")
    assert whole.truncated
    assert 0 < len(whole.rows) < 16
    assert "900,000 bytes" in whole.notes[0]


@in_turn
async def test_a_time_with_a_zone_says_how_to_ask_for_it(shared: Bench) -> None:
    assert "cast it" in await shared.refused("SELECT now() AS clock")
    assert len((await shared.ask("SELECT now()::TIMESTAMP")).rows) == 1
    assert "cast it" in await shared.refused("SELECT [now()]")


@in_turn
async def test_a_typing_error_is_explained_by_duckdb_itself(shared: Bench) -> None:
    assert "SELEC" in await shared.refused("SELEC 1")
    assert "metirc" in await shared.refused("SELECT metirc FROM shards")
    assert "write a SELECT" in await shared.refused("-- nothing")
    assert "100,000 are allowed" in await shared.refused("SELECT '" + "x" * 200_000 + "'")
    assert "cannot be read" in await shared.refused("SELECT '\ud800'")


HOSTILE = {
    "COPY shards TO '{dir}/out.csv'": "COPY is not allowed",
    "EXPLAIN ANALYZE COPY shards TO '{dir}/out.csv'": "out of reach",
    "EXPORT DATABASE '{dir}/out'": "EXPORT is not allowed",
    "ATTACH '{dir}/other.duckdb'": "ATTACH is not allowed",
    "INSTALL httpfs": "is not allowed",
    "LOAD httpfs": "LOAD is not allowed",
    "SET memory_limit = '64GB'": "SET is not allowed",
    "EXPLAIN ANALYZE SET threads = 64": "out of reach",
    "RESET enable_external_access": "is not allowed",
    "PRAGMA database_list": "is not allowed",
    "CALL pragma_version()": "is not allowed",
    "USE memory": "is not allowed",
    "CHECKPOINT": "is not allowed",
    "VACUUM": "is not allowed",
    "BEGIN": "is not allowed",
    "PREPARE q AS SELECT 1": "is not allowed",
    "CREATE TEMP TABLE shards AS SELECT 1 AS n": "CREATE is not allowed",
    "CREATE SECRET s (TYPE s3)": "CREATE is not allowed",
    "DELETE FROM shards": "DELETE is not allowed",
    "WITH gone AS (DELETE FROM shards RETURNING *) SELECT * FROM gone": "read-only",
    "UPDATE shards SET metric = 0": "UPDATE is not allowed",
    "DROP TABLE shards": "DROP is not allowed",
    "SELECT 1; DROP TABLE shards": "2 statements",
    "PIVOT shards ON seed USING avg(metric)": "several statements",
    "SELECT * FROM query('DROP TABLE shards')": "single SELECT",
    "SELECT * FROM read_csv('/etc/passwd')": "out of reach",
    "SELECT * FROM read_text('/proc/self/environ')": "out of reach",
    "SELECT * FROM read_blob('{dir}/history.duckdb')": "out of reach",
    "SELECT * FROM read_json('{dir}/ledger.jsonl')": "out of reach",
    "SELECT * FROM read_parquet('https://example.com/x.parquet')": "out of reach",
    "SELECT * FROM glob('/*')": "out of reach",
    "SELECT * FROM sniff_csv('/etc/passwd')": "out of reach",
    "FROM '/etc/passwd'": "does not exist",
    "SELECT getenv('HOME')": "does not exist",
    "SELECT * FROM enable_logging(storage = 'file')": "out of reach",
    "SELECT * FROM sys": "does not exist",
    "SELECT * FROM (VALUES (1)) t ORDER BY (SELECT * FROM request)": "does not exist",
    "SELECT * FROM pandas_scan(1::POINTER)": "does not exist",
    "SELECT * FROM python_arrow_scan(1::POINTER, 2::POINTER, 3::POINTER)": "does not exist",
    "SELECT " + "(" * 20_000 + "1" + ")" * 20_000: "depth limit",
    "SELECT " + ", ".join(f"{n} AS c{n}" for n in range(1_001)): "1001 columns",
}


@in_turn
@pytest.mark.parametrize("sql", HOSTILE, ids=lambda sql: sql[:60])
async def test_what_could_do_harm_is_refused_with_a_reason(shared: Bench, sql: str) -> None:
    said = await shared.refused(sql.replace("{dir}", str(shared.path.parent)))
    assert HOSTILE[sql] in said
    assert "Traceback" not in said


@in_turn
async def test_after_all_that_the_history_is_as_it_was(shared: Bench, tmp_path: Path) -> None:
    untouched = Bench(tmp_path)
    assert shared.store.digest() == untouched.store.digest()
    assert sorted(each.name for each in shared.path.parent.iterdir()) == [shared.path.name, shared.workdir.name]
    assert (await shared.ask("SELECT count(*) FROM shards")).rows == [[16]]
    await untouched.close()


@in_turn
@pytest.mark.parametrize(
    "sql",
    [
        "EXPLAIN ANALYZE CREATE TEMP TABLE shards AS SELECT 42 AS metric",
        "EXPLAIN ANALYZE CREATE TEMP MACRO count(x) AS 7",
        "EXPLAIN ANALYZE SET VARIABLE trick = 1",
    ],
)
async def test_nothing_that_one_query_makes_is_there_for_the_next(shared: Bench, sql: str) -> None:
    await shared.ask(sql)
    answer = await shared.ask("SELECT count(*), getvariable('trick') FROM shards")
    assert answer.rows == [[16, None]]


BOMBS = [
    "SELECT length(repeat('x', 2000000000))",
    "SELECT count(*) FROM (SELECT unnest(range(400000000)))",
    "SELECT list_sort(range(500000000))[1]",
    "SELECT levenshtein(repeat('x', 200000), repeat('y', 200000))",
    "SELECT count(DISTINCT a.range::VARCHAR) FROM range(100000000) a",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
]


@in_turn
@pytest.mark.parametrize("sql", BOMBS)
async def test_a_bomb_goes_off_in_the_child_alone(shared: Bench, sql: str) -> None:
    said = await shared.refused(sql, deadline_s=0.3)
    assert "memory" in said or "took longer than 0.3 s" in said
    assert (await shared.ask("SELECT count(*) FROM shards")).rows == [[16]]


# --- the child, the copy and the engine


async def test_one_child_serves_query_after_query(bench: Bench) -> None:
    await bench.ask("SELECT 1")
    first = bench.child
    await bench.ask("SELECT 2")
    await bench.refused("SELECT nonsense")
    assert bench.child == first


async def test_the_next_query_sees_what_was_written_since_the_last(bench: Bench) -> None:
    count = "SELECT count(*) FROM points"
    assert (await bench.ask(count)).rows == [[0]]
    first = list(bench.workdir.iterdir())
    assert (await bench.ask(count)).rows == [[0]]
    assert list(bench.workdir.iterdir()) == first, "nothing was written, so nothing is copied"
    bench.store.append([losses("a", [1.0, 2.0])])
    assert (await bench.ask(count)).rows == [[2]]
    second = list(bench.workdir.iterdir())
    assert second != first
    assert len(second) == 1
    assert second[0].stat().st_mode & 0o077 == 0


async def test_a_child_that_is_killed_is_replaced(bench: Bench) -> None:
    await bench.ask("SELECT 1")
    assert bench.child is not None
    os.kill(bench.child, signal.SIGKILL)
    said = ""
    try:
        await bench.ask("SELECT 1")
    except SqlRefused as refused:
        said = str(refused)
    assert said == "" or "died" in said
    assert (await bench.ask("SELECT 2")).rows == [[2]]


async def test_a_client_that_gives_up_leaves_no_answer_for_the_next_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.ask("SELECT 1")
    handed_over, take = asyncio.Event(), bench.console._take

    async def noted() -> Child:
        child = await take()
        handed_over.set()  # whoever waits for this runs after the query was written to the child
        return child

    monkeypatch.setattr(bench.console, "_take", noted)
    slow = asyncio.create_task(bench.ask("SELECT count(*) FROM range(10000000) a, range(10000000) b", deadline_s=60))
    waiting = asyncio.create_task(bench.ask("SELECT 'mine'"))
    await handed_over.wait()
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert (await waiting).rows == [["mine"]]


async def test_queries_of_several_clients_each_get_their_own_answer(bench: Bench) -> None:
    answers = await asyncio.gather(*(bench.ask("SELECT $n", params={"n": n}) for n in range(10)))
    assert [answer.rows for answer in answers] == [[[n]] for n in range(10)]


async def test_the_child_ends_with_the_engine_even_in_the_middle_of_a_query(bench: Bench) -> None:
    """A child whose pipe closes ends at once: an engine that was killed leaves nothing running."""
    await bench.ask("SELECT 1")
    copy = str(next(bench.workdir.iterdir()))
    code = f"""
        import json, subprocess, sys
        child = subprocess.Popen(
            [sys.executable, "-m", "engine.history.console_child", "serve", str(2 << 30), str(1 << 29)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        assert child.stdout.readline() == b'{{"ready":true}}\\n'
        sql = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range % 7 = 3"
        request = {{"database": {copy!r}, "sql": sql, "params": {{}}, "limit": 1}}
        child.stdin.write(json.dumps(request).encode() + b"\\n")
        child.stdin.close()
        print("ended with", child.wait(60))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "ended with 0\n", done.stderr


async def test_copying_does_not_let_a_second_writer_in(bench: Bench) -> None:
    await bench.ask("SELECT 1")
    code = f"import duckdb; duckdb.connect({str(bench.path)!r})"
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
    assert "Could not set lock" in done.stderr


async def test_copies_taken_while_the_store_writes_are_whole(bench: Bench) -> None:
    """Every copy shows the points of some moment: as many as its offsets say, and never fewer than the one before."""
    done = asyncio.Event()

    async def write() -> None:
        at = 0
        while not done.is_set():
            await bench.on_thread(bench.store.append, [losses("a", [float(at)] * 500, at * 10, at)])
            at += 500

    writer = asyncio.create_task(write())
    seen = [0]
    while len(seen) < 4:
        answer = await bench.ask("SELECT count(*), (SELECT coalesce(sum(byte_offset), 0) FROM offsets) FROM points")
        ((count, offset),) = answer.rows
        assert count * 10 == offset
        assert count >= seen[-1]
        seen.append(count)
    done.set()
    await writer


async def test_a_copy_that_came_to_harm_is_taken_again(bench: Bench) -> None:
    await bench.ask("SELECT 1")
    bench.console._idle.pop().kill()
    next(bench.workdir.iterdir()).write_bytes(b"not a database at all" * 1000)
    assert (await bench.ask("SELECT count(*) FROM shards")).rows == [[16]]


async def test_no_room_for_a_copy_is_told(bench: Bench) -> None:
    bench.path.with_name("queries of mine").write_text("a file lies where the copies should go")
    with pytest.raises((SqlRefused, OSError), match="queries of mine"):
        await bench.ask("SELECT 1")


async def test_closing_leaves_no_copy_behind(bench: Bench) -> None:
    await bench.ask("SELECT 1")
    await bench.console.close()
    assert list(bench.workdir.iterdir()) == []
    assert (await bench.ask("SELECT 1")).rows == [[1]], "and a closed console can be used again"


async def test_the_child_sees_nothing_of_the_engines_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    await bench.ask("SELECT 1")
    names = environment_names(bench.child)
    assert names is None or names <= {"PATH", "LANG", "PYTHONPATH", "MALLOC_ARENA_MAX", "LC_CTYPE"}


def environment_names(pid: int | None) -> set[str] | None:
    """Names in a process's environment, where the system shows it (Linux)."""
    environ = Path(f"/proc/{pid}/environ")
    if not environ.exists():
        return None
    return {each.split(b"=")[0].decode() for each in environ.read_bytes().split(b"\0") if each}
