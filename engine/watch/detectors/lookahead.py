"""A model that knows the token it is to predict. The referee refuses such a checkpoint too; this says why, and earlier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class Lookahead(AfterDetector):
    """What the model says of earlier places changes with the last token of its input."""

    name: ClassVar = "lookahead"
    needs: ClassVar = frozenset({Signal.LOOKAHEAD})

    moved: float = 1e-4  # by which an earlier logit may move

    def judge(self, seen: Seen) -> list[Finding]:
        moved = seen.run.number(Signal.LOOKAHEAD)
        if moved is None or moved <= self.moved:
            return []
        size = f"by {moved:.2g}" if math.isfinite(moved) else "without bound"
        sentence = f"changing the last token moves what the model says of earlier places {size}: it looks ahead"
        return [self.found(Severity.BARS, sentence, moved=moved, limit=self.moved)]
