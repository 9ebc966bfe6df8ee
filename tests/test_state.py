"""What is follows from what happened, whoever folds it and whenever; and pulling what is new misses nothing."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import events as e
from engine.core import fold
from engine.ledger import Ledger
from engine.state import State, reduce
from engine.types import ExperimentState, Outcome, ShardState
from tests.campaigns import Campaign, wander

wanderings = st.lists(st.integers(0, 10_000), min_size=5, max_size=120)
SOME = settings(max_examples=60, deadline=None)


def wandered(choices: list[int]) -> Campaign:
    campaign = Campaign()
    wander(campaign, choices)
    return campaign


@SOME
@given(choices=wanderings)
def test_folding_from_disk_gives_what_the_engine_believed(
    tmp_path_factory: pytest.TempPathFactory, choices: list[int]
) -> None:
    path: Path = tmp_path_factory.mktemp("fold") / "ledger.jsonl"
    events = wandered(choices).events
    times = iter([t for _, t, _ in events])
    ledger = Ledger(path, lambda: next(times))
    live = State()
    for _, _, event in events:
        written = ledger.append(*e.dump(event))
        reduce(live, written.n, written.t, e.load(written.type, written.v, written.raw))
    ledger.close()
    again = Ledger(path)
    folded = fold(again.since(0))
    again.close()
    assert folded == live
    assert list(folded.since(0)) == list(live.since(0))


@SOME
@given(choices=wanderings)
def test_what_is_new_since_an_event_is_exactly_the_rows_that_changed_after_it(choices: list[int]) -> None:
    events = wandered(choices).events
    state = State()
    snapshots: list[dict[Any, Any]] = [{}]
    for n, t, event in events:
        reduce(state, n, t, event)
        snapshots.append(dict(state.rows))
    for n, before in enumerate(snapshots):
        fresh = {(row["kind"], row["id"]): row for row in state.since(n)}
        assert {**before, **fresh} == state.rows
        assert all(row["seq"] > n for row in fresh.values())
        assert all(before[key]["seq"] <= n for key in before.keys() - fresh.keys())
        assert [row["seq"] for row in fresh.values()] == sorted(row["seq"] for row in fresh.values())
        unchanged = {key for key in fresh.keys() & before.keys() if before[key] is fresh[key]}
        assert not unchanged


@SOME
@given(choices=wanderings)
def test_a_row_that_was_handed_out_stays_as_it_was(choices: list[int]) -> None:
    events = wandered(choices).events
    state = State()
    handed = []
    for n, t, event in events:
        reduce(state, n, t, event)
        handed += [(row, copy.deepcopy(row)) for row in state.since(n - 1)]
    assert all(row == as_it_was for row, as_it_was in handed)


@SOME
@given(choices=wanderings)
def test_the_rows_of_one_kind_are_the_rows_that_are_pulled(choices: list[int]) -> None:
    state = wandered(choices).state
    pulled = {(row["kind"], row["id"]): row for row in state.since(0)}
    for kind, rows in (("proposal", state.proposals), ("experiment", state.experiments), ("shard", state.shards)):
        assert {name: row for (of, name), row in pulled.items() if of == kind} == rows
    assert set(state.live) == {name for name, row in state.shards.items() if row["state"] != ShardState.ENDED}
    assert set(state.unlaunched) <= set(state.live)
    assert json.loads(json.dumps(list(state.since(0))))  # every row is JSON


@SOME
@given(choices=wanderings)
def test_only_a_finished_shard_has_a_metric(choices: list[int]) -> None:
    for row in wandered(choices).state.shards.values():
        assert row["metric"] is None or row["outcome"] == Outcome.FINISHED


def test_a_stop_is_not_undone_by_evidence_that_was_on_its_way() -> None:
    campaign = Campaign()
    name = campaign.approve()
    campaign.run(name, [2.0, 2.0, 2.0])
    campaign.stop(name)
    verdict = e.VerdictReached(name, "screen", "solid", 0.5, 0.4, 0.6, 0.1, 3, "better", [], "trunk-1", False)
    campaign.write(verdict, e.RungReached(name, "confirm"))
    row = campaign.state.experiments[name]
    assert (row["state"], row["rung"]) == (ExperimentState.STOPPED, "screen")
    assert row["verdict"] is not None


def test_the_trunk_rests_when_none_of_its_shards_runs_and_wakes_with_the_next() -> None:
    campaign = Campaign()
    first = campaign.start("trunk-1", 0)
    second = campaign.start("trunk-1", 1)
    campaign.end(first, Outcome.FINISHED, 2.0)
    assert campaign.state.experiments["trunk-1"]["state"] == ExperimentState.RUNNING
    campaign.end(second, Outcome.CRASHED)
    assert campaign.state.experiments["trunk-1"]["state"] == ExperimentState.JUDGED
    campaign.start("trunk-1", 1)
    assert campaign.state.experiments["trunk-1"]["state"] == ExperimentState.RUNNING


def test_an_event_of_a_type_that_is_not_known_only_moves_the_head() -> None:
    campaign = Campaign()
    before = dict(campaign.state.rows)
    assert e.load("dream.dreamt", 1, b'{"x": 1}') is None
    reduce(campaign.state, campaign.state.head + 1, 0.0, None)
    assert campaign.state.rows == before
    assert campaign.state.head == 4


def test_a_field_that_a_later_version_added_is_left_out_and_one_with_a_default_may_be_missing() -> None:
    loaded = e.load("shard.started", 1, b'{"shard": "a", "mood": "good"}')
    assert loaded == e.ShardStarted("a")
