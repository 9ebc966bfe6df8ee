"""A researcher's slots go where they tell something: a hopeless idea costs one run, and a good one gets the seeds it needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from engine import events as e
from engine.campaign import Launch, Record, plan, setup_of
from engine.judge.stopping import is_control
from engine.lab import Lab, parse
from engine.racing import first_seeds, seeds_wanted
from engine.state import State, reduce
from engine.types import ExperimentState, Outcome, Verdict
from tests.campaigns import Campaign
from tests.test_campaign import TEXT, carry_out

TRUNK = [2.00, 2.01, 1.99, 2.005, 1.995, 2.01, 1.99, 2.0, 2.003, 1.997]  # sigma of the first eight: 0.0078


def lab(mode: str = "fast", calibration: int = 8, old: str = "", new: str = "") -> Lab:
    judging = f'\n[judge]\nmode = "{mode}"\ncalibration = {calibration}\n'
    return parse(TEXT.replace("CLIMB", '["screen"]').replace(old, new) + judging, Path("/nowhere"))


def wanted(campaign: Campaign, of: Lab, arm: str) -> tuple[int, ...]:
    return seeds_wanted(campaign.state, of, arm, "screen", setup_of(of))


def settle(campaign: Campaign, of: Lab) -> None:
    while records := [step for step in plan(campaign.state, of, 2) if isinstance(step, Record)]:
        carry_out(campaign, list(records))


def race(
    campaign: Campaign, of: Lab, result: Callable[[str, int], float | Outcome], most: int = 200
) -> list[tuple[str, int]]:
    """Carry out plans until nothing is left to do; returns the shards that ran, in order."""
    ran = []
    for _ in range(most):
        steps = plan(campaign.state, of, 2)
        if not steps:
            return ran
        carry_out(campaign, steps)
        for step in steps:
            if isinstance(step, Launch):
                ran.append((step.experiment, step.seed))
                found = result(step.experiment, step.seed)
                if isinstance(found, Outcome):
                    campaign.end(step.shard, found)
                else:
                    campaign.end(step.shard, Outcome.FINISHED, found)
    raise AssertionError("the race does not come to an end")


def beside(**gains: float | Outcome) -> Callable[[str, int], float | Outcome]:
    """Results of the arms: the trunk's, less the gain of the experiment; `_` before a number, as in `_0001=0.1`."""

    def result(arm: str, seed: int) -> float | Outcome:
        gain = gains.get(f"_{arm}", 0.0)
        return gain if isinstance(gain, Outcome) else TRUNK[seed] - gain * (1 + seed / 50)

    return result


def test_the_trunk_runs_its_calibration_seeds_first() -> None:
    of = lab()
    campaign = Campaign(setup_of(of))
    assert first_seeds(of) == tuple(range(8))
    assert [seed for arm, seed in race(campaign, of, beside()) if arm == "trunk-1"] == list(range(8))
    assert first_seeds(lab(calibration=4, old="[0, 1, 2]", new="[7, 1]")) == (7, 1, 0, 2)


def test_a_good_idea_is_solid_after_three_seeds_and_a_hopeless_one_costs_one() -> None:
    of = lab()
    campaign = Campaign(setup_of(of))
    good, bad = campaign.approve(), campaign.approve()
    ran = race(campaign, of, beside(_0001=0.05, _0002=-0.004))
    assert [seed for arm, seed in ran if arm == good] == [0, 1, 2]
    assert [seed for arm, seed in ran if arm == bad] == [0]
    rows = campaign.state.experiments
    assert [rows[each]["state"] for each in (good, bad)] == [ExperimentState.JUDGED] * 2
    solid, dropped = rows[good]["verdict"], rows[bad]["verdict"]
    assert solid is not None
    assert dropped is not None
    assert (solid["verdict"], dropped["verdict"]) == (Verdict.SOLID, Verdict.NOT_SOLID)
    assert solid["sentence"].startswith("20:1 evidence on the same seeds; E ")
    assert solid["lo"] is not None
    assert solid["lo"] > 0


def test_the_verdict_on_record_carries_what_it_rests_on_and_is_read_again() -> None:
    of = lab("careful")
    campaign = Campaign(setup_of(of))
    name = campaign.approve()
    race(campaign, of, beside(_0001=0.05))
    folded = State()
    for number, at, event in campaign.events:
        kind, data = e.dump(event)
        reduce(folded, number, at, e.load(kind, 1, orjson.dumps(data)))
    found = folded.experiments[name]["verdict"]
    assert found is not None
    assert found["mode"] == "careful"
    assert found["bar"] == 20
    assert found["evidence"] is not None
    assert found["evidence"] >= 20
    assert found["sigma"] is not None
    assert 0.0078 < found["sigma"] < 0.02  # of fewer than eight seeds by then, so wider
    assert found["pairing"] == "loose"
    assert found["shrunk"] is not None
    assert 0 < found["shrunk"] <= float(found["effect"] or 0)
    shards = campaign.state.shards_of(name)
    assert found["seconds"] == sum(float(row["ended"] or 0) - float(row["started"] or 0) for row in shards) > 0


