"""A training loss that says nothing about the score: the model is taught something else than what is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Run, Seen
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class WrongTarget(AfterDetector):
    """Score over last training loss is a multiple of the trunk's ratio; so units do not matter. For scores to minimise."""

    name: ClassVar = "wrong-target"
    needs: ClassVar = frozenset({Signal.SCORE, Signal.LOSS, Signal.TRUNK})

    times_trunk: float = 2.0  # the trunk's score over its last training loss
    last: float = 0.1  # share of the steps that make the last training loss

    def judge(self, seen: Seen) -> list[Finding]:
        if not seen.lower_is_better or seen.trunk is None:
            return []
        mine, theirs = self._ratio(seen.run), self._ratio(seen.trunk)
        if mine is None or theirs is None or mine <= self.times_trunk * theirs:
            return []
        sentence = (
            f"the held text scores {mine:.1f} times the training loss, the trunk's only {theirs:.1f} times: what it trains "
            "on is not what is scored"
        )
        return [self.found(Severity.BARS, sentence, ratio=mine, trunk=theirs, limit=self.times_trunk * theirs)]

    def _ratio(self, run: Run) -> float | None:
        losses = run.series.get(Signal.LOSS)
        if losses is None or run.score is None or not run.score > 0 or not math.isfinite(run.score):
            return None
        loss = losses.between((1 - self.last) * losses.last, losses.last).median()
        return None if loss is None or loss < 0 else run.score / max(loss, 1e-9)
