"""The trunk's first seed runs again now and then: a machine that has changed is seen before it passes for progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import orjson

from engine import events as e
from engine.campaign import Cancel, Launch, Record, plan, setup_of
from engine.detecting import Detecting
from engine.field import is_open
from engine.lab import Lab
from engine.live import Live
from engine.racing import facts
from engine.state import State, reduce
from engine.types import Outcome, Verdict
from engine.watch.parse import Parsed
from tests.campaigns import Campaign
from tests.test_campaign import carry_out
from tests.test_racing import TRUNK, lab, settle
from tests.tinylab import TinyLab, decide, rate, rows, wait_for, waiting

Result = Callable[[str, int, bool], float | Outcome]
SIGMA = 0.0078
JUDGE = '\n[judge]\nmode = "fast"\ncalibration = 3\n'


def drive(campaign: Campaign, of: Lab, result: Result, most: int = 400) -> list[Launch]:
    """Carry out plans until nothing is left to do; returns what was started. A result may depend on being a canary."""
    ran: list[Launch] = []
    for _ in range(most):
        steps = plan(campaign.state, of, 2)
        if not steps:
            return ran
        carry_out(campaign, [step for step in steps if not isinstance(step, Cancel)])
        for step in steps:
            if isinstance(step, Launch):
                ran.append(step)
                found = result(step.experiment, step.seed, step.canary)
                if isinstance(found, Outcome):
                    campaign.end(step.shard, found)
                else:
                    campaign.end(step.shard, Outcome.FINISHED, found)
    raise AssertionError("this does not come to an end")


def steady(arm: str, seed: int, canary: bool) -> float:
    return TRUNK[seed] + (0.0 if arm.startswith("trunk") else 0.03)


def begun(experiments: int) -> tuple[Campaign, Lab]:
    of = lab()
    campaign = Campaign(setup_of(of))
    for _ in range(experiments):
        campaign.approve()
    return campaign, of


def canaries(ran: list[Launch]) -> list[Launch]:
    return [step for step in ran if step.canary]


def found(campaign: Campaign) -> list[e.FindingNoted]:
    return [event for _, _, event in campaign.events if isinstance(event, e.FindingNoted)]


def test_every_tenth_experiment_the_trunks_first_seed_runs_once_more_and_counts_for_nothing() -> None:
    campaign, of = begun(9)
    assert canaries(drive(campaign, of, steady)) == []
    before = facts(campaign.state, "trunk-1", "screen", setup_of(of))
    campaign.approve()
    once = canaries(drive(campaign, of, steady))
    assert [(step.experiment, step.seed, step.shard) for step in once] == [("trunk-1", 0, "trunk-1.screen.s0.a2")]
    assert found(campaign) == []
    assert campaign.state.shards["trunk-1.screen.s0.a2"]["canary"]
    for _ in range(10):
        campaign.approve()
    assert (
        len(canaries(drive(campaign, of, lambda arm, seed, canary: steady(arm, seed, canary) + 0.3 * SIGMA * canary)))
        == 1
    )
    assert found(campaign) == [], "a third of a sigma is no shift"
    assert facts(campaign.state, "trunk-1", "screen", setup_of(of)) == before


def test_a_shift_is_said_and_what_was_measured_before_it_is_run_again() -> None:
    campaign, of = begun(9)
    drive(campaign, of, steady)
    held = campaign.approve()
    racing = campaign.start(held, 0)
    campaign.end(racing, Outcome.FINISHED, TRUNK[0] - 0.01)
    settle(campaign, of)
    assert is_open(campaign.state.experiments[held])
    judged = {name: row["verdict"] for name, row in campaign.state.experiments.items() if name not in ("trunk-1", held)}
    moved = 0.02  # everything that runs from now on

    ran = drive(
        campaign, of, lambda arm, seed, canary: steady(arm, seed, canary) + moved - (0.09 if arm == held else 0.0)
    )
    assert ran[0].canary
    (finding,) = found(campaign)
    assert (finding.rule, finding.severity, finding.about) == ("canary", "warning", "trunk-1.screen.s0.a2")
    assert "gave 2, and run again it gave 2.02, +2.5 sigma" in finding.sentence
    again = [step.seed for step in ran if step.experiment == "trunk-1"]
    assert again == [0, *range(1, 8)], "the canary stands for its own seed, and the others run again"
    assert [step.seed for step in ran if step.experiment == held] == [1, 0, 1, 2], (
        "what ran beside it runs again as well"
    )
    verdict = campaign.state.experiments[held]["verdict"]
    assert verdict is not None
    assert verdict["verdict"] == Verdict.SOLID
    assert all(pair["trunk"] == TRUNK[pair["seed"]] + moved for pair in campaign.state.experiments[held]["pairs"])
    kept = {name: campaign.state.experiments[name]["verdict"] for name in judged}
    assert kept == judged, "what was decided stays"
    assert not campaign.state.shards["trunk-1.screen.s0.a2"]["canary"]


def test_a_canary_that_fails_by_its_own_fault_is_a_shift_and_one_that_was_lost_is_sent_again() -> None:
    campaign, of = begun(10)
    lost = canaries(
        drive(campaign, of, lambda arm, seed, canary: Outcome.LOST if canary else steady(arm, seed, canary))
    )
    assert len(lost) == 3, "as often as any seed, and then no more"
    assert found(campaign) == []
    campaign, of = begun(10)
    failed: list[bool] = []

    def once(arm: str, seed: int, canary: bool) -> float | Outcome:
        failed.extend([True] * canary)
        return Outcome.CRASHED if canary and len(failed) == 1 else steady(arm, seed, canary)

    ran = drive(campaign, of, once)
    assert "run again it ended crashed" in found(campaign)[0].sentence
    trunk = [step.seed for step in ran if step.experiment == "trunk-1"]
    assert sorted(trunk[trunk.index(7) + 2 :]) == list(range(8)), "its own seed as well"


def test_a_fixed_number_of_seeds_knows_no_canary_and_a_ledger_read_again_sets_the_same_aside() -> None:
    fixed = lab("fixed")
    campaign = Campaign(setup_of(fixed))
    for _ in range(12):
        campaign.approve()
    assert canaries(drive(campaign, fixed, steady)) == []
    campaign, of = begun(10)
    drive(campaign, of, lambda arm, seed, canary: steady(arm, seed, canary) + 0.02 * canary)
    folded = State()
    for number, at, event in campaign.events:
        kind, data = e.dump(event)
        reduce(folded, number, at, e.load(kind, 1, orjson.dumps(data)))
    assert folded.set_aside == campaign.state.set_aside
    assert len(folded.set_aside) >= 8
    assert not [step for step in plan(folded, of, 2) if isinstance(step, Record)]


async def test_detectors_do_not_take_a_canary_for_a_run_of_the_trunk() -> None:
    campaign, of = begun(10)
    again = canaries(drive(campaign, of, steady))[0].shard
    state = campaign.state
    assert state.shards[again]["outcome"] == Outcome.FINISHED
    looked: list[str] = []

    def parsed(shard: str) -> Iterator[Parsed]:
        looked.append(shard)
        return iter(())

    core = SimpleNamespace(state=state, lab=of, ledger=SimpleNamespace(read_only=True), dir=of.state)
    detecting = Detecting(cast(Any, core), Live(of.metric.loss), parsed, lambda: None)
    await detecting.examine(again)
    assert looked == []
    trunk = state.shards[again]["experiment"]
    await detecting.examine(next(row["id"] for row in state.shards_of(trunk) if not row.get("canary")))
    assert looked
    assert again not in looked


def test_in_a_real_engine_the_canary_gives_what_the_run_that_it_repeats_gave(tiny: Callable[..., TinyLab]) -> None:
    lab = tiny(*[rate(1 + number / 100) for number in range(1, 11)], queue=10, slots=2, seeds=(0, 1, 2), extra=JUDGE)
    with lab.session() as session:
        wait_for(lambda: len(waiting(session)) == 10)
        for row in waiting(session):
            decide(session, row)
        found = wait_for(
            lambda: [row for row in rows(session, "shard").values() if row.get("canary") and row["state"] == "ended"]
        )
        shards = rows(session, "shard")
        assert [(row["id"], row["outcome"]) for row in found] == [("trunk-1.screen.s0.a2", "finished")]
        assert found[0]["metric"] == shards["trunk-1.screen.s0.a1"]["metric"]
        assert not [row for row in rows(session, "finding").values() if row["rule"] == "canary"]
        text = "SELECT count(*) FROM finals WHERE shard = 'trunk-1.screen.s0.a1'"
        wait_for(lambda: session.call("sql", text=text)["rows"] == [[1]])
