"""What is run next, and what is concluded: the planner as pure arithmetic over what happened so far."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import events as e
from engine.campaign import Branch, Cancel, Launch, Record, Step, plan, setup_of
from engine.lab import Lab, parse
from engine.types import ExperimentState, Outcome, Verdict
from tests.campaigns import WHO, Campaign, wander

TEXT = """\
[lab]
name = "tiny"
command = ["{python}", "train.py", "{seed}", "{budget}", "{metrics}"]
editable = ["train.py"]

[metric]
name = "val"
direction = "min"
source = "jsonl"

[rungs.screen]
budget = 5
timeout = "1m"

[rungs.confirm]
budget = 50
timeout = "1m"

[run]
seeds = [0, 1, 2]
climb = CLIMB
"""


def lab(climb: str = '["screen"]', old: str = "", new: str = "") -> Lab:
    """The lab of the text above, with `old` replaced by `new` in it."""
    return parse(TEXT.replace("CLIMB", climb).replace(old, new), Path("/nowhere"))


LAB = lab()
TALL = lab('["screen", "confirm"]')
SOLID = [1.5, 1.51, 1.49]
TRUNK = [2.0, 2.01, 2.0]


def begun(of: Lab = LAB) -> Campaign:
    """A campaign whose shards count under that lab's settings."""
    return Campaign(setup_of(of))


def trained(of: Lab = LAB) -> Campaign:
    """A campaign whose trunk has run all of its seeds."""
    campaign = begun(of)
    campaign.run("trunk-1", TRUNK)
    return campaign


def launches(steps: list[Step]) -> list[tuple[str, int]]:
    return [(step.experiment, step.seed) for step in steps if isinstance(step, Launch)]


def verdicts(steps: list[Step]) -> list[e.VerdictReached]:
    return [step.event for step in steps if isinstance(step, Record) and isinstance(step.event, e.VerdictReached)]


def carry_out(campaign: Campaign, steps: list[Step]) -> None:
    """Write down what the plan says, and start what it launches."""
    for step in steps:
        if isinstance(step, Branch):
            campaign.branch(step.experiment)
        elif isinstance(step, Record):
            campaign.write(step.event)
        elif isinstance(step, Launch):
            begun = campaign.start(step.experiment, step.seed, step.rung, step.slot, step.fresh, canary=step.canary)
            assert begun == step.shard
        else:
            campaign.end(step.shard, Outcome.KILLED)


def settle(campaign: Campaign, of: Lab) -> None:
    """Record everything that follows from the evidence, until nothing more does."""
    while records := [step for step in plan(campaign.state, of, 2) if isinstance(step, Record)]:
        carry_out(campaign, list(records))


# --- the order of things -----------------------------------------------------------------------------------------------


def test_the_trunk_runs_its_seeds_although_nothing_was_approved() -> None:
    assert launches(plan(begun().state, LAB, 8)) == [("trunk-1", 0), ("trunk-1", 1), ("trunk-1", 2)]


def test_one_seed_of_everything_comes_before_a_second_seed_of_anything() -> None:
    campaign = begun()
    campaign.approve()
    campaign.approve()
    assert launches(plan(campaign.state, LAB, 5)) == [
        ("trunk-1", 0),
        ("0001", 0),
        ("0002", 0),
        ("trunk-1", 1),
        ("0001", 1),
    ]


def test_shards_fill_the_slots_that_are_free_and_no_more() -> None:
    campaign = trained()
    name = campaign.approve()
    campaign.start(name, 0, slot=1)
    found = [step for step in plan(campaign.state, LAB, 3) if isinstance(step, Launch)]
    assert [(step.shard, step.slot) for step in found] == [("0001.screen.s1.a1", 0), ("0001.screen.s2.a1", 2)]


def test_a_shard_that_is_being_scored_still_holds_its_slot() -> None:
    campaign = trained()
    name = campaign.approve()
    shard = campaign.start(name, 0, slot=0)
    campaign.write(e.ShardEnded(shard, Outcome.FINISHED, "", 1.0, scoring=True), e.ScoreIntended(shard))
    assert launches(plan(campaign.state, LAB, 1)) == []


