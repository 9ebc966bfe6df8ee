"""A signature waits for seeds that nobody has seen: what they bear out is merged by itself, and what they do not is not."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cockpit.attach import Session
from engine import events as e
from engine.campaign import Cancel, Launch, Record, may_launch, plan, setup_of
from engine.confirming import seeds_for
from engine.lab import Lab, parse
from engine.rpc import NOT_NOW, RpcError
from engine.setups import setup_for
from engine.signing import merge_confirmed
from engine.types import HALF, ExperimentState, Outcome
from tests.campaigns import WHO, Campaign
from tests.test_campaign import SOLID, TEXT, TRUNK, settle
from tests.test_crash import assert_whole
from tests.tinylab import TinyLab, better, decide, proposal, rows, wait_for, waiting

Make = Callable[..., TinyLab]
FRESH = "\n[judge]\nfresh = true\n"
FLATTERED = proposal(
    "It helps on the seeds that everybody looks at",
    "    loss = bottom",
    "    bottom -= (0.2 if seed < 100 else -0.2) + 0.01 * noise(seed, 7)\n    loss = bottom",
)
LAB_TEXT = TEXT.replace("CLIMB", '["screen"]').replace("budget = 5\n", "budget = 6\n") + FRESH
LAB = parse(LAB_TEXT, Path("/nowhere"))


def signed(of: Lab = LAB) -> Campaign:
    """A campaign with a solid experiment, 0001, that a person has signed."""
    campaign = Campaign(setup_of(of))
    campaign.run("trunk-1", TRUNK)
    campaign.run(campaign.approve(), SOLID)
    settle(campaign, of)
    campaign.sign("0001")
    return campaign


def wanted(campaign: Campaign, of: Lab = LAB, slots: int = 20) -> list[tuple[str, int]]:
    return [(step.experiment, step.seed) for step in plan(campaign.state, of, slots) if isinstance(step, Launch)]


def run_fresh(campaign: Campaign, seed: int, gain: float | Outcome, trunk: float | Outcome = 2.0) -> None:
    """Both sides of one fresh seed run; a number ends well, an outcome does not."""
    mine = gain if isinstance(gain, Outcome) or isinstance(trunk, Outcome) else trunk - gain
    for arm, result in (("trunk-1", trunk), ("0001", mine)):
        shard = campaign.start(arm, seed, fresh=True)
        if isinstance(result, Outcome):
            campaign.end(shard, result)
        else:
            campaign.end(shard, Outcome.FINISHED, result)


def cost(campaign: Campaign, arm: str, flops: float) -> None:
    """What the runs of an arm say that they took."""
    for row in campaign.state.shards_of(arm):
        campaign.write(e.ShardMeasured(row["id"], 6, None, None, "", 6000.0, flops))


def off(campaign: Campaign) -> dict[str, object]:
    return dict(campaign.state.experiments["0001"]["signoff"])


# --- what runs ---------------------------------------------------------------------------------------------------------


def test_three_fresh_pairs_run_before_anything_else_and_both_sides_run_them() -> None:
    campaign = signed()
    campaign.approve()
    assert wanted(campaign, slots=7) == [
        ("trunk-1", 1000), ("0001", 1000), ("trunk-1", 1001), ("0001", 1001), ("trunk-1", 1002), ("0001", 1002),
        ("0002", 0),
    ]  # fmt: skip
    assert may_launch(campaign.state, "0001")
    campaign.write(e.Paused({"name": "Ada"}, "lunch"))
    assert wanted(campaign) == []


def test_what_is_borne_out_is_confirmed_and_its_verdict_stays_as_it_was() -> None:
    campaign = signed()
    before = campaign.state.experiments["0001"]
    for seed, gain in ((1000, 0.4), (1001, 0.41), (1002, 0.42)):
        assert off(campaign)["state"] == "confirming"
        run_fresh(campaign, seed, gain)
        settle(campaign, LAB)
    after = campaign.state.experiments["0001"]
    assert (after["verdict"], after["pairs"]) == (before["verdict"], before["pairs"])
    assert after["state"] == ExperimentState.SIGNED
    found = off(campaign)
    assert (found["state"], found["n"]) == ("confirmed", 3)
    assert found["mean"] == pytest.approx(0.41)
    assert "a gain on 3 fresh seeds" in str(found["sentence"])
    assert plan(campaign.state, LAB, 8) == []


def test_a_gain_smaller_than_its_interval_gets_one_pair_more_at_a_time_and_eight_at_the_most() -> None:
    campaign = signed()
    for place, gain in enumerate((0.5, -0.45, 0.5, -0.45, 0.5, -0.45, 0.5, -0.45)):
        assert ("0001", 1000 + place) in wanted(campaign)
        run_fresh(campaign, 1000 + place, gain)
        settle(campaign, LAB)
        assert place < 2 or len(wanted(campaign)) == (2 if place < 7 else 0)
    assert off(campaign)["state"] == "confirmed"
    assert "the interval reaches below it" in str(off(campaign)["sentence"])


def test_no_gain_on_fresh_seeds_is_a_veto_and_so_is_one_crash() -> None:
    campaign = signed()
    for seed in (1000, 1001, 1002):
        run_fresh(campaign, seed, -0.01)
    settle(campaign, LAB)
    row = campaign.state.experiments["0001"]
    assert (row["state"], off(campaign)["state"]) == (ExperimentState.VETOED, "vetoed")
    assert "no gain on 3 fresh seeds" in str(row["why"])
    assert wanted(campaign) == []
    campaign = signed()
    run_fresh(campaign, 1000, Outcome.DIVERGED)
    left = campaign.start("0001", 1001, fresh=True)
    settle(campaign, LAB)
    assert campaign.state.experiments["0001"]["state"] == ExperimentState.VETOED
    assert "failed on fresh seed 1000" in str(off(campaign)["sentence"])
    assert plan(campaign.state, LAB, 8) == [Cancel(left)]


def test_a_finding_that_nobody_can_acknowledge_vetoes_and_one_that_a_person_may_does_not() -> None:
    campaign = signed()
    campaign.write(e.FindingNoted("f00001", "0001", "leak", "bars a keep", "it reads the held text"))
    settle(campaign, LAB)
    assert off(campaign)["state"] == "confirming"
    campaign.write(e.FindingNoted("f00002", "0001", "budget", "never kept", "it trained for longer"))
    settle(campaign, LAB)
    assert "f00002, found since it was signed: it trained for longer" in str(off(campaign)["sentence"])
    assert campaign.state.experiments["0001"]["state"] == ExperimentState.VETOED


# --- what goes wrong on the way ----------------------------------------------------------------------------------------


def test_a_fresh_seed_on_which_the_trunk_fails_is_replaced_and_not_held_against_the_experiment() -> None:
    campaign = signed()
    run_fresh(campaign, 1000, Outcome.CRASHED, trunk=Outcome.CRASHED)
    assert {seed for _, seed in wanted(campaign)} == {1001, 1002, 1003}
    settle(campaign, LAB)
    assert off(campaign)["state"] == "confirming"


def test_bad_luck_runs_the_same_seed_again_but_not_for_ever() -> None:
    campaign = signed()
    for seed in (1001, 1002):
        run_fresh(campaign, seed, 0.4)
    campaign.end(campaign.start("trunk-1", 1000, fresh=True), Outcome.FINISHED, 2.0)
    settle(campaign, LAB)
    for _ in range(2):
        assert wanted(campaign) == [("0001", 1000)]
        campaign.end(campaign.start("0001", 1000, fresh=True), Outcome.LOST)
    settle(campaign, LAB)
    row = campaign.state.experiments["0001"]
    assert (row["state"], off(campaign)["state"]) == (ExperimentState.JUDGED, "withdrawn")
    campaign.sign("0001")
    settle(campaign, LAB)
    assert wanted(campaign) == [("0001", 1000)]


def test_signing_again_after_a_withdrawal_runs_the_same_seeds_so_that_nobody_fishes_for_luck() -> None:
    campaign = signed()
    run_fresh(campaign, 1000, -0.2)
    campaign.stop("0001")
    assert campaign.state.experiments["0001"]["state"] == ExperimentState.JUDGED
    seeds = seeds_for(campaign.state, LAB, "0001")
    assert seeds[0] == 1000
    assert len(set(seeds)) == 16
    campaign.sign("0001")
    settle(campaign, LAB)
    assert {seed for _, seed in wanted(campaign)} == {1001, 1002}
    assert not set(seeds_for(campaign.state, LAB, "0002")) & {*LAB.seeds, *range(1000, 1016)}


def test_the_trunks_side_that_ended_when_the_other_was_stopped_runs_again_for_the_next_signature() -> None:
    campaign = signed()
    ended, ending = (campaign.start("trunk-1", seed, fresh=True) for seed in (1000, 1001))
    mine = campaign.start("0001", 1001, fresh=True)
    campaign.stop("0001", mine)
    campaign.end(ended, Outcome.ENDED_EARLY)
    campaign.sign("0001")
    for shard in (ending, mine):
        campaign.end(shard, Outcome.KILLED)
    settle(campaign, LAB)
    assert off(campaign)["state"] == "confirming"
    assert {("trunk-1", 1000), ("trunk-1", 1001), ("0001", 1001)} <= set(wanted(campaign))


def test_fresh_pairs_against_a_trunk_that_has_moved_or_under_other_settings_bear_nothing_out() -> None:
    campaign = signed()
    running = campaign.start("0001", 1000, fresh=True)
    campaign.trunk_moves()
    settle(campaign, LAB)
    assert "the trunk moved while its fresh pairs ran against trunk-1" in str(off(campaign)["sentence"])
    assert Cancel(running) in plan(campaign.state, LAB, 4)
    campaign = signed()
    other = parse(LAB_TEXT.replace("budget = 6\n", "budget = 7\n"), Path("/nowhere"))
    assert [step for step in plan(campaign.state, other, 4, launching=False) if isinstance(step, Record)] == []
    settle(campaign, other)
    assert "has changed since it was signed" in str(off(campaign)["sentence"])


# --- findings that came meanwhile --------------------------------------------------------------------------------------


def confirm(campaign: Campaign) -> None:
    for seed in (1000, 1001, 1002):
        run_fresh(campaign, seed, 0.4)
    settle(campaign, LAB)
    assert off(campaign)["state"] == "confirmed"


def core_of(campaign: Campaign) -> Any:
    """As much of an engine's core as a merge is intended with."""
    return SimpleNamespace(state=campaign.state, lab=LAB, record=campaign.write, identity=("Ada", "ada@example.org"))


