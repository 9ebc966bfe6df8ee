"""Intervals that hold whenever one looks, by asking of every possible gain whether the pairs speak against it.

A t interval holds for a number of pairs that was fixed before; while seeds are added one by one it is too narrow. These are
the gains that E does not speak against, so each bound may be looked at after every pair.
"""

from __future__ import annotations

import math

from engine.judge.evidence import LARGE, Sample, evidence
from engine.judge.noise import Noise

LEVEL = 0.9
"""Level of what the screen shows: each bound by itself holds with 95 %, so that it clears zero just when E reaches 20."""

_ROUNDS = 30  # of halving: to nine digits


def interval(found: Sample, noise: Noise, level: float = LEVEL) -> tuple[float, float] | None:
    """The gains (lo, hi), in the metric's unit, that are not refuted at `level`; None without a pair.

        lo = the nearest m below the mean with  E(gain > m) >= 2 / (1 - level);   hi likewise from above

    P(the true gain ever leaves it) <= 1 - level, at all numbers of pairs together, given the variance prior; each bound alone
    fails with half of that. Gains more than 10,000 sigma away are not considered. Source: Howard et al. (2021),
    "Time-uniform, nonparametric, nonasymptotic confidence sequences", with the evidence of docs/statistics.md. Raises
    ValueError when `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give the interval's coverage between 0 and 1, e.g. 0.9")
    if found.n == 0:
        return None
    bar = 2 / (1 - level)
    return _bound(found, noise, bar, 1), _bound(found, noise, bar, -1)


def below_zero(found: Sample, noise: Noise, level: float = LEVEL) -> bool:
    """Whether the whole interval lies below zero, without finding its bounds: mean < 0 and E(gain < 0) >= 2 / (1 - level).

    Units, source and errors as for `interval`.
    """
    return found.n > 0 and found.mean < 0 and evidence(found, noise, 0.0, -1).total >= 2 / (1 - level)


def _bound(found: Sample, noise: Noise, bar: float, sign: int) -> float:
    """Where E first reaches `bar`, going from the mean against `sign`; infinite when it does not within the grid's reach."""

    def refuted(distance: float) -> bool:
        return evidence(found, noise, found.mean - sign * distance, sign).total >= bar

    inner, outer = 0.0, noise.sigma / 8
    while not refuted(outer):
        inner, outer = outer, outer * 1.5
        if outer > 2 * LARGE[-1] * noise.sigma:
            return -sign * math.inf
    for _ in range(_ROUNDS):
        middle = (inner + outer) / 2
        inner, outer = (inner, middle) if refuted(middle) else (middle, outer)
    return found.mean - sign * outer
