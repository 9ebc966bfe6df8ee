"""A source of text that pays for the gain of the others, hidden by the total."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class OneSource(AfterDetector):
    """A source is worse than the trunk's by many of its own standard deviations, while the total is not."""

    name: ClassVar = "one-source"
    needs: ClassVar = frozenset({Signal.SCORE, Signal.SOURCES, Signal.SOURCE_SPREAD, Signal.SPREAD, Signal.TRUNK})

    sigmas: float = 8.0  # of that source
    total: float = 8.0  # of the overall score: beyond this the total hides nothing

    def judge(self, seen: Seen) -> list[Finding]:
        trunk, sign = seen.trunk, 1 if seen.lower_is_better else -1
        if trunk is None or trunk.score is None or seen.run.score is None or not seen.spread:
            return []
        if sign * (seen.run.score - trunk.score) > self.total * seen.spread:
            return []
        found = []
        for source, value in sorted(seen.run.sources.items()):
            other, spread = trunk.sources.get(source), seen.source_spread.get(source)
            if other is None or not spread:
                continue
            worse = sign * (value - other) / spread
            if worse > self.sigmas:
                sentence = f"{source} got worse, from {other:.3f} to {value:.3f}, and the total does not show it"
                evidence = {"sigmas": worse, "limit": self.sigmas, "value": value, "trunk": other}
                found.append(self.found(Severity.ASKS, sentence, Place(what=source), **evidence))
        return found
