"""A run whose word about itself does not hold, or whose protected files are not the commit's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Run, Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class ChangedFiles(AfterDetector):
    """A protected file of the run's tree differs from the commit's."""

    name: ClassVar = "changed-files"
    needs: ClassVar = frozenset({Signal.TREE})

    def judge(self, seen: Seen) -> list[Finding]:
        return [
            self.found(
                Severity.NEVER,
                f"{path} is protected and was changed: the measurement is not the lab's",
                Place(what=path),
            )
            for path in seen.changed or ()
        ]


@dataclass(frozen=True)
class ForgedReport(AfterDetector):
    """The run reports of itself what the referee does not find on the same text and checkpoint."""

    name: ClassVar = "forged-report"
    needs: ClassVar = frozenset({Signal.REPORTED, Signal.EVALUATED})

    difference: float = 1e-4  # in the metric's unit

    def judge(self, seen: Seen) -> list[Finding]:
        reported, evaluated = seen.run.reported, seen.run.evaluated
        if reported is None or evaluated is None or not self._differs(seen.run):
            return []
        if self._differs(seen.trunk):
            return []  # the trunk's word does not hold either: the lab file names another text than runs report on
        sentence = f"the run says {reported:.4f} of itself; the referee finds {evaluated:.4f} on the same text"
        evidence = {"reported": reported, "evaluated": evaluated, "limit": self.difference}
        return [self.found(Severity.NEVER, sentence, Place(), **evidence)]

    def _differs(self, run: Run | None) -> bool:
        if run is None or run.reported is None or run.evaluated is None:
            return False
        return abs(run.reported - run.evaluated) > self.difference
