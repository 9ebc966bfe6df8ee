"""What a change claims is declared before it runs, and is what it is judged by: a lower loss, the same loss sooner, or no
worse with less code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine import events as e
from engine.campaign import setup_of
from engine.judge.kinds import MARGINS
from engine.lab import Lab
from engine.proposers.writing import Header, as_reply
from engine.reply import Refused, parse
from engine.types import HALF, Claim, Verdict
from tests.campaigns import Campaign
from tests.test_bases import NORMAL, lab, race

SPREAD = (1.0, 1.01, 0.99, 1.005, 0.995, 1.0, 1.008, 0.992)
"""How the trunk's tokens/s vary by themselves."""


def faster(by: float) -> Any:
    return replace(NORMAL, speed=800.0 * by)


def raced(of: Lab, claims: str, gain: float, speed: float = 1.0, campaign: Campaign | None = None) -> Any:
    campaign = campaign or Campaign(setup_of(of))
    name = campaign.approve(campaign.propose(category="systems", claims=claims))
    trunk = campaign.state.trunk_arm
    ran = race(campaign, of, {name: gain}, {name: faster(speed)}, uneven=SPREAD)
    row = campaign.state.experiments[name]
    assert row["verdict"] is not None
    return row, [step for step in ran if step.rung == HALF and step.experiment == trunk]


def test_the_same_loss_sooner_is_solid_for_what_claims_to_be_faster_and_not_for_what_claims_a_gain() -> None:
    row, lengths = raced(lab("tokens"), Claim.SPEED, 0.0, 1.15)
    assert row["verdict"]["verdict"] == Verdict.SOLID
    assert row["claims"] == Claim.SPEED
    assert len(lengths) == 3, "what a step is worth was measured"
    assert "counts that it took 0.87x the time; as measured +0.0000" in row["verdict"]["sentence"]
    row, lengths = raced(lab("tokens"), "", 0.0, 1.15)
    assert row["verdict"]["verdict"] == Verdict.NOT_SOLID
    assert (lengths, "claims" in row) == ([], False)


def test_time_that_is_saved_has_to_be_worth_the_loss_that_it_costs() -> None:
    assert raced(lab("tokens"), Claim.SPEED, -0.01, 1.25)[0]["verdict"]["verdict"] == Verdict.SOLID
    assert raced(lab("tokens"), Claim.SPEED, -0.08, 1.25)[0]["verdict"]["verdict"] != Verdict.SOLID
    assert raced(lab("tokens"), Claim.SPEED, 0.0, 0.8)[0]["verdict"]["verdict"] != Verdict.SOLID, "it is slower"


def test_three_fixed_seeds_count_the_time_as_well() -> None:
    row, _ = raced(lab("tokens", "fixed"), Claim.SPEED, 0.0, 1.25)
    assert row["verdict"]["verdict"] == Verdict.UNDECIDED or row["verdict"]["effect"] > 0.04


def test_less_code_gets_a_margin_as_long_as_the_campaign_has_any_left() -> None:
    of = lab("tokens")
    small = 0.004  # half a sigma: with the margin one of them, which ten loose pairs can show
    assert raced(of, Claim.SIMPLIFICATION, small)[0]["verdict"]["verdict"] == Verdict.SOLID
    assert raced(of, "", small)[0]["verdict"]["verdict"] != Verdict.SOLID
    assert raced(of, Claim.SIMPLIFICATION, -0.02)[0]["verdict"]["verdict"] != Verdict.SOLID
    campaign = Campaign(setup_of(of))
    for _ in range(int(MARGINS / 0.5)):
        name = campaign.approve(campaign.propose(claims=Claim.SIMPLIFICATION))
        campaign.write(e.MergeDone(name, "9" * 40, "8" * 40))
    assert campaign.state.simplified == 4
    assert raced(of, Claim.SIMPLIFICATION, small, campaign=campaign)[0]["verdict"]["verdict"] != Verdict.SOLID


def test_what_is_replayed_on_a_moved_trunk_claims_what_it_did() -> None:
    campaign = Campaign()
    name = campaign.approve(campaign.propose(claims=Claim.SPEED))
    arm = campaign.trunk_moves()
    campaign.write(
        e.ExperimentReplayed(f"{name}.r2", name, campaign.trunk, arm, "exp/r2", 1.0, ["Ada", "a@b"], "Idea", "screen")
    )
    assert campaign.state.experiments[f"{name}.r2"]["claims"] == Claim.SPEED


def test_a_reply_says_what_it_claims_in_one_word() -> None:
    text = as_reply(Header("Less code", claims="simplification"), {"a.py": b"x = 1\ny = 2\n"}, {"a.py": b"x = 1\n"})
    assert "claims: simplification\n" in text
    assert parse(text).claims is Claim.SIMPLIFICATION
    assert parse(text.replace("claims: simplification", "claims: `Speed`")).claims is Claim.SPEED
    assert parse(text.replace("claims: simplification\n", "")).claims is Claim.GAIN
    with pytest.raises(Refused, match="claims: 'beauty' is not one of gain, speed, simplification"):
        parse(text.replace("claims: simplification", "claims: beauty"))
