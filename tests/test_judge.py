"""A researcher trusts the verdict: it never rests on one lucky seed, and a failed seed is never forgotten."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engine.judge.pairs import Failure, Pair, ShardFact, failures, pair, rerun, voided
from engine.judge.student import quantile
from engine.judge.verdict import judge
from engine.types import Direction, Outcome, Verdict

metric = st.floats(0.5, 10, allow_nan=False)
both_sides = st.lists(st.tuples(metric, metric), min_size=1, max_size=8)
many = settings(max_examples=150, deadline=None)


def done(value: float) -> ShardFact:
    return ShardFact(Outcome.FINISHED, value)


def failed(outcome: Outcome) -> ShardFact:
    return ShardFact(outcome, None)


def pairs_of(values: list[tuple[float, float]], direction: Direction = "min") -> tuple[Pair, ...]:
    trunk = {seed: done(ours) for seed, (ours, _) in enumerate(values)}
    candidate = {seed: done(theirs) for seed, (_, theirs) in enumerate(values)}
    return pair(trunk, candidate, direction)


def test_a_lower_loss_is_a_positive_difference_and_so_is_a_higher_accuracy() -> None:
    assert pair({0: done(2.0)}, {0: done(1.5)}, "min")[0] == Pair(0, 2.0, 1.5, 0.5)
    assert pair({0: done(0.25)}, {0: done(0.75)}, "max")[0] == Pair(0, 0.25, 0.75, 0.5)


def test_three_better_seeds_are_solid_and_the_sentence_can_be_read_aloud() -> None:
    judged = judge(pairs_of([(2.10, 2.08), (2.20, 2.176), (2.15, 2.13)]), (), 3, unit="bits per byte")
    assert judged.verdict is Verdict.SOLID
    assert judged.sentence == "+0.0213 bits per byte on 3 of 3 seeds, 95 % interval +0.0156 to +0.0271"
    assert judged.row("screen")["rung"] == "screen"
    assert judged.row("screen")["verdict"] == "solid"


def test_one_or_two_wonderful_seeds_stay_undecided() -> None:
    one = judge(pairs_of([(3.0, 1.0)]), (), 3)
    two = judge(pairs_of([(3.0, 1.0), (3.1, 1.0)]), (), 3)
    assert (one.verdict, one.lo, one.se, one.n) == (Verdict.UNDECIDED, None, None, 1)
    assert (two.verdict, two.lo, two.n) == (Verdict.UNDECIDED, None, 2)
    assert two.se is not None
    assert "1 more before anything can be said" in two.sentence
    assert judge((), (), 3).sentence == "no pair yet of 3 seeds"


def test_a_lab_with_two_seeds_never_gets_a_verdict() -> None:
    assert judge(pairs_of([(3.0, 1.0), (3.1, 1.0)]), (), 2).verdict is Verdict.UNDECIDED


def test_noise_is_undecided_until_every_wanted_seed_is_in() -> None:
    noisy = pairs_of([(2.0, 1.9), (2.0, 2.1), (2.0, 1.99)])
    assert judge(noisy, (), 5).verdict is Verdict.UNDECIDED
    assert judge(noisy, (), 3).verdict is Verdict.NOT_SOLID


def test_a_worse_experiment_is_harmful() -> None:
    judged = judge(pairs_of([(2.0, 2.2), (2.0, 2.21), (2.0, 2.19)]), (), 3)
    assert judged.verdict is Verdict.HARMFUL
    assert judged.sentence.startswith("-0.2000 on 3 of 3 seeds")


def test_an_experiment_that_changes_nothing_is_called_identical() -> None:
    judged = judge(pairs_of([(2.1, 2.1), (2.2, 2.2), (2.3, 2.3)]), (), 5)
    assert (judged.verdict, judged.effect, judged.lo, judged.hi, judged.se) == (Verdict.NOT_SOLID, 0.0, 0.0, 0.0, 0.0)
    assert judged.sentence == "identical to the trunk on 3 of 5 seeds"


@pytest.mark.parametrize("shift", [-0.1, 0.1])
def test_a_gain_without_any_spread_is_one_run_however_often_it_is_repeated(shift: float) -> None:
    judged = judge(pairs_of([(value, value + shift) for value in (2.1, 2.2, 2.3)]), (), 3)
    assert judged.verdict is Verdict.UNDECIDED
    assert (judged.lo, judged.hi, judged.se) == (None, None, None)
    assert "one run, not 3" in judged.sentence


def test_a_first_peek_decides_nothing() -> None:
    gains = [(2.0, 1.9), (2.0, 1.91), (2.0, 1.92)]
    assert judge(pairs_of(gains), (), 5).verdict is Verdict.UNDECIDED
    assert judge(pairs_of(gains), (), 3).verdict is Verdict.SOLID


def test_differences_in_the_last_bit_of_the_metric_are_no_gain() -> None:
    judged = judge(pairs_of([(value, math.nextafter(value, 0)) for value in (2.1, 2.2, 2.3)]), (), 3)
    assert judged.verdict is Verdict.NOT_SOLID
    assert "identical" in judged.sentence


def test_a_tiny_gain_is_not_printed_as_zero() -> None:
    judged = judge(pairs_of([(2.0, 2.0 - 1e-6), (2.1, 2.1 - 1.1e-6), (2.2, 2.2 - 0.9e-6)]), (), 3)
    assert judged.sentence.startswith("+1e-06 on 3 of 3 seeds, 95 % interval +7.5e-07 to ")


@pytest.mark.parametrize("outcome", [each for each in Outcome if each.own_fault])
def test_an_own_fault_failure_breaks_the_experiment_and_hides_the_survivors_gain(outcome: Outcome) -> None:
    trunk = {seed: done(2.0 + seed / 10) for seed in range(4)}
    candidate = {seed: done(1.0 + seed / 100) for seed in range(3)} | {3: failed(outcome)}
    lost = failures(trunk, candidate)
    assert lost == (Failure(3, outcome),)
    judged = judge(pair(trunk, candidate, "min"), lost, 4)
    assert judged.verdict is Verdict.BROKEN
    assert (judged.effect, judged.lo, judged.hi, judged.se) == (None, None, None, None)
    assert judged.sentence == f"{outcome} on seed 3; 3 of 4 seeds finished"


def test_a_non_finite_score_breaks_it_too() -> None:
    facts = {0: done(math.nan)}
    assert failures({0: done(2.0)}, facts) == (Failure(0, Outcome.NONFINITE),)
    assert pair({0: done(2.0)}, facts, "min") == ()
    assert rerun(facts) == ()


@pytest.mark.parametrize("outcome", [Outcome.KILLED, Outcome.LOST])
def test_a_shard_that_was_killed_or_lost_blames_nobody_and_runs_again(outcome: Outcome) -> None:
    trunk, candidate = {0: done(2.0), 1: done(2.1)}, {0: done(1.9), 1: failed(outcome)}
    assert failures(trunk, candidate) == ()
    assert rerun(candidate) == (1,)
    assert [each.seed for each in pair(trunk, candidate, "min")] == [0]


def test_a_seed_on_which_the_trunk_fails_is_void_for_both() -> None:
    trunk, candidate = {0: done(2.0), 1: failed(Outcome.DIVERGED)}, {0: done(1.9), 1: failed(Outcome.DIVERGED)}
    assert voided(trunk) == (1,)
    assert failures(trunk, candidate) == ()
    assert len(pair(trunk, candidate, "min")) == 1


def test_several_failures_are_named_by_kind() -> None:
    lost = (Failure(2, Outcome.CRASHED), Failure(0, Outcome.CRASHED), Failure(1, Outcome.OOM))
    assert judge((), lost, 3).sentence == "crashed on seeds 0, 2, oom on seed 1; 0 of 3 seeds finished"


def test_wrong_use_is_told() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        judge((), (), 3, level=95)
    with pytest.raises(ValueError, match="twice"):
        judge([Pair(0, 2.0, 1.0, 1.0), Pair(0, 2.0, 1.0, 1.0)], (), 3)


@many
@given(both_sides)
def test_the_sign_flips_with_the_direction(values: list[tuple[float, float]]) -> None:
    low, high = judge(pairs_of(values, "min"), (), 8), judge(pairs_of(values, "max"), (), 8)
    mirror = {Verdict.SOLID: Verdict.HARMFUL, Verdict.HARMFUL: Verdict.SOLID}
    assert low.effect == (-high.effect if high.effect is not None else None)
    assert low.se == high.se
    assert mirror.get(low.verdict, low.verdict) is high.verdict


@many
@given(both_sides, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_matter(values: list[tuple[float, float]], random: object) -> None:
    pairs = list(pairs_of(values))
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert judge(pairs, (), 8) == judge(shuffled, (), 8)


@many
@given(st.lists(st.tuples(metric, metric), min_size=3, max_size=8), st.integers(-8, 8), st.integers(-3, 3))
def test_another_unit_or_another_zero_changes_nothing_but_the_unit(
    values: list[tuple[float, float]], shift: int, power: int
) -> None:
    scale = 2.0**power
    plain = judge(pairs_of(values), (), 8)
    moved = judge(pairs_of([(ours * scale + shift, theirs * scale + shift) for ours, theirs in values]), (), 8)
    assert plain.effect is not None
    assert moved.effect is not None
    assert moved.effect == pytest.approx(plain.effect * scale, abs=1e-11)
    assert (moved.se or 0) == pytest.approx((plain.se or 0) * scale, abs=1e-11)
    margin = min(abs(plain.lo or 0), abs(plain.hi or 0))
    if margin > 1e-6:  # not so near to zero that rounding decides
        assert moved.verdict is plain.verdict


@many
@given(st.lists(st.tuples(metric, metric), min_size=3, max_size=8), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_the_one_of_a_paired_t_test(values: list[tuple[float, float]], level: float) -> None:
    judged = judge(pairs_of(values), (), 8, level)
    if judged.se is None or judged.se < 1e-9:
        return  # no spread: scipy divides by zero, and a test of its own covers it
    expected = stats.ttest_rel([ours for ours, _ in values], [theirs for _, theirs in values]).confidence_interval(
        level
    )
    assert judged.lo == pytest.approx(expected.low, abs=1e-9)
    assert judged.hi == pytest.approx(expected.high, abs=1e-9)


@many
@given(st.lists(st.tuples(metric, metric), max_size=2), st.integers(0, 5))
def test_no_verdict_below_three_pairs(values: list[tuple[float, float]], wanted: int) -> None:
    assert judge(pairs_of(values), (), wanted).verdict is Verdict.UNDECIDED


@many
@given(st.floats(1e-6, 1 - 1e-6), st.one_of(st.integers(1, 200).map(float), st.floats(0.5, 1e8)))
def test_quantiles_of_students_t_are_those_of_scipy(p: float, df: float) -> None:
    assert quantile(p, df) == pytest.approx(float(stats.t.ppf(p, df)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("p", "df"), [(0.0, 3.0), (1.0, 3.0), (0.5, 0.0), (math.nan, 3.0), (0.9, math.nan)])
def test_a_quantile_that_does_not_exist_is_refused(p: float, df: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        quantile(p, df)


def test_judging_loads_no_library() -> None:
    code = (
        "import engine.judge.verdict, sys; print(*(m for m in ('scipy', 'numpy', 'duckdb', 'git') if m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
