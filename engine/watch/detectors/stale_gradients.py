"""Gradients that carry those of earlier steps along: somebody forgot to clear them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.series import medians_together
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class StaleGradients(AfterDetector):
    """A step's backward pass adds to a gradient that an earlier step left."""

    name: ClassVar = "stale-gradients"
    needs: ClassVar = frozenset({Signal.STALE})

    share: float = 0.1  # of the gradient, that was there before

    def judge(self, seen: Seen) -> list[Finding]:
        run = seen.run.series[Signal.STALE]
        share = run.median()
        if share is None or share <= self.share:
            return []
        sentence = f"{share:.0%} of a step's gradient is left over from earlier steps: it is never cleared"
        place = Place(run.steps[0], run.last, "output layer")
        return [self.found(Severity.BARS, sentence, place, share=share, limit=self.share)]


@dataclass(frozen=True)
class AlikeGradients(AfterDetector):
    """Successive gradients of the output layer point the same way, much more than the trunk's do."""

    name: ClassVar = "alike-gradients"
    needs: ClassVar = frozenset({Signal.HEAD_COSINE, Signal.TRUNK})

    cosine: float = 0.6  # median cosine of successive gradients
    above_trunk: float = 0.3  # by which it is higher than the trunk's

    def judge(self, seen: Seen) -> list[Finding]:
        run, trunk = seen.pair(Signal.HEAD_COSINE)
        both = medians_together(run, trunk)
        if both is None or both[0] <= self.cosine or both[0] <= both[1] + self.above_trunk:
            return []
        sentence = (
            f"successive gradients are nearly the same (cosine {both[0]:.2f}, the trunk's {both[1]:.2f}): "
            "they seem to add up from step to step"
        )
        place = Place(run.steps[0], run.last, "output layer")
        return [self.found(Severity.BARS, sentence, place, cosine=both[0], trunk=both[1], limit=self.cosine)]
