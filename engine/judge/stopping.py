"""Which runs end early, and which of those run on all the same so that it is known what ending early costs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.types import Category

ABORTABLE = frozenset({Category.ARCHITECTURE, Category.SYSTEMS, Category.BUG_FIX})
"""Changes whose curves do not cross the trunk's late. Those of schedule, length, batch, optimizer, rate, regularisation,
initialisation and data do, so half-way says nothing of them; nor of a change whose category is not known."""

ABORT = 1.0
"""How far behind, in sigma, a run may be half-way."""

SHARE = 0.1
"""Which share of what is aborted or dropped runs on to the last pair."""


def abort_at_half(half_gain: float | None, sigma: float, category: str) -> bool:
    """Whether to end a run half-way:  half_gain < -1 sigma, for the categories whose curves do not cross.

    `half_gain` is the trunk's loss less the candidate's at half the budget on the same seed, in the metric's unit as `sigma`
    is; None when it is not known. A loss half-way that is not finite is for the failure detectors, not for this rule.
    Source: docs/statistics.md. Raises ValueError when sigma is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}: calibrate the trunk before anything is aborted")
    if half_gain is None or math.isnan(half_gain) or category not in ABORTABLE:
        return False
    return half_gain < -ABORT * sigma


def is_control(campaign: str, experiment: str, share: float = SHARE) -> bool:
    """Whether this experiment runs on to the last pair if it is aborted or dropped: a seeded draw of one in ten.

    SHA-256 of both names, read as a number between 0 and 1, is below `share`. So it is drawn before anything is known of the
    experiment, and is the same after a restart. `share` is a probability. Source: docs/statistics.md. Raises ValueError
    when it is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of controls is {share}: give it between 0 and 1, e.g. 0.1")
    digest = hashlib.sha256(f"{campaign}\0{experiment}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


@dataclass(frozen=True, slots=True)
class Missed:
    """Of `controls` experiments that would have been dropped, `gains` had a gain; `estimate` is how many that makes of all."""

    controls: int
    gains: int
    estimate: float


def missed(controls: Mapping[str, Sequence[bool]], share: float = SHARE) -> dict[str, Missed]:
    """By category, what dropping early costs: a control stands for 1/share experiments.

    `controls` gives for each category whether each control turned out to have a gain. The estimate is a count (Horvitz and
    Thompson, 1952). Raises ValueError when `share` is not positive.
    """
    if not share > 0:
        raise ValueError("without controls nothing is known of what was missed: the share is above 0")
    return {name: Missed(len(found), sum(found), sum(found) / share) for name, found in controls.items()}
