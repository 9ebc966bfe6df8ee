"""A learning rate that is as good as zero in the middle of the run: part of the budget trained nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.series import Series
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class RateAtZero(AfterDetector):
    """The rate falls below a small part of its maximum long before the end."""

    name: ClassVar = "rate-at-zero"
    needs: ClassVar = frozenset({Signal.RATE})

    share: float = 1e-3  # of the largest rate
    first: float = 0.1  # share of the steps from which it is looked at: warm-up is over
    last: float = 0.9  # share of the steps up to which: decay to zero may end there

    def judge(self, seen: Seen) -> list[Finding]:
        rates = seen.run.series[Signal.RATE].finite()
        middle = rates.between(self.first * rates.last, self.last * rates.last)
        if not len(middle):
            return []
        limit = self.share * max(rates.values)
        low = Series.of(pair for pair in zip(middle.steps, middle.values, strict=True) if pair[1] < limit)
        if not len(low):
            return []
        sentence = f"the learning rate is as good as zero at {len(low)} of {len(middle)} steps in the middle of the run"
        place = Place(low.steps[0], low.last)
        return [self.found(Severity.WARNING, sentence, place, rate=min(low.values), limit=limit, steps=float(len(low)))]
