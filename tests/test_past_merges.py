"""What merges claimed is held against what the trunk has gained by them: on seeds that nobody has seen."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from cockpit import cli
from cockpit.attach import Session
from engine import events as e
from engine.campaign import Cancel, Launch, Record, plan, setup_of
from engine.confirming import seeds_for
from engine.found import open_findings
from engine.judge.kinds import MARGIN, margin_left
from engine.lab import Lab, parse
from engine.past_merges import PATIENCE, claim_of, due, rung_of
from engine.state import CANARY
from engine.types import AuditState, ExperimentRow, Outcome
from tests.campaigns import Campaign
from tests.test_campaign import TEXT, TRUNK, settle
from tests.test_crash import anchored, assert_whole, gains
from tests.tinylab import TinyLab, decide, proposal, rows, wait_for, waiting

Make = Callable[..., TinyLab]


def lab(every: int = 2, judge: str = "", old: str = "", new: str = "") -> Lab:
    text = TEXT.replace("CLIMB", '["screen"]').replace(old, new)
    return parse(f"{text}\n[judge]\naudit = {every}\n{judge}", Path("/nowhere"))


LAB = lab()


def merge(campaign: Campaign, of: Lab = LAB, gain: float = 0.4, claims: str = "") -> str:
    """An experiment gains so much on the present trunk, and is merged."""
    arm = campaign.state.trunk_arm
    if not campaign.state.shards_of(arm):
        campaign.run(arm, TRUNK)
    name = campaign.approve(campaign.propose(claims=claims))
    campaign.run(name, [trunk - gain - spread for trunk, spread in zip(TRUNK, (0.0, 0.01, -0.01), strict=True)])
    settle(campaign, of)
    campaign.write(e.MergeDone(name, f"{name:0>40}", f"{name:1>40}"))
    campaign.trunk_moves(f"{name:0>40}", f"{name:1>40}")
    settle(campaign, of)
    return name


def merges(*gains: float, of: Lab = LAB) -> Campaign:
    campaign = Campaign(setup_of(of))
    for gain in gains:
        merge(campaign, of, gain)
    return campaign


def wanted(campaign: Campaign, of: Lab = LAB, slots: int = 30) -> list[tuple[str, int]]:
    return [(step.experiment, step.seed) for step in plan(campaign.state, of, slots) if isinstance(step, Launch)]


def run_pair(campaign: Campaign, seed: int, gain: float, then: str = "trunk-1", now: str = "trunk-3") -> None:
    for arm, metric in ((then, 2.0), (now, 2.0 - gain)):
        campaign.end(campaign.start(arm, seed, fresh=True), Outcome.FINISHED, metric)


def last(campaign: Campaign) -> dict[str, object]:
    return dict(next(reversed(campaign.state.audits.values())))


def findings(campaign: Campaign) -> list[e.FindingNoted]:
    return [event for _, _, event in campaign.events if isinstance(event, e.FindingNoted)]


# --- when, and of what -------------------------------------------------------------------------------------------------


def test_after_so_many_merges_the_trunk_before_them_runs_beside_the_trunk_after_them() -> None:
    campaign = merges(0.4)
    assert campaign.state.audits == {}
    merge(campaign)
    found = last(campaign)
    assert (found["then"], found["now"], found["state"]) == ("trunk-1", "trunk-3", AuditState.RUNNING)
    ours = [each for each in wanted(campaign) if each[1] >= 1000]
    assert ours == [(arm, seed) for seed in range(1000, 1004) for arm in ("trunk-1", "trunk-3")]
    assert not set(seeds_for(campaign.state, LAB, "0001")) & set(campaign.state.audit_plans["a0001"].seeds)


def test_a_lab_that_asks_for_none_is_never_audited() -> None:
    never = lab(0)
    campaign = merges(0.4, 0.4, 0.4, of=never)
    assert (campaign.state.audits, due(campaign.state, never, campaign.setup)) == ({}, None)
    fixed = parse(TEXT.replace("CLIMB", '["screen"]'), Path("/nowhere"))
    fast = parse(TEXT.replace("CLIMB", '["screen"]') + '\n[judge]\nmode = "fast"\n', Path("/nowhere"))
    assert (fixed.judge.audit, fast.judge.audit) == (0, 5)


def test_it_comes_after_the_first_pairs_of_open_experiments_and_before_their_second_ones() -> None:
    campaign = merges(0.4, 0.4)
    names = [campaign.approve(), campaign.approve()]
    order = wanted(campaign)
    audit = [place for place, (_, seed) in enumerate(order) if seed >= 1000]
    assert {order[place] for place in range(audit[0])} == {(name, 0) for name in (*names, "trunk-3")}
    assert len(audit) == 8
    assert audit == list(range(audit[0], audit[0] + 8))
    assert all(seed > 0 for _, seed in order[audit[-1] + 1 :])


def test_it_comes_to_its_end_also_where_first_pairs_never_end() -> None:
    campaign = merges(0.4, 0.4)
    campaign.run("trunk-3", TRUNK)
    for _ in range(PATIENCE - len(TRUNK)):
        name = campaign.approve()
        assert wanted(campaign, slots=1) == [(name, 0)]
        campaign.end(campaign.start(name, 0), Outcome.CRASHED)
        settle(campaign, LAB)
    campaign.approve()
    assert wanted(campaign, slots=1) == [("trunk-1", 1000)]
    campaign.end(campaign.start("trunk-1", 1000, fresh=True), Outcome.FINISHED, 2.0)
    assert wanted(campaign, slots=1)[0][1] == 0, "and the next of them waits again"


def test_what_a_merge_claims_is_its_headline_else_its_shrunk_gain_and_no_gain_where_it_promised_none() -> None:
    campaign = merges(0.4)
    speed = merge(campaign, claims="speed")
    simpler = merge(campaign, claims="simplification")
    shrunk = claim_of(campaign.state.experiments["0001"])
    assert shrunk["by"] == "shrunk"
    assert shrunk["claimed"] == pytest.approx(0.4), "no more than was measured, however coarse the posterior is"
    for name in (speed, simpler):
        assert claim_of(campaign.state.experiments[name]) == {
            "experiment": name,
            "claimed": 0.0,
            "within": 0.0,
            "by": "nothing",
        }
    row = campaign.state.experiments["0001"]
    off = {"state": "confirmed", "mean": 0.25, "lo": 0.2, "hi": 0.3, "n": 3, "sentence": "", "by": "", "pairs": []}
    headed = claim_of({**row, "signoff": off})  # type: ignore[typeddict-item]
    assert headed == {"experiment": "0001", "claimed": 0.25, "within": pytest.approx(0.05), "by": "headline"}


# --- what it says ------------------------------------------------------------------------------------------------------


def test_claims_that_hold_are_written_down_and_nothing_is_found() -> None:
    campaign = merges(0.4, 0.4)
    for seed in range(1000, 1004):
        assert last(campaign)["state"] == AuditState.RUNNING
        run_pair(campaign, seed, 0.8 + seed % 2 / 100)
        settle(campaign, LAB)
    found = last(campaign)
    assert (found["state"], len(found["pairs"])) == (AuditState.HELD, 4)  # type: ignore[arg-type]
    assert found["audited"] == pytest.approx(0.805)
    assert "2 merges claimed +0.8000" in str(found["sentence"])
    assert "what was claimed holds" in str(found["sentence"])
    assert findings(campaign) == []
    assert [step for step in plan(campaign.state, LAB, 30) if isinstance(step, Launch) and step.fresh] == []


def test_more_than_was_gained_is_a_finding_about_the_trunk_that_bars_nothing_and_is_noted_once() -> None:
    campaign = merges(0.4, 0.4)
    waits = campaign.approve()
    for seed in range(1000, 1004):
        run_pair(campaign, seed, 0.3 + seed % 2 / 100)
    settle(campaign, LAB)
    assert last(campaign)["state"] == AuditState.OVERCLAIMED
    (finding,) = findings(campaign)
    assert (finding.rule, finding.severity, finding.about) == ("over-claimed", "warning", "trunk-3")
    assert finding.place == "the trunk, from trunk-1 to trunk-3"
    assert set(finding.evidence) == {"claimed", "within", "audited", "lo", "hi"}
    assert all(open_findings(campaign.state, name) == [] for name in ("0001", "0002", waits))
    assert campaign.state.audited == 2


def test_the_budget_for_margins_begins_anew_with_an_audit() -> None:
    campaign = Campaign(setup_of(LAB))
    merge(campaign, claims="simplification")
    merge(campaign, claims="simplification")
    merge(campaign, claims="simplification")  # while the audit of the first two is going on
    assert margin_left([MARGIN] * campaign.state.simplified) == 0.5
    for seed in range(1000, 1004):
        run_pair(campaign, seed, 0.8 + seed % 2 / 100)
    settle(campaign, LAB)
    assert (campaign.state.simplified, campaign.state.audited) == (1, 2)
    assert margin_left([MARGIN] * campaign.state.simplified) == 1.5


def test_when_the_machine_changes_on_the_way_both_sides_run_again() -> None:
    campaign = merges(0.4, 0.4)
    run_pair(campaign, 1000, 0.8)
    canary = campaign.start("trunk-3", 0, canary=True)
    campaign.end(canary, Outcome.FINISHED, 9.0)
    campaign.write(e.FindingNoted("f00009", canary, CANARY, "warning", "it moved"))
    again = {(arm, seed) for arm, seed in wanted(campaign) if seed == 1000}
    assert again == {("trunk-1", 1000), ("trunk-3", 1000)}


def test_the_rung_of_what_was_merged_as_a_bundle_is_its_own() -> None:
    campaign = merges(0.4, 0.4)
    bundles = [
        {**row, "verdict": None, "rung": "screen"}
        for row in campaign.state.experiments.values()
        if row["role"] == "experiment"
    ]
    of = parse(TEXT.replace("CLIMB", '["screen", "confirm"]'), Path("/nowhere"))
    assert rung_of(of, cast(list[ExperimentRow], bundles)) == "screen"


def test_a_trunk_that_fails_where_the_old_one_does_not_is_found_and_an_old_one_that_fails_takes_another_seed() -> None:
    campaign = merges(0.4, 0.4)
    for arm in ("trunk-1", "trunk-3"):
        campaign.end(campaign.start(arm, 1000, fresh=True), Outcome.CRASHED)
    settle(campaign, LAB)
    assert {seed for _, seed in wanted(campaign) if seed >= 1000} == {1001, 1002, 1003, 1004}
    campaign.end(campaign.start("trunk-1", 1001, fresh=True), Outcome.FINISHED, 2.0)
    left = campaign.start("trunk-1", 1002, fresh=True)
    campaign.end(campaign.start("trunk-3", 1001, fresh=True), Outcome.DIVERGED)
    settle(campaign, LAB)
    assert last(campaign)["state"] == AuditState.BROKE
    assert [each.rule for each in findings(campaign)] == ["trunk-broke"]
    assert Cancel(left) in plan(campaign.state, LAB, 4)


def test_what_is_lost_too_often_ends_it_and_the_next_merge_tries_again_with_seeds_of_its_own() -> None:
    campaign = merges(0.4, 0.4)
    for _ in range(2):
        assert ("trunk-1", 1000) in wanted(campaign)
        campaign.end(campaign.start("trunk-1", 1000, fresh=True), Outcome.LOST)
    settle(campaign, LAB)
    assert last(campaign)["state"] == AuditState.VOID
    assert "was lost and is not run again" in str(last(campaign)["sentence"])
    assert (due(campaign.state, LAB, campaign.setup), campaign.state.audited) == (None, 0)
    merge(campaign)
    again = campaign.state.audit_plans["a0002"]
    assert (again.then, again.now, len(again.claims)) == ("trunk-1", "trunk-4", 3)
    assert 1000 not in again.seeds


def test_other_settings_begin_it_again_at_once_and_nothing_is_said_while_they_are_not_known() -> None:
    campaign = merges(0.4, 0.4)
    other = lab(old="budget = 5\n", new="budget = 7\n")
    assert [step for step in plan(campaign.state, other, 4, launching=False) if isinstance(step, Record)] == []
    settle(campaign, other)
    assert [row["state"] for row in campaign.state.audits.values()] == [AuditState.VOID, AuditState.RUNNING]
    assert campaign.state.audit_plans["a0002"].setup == setup_of(other)


def test_a_trunk_that_moves_meanwhile_does_not_touch_it_and_a_pull_between_is_said() -> None:
    campaign = merges(0.4)
    campaign.trunk_moves()  # the researcher pulled their branch
    merge(campaign)
    assert (last(campaign)["then"], last(campaign)["now"]) == ("trunk-1", "trunk-4")
    campaign.trunk_moves()
    settle(campaign, LAB)
    for seed in range(1000, 1004):
        run_pair(campaign, seed, 0.8 + seed % 2 / 100, now="trunk-4")
    settle(campaign, LAB)
    assert last(campaign)["state"] == AuditState.HELD
    assert "the trunk was moved in 1 other way between the two" in str(last(campaign)["sentence"])


# --- with a real engine ------------------------------------------------------------------------------------------------

AUDITED = "\n[judge]\naudit = 2\n"


def flattered(number: int) -> str:
    """It gains on the seeds that everybody looks at, and loses on all others."""
    gain = f"    bottom -= (0.2 if seed < 100 else -0.2) + 0.01 * noise(seed, {number})"
    return proposal(f"Step {number} helps where one looks", f"# anchor {number}", gain, "schedule")


def sign_all(session: Session, count: int) -> None:
    """Approve and sign what waits, one after the other, as often as the trunk moves under the next."""
    for row in waiting(session):
        decide(session, row)
    for number in range(count):
        row = wait_for(lambda: _solid(session))
        shown = rows(session, "proposal")[row["proposal"]]["diff_hash"]
        session.call("sign", experiment=row["id"], diff_hash=shown, request_id=f"s{number}-{row['id']}")
        wait_for(lambda name=row["id"]: rows(session, "experiment")[name]["state"] == "merged")


def _solid(session: Session) -> dict[str, object] | None:
    found = [row for row in rows(session, "experiment").values() if row["role"] == "experiment"]
    return next((row for row in found if row["state"] == "judged" and row["verdict"]["verdict"] == "solid"), None)


def test_what_was_flattered_is_found_out_and_is_in_sql_in_the_book_and_beside_the_trunk(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(flattered(0), flattered(1), extra=AUDITED)
    anchored(lab, 2)
    with lab.session() as session:
        wait_for(lambda: len(waiting(session)) == 2)
        sign_all(session, 2)
        row = wait_for(lambda: (found := rows(session, "audit").get("a0001")) and found["ended"] and found)
        assert row["state"] == "over-claimed"
        assert row["claimed"] > 0.05
        assert row["audited"] < -0.3
        finding = wait_for(
            lambda: [each for each in rows(session, "finding").values() if each["rule"] == "over-claimed"]
        )
        assert (finding[0]["about"], finding[0]["severity"]) == ("trunk-3", "warning")
        sql = "SELECT trunk_then, trunk_now, claimed, audited, lo, hi, n, len(pairs), claims[1].by FROM audits"
        numbers = [pytest.approx(row[name]) for name in ("claimed", "audited", "lo", "hi")]
        assert session.call("sql", text=sql)["rows"] == [["trunk-1", "trunk-3", *numbers, 4, 4, "shrunk"]]
        assert session.call("status")["audit"]["last"]["id"] == "a0001"

        def said(*words: str) -> str:
            capsys.readouterr()
            assert cli.main(["-C", str(lab.root), *words]) == 0
            return capsys.readouterr().out

        assert row["sentence"] in said("trunk")
        assert row["sentence"] in said("status")
        assert "more was claimed than was gained" in said("ledger", "show")
        entry = json.loads(said("ledger", "show", "--json"))["decisions"][-1]
        assert (entry["action"], entry["shown"]["audit"]["claimed"]) == ("audit", pytest.approx(row["claimed"]))
    assert_whole(lab)


POINTS = (
    "audit.intent",
    *(f"{act}.{stage}" for act in ("launch", "end", "score") for stage in ("intent", "done")),
    "audit.done",
)
"""In the order in which one audit passes them."""


def test_killed_anywhere_on_the_way_an_audit_goes_on_and_runs_nothing_twice(tiny: Make) -> None:
    lab = tiny(*gains(2), extra=AUDITED)
    anchored(lab, 2)
    with lab.session() as session:
        wait_for(lambda: len(waiting(session)) == 2)
        sign_all(session, 1)
        row = wait_for(lambda: _solid(session))
        shown = rows(session, "proposal")[str(row["proposal"])]["diff_hash"]
        wait_for(lambda: session.call("status")["running"] == 0)
    lab.stop()
    for point in POINTS:
        engine = lab.start(COCKPIT_CRASH_AT=point)

        def sign(session: Session) -> None:
            session.call("sign", experiment=row["id"], diff_hash=shown, request_id="s9")

        wait_for(lambda engine=engine: lab.dies(engine, sign), 240)
        assert engine.wait(1) == -signal.SIGKILL, point
    with lab.session() as session:
        found = wait_for(lambda: (row := rows(session, "audit")["a0001"]) and row["ended"] and row)
        assert (found["state"], len(found["pairs"])) == ("held", 4)
        wait_for(lambda: session.call("status")["running"] == 0)
        fresh = [each for each in rows(session, "shard").values() if each.get("fresh")]
        assert len(fresh) == len({(each["experiment"], each["seed"]) for each in fresh}) == 8
        assert list(rows(session, "audit")) == ["a0001"]
    assert_whole(lab)