def test_as_many_experiments_as_slots_are_raced_at_a_time_oldest_first() -> None:
    campaign = trained()
    for _ in range(5):
        campaign.approve()
    raced = {arm for arm, _ in launches(plan(campaign.state, LAB, 2))}
    assert raced == {"0001", "0002"}
    campaign.run("0001", SOLID)
    settle(campaign, LAB)
    assert {arm for arm, _ in launches(plan(campaign.state, LAB, 9))} >= {"0002", "0003"}
    carry_out(campaign, plan(campaign.state, LAB, 2))
    assert {campaign.state.shards[shard]["experiment"] for shard in campaign.state.live} == {"0002", "0003"}


def test_an_approved_experiment_gets_its_branch_before_any_shard() -> None:
    campaign = trained()
    name = campaign.approve(branched=False)
    steps = plan(campaign.state, LAB, 4)
    assert steps == [Branch(name)]
    carry_out(campaign, steps)
    assert launches(plan(campaign.state, LAB, 1)) == [(name, 0)]


def test_while_paused_or_while_data_are_missing_nothing_is_launched_but_evidence_is_judged() -> None:
    campaign = trained()
    name = campaign.approve()
    campaign.write(e.Paused(WHO, "the cluster is wanted"))
    assert plan(campaign.state, LAB, 4) == []
    campaign.run(name, SOLID)
    assert verdicts(plan(campaign.state, LAB, 4))[0].verdict == Verdict.SOLID
    campaign.write(e.Resumed(WHO))
    campaign.approve()
    settle(campaign, LAB)
    assert launches(plan(campaign.state, LAB, 4, launching=False)) == []
    assert launches(plan(campaign.state, LAB, 4)) == [("0002", 0), ("0002", 1), ("0002", 2)]


# --- verdicts ----------------------------------------------------------------------------------------------------------


def test_each_pair_that_arrives_is_put_on_record_and_three_of_them_decide() -> None:
    campaign = trained()
    name = campaign.approve()
    for seed, metric in enumerate(SOLID):
        campaign.end(campaign.start(name, seed), Outcome.FINISHED, metric)
        event = verdicts(plan(campaign.state, LAB, 2))[0]
        assert (event.n, event.final, event.verdict == Verdict.SOLID) == (seed + 1, seed == 2, seed == 2)
        settle(campaign, LAB)
    row = campaign.state.experiments[name]
    assert row["state"] == ExperimentState.JUDGED
    assert row["verdict"] is not None
    assert row["verdict"]["effect"] == pytest.approx(0.5033, abs=1e-3)
    assert plan(campaign.state, LAB, 4) == []


def test_worse_than_the_trunk_is_harmful_and_the_same_is_not_solid() -> None:
    campaign = trained()
    worse, same = campaign.approve(), campaign.approve()
    campaign.run(worse, [2.5, 2.51, 2.53])
    campaign.run(same, TRUNK)
    found = {event.experiment: event.verdict for event in verdicts(plan(campaign.state, LAB, 2))}
    assert found == {worse: Verdict.HARMFUL, same: Verdict.NOT_SOLID}


def test_one_crash_is_the_end_of_an_experiment_and_of_what_it_has_running() -> None:
    campaign = trained()
    name = campaign.approve()
    crashed, other = campaign.start(name, 0), campaign.start(name, 1, slot=1)
    campaign.end(crashed, Outcome.CRASHED)
    steps = plan(campaign.state, LAB, 2)
    assert [(event.verdict, event.final) for event in verdicts(steps)] == [(Verdict.BROKEN, True)]
    assert launches(steps) == []
    carry_out(campaign, steps)
    assert plan(campaign.state, LAB, 2) == [Cancel(other)]
    campaign.end(other, Outcome.KILLED)
    assert plan(campaign.state, LAB, 2) == []
    assert launches(plan(campaign.state, LAB, 9)) == []


@pytest.mark.parametrize("outcome", [each for each in Outcome if each.own_fault])
def test_every_failure_of_its_own_breaks_an_experiment(outcome: Outcome) -> None:
    campaign = trained()
    campaign.run(campaign.approve(), [outcome])
    assert [event.verdict for event in verdicts(plan(campaign.state, LAB, 2))] == [Verdict.BROKEN]


