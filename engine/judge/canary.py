"""Whether the trunk still measures what it measured: one seed of it runs again now and then.

The trunk's runs are cached and compared with runs of another day. A driver, a clock or a neighbour that moves losses would
otherwise be taken for what every later experiment does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

EVERY = 10
"""Proposals between two runs of the canary."""

SHIFT = 0.5
"""How far, in sigma, it may move."""

Key = TypeVar("Key")


def canary_due(proposals: int) -> bool:
    """Whether the trunk's seed 0 is to run again: after every tenth proposal. Source: docs/statistics.md. Raises nothing."""
    return proposals > 0 and proposals % EVERY == 0


def shift(first: float, again: float, sigma: float) -> float:
    """How far the same run has moved, in sigma: (again - first) / sigma, above zero is a higher loss now.

    `first` and `again` are final losses of the same commit, seed, data and budget, `sigma` the trunk's standard deviation, all
    in the metric's unit. Source: docs/statistics.md. Raises ValueError when sigma is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}: calibrate the trunk first")
    return (again - first) / sigma


def moved(first: float, again: float, sigma: float) -> bool:
    """Whether the cached baseline is worth nothing any more: |shift| > .5, or the run failed now. Errors as for `shift`."""
    return not abs(shift(first, again, sigma)) <= SHIFT if math.isfinite(again) else True


def kept_cache(cache: Mapping[Key, float], first: float, again: float, sigma: float) -> dict[Key, float]:
    """The cached trunk losses after a canary: all of them, or none when it moved. Errors as for `shift`."""
    return {} if moved(first, again, sigma) else dict(cache)
