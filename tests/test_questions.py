"""Every question that ships is asked of a recorded campaign, and answers what was worked out on paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.history.queries import load_all
from engine.history.store import Store
from tests import history_recorded, test_queries
from tests.golden import questions, questions_work

SHIPPED = load_all([Path(__file__).parents[1] / "queries"])
ANSWERS = {**questions.ANSWERS, **questions_work.ANSWERS}
OF_CURVES = {"curves", "curves_by_tokens"}
"""The only ones that may read points; all others answer from what was summed up, however long runs are."""
EXAMPLES = {"shard": "0001.screen.s0.a1", "experiment": "0001"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(tmp_path_factory.mktemp("recorded") / "history.duckdb")
    history_recorded.fill(store)
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


def test_each_shipped_question_has_an_answer_to_be_held_against() -> None:
    tested = {name.removeprefix("test_") for name in dir(test_queries) if name.startswith("test_")}
    tested |= {"findings", "harm", "reader_agreement", "reader_calibration"}  # there under longer names
    assert sorted(SHIPPED.keys() - ANSWERS.keys() - tested) == []
    assert sorted(ANSWERS.keys() - SHIPPED.keys()) == []


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_only_questions_about_curves_read_points(store: Store, name: str) -> None:
    query = SHIPPED[name]
    (plan,) = store.answer("EXPLAIN " + query.sql, query.bind(given(name)))
    scanned = set(re.findall(r"Table:\s+(?:\w+\.)*(\w+)", plan["explain_value"]))
    assert scanned, plan["explain_value"]
    assert ("points" in scanned) == (name in OF_CURVES)
