"""Gradients that grow where the trunk's do not: the run is on its way out, even if the loss does not show it yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.series import medians_together
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class Explosion(AfterDetector):
    """The median norm of the second half is a multiple of the trunk's."""

    name: ClassVar = "gradient-explosion"
    needs: ClassVar = frozenset({Signal.GRAD_NORM, Signal.TRUNK})

    times: float = 3.0  # the trunk's median

    def judge(self, seen: Seen) -> list[Finding]:
        run, trunk = seen.pair(Signal.GRAD_NORM)
        half = run.last / 2
        both = medians_together(run.between(half, run.last), trunk.between(half, run.last))
        if both is None or both[0] <= self.times * both[1]:
            return []
        mine, theirs = both
        sentence = (
            f"in the second half the gradient is {mine / theirs if theirs else mine:.1f} times as long as the trunk's"
        )
        place = Place(int(half), run.last)
        return [self.found(Severity.WARNING, sentence, place, norm=mine, trunk=theirs, limit=self.times * theirs)]