def test_what_was_found_meanwhile_withdraws_the_signature_until_a_person_has_said_why_not() -> None:
    campaign = signed()
    campaign.write(e.FindingNoted("f00001", "0001", "one-source", "asks", "arithmetic suffers"))
    confirm(campaign)
    merge_confirmed(core_of(campaign))
    row = campaign.state.experiments["0001"]
    assert (row["state"], off(campaign)["state"], campaign.state.merges) == (ExperimentState.JUDGED, "withdrawn", {})
    assert "f00001" in str(row["why"])
    assert "its fresh pairs are kept" in str(row["why"])

    campaign.write(e.FindingAcknowledged("f00001", "d00009", WHO, "nobody needs\nsums", "request-9"))
    campaign.sign("0001")
    assert wanted(campaign) == [], "nothing has to run again"
    settle(campaign, LAB)
    merge_confirmed(core_of(campaign))
    message = campaign.state.merges["0001"].message
    trailers = [line for line in message.split("\n") if line.startswith("Cockpit-")]
    assert "Cockpit-Acknowledged: f00001 by Ada <ada@example.org>: nobody needs sums" in trailers
    assert any(line.startswith("Cockpit-Headline: +0.4 [") for line in trailers)
    assert trailers[-1].startswith("Cockpit-Signed-By: Ada")


