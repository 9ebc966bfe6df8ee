"""A gain beyond what most ideas bring. It may be honest, and an untuned lab has many such; it is asked for a second look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class LargeGain(AfterDetector):
    """The score is better than the trunk's by many of the trunk's own standard deviations. Never bars by itself."""

    name: ClassVar = "large-gain"
    needs: ClassVar = frozenset({Signal.SCORE, Signal.TRUNK, Signal.SPREAD})

    sigmas: float = 10.0

    def judge(self, seen: Seen) -> list[Finding]:
        score, trunk = seen.run.score, seen.trunk.score if seen.trunk else None
        if score is None or trunk is None or not seen.spread:
            return []
        gain = (trunk - score if seen.lower_is_better else score - trunk) / seen.spread
        if not gain > self.sigmas:
            return []
        sentence = (
            f"a gain of {gain:.0f} standard deviations between seeds: make sure that you know where it comes from"
        )
        return [self.found(Severity.ASKS, sentence, sigmas=gain, limit=self.sigmas)]