@pytest.mark.parametrize(("outcome", "tries"), [(Outcome.LOST, 2), (Outcome.KILLED, 3)])
def test_bad_luck_is_run_again_but_not_for_ever(outcome: Outcome, tries: int) -> None:
    campaign = trained()
    name = campaign.approve()
    campaign.run(name, [1.5, 1.5])
    settle(campaign, LAB)
    for attempt in range(1, tries + 1):
        found = [step for step in plan(campaign.state, LAB, 2) if isinstance(step, Launch)]
        assert [step.shard for step in found] == [f"{name}.screen.s2.a{attempt}"]
        carry_out(campaign, list(found))
        campaign.end(found[0].shard, outcome)
    event = verdicts(plan(campaign.state, LAB, 2))[0]
    assert (event.verdict, event.n, event.final) == (Verdict.UNDECIDED, 2, True)
    settle(campaign, LAB)
    assert plan(campaign.state, LAB, 2) == []


def test_a_seed_that_comes_back_after_bad_luck_counts() -> None:
    campaign = trained()
    name = campaign.approve()
    campaign.run(name, [*SOLID[:2], Outcome.LOST])
    campaign.end(campaign.start(name, 2), Outcome.FINISHED, SOLID[2])
    assert verdicts(plan(campaign.state, LAB, 2))[0].verdict == Verdict.SOLID


def test_what_a_person_stopped_stays_stopped() -> None:
    campaign = trained()
    name, other = campaign.approve(), campaign.approve()
    running, single = campaign.start(name, 0), campaign.start(other, 0, slot=1)
    campaign.stop(name, running)
    campaign.stop(single, single)
    assert Cancel(running) in plan(campaign.state, LAB, 2)
    campaign.end(running, Outcome.KILLED)
    campaign.end(single, Outcome.KILLED)
    settle(campaign, LAB)
    assert launches(plan(campaign.state, LAB, 8)) == [(other, 1), (other, 2)]
    assert campaign.state.experiments[name]["state"] == ExperimentState.STOPPED


# --- the trunk ---------------------------------------------------------------------------------------------------------


def test_a_seed_on_which_the_trunk_fails_is_not_run_and_not_held_against_the_experiment() -> None:
    campaign = begun()
    campaign.run("trunk-1", [2.0, Outcome.DIVERGED, 2.0])
    name = campaign.approve()
    assert launches(plan(campaign.state, LAB, 8)) == [(name, 0), (name, 2)]
    campaign.run(name, [1.5, Outcome.DIVERGED, 1.5])
    event = verdicts(plan(campaign.state, LAB, 2))[0]
    assert (event.verdict, event.n, event.final) == (Verdict.UNDECIDED, 2, True)


def test_the_first_failure_of_the_trunk_holds_experiments_back_until_all_of_it_is_known() -> None:
    campaign = begun()
    campaign.approve()
    campaign.run("trunk-1", [Outcome.CRASHED])
    assert launches(plan(campaign.state, LAB, 8)) == [("trunk-1", 1), ("trunk-1", 2)]
    carry_out(campaign, plan(campaign.state, LAB, 8))
    assert launches(plan(campaign.state, LAB, 8)) == []


def test_experiments_on_a_trunk_that_is_broken_do_not_hold_up_those_on_the_one_that_was_mended() -> None:
    campaign = begun()
    for _ in range(3):
        campaign.approve()
    campaign.run("trunk-1", [Outcome.CRASHED] * 3)
    assert plan(campaign.state, LAB, 2) == []
    campaign.trunk_moves()
    mended = campaign.approve()
    assert launches(plan(campaign.state, LAB, 2)) == [("trunk-2", 0), (mended, 0)]


def test_an_experiment_is_compared_with_the_trunk_that_it_was_drawn_from() -> None:
    campaign = trained()
    old = campaign.approve()
    campaign.trunk_moves()
    new = campaign.approve()
    campaign.run("trunk-2", [1.0, 1.01, 1.0])
    campaign.run(old, SOLID)
    campaign.run(new, SOLID)
    found = {event.experiment: (event.baseline, event.verdict) for event in verdicts(plan(campaign.state, LAB, 2))}
    assert found == {old: ("trunk-1", Verdict.SOLID), new: ("trunk-2", Verdict.HARMFUL)}


# --- rungs and settings ------------------------------------------------------------------------------------------------


