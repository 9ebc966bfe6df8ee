"""Every question that ships is asked of a recorded campaign, and answers what was worked out on paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.history import questions_page
from engine.history.queries import load_all
from engine.history.store import Store
from tests import history_imported, history_recorded, test_queries
from tests.golden import questions, questions_work

SHIPPED = load_all([Path(__file__).parents[1] / "queries"])
ANSWERS = {**questions.ANSWERS, **questions_work.ANSWERS}
GOLDEN = Path(__file__).parent / "golden"
OF_CURVES = {"curves", "curves_by_tokens"}
"""The only ones that may read points; all others answer from what was summed up, however long runs are."""
EXAMPLES = {"shard": "0001.screen.s0.a1", "experiment": "0001"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path = tmp_path_factory.mktemp("recorded") / "history.duckdb"
    store = Store.open(path)
    history_recorded.fill(store)
    store.close()
    history_imported.fill(path)
    store = Store.open(path)
    yield store
    store.close()


def given(name: str) -> dict[str, Any]:
    """Values for what a question cannot do without."""
    return {each.name: EXAMPLES[each.name] for each in SHIPPED[name].params if each.required}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_the_answer_is_the_one_worked_out_on_paper(store: Store, name: str) -> None:
    wanted = ANSWERS[name]
    query = SHIPPED[name]
    found = store.answer(query.sql, query.bind(dict(wanted.given)))
    columns = wanted.columns.split()
    assert all(list(row) == columns for row in found)
    assert len(found) == len(wanted.rows)
    for got, row in zip(found, wanted.rows, strict=True):
        for column, value in zip(columns, row, strict=True):
            about = pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
            assert got[column] == about, (column, row)


@pytest.mark.parametrize("lived", sorted(each.stem.removeprefix("ledger-") for each in GOLDEN.glob("ledger-v1*.jsonl")))
def test_every_question_can_be_asked_of_what_engines_have_lived_through(tmp_path: Path, lived: str) -> None:
    rows = json.loads((GOLDEN / f"rows-{lived}.json").read_text())
    events = [json.loads(line) for line in (GOLDEN / f"ledger-{lived}.jsonl").read_text().splitlines()]
    store = Store.open(tmp_path / "history.duckdb")
    store.index(rows, events, len(events))
    asked = {name: store.answer(query.sql, query.bind(given(name))) for name, query in SHIPPED.items()}
    arms = [row["id"] for row in rows if row["kind"] == "experiment" and row["role"] == "trunk"]
    told = [(event["type"], event["data"]) for event in events]
    merges = [data["experiment"] for kind, data in told if kind == "merge.done"]
    canaries = [data["shard"] for kind, data in told if kind == "shard.intended" and data.get("canary")]
    seconds = [
        row["ended"] - row["started"] for row in rows if row["kind"] == "shard" and row["started"] and row["ended"]
    ]
    assert [row["trunk"] for row in asked["trunk_lineage"]] == sorted(arms)
    assert [row["merged"] for row in asked["trunk_lineage"] if row["merged"]] == merges
    assert [row["experiment"] for row in asked["frontier"]] == merges
    assert sorted(row["run"] for row in asked["canaries"]) == sorted(canaries)
    assert asked["cost_of_a_finding"][-1]["shard_minutes"] == pytest.approx(sum(seconds) / 60)
    assert sum(row["decisions"] for row in asked["people"]) == sum(row["kind"] == "decision" for row in rows)
    store.close()


def test_each_shipped_question_has_an_answer_to_be_held_against() -> None:
    tested = {name.removeprefix("test_") for name in dir(test_queries) if name.startswith("test_")}
    tested |= {"findings", "reader_agreement", "reader_calibration"}  # there under longer names
    assert sorted(SHIPPED.keys() - ANSWERS.keys() - tested) == []
    assert sorted(ANSWERS.keys() - SHIPPED.keys()) == []


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_only_questions_about_curves_read_points(store: Store, name: str) -> None:
    query = SHIPPED[name]
    (plan,) = store.answer("EXPLAIN " + query.sql, query.bind(given(name)))
    scanned = set(re.findall(r"Table:\s+(?:\w+\.)*(\w+)", plan["explain_value"]))
    assert scanned, plan["explain_value"]
    assert ("points" in scanned) == (name in OF_CURVES)


def test_the_page_lists_every_question_once() -> None:
    page = Path(__file__).parents[1] / "docs" / "questions.md"
    assert page.read_text() == questions_page.page(), "run: python -m engine.history.questions_page > docs/questions.md"
    listed = [name for names in questions_page.SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(SHIPPED), "give the question a place in questions_page.SECTIONS"


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_picture_is_of_columns_that_the_answer_has(name: str) -> None:
    drawn = re.search(r"^-- picture: (\w+) (.+)$", SHIPPED[name].sql, re.MULTILINE)
    if drawn is not None:
        assert drawn[1] in ("scatter", "lines", "bars")
        assert set(drawn[2].split()) <= set(ANSWERS[name].columns.split())


def test_where_more_is_better_the_same_gains_come_out(tmp_path: Path) -> None:
    """The campaign once more with a metric that is to rise: every figure turned round, every gain the same."""
    store = Store.open(tmp_path / "history.duckdb")
    history_recorded.fill(store, direction="max")
    for name, columns in (
        ("trunk_lineage", ("gain", "pairs")),
        ("sources", ("source", "gain")),
        ("harm", ("source", "worse_by")),
        ("source_tradeoffs", ("best_source", "best_gain", "worst_source", "worst_gain")),
    ):
        wanted = ANSWERS[name]
        places = [wanted.columns.split().index(column) for column in columns]
        found = store.answer(SHIPPED[name].sql, SHIPPED[name].bind({}))
        assert len(found) == len(wanted.rows)
        for got, row in zip(found, wanted.rows, strict=True):
            for column, place in zip(columns, places, strict=True):
                value = row[place]
                assert got[column] == (pytest.approx(value) if isinstance(value, float) else value), (name, column)
    store.close()


def test_a_run_that_wrote_nan_wins_nothing(tmp_path: Path) -> None:
    """NaN sorts above every number in DuckDB: an effect that is none must not head a ranking or turn a mean into NaN."""
    rows, events = history_recorded.recorded_history()
    for row in rows:
        if row["kind"] == "experiment" and row["id"] == "0008":
            assert row["verdict"] is not None
            row["verdict"]["effect"] = float("nan")
            row["pairs"][0]["difference"] = float("nan")
        if row["kind"] == "proposal" and row["id"] == "p0008":
            row["predicted_effect"] = float("nan")
        if row["kind"] == "shard" and row["id"] == "0008.screen.s0.a1":
            row["sources"] = {"code": float("nan"), "stories": 2.5}
    store = Store.open(tmp_path / "history.duckdb")
    store.index(rows, events, len(events))
    for name in sorted(SHIPPED):
        for row in store.answer(SHIPPED[name].sql, SHIPPED[name].bind(given(name))):
            about = {str(value) for value in row.values()}
            if "0008" not in about and "0008.screen.s0.a1" not in about:
                assert not [column for column, value in row.items() if value != value], (name, row)
    for name in ("leaderboard", "reopen", "predicted"):
        first = store.answer(SHIPPED[name].sql, SHIPPED[name].bind({}))[0]
        assert first["experiment"] == {"leaderboard": "0001", "reopen": "0013", "predicted": "0003"}[name]
    store.close()
