"""A run that is hopeless half-way gives its slot to the next idea, is written down as what it is, and what shares the seed's
luck is measured."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from engine import events as e
from engine.campaign import Cancel, Launch, plan, setup_of
from engine.halfway import Measures, half_gain, measures, pairing_of
from engine.judge.stopping import is_control
from engine.lab import Lab
from engine.ledger import read_lines
from engine.racing import _past
from engine.types import ExperimentState, Outcome, Verdict
from tests.campaigns import Campaign
from tests.test_racing import TRUNK, beside, lab, race, settle
from tests.tinylab import TinyLab, proposal, rows, wait_for, waiting
from tests.tinylab import decide as decide_on

Make = Callable[..., TinyLab]
HALF = [2.5, 2.52, 2.48, 2.51, 2.49, 2.52, 2.48, 2.5]  # of the trunk's seeds: spread 0.0156


def measured(campaign: Campaign, shard: str, half: float | None, *, order: str = "o", first: float = 5.6) -> None:
    campaign.write(e.ShardMeasured(shard, 100, half, first, order))


def calibrated(of: Lab, **first: float) -> Campaign:
    """A campaign whose trunk has run its calibration seeds, and is measured half-way."""
    campaign = Campaign(setup_of(of))
    race(campaign, of, beside())
    for shard in campaign.state.shards_of("trunk-1"):
        measured(campaign, shard["id"], HALF[shard["seed"]])
    return campaign


def approve(campaign: Campaign, category: str = "architecture") -> str:
    return campaign.approve(campaign.propose(category=category))


# --- what is measured


def test_the_loss_half_way_is_a_mean_over_a_tenth_of_the_steps_and_not_known_before_the_middle() -> None:
    points = [(step, 5.0 - step / 100) for step in range(1, 101)]
    assert measures(points[:49], 100, 5.0, "").half is None
    half = measures(points[:50], 100, 5.0, "").half
    assert half == pytest.approx(5.0 - 0.455)
    assert measures(points, 100, 5.0, "").half == half, "what came later does not count"
    assert measures([*points[:45], (46, float("nan"))], 100, None, "").half is None
    assert measures(points, None, None, "").half is None


def test_a_gain_half_way_is_counted_in_what_the_trunks_seeds_differ_by() -> None:
    trunk = {seed: Measures(100, half) for seed, half in enumerate(HALF)}
    gain = half_gain(trunk, Measures(100, HALF[0] + 0.031), 0, 0.01)
    assert gain == pytest.approx(-0.0198, abs=0.0005), "two of the trunk's spreads behind is two sigma"
    assert half_gain(trunk, Measures(50, 2.6), 0, 0.01) is None, "another number of steps"
    assert half_gain(trunk, Measures(100, 2.6), 9, 0.01) is None, "a seed that the trunk has not run"
    assert half_gain({0: trunk[0], 1: trunk[1]}, Measures(100, 2.6), 0, 0.01) is None
    assert half_gain(trunk, None, 0, 0.01) is None


# --- what comes of it


def test_a_run_that_is_far_behind_half_way_ends_there_and_its_seed_is_not_run_again() -> None:
    of = lab()
    campaign = calibrated(of)
    name = approve(campaign)
    shard = campaign.start(name, 0)
    settle(campaign, of)
    assert campaign.state.experiments[name]["verdict"] is None
    measured(campaign, shard, HALF[0] + 0.05)
    settle(campaign, of)
    row = campaign.state.experiments[name]
    assert row["verdict"] is not None
    assert (row["verdict"]["verdict"], row["verdict"]["n"]) == (Verdict.NOT_SOLID, 0)
    assert row["verdict"]["sentence"] == "more than one sigma behind half-way; no pair yet"
    assert row["state"] == ExperimentState.JUDGED
    steps = plan(campaign.state, of, 2)
    assert steps == [Cancel(shard)]
    campaign.end(shard, Outcome.ENDED_EARLY)
    assert plan(campaign.state, of, 2) == []
    assert campaign.state.experiments[name]["verdict"]["verdict"] == Verdict.NOT_SOLID, "it is not broken"  # type: ignore[index]


@pytest.mark.parametrize(
    ("category", "behind"), [("architecture", 0.01), ("architecture", -0.05), ("schedule", 0.05), ("data mix", 0.05)]
)
def test_who_is_not_far_behind_runs_on_and_so_does_a_change_whose_curve_crosses_late(
    category: str, behind: float
) -> None:
    of = lab()
    campaign = calibrated(of)
    name = approve(campaign, category)
    measured(campaign, campaign.start(name, 0), HALF[0] + behind)
    settle(campaign, of)
    assert campaign.state.experiments[name]["verdict"] is None
    assert not [step for step in plan(campaign.state, of, 2) if isinstance(step, Cancel)]


def test_a_control_runs_on_although_it_is_far_behind() -> None:
    name = next(f"lab{number}" for number in range(1000) if is_control(f"lab{number}", "0001"))
    of = lab(old='name = "tiny"', new=f'name = "{name}"')
    campaign = calibrated(of)
    experiment = approve(campaign)
    measured(campaign, campaign.start(experiment, 0), HALF[0] + 0.05)
    settle(campaign, of)
    assert campaign.state.experiments[experiment]["state"] == ExperimentState.RUNNING
    assert not [step for step in plan(campaign.state, of, 2) if isinstance(step, Cancel)]


def test_a_second_seed_that_is_far_behind_ends_what_the_first_had_left_open() -> None:
    of = lab()
    campaign = calibrated(of)
    name = approve(campaign)
    campaign.run(name, [TRUNK[0] - 0.012])
    settle(campaign, of)
    second = campaign.start(name, 1)
    measured(campaign, second, HALF[1] + 0.05)
    settle(campaign, of)
    verdict = campaign.state.experiments[name]["verdict"]
    assert verdict is not None
    assert (verdict["verdict"], verdict["n"]) == (Verdict.NOT_SOLID, 1)
    assert not [step for step in plan(campaign.state, of, 2) if isinstance(step, Launch)]


# --- tight or loose


def test_the_class_of_a_pair_is_measured_on_both_sides() -> None:
    same, other = Measures(100, 2.5, 5.6, "abc"), Measures(100, 2.5, 5.6, "abd")
    assert pairing_of({0: same, 1: same}, {0: same, 1: same}, [0, 1]) == "tight"
    assert pairing_of({0: same, 1: same}, {0: same, 1: other}, [0, 1]) == "loose"
    assert pairing_of({0: same}, {0: same}, []) == "loose"
    assert pairing_of({0: same}, {}, [0]) == "loose"
    assert pairing_of({0: Measures()}, {0: Measures()}, [0]) == "loose"


def test_each_class_has_a_pool_of_its_own() -> None:
    of = lab()
    campaign = calibrated(of)
    tight, loose, last = (approve(campaign, "schedule") for _ in range(3))
    for name, order, jitter in ((tight, "o", 0.0001), (loose, "other", 0.01)):
        gains = [0.05 + jitter, 0.05 - jitter, 0.05]
        for seed, gain in enumerate(gains):
            shard = campaign.start(name, seed)
            measured(campaign, shard, None, order=order)
            campaign.end(shard, Outcome.FINISHED, TRUNK[seed] - gain)
    settle(campaign, of)
    verdicts = [campaign.state.experiments[name]["verdict"] for name in (tight, loose)]
    assert [each and each["verdict"] for each in verdicts] == [Verdict.SOLID] * 2
    assert [each and each.get("pairing") for each in verdicts] == ["tight", "loose"]
    row = campaign.state.experiments[last]
    pools = {
        alike: _past(campaign.state, row, "screen", setup_of(of), 0.0078, alike)[2] for alike in ("tight", "loose")
    }  # type: ignore[arg-type]
    assert [pool.df for pool in pools.values()] == [2, 2]
    assert pools["tight"].ss == pytest.approx(2e-8)
    assert pools["loose"].ss == pytest.approx(2e-4)


# --- with real processes


def test_in_a_real_engine_a_hopeless_run_is_ended_half_way_and_written_down_as_that(tiny: Make) -> None:
    """The change makes every run worse, and wait after its middle until somebody ends it: nobody but the policy does."""
    worse = proposal("A loss that is far behind", "        loss = bottom + 2.0 / (1 + step)",
                     "        loss = bottom + 1.0 + 2.0 / (1 + step)\n        while step == 6:\n            time.sleep(0.01)",
                     "architecture")  # fmt: skip
    lab = tiny(worse, slots=2, steps=10)
    config = lab.root / "cockpit.toml"
    config.write_text(config.read_text() + '\n[judge]\nmode = "fast"\ncalibration = 3\n')
    lab.git("commit", "-qam", "Judge one seed after the other")
    with lab.session() as session:
        row = wait_for(lambda: waiting(session))[0]
        decide_on(session, row)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        shard = wait_for(
            lambda: next(
                (s for s in rows(session, "shard").values() if s["experiment"] == "0001" and s["state"] == "ended"),
                None,
            )
        )
        assert shard["outcome"] == "ended-early"
        assert "more than one sigma behind half-way" in shard["detail"]
        assert rows(session, "experiment")["0001"]["verdict"]["verdict"] == "not-solid"
        assert rows(session, "experiment")["0001"]["verdict"]["n"] == 0
    lab.stop()
    events = [event for event, _ in read_lines(lab.state.ledger.read_bytes())]
    halves = [
        event.data for event in events if event.type == "shard.measured" and event.data["shard"].startswith("0001")
    ]
    assert halves, json.dumps([event.type for event in events])
    assert halves[0]["half"] > 3.5
