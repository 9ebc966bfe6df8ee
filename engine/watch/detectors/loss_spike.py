"""Sudden jumps of the loss: one is often a strange batch, three say that the run is unstable."""

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
REPORTED = 3  # spikes that are told apart; the run is unstable by then


@dataclass(frozen=True)
class LossSpike(LiveDetector):
    """The loss lies far above the last 30 steps, in nats and in robust standard deviations. Long runs want a lower `rise`."""

    name: ClassVar = "loss-spike"
    needs: ClassVar = frozenset({Signal.LOSS})

    rise: float = 0.7  # nats above the window's median; 0.1 for long runs with large batches
    z: float = 6.0  # robust standard deviations above it
    unstable: int = 3  # spikes that make a run unstable

    def begin(self, declared: Declared) -> Watch:
        return _Watch(self, declared)


class _Watch:
    def __init__(self, rule: LossSpike, declared: Declared) -> None:
        self._rule, self._names = rule, declared.names
        self._window = Window()
        self._spikes, self._inside = 0, False

    def update(self, point: Point) -> list[Finding]:
        loss = self._names.read(point, Signal.LOSS)
        if loss is None or not math.isfinite(loss):
            return []
        found: list[Finding] = []
        if len(self._window) >= ENOUGH:
            middle, z = self._window.median(), self._window.z(loss)
            spike = loss - middle > self._rule.rise and z > self._rule.z
            if spike and not self._inside:
                self._spikes += 1
                found = self._say(point.step, loss, middle, z)
            self._inside = spike
        self._window.add(loss)
        return found

    def _say(self, step: int, loss: float, middle: float, z: float) -> list[Finding]:
        if self._spikes > max(REPORTED, self._rule.unstable):
            return []
        unstable = self._spikes >= self._rule.unstable
        sentence = f"the loss jumped from about {middle:.2f} to {loss:.2f} at step {step}"
        if unstable:
            sentence += f"; it is spike {self._spikes}, so the run is unstable"
        evidence = {"loss": loss, "median": middle, "z": z, "spikes": float(self._spikes)}
        return [self._rule.found(Severity.WARNING if unstable else Severity.NOTE, sentence, Place(step), **evidence)]