def test_solid_goes_on_to_the_next_rung_with_its_trunk_and_is_judged_there() -> None:
    campaign = trained(TALL)
    name = campaign.approve()
    campaign.run(name, SOLID)
    steps = plan(campaign.state, TALL, 4)
    assert [type(step.event).__name__ for step in steps if isinstance(step, Record)] == [
        "VerdictReached",
        "RungReached",
    ]
    carry_out(campaign, steps)
    row = campaign.state.experiments[name]
    assert (row["state"], row["rung"]) == (ExperimentState.RUNNING, "confirm")
    found = [step for step in plan(campaign.state, TALL, 6) if isinstance(step, Launch)]
    assert {(step.experiment, step.rung) for step in found} == {(name, "confirm"), ("trunk-1", "confirm")}
    carry_out(campaign, list(found))
    for step in found:
        worse = (step.experiment == name) * (1 + step.seed / 100)
        campaign.end(step.shard, Outcome.FINISHED, TRUNK[step.seed] + worse)
    settle(campaign, TALL)
    verdict = campaign.state.experiments[name]["verdict"]
    assert verdict is not None
    assert (verdict["rung"], verdict["verdict"]) == ("confirm", Verdict.HARMFUL)
    assert campaign.state.experiments[name]["state"] == ExperimentState.JUDGED


def test_a_crash_between_a_verdict_and_its_next_rung_is_made_good() -> None:
    campaign = trained(TALL)
    name = campaign.approve()
    campaign.run(name, SOLID)
    campaign.write(verdicts(plan(campaign.state, TALL, 4))[0])
    assert [step.event for step in plan(campaign.state, TALL, 4) if isinstance(step, Record)] == [
        e.RungReached(name, "confirm")
    ]


def test_what_is_not_solid_does_not_climb() -> None:
    campaign = trained(TALL)
    name = campaign.approve()
    campaign.run(name, TRUNK)
    settle(campaign, TALL)
    row = campaign.state.experiments[name]
    assert (row["state"], row["rung"]) == (ExperimentState.JUDGED, "screen")


def test_shards_that_ran_under_other_settings_are_not_mixed_in() -> None:
    campaign = trained()
    name = campaign.approve()
    campaign.run(name, SOLID[:2])
    settle(campaign, LAB)
    longer = lab(old="budget = 5\n", new="budget = 6\n")
    assert setup_of(longer) != setup_of(LAB)
    campaign.setup = setup_of(longer)
    found = [step for step in plan(campaign.state, longer, 9) if isinstance(step, Launch)]
    assert [step.shard for step in found] == [
        "trunk-1.screen.s0.a2",
        "0001.screen.s0.a2",
        "trunk-1.screen.s1.a2",
        "0001.screen.s1.a2",
        "trunk-1.screen.s2.a2",
        "0001.screen.s2.a1",
    ]
    carry_out(campaign, list(found))
    campaign.end("0001.screen.s0.a2", Outcome.FINISHED, 1.5)
    assert [event.n for event in verdicts(plan(campaign.state, longer, 9))] == [0]


def test_timeouts_are_no_part_of_the_setup() -> None:
    assert setup_of(lab(old='"1m"', new='"2m"')) == setup_of(LAB)


# --- whatever happens --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(choices=st.lists(st.integers(0, 10_000), min_size=5, max_size=80), slots=st.integers(1, 4))
def test_whatever_happened_the_plan_is_sound_and_comes_to_an_end(choices: list[int], slots: int) -> None:
    campaign = begun(TALL)
    wander(campaign, choices)
    campaign.write(e.Resumed(WHO))
    for _ in range(2000):
        steps = plan(campaign.state, TALL, slots)
        fresh = [step for step in steps if isinstance(step, Launch)]
        assert len({step.shard for step in fresh} | set(campaign.state.live)) == len(fresh) + len(campaign.state.live)
        assert not {step.slot for step in fresh} & {campaign.state.shards[each]["slot"] for each in campaign.state.live}
        assert len({step.slot for step in fresh}) == len(fresh)
        carry_out(campaign, steps)
        if not steps and not campaign.state.live:
            break
        for shard in list(campaign.state.live):
            campaign.end(shard, Outcome.FINISHED, 2.0)
    assert plan(campaign.state, TALL, slots) == []
    for row in campaign.state.experiments.values():
        if row["role"] == "experiment":
            assert row["state"] not in (ExperimentState.QUEUED, ExperimentState.RUNNING), row