def test_the_evidence_of_a_sequential_verdict_is_a_trailer_of_its_merge() -> None:
    campaign = signed()
    row = campaign.state.experiments["0001"]
    assert row["verdict"] is not None
    row["verdict"] |= {"evidence": 31.25, "bar": 20.0}
    confirm(campaign)
    merge_confirmed(core_of(campaign))
    assert "\nCockpit-Evidence: E 31.25 of 20\n" in campaign.state.merges["0001"].message


def test_what_cost_more_has_to_be_borne_out_at_equal_cost() -> None:
    """Twice the FLOPs are worth 0.14 here: of 0.4 at equal tokens 0.26 is left, and of 0.1 nothing."""
    of = parse(LAB_TEXT.replace('source = "jsonl"', 'source = "jsonl"\ncompare = "flops"'), Path("/nowhere"))
    for gain, state in ((0.4, "confirmed"), (0.1, "vetoed")):
        campaign = Campaign(setup_of(of))
        half = setup_for(setup_of(of), HALF, of)
        campaign.run("trunk-1", TRUNK)
        cost(campaign, "trunk-1", 1e6)
        for seed, metric in enumerate(TRUNK):
            shard = campaign.intend("trunk-1", seed, HALF, setup=half)
            campaign.write(e.ShardStarted(shard, "pid 7"))
            campaign.end(
                shard, Outcome.FINISHED, metric + 0.2 * math.log(of.rung("screen").budget / of.rung(HALF).budget)
            )
        campaign.run(campaign.approve(), SOLID)
        cost(campaign, "0001", 2e6)
        settle(campaign, of)
        campaign.sign("0001")
        for seed in (1000, 1001, 1002):
            run_fresh(campaign, seed, gain)
        settle(campaign, of)
        assert off(campaign)["state"] == state
        assert float(str(off(campaign)["mean"])) == pytest.approx(gain - 0.2 * math.log(2), abs=0.002)


