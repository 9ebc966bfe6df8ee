"""Sudden jumps of the gradient's norm. Clipping may hide them from the loss, and they often come before it moves."""

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
REPORTED = 3  # spikes that are told; more say nothing new


@dataclass(frozen=True)
class GradientSpike(LiveDetector):
    """The gradient's norm is many times the median of the last 30 steps."""

    name: ClassVar = "gradient-spike"
    needs: ClassVar = frozenset({Signal.GRAD_NORM})

    times: float = 8.0  # the window's median

    def begin(self, declared: Declared) -> Watch:
        return _Watch(self, declared)


class _Watch:
    def __init__(self, rule: GradientSpike, declared: Declared) -> None:
        self._rule, self._names = rule, declared.names
        self._window = Window()
        self._spikes, self._inside = 0, False

    def update(self, point: Point) -> list[Finding]:
        norm = self._names.read(point, Signal.GRAD_NORM)
        if norm is None or not math.isfinite(norm):
            return []
        found: list[Finding] = []
        if len(self._window) >= ENOUGH:
            middle = self._window.median()
            spike = middle > 0 and norm > self._rule.times * middle
            if spike and not self._inside:
                self._spikes += 1
                if self._spikes <= REPORTED:
                    sentence = f"the gradient at step {point.step} is {norm / middle:.0f} times as long as usual"
                    evidence = {"norm": norm, "median": middle, "limit": self._rule.times * middle}
                    found = [self._rule.found(Severity.WARNING, sentence, Place(point.step), **evidence)]
            self._inside = spike
        self._window.add(norm)
        return found
