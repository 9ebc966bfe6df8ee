"""A run has ended: each detector that looks at whole runs finds its own failure, and leaves a healthy run alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.types import Category
from engine.watch.detectors.evidence import Run, Seen
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.registry import DETECTORS, active, asleep, judge
from engine.watch.detectors.series import Series
from engine.watch.detectors.signals import FACTS, MEANING, SERIES, Signal
from tests.detector_runs import STEPS, healthy, rows, seen, with_fact, with_series

NOTE, WARNING, ASKS, BARS, NEVER = (
    Severity.NOTE,
    Severity.WARNING,
    Severity.ASKS,
    Severity.BARS,
    Severity.NEVER,
)


def longer(run: Run) -> Run:
    old = run.series[Signal.LOSS]
    more = Series((*old.steps, *range(STEPS + 1, 361)), (*old.values, *[2.3 + n / 1e4 for n in range(60)]))
    return replace(run, series={**run.series, Signal.LOSS: more})


def same_losses(run: Run, other: Run, first: int = STEPS) -> Run:
    mine, theirs = run.series[Signal.LOSS], other.series[Signal.LOSS]
    values = (*theirs.values[:first], *mine.values[first:])
    return replace(run, series={**run.series, Signal.LOSS: Series(mine.steps, values)})


def wider(run: Run) -> Run:
    """Larger and slower, and as cheap as ever by its own word."""
    speed = run.series[Signal.SPEED]
    slow = Series(speed.steps, tuple(value / 1.8 for value in speed.values))
    facts = {**run.facts, Signal.PARAMETERS: 900_000.0}
    return replace(run, series={**run.series, Signal.SPEED: slow}, facts=facts)


RUN = healthy(0, 5)
NAME = "one-source"
PLANTS: list[tuple[str, Severity, Seen]] = [
    (
        "gradient-explosion",
        WARNING,
        seen(with_series(Signal.GRAD_NORM, lambda step, value: value * (4 if step > 150 else 1))),
    ),
    ("rate-at-zero", WARNING, seen(with_series(Signal.RATE, lambda step, value: 0.0 if step > 40 else value))),
    ("not-learning", WARNING, seen(with_series(Signal.UPDATE, lambda step, value: value / 50))),
    ("frozen-parameters", BARS, seen(with_fact(Signal.UNMOVED, "blocks.1.mlp.up.weight blocks.1.mlp.up.bias"))),
    ("stale-gradients", BARS, seen(with_series(Signal.STALE, lambda step, value: 0.9))),
    ("alike-gradients", BARS, seen(with_series(Signal.HEAD_COSINE, lambda step, value: 0.95))),
    ("dead-units", WARNING, seen(with_series(Signal.DEAD_UNITS, lambda step, value: 0.97))),
    ("attention-logits", WARNING, seen(with_series(Signal.ATTENTION, lambda step, value: 60.0 + step))),
    ("throughput", NOTE, seen(with_series(Signal.SPEED, lambda step, value: value / 2))),
    (
        "contended",
        NOTE,
        seen(with_series(Signal.SPEED, lambda step, value: value / 2), siblings=(healthy(1), healthy(2))),
    ),
    ("repetition", WARNING, seen(replace(RUN, rows=rows(3, of=600)))),
    ("held-text", BARS, seen(replace(RUN, rows=rows(0, common=0.5)))),
    ("lookahead", BARS, seen(with_fact(Signal.LOOKAHEAD, 0.02))),
    ("large-gain", ASKS, seen(replace(RUN, score=3.0))),
    ("wrong-target", BARS, seen(with_series(Signal.LOSS, lambda step, value: 0.01 if step > 100 else value))),
    ("forged-report", NEVER, seen(replace(RUN, reported=3.45))),
    ("changed-files", NEVER, seen(RUN, changed=("data.py",))),
    ("no-op", BARS, seen(same_losses(RUN, healthy(0)))),
    ("unwired-seed", BARS, seen(RUN, siblings=(replace(RUN, seed=1),))),
    ("wrong-seed", NEVER, seen(with_fact(Signal.SEED_USED, "1000"))),
    ("wrong-seed", NEVER, seen(with_fact(Signal.DATA_ORDER, "order 2"))),
    ("step-budget", NEVER, seen(longer(RUN))),
    ("token-budget", NEVER, seen(with_fact(Signal.TOKENS, 612_352.0))),
    ("compute-claim", WARNING, seen(wider(RUN))),
    ("one-source", ASKS, seen(replace(RUN, sources={"code": 3.5, "arithmetic": 2.9}))),
    ("silenced", WARNING, seen(replace(RUN, rows=(), facts={Signal.FIRST_LOSS: 5.5, Signal.DATA_ORDER: "order 0"}))),
    ("unpaired", NOTE, seen(with_fact(Signal.FIRST_LOSS, 5.7))),
]


def named(found: list[Finding], name: str) -> list[Finding]:
    return [each for each in found if each.detector == name]


class TestPlants:
    @pytest.mark.parametrize(("name", "severity", "planted"), PLANTS, ids=[name for name, _, _ in PLANTS])
    def test_each_is_caught_by_its_own_rule(self, name, severity, planted):
        (found,) = named(judge(planted), name)
        assert found.severity is severity
        assert found.sentence
        assert found.sentence.isprintable()
        assert all(isinstance(value, float) for value in found.evidence.values())

    def test_every_detector_that_looks_at_runs_has_a_plant(self):
        live = {"non-finite", "divergence", "loss-spike", "gradient-spike", "stall"}  # tests/test_detectors_live.py
        assert {name for name, _, _ in PLANTS} | live == {each.name for each in DETECTORS}


class TestHealthyRuns:
    @given(seed=st.integers(0, 4), noise=st.integers(1, 10**6))
    @settings(max_examples=15, deadline=None)
    def test_nothing_is_found_in_a_run_like_the_trunks(self, seed, noise):
        run = healthy(seed, noise)
        siblings = (healthy(seed + 1, noise), healthy(seed + 2, noise))
        assert judge(seen(run, trunk=healthy(seed), siblings=siblings)) == []

    def test_of_two_runs_of_the_same_code_nobody_knows_which_is_the_odd_one(self):
        slow = with_series(Signal.SPEED, lambda step, value: value / 2)
        assert not named(judge(seen(slow, siblings=(healthy(1),))), "contended")

    def test_a_gradient_of_twice_the_length_is_nothing(self):
        assert not judge(seen(with_series(Signal.GRAD_NORM, lambda step, value: 2 * value)))

    def test_decay_to_zero_at_the_end_is_no_rate_at_zero(self):
        assert not judge(seen(with_series(Signal.RATE, lambda step, value: value * (1 - step / STEPS))))

    def test_a_tensor_that_the_trunk_does_not_move_either_is_not_frozen(self):
        trunk = replace(healthy(0), facts={**healthy(0).facts, Signal.UNMOVED: "positions.weight"})
        assert not judge(seen(with_fact(Signal.UNMOVED, "positions.weight"), trunk=trunk))

    def test_a_speed_up_that_leaves_the_losses_alone_is_noted_only(self):
        (found,) = judge(seen(same_losses(RUN, healthy(0)), category=Category.SYSTEMS))
        assert (found.detector, found.severity) == ("no-op", NOTE)

    def test_a_change_that_acts_later_is_noted_only(self):
        (found,) = judge(seen(same_losses(RUN, healthy(0), first=30)))
        assert (found.detector, found.severity) == ("no-op", NOTE)

    def test_an_honest_large_gain_is_never_barred(self):
        assert [each.severity for each in judge(seen(replace(RUN, score=2.8)))] == [ASKS]

    def test_a_word_that_the_trunk_does_not_keep_either_is_the_lab_files_fault(self):
        trunk = replace(healthy(0), reported=3.45)
        assert not judge(seen(replace(RUN, reported=3.41), trunk=trunk))

    def test_a_higher_training_loss_is_no_wrong_target(self):
        assert not judge(seen(with_series(Signal.LOSS, lambda step, value: 1.5 * value)))

    def test_a_source_that_is_worse_with_a_total_that_shows_it_needs_no_word(self):
        worse = replace(RUN, score=3.6, sources={"code": 3.5, "arithmetic": 2.9})
        assert not named(judge(seen(worse)), "one-source")

    def test_small_losses_on_one_source_are_added_up_from_the_first_trunk_on(self):
        begun = replace(healthy(0), sources={"code": 3.6, "arithmetic": 2.1})
        before, after = ({"code": 3.6, "arithmetic": each} for each in (2.3, 2.36))  # the spread of arithmetic is 0.02
        (found,) = named(
            judge(seen(replace(RUN, sources=after), trunk=replace(begun, sources=before), first=begun)), NAME
        )
        assert (found.severity, found.place.what) == (ASKS, "arithmetic since the campaign's first trunk")
        assert (found.evidence["trunk"], found.evidence["value"]) == (2.1, 2.36)
        assert not named(judge(seen(replace(RUN, sources=after), trunk=replace(begun, sources=before))), NAME)

    def test_a_loss_to_the_present_trunk_is_not_told_twice(self):
        begun = replace(healthy(0), sources={"code": 3.6, "arithmetic": 2.1})
        assert len(named(judge(seen(replace(RUN, sources={"arithmetic": 2.9}), trunk=begun, first=begun)), NAME)) == 1

    def test_for_scores_to_maximise_a_source_is_worse_when_it_falls(self):
        fallen = replace(RUN, sources={"code": 3.6, "arithmetic": 1.2})
        assert named(judge(seen(fallen, lower_is_better=False)), "one-source")
        assert not named(judge(seen(fallen)), "one-source")

    def test_a_trunk_that_reports_nonsense_breaks_nothing(self):
        nonsense = replace(healthy(0), series={signal: Series((10, 20), (0.0, 0.0)) for signal in SERIES})
        judge(seen(with_series(Signal.SPEED, lambda step, value: -value), trunk=nonsense))


class TestSignals:
    def test_every_signal_is_explained_and_needed_by_somebody(self):
        assert set(MEANING) == set(Signal)
        needed = frozenset[Signal]().union(*(each.needs for each in DETECTORS))
        assert set(Signal) == needed

    def test_a_lab_that_prints_a_loss_has_what_a_loss_can_say(self):
        names = {each.name for each in active(frozenset({Signal.LOSS}))}
        assert names == {"non-finite", "loss-spike"}

    def test_what_would_wake_the_others_is_told_cheapest_first(self):
        found = asleep(frozenset({Signal.LOSS, Signal.TRUNK}))
        missing = {each.detector.name: each.missing for each in found}
        assert missing["dead-units"] == (Signal.DEAD_UNITS,)
        assert missing["held-text"] == (Signal.HELD, Signal.ROWS)
        assert [len(each.missing) for each in found] == sorted(len(each.missing) for each in found)

    def test_with_everything_known_none_sleeps(self):
        assert asleep(seen().signals) == ()

    @pytest.mark.parametrize("signal", [*SERIES, *FACTS, Signal.ROWS, Signal.SCORE, Signal.TRUNK])
    def test_a_missing_signal_puts_rules_to_sleep_and_breaks_none(self, signal):
        run = RUN
        if signal in SERIES:
            run = replace(run, series={name: each for name, each in run.series.items() if name is not signal})
        elif signal in FACTS:
            run = replace(run, facts={name: each for name, each in run.facts.items() if name is not signal})
        elif signal is Signal.ROWS:
            run = replace(run, rows=())
        elif signal is Signal.SCORE:
            run = replace(run, score=None)
        judged = judge(seen(run, trunk=None) if signal is Signal.TRUNK else seen(run))
        assert {each.detector for each in judged} <= {"silenced"}
        bare = Seen(RUN, trunk=replace(run, seed=0))
        judge(bare)  # and the same missing in the trunk


class TestUntrustedRuns:
    values = st.floats()
    series = st.lists(st.tuples(st.integers(0, 2**53), values), max_size=20).map(Series.of)
    facts = st.dictionaries(st.sampled_from(FACTS), st.one_of(values, st.text(max_size=20)))
    runs = st.builds(
        Run,
        st.integers(0, 3),
        st.dictionaries(st.sampled_from(SERIES), series),
        facts,
        st.just(()),
        st.one_of(st.none(), values),
        st.dictionaries(st.sampled_from(["code", "docs"]), values),
        st.one_of(st.none(), values),
        st.one_of(st.none(), values),
    )

    @given(runs, runs)
    @settings(max_examples=100, deadline=None)
    def test_no_series_or_summary_breaks_a_detector(self, run, trunk):
        spread = {"spread": 0.01, "source_spread": {"code": 0.1}, "steps": 300}
        for found in judge(Seen(run, trunk=trunk, siblings=(trunk,), trunk_siblings=(trunk,), **spread)):
            assert found.sentence
