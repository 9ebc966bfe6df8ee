"""Signals that the trunk reports and this run does not: rules that need them saw nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import FACTS, SERIES, Signal


@dataclass(frozen=True)
class Silenced(AfterDetector):
    """A measurement is missing that the trunk's run has."""

    name: ClassVar = "silenced"
    needs: ClassVar = frozenset({Signal.TRUNK})

    def judge(self, seen: Seen) -> list[Finding]:
        theirs = seen.trunk.signals if seen.trunk else frozenset()
        gone = sorted((theirs - seen.run.signals) & {*SERIES, *FACTS, Signal.ROWS})
        if not gone:
            return []
        sentence = f"the trunk's run reports {', '.join(gone)} and this one does not: what needs them was not looked at"
        return [self.found(Severity.WARNING, sentence, Place(what=gone[0]), signals=float(len(gone)))]
