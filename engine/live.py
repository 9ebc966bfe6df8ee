"""The latest measurements of running shards, as clients see them: a step, a loss, a speed, and a thinned curve.

Nothing here is truth: it is read off the metrics that shards write, and can be read again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.history.tables import Point
from engine.types import LiveRow

KEPT = 500
"""Points of a live curve that are kept a shard; beyond twice that every other one is dropped."""

MOST_STEPS = 1 << 53
"""What a shard may declare as its number of steps; more, or infinity, is not believed."""


@dataclass
class LiveShard:
    """One running shard. `stride` is how many points stand between two kept ones."""

    loss: str
    started: float
    step: int = 0
    steps: int | None = None
    tokens_per_s: float | None = None
    value: float | None = None
    garbage: int = 0
    nonfinite: bool = False
    resumed: int | None = None  # the step that it went on from
    curve: list[tuple[int, float | None]] = field(default_factory=list)
    fresh: list[tuple[int, float | None]] = field(default_factory=list)
    stride: int = 1
    seen: int = 0
    changed: bool = False

    def feed(self, points: Sequence[Point], summary: Mapping[str, Any], garbage: int) -> None:
        """Take in what was read off the shard's metrics since the last time."""
        steps = summary.get("steps")
        if isinstance(steps, int | float) and 0 < steps < MOST_STEPS:  # a shard may say infinity, which is no integer
            self.steps = int(steps)
        if (at := resumed_at(summary)) is not None:
            self.resumed = at
        for point in points:
            self.step = max(self.step, point.step)
            speed = point.values.get("tokens_per_s")
            if speed is not None and math.isfinite(speed):
                self.tokens_per_s = speed
            if self.loss in point.values:
                self._plot(point.step, point.values[self.loss])
        self.garbage += garbage
        self.changed = self.changed or bool(points) or bool(garbage) or bool(summary)

    def _plot(self, step: int, value: float) -> None:
        finite = math.isfinite(value)
        self.value = value if finite else None
        first_bad = not finite and not self.nonfinite
        self.nonfinite = self.nonfinite or not finite
        if self.seen % self.stride == 0 or first_bad:
            point = (step, value if finite else None)
            self.curve.append(point)
            self.fresh = [*self.fresh[-2 * KEPT :], point]
        self.seen += 1
        if len(self.curve) > 2 * KEPT:
            self.curve = self.curve[::2]
            self.stride *= 2

    def row(self, now: float, points: list[tuple[int, float | None]]) -> LiveRow:
        eta = None
        if self.steps and 0 < self.step <= self.steps and now > self.started:
            eta = round((now - self.started) / self.step * (self.steps - self.step), 1)
        row: LiveRow = {
            "step": self.step,
            "steps": self.steps,
            "value": self.value,
            "tokens_per_s": self.tokens_per_s,
            "eta_s": eta,
            "points": points,
        }
        if self.garbage:
            row["dropped"] = self.garbage
        if self.resumed is not None:
            row["resumed_at"] = self.resumed
        return row


def resumed_at(summary: Mapping[str, Any]) -> int | None:
    """The step from which a shard says that it went on; None where it says nothing that is one."""
    at = summary.get("resumed_at")
    return int(at) if isinstance(at, int | float) and 0 <= at < MOST_STEPS else None


class Live:
    """All running shards."""

    def __init__(self, loss: str) -> None:
        self._loss = loss
        self.shards: dict[str, LiveShard] = {}

    def start(self, shard: str, now: float) -> None:
        self.shards.setdefault(shard, LiveShard(self._loss, now))

    def end(self, shard: str) -> None:
        self.shards.pop(shard, None)

    def changes(self, now: float) -> dict[str, LiveRow]:
        """What is new since the last call, by shard."""
        rows = {}
        for name, shard in self.shards.items():
            if shard.changed:
                rows[name] = shard.row(now, shard.fresh)
                shard.fresh, shard.changed = [], False
        return rows

    def snapshot(self, now: float) -> dict[str, LiveRow]:
        """Everything, for a client that has just attached; at most `KEPT` points a shard."""
        return {name: shard.row(now, thin(shard.curve, KEPT)) for name, shard in self.shards.items()}


def thin(points: list[tuple[int, float | None]], limit: int) -> list[tuple[int, float | None]]:
    """At most `limit` of the points, evenly spread, the last one always among them."""
    if len(points) <= limit:
        return list(points)
    stride = -(-len(points) // limit)
    kept = points[::-stride]
    return kept[::-1]
