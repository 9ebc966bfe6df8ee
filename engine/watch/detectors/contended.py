"""A run slower than other runs of the same code: something else had the machine. Its loss is as good; its time is not."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Run, Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class Contended(AfterDetector):
    """The median speed, after the first steps, strays from that of the same code's other seeds by more than equal runs
    differ. Two of them at the least: of two runs nobody knows which is the odd one."""

    name: ClassVar = "contended"
    needs: ClassVar = frozenset({Signal.SPEED, Signal.SIBLINGS})

    spread: float = 0.1  # share by which runs of the same code differ in speed on this machine
    times: float = 3.0  # that spread, before it is told
    after: float = 0.1  # share of the steps that count as warming up

    def judge(self, seen: Seen) -> list[Finding]:
        mine, others = self._speed(seen.run), [self._speed(each) for each in seen.siblings]
        known = [each for each in others if each is not None and each > 0]
        if mine is None or len(known) < 2:
            return []
        usual = statistics.median(known)
        away = mine / usual - 1
        if abs(away) <= self.times * self.spread:
            return []
        sentence = (
            f"{mine:,.0f} tokens a second, {away:+.0%} against {usual:,.0f} of the same code's other {len(known)} runs: "
            "what else was running?"
        )
        series = seen.run.series[Signal.SPEED]
        place = Place(series.steps[0], series.last)
        return [self.found(Severity.NOTE, sentence, place, speed=mine, usual=usual, runs=float(len(known)))]

    def _speed(self, run: Run) -> float | None:
        series = run.series.get(Signal.SPEED)
        return None if series is None else series.between(self.after * series.last, series.last).median()
