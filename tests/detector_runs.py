"""Synthetic runs for tests of detectors: what a healthy run writes, and ways to spoil it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from engine.watch.detectors.evidence import Declared, Run, Seen
from engine.watch.detectors.finding import Finding
from engine.watch.detectors.registry import LiveWatch
from engine.watch.detectors.series import Series
from engine.watch.detectors.signals import Signal
from engine.watch.detectors.sketch import Row
from engine.watch.parse import Point

STEPS = 300
LOOKS = range(10, STEPS + 1, 10)


def loss_at(step: int, noise: float = 0.0) -> float:
    """A falling loss, from that of guessing a byte to 2.3 nats."""
    return 2.3 + 3.2 * math.exp(-step / 50) + noise


def stream(
    seed: int = 0, noise: float = 0.08, spoil: Mapping[str, Callable[[int, float], float]] | None = None
) -> list[Point]:
    """The points of a run; `spoil` maps a metric's name to what becomes of its value at a step."""
    draw = random.Random(seed)
    points = []
    for step in range(1, STEPS + 1):
        values = {
            "loss": loss_at(step, draw.gauss(0, noise)),
            "grad_norm": math.exp(draw.gauss(0.3, 0.2)),
            "lr": 5e-4 * min(1, step / 30),
            "tokens_per_s": 12_000 * math.exp(draw.gauss(0, 0.1)),
        }
        for name, change in (spoil or {}).items():
            values[name] = change(step, values[name])
        points.append(Point(step, None, values))
    return points


def at(steps: Iterable[int], change: Callable[[float], float]) -> Callable[[int, float], float]:
    """A change of the value at these steps only."""
    chosen = set(steps)
    return lambda step, value: change(value) if step in chosen else value


def watched(points: list[Point], steps: int | None = STEPS) -> list[Finding]:
    """What all live detectors say of a stream."""
    return LiveWatch(Declared(steps)).feed(points)


def rows(seed: int, count: int = 240, of: int = 10**9, common: float = 0.05) -> tuple[Row, ...]:
    """Training rows drawn from `of` different ones; a share of them holds a stock phrase (passage 7)."""
    draw = random.Random(seed)
    out = []
    for number in range(count):
        whole = draw.randrange(of)
        inside = {1000 * whole + each for each in range(1, 13)}
        out.append(Row(1 + number // 8, whole, frozenset(inside | ({7} if draw.random() < common else set()))))
    return tuple(out)


def healthy(seed: int = 0, noise: int = 0) -> Run:
    """A whole run as the sample lab reports it; `noise` seeds what differs between two of the same seed."""
    draw = random.Random(1000 * seed + noise)
    points = stream(1000 * seed + noise)
    series = {
        signal: Series.of((point.step, point.values[signal]) for point in points)
        for signal in (Signal.LOSS, Signal.GRAD_NORM, Signal.RATE, Signal.SPEED)
    }
    for signal, middle in (
        (Signal.UPDATE, 3e-3),
        (Signal.HEAD_COSINE, 0.2),
        (Signal.DEAD_UNITS, 0.02),
        (Signal.ATTENTION, 2.0),
    ):
        series[signal] = Series.of((step, middle * math.exp(draw.gauss(0, 0.1))) for step in LOOKS)
    series[Signal.STALE] = Series.of((step, 1e-7) for step in LOOKS)
    facts: dict[Signal, float | str] = {
        Signal.FIRST_LOSS: 5.5 + seed / 100,
        Signal.DATA_ORDER: f"order {seed}",
        Signal.TOKENS: 306_176.0,
        Signal.UNMOVED: "",
        Signal.LOOKAHEAD: 0.0,
        Signal.SEED_USED: str(seed),
        Signal.FLOPS: 1_752_576.0,
        Signal.PARAMETERS: 231_424.0,
    }
    score = 3.4 + draw.gauss(0, 0.01)
    sources = {name: value + draw.gauss(0, 0.02) for name, value in (("code", 3.6), ("arithmetic", 2.1))}
    return Run(seed, series, facts, rows(seed), score, sources, 3.5, 3.5)


def seen(run: Run | None = None, **more: object) -> Seen:
    """A run beside the trunk's, with everything that the engine can know."""
    known: dict[str, object] = {
        "trunk": healthy(0),
        "siblings": (healthy(1, 5), healthy(2, 5)),
        "trunk_siblings": (healthy(0), healthy(1), healthy(2)),
        "steps": STEPS,
        "spread": 0.01,
        "source_spread": {"code": 0.02, "arithmetic": 0.02},
        "held": frozenset({7}),
        "changed": (),
    }
    return Seen(run or healthy(0, 5), **(known | more))  # type: ignore[arg-type]


def with_series(signal: Signal, change: Callable[[int, float], float], run: Run | None = None) -> Run:
    """A healthy run in which one series is changed."""
    base = run or healthy(0, 5)
    old = base.series[signal]
    new = Series(old.steps, tuple(change(step, value) for step, value in zip(old.steps, old.values, strict=True)))
    return replace(base, series={**base.series, signal: new})


def with_fact(signal: Signal, value: float | str) -> Run:
    base = healthy(0, 5)
    return replace(base, facts={**base.facts, signal: value})
