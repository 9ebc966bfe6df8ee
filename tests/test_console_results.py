"""A result is opened once, then scrolled, sorted, filtered and taken away as a file, while the history goes on."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import pytest_asyncio

from engine.history.console import HELD, NotHeld, SqlRefused
from engine.history.console_export import unique
from engine.history.console_process import Child
from tests.history_samples import losses
from tests.test_console import Bench

ENDLESS = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range % 7 = 3"
RUNS = """
SELECT * FROM (VALUES
    (1, 'adam', 0.5, true), (2, 'Muon', 'nan'::DOUBLE, false), (3, 'adamw', NULL, NULL), (4, NULL, 0.25, true),
    (5, 'sgd', 'inf'::DOUBLE, false)
) runs(run, optimizer, effect, kept)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("results"))
    yield made
    await made.close()


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.close()


in_turn = pytest.mark.asyncio(loop_scope="module")


async def opened(bench: Bench, sql: str, **more: Any) -> dict[str, Any]:
    return await bench.console.open(sql, **more)


async def shown(bench: Bench, result: str, sort: list[dict[str, Any]] | None = None, filter: str = "") -> list[Any]:
    """The first column of the rows that are shown after arranging."""
    total = await bench.console.arrange(result, sort or [], filter)
    page = await bench.console.rows(result, 0, 100)
    assert total == page["total"] == len(page["rows"])
    return [row[0] for row in page["rows"]]


@in_turn
async def test_the_first_page_comes_with_the_answer_and_the_others_when_scrolled_to(shared: Bench) -> None:
    answer = await opened(shared, "SELECT range AS step, range / 2 AS loss FROM range(100000)")
    assert (answer["columns"], answer["types"]) == (["step", "loss"], ["BIGINT", "DOUBLE"])
    assert (answer["rows"], answer["truncated"], len(answer["page"])) == (100_000, False, 200)
    page = await shared.console.rows(answer["result"], 99_998, 50)
    assert page == {"rows": [[99_998, 49_999.0], [99_999, 49_999.5]], "start": 99_998, "total": 100_000}
    assert (await shared.console.rows(answer["result"], 200_000, 5))["rows"] == []


@in_turn
async def test_numbers_that_json_lacks_are_said_in_columns_of_floats(shared: Bench) -> None:
    answer = await opened(shared, RUNS)
    assert [row[2] for row in answer["page"]] == [0.5, "NaN", None, 0.25, "Infinity"]
    big = await opened(shared, "SELECT sum(range) AS s, '-inf'::FLOAT AS f, 1.25::DECIMAL(4, 2) AS d FROM range(10)")
    assert big["page"] == [[45, "-Infinity", 1.25]]


@in_turn
async def test_nested_and_odd_values_are_held_too(shared: Bench) -> None:
    answer = await opened(
        shared,
        "SELECT [1, 2] AS l, {'a': 'nan'::DOUBLE} AS s, MAP {'k': 1} AS m, INTERVAL 90 MINUTE AS i, 'x'::ENUM('x') AS e, "
        "'\\xAA'::BLOB AS b, DATE '2026-01-02' AS d, union_value(a := 1) AS u, 1 AS same, 2 AS same, NULL AS n",
    )
    row = [[1, 2], {"a": None}, {"k": 1}, "1:30:00", "x", "aa", "2026-01-02", "1", 1, 2, None]
    assert answer["page"] == [row]
    assert await shared.console.arrange(answer["result"], [{"column": 4}], "1:30 'same' = 1") == 1
    with pytest.raises(SqlRefused, match="has no order"):
        await shared.console.arrange(answer["result"], [{"column": 0}], "")


@in_turn
async def test_sorting_puts_null_and_nan_last_whichever_way(shared: Bench) -> None:
    result = (await opened(shared, RUNS))["result"]
    assert await shown(shared, result, [{"column": 2}]) == [4, 1, 5, 2, 3]
    assert await shown(shared, result, [{"column": 2, "descending": True}]) == [5, 1, 4, 2, 3]
    assert await shown(shared, result, [{"column": 3}, {"column": 0, "descending": True}]) == [5, 2, 4, 1, 3]
    assert await shown(shared, result) == [1, 2, 3, 4, 5], "and without a key they are as they came"


