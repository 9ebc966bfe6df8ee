"""What a finding does to an experiment: it bars a solid verdict, a person's word lifts the bar, and some bars nobody lifts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.findings import alike, asleep_words, detectors_words, evidence_words, in_order, listed
from engine import events as e
from engine.campaign import evidence, plan
from engine.found import open_findings
from engine.types import Severity, Verdict
from tests.campaigns import SETUP, WHO, Campaign
from tests.test_campaign import LAB, TALL

BARRING = [each for each in Severity if each.bars]


def solid(c: Campaign) -> str:
    """An experiment whose numbers say solid."""
    name = c.approve()
    c.run(c.state.trunk_arm, [2.0, 2.01, 2.02])
    c.run(name, [1.5, 1.51, 1.49])
    judge(c, name)
    return name


def judge(c: Campaign, name: str) -> None:
    """The verdict that the planner would write down."""
    for event in evidence(c.state, LAB, c.state.experiments[name], SETUP):
        c.write(event)


def find(c: Campaign, about: str, severity: str, rule: str = "rule", sentence: str = "look here") -> str:
    number = f"f{c.state.counts['finding'] + 1:05d}"
    c.write(e.FindingNoted(number, about, rule, severity, sentence, "step 3", {"made": 9.0}))
    return number


def acknowledge(c: Campaign, finding: str) -> None:
    decision = f"d{c.state.counts['decision'] + 1:05d}"
    c.write(e.FindingAcknowledged(finding, decision, WHO, "the mechanism explains it", f"ack-{finding}"))


def word(c: Campaign, name: str) -> str:
    verdict = c.state.experiments[name]["verdict"]
    assert verdict is not None
    return verdict["verdict"]


@pytest.mark.parametrize("severity", BARRING)
def test_a_finding_bars_a_solid_verdict_and_leaves_its_numbers_alone(severity: Severity) -> None:
    c = Campaign()
    name = solid(c)
    assert word(c, name) == Verdict.SOLID
    before = c.state.experiments[name]["verdict"]
    finding = find(c, f"{name}.screen.s1.a1", severity)
    row = c.state.experiments[name]
    assert (word(c, name), row["barred"], row["asks"]) == ("barred", [finding], [])
    assert {**(row["verdict"] or {}), "verdict": "solid"} == before
    assert plan(c.state, LAB, 2, setup=SETUP, launching=False) == [], "a barred verdict is no news to be judged again"


@pytest.mark.parametrize("severity", BARRING)
def test_a_finding_that_comes_first_bars_the_verdict_that_follows(severity: Severity) -> None:
    c = Campaign()
    name = c.approve()
    c.run(c.state.trunk_arm, [2.0, 2.01, 2.02])
    c.run(name, [1.5, 1.51, 1.49])
    find(c, f"{name}.screen.s0.a1", severity)
    judge(c, name)
    assert word(c, name) == "barred"


@pytest.mark.parametrize("severity", [Severity.NOTE, Severity.WARNING, Severity.ASKS])
def test_other_findings_bar_nothing(severity: Severity) -> None:
    c = Campaign()
    name = solid(c)
    finding = find(c, f"{name}.screen.s0.a1", severity)
    assert word(c, name) == "solid"
    assert c.state.experiments[name].get("asks", []) == ([finding] if severity is Severity.ASKS else [])


def test_the_bar_falls_with_the_last_acknowledgement_and_a_new_finding_raises_it_again() -> None:
    c = Campaign()
    name = solid(c)
    one, two = (find(c, f"{name}.screen.s{seed}.a1", "bars a keep") for seed in (0, 1))
    acknowledge(c, one)
    assert (word(c, name), c.state.experiments[name]["barred"]) == ("barred", [two])
    acknowledge(c, two)
    assert (word(c, name), c.state.experiments[name]["barred"]) == ("solid", [])
    assert c.state.findings[two]["acknowledged"]["who"] == WHO
    assert [row["id"] for row in open_findings(c.state, name)] == []
    find(c, f"{name}.screen.s2.a1", "bars a keep")
    assert word(c, name) == "barred"


def test_nobodys_word_lifts_what_can_never_be_kept() -> None:
    c = Campaign()
    name = solid(c)
    finding = find(c, f"{name}.screen.s0.a1", "never kept")
    acknowledge(c, finding)  # no method writes this; a ledger might still hold it
    assert (word(c, name), c.state.experiments[name]["barred"]) == ("barred", [finding])


def test_a_finding_about_the_trunk_bars_no_experiment_and_one_that_is_not_solid_stays_what_it_is() -> None:
    c = Campaign()
    name = solid(c)
    find(c, c.state.trunk_arm, "bars a keep")
    find(c, f"{c.state.trunk_arm}.screen.s0.a1", "never kept")
    assert word(c, name) == "solid"
    other = c.approve()
    c.run(other, [2.5, 2.51, 2.49])
    judge(c, other)
    find(c, f"{other}.screen.s0.a1", "bars a keep")
    assert word(c, other) == "harmful"


@given(st.lists(st.tuples(st.sampled_from(list(Severity)), st.booleans()), max_size=8))
@settings(max_examples=60, deadline=None)
def test_it_is_solid_exactly_when_nothing_open_bars_it(found: list[tuple[Severity, bool]]) -> None:
    c = Campaign()
    name = solid(c)
    left = False
    for number, (severity, known) in enumerate(found):
        finding = find(c, f"{name}.screen.s{number % 3}.a1", severity, sentence=str(number))
        if known:
            acknowledge(c, finding)
        left = left or (severity.bars and (not known or severity is Severity.NEVER))
    assert (word(c, name) == "barred") == left
    assert (word(c, name) == "solid") == (not left)


def test_a_barred_experiment_climbs_no_rung_and_is_no_keep_of_the_campaign() -> None:
    c = Campaign()
    name = c.approve()
    c.run(c.state.trunk_arm, [2.0, 2.01, 2.02])
    c.run(name, [1.5, 1.51, 1.49])
    free = list(evidence(c.state, TALL, c.state.experiments[name], SETUP))
    find(c, f"{name}.screen.s0.a1", "bars a keep")
    barred = list(evidence(c.state, TALL, c.state.experiments[name], SETUP))
    assert [type(each).__name__ for each in free] == ["VerdictReached", "RungReached"]
    assert [type(each).__name__ for each in barred] == ["VerdictReached"]
    assert barred[0].final  # type: ignore[union-attr]


class TestWords:
    def test_the_worst_open_one_comes_first_and_what_is_known_last(self) -> None:
        c = Campaign()
        name = solid(c)
        about = f"{name}.screen.s0.a1"
        ids = {severity: find(c, about, severity, sentence=severity) for severity in Severity}
        acknowledge(c, ids[Severity.STOP])
        order = [row["severity"] for row in in_order(c.state.findings.values())]
        assert order == ["never kept", "bars a keep", "asks", "warning", "note", "stop"]
        shown, _ = listed(list(c.state.rows.values()), name)
        assert [row["severity"] for row in shown] == ["never kept", "bars a keep", "asks", "warning"]
        assert {row["experiment"] for row in shown} == {name}
        everything, _ = listed(list(c.state.rows.values()), name, everything=True)
        assert len(everything) == 6
        (one,), _ = listed(list(c.state.rows.values()), ids[Severity.NOTE])
        assert evidence_words(one) == "made 9"  # type: ignore[arg-type]

    def test_one_word_covers_the_same_rule_on_the_seeds_of_one_experiment_alone(self) -> None:
        c = Campaign()
        name, other = solid(c), c.approve()
        c.run(other, [1.5, 1.5, 1.5])
        mine = [find(c, f"{name}.screen.s{seed}.a1", "asks", "large-gain", str(seed)) for seed in range(3)]
        find(c, f"{name}.screen.s0.a1", "asks", "one-source")
        find(c, f"{other}.screen.s0.a1", "asks", "large-gain")
        of = {shard: row["experiment"] for shard, row in c.state.shards.items()}
        row = c.state.findings[mine[1]]
        assert {each["id"] for each in alike(row, c.state.findings.values(), of)} == set(mine)

    def test_what_sleeps_is_told_with_what_would_wake_it(self) -> None:
        c = Campaign()
        assert "known once" in detectors_words(None)
        missing: list[dict[str, Any]] = [
            {"detector": "not-learning", "missing": ["update_ratio"]},
            {"detector": "held-text", "missing": ["held", "rows"]},
            {"detector": "repetition", "missing": ["held", "rows"]},
        ]
        c.write(e.DetectorsAwake(["stall"], missing), e.ConfigLoaded("e" * 64, dict(c.events[1][2].lab)))
        assert c.state.lab is not None
        known = c.state.lab["detectors"]
        assert detectors_words(known) == "1 of 4 detectors are active"
        assert asleep_words(known) == [
            "update_ratio would wake not-learning",
            "held and rows would wake held-text, repetition",
        ]
