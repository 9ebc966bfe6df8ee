"""Whether a pair shares its luck: the same first batch through the same first model, and the same text in the same order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class Unpaired(AfterDetector):
    """First loss or data order differ from the trunk's on the same seed, so the seed's luck cancels less."""

    name: ClassVar = "unpaired"
    needs: ClassVar = frozenset({Signal.FIRST_LOSS, Signal.DATA_ORDER, Signal.TRUNK})

    def judge(self, seen: Seen) -> list[Finding]:
        trunk = seen.trunk
        if trunk is None:
            return []
        differ = [
            words
            for signal, words in (
                (Signal.FIRST_LOSS, "the loss before any update"),
                (Signal.DATA_ORDER, "the data's order"),
            )
            if signal in trunk.facts and seen.run.facts[signal] != trunk.facts[signal]
        ]
        if not differ:
            return []
        sentence = (
            f"{' and '.join(differ)} {'differs' if len(differ) == 1 else 'differ'} from the trunk's: a loose pair"
        )
        return [self.found(Severity.NOTE, sentence, differences=float(len(differ)))]
