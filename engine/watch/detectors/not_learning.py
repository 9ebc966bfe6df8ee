"""Updates that are far smaller than the trunk's: the model hardly moves, whatever its loss says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.series import medians_together
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class NotLearning(AfterDetector):
    """The median update, relative to the parameters, is a small part of the trunk's."""

    name: ClassVar = "not-learning"
    needs: ClassVar = frozenset({Signal.UPDATE, Signal.TRUNK})

    share: float = 0.1  # of the trunk's median update

    def judge(self, seen: Seen) -> list[Finding]:
        run, trunk = seen.pair(Signal.UPDATE)
        both = medians_together(run, trunk)
        if both is None or both[0] >= self.share * both[1]:
            return []
        sentence = f"one update moves the parameters by {both[0]:.1e} of their size; the trunk's by {both[1]:.1e}"
        place = Place(run.steps[0], run.last)
        return [
            self.found(Severity.WARNING, sentence, place, update=both[0], trunk=both[1], limit=self.share * both[1])
        ]
