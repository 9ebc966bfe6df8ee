"""What deserves a signature comes first, and what a signature does is said before it is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cockpit.keys import lint
from engine import events as e
from engine.campaign import setup_of
from engine.lab import Lab, parse
from engine.pricing import price
from engine.shortlist import Listed, shortlist, shrunk_gain
from engine.types import ExperimentState
from tests.campaigns import Campaign
from tests.test_app import sitting
from tests.test_campaign import TEXT, TRUNK, settle
from tests.test_cli import Cockpit
from tests.tinylab import TinyLab, better, decide, rate, rows, wait_for, waiting

Make = Callable[..., TinyLab]
FRESH = "\n[judge]\nfresh = true\n"
LAB = parse(TEXT.replace("CLIMB", '["screen"]') + FRESH, Path("/nowhere"))


def with_gains(*gains: list[float], of: Lab = LAB) -> Campaign:
    """A campaign whose experiments 0001, 0002, … gained so much on seeds 0, 1 and 2."""
    campaign = Campaign(setup_of(of))
    campaign.run("trunk-1", TRUNK)
    for each in gains:
        name = campaign.approve()
        campaign.run(name, [trunk - gain for trunk, gain in zip(TRUNK, each, strict=True)])
    settle(campaign, of)
    return campaign


def listed(campaign: Campaign) -> list[Listed]:
    state = campaign.state
    findings = [row for row in state.rows.values() if row["kind"] == "finding"]
    return shortlist(state.trunk_arm, state.experiments.values(), state.shards.values(), findings)


def test_a_sure_gain_counts_for_more_than_a_larger_one_on_one_lucky_seed() -> None:
    def row(*gains: float) -> dict[str, Any]:
        """Judged with a sigma of 0.1, so that one difference has a spread of 0.14."""
        verdict = {"se": 0.141 / len(gains) ** 0.5, "n": len(gains), "sigma": 0.1}
        return {"verdict": verdict, "pairs": [{"difference": gain} for gain in gains]}

    lucky, sure = shrunk_gain(row(0.3)), shrunk_gain(row(0.25, 0.26, 0.24, 0.25))
    assert lucky is not None
    assert sure is not None
    assert lucky < sure < 0.25
    assert shrunk_gain(row(-0.3, -0.31)) == pytest.approx(0, abs=0.02)


def test_only_what_is_solid_is_listed() -> None:
    campaign = with_gains([0.9, 0.2, 0.5], [0.43, 0.4, 0.42], [-0.3, -0.31, -0.29])
    assert [each["experiment"] for each in listed(campaign)] == ["0002"]  # the first one's interval reaches zero


def test_the_same_gain_for_half_of_the_cost_comes_first_and_a_vetoed_one_comes_last() -> None:
    campaign = with_gains([0.4, 0.41, 0.42], [0.4, 0.41, 0.42])
    before = listed(campaign)
    assert [each["experiment"] for each in before] == ["0001", "0002"]
    for seed in (7, 8):
        campaign.end(campaign.start("0001", seed), "finished", 1.6)  # type: ignore[arg-type]
    settle(campaign, LAB)
    campaign.write(e.FindingNoted("f00001", "0001.screen.s7.a1", "rule", "note", "look here"))
    after = listed(campaign)
    assert [each["experiment"] for each in after] == ["0002", "0001"]
    assert after[1]["findings"] == ["note: look here"]
    assert (after[0]["per_hour"] or 0) > (after[1]["per_hour"] or 0)
    campaign.sign("0002")
    campaign.write(e.HeadlineReached("0002", "vetoed", -0.01, -0.02, 0.0, 3, "no gain", []))
    last = listed(campaign)[-1]
    assert (last["experiment"], last["state"], last["headline"]) == ("0002", ExperimentState.VETOED, -0.01)


def test_what_was_measured_against_an_old_trunk_is_not_listed_and_nothing_is_claimed_without_noise() -> None:
    campaign = with_gains([0.4, 0.41, 0.42])
    campaign.trunk_moves()
    assert listed(campaign) == []
    assert shrunk_gain({"verdict": None, "pairs": []}) is None


def test_a_signature_says_what_it_runs_and_what_it_starts_again() -> None:
    campaign = with_gains([0.4, 0.41, 0.42], [0.4, 0.41, 0.42], [0.0, 0.0, 0.01])
    waits = campaign.approve()
    told = price(campaign.state, LAB, campaign.state.experiments["0001"])
    assert (told["pairs"], told["shards"], told["restarts"]) == ([3, 8], 6, ["0002", waits])
    assert told["seconds"] is not None
    assert "runs 3 to 8 pairs on fresh seeds" in told["sentence"]
    assert f"the trunk then moves under 0002, {waits}" in told["sentence"]
    plain = parse(TEXT.replace("CLIMB", '["screen"]'), Path("/nowhere"))
    assert "at once" in price(campaign.state, plain, campaign.state.experiments["0001"])["sentence"]


def test_on_the_command_line_and_by_sql_the_shortlist_is_the_same(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(better(1), rate(0.9), extra=FRESH)
    cockpit = Cockpit(lab.root, capsys)
    with lab.session() as session:
        assert "nothing is solid" in cockpit("shortlist")[1]
        for row in wait_for(lambda: len(found := waiting(session)) == 2 and found):
            decide(session, row)
        wait_for(lambda: [row["state"] for row in rows(session, "experiment").values()].count("judged") == 3)
        found = cockpit.json("shortlist")["experiments"]
        assert [each["experiment"] for each in found] == ["0001"]
        answer = cockpit.json("sql", "shortlist")
        by_sql = dict(zip(answer["columns"], answer["rows"][0], strict=True))
        assert by_sql["shrunk"] == pytest.approx(found[0]["shrunk"])
        assert by_sql["gain_per_hour"] == pytest.approx(found[0]["per_hour"], rel=1e-2)
        assert "0001" in cockpit("shortlist")[1]
        diff = rows(session, "proposal")["p0001"]["diff_hash"]
        assert "it is merged by itself" in cockpit("sign", "0001", "--diff", diff)[1]
        wait_for(lambda: cockpit.json("show", "0001")["state"] == "merged")
        assert cockpit.json("shortlist")["experiments"] == []


# --- on the screen -----------------------------------------------------------------------------------------------------


async def test_v_shows_the_shortlist_alone_and_s_signs_on_the_second_stroke() -> None:
    async with sitting() as desk:
        await desk.press("v")
        assert "0002" in desk.text
        assert "0003" not in desk.text
        assert "shortlist 1 of 2" in desk.text
        await desk.press("s")
        await desk.until(lambda: desk.asking)
        assert "Sign 0002 off?" in desk.text
        assert "the trunk then moves under 0007" in desk.text
        assert desk.engine.asked("sign") == []
        await desk.press("enter")
        asked: list[dict[str, Any]] = []
        await desk.until(lambda: asked.extend(desk.engine.asked("sign")) or asked)
        assert asked[0]["experiment"] == "0002"
        await desk.until(lambda: "fresh pairs run before it is merged" in desk.text)
        await desk.press("v")
        assert "0003" in desk.text


async def test_what_has_no_verdict_cannot_be_signed_and_the_key_says_so() -> None:
    async with sitting() as desk:
        await desk.press("s")
        assert "no experiment is selected" in desk.status
        await desk.press("j", "j", "j", "s")
        assert "0007 is running: there is no verdict to sign on" in desk.status
        assert not desk.asking


def test_the_keys_collide_with_nothing() -> None:
    assert lint() == []
