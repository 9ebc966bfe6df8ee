"""FLOPs that a run says it takes, beside its size and its speed: they are its own word, and runs are compared by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class ComputeClaim(AfterDetector):
    """A larger and slower model that says it takes no more FLOPs a token than the trunk. Tables that are looked up are
    larger too, and bad kernels slower: so it takes both, and warns only."""

    name: ClassVar = "compute-claim"
    needs: ClassVar = frozenset({Signal.FLOPS, Signal.PARAMETERS, Signal.SPEED, Signal.TRUNK})

    more: float = 0.25  # by which parameters and time a token exceed the trunk's
    claim: float = 0.01  # by which FLOPs a token may exceed it and still be "no more"

    def judge(self, seen: Seen) -> list[Finding]:
        if seen.trunk is None:
            return []
        run, trunk = seen.pair(Signal.SPEED)
        told = _ratio(seen.run.number(Signal.FLOPS), seen.trunk.number(Signal.FLOPS))
        larger = _ratio(seen.run.number(Signal.PARAMETERS), seen.trunk.number(Signal.PARAMETERS))
        slower = _ratio(trunk.median(), run.median())
        if told is None or larger is None or slower is None:
            return []
        if told > 1 + self.claim or min(larger, slower) <= 1 + self.more:
            return []
        sentence = (
            f"it says a token takes {told:.3g}x the trunk's FLOPs, with {larger:.3g}x its parameters and {slower:.3g}x its "
            "time: are they counted right?"
        )
        return [self.found(Severity.WARNING, sentence, flops=told, parameters=larger, time=slower, limit=1 + self.more)]


def _ratio(mine: float | None, other: float | None) -> float | None:
    return mine / other if mine is not None and other is not None and mine > 0 and other > 0 else None
