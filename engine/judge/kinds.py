"""What is tested for each kind of change: a lower loss, the same loss sooner, or hardly a higher loss with less code.

The kind is declared before the run. Otherwise whoever missed the bar with one could pick the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from engine.judge.evidence import Sample, evidence, sample
from engine.judge.noise import Noise, Pool, noise

Kind = Literal["gain", "speed", "simplification"]

MARGIN = 0.5
"""How much worse, in sigma, a simplification may be while the campaign's budget for such margins lasts."""

MARGINS = 2.0
"""The campaign's budget for margins, in sigma, from one audit of the trunk to the next."""


def kappa(short: tuple[float, float], long: tuple[float, float]) -> float:
    """What the logarithm of the number of steps is worth, from the trunk at two lengths:

        kappa = -(loss_long - loss_short) / (ln steps_long - ln steps_short)

    Each length is (steps, mean final loss over seeds); the result is in the metric's unit, never below zero. Source:
    docs/statistics.md. Raises ValueError when the lengths are not positive and ascending.
    """
    if not 0 < short[0] < long[0]:
        raise ValueError(f"the trunk's lengths are {short[0]:g} and {long[0]:g} steps: give a shorter and a longer one")
    return max(0.0, -(long[1] - short[1]) / math.log(long[0] / short[0]))


def worth(difference: float, kind: Kind, sigma: float, *, speed: float, kappa: float, margin: float) -> float:
    """What a paired difference d counts as in the test, in the metric's unit:

        gain            d
        speed           d + kappa ln(speed)     speed = the candidate's tokens/s over the trunk's, same seed and machine
        simplification  d + margin sigma        margin at most .5, and none when the campaign has used its budget up

    Source: docs/statistics.md. Raises ValueError when `speed` is not positive and finite for a change of that kind.
    """
    if kind == "speed":
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"the throughput ratio is {speed}: a speed diff needs tokens per second of both sides")
        return difference + kappa * math.log(speed)
    return difference + min(MARGIN, max(0.0, margin)) * sigma if kind == "simplification" else difference


def sigma_of_kind(sigma: float, kind: Kind, *, kappa: float, spread: float) -> float:
    """Seed-to-seed standard deviation of what is tested, in the metric's unit: sqrt(sigma^2 + (kappa spread)^2) for speed.

    `spread` is the standard deviation of ln(tokens/s) between runs of the trunk. Source: docs/statistics.md, errors add in
    squares. Raises nothing.
    """
    return math.hypot(sigma, kappa * spread) if kind == "speed" else sigma


def same_loss_speed(
    differences: Sequence[float], speeds: Sequence[float], spread: float
) -> tuple[Sample, Noise] | None:
    """ln(speed) as a sample with its noise, when the change leaves every loss as it was, bit by bit; else None.

    Such a change cannot harm, so throughput alone is tested: it is solid on three pairs when E of "faster" reaches the bar,
    that is, when the anytime-valid interval of the throughput ratio is above 1. `differences` in the metric's unit, `speeds`
    are ratios, `spread` as in `sigma_of_kind`; without a spread nothing is known of the machine, and the answer is None.
    Source: docs/statistics.md. Raises ValueError when a ratio is not positive.
    """
    if not differences or any(differences) or not spread > 0:
        return None
    if not all(speed > 0 for speed in speeds):
        raise ValueError("a throughput ratio is not positive: a speed diff needs tokens per second of both sides")
    return sample([math.log(speed) for speed in speeds]), noise(spread, Pool())


def margin_left(spent: Sequence[float], budget: float = MARGINS) -> float:
    """What of the campaign's budget for margins is left, in sigma: budget - sum of what was granted since the last audit.

    Every kept simplification spends what it was granted, whether it used it or not: many harmless-looking steps would add
    up. Source: docs/statistics.md. Raises ValueError when a margin is negative.
    """
    if any(each < 0 for each in spent):
        raise ValueError("a negative margin would pay for others: margins are zero or more, in sigma")
    return max(0.0, budget - math.fsum(spent))


def not_worse(differences: Sequence[float], sigma: Noise, margin: float = MARGIN) -> float:
    """E for "it loses less than the margin" against "it loses the margin": `evidence` of d + margin sigma.

    `differences` in the metric's unit, `margin` in sigma. Source: docs/statistics.md. Raises ValueError when a difference is
    not finite.
    """
    return evidence(sample([each + margin * sigma.sigma for each in differences]), sigma).total
