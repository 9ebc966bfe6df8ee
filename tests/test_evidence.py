"""A researcher adds seeds one by one and looks after each: the evidence still means what it says."""

from __future__ import annotations

import math
import random
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from engine.judge.evidence import LARGE, MODEST, PRIOR, VAST, evidence, log_likelihood, sample
from engine.judge.intervals import below_zero, interval
from engine.judge.noise import Noise, Pool, noise, pairing, pooled, sigma_of
from engine.judge.shrinking import GAINS, shrunk

many = settings(max_examples=200, deadline=None)
LOOSE, TIGHT = Noise(1.0, math.sqrt(2)), Noise(1.0, 0.4)
some_noise = st.builds(Noise, st.just(1.0), st.floats(0.1, 3.0))
gains = st.lists(st.floats(-150, 150), min_size=1, max_size=10)


def drawn(draw: random.Random, n: int, against: Noise, gain: float = 0.0) -> list[float]:
    """Differences as the prior has them: a variance from the scaled inverse chi-square, then normal around the gain."""
    spread = against.scale * math.sqrt(PRIOR / draw.gammavariate(PRIOR / 2, 2))
    return [draw.gauss(gain, spread) for _ in range(n)]


# --- E


@pytest.mark.parametrize("found", [[1.3], [0.2, -0.4], [2.1, 3.0, 2.4, 2.2], [-1.0, 30.0, 4.0], [0.0] * 10])
@pytest.mark.parametrize("against", [LOOSE, TIGHT])
def test_the_likelihood_is_the_integral_over_the_unknown_variance(found: list[float], against: Noise) -> None:
    scale = PRIOR * against.scale**2

    def likelihood(gain: float) -> float:
        # t = scale / variance has a chi-square distribution with 8 degrees of freedom
        def integrand(t: float) -> float:
            spread = math.sqrt(scale / t)
            return float(math.exp(stats.norm.logpdf(found, gain, spread).sum() + stats.chi2.logpdf(t, PRIOR)))

        return float(integrate.quad(integrand, 0, math.inf, epsabs=0, epsrel=1e-10, limit=400)[0])

    seen = sample(found)
    for gain in (0.5, 2.0, 6.0):
        by_formula = math.exp(log_likelihood(seen, gain, against) - log_likelihood(seen, 0.0, against))
        assert by_formula == pytest.approx(likelihood(gain) / likelihood(0.0), rel=1e-6)


def test_e_is_the_weighted_mean_of_the_ratios() -> None:
    found = sample([1.5, 2.5, 0.5])
    ratios = {
        grid: math.fsum(
            math.exp(log_likelihood(found, gain * 1.0, LOOSE) - log_likelihood(found, 0.0, LOOSE)) for gain in grid
        )
        / len(grid)
        for grid in (MODEST, LARGE, VAST)
    }
    seen = evidence(found, LOOSE)
    assert seen.modest == pytest.approx(ratios[MODEST])
    assert seen.total == pytest.approx(0.9 * ratios[MODEST] + 0.1 * ratios[LARGE], rel=1e-5)
    assert evidence(sample([]), LOOSE).total == pytest.approx(1.0)


@pytest.mark.parametrize("against", [LOOSE, TIGHT])
def test_the_mean_of_e_under_no_gain_is_one_by_integration(against: Noise) -> None:
    one = stats.t(PRIOR, 0, against.scale)

    def weighed(d: float) -> float:
        return float(one.pdf(d)) * evidence(sample([d]), against).total

    parts = [
        -1000.0,
        -20.0,
        -5.0,
        0.0,
        *(around * gain for gain in (*MODEST, *LARGE, *VAST) for around in (0.9, 1, 1.1)),
    ]
    mean = sum(
        integrate.quad(weighed, lo, hi, limit=200, epsabs=1e-6, epsrel=1e-4)[0] for lo, hi in pairwise(sorted(parts))
    )
    assert mean == pytest.approx(1.0, abs=2e-3)


def test_the_mean_of_e_under_no_gain_is_at_most_one_after_every_pair() -> None:
    draw, runs = random.Random(7), 2500
    for against in (LOOSE, TIGHT):
        totals = [[] for _ in range(10)]  # type: list[list[float]]
        for _ in range(runs):
            found = drawn(draw, 10, against)
            for n in range(10):
                totals[n].append(evidence(sample(found[: n + 1]), against).total)
        for each in totals:
            mean = math.fsum(each) / runs
            error = math.sqrt(math.fsum((value - mean) ** 2 for value in each)) / runs
            assert mean <= 1 + 3 * error


def test_e_reaches_twenty_by_luck_in_one_stream_of_twenty_at_most() -> None:
    draw, runs = random.Random(11), 2500
    for against in (LOOSE, TIGHT):
        lucky = 0
        for _ in range(runs):
            found = drawn(draw, 10, against)
            lucky += any(evidence(sample(found[: n + 1]), against).total >= 20 for n in range(10))
        assert lucky / runs <= 0.05
        assert lucky  # it does come about: the test looks where luck lies


@many
@given(gains, some_noise, st.randoms(use_true_random=False))
def test_the_order_of_the_seeds_does_not_matter(found: list[float], against: Noise, draw: random.Random) -> None:
    mixed = list(found)
    draw.shuffle(mixed)
    assert evidence(sample(found), against) == evidence(sample(mixed), against)


@many
@given(gains, some_noise, st.floats(-150, -1e-6))
def test_one_more_seed_that_is_worse_never_helps_over_the_bar(found: list[float], against: Noise, worse: float) -> None:
    before, after = evidence(sample(found), against).total, evidence(sample([*found, worse]), against).total
    if max(before, after) >= 6:  # below that a wider spread may move E either way, far from every bar
        assert after <= before


