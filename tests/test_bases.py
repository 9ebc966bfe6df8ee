"""A model of twice the width wins at equal tokens by compute alone: what it cost is measured, and so is what that is worth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import events as e
from engine.campaign import Launch, plan, setup_of
from engine.halfway import Measures
from engine.history.store import Store
from engine.judge.bases import Basis, cost, ratios, time_spread, worth_on_record
from engine.lab import Lab, LabError, parse
from engine.setups import setup_for
from engine.types import HALF, ExperimentState, Outcome, ShardState, Verdict
from tests.campaigns import Campaign
from tests.test_campaign import TEXT, carry_out
from tests.test_racing import TRUNK
from tests.tinylab import TinyLab, proposal, rows, wait_for, waiting
from tests.tinylab import decide as decide_on

Make = Callable[..., TinyLab]

KAPPA = 0.2
"""What ln(steps) is worth to the trunk of these campaigns."""

HIGHER = KAPPA * math.log(2)
"""How far above its full runs the trunk therefore ends at half its length."""

NORMAL = Measures(steps=5, tokens=5000.0, flops=1e6, speed=800.0)
WIDE = Measures(steps=5, tokens=5000.0, flops=2e6, speed=420.0)


def lab(compare: str = "flops", mode: str = "fast") -> Lab:
    text = TEXT.replace("CLIMB", '["screen"]').replace('source = "jsonl"', f'source = "jsonl"\ncompare = "{compare}"')
    text = text.replace("budget = 5\n", "budget = 6\n")
    return parse(f'{text}\n[judge]\nmode = "{mode}"\ncalibration = 8\n', Path("/nowhere"))


def race(
    campaign: Campaign,
    of: Lab,
    gains: Mapping[str, float],
    costs: Mapping[str, Measures],
    half: float | Outcome = HIGHER,
    uneven: Sequence[float] = (1.0,),
) -> list[Launch]:
    """Carry out plans until nothing is left to do: experiments gain by name and cost by name, and the trunk's shorter runs
    end `half` above its full ones, or as it says. `uneven` are factors of the speed by seed, alike on both sides. Returns
    what was launched."""
    ran: list[Launch] = []
    for _ in range(200):
        steps = plan(campaign.state, of, 2)
        if not steps:
            return ran
        launches = [step for step in steps if isinstance(step, Launch)]
        carry_out(campaign, [step for step in steps if not isinstance(step, Launch)])
        for step in launches:
            setup = setup_for(setup_of(of), step.rung, of)
            assert campaign.intend(step.experiment, step.seed, step.rung, step.slot, setup=setup) == step.shard
            campaign.write(e.ShardStarted(step.shard, "pid 7"))
            found = costs.get(step.experiment, NORMAL)
            if step.rung == HALF and isinstance(half, Outcome):
                campaign.end(step.shard, half)
                continue
            above = half if step.rung == HALF else -gains.get(step.experiment, 0.0) * (1 + step.seed / 50)
            speed = (found.speed or 0.0) * uneven[step.seed % len(uneven)]
            said = (found.steps, None, None, "", found.tokens, found.flops, speed, found.parameters)
            campaign.write(e.ShardMeasured(step.shard, *said))
            campaign.end(step.shard, Outcome.FINISHED, TRUNK[step.seed] + above)
        ran += launches
    raise AssertionError("the race does not come to an end")


def raced(of: Lab, gain: float, cost_of_it: Measures = WIDE, **more: Any) -> tuple[Any, list[Launch]]:
    """The verdict on one experiment with that gain at equal tokens, and what ran."""
    campaign = Campaign(setup_of(of))
    name = campaign.approve(campaign.propose(category="architecture"))
    ran = race(campaign, of, {name: gain}, {name: cost_of_it}, **more)
    return campaign.state.experiments[name], ran


# --- what is measured


def test_a_cost_is_tokens_or_steps_and_what_each_of_them_takes() -> None:
    assert cost(NORMAL, "tokens") == 5000
    assert cost(Measures(steps=5), "tokens") == 5
    assert cost(NORMAL, "flops") == 5e9
    assert cost(NORMAL, "time") == pytest.approx(6.25)
    assert cost(Measures(steps=5), "flops") is None
    assert cost(Measures(), "tokens") is None
    assert ratios({0: NORMAL, 1: NORMAL}, {0: WIDE, 1: WIDE, 2: Measures(tokens=9e9)}) == pytest.approx(
        {"tokens": 1.0, "flops": 2.0, "time": 800 / 420}
    )
    assert ratios({0: NORMAL}, {1: WIDE}) == {}
    assert ratios({0: NORMAL}, {0: Measures(tokens=1e300, flops=1e300)}) == {}, "no cost is a million times another"


def test_times_differ_only_when_they_differ_by_more_than_equal_runs_do() -> None:
    runs = [Measures(tokens=1.0, speed=speed) for speed in (100.0, 104.0, 96.0, 101.0)]
    least = time_spread(runs)
    assert 0.08 < least < 0.12
    assert Basis("time", {"time": 1.08}, 0.2, {"time": least}).shift == 0
    assert Basis("time", {"time": 1.2}, 0.2, {"time": least}).shift == pytest.approx(0.2 * math.log(1.2))
    assert time_spread(runs[:1]) == 0


@given(st.floats(0.1, 10), st.floats(0, 1), st.floats(-1, 1))
def test_more_compute_never_adds_to_a_gain_and_less_never_takes_from_it(
    ratio: float, kappa: float, measured: float
) -> None:
    shown = Basis("flops", {"tokens": 1.0, "flops": ratio}, kappa).row(measured)
    if shown is None:
        assert abs(math.log(ratio)) <= 0.01
        return
    assert shown["tokens"]["effect"] == measured
    assert (shown["flops"]["effect"] <= measured) if ratio > 1 else (shown["flops"]["effect"] >= measured)


# --- what follows from it


def test_twice_as_wide_is_solid_at_equal_tokens_and_not_at_equal_flops() -> None:
    by_tokens, ran = raced(lab("tokens"), 0.05)
    assert by_tokens["verdict"]["verdict"] == Verdict.SOLID
    assert not [step for step in ran if step.rung == HALF], "nothing has to be corrected"
    assert by_tokens["verdict"]["bases"]["flops"] == {"ratio": 2.0, "effect": None}, "its cost is shown all the same"

    by_flops, ran = raced(lab("flops"), 0.05)
    assert sorted(step.seed for step in ran if step.rung == HALF) == [0, 1, 2]
    verdict = by_flops["verdict"]
    assert (by_flops["state"], verdict["verdict"]) == (ExperimentState.JUDGED, Verdict.HARMFUL)
    assert verdict["effect"] == pytest.approx(0.05 - HIGHER, abs=0.003)
    assert verdict["bases"]["kappa"] == pytest.approx(KAPPA)
    assert verdict["bases"]["tokens"]["effect"] == pytest.approx(0.05, abs=0.003)
    assert verdict["bases"]["flops"]["effect"] == pytest.approx(verdict["effect"])
    assert "this is at equal FLOPs, of which it took 2x: as measured +0.05" in verdict["sentence"]
    assert by_flops["pairs"][0]["difference"] == pytest.approx(0.05, abs=0.003), "pairs show what was measured"


def test_a_gain_that_its_compute_does_not_explain_is_solid_at_equal_flops() -> None:
    row, _ = raced(lab("flops"), 0.3)
    assert row["verdict"]["verdict"] == Verdict.SOLID
    assert row["verdict"]["effect"] == pytest.approx(0.3 - HIGHER, abs=0.02)


def test_a_smaller_model_gets_back_what_it_saves() -> None:
    narrow = Measures(steps=5, tokens=5000.0, flops=0.5e6, speed=1500.0)
    assert raced(lab("tokens"), -0.02, narrow)[0]["verdict"]["verdict"] != Verdict.SOLID
    assert raced(lab("flops"), -0.02, narrow)[0]["verdict"]["verdict"] == Verdict.SOLID


def test_what_costs_the_same_is_judged_as_ever_and_runs_nothing_more() -> None:
    row, ran = raced(lab("flops"), 0.05, NORMAL)
    assert row["verdict"]["verdict"] == Verdict.SOLID
    assert "bases" not in row["verdict"]
    assert not [step for step in ran if step.rung == HALF]


def test_three_fixed_seeds_are_corrected_in_the_same_way() -> None:
    row, ran = raced(lab("flops", "fixed"), 0.05)
    assert len([step for step in ran if step.rung == HALF]) == 3
    assert row["verdict"]["verdict"] in (Verdict.HARMFUL, Verdict.NOT_SOLID)
    assert row["verdict"]["effect"] == pytest.approx(0.05 - HIGHER, abs=0.003)


def test_a_trunk_that_fails_at_half_its_length_leaves_the_matter_open_and_says_so() -> None:
    row, ran = raced(lab("flops"), 0.05, half=Outcome.CRASHED)
    assert (row["state"], row["verdict"]["verdict"]) == (ExperimentState.JUDGED, Verdict.UNDECIDED)
    assert "2x what the trunk does in FLOPs" in row["verdict"]["sentence"]
    assert len([step for step in ran if step.rung == HALF]) <= 2, "more of the same would say no more"


def test_a_lost_shorter_run_is_made_again_and_others_wait_for_it() -> None:
    of = lab("flops")
    campaign = Campaign(setup_of(of))
    name = campaign.approve(campaign.propose(category="architecture"))
    race(campaign, of, {name: 0.05}, {name: WIDE}, half=Outcome.LOST)
    halves = [row for row in campaign.state.shards_of("trunk-1") if row["rung"] == HALF]
    assert sorted((row["seed"], row["attempt"]) for row in halves) == [(s, a) for s in (0, 1, 2) for a in (1, 2)]
    assert all(row["state"] == ShardState.ENDED for row in halves)


def test_no_rung_of_the_lab_may_have_that_name() -> None:
    text = TEXT.replace("CLIMB", '["screen"]').replace("[rungs.confirm]", "[rungs.half-length]")
    with pytest.raises(LabError, match="short runs of the trunk"):
        parse(text, Path("/nowhere"))


def test_half_the_length_is_half_the_budget_under_the_same_name() -> None:
    of = lab()
    rung = of.rung(HALF)
    assert (rung.budget, of.values(rung, 0, Path("/run"))["rung"]) == (3, "screen")


def test_sql_reaches_every_basis(tmp_path: Path) -> None:
    of = lab("flops")
    campaign = Campaign(setup_of(of))
    name = campaign.approve(campaign.propose(category="architecture"))
    race(campaign, of, {name: 0.05}, {name: WIDE})
    store = Store.open(tmp_path / "history.duckdb")
    events = [
        {"n": n, "t": t, **dict(zip(("type", "data"), e.dump(event), strict=True))} for n, t, event in campaign.events
    ]
    store.index(list(campaign.state.rows.values()), json.loads(json.dumps(events)), campaign.state.head)
    store.close()
    with duckdb.connect(str(tmp_path / "history.duckdb"), read_only=True) as con:
        columns = "compare, flops_ratio, round(effect_tokens, 2), effect_flops < 0, abs(effect - effect_flops) < 1e-9"
        asked = f"SELECT {columns} FROM experiments WHERE id = ?"
        assert con.execute(asked, [name]).fetchone() == ("flops", 2.0, 0.05, True, True)
        assert con.execute("SELECT count(*) FROM verdicts WHERE kappa > 0.19").fetchone() != (0,)


def test_what_a_verdict_was_corrected_by_can_be_read_off_it_when_its_runs_are_set_aside() -> None:
    equal = Basis("flops", ratios({0: NORMAL}, {0: WIDE}), kappa=0.3)
    shown = equal.row(0.25)
    assert worth_on_record(shown, [0.2, 0.3, None]) == pytest.approx(equal.shift)
    assert worth_on_record(None, [0.2]) == 0.0, "both sides cost the same"
    assert worth_on_record(shown, []) == 0.0


# --- in a real engine


def test_a_lab_that_compares_flops_runs_its_trunk_at_half_the_length_when_a_wider_model_asks_for_it(
    tiny: Make,
) -> None:
    """The trunk's training gets better with its length, and a token takes FLOPs as the model is wide."""
    lab = tiny(
        proposal("Twice as wide", "WIDTH = 8", "WIDTH = 16", "architecture"),
        slots=2, steps=8, off=("large-gain", "no-op"), extra='[judge]\nmode = "fast"\ncalibration = 3\n',
    )  # fmt: skip
    train = (lab.root / "train.py").read_text()
    train = train.replace('"tokens": steps * 10', '"tokens": steps * 10, "flops_per_token": 100 * WIDTH')
    train = train.replace("bottom = 3.0 ", "bottom = 3.0 - 0.3 * math.log(steps) - 0.002 * WIDTH ")
    train = train.replace('"step": step, "loss"', '"step": step + 1, "loss"')  # so that its budget is seen to be steps
    (lab.root / "train.py").write_text(train)
    config = (lab.root / "cockpit.toml").read_text()
    (lab.root / "cockpit.toml").write_text(config.replace('loss = "loss"', 'loss = "loss"\ncompare = "flops"'))
    lab.git("commit", "-qam", "Compare at equal FLOPs")
    lab.start()
    with lab.session() as session:
        row = wait_for(lambda: next(iter(waiting(session)), None))
        decide_on(session, row)
        judged = wait_for(lambda: _judged(session))
        shards = rows(session, "shard").values()
        halves = [each for each in shards if each["rung"] == HALF]
        assert sorted((each["seed"], each["outcome"]) for each in halves) == [(n, "finished") for n in (0, 1, 2)]
        bases = judged["verdict"]["bases"]
        assert bases["kappa"] == pytest.approx(0.3, abs=0.02)
        assert (bases["flops"]["ratio"], bases["flops"]["effect"] < 0 < bases["tokens"]["effect"]) == (2.0, True)
        assert judged["verdict"]["verdict"] in (Verdict.HARMFUL, Verdict.NOT_SOLID)
        assert "step-budget" in rows(session, "lab")["lab"]["detectors"]["active"], (
            "a shorter run puts nothing to sleep"
        )


def _judged(session: Any) -> Any:
    row = rows(session, "experiment").get("0001")
    return row if row and row["verdict"] and row["verdict"]["effect"] is not None and row["state"] == "judged" else None
