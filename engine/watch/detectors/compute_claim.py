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
        speeds = run.median(), trunk.median()
        flops = seen.run.number(Signal.FLOPS), seen.trunk.number(Signal.FLOPS)
        sizes = seen.run.number(Signal.PARAMETERS), seen.trunk.number(Signal.PARAMETERS)
        if not all(each is not None and each > 0 for each in (*speeds, *flops, *sizes)):
            return []
        told, larger, slower = flops[0] / flops[1], sizes[0] / sizes[1], speeds[1] / speeds[0]  # type: ignore[operator]
        if told > 1 + self.claim or min(larger, slower) <= 1 + self.more:
            return []
        sentence = (
            f"it says a token takes {told:.3g}x the trunk's FLOPs, with {larger:.3g}x its parameters and {slower:.3g}x its "
            "time: are they counted right?"
        )
        return [self.found(Severity.WARNING, sentence, flops=told, parameters=larger, time=slower, limit=1 + self.more)]