# --- with a real engine ------------------------------------------------------------------------------------------------


def solid(lab: TinyLab) -> str:
    """Approve the first proposal and wait for its verdict; returns the hash of its diff."""
    with lab.session() as session:
        row = wait_for(lambda: waiting(session))[0]
        decide(session, row)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
    return str(row["diff_hash"])


def test_a_signed_experiment_runs_fresh_pairs_and_is_merged_by_itself_with_its_headline(tiny: Make) -> None:
    lab = tiny(better(1), extra=FRESH)
    diff = solid(lab)
    with lab.session() as session:
        answer = session.call("sign", experiment="0001", diff_hash=diff, why="clear", request_id="s1")
        assert (answer["state"], answer["seeds"]) == ("confirming", [1000, 1001, 1002])
        wait_for(lambda: rows(session, "experiment")["0001"]["state"] == "merged")
        row = rows(session, "experiment")["0001"]
        assert row["signoff"]["state"] == "confirmed"
        assert [pair["seed"] for pair in row["signoff"]["pairs"]] == [1000, 1001, 1002]
        assert [pair["seed"] for pair in row["pairs"]] == [0, 1, 2]
        message = lab.git("log", "-1", "--format=%B", "cockpit/trunk")
        assert f"Cockpit-Headline: {row['signoff']['mean']:+.6g} [" in message
        assert "n=3 fresh seeds" in message
        sql = "SELECT headline, signoff, n, seeds FROM experiments JOIN leaderboard l ON l.experiment = id WHERE id = '0001'"
        found = session.call("sql", text=sql.replace("n, seeds", "l.n, l.seeds"))["rows"]
        assert found == [[pytest.approx(row["signoff"]["mean"]), "confirmed", 3, 3]]
        events = session.call("sql", text="SELECT data FROM events WHERE type = 'sign.intended'")["rows"]
        assert row["verdict"]["sentence"] in events[0][0]
        assert len([each for each in rows(session, "decision").values() if each["action"] == "sign"]) == 1
    assert_whole(lab)


def test_what_fresh_seeds_veto_is_not_merged_and_cannot_be_signed_again(tiny: Make) -> None:
    lab = tiny(FLATTERED, extra=FRESH)
    diff = solid(lab)
    with lab.session() as session:
        trunk = lab.git("rev-parse", "cockpit/trunk")
        session.call("sign", experiment="0001", diff_hash=diff, request_id="s1")
        with pytest.raises(RpcError, match=r"its fresh pairs run|vetoed"):
            session.call("sign", experiment="0001", diff_hash=diff, request_id="s2")
        wait_for(lambda: rows(session, "experiment")["0001"]["state"] == "vetoed")
        assert "no gain on 3 fresh seeds" in rows(session, "experiment")["0001"]["why"]
        with pytest.raises(RpcError, match="vetoed by its fresh pairs") as again:
            session.call("sign", experiment="0001", diff_hash=diff, request_id="s3")
        assert again.value.code == NOT_NOW
        assert lab.git("rev-parse", "cockpit/trunk") == trunk


STAGES = ("intent", "effect", "done")
POINTS = (
    "sign.done",
    *(f"{act}.{stage}" for act in ("launch", "end", "score") for stage in STAGES),
    "headline.done",
    *(f"merge.{stage}" for stage in STAGES),
)
"""In the order in which one signature passes them."""


def test_killed_anywhere_between_signature_and_merge_it_is_merged_once(tiny: Make) -> None:
    lab = tiny(better(1), extra=FRESH)
    diff = solid(lab)
    lab.stop()
    for point in POINTS:
        engine = lab.start(COCKPIT_CRASH_AT=point)

        def sign(session: Session) -> None:
            session.call("sign", experiment="0001", diff_hash=diff, request_id="s1")

        wait_for(lambda engine=engine: lab.dies(engine, sign), 240)  # fresh pairs take their time on a busy machine
        assert engine.wait(1) == -signal.SIGKILL, point
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment")["0001"]["state"] == "merged")
        assert lab.git("log", "--format=%s", "--first-parent", "cockpit/trunk").count("Accept 0001") == 1
        events = session.call("sql", text="SELECT count(*) FROM events WHERE type = 'merge.intended'")["rows"]
        assert events == [[1]]
    assert_whole(lab)
