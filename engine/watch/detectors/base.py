"""The two kinds of detector. Both are frozen dataclasses whose fields are thresholds, so that a lab can set each by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from engine.watch.detectors.evidence import Declared, Point, Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal


class Watch(Protocol):
    """The state of one rule over one run's stream; of bounded size, whatever comes."""

    def update(self, point: Point) -> list[Finding]:
        """What is new with this point."""
        ...


@dataclass(frozen=True)
class Detector:
    """A rule. It is active where all of `needs` are there."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[Signal]]

    def found(self, severity: Severity, sentence: str, place: Place | None = None, **evidence: float) -> Finding:
        """A finding of this rule."""
        return Finding(self.name, severity, place or Place(), sentence, evidence)


@dataclass(frozen=True)
class LiveDetector(Detector):
    """A rule that watches the stream of a run while it goes on."""

    def begin(self, declared: Declared) -> Watch:
        """A watch over one run."""
        raise NotImplementedError


@dataclass(frozen=True)
class AfterDetector(Detector):
    """A rule that looks at a whole run, beside the trunk's run with the same seed where it needs that. Pure."""

    def judge(self, seen: Seen) -> list[Finding]:
        """What is wrong with the run. Called only when `needs` are there."""
        raise NotImplementedError