@in_turn
@pytest.mark.parametrize(
    ("filter", "runs"),
    [
        ("ADAM", [1, 3]),
        ("optimizer ~ ^adam$", [1]),
        ("optimizer = Muon", [2]),
        ("optimizer != adam", [2, 3, 4, 5]),
        ("optimizer = null", [4]),
        ("effect > 0.25", [1, 5]),
        ("effect = nan", [2]),
        ("effect != nan", [1, 3, 4, 5]),
        ("run >= 2 run < 4", [2, 3]),
        ("run <= 2.5", [1, 2]),
        ("kept = true", [1, 4]),
        ("kept = TRUE adam", [1]),
        ("nothing-like-it", []),
    ],
)
async def test_filtering(shared: Bench, filter: str, runs: list[int]) -> None:
    assert await shown(shared, (await opened(shared, RUNS))["result"], filter=filter) == runs


@in_turn
@pytest.mark.parametrize(
    ("filter", "says"),
    [
        ("effect > much", "'much' is none: write a number"),
        ("kept = perhaps", "true or false"),
        ("optimizer ~ (", "no regular expression"),
        ("optimiser = adam", "no column 'optimiser'; there are run, optimizer"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_and_the_view_stays(shared: Bench, filter: str, says: str) -> None:
    result = (await opened(shared, RUNS))["result"]
    assert await shown(shared, result, filter="adam") == [1, 3]
    with pytest.raises(SqlRefused, match=says.replace("(", r"\(")):
        await shared.console.arrange(result, [], filter)
    assert (await shared.console.rows(result, 0, 9))["total"] == 2


@in_turn
async def test_a_column_that_is_not_there_cannot_be_sorted_by(shared: Bench) -> None:
    result = (await opened(shared, RUNS))["result"]
    for column in (4, -1, "run", None, True):
        with pytest.raises(SqlRefused, match="counted from 0 to 3"):
            await shared.console.arrange(result, [{"column": column}], "")


@in_turn
async def test_what_is_too_much_to_hold_is_cut_and_it_is_said(shared: Bench) -> None:
    rows = await opened(shared, "SELECT range::UTINYINT % 7 AS n FROM range(200)")
    assert (rows["rows"], rows["truncated"], rows["notes"]) == (200, False, [])
    endless = await opened(shared, "SELECT 1::UTINYINT AS n FROM range(1000000000000)")
    assert (endless["rows"], endless["truncated"]) == (5_000_000, True)
    assert "at most 5,000,000 rows" in endless["notes"][0]
    wide = await opened(shared, "SELECT repeat('x', 60000) AS text FROM range(1000000)", deadline_s=60)
    assert wide["truncated"]
    assert 1000 < wide["rows"] < 6000
    assert "fits in memory" in wide["notes"][0]
    page = await shared.console.rows(wide["result"], 0, 1000)
    assert 1 <= len(page["rows"]) < 15, "as many as one message holds"


@in_turn
async def test_a_row_of_many_huge_cells_still_fits_in_a_message(shared: Bench) -> None:
    answer = await opened(shared, "SELECT " + ", ".join(f"repeat('é', 60000) AS c{n}" for n in range(40)))
    assert len(json.dumps(answer["page"], ensure_ascii=False).encode()) < 900_000
    assert len(answer["page"]) == 1
    assert "more)" in answer["page"][0][0]


async def exported(bench: Bench, result: str, form: str) -> bytes:
    whole, number = b"", 0
    while number is not None:
        part = await bench.console.export(result, form, number)
        whole += base64.b64decode(part["part"])
        number = part["next"]
    return whole


@in_turn
async def test_a_file_holds_the_rows_as_they_are_arranged(shared: Bench) -> None:
    result = (await opened(shared, RUNS))["result"]
    await shared.console.arrange(result, [{"column": 0, "descending": True}], "run > 1")
    rows = list(csv.reader(io.StringIO((await exported(shared, result, "csv")).decode())))
    assert rows[0] == ["run", "optimizer", "effect", "kept"]
    assert [row[0] for row in rows[1:]] == ["5", "4", "3", "2"]
    assert rows[3] == ["3", "adamw", "", ""]
    lines = [json.loads(line) for line in (await exported(shared, result, "jsonl")).splitlines()]
    assert lines[0] == {"run": 5, "optimizer": "sgd", "effect": "Infinity", "kept": False}
    assert json.loads(await exported(shared, result, "json")) == lines
    table = parquet.read_table(io.BytesIO(await exported(shared, result, "parquet")))
    assert table.column("run").to_pylist() == [5, 4, 3, 2]
    assert [str(each) for each in table.column("effect").to_pylist()] == ["inf", "0.25", "None", "nan"]


@in_turn
@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "parquet"])
async def test_an_empty_answer_and_a_long_one_become_whole_files(shared: Bench, form: str) -> None:
    for count in (0, 120_000):
        sql = f"SELECT range AS n, hash(range)::VARCHAR AS h, [range] AS l, range AS n FROM range({count})"
        whole = await exported(shared, (await opened(shared, sql))["result"], form)
        if form == "parquet":
            table = parquet.read_table(io.BytesIO(whole))
            assert (table.num_rows, table.column_names) == (count, ["n", "h", "l", "n_2"])
            found = table.column("n_2").to_pylist()
        elif form == "csv":
            head, *rows = csv.reader(io.StringIO(whole.decode()))
            assert head == ["n", "h", "l", "n_2"]
            found = [int(row[3]) for row in rows]
        else:
            objects = json.loads(whole) if form == "json" else [json.loads(line) for line in whole.splitlines()]
            found = [each["n_2"] for each in objects]
        assert found == list(range(count))


@in_turn
async def test_a_part_may_be_asked_for_again_but_not_out_of_order(shared: Bench) -> None:
    result = (await opened(shared, "SELECT hash(range) AS h FROM range(200000)"))["result"]
    first = await shared.console.export(result, "csv", 0)
    assert await shared.console.export(result, "csv", 0) == first, "from the start"
    second = await shared.console.export(result, "csv", 1)
    assert await shared.console.export(result, "csv", 1) == second, "an answer that was lost"
    with pytest.raises(SqlRefused, match="begin again with part 0"):
        await shared.console.export(result, "csv", 5)
    with pytest.raises(SqlRefused, match="no format 'xlsx'"):
        await shared.console.export(result, "xlsx", 0)


def test_columns_of_one_name_are_told_apart_in_a_file() -> None:
    assert unique(["a", "a", "b", "a", "a_2"]) == ["a", "a_3", "b", "a_4", "a_2"]


# --- many results, many clients


async def test_a_result_stays_as_it_was_while_the_history_goes_on(bench: Bench) -> None:
    old = await opened(bench, "SELECT count(*) AS n FROM points")
    for at in range(3):
        bench.store.append([losses("a", [1.0, 2.0], at * 20, at * 2)])
        await bench.ask("SELECT 1")
    new = await opened(bench, "SELECT count(*) AS n FROM points")
    assert (old["page"], new["page"]) == ([[0]], [[6]])
    assert (await bench.console.rows(old["result"], 0, 1))["rows"] == [[0]]
    assert len(list(bench.workdir.iterdir())) == 1, "older copies are gone from the directory"
    assert 0 <= new["age_s"] < 60


async def test_only_the_latest_results_are_held_and_a_dropped_one_says_so(bench: Bench) -> None:
    results = [(await opened(bench, f"SELECT {n}"))["result"] for n in range(HELD)]
    await bench.console.rows(results[0], 0, 1)  # looked at, so the second is the oldest now
    await opened(bench, "SELECT 'one more'")
    assert (await bench.console.rows(results[0], 0, 1))["rows"] == [[0]]
    with pytest.raises(NotHeld, match="run the query again"):
        await bench.console.rows(results[1], 0, 1)
    await bench.console.drop(results[2])
    for ask in (bench.console.rows(results[2], 0, 1), bench.console.arrange("never", [], "")):
        with pytest.raises(NotHeld):
            await ask
    await bench.console.drop(results[2])


async def test_a_bomb_takes_no_other_result_along(bench: Bench) -> None:
    mine = (await opened(bench, "SELECT 'mine'"))["result"]
    with pytest.raises(SqlRefused, match=r"memory|longer"):
        await opened(bench, "SELECT list_sort(range(500000000))[1]", deadline_s=0.5)
    assert (await bench.console.rows(mine, 0, 1))["rows"] == [["mine"]]


async def test_a_result_whose_process_was_killed_is_no_longer_held(bench: Bench) -> None:
    mine = (await opened(bench, "SELECT 'mine'"))["result"]
    child = bench.console._held[mine].child
    os.kill(child.pid, signal.SIGKILL)
    await child._process.wait()
    with pytest.raises(NotHeld):
        await bench.console.rows(mine, 0, 1)


async def test_a_running_query_is_cancelled_and_the_next_one_works(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, put = asyncio.Event(), Child.ask

    async def noted(child: Child, *asked: Any) -> dict[str, Any]:
        begun.set()
        return await put(child, *asked)

    monkeypatch.setattr(Child, "ask", noted)
    for ask in (bench.console.open, bench.console.run):
        begun.clear()
        running = asyncio.create_task(ask(ENDLESS, request="q1", deadline_s=600))
        await begun.wait()
        assert bench.console.cancel("q1")
        with pytest.raises(SqlRefused, match=r"^cancelled$"):
            await running
        assert not bench.console.cancel("q1"), "there is nothing left to cancel"
        assert (await bench.ask("SELECT 1")).rows == [[1]]


async def test_a_query_that_waits_for_its_turn_can_be_cancelled(bench: Bench) -> None:
    tasks = [asyncio.create_task(bench.console.open(ENDLESS, request=f"q{n}", deadline_s=600)) for n in range(6)]
    await asyncio.sleep(0)  # long enough to be known by its name
    for n in reversed(range(6)):
        assert bench.console.cancel(f"q{n}")
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(each) for each in done] == ["cancelled"] * 6
    assert (await bench.ask("SELECT 1")).rows == [[1]]


async def test_two_queries_cannot_have_one_name(bench: Bench) -> None:
    first = asyncio.create_task(bench.console.open(ENDLESS, request="q", deadline_s=600))
    await asyncio.sleep(0)  # long enough to be known by its name
    with pytest.raises(SqlRefused, match="runs already"):
        await opened(bench, "SELECT 1", request="q")
    bench.console.cancel("q")
    with pytest.raises(SqlRefused):
        await first


async def test_a_slow_query_holds_nobody_else_up(bench: Bench) -> None:
    slow = asyncio.create_task(bench.console.open(ENDLESS, request="slow", deadline_s=600))
    await asyncio.sleep(0)  # long enough to be known by its name
    assert (await bench.ask("SELECT 'quick'")).rows == [["quick"]]
    assert not slow.done()
    bench.console.cancel("slow")
    with pytest.raises(SqlRefused):
        await slow


async def test_a_client_that_gives_up_looking_leaves_no_answer_for_the_next_one(bench: Bench) -> None:
    result = (await opened(bench, "SELECT range AS n FROM range(300000)"))["result"]
    looking = asyncio.create_task(bench.console.arrange(result, [{"column": 0, "descending": True}], ""))
    await asyncio.sleep(0)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert (await bench.console.rows(result, 7, 1))["start"] == 7


async def test_a_snapshot_can_be_opened_by_anybody_and_a_broken_one_is_never_announced(
    bench: Bench, tmp_path: Path
) -> None:
    import duckdb

    await bench.console.snapshot(tmp_path / "mine.duckdb")
    with duckdb.connect(str(tmp_path / "mine.duckdb"), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM shards").fetchall() == [(16,)]
    bench.console._copies._database = tmp_path / "not one.duckdb"
    (tmp_path / "not one.duckdb").write_bytes(b"no database" * 5000)
    with pytest.raises(SqlRefused, match="cannot be opened"):
        await bench.console.snapshot(tmp_path / "broken.duckdb")
    assert not (tmp_path / "broken.duckdb").exists()


async def test_the_process_of_a_query_can_open_no_file_and_no_socket_by_itself(bench: Bench) -> None:
    """Where the kernel has landlock and seccomp, these hold even if DuckDB's own locks should not."""
    from engine.shards import box

    await bench.ask("SELECT 1")
    said = await asyncio.to_thread(process_status, bench.child)
    if not said or box.landlock_abi() < 3:
        pytest.skip("this kernel has no landlock, or shows no processes")
    assert (said["Seccomp"], said["NoNewPrivs"]) == ("2", "1")


def process_status(pid: int | None) -> dict[str, str]:
    """What Linux says of a process; nothing elsewhere."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return {}
    return dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
