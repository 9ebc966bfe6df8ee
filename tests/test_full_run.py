"""A merge may be followed by one run of the new trunk at full scale: said with its price, started by a person's word alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import events as e
from engine.campaign import Launch, plan, setup_of
from engine.full_run import check_wanted, full_price, full_rung
from engine.lab import parse
from engine.pricing import price
from engine.rpc import RpcError
from engine.setups import setup_for
from engine.types import SMOKE, Outcome
from tests.campaigns import WHO, Campaign
from tests.test_app import sitting
from tests.test_campaign import SOLID, TEXT, TRUNK, settle
from tests.test_cli import Cockpit
from tests.test_crash import assert_whole
from tests.tinylab import TinyLab, better, decide, rows, wait_for, waiting

Make = Callable[..., TinyLab]
FULL = '\n[rungs.full]\nbudget = 500\ntimeout = "1h"\n'
LAB_TEXT = TEXT.replace("CLIMB", '["screen"]') + FULL
LAB = parse(LAB_TEXT, Path("/nowhere"))
PLAIN = parse(TEXT.replace("CLIMB", '["screen"]'), Path("/nowhere"))


def merged(*, full: bool) -> Campaign:
    """A campaign whose solid experiment 0001 is merged, with a full-scale run or without."""
    campaign = Campaign(setup_of(LAB))
    campaign.run("trunk-1", TRUNK)
    campaign.run(campaign.approve(), SOLID)
    settle(campaign, LAB)
    intent = e.MergeIntended("0001", "d00009", "", "", "", 1.0, [], "", WHO, "", "m1", full)
    campaign.write(intent, e.MergeDone("0001", "c" * 40, "d" * 40))
    campaign.trunk_moves("c" * 40, "d" * 40)
    return campaign


def wanted(campaign: Campaign) -> list[tuple[str, int, str]]:
    steps = plan(campaign.state, LAB, 20)
    return [(step.experiment, step.seed, step.rung) for step in steps if isinstance(step, Launch)]


def test_it_costs_what_the_trunk_takes_for_a_token_times_the_larger_budget() -> None:
    campaign = Campaign(setup_of(LAB))
    assert full_price(campaign.state, PLAIN, "screen") is None
    told = full_price(campaign.state, LAB, "screen")
    assert told is not None
    assert (told["ratio"], told["seconds"]) == (100.0, None)
    assert "for how long is not known yet" in told["sentence"]
    campaign.run("trunk-1", TRUNK)
    for row in campaign.state.shards_of("trunk-1"):
        campaign.write(e.ShardMeasured(row["id"], 5, None, None, "", tokens=72_000.0, speed=1000.0))
    campaign.run(campaign.approve(), SOLID)
    settle(campaign, LAB)
    full = price(campaign.state, LAB, campaign.state.experiments["0001"])["full"]
    assert full is not None
    assert full["seconds"] == pytest.approx(7200)
    assert "100x the budget of rung screen, about 2.0 h of one slot" in full["sentence"]


def test_only_a_persons_word_starts_it_once_after_first_pairs() -> None:
    assert not [each for each in wanted(merged(full=False)) if each[2] == "full"]
    campaign = merged(full=True)
    name = campaign.approve()
    found = wanted(campaign)
    assert found.count(("trunk-2", 0, "full")) == 1
    at = found.index(("trunk-2", 0, "full"))
    assert {each[1] for each in found[:at]} == {0}
    assert (name, 0, "screen") in found[:at]
    campaign.end(campaign.start("trunk-2", 0, "full"), Outcome.LOST)
    assert ("trunk-2", 0, "full") in wanted(campaign), "bad luck runs it again"
    campaign.trunk_moves()
    campaign.end(campaign.start("trunk-2", 0, "full"), Outcome.FINISHED, 1.2)
    assert not [each for each in wanted(campaign) if each[2] == "full"]
    campaign.setup = "other settings"
    assert not [each for each in wanted(campaign) if each[2] == "full"]
    assert campaign.state.experiments["0001"]["pairs"] != []


def test_it_waits_for_the_smoke_of_the_new_trunk_and_is_called_off_for_good_by_a_stop() -> None:
    of = parse(LAB_TEXT + "\n[smoke]\nbudget = 1\n", Path("/nowhere"))
    campaign = merged(full=True)

    def full() -> bool:
        return any(isinstance(step, Launch) and step.rung == "full" for step in plan(campaign.state, of, 20))

    assert campaign.setup == setup_of(of), "a smoke changes nothing of how runs are measured"
    assert not full()
    campaign.smoke("trunk-2", setup_for(campaign.setup, SMOKE, of))
    assert full()
    shard = campaign.start("trunk-2", 0, "full")
    campaign.stop(shard, shard)
    campaign.end(shard, Outcome.KILLED)
    campaign.write(e.Resumed(WHO))
    assert not full(), "that would be a run that nobody asked for"


def test_a_lab_that_climbs_to_it_has_no_other_use_for_it() -> None:
    of = parse(TEXT.replace("CLIMB", '["screen", "full"]') + FULL, Path("/nowhere"))
    assert full_rung(of) is None
    with pytest.raises(RpcError, match="beyond those that experiments climb"):
        check_wanted(of, True)


def test_in_a_real_engine_it_follows_the_merge_and_its_result_is_in_sql(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(better(1), extra=FULL.replace("500", "50"))
    cockpit = Cockpit(lab.root, capsys)
    with lab.session() as session:
        (row,) = wait_for(lambda: waiting(session))
        decide(session, row)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        verdict = rows(session, "experiment")["0001"]["verdict"]
        assert session.call("price", experiment="0001")["full"]["ratio"] == 10.0
        assert cockpit("sign", "0001", "--diff", row["diff_hash"], "--full")[0] == 0
        full = wait_for(
            lambda: [each for each in rows(session, "shard").values() if each["rung"] == "full" and each["outcome"]]
        )
        assert [(each["id"], each["outcome"]) for each in full] == [("trunk-2.full.s0.a1", "finished")]
        sql = "SELECT metric FROM runs WHERE rung = 'full'"
        wait_for(lambda: session.call("sql", text=sql)["rows"] == [[full[0]["metric"]]])
        assert rows(session, "experiment")["0001"]["verdict"] == verdict
        wait_for(lambda: session.call("status")["running"] == 0)
    assert_whole(lab)


def test_where_the_lab_has_no_such_rung_it_is_refused_and_nothing_is_signed(tiny: Make) -> None:
    lab = tiny(better(1))
    with lab.session() as session:
        (row,) = wait_for(lambda: waiting(session))
        decide(session, row)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        with pytest.raises(RpcError, match=r"no \[rungs.full\]"):
            session.call("sign", experiment="0001", diff_hash=row["diff_hash"], request_id="s1", full=True)
        assert rows(session, "experiment")["0001"]["state"] == "judged"


# --- on the screen -----------------------------------------------------------------------------------------------------


async def test_the_strip_says_what_it_costs_and_a_key_of_its_own_asks_for_it() -> None:
    async with sitting() as desk:
        sentence = "a full-scale run of the new trunk can follow its merge: 40x the budget of rung screen"
        full = {"rung": "full", "ratio": 40.0, "seconds": None, "sentence": sentence}
        desk.engine.answers["price"] = {**desk.engine._price("0002"), "full": full}
        await desk.press("v", "s")
        await desk.until(lambda: desk.asking)
        assert "[ ] ctrl+f: a full-scale run of the new trunk" in desk.text
        await desk.press("ctrl+f")
        assert "[x] ctrl+f: a full-scale run of the new trunk" in desk.text
        await desk.press("enter")
        asked: list[dict[str, Any]] = []
        await desk.until(lambda: asked.extend(desk.engine.asked("sign")) or asked)
        assert asked[0]["full"] is True


async def test_without_that_key_none_is_asked_for_and_a_lab_without_the_rung_offers_none() -> None:
    async with sitting() as desk:
        await desk.press("v", "s")
        await desk.until(lambda: desk.asking)
        assert "ctrl+f" not in desk.text
        await desk.press("ctrl+f", "enter")
        asked: list[dict[str, Any]] = []
        await desk.until(lambda: asked.extend(desk.engine.asked("sign")) or asked)
        assert "full" not in asked[0]
