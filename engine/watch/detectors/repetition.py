"""The same training rows again and again: a loader that covers part of the data, or selection that leaves little of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal
from engine.watch.detectors.sketch import Row


@dataclass(frozen=True)
class Repetition(AfterDetector):
    """More rows than in the trunk were drawn before, as whole rows or passage by passage."""

    name: ClassVar = "repetition"
    needs: ClassVar = frozenset({Signal.ROWS, Signal.TRUNK})

    above_trunk: float = 0.05  # share of rows that are equal to an earlier one, above the trunk's
    passages_above_trunk: float = 0.3  # share of passages that an earlier row held, above the trunk's

    def judge(self, seen: Seen) -> list[Finding]:
        if seen.trunk is None or not seen.trunk.rows:
            return []
        rows, trunk_rows = repeated_rows(seen.run.rows), repeated_rows(seen.trunk.rows)
        parts, trunk_parts = repeated_passages(seen.run.rows), repeated_passages(seen.trunk.rows)
        if rows <= trunk_rows + self.above_trunk and parts <= trunk_parts + self.passages_above_trunk:
            return []
        sentence = (
            f"{rows:.0%} of the rows, and {parts:.0%} of their passages, had been trained on before; in the trunk's run "
            f"{trunk_rows:.0%} and {trunk_parts:.0%}"
        )
        evidence = {"rows": rows, "trunk_rows": trunk_rows, "passages": parts, "trunk_passages": trunk_parts}
        return [self.found(Severity.WARNING, sentence, Place(), **evidence)]


def repeated_rows(rows: Sequence[Row]) -> float:
    """Share of rows that are equal to one before."""
    return 1 - len({row.whole for row in rows}) / len(rows) if rows else 0.0


def repeated_passages(rows: Sequence[Row]) -> float:
    """Share of the rows' passages that a row before held."""
    known: set[int] = set()
    again = total = 0
    for row in rows:
        again += len(row.passages & known)
        total += len(row.passages)
        known |= row.passages
    return again / total if total else 0.0
