"""Steps that take many times as long as usual: a data loader that waits, a machine that swaps, a neighbour on the GPU.

For information only: it may be the machine's doing, and equal tokens are compared, not equal time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import LiveDetector, Watch
from engine.watch.detectors.evidence import Declared, Point
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.series import Window
from engine.watch.detectors.signals import Signal

ENOUGH = 20  # steps before the window says what is usual


@dataclass(frozen=True)
class Stall(LiveDetector):
    """A step takes longer than many usual ones. The time of a step is taken from its tokens a second."""

    name: ClassVar = "stall"
    needs: ClassVar = frozenset({Signal.SPEED})

    times: float = 5.0  # the median step of the last 30
    share: float = 0.02  # of all steps so far that have to stall before it is told once more

    def begin(self, declared: Declared) -> Watch:
        return _Watch(self, declared)


class _Watch:
    def __init__(self, rule: Stall, declared: Declared) -> None:
        self._rule, self._names = rule, declared.names
        self._window = Window()
        self._seen = self._stalls = 0
        self._told_often = False

    def update(self, point: Point) -> list[Finding]:
        speed = self._names.read(point, Signal.SPEED)
        if speed is None or not math.isfinite(speed) or speed <= 0:
            return []
        found: list[Finding] = []
        self._seen += 1
        if len(self._window) >= ENOUGH and speed * self._rule.times < self._window.median():
            self._stalls += 1
            found = self._say(point.step, self._window.median() / speed)
        self._window.add(speed)
        return found

    def _say(self, step: int, times: float) -> list[Finding]:
        often = self._stalls >= 3 and self._stalls > self._rule.share * self._seen
        if self._told_often or (self._stalls > 1 and not often):
            return []
        self._told_often = often
        sentence = f"step {step} took {times:.0f} times as long as usual"
        if often:
            sentence += f"; {self._stalls} of {self._seen} steps so far were like that"
        evidence = {"times": times, "limit": self._rule.times, "stalls": float(self._stalls)}
        return [self._rule.found(Severity.NOTE, sentence, Place(step), **evidence)]
