"""A change that changes nothing: the losses are the trunk's to the last bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.types import Category, Claim
from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class NoOp(AfterDetector):
    """All losses are bit-equal to the trunk's: it bars, unless speed or less code was the point. At the start only: a note."""

    name: ClassVar = "no-op"
    needs: ClassVar = frozenset({Signal.LOSS, Signal.TRUNK})

    steps: int = 10  # equal losses at the start that are worth a note

    def judge(self, seen: Seen) -> list[Finding]:
        run, trunk = seen.pair(Signal.LOSS)
        equal = 0
        for mine, theirs in zip(run.values, trunk.values, strict=False):
            if mine != theirs:
                break
            equal += 1
        if equal < self.steps or run.steps[:equal] != trunk.steps[:equal]:
            return []
        place = Place(run.steps[0], run.steps[equal - 1])
        if equal < max(len(run), len(trunk)):
            sentence = f"the first {equal} losses are the trunk's to the last bit: the change only acts later"
            return [self.found(Severity.NOTE, sentence, place, equal=float(equal))]
        speed = seen.category == Category.SYSTEMS or seen.claims in (Claim.SPEED, Claim.SIMPLIFICATION)
        sentence = f"all {equal} losses are the trunk's to the last bit: "
        sentence += "only its speed and its code can differ" if speed else "the change does nothing"
        return [self.found(Severity.NOTE if speed else Severity.BARS, sentence, place, equal=float(equal))]
