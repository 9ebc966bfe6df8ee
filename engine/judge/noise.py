"""How far losses move by the seed alone: the trunk's spread, and the spread of paired differences pooled over past proposals.

A difference of two runs can only be weighed against what two runs of the same code differ by. With one or two pairs nobody
knows that from the pairs themselves, so it is calibrated once a trunk and learned, class by class, from what was tried before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Pairing = Literal["tight", "loose"]
"""Whether a seed's luck is shared by both sides: `tight` when it was measured to be (`pairing`), else `loose`."""

CALIBRATION = 8
"""Trunk runs, each with a seed of its own, that sigma is measured on; they stay as the cached baseline."""

LEAST_CALIBRATION = 3
"""Trunk runs before anything is judged at all, with a sigma that is widened for want of the others."""

PRIOR_DF = 5
"""How many degrees of freedom the guess 2 sigma^2 is worth against what past proposals have shown."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What past proposals of one class (tight or loose) have shown of the spread within a proposal.

    `df` counts degrees of freedom (pairs less one, summed over proposals), `ss` is the sum of squares in the metric's unit
    squared.
    """

    df: int = 0
    ss: float = 0.0


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise that evidence is weighed against, in the metric's unit.

    `sigma` is the seed-to-seed standard deviation of the trunk; `scale` (s0) that of one paired difference, the scale of its
    scaled inverse chi-square prior.
    """

    sigma: float
    scale: float


def sigma_of(losses: Sequence[float]) -> float:
    """Seed-to-seed standard deviation of the trunk: sqrt(sum (l - mean)^2 / (n - 1)), in the metric's unit.

    `losses` are final losses of one commit, one budget and one rung, a seed each: eight (`CALIBRATION`), two at the least.
    The relative standard error of the result is about 1 / sqrt(2 (n - 1)): 27 % for eight. Source: docs/statistics.md.
    Raises ValueError below two losses, when one is not finite, and when all are the same: then the seed changes nothing, n
    stays 1 however often it is run, and nothing can be tested.
    """
    if len(losses) < 2:
        raise ValueError(f"{len(losses)} calibration runs: sigma needs two seeds at least, better {CALIBRATION}")
    if not all(math.isfinite(loss) for loss in losses):
        raise ValueError("a calibration run of the trunk has no finite loss: mend the trunk before anything is tested")
    if max(losses) == min(losses):
        raise ValueError(
            f"the trunk's loss is {losses[0]:.6g} on every seed: the seed is not wired, so nothing can be tested"
        )
    mean = math.fsum(losses) / len(losses)
    return math.sqrt(math.fsum((loss - mean) ** 2 for loss in losses) / (len(losses) - 1))


def sigma_so_far(losses: Sequence[float]) -> float | None:
    """Sigma while calibration is still going on, in the metric's unit; None below three seeds.

        sigma_of(losses) * sqrt(7 / (n - 1)),   at n >= 8 just sigma_of

    With few seeds the spread is as likely too small as too large, and too small makes luck look like evidence, so it is
    widened as far as its degrees of freedom fall short. Source: docs/statistics.md. Raises ValueError as `sigma_of` does.
    """
    if len(losses) < LEAST_CALIBRATION:
        return None
    return sigma_of(losses) * math.sqrt((CALIBRATION - 1) / (min(len(losses), CALIBRATION) - 1))


def noise(sigma: float, pool: Pool) -> Noise:
    """The noise of one class:

        s0^2 = (5 * 2 sigma^2 + SS) / (5 + df)

    `sigma` and the root of `pool.ss` are in the metric's unit. 2 sigma^2 is what two runs without anything in common
    differ by; proposals that share the seed's luck pull it down. Source: docs/statistics.md; the conjugate update of a
    scaled inverse chi-square variance (Gelman et al., "Bayesian Data Analysis", 3rd ed., section 2.6). Raises ValueError
    when sigma is not positive and finite, or the pool is negative or not finite.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma is {sigma}: calibrate on two seeds of the trunk that differ")
    if pool.df < 0 or pool.ss < 0 or not math.isfinite(pool.ss):
        raise ValueError(f"pooled sum of squares {pool.ss} with {pool.df} degrees of freedom: both are zero or more")
    return Noise(sigma, math.sqrt((PRIOR_DF * 2 * sigma**2 + pool.ss) / (PRIOR_DF + pool.df)))


def pooled(pool: Pool, differences: Sequence[float], sigma: float) -> Pool:
    """The pool with one more past proposal of its class:

        df + n - 1;   SS + sum of min((d - mean)^2, (2 s0)^2)

    `differences` are all of that proposal's paired differences in the metric's unit; one pair, or none, adds nothing. The
    clip, at the s0 before, keeps one wild proposal from making every later one look quiet. Source: docs/statistics.md.
    Raises ValueError as `noise` does.
    """
    if len(differences) < 2:
        return pool
    most = (2 * noise(sigma, pool).scale) ** 2
    mean = math.fsum(differences) / len(differences)
    return Pool(
        pool.df + len(differences) - 1,
        pool.ss + math.fsum(min((each - mean) ** 2, most) for each in differences),
    )


def pairing(trunk: tuple[float | None, str], candidate: tuple[float | None, str]) -> Pairing:
    """`tight` when both sides of a seed start alike, measured and never declared.

    Each side is (loss of the first batch before any update, hash of the order of the data). Both have to be known and
    equal, bit by bit: a diff that shifts the random stream shares none of the seed's luck. Source: docs/statistics.md.
    Raises nothing.
    """
    known = trunk[0] is not None and bool(trunk[1])
    return "tight" if known and trunk == candidate else "loose"
