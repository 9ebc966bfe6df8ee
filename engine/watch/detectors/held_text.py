"""Training rows that hold text which is scored: the score then measures memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.signals import Signal
from engine.watch.detectors.sketch import Row


@dataclass(frozen=True)
class HeldText(AfterDetector):
    """More training rows than the trunk's hold a passage of the held text. Some always do: text has stock phrases."""

    name: ClassVar = "held-text"
    needs: ClassVar = frozenset({Signal.ROWS, Signal.HELD, Signal.TRUNK})

    above_trunk: float = 0.1  # share of rows that hold a held passage, above the trunk's
    errors: float = 2.0  # standard errors of the difference on top, since a short run shows few rows

    def judge(self, seen: Seen) -> list[Finding]:
        if seen.trunk is None or not seen.trunk.rows:
            return []
        mine, theirs = holding(seen.run.rows, seen.held), holding(seen.trunk.rows, seen.held)
        count = min(len(seen.run.rows), len(seen.trunk.rows))
        noise = math.sqrt((mine * (1 - mine) + theirs * (1 - theirs)) / count)
        limit = theirs + self.above_trunk + self.errors * noise
        if mine <= limit:
            return []
        sentence = f"{mine:.0%} of the training rows hold text that is scored; of the trunk's rows {theirs:.0%}"
        return [self.found(Severity.BARS, sentence, share=mine, trunk=theirs, limit=limit)]


def holding(rows: Sequence[Row], held: frozenset[int]) -> float:
    """Share of rows with a passage of the held text."""
    return sum(not row.passages.isdisjoint(held) for row in rows) / len(rows) if rows else 0.0
