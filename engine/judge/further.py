"""What a change does to a lab's further evaluations: paired differences, beside how far each moves by the seed alone.

One primary metric carries the test. These stand beside it: each says how much better or worse the change makes it, with an
interval, and whoever signs sees them; on fresh seeds one that is worse for certain is a veto. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from engine.judge.fresh import pooled_interval
from engine.judge.noise import Noise, sigma_so_far


@dataclass(frozen=True, slots=True)
class Change:
    """By how much an evaluation got better, in its own unit (> 0 is better), over `n` pairs. `lo` and `hi` are None while its
    noise is not known, and when it is the same on all of the trunk's seeds."""

    name: str
    effect: float
    lo: float | None
    hi: float | None
    n: int

    @property
    def worse(self) -> bool:
        """Whether it got worse for certain: its whole interval lies below zero."""
        return self.hi is not None and self.hi < 0


def change(
    name: str,
    direction: Literal["min", "max"],
    trunk: Mapping[int, float],
    mine: Mapping[int, float],
    calibration: Mapping[int, float],
    level: float = 0.95,
) -> Change | None:
    """The paired differences of one evaluation over the seeds that both sides measured; None without one.

    `trunk`, `mine` and `calibration` map a seed to a value; the last are the trunk's runs that its noise is measured on, three
    at the least. The interval is `engine.judge.fresh.pooled_interval` with s0^2 = 2 sigma^2. Raises nothing.
    """
    sign = 1 if direction == "max" else -1
    differences = [sign * (mine[seed] - trunk[seed]) for seed in sorted(trunk.keys() & mine.keys())]
    if not differences:
        return None
    mean = math.fsum(differences) / len(differences)
    try:
        sigma = sigma_so_far(list(calibration.values()))
    except ValueError:  # the same on every seed: what it moves by is not known
        sigma = None
    if sigma is None:
        return Change(name, mean, None, None, len(differences))
    _, lo, hi = pooled_interval(differences, Noise(sigma, math.sqrt(2) * sigma), level)
    return Change(name, mean, lo, hi, len(differences))