def test_nothing_is_judged_before_three_seeds_of_the_trunk_and_then_with_wider_noise() -> None:
    of = lab()
    campaign = Campaign(setup_of(of))
    name = campaign.approve()
    campaign.run("trunk-1", TRUNK[:2])
    campaign.run(name, [1.9])
    settle(campaign, of)
    waiting = campaign.state.experiments[name]["verdict"]
    assert waiting is not None
    assert waiting["sentence"] == "2 of 8 runs of the trunk that its noise is measured on"
    assert wanted(campaign, of, name) == (0,)
    campaign.end(campaign.start("trunk-1", 2), Outcome.FINISHED, TRUNK[2])
    settle(campaign, of)
    found = campaign.state.experiments[name]["verdict"]
    assert found is not None
    assert found["sigma"] == pytest.approx(0.01 * math.sqrt(7 / 2))
    assert wanted(campaign, of, name) == (0, 1)


def test_an_undecided_idea_gets_ten_seeds_and_takes_its_trunk_along() -> None:
    of = lab()
    campaign = Campaign(setup_of(of))
    name = campaign.approve()
    ran = race(
        campaign, of, lambda arm, seed: TRUNK[seed] - (0.0 if arm == "trunk-1" else 0.013 if seed % 2 == 0 else 0.001)
    )
    assert sorted(seed for arm, seed in ran if arm == name) == list(range(10))
    assert sorted(seed for arm, seed in ran if arm == "trunk-1") == list(range(10))
    verdict = campaign.state.experiments[name]["verdict"]
    assert verdict is not None
    assert (verdict["verdict"], verdict["n"]) == (Verdict.NOT_SOLID, 10)


def test_a_control_runs_on_where_it_would_be_dropped() -> None:
    name = next(f"lab{number}" for number in range(1000) if is_control(f"lab{number}", "0001"))
    of = lab(old='name = "tiny"', new=f'name = "{name}"')
    campaign = Campaign(setup_of(of))
    experiment = campaign.approve()
    ran = race(campaign, of, beside(_0001=-0.0004))
    assert sorted(seed for arm, seed in ran if arm == experiment) == list(range(10))


def test_a_crash_breaks_it_at_once_even_before_the_trunks_noise_is_known() -> None:
    of = lab()
    campaign = Campaign(setup_of(of))
    name = campaign.approve()
    campaign.run("trunk-1", TRUNK[:1])
    campaign.run(name, [Outcome.CRASHED])
    settle(campaign, of)
    verdict = campaign.state.experiments[name]["verdict"]
    assert verdict is not None
    assert verdict["verdict"] == Verdict.BROKEN
    assert verdict["sentence"] == "crashed on seed 0; 0 of 1 seed finished"


def test_a_seed_on_which_the_trunk_fails_is_replaced_by_another() -> None:
    of = lab()
    campaign = Campaign(setup_of(of))
    name = campaign.approve()

    def result(arm: str, seed: int) -> float | Outcome:
        return Outcome.DIVERGED if seed == 1 else TRUNK[seed] - (0.05 + seed / 1000 if arm == name else 0)

    ran = race(campaign, of, result)
    assert [seed for arm, seed in ran if arm == name][-3:] == [0, 2, 3]
    verdict = campaign.state.experiments[name]["verdict"]
    assert verdict is not None
    assert (verdict["verdict"], verdict["n"]) == (Verdict.SOLID, 3)


def test_a_trunk_that_ignores_its_seed_gets_no_verdict_and_costs_no_more_runs() -> None:
    of = lab()
    campaign = Campaign(setup_of(of))
    name = campaign.approve()
    ran = race(campaign, of, lambda arm, seed: 2.0 if arm == "trunk-1" else 1.5)
    verdict = campaign.state.experiments[name]["verdict"]
    assert verdict is not None
    assert verdict["verdict"] == Verdict.UNDECIDED
    assert "is the seed wired?" in verdict["sentence"]
    assert [seed for arm, seed in ran if arm == name] == [0]


def test_a_merge_makes_a_new_trunk_that_is_calibrated_anew() -> None:
    of = lab(calibration=4)
    campaign = Campaign(setup_of(of))
    race(campaign, of, beside())
    campaign.trunk_moves()
    assert race(campaign, of, beside()) == [("trunk-2", seed) for seed in range(4)]


def test_the_bar_counts_every_experiment_and_falls_with_what_was_solid() -> None:
    of = lab()
    campaign = Campaign(setup_of(of))
    names = [campaign.approve() for _ in range(14)]
    gains = {f"_{name}": 0.05 if name == names[-1] else -0.03 for name in names}
    race(campaign, of, beside(**gains))
    first, last = (campaign.state.experiments[name]["verdict"] for name in (names[0], names[-1]))
    assert first is not None
    assert last is not None
    assert first["bar"] == 20
    assert last["bar"] == 2 * (14 + 9)


def test_nothing_is_dropped_before_the_trunks_noise_is_known_as_well_as_it_will_be() -> None:
    of = lab()
    campaign = Campaign(setup_of(of))
    name = campaign.approve()
    campaign.run("trunk-1", TRUNK[:4])
    campaign.run(name, [TRUNK[0] + 0.004])
    settle(campaign, of)
    verdict = campaign.state.experiments[name]["verdict"]
    assert verdict is not None
    assert verdict["verdict"] == Verdict.UNDECIDED
    assert verdict["sentence"].startswith("4 of 8 runs of the trunk")
    assert wanted(campaign, of, name) == (0,)
    race(campaign, of, beside())
    verdict = campaign.state.experiments[name]["verdict"]
    assert verdict is not None
    assert verdict["verdict"] == Verdict.NOT_SOLID
