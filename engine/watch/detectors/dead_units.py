"""MLP units that are shut whatever the input is: the model is smaller than it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.series import medians_together
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class DeadUnits(AfterDetector):
    """More than half of the units are zero over whole batches, and more than twice the trunk's."""

    name: ClassVar = "dead-units"
    needs: ClassVar = frozenset({Signal.DEAD_UNITS, Signal.TRUNK})

    share: float = 0.5  # of all MLP units
    times_trunk: float = 2.0  # the trunk's share

    def judge(self, seen: Seen) -> list[Finding]:
        run, trunk = seen.pair(Signal.DEAD_UNITS)
        both = medians_together(run, trunk)
        if both is None or both[0] <= self.share or both[0] <= self.times_trunk * both[1]:
            return []
        sentence = f"{both[0]:.0%} of the MLP units never open over a whole batch; in the trunk it is {both[1]:.0%}"
        place = Place(run.steps[0], run.last, "MLP")
        return [self.found(Severity.WARNING, sentence, place, share=both[0], trunk=both[1], limit=self.share)]
