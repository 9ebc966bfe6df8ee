"""The number on the headline: pairs on seeds that nobody has seen, after the test has said solid.

Whatever was picked because it looked good looks better than it is, its own pairs with it. So before a person signs, fresh
pairs are run; their mean is the headline, and they can still say no. What the trunk has gained over several merges is audited
in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.judge.evidence import sample
from engine.judge.noise import Noise
from engine.judge.student import quantile

FEWEST, MOST = 3, 8
PRIOR = 8
"""Degrees of freedom that the pooled variance is worth beside the fresh pairs' own."""

AUDIT_EVERY, AUDIT_PAIRS = 5, 4
"""An audit after so many merges, on so many fresh pairs against the trunk of as many merges ago."""


@dataclass(frozen=True, slots=True)
class Headline:
    """Mean of fresh pairs with its interval, in the metric's unit. `lo` and `hi` are None without a pair."""

    action: Literal["more", "confirmed", "vetoed"]
    mean: float | None
    lo: float | None
    hi: float | None
    n: int
    why: str


def fresh_seeds(used: Collection[int], count: int, first: int = 1000) -> tuple[int, ...]:
    """The `count` smallest seeds from `first` on that no run of this lab has used: selection seeds are never reused.

    Source: docs/statistics.md (reusing the winner's own runs costs 22 % of the true gain). Raises ValueError when `count`
    is negative.
    """
    if count < 0:
        raise ValueError(f"{count} fresh seeds: ask for none or more")
    found: list[int] = []
    seed = first
    while len(found) < count:
        if seed not in used:
            found.append(seed)
        seed += 1
    return tuple(found)


def pooled_interval(differences: Sequence[float], noise: Noise, level: float = 0.95) -> tuple[float, float, float]:
    """(mean, lo, hi) of fresh paired differences, in the metric's unit, with the class's pooled variance:

        s^2 = (8 s0^2 + sum (d - mean)^2) / (8 + n - 1);   mean -+ t(8 + n - 1) sqrt(s^2 / n)

    The number of pairs has to be fixed, or nearly so: this one may not be peeked at seed by seed. Source: posterior of a
    normal mean under a scaled inverse chi-square variance, Gelman et al., "Bayesian Data Analysis", 3rd ed., section 3.3.
    Raises ValueError without a pair, when one is not finite, and when `level` is not between 0 and 1.
    """
    if not differences:
        raise ValueError("no fresh pair: run three at the least")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give the interval's coverage between 0 and 1, e.g. 0.95")
    found = sample(differences)
    df = PRIOR + found.n - 1
    error = math.sqrt((PRIOR * noise.scale**2 + found.square) / df / found.n)
    reach = quantile(0.5 + level / 2, df) * error
    return found.mean, found.mean - reach, found.mean + reach


def headline(differences: Sequence[float], noise: Noise, failed: Sequence[int] = (), level: float = 0.95) -> Headline:
    """Whether fresh pairs confirm a solid experiment, and the gain to claim for it.

    vetoed      a seed in `failed` (the candidate's own fault), or the mean of three or more is not above zero
    confirmed   three pairs or more, and half of the interval's width is below the mean; or eight pairs
    more        else: one more never-used seed

    `differences` in the metric's unit. Formula and source as for `pooled_interval`; errors too, but none without a pair.
    """
    if failed:
        return Headline("vetoed", None, None, None, len(differences), f"failed on fresh seed {min(failed)}")
    if not differences:
        return Headline("more", None, None, None, 0, "no fresh pair yet")
    mean, lo, hi = pooled_interval(differences, noise, level)
    n = len(differences)
    if n < FEWEST:
        return Headline("more", mean, lo, hi, n, f"{n} of {FEWEST} fresh pairs")
    if mean <= 0:
        return Headline("vetoed", mean, lo, hi, n, f"no gain on {n} fresh seeds")
    if (hi - lo) / 2 < mean:
        return Headline("confirmed", mean, lo, hi, n, f"a gain on {n} fresh seeds")
    if n >= MOST:
        return Headline(
            "confirmed", mean, lo, hi, n, f"above zero on {n} fresh seeds, but the interval reaches below it"
        )
    return Headline("more", mean, lo, hi, n, "the interval is wider than the gain")


@dataclass(frozen=True, slots=True)
class Audit:
    """What several merges claimed beside what the trunk has gained by them, in the metric's unit; `within` is how far the sum
    of the claims is known itself, half of its interval."""

    claimed: float
    audited: float
    lo: float
    hi: float
    within: float = 0.0

    @property
    def overclaimed(self) -> bool:
        """True when the claims lie above what was measured by more than both can be off:

            claimed - audited > sqrt((hi - audited)^2 + within^2)

        The sum of five headlines of three pairs each is known less well than the mean of four pairs is, so the audit's own
        interval alone would call 23 % of honest sums too large (docs/statistics.md).
        """
        return self.claimed - self.audited > math.hypot(self.hi - self.audited, self.within)


def audit_due(merges: int, every: int = AUDIT_EVERY) -> bool:
    """Whether the trunk is to be audited now, so many merges after the last audit: after every fifth one, or as often as the
    lab says; never with `every` at 0. Source: docs/statistics.md. Raises nothing."""
    return 0 < every <= merges


def audit(
    claims: Sequence[float],
    differences: Sequence[float],
    noise: Noise,
    level: float = 0.95,
    *,
    within: Sequence[float] = (),
) -> Audit:
    """Claimed beside audited: the sum of the headlines of past merges, and the mean of fresh pairs of old and new trunk.

    `claims` are the headlines since the last audit, `differences` old trunk's loss less the present one's on fresh seeds,
    four of them (`AUDIT_PAIRS`), both in the metric's unit; `within` half of each claim's interval, which add in squares as
    independent errors do. Formula, source and errors as for `pooled_interval`.
    """
    mean, lo, hi = pooled_interval(differences, noise, level)
    return Audit(math.fsum(claims), mean, lo, hi, math.hypot(*within))
