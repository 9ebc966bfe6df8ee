"""How a run stands half-way: read off what it wrote, and compared with the trunk's run of the same seed. Pure.

Training losses half-way are in a unit of their own, and move by the seed by another amount than final metrics do. So a gain
half-way is counted in what the trunk's own seeds differ by at that step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from engine.judge.noise import LEAST_CALIBRATION, Pairing, pairing, sigma_so_far

WINDOW = 10
"""The loss half-way is the mean over this part (one tenth) of all steps, up to the middle: one step's loss is its batch's."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What judging needs of one run beside its result. `steps` is what the run declared, `half` its training loss half-way,
    None before that or when it is not known; `first_loss` that of the first batch before any update; `data_order` a hash.

    What it cost: `tokens` that it was trained on, `flops` a token (forward and backward), `speed` the median of tokens/s over
    its steps, `parameters` their number; `source_tokens`, how many each source of its data has to draw from. None, or empty,
    for what a run does not say."""

    steps: int | None = None
    half: float | None = None
    first_loss: float | None = None
    data_order: str = ""
    tokens: float | None = None
    flops: float | None = None
    speed: float | None = None
    parameters: float | None = None
    source_tokens: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def known(self) -> bool:
        return self != Measures(self.steps)


def measures(
    points: Iterable[tuple[int, float]], steps: int | None, first_loss: float | None, data_order: str
) -> Measures:
    """Measures of a run from its (step, training loss) in order, which may be still running."""
    if steps is None or steps < 2:
        return Measures(steps, None, first_loss, data_order)
    middle, width = steps // 2, max(1, steps // WINDOW)
    inside, last = [], -1
    for step, loss in points:
        last = max(last, step)
        if middle - width < step <= middle:
            inside.append(loss)
    whole = last >= middle and inside and all(math.isfinite(loss) for loss in inside)
    return Measures(steps, math.fsum(inside) / len(inside) if whole else None, first_loss, data_order)


def half_gain(trunk: Mapping[int, Measures], mine: Measures | None, seed: int, sigma: float) -> float | None:
    """How far a run is ahead of the trunk's half-way, in the unit of `sigma`, the spread of final results:

        gain = (trunk's half-way loss on that seed - this run's) / spread of the trunk's half-way losses * sigma

    `trunk` is by seed. None where either is not known, the numbers of steps differ, or fewer than three of the trunk's seeds
    say what the spread is (with few it is widened as `engine.judge.noise.sigma_so_far` does).
    """
    theirs = trunk.get(seed)
    if mine is None or theirs is None or mine.half is None or theirs.half is None or mine.steps != theirs.steps:
        return None
    halves = [each.half for each in trunk.values() if each.half is not None and each.steps == mine.steps]
    if len(halves) < LEAST_CALIBRATION or max(halves) == min(halves):
        return None
    spread = sigma_so_far(halves)
    return (theirs.half - mine.half) / spread * sigma if spread else None


def pairing_of(trunk: Mapping[int, Measures], mine: Mapping[int, Measures], seeds: Iterable[int]) -> Pairing:
    """`tight` when on each of these seeds both sides began with the same loss and saw the same data in the same order."""
    none = Measures()
    found = [
        pairing((a.first_loss, a.data_order), (b.first_loss, b.data_order))
        for a, b in ((trunk.get(seed, none), mine.get(seed, none)) for seed in seeds)
    ]
    return "tight" if found and all(each == "tight" for each in found) else "loose"