@many
@given(gains, some_noise, st.floats(0.01, 100))
def test_another_unit_changes_nothing(found: list[float], against: Noise, unit: float) -> None:
    scaled = Noise(against.sigma * unit, against.scale * unit)
    there = evidence(sample([each * unit for each in found]), scaled)
    here = evidence(sample(found), against)
    assert there.total == pytest.approx(here.total, rel=1e-6)
    assert shrunk(sample([each * unit for each in found]), scaled) == pytest.approx(
        shrunk(sample(found), against) * unit, rel=1e-6, abs=1e-12
    )


def test_a_gain_far_beyond_the_grid_of_large_ones_still_counts() -> None:
    for gain in (150, 300, 500, 1000, 5000):
        assert evidence(sample([gain] * 3), LOOSE).total >= 20


def test_a_failed_run_cannot_be_slipped_in_as_a_number() -> None:
    with pytest.raises(ValueError, match="not finite"):
        sample([1.0, math.nan])


# --- intervals


def test_an_interval_holds_although_it_is_looked_at_after_every_seed() -> None:
    draw, runs, gain = random.Random(3), 100, 1.7
    for level, against in ((0.9, LOOSE), (0.95, TIGHT)):
        left = 0
        for _ in range(runs):
            found = drawn(draw, 10, against, gain)
            bounds = [interval(sample(found[:n]), against, level) for n in range(1, 11)]
            left += any(each is None or not each[0] <= gain <= each[1] for each in bounds)
        assert left / runs <= 1 - level


@many
@given(st.lists(st.floats(-20, 20), min_size=1, max_size=10), some_noise)
def test_the_interval_clears_zero_just_when_e_reaches_twenty(found: list[float], against: Noise) -> None:
    seen = sample(found)
    bounds = interval(seen, against)
    assert bounds is not None
    lo, hi = bounds
    assert lo < seen.mean < hi
    if evidence(seen, against).total > 20.001:
        assert lo > 0
    if below_zero(seen, against) and evidence(seen, against, sign=-1).total > 20.001:
        assert hi < 0
    mirrored = interval(sample([-each for each in found]), against)
    assert mirrored == pytest.approx((-hi, -lo), rel=1e-6, abs=1e-9)


def test_more_seeds_of_the_same_gain_make_it_narrower() -> None:
    widths = [b - a for n in range(1, 11) if (found := interval(sample([1.0] * n), LOOSE)) for a, b in [found]]
    assert len(widths) == 10
    assert all(after < before for before, after in pairwise(widths))


def test_without_a_pair_there_is_no_interval_and_a_level_in_per_cent_is_refused() -> None:
    assert interval(sample([]), LOOSE) is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval(sample([1.0]), LOOSE, 90)


# --- ranking


def test_a_sure_gain_outranks_a_bigger_one_that_rests_on_one_seed() -> None:
    sure, lucky = shrunk(sample([1.4, 1.5, 1.6, 1.5, 1.5, 1.4]), LOOSE), shrunk(sample([2.0]), LOOSE)
    assert sure > lucky
    assert 0 < lucky < 2.0


def test_nothing_that_harms_is_ranked_and_a_big_gain_is_ranked_as_it_is() -> None:
    assert shrunk(sample([-3.0, -3.1]), LOOSE) < 0.1
    assert shrunk(sample([]), LOOSE) == 0
    assert shrunk(sample([16.0] * 10), TIGHT) == pytest.approx(16.0, rel=0.02)
    assert max(GAINS) == 64


# --- noise


def test_sigma_is_the_spread_over_the_calibration_seeds() -> None:
    assert sigma_of([2.0, 2.1, 2.2]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="not wired"):
        sigma_of([2.0, 2.0, 2.0])
    with pytest.raises(ValueError, match="two seeds"):
        sigma_of([2.0])
    with pytest.raises(ValueError, match="mend the trunk"):
        sigma_of([2.0, math.inf])


def test_past_proposals_that_share_their_luck_with_the_trunk_make_differences_count_for_more() -> None:
    pool, draw = Pool(), random.Random(5)
    assert noise(0.1, pool).scale == pytest.approx(0.1 * math.sqrt(2))
    pools = list(
        accumulate(range(40), lambda past, _: pooled(past, [draw.gauss(1, 0.03) for _ in range(3)], 0.1), initial=pool)
    )
    assert pools[-1].df == 80
    assert noise(0.1, pools[-1]).scale == pytest.approx(0.05, rel=0.3)


def test_one_wild_proposal_is_clipped_and_a_single_pair_says_nothing_of_the_spread() -> None:
    assert pooled(Pool(), [1000.0], 0.1) == Pool()
    wild = pooled(Pool(), [-1000.0, 1000.0], 0.1)
    assert wild.df == 1
    assert wild.ss == pytest.approx(2 * (2 * 0.1 * math.sqrt(2)) ** 2)
    with pytest.raises(ValueError, match="calibrate"):
        noise(0.0, Pool())
    with pytest.raises(ValueError, match="zero or more"):
        noise(1.0, Pool(-1, 0.0))


def test_tight_is_measured_and_never_assumed() -> None:
    assert pairing((5.545, "a1"), (5.545, "a1")) == "tight"
    assert pairing((5.545, "a1"), (5.546, "a1")) == "loose"
    assert pairing((5.545, "a1"), (5.545, "b2")) == "loose"
    assert pairing((None, "a1"), (None, "a1")) == "loose"
    assert pairing((5.545, ""), (5.545, "")) == "loose"
