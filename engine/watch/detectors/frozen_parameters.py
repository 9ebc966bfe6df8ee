"""Parameters that no update reaches: most often a layer that the optimizer was never given. Over a short run that may even
lower the loss, so that the verdict would praise it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal

SHOWN = 3  # names in the sentence


@dataclass(frozen=True)
class FrozenParameters(AfterDetector):
    """A tensor is bit-equal to its start, and the trunk's of that name is not (or the trunk has none)."""

    name: ClassVar = "frozen-parameters"
    needs: ClassVar = frozenset({Signal.UNMOVED, Signal.TRUNK})

    def judge(self, seen: Seen) -> list[Finding]:
        mine = _names(seen.run.text(Signal.UNMOVED))
        theirs = set(_names(seen.trunk.text(Signal.UNMOVED) if seen.trunk else None))
        still = [name for name in mine if name not in theirs]
        if not still:
            return []
        more = f" and {len(still) - SHOWN} more" if len(still) > SHOWN else ""
        sentence = f"no update ever changed {', '.join(still[:SHOWN])}{more}: does the optimizer have them?"
        return [self.found(Severity.BARS, sentence, Place(what=still[0]), tensors=float(len(still)))]


def _names(text: str | None) -> list[str]:
    return [name for name in (text or "").split() if name]
