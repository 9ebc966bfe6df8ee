"""Numbers that are none: once a loss, a gradient or an update is NaN or infinite, nothing that follows means anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import LiveDetector, Watch
from engine.watch.detectors.evidence import Declared, Point
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal

WATCHED = {
    Signal.LOSS: "the loss",
    Signal.GRAD_NORM: "the gradient's norm",
    Signal.UPDATE: "the size of an update",
    Signal.ATTENTION: "the largest attention logit",
}


@dataclass(frozen=True)
class NonFinite(LiveDetector):
    """Stops at the first value that is not finite."""

    name: ClassVar = "non-finite"
    needs: ClassVar = frozenset({Signal.LOSS})

    def begin(self, declared: Declared) -> Watch:
        return _Watch(self, declared)


class _Watch:
    def __init__(self, rule: NonFinite, declared: Declared) -> None:
        self._rule, self._names, self._over = rule, declared.names, False

    def update(self, point: Point) -> list[Finding]:
        if self._over:
            return []
        for signal, called in WATCHED.items():
            value = self._names.read(point, signal)
            if value is not None and not math.isfinite(value):
                self._over = True
                sentence = f"{called} is {value} at step {point.step}: nothing after it means anything"
                return [self._rule.found(Severity.STOP, sentence, Place(point.step), value=value)]
        return []
