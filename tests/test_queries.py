"""A researcher asks ranked questions by name, adds their own, and is told where a file is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.history.console import Console
from engine.history.queries import Query, QueryError, load, load_all, parse
from engine.history.questions_page import SECTIONS
from engine.history.store import Store
from tests.history_cluster import on_cluster
from tests.history_samples import T0, losses, small_history

SHIPPED = load_all([Path(__file__).parents[1] / "queries"])
HEAD = "-- title: T\n-- description: D\n"


class Asker:
    """Asks shipped questions of an empty history and of the small one, through the console as a person would."""

    def __init__(self, directory: Path) -> None:
        self.consoles = {}
        self.stores = []
        for name in ("empty", "small"):
            store = Store.open(directory / f"{name}.duckdb")
            self.stores.append(store)
            self.consoles[name] = Console(store.path, directory / f"{name} copies", self._checkpoint(store))
        rows, events = small_history()
        self.stores[1].index(rows, events, len(events))
        self.stores[1].append([losses("0001.screen.s0.a1", [3.0, 2.5, float("nan")])])

    def _checkpoint(self, store: Store) -> Any:
        async def checkpoint() -> int:
            return store.checkpoint()

        return checkpoint

    async def __call__(self, name: str, history: str = "small", **values: object) -> list[dict[str, Any]]:
        query = SHIPPED[name]
        answer = await self.consoles[history].run(query.sql, query.bind(values))
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ask(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asker]:
    asker = Asker(tmp_path_factory.mktemp("queries"))
    yield asker
    for console in asker.consoles.values():
        await console.close()
    for store in asker.stores:
        store.close()


in_turn = pytest.mark.asyncio(loop_scope="module")
about = pytest.approx


def utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


# --- the shipped questions


def test_the_shipped_questions_are_all_there_and_whole() -> None:
    assert list(SHIPPED) == sorted(name for names in SECTIONS.values() for name in names)
    assert [query.problem for query in SHIPPED.values() if query.problem] == []


# Of the 40 s until step 79 the steps 60 to 79 were made twice, 20 of 80; n2 lost 30 s of the first day's 150.
def test_cluster_cost(tmp_path: Path) -> None:
    store = on_cluster(tmp_path / "history.duckdb")
    found = store.answer(SHIPPED["cluster_cost"].sql, {})
    store.close()
    first = datetime.fromtimestamp(T0, UTC).date()
    second = datetime.fromtimestamp(T0 + 86_400, UTC).date()
    assert [tuple(row.values()) for row in found] == [
        (first, "n1", 3, 1, 0, 0, 1, about(160 / 60), about(10 / 60), about(10 / 160)),
        (first, "n2", 2, 0, 1, 0, 0, about(150 / 60), about(30 / 60), about(0.2)),
        (second, "n1", 1, 0, 0, 0, 0, about(1.0), about(0.0), about(0.0)),
        (second, "n2", 2, 0, 0, 0, 0, about(76 / 60), about(0.0), about(0.0)),
    ]
    assert list(found[0])[5:] == ["lost", "went_on", "ran_minutes", "again_minutes", "again_share"]


# A run takes 60 s (the median of 60 60 120 70 60 and one of 10 elsewhere); that which went on is no measure of a node.
def test_nodes(tmp_path: Path) -> None:
    store = on_cluster(tmp_path / "history.duckdb")
    found = store.answer(SHIPPED["nodes"].sql, {})
    store.close()
    assert [tuple(row.values()) for row in found] == [
        ("n2", "1", 4, 2, 0, 1, 1, 0.5, about(95 / 60), about(2.0), "CUDA error: an illegal memory access"),
        ("n1", "0", 4, 3, 1, 0, 0, 0.0, about(1.0), about(1.0), None),
    ]


@in_turn
@pytest.mark.parametrize("name", list(SHIPPED))
async def test_each_question_runs_on_an_empty_history(ask: Asker, name: str) -> None:
    examples = {"shard": "0001.screen.s0.a1", "experiment": "0001"}
    given = {each.name: examples[each.name] for each in SHIPPED[name].params if each.required}
    assert await ask(name, "empty", **given) == []


@in_turn
async def test_leaderboard(ask: Asker) -> None:
    rows = await ask("leaderboard", limit=2)
    assert [(row["rank"], row["experiment"], row["verdict"], row["pairs"]) for row in rows] == [
        (1, "0001", "solid", 3),
        (2, "0002", "not-solid", 3),
    ]
    assert (rows[0]["mean"], rows[0]["sd"], rows[0]["seeds"]) == (about(2.0), about(0.1), 3)


@in_turn
async def test_failures(ask: Asker) -> None:
    rows = await ask("failures")
    assert [(row["outcome"], row["shards"], row["share"]) for row in rows] == [
        ("crashed", 1, about(1 / 16)),
        ("lost", 1, about(1 / 16)),
        ("nonfinite", 1, about(1 / 16)),
    ]
    assert (rows[2]["latest"], rows[2]["latest_detail"]) == ("0003.screen.s1.a1", "loss is NaN at step 40")
    assert rows[0]["minutes"] == 0.17


@in_turn
async def test_runs(ask: Asker) -> None:
    assert len(await ask("runs")) == 16
    rows = await ask("runs", experiment="0003")
    assert [(row["seed"], row["attempt"], row["outcome"], row["metric"]) for row in rows] == [
        (0, 1, "finished", 1.5),
        (1, 1, "nonfinite", None),
        (2, 1, "lost", None),
        (2, 2, "crashed", None),
    ]
    assert rows[0]["gain"] == about(0.5)
    assert rows[0]["started"] == utc(T0 + 100)


@in_turn
async def test_noise(ask: Asker) -> None:
    ((row),) = await ask("noise")
    assert row == {
        "trunk": "trunk-1",
        "rung": "screen",
        "seeds": 3,
        "mean": about(2.1),
        "sd": about(0.1),
        "lowest": 2.0,
        "highest": 2.2,
        "setup": None,
    }


@in_turn
async def test_decisions(ask: Asker) -> None:
    rows = await ask("decisions")
    assert [(row["action"], row["target"]) for row in rows] == [
        ("decline", "p0005"),
        *(("approve", f"p{number:04}") for number in (4, 3, 2, 1)),
    ]
    assert (rows[0]["who"], rows[0]["account"], rows[0]["why"]) == ("ada", "ada@lab1", "tried in March")
    assert (rows[0]["hypothesis"], rows[0]["at_utc"]) == ("idea 5", utc(T0 + 320))


@in_turn
async def test_categories(ask: Asker) -> None:
    rows = await ask("categories")
    assert [(row["category"], row["judged"], row["solid"], row["solid_share"], row["broken"]) for row in rows] == [
        ("architecture", 4, 1, 0.25, 1),
    ]


@in_turn
async def test_proposers(ask: Asker) -> None:
    rows = await ask("proposers")
    assert sum(row["judged"] for row in rows) == 4
    assert sum(row["solid"] for row in rows) == 1
    assert all(row["proposals"] >= row["judged"] for row in rows)
    (row,) = rows
    assert [row[name] for name in ("solid", "not_solid", "harmful", "broken", "solid_constant_only")] == [1, 1, 1, 1, 0]
    assert (row["best_effect"], row["best_three"]) == (about(0.1), "+0.1000 [+0.0800, +0.1200]")
    assert row["median_effect"] == about(0.01)
    assert (row["shards"], row["shard_minutes"]) == (13, about(13 / 6))


@in_turn
async def test_curves(ask: Asker) -> None:
    rows = await ask("curves", shard="0001.screen.s0.a1")
    assert [(row["step"], row["value"], row["seconds"]) for row in rows] == [
        (0, 3.0, 0.0),
        (1, 2.5, 1.0),
        (2, None, 2.0),
    ]


@in_turn
async def test_cycle_time(ask: Asker) -> None:
    rows = {row["experiment"]: row for row in await ask("cycle_time")}
    assert sorted(rows) == ["0001", "0002", "0003", "0004"]
    first = rows["0001"]  # proposed at 60 s, approved at 80, started at 100, judged at 660
    waits = [first[f"{part}_minutes"] for part in ("review", "queue", "run", "total")]
    assert waits == [about(20 / 60, abs=0.01), about(20 / 60, abs=0.01), about(560 / 60, abs=0.01), 10.0]


@in_turn
async def test_declined(ask: Asker) -> None:
    rows = await ask("declined")
    assert [(row["proposal"], row["state"], row["reason"]) for row in rows] == [
        ("p0006", "refused", "no-match: block 1: not found"),
        ("p0005", "declined", "tried in March"),
    ]


@in_turn
async def test_sources(ask: Asker) -> None:
    rows = await ask("sources")
    assert [(row["experiment"], row["source"], row["seeds"], row["gain"]) for row in rows] == [
        ("0001", "stories", 3, about(0.0)),
        ("0001", "code", 3, about(0.2)),
    ]
    assert await ask("sources", experiment="0002") == []


@in_turn
async def test_findings_leave_notes_out_unless_asked(ask: Asker) -> None:
    assert await ask("findings") == []
    (row,) = await ask("findings", experiment="0002", all=True)
    assert (row["finding"], row["experiment"], row["rule"], row["verdict"]) == ("f1", "0002", "no-op", "not-solid")


@in_turn
async def test_harm_is_measured_from_the_first_trunk_on(ask: Asker) -> None:
    assert await ask("harm") == [], "there has been one trunk only"
    rows = await ask("harm", trunks=False)
    assert [(row["experiment"], row["source"], row["seeds"], row["worse_by"]) for row in rows] == [
        ("0001", "stories", 3, about(0.0)),
        ("0001", "code", 3, about(-0.2)),
    ]


@in_turn
async def test_brief(ask: Asker) -> None:
    rows = await ask("brief")
    told = [(row["section"], row["experiments"], row["findings"]) for row in rows]
    assert told == [
        ("held", ["0001"], []),
        ("failed", ["0002"], []),
        ("failed", ["0004"], []),
        ("failed", ["0003"], []),
        ("next", ["0001"], []),
        ("next", ["0001"], []),
        ("worry", ["0002"], ["f1"]),
    ]
    assert rows[-1]["text"] == "same losses"
    assert rows[5]["text"] == "architecture: 1 of 4 judged are solid: more of this kind"
    assert [row["section"] for row in await ask("brief", experiments="0003,0004")] == ["failed", "failed", "next"]


@in_turn
async def test_what_second_readers_foresaw(ask: Asker) -> None:
    rows = await ask("reader_agreement")
    assert [(row["reader"], row["diffs"], row["approved"], row["agreement"]) for row in rows] == [
        ("model", 3, about(2 / 3), about(2 / 3)),
        ("rules", 1, 1.0, 1.0),
    ]
    assert rows[0]["brier"] == about((0.1**2 + 0.6**2 + 0.3**2) / 3)
    assert rows[0]["brier_of_base_rate"] == about(2 / 9)
    rows = await ask("reader_calibration", bins=2)
    assert [(row["reader"], row["from_p"], row["experiments"], row["predicted"], row["solid"]) for row in rows] == [
        ("model", 0.0, 1, about(0.2), 0.0),
        ("model", 0.5, 1, about(1.0), 1.0),
        ("rules", 0.5, 1, about(0.5), 1.0),
    ]


# --- one's own questions


def read(text: str, name: str = "mine.sql") -> Query:
    return parse(text, Path(name))


def test_a_header_says_what_a_question_takes() -> None:
    query = read(
        HEAD + "-- a plain remark\n-- param: seed integer Which one\n-- param: text text = 'two words' Words\n"
        "-- param: at_most number = 1.5\n-- param: all boolean = true\nSELECT $seed, $text, $at_most, $all"
    )
    assert [(each.name, each.type, each.default, each.required, each.meaning) for each in query.params] == [
        ("seed", "integer", None, True, "Which one"),
        ("text", "text", "two words", False, "Words"),
        ("at_most", "number", 1.5, False, ""),
        ("all", "boolean", True, False, ""),
    ]
    assert query.bind({"seed": "7", "all": "false"}) == {"seed": 7, "text": "two words", "at_most": 1.5, "all": False}
    assert query.to_json()["params"][0]["required"] is True


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"mine needs seed \(Which one\): give a whole number"),
        ({"seed": "x"}, "seed is 'x': give a whole number"),
        ({"seed": 1.5}, "seed is 1.5: give a whole number"),
        ({"seed": True}, "seed is True"),
        ({"seed": 2**63}, "give a whole number"),
        ({"seed": 1, "rate": "nan"}, "rate is 'nan': give a number"),
        ({"seed": 1, "on": "perhaps"}, "give true or false"),
        ({"seed": 1, "sed": 2}, "mine has no parameter sed: it takes seed, rate, on"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_wanted(values: dict[str, object], message: str) -> None:
    query = read(
        HEAD + "-- param: seed integer Which one\n-- param: rate number = 1\n-- param: on boolean = true\n"
        "SELECT $seed, $rate, $on"
    )
    with pytest.raises(QueryError, match=message):
        query.bind(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- description: D\nSELECT 1", "mine.sql:1: has no title"),
        ("-- title: T\nSELECT 1", "mine.sql:1: has no description"),
        ("-- title: T\n-- title: U\nSELECT 1", "mine.sql:2: title comes twice"),
        ("-- title:\nSELECT 1", "mine.sql:1: title is empty"),
        ("-- titel: T\nSELECT 1", "mine.sql:1: unknown key 'titel'"),
        (HEAD + "-- param: Seed int\nSELECT 1", "mine.sql:3: 'Seed int' is no parameter"),
        (HEAD + "-- param: n integer = many\nSELECT $n", "mine.sql:3: the default of n is 'many'"),
        (HEAD + "-- param: n integer\n-- param: n text\nSELECT $n", "mine.sql:4: parameter n comes twice"),
        (HEAD + "-- param: n integer\nSELECT 1", "mine.sql:1: the parameter n is never used"),
        (HEAD + "SELECT 1,\n  $n", r"mine.sql:4: \$n is not declared"),
        (HEAD + "SELECT\n  FROM WHERE", "mine.sql:4: Parser Error"),
        (HEAD + "SELECT 1; SELECT 2", "mine.sql:3: holds 2 statements"),
        (HEAD + "DROP TABLE shards", "mine.sql:3: holds 1 statements or no SELECT"),
        (HEAD, "exactly one SELECT"),
        ("", "mine.sql:1: has no title"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        read(text)


def test_ones_own_question_overrides_a_shipped_one_and_a_broken_one_spoils_no_other(tmp_path: Path) -> None:
    mine = tmp_path / "queries"
    mine.mkdir()
    (mine / "leaderboard.sql").write_text(HEAD + "SELECT 'mine'")
    (mine / "broken.sql").write_text("SELEC 1")
    (mine / "latin.sql").write_bytes(b"-- title: caf\xe9")
    (mine / "huge.sql").write_text("-" * 100_000)
    (mine / "Odd Name.sql").write_text(HEAD + "SELECT 1")
    (mine / "folder.sql").mkdir()
    found = load_all([Path(__file__).parents[1] / "queries", mine, tmp_path / "missing"])
    assert found["leaderboard"].sql.endswith("SELECT 'mine'")
    assert found["noise"].problem is None
    problems = {name: str(found[name].problem) for name in ("broken", "latin", "huge", "Odd Name", "folder")}
    assert "broken.sql:1: has no title" in problems["broken"]
    assert "latin.sql:1: is not UTF-8" in problems["latin"]
    assert "larger than" in problems["huge"]
    assert "rename it" in problems["Odd Name"]
    assert "cannot be read" in problems["folder"]
    with pytest.raises(QueryError, match=r"broken\.sql:1"):
        found["broken"].bind({})
    with pytest.raises(QueryError, match="cannot be read"):
        load(tmp_path / "nowhere.sql")
