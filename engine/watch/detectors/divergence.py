"""A loss that climbs and stays up: the run has left the region in which it could learn."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import LiveDetector, Watch
from engine.watch.detectors.evidence import Declared, Point
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.series import WINDOW, Window
from engine.watch.detectors.signals import Signal

FEW = 5  # steps whose median stands for "now" where one step would be too noisy
KEPT = 1000  # losses that the early median is made of, at most


@dataclass(frozen=True)
class Divergence(LiveDetector):
    """After warm-up the loss is far above where it began, or the recent median lies above the early one."""

    name: ClassVar = "divergence"
    needs: ClassVar = frozenset({Signal.LOSS, Signal.BUDGET})

    rise: float = 0.3  # nats by which the recent median lies above that of the steps from `early` to `settled`
    above_start: float = 1.0  # nats above the first loss, which for an untrained model is that of guessing
    early: float = 0.1  # share of the steps after which a run has warmed up
    settled: float = 0.2  # share of the steps at which the early median is complete

    def begin(self, declared: Declared) -> Watch:
        return _Watch(self, declared)


class _Watch:
    def __init__(self, rule: Divergence, declared: Declared) -> None:
        self._rule, self._names, self._over = rule, declared.names, False
        self._steps = declared.steps or 0
        self._first: float | None = None
        self._early: deque[float] = deque(maxlen=KEPT)
        self._base: float | None = None
        self._now: deque[float] = deque(maxlen=FEW)
        self._recent = Window(max(FEW, min(WINDOW, self._steps // 10)))

    def update(self, point: Point) -> list[Finding]:
        loss = self._names.read(point, Signal.LOSS)
        if self._over or loss is None or not math.isfinite(loss):
            return []
        if self._first is None:
            self._first = loss
        self._now.append(loss)
        done = point.step / self._steps if self._steps else 0.0
        found: list[Finding] = []
        if self._rule.early <= done <= self._rule.settled:
            self._early.append(loss)
        if done > self._rule.settled:
            self._recent.add(loss)
            found = self._against_early(point.step)
        if not found and done > self._rule.early and len(self._now) == FEW:
            found = self._against_start(point.step, self._first)
        self._over = bool(found)
        return found

    def _against_early(self, step: int) -> list[Finding]:
        if self._base is None and self._early:
            self._base = statistics.median(self._early)
        if self._base is None or not self._recent.full:
            return []
        now = self._recent.median()
        if now <= self._base + self._rule.rise:
            return []
        sentence = f"the loss has climbed from {self._base:.2f} early in the run to {now:.2f}, and stays there"
        evidence = {"early": self._base, "now": now, "limit": self._base + self._rule.rise}
        return [self._rule.found(Severity.STOP, sentence, Place(step), **evidence)]

    def _against_start(self, step: int, first: float) -> list[Finding]:
        now = statistics.median(self._now)
        if now <= first + self._rule.above_start:
            return []
        sentence = f"after warm-up the loss is {now:.2f}, far above the {first:.2f} of the untrained model"
        evidence = {"first": first, "now": now, "limit": first + self._rule.above_start}
        return [self._rule.found(Severity.STOP, sentence, Place(step), **evidence)]
