"""Attention logits that grow out of bounds, which comes before many divergences of longer runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class AttentionLogits(AfterDetector):
    """The largest logit is large in itself and beside the trunk's."""

    name: ClassVar = "attention-logits"
    needs: ClassVar = frozenset({Signal.ATTENTION, Signal.TRUNK})

    largest: float = 50.0
    times_trunk: float = 3.0  # the trunk's largest

    def judge(self, seen: Seen) -> list[Finding]:
        run, trunk = (series.finite() for series in seen.pair(Signal.ATTENTION))
        if not len(run) or not len(trunk):
            return []
        mine, theirs = max(run.values), max(trunk.values)
        if mine <= self.largest or mine <= self.times_trunk * theirs:
            return []
        at = run.steps[run.values.index(mine)]
        sentence = f"attention logits reach {mine:.0f}, the trunk's {theirs:.1f}: attention is all or nothing there"
        return [self.found(Severity.WARNING, sentence, Place(at), logit=mine, trunk=theirs, limit=self.largest)]
