"""However long a campaign gets, what a verdict depends on is the same as if all that was tried were looked at again."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from engine import events as e
from engine.campaign import plan, setup_of
from engine.field import is_open
from engine.judge.noise import Pairing, Pool, pooled
from engine.racing import _past
from engine.state import State
from engine.types import ExperimentRow
from tests.campaigns import Campaign, wander
from tests.test_racing import TRUNK, lab, race

SIGMA = 0.01


def looked_at_again(state: State, row: ExperimentRow, rung: str, setup: str, alike: Pairing) -> tuple[int, int, Pool]:
    """Place, keeps and pool by going through all experiments, as docs/statistics.md has them."""
    everyone = [each for each in state.experiments.values() if each["role"] == "experiment"]
    place = [each["id"] for each in everyone].index(row["id"]) + 1
    ended = [each for each in everyone if each["verdict"] and not is_open(each) and each["id"] != row["id"]]
    keeps = sum(each["verdict"]["verdict"] == "solid" for each in ended if each in everyone[: place - 1])  # type: ignore[index]
    pool = Pool()
    for each in ended:
        verdict = each["verdict"]
        assert verdict is not None
        shards = [state.shards[name] for name in state.of_experiment.get(each["id"], ())]
        ran = any(shard["rung"] == rung and state.setups[shard["id"]] == setup for shard in shards)
        if verdict["rung"] == rung and verdict["n"] >= 2 and verdict.get("pairing", "loose") == alike and ran:
            found = [pair["difference"] for pair in each["pairs"]]
            pool = pooled(pool, [value for value in found if value is not None], SIGMA)
    return place, keeps, pool


def agrees(state: State, setup: str) -> None:
    racing = [each["id"] for each in state.experiments.values() if each["role"] == "experiment" and is_open(each)]
    assert state.race.racing() == racing
    for row in state.experiments.values():
        for alike in ("tight", "loose") if row["role"] == "experiment" else ():
            for rung in ("screen", "confirm"):
                found = _past(state, row, rung, setup, SIGMA, alike)
                assert found == looked_at_again(state, row, rung, setup, alike)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=10_000), max_size=80))
def test_whatever_happens_the_field_is_what_a_look_at_everything_gives(choices: list[int]) -> None:
    campaign = Campaign()
    for at in range(0, len(choices), 8):
        wander(campaign, choices[at : at + 8])
        agrees(campaign.state, campaign.setup)


def test_a_race_of_many_agrees_after_every_verdict() -> None:
    of, dice = lab(), random.Random(5)
    campaign = Campaign(setup_of(of))
    names = [campaign.approve() for _ in range(25)]
    gains = {name: dice.choice([0.05, -0.03, 0.006, 0.0]) for name in names}
    race(campaign, of, lambda arm, seed: TRUNK[seed] - gains.get(arm, 0.0) * (1 + seed / 50), most=2000)
    agrees(campaign.state, setup_of(of))
    folded = State()
    from engine.state import reduce

    for number, at, event in campaign.events:
        reduce(folded, number, at, event)
        if isinstance(event, e.VerdictReached):
            agrees(folded, setup_of(of))
    assert folded.race == campaign.state.race
    assert len(folded.race.solid) > 2


def test_a_plan_looks_at_no_experiment_that_has_ended() -> None:
    """The rows of what has ended are taken away; a plan that still looked at them could not be made."""
    of = lab()
    campaign = Campaign(setup_of(of))
    ended = [campaign.approve() for _ in range(6)]
    race(campaign, of, lambda arm, seed: TRUNK[seed] - (0.05 + seed / 500 if arm in ended else 0.0))
    last = campaign.approve()
    expected = plan(campaign.state, of, 2)
    assert any(getattr(step, "experiment", "") == last for step in expected)
    for name in ended:
        del campaign.state.experiments[name]
    assert plan(campaign.state, of, 2) == expected
