"""Fewer tokens a second than the trunk. Machines vary, so this is for information until a repeat by turns agrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class Throughput(AfterDetector):
    """The median speed, after the first steps, lies below the trunk's by more than equal runs differ."""

    name: ClassVar = "throughput"
    needs: ClassVar = frozenset({Signal.SPEED, Signal.TRUNK})

    spread: float = 0.1  # share by which runs of the same code differ in speed on this machine
    times: float = 3.0  # that spread, before it is told
    after: float = 0.1  # share of the steps that count as warming up

    def judge(self, seen: Seen) -> list[Finding]:
        run, trunk = seen.pair(Signal.SPEED)
        mine = run.between(self.after * run.last, run.last).median()
        theirs = trunk.between(self.after * trunk.last, trunk.last).median()
        least = 1 - self.times * self.spread
        if mine is None or theirs is None or theirs <= 0 or mine >= least * theirs:
            return []
        sentence = f"{mine:,.0f} tokens a second, {1 - mine / theirs:.0%} fewer than the trunk's {theirs:,.0f}"
        place = Place(run.steps[0], run.last)
        return [self.found(Severity.NOTE, sentence, place, speed=mine, trunk=theirs, limit=least * theirs)]
