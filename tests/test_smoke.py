"""A very short run comes before any full one: what it stops, what it never counts as, and whose fault it says it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit import listing
from cockpit.model import ReadModel
from cockpit.summary import experiment_facts, main_shard, shard_facts, shard_seconds
from cockpit.widgets.overview import overview
from engine import events as e
from engine import smoke
from engine.campaign import Launch, plan, setup_of
from engine.lab import Lab, LabError, parse
from engine.money import minutes
from engine.rpc import NOT_NOW, RpcError
from engine.setups import setup_for
from engine.types import ExperimentState, Outcome, Verdict
from tests.campaigns import WHO, Campaign, wander
from tests.test_campaign import SOLID, TEXT, TRUNK, carry_out, launches, settle, verdicts
from tests.tinylab import CRASH, NONFINITE, TinyLab, better, decide, proposal, rate, rows, wait_for, waiting

Make = Callable[..., TinyLab]


def lab(budget: int = 1, climb: str = '["screen"]', more: str = "") -> Lab:
    return parse(TEXT.replace("CLIMB", climb) + f"\n[smoke]\nbudget = {budget}\n{more}", Path("/nowhere"))


LAB = lab()
SETUP = setup_of(LAB)
SMOKED = smoke.setup_for(SETUP, "smoke", LAB)


def begun(*, passed: bool = False) -> Campaign:
    campaign = Campaign(SETUP)
    if passed:
        campaign.smoke("trunk-1", SMOKED)
    return campaign


def steps(campaign: Campaign, slots: int = 4) -> list[str]:
    return [step.shard for step in plan(campaign.state, LAB, slots) if isinstance(step, Launch)]


# --- when it comes, and what follows ------------------------------------------------------------------------------------


def test_the_trunk_passes_one_then_each_experiment_does_before_any_full_run_of_its_own() -> None:
    campaign = begun()
    name = campaign.approve()
    assert steps(campaign) == ["trunk-1.smoke.s0.a1"], "the trunk's comes first: until then nobody is to blame"
    running = campaign.smoke("trunk-1", SMOKED, None)
    assert steps(campaign) == []
    campaign.write(e.ShardEnded(running, Outcome.FINISHED, ""))
    assert steps(campaign) == [f"{name}.smoke.s0.a1", *(f"trunk-1.screen.s{seed}.a1" for seed in range(3))]
    campaign.smoke(name, SMOKED)
    assert [step for step in steps(campaign, 9) if step.startswith(name)] == [
        f"{name}.screen.s{n}.a1" for n in range(3)
    ]


def test_smokes_come_first_but_only_for_what_is_raced_and_what_comes_next() -> None:
    campaign = begun(passed=True)
    campaign.run("trunk-1", TRUNK)
    for _ in range(9):
        campaign.approve()
    assert steps(campaign, 2) == ["0001.smoke.s0.a1", "0002.smoke.s0.a1"]
    for name in ("0001", "0002", "0003", "0004"):
        campaign.smoke(name, SMOKED)
    assert steps(campaign, 2) == ["0001.screen.s0.a1", "0002.screen.s0.a1"], "0005 waits until one of these is decided"


@pytest.mark.parametrize("outcome", [each for each in Outcome if each.own_fault])
def test_who_fails_it_by_their_own_fault_is_broken_and_never_runs_in_full(outcome: Outcome) -> None:
    campaign = begun(passed=True)
    campaign.run("trunk-1", TRUNK)
    name = campaign.approve()
    campaign.smoke(name, SMOKED, outcome)
    (event,) = verdicts(plan(campaign.state, LAB, 4))
    assert (event.verdict, event.rung, event.n, event.effect, event.final) == (Verdict.BROKEN, "smoke", 0, None, True)
    assert event.sentence == f"{outcome} in its smoke run, so no full run was started: what went wrong"
    settle(campaign, LAB)
    assert plan(campaign.state, LAB, 4) == []
    row = campaign.state.experiments[name]
    assert row["state"] == ExperimentState.JUDGED
    assert smoke.is_broken(row)
    assert campaign.state.shards[f"{name}.smoke.s0.a1"]["said"] == "last words"


@pytest.mark.parametrize("outcome", [Outcome.CRASHED, Outcome.TIMEOUT])
def test_a_trunk_that_fails_it_blames_nobody_and_starts_nothing_until_somebody_resumes(outcome: Outcome) -> None:
    campaign = begun()
    name = campaign.approve()
    campaign.smoke("trunk-1", SMOKED, outcome)
    assert plan(campaign.state, LAB, 4) == []
    assert campaign.state.experiments[name]["verdict"] is None
    campaign.trunk_moves()
    fresh = campaign.approve()
    assert steps(campaign) == ["trunk-2.smoke.s0.a1"], "what stands on a mended trunk is not held up"
    campaign.smoke("trunk-2", SMOKED)
    assert steps(campaign, 1) == [f"{fresh}.smoke.s0.a1"]
    campaign.write(e.Resumed(WHO))
    assert "trunk-1.smoke.s0.a2" in steps(campaign), "the lab may have been mended"


@pytest.mark.parametrize(("outcome", "tries"), [(Outcome.LOST, 2), (Outcome.KILLED, 3)])
def test_bad_luck_is_tried_again_and_then_left_open_for_a_resume(outcome: Outcome, tries: int) -> None:
    campaign = begun(passed=True)
    campaign.run("trunk-1", TRUNK)
    name, other = campaign.approve(), campaign.approve()
    campaign.smoke(other, SMOKED)
    for attempt in range(1, tries + 1):
        assert f"{name}.smoke.s0.a{attempt}" in steps(campaign)
        campaign.smoke(name, SMOKED, outcome)
    settle(campaign, LAB)
    row = campaign.state.experiments[name]
    assert (row["state"], row["verdict"] and row["verdict"]["verdict"]) == (ExperimentState.JUDGED, Verdict.UNDECIDED)
    assert launches(plan(campaign.state, LAB, 1)) == [(other, 0)], "it holds no place"
    campaign.write(e.Resumed(WHO))
    assert f"{name}.smoke.s0.a{tries + 1}" in steps(campaign)


def test_what_ran_in_full_already_needs_none_and_another_smoke_asks_nothing_of_it() -> None:
    campaign = begun()
    campaign.run("trunk-1", TRUNK)
    name = campaign.approve()
    campaign.run(name, SOLID[:1])
    settle(campaign, LAB)
    assert steps(campaign) == [f"{name}.screen.s1.a1", f"{name}.screen.s2.a1"]
    assert setup_of(lab(2)) == SETUP, "its budget is no part of how results are measured"
    assert smoke.setup_for(SETUP, "smoke", lab(2)) != SMOKED


# --- what it never is ---------------------------------------------------------------------------------------------------


def test_it_has_no_metric_and_stands_in_no_pair_no_mean_and_no_cost_of_a_seed() -> None:
    campaign = begun(passed=True)
    campaign.run("trunk-1", TRUNK)
    name = campaign.approve()
    shard = campaign.smoke(name, SMOKED)
    assert campaign.state.shards[shard]["metric"] is None
    assert campaign.state.shards[shard]["reported"] == 2.0
    assert verdicts(plan(campaign.state, LAB, 4)) == []
    _, before = minutes(campaign.state.shards.values(), campaign.state.experiments, 3, {}, 2e9, 0.0)
    campaign.run(name, SOLID[:1])
    _, after = minutes(campaign.state.shards.values(), campaign.state.experiments, 3, {}, 2e9, 0.0)
    assert after == pytest.approx(before), "three full shards were to come, and one of these three has run"
    campaign.run(name, SOLID)
    settle(campaign, LAB)
    verdict = campaign.state.experiments[name]["verdict"]
    assert verdict is not None
    assert (verdict["n"], verdict["verdict"]) == (3, Verdict.SOLID)
    model = ReadModel()
    model.apply(list(campaign.state.since(0)), campaign.state.head)
    facts = experiment_facts(model, model.experiments[name])
    assert facts.metric == pytest.approx(1.5)
    assert shard_facts(model, model.shards[shard]).name == "smoke"
    assert "smoke run, seed 0" in shard_facts(model, model.shards[shard]).what
    assert shard_seconds(model, None) == shard_seconds(model, "screen")
    listed = listing.experiments(list(campaign.state.since(0)))["experiments"][0]["shards"]
    assert {each["rung"] for each in listed} == {"screen"}


def test_the_runs_screen_calls_it_a_smoke_and_shows_what_it_printed_last() -> None:
    campaign = begun(passed=True)
    name = campaign.approve()
    shard = campaign.smoke(name, SMOKED, None)

    def shown() -> tuple[ReadModel, str]:
        model = ReadModel()
        model.apply(list(campaign.state.since(0)), campaign.state.head)
        lines = overview(model, model.experiments[name], None, 100, 30)
        return model, "\n".join(line.text for line in lines)

    model, _ = shown()
    assert experiment_facts(model, model.experiments[name]).word == "smoke"
    campaign.write(e.ShardEnded(shard, Outcome.CRASHED, "KeyError: 'x'", said="Traceback …\nKeyError: 'x'"))
    settle(campaign, LAB)
    model, text = shown()
    facts = experiment_facts(model, model.experiments[name])
    assert (facts.word, facts.steps, facts.metric) == ("broken", "smoke", None)
    assert "crashed in its smoke run, so no full run was started: KeyError: 'x'" in text
    assert "smoke crashed: KeyError" in text
    assert "Traceback …" in text
    assert main_shard(model, name) == shard, "whose log the screen shows"


@settings(max_examples=40, deadline=None)
@given(choices=st.lists(st.integers(0, 10_000), min_size=5, max_size=60), slots=st.integers(1, 4), data=st.data())
def test_whatever_happened_the_plan_is_sound_and_no_full_run_comes_before_its_smoke(
    choices: list[int], slots: int, data: st.DataObject
) -> None:
    tall = lab(climb='["screen", "confirm"]')
    campaign = Campaign(setup_of(tall))
    wander(campaign, choices)
    campaign.write(e.Resumed(WHO))
    ends = st.sampled_from([Outcome.FINISHED, Outcome.FINISHED, Outcome.CRASHED, Outcome.KILLED, Outcome.LOST])
    full_before = {row["experiment"] for row in campaign.state.shards.values()}
    for _ in range(2000):
        found = plan(campaign.state, tall, slots)
        fresh = [step for step in found if isinstance(step, Launch)]
        for step in fresh:
            assert step.shard not in campaign.state.shards
            passed = [row for row in campaign.state.shards_of(step.experiment) if row.get("smoke")]
            if not step.smoke and step.experiment not in full_before:
                assert any(row["outcome"] == Outcome.FINISHED for row in passed)
        launch(campaign, tall, found)
        if not found and not campaign.state.live:
            break
        for shard in list(campaign.state.live):
            if campaign.state.shards[shard].get("smoke"):
                trunk = campaign.state.shards[shard]["experiment"].startswith("trunk")
                campaign.write(e.ShardEnded(shard, Outcome.FINISHED if trunk else data.draw(ends), ""))
            else:
                campaign.end(shard, Outcome.FINISHED, 2.0)
    assert plan(campaign.state, tall, slots) == []
    for row in campaign.state.experiments.values():
        if row["role"] == "experiment":
            assert row["state"] not in (ExperimentState.QUEUED, ExperimentState.RUNNING), row


def launch(campaign: Campaign, of: Lab, found: list[Any]) -> None:
    """Carry a plan out, smokes and what a retuning wants too: these have setups of their own."""
    apart = [step for step in found if isinstance(step, Launch) and (step.smoke or step.retune)]
    carry_out(campaign, [step for step in found if step not in apart])
    for step in apart:
        if step.smoke:
            setup = setup_for(campaign.setup, "smoke", of)
            assert campaign.smoke(step.experiment, setup, None, step.seed) == step.shard
            continue
        setup = setup_for(campaign.setup, step.rung, of)
        began = campaign.intend(step.experiment, step.seed, step.rung, step.slot, setup=setup, retune=step.retune)
        assert began == step.shard
        campaign.write(e.ShardStarted(began, "pid 7"))


# --- the lab file -------------------------------------------------------------------------------------------------------


def test_the_smoke_is_the_first_rung_but_for_what_its_table_says() -> None:
    text = TEXT.replace("CLIMB", '["screen"]').replace('"{metrics}"', '"{metrics}", "{width}"')
    text = text.replace("budget = 5\n", "budget = 5\nwidth = 64\n").replace(
        "budget = 50\n", "budget = 50\nwidth = 128\n"
    )
    plain = parse(text + "\n[smoke]\nbudget = 1\n", Path("/nowhere"))
    assert plain.smoke is not None
    assert (plain.smoke.budget, plain.smoke.timeout_s, dict(plain.smoke.params)) == (1, 60.0, {"width": 64})
    own = parse(text + '\n[smoke]\nbudget = 2\ntimeout = "5s"\nwidth = 8\n', Path("/nowhere")).smoke
    assert own is not None
    assert (own.timeout_s, dict(own.params)) == (5.0, {"width": 8})
    assert plain.rung("smoke") is plain.smoke
    assert parse(text, Path("/nowhere")).smoke is None
    for wrong, says in (
        ("[smoke]\n", "smoke.budget: is missing. Fix: budget = 1"),
        ("[smoke]\nbudget = 1\ndepth = 3\n", "no command names {depth}"),
        ("[smoke]\nbudget = 0\n", "must be a whole number above 0"),
        ('[smoke]\nbudget = 1\n[rungs.smoke]\nbudget = 2\ntimeout = "1m"\nwidth = 1\n', "is what [smoke] is called"),
    ):
        with pytest.raises(LabError) as told:
            parse(text + "\n" + wrong, Path("/nowhere"))
        assert says in str(told.value)


# --- with real processes ------------------------------------------------------------------------------------------------


def judged(session: Any, name: str) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        row = rows(session, "experiment").get(name)
        return row if row and row["state"] == "judged" else None

    return dict(wait_for(done))


def test_a_crash_costs_a_smoke_and_a_good_idea_runs_in_full_after_its_own(tiny: Make) -> None:
    lab = tiny(better(1), CRASH, NONFINITE, smoke=True)
    with lab.session() as session:
        for row in wait_for(lambda: len(found := waiting(session)) == 3 and found):
            decide(session, row)
        good, bad, late = (judged(session, name) for name in ("0001", "0002", "0003"))
        assert (good["verdict"]["verdict"], good["verdict"]["n"]) == ("solid", 3)
        assert (bad["verdict"]["verdict"], bad["verdict"]["rung"]) == ("broken", "smoke")
        assert (late["verdict"]["verdict"], late["verdict"]["rung"]) == ("broken", "screen"), (
            "one step is not enough to tell"
        )
        shards = rows(session, "shard")
        assert [name for name in shards if name.startswith("0002")] == ["0002.smoke.s0.a1"]
        crashed = shards["0002.smoke.s0.a1"]
        assert (crashed["outcome"], crashed["metric"]) == ("crashed", None)
        assert "TypeError" in crashed["said"]
        assert "Traceback" in crashed["said"], "a few lines, not one"
        smokes = {name: row for name, row in shards.items() if row.get("smoke")}
        assert {row["experiment"] for row in smokes.values()} == {"trunk-1", "0001", "0002", "0003"}
        for name in ("trunk-1", "0001"):
            mine = sorted((row["started"], row["id"]) for row in shards.values() if row["experiment"] == name)
            assert mine[0][1] == f"{name}.smoke.s0.a1", "it comes first"
        assert all(row["metric"] is None for row in smokes.values())

        def ask(sql: str) -> Any:
            return session.call("sql", text=sql)["rows"]

        assert ask("SELECT count(*) FROM finals WHERE rung = 'smoke'") == [[0]]
        assert ask("SELECT count(*) FROM runs WHERE rung = 'smoke'") == [[0]]
        assert ask("SELECT run, outcome FROM smokes WHERE outcome != 'finished'") == [["0002.smoke.s0.a1", "crashed"]]
        ranked = session.call("rank")["experiments"]
        assert next(each["id"] for each in ranked) == "0001"
        listed = {each["id"]: [shard["rung"] for shard in each["shards"]] for each in ranked}
        assert listed["0001"] == ["screen"] * 3
        assert listed["0002"] == ["smoke"]
        failures = session.call("sql", query="failures")
        assert dict(zip(failures["columns"], failures["rows"][0], strict=True))["at_smoke"] in (0, 1)
        with pytest.raises(RpcError, match="never had a full run") as told:
            session.call("sign", experiment="0002", diff_hash="", request_id="sign")
        assert told.value.code == NOT_NOW
        checks = session.call("verify")["checks"]
        assert all(check["ok"] for check in checks), checks


def test_when_the_trunk_itself_fails_its_smoke_the_lab_is_said_to_be_at_fault(tiny: Make) -> None:
    wrong = "    bottom = 3.0 + 0 // (steps - 1)"
    lab = tiny(better(1), smoke=True)
    text = (lab.root / "train.py").read_text()
    (lab.root / "train.py").write_text(text.replace("    loss = bottom\n", f"{wrong}\n    loss = bottom\n", 1))
    lab.git("commit", "-qam", "A schedule that divides by the steps less one")
    with lab.session() as session:
        phase = wait_for(
            lambda: (said := session.call("status")["phase"]).startswith("the trunk itself fails") and said
        )
        assert "the lab is at fault, not an experiment: ZeroDivisionError" in phase
        assert "[smoke] in cockpit.toml" in phase
        decide(session, wait_for(lambda: waiting(session))[0])
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("commit"))
        assert list(rows(session, "shard")) == ["trunk-1.smoke.s0.a1"]
        assert rows(session, "experiment")["0001"]["verdict"] is None


def test_without_a_smoke_nothing_is_different(tiny: Make) -> None:
    lab = tiny(proposal("A broken idea", "    loss = bottom", "    loss = bottom[0]", "architecture"), rate(2.0))
    with lab.session() as session:
        decide(session, wait_for(lambda: waiting(session))[0])
        assert judged(session, "0001")["verdict"]["rung"] == "screen"
        assert not [row for row in rows(session, "shard").values() if "smoke" in row]
