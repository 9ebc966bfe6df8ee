"""PEER, the paired evidence ratio: how much better a gain explains the pairs than no gain does.

E is a mixture of likelihood ratios, so under "no gain" its mean is one at every number of pairs, whoever looks at it and
whenever they stop (Ville, 1939): E of 20 comes about by luck in one of twenty cases at most. That is what lets the next seed
be decided upon after seeing the last. Only `math`: this is read by whatever wants to judge, and called thousands of times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.judge.noise import Noise

PRIOR = 8
"""Degrees of freedom of the scaled inverse chi-square prior of the variance of a difference: light tails, learned slowly."""

MODEST = (0.5, 1.0, 1.5, 2.0, 3.0)
"""Gains, in sigma, that most of the weight is laid on: what a good change of a tuned trunk brings."""

LARGE = (6.0, 12.0, 24.0, 48.0, 96.0)
"""Gains that let big wins through: without them a steady gain of 30 sigma explains nothing that MODEST offers."""

VAST = tuple(96 * 2 ** (step / 2) for step in range(1, 15))
"""Gains up to 12,288 sigma at next to no weight: without them E falls again from 200 sigma on."""

SHARES = (0.9, 0.1, 1e-6)
"""Weights of MODEST, LARGE and VAST; VAST's is taken from MODEST's, so that they add up to one."""

_LARGEST = 1e16  # a ratio of squares; above it powers overflow, and no bar is as high


@dataclass(frozen=True, slots=True)
class Sample:
    """What E depends on: how many differences, their mean, and their sum of squares around it. Their order is gone."""

    n: int
    mean: float
    square: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """`total` is E, at any time comparable with a bar; `modest` the mean ratio over MODEST alone, which futility looks at."""

    total: float
    modest: float


def sample(differences: Sequence[float]) -> Sample:
    """The sufficient statistics of paired differences (metric's unit, above zero is better), whatever their order.

    mean = sum d / n;  square = sum (d - mean)^2, both by exact summation. Source: textbook. Raises ValueError when one is
    not finite: a failed run has no difference, and is never left out silently (`engine.judge.policy`).
    """
    if not all(math.isfinite(each) for each in differences):
        raise ValueError("a difference is not finite: a failed run belongs in the outcome, not among the differences")
    if not differences:
        return Sample(0, 0.0, 0.0)
    mean = math.fsum(differences) / len(differences)
    return Sample(len(differences), mean, math.fsum((each - mean) ** 2 for each in differences))


def log_likelihood(found: Sample, gain: float, noise: Noise) -> float:
    """Logarithm of the marginal likelihood of the differences if the true gain were `gain`, but for a constant:

        L(x) = (1 + sum (d_i - x)^2 / (8 s0^2)) ** (-(8 + n) / 2)

    `gain` in the metric's unit. The variance is integrated out of a normal likelihood over its scaled inverse chi-square
    prior with 8 degrees of freedom and scale s0^2 (Gelman et al., "Bayesian Data Analysis", 3rd ed., section 3.3).
    Raises nothing.
    """
    square = found.square + found.n * (found.mean - gain) ** 2
    return -(PRIOR + found.n) / 2 * math.log1p(square / (PRIOR * noise.scale**2))


def evidence(found: Sample, noise: Noise, at: float = 0.0, sign: int = 1) -> Evidence:
    """E for "the gain is larger than `at`" against "it is `at`":

        E = .9 mean over x in MODEST of L(at + x sigma) / L(at)  +  .1 the same over LARGE  (+ 1e-6 over VAST)

    `at` in the metric's unit; `sign` -1 asks whether it is smaller. Without pairs E is 1. Given the variance prior,
    P(E ever reaches b) <= 1/b if the gain is `at`. Source: docs/statistics.md; mixtures of likelihood ratios as e-processes:
    Ramdas et al. (2023), "Game-theoretic statistics and safe anytime-valid inference". Raises nothing.
    """
    spread = PRIOR * noise.scale**2 + found.square
    mean, step = found.mean - at, sign * noise.sigma
    none = spread + found.n * mean * mean
    power = (PRIOR + found.n) / 2

    def mean_ratio(grid: tuple[float, ...]) -> float:
        ratios = [none / (spread + found.n * (mean - gain * step) ** 2) for gain in grid]
        return math.fsum([min(ratio, _LARGEST) ** power for ratio in ratios]) / len(grid)

    modest, large, vast = mean_ratio(MODEST), mean_ratio(LARGE), mean_ratio(VAST)
    return Evidence((SHARES[0] - SHARES[2]) * modest + SHARES[1] * large + SHARES[2] * vast, modest)
