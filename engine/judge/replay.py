"""What a finished history would have been called: which of its keeps gained less than a seed is worth.

Most public histories hold one run an experiment, so they cannot be judged again; but one swap of the seed, where there is
one, says how far luck alone moves the metric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Kept:
    """One row of a history that was kept: its place, its gain over the keep before it, and whether a seed is worth more."""

    row: int
    gain: float
    inside_noise: bool


def replay(losses: Sequence[float], kept: Sequence[bool], seed_swap: int) -> tuple[Kept, ...]:
    """The keeps of a history of single runs, after the baseline:

        inside noise  if  loss of the keep before - its loss  <  |loss of the swap - loss of the keep before the swap|

    `losses` in the metric's unit, lower is better; `kept` says which rows the history kept, the baseline being the first of
    them; `seed_swap` is the row that changed nothing but the seed. Source: docs/statistics.md. Raises ValueError when the
    rows do not fit together, or nothing was kept before the swap.
    """
    if len(losses) != len(kept):
        raise ValueError(f"{len(losses)} losses and {len(kept)} marks: give one of each for every row")
    rows = [row for row, mark in enumerate(kept) if mark]
    before = [row for row in rows if row < seed_swap]
    if not before or seed_swap >= len(losses) or not math.isfinite(losses[seed_swap]):
        raise ValueError("the seed swap needs a loss, and a row that was kept before it")
    luck = abs(losses[seed_swap] - losses[before[-1]])
    gains = [(row, losses[last] - losses[row]) for last, row in pairwise(rows)]
    return tuple(Kept(row, gain, gain < luck) for row, gain in gains)
