"""Loss curves in braille, overlaid, drawn by pure functions.

The step axis spans the whole planned run from the start, so that a growing curve repaints only the cells that it reaches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .. import format as f
from ..raster import Canvas
from .lines import Line, Lines, Span, rule

SMOOTHING = {"off": 0.0, "light": 0.02, "strong": 0.08}
"""Share of the curve over which the running mean fades."""
GUIDE = ("┆", "faint")
"""Where a curve went on from an attempt that was cut off."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One curve: its label for the legend, the name of its colour, steps and values (NaN breaks the line). `resumed`: steps at
    which it went on from an attempt that was cut off."""

    label: str
    colour: str
    steps: Sequence[int]
    values: Sequence[float]
    total: int | None = None
    resumed: tuple[int, ...] = ()


def smooth(values: Sequence[float], share: float) -> list[float]:
    """Bias-corrected running mean over about `share` of the curve; non-finite values stay and are left out of the mean."""
    window = len(values) * share
    if window <= 1:
        return list(values)
    keep = 1 - 1 / window
    total = weight = 0.0
    out: list[float] = []
    for value in values:
        if math.isfinite(value):
            total = keep * total + value
            weight = keep * weight + 1
            out.append(total / weight)
        else:
            out.append(value)
    return out


def mean_of(curves: Sequence[tuple[Sequence[int], Sequence[float]]]) -> tuple[list[int], list[float]]:
    """The mean curve over the steps that all of them have."""
    if not curves:
        return [], []
    tables = [dict(zip(*curve, strict=True)) for curve in curves]
    steps = [step for step in curves[0][0] if all(step in table for table in tables)]
    return steps, [sum(table[step] for table in tables) / len(tables) for step in steps]


def value_range(traces: Sequence[Trace]) -> tuple[float, float] | None:
    """Lowest value and a high one that leaves the steep start of training above the frame; None without any point."""
    pooled = sorted(value for trace in traces for value in trace.values if math.isfinite(value))
    if not pooled:
        return None
    low, high = pooled[0], pooled[min(int(len(pooled) * 0.78), len(pooled) - 1)]
    if high <= low:
        pad = abs(low) * 0.01 or 0.01
        return low - pad, low + pad
    pad = (high - low) * 0.04
    return low - pad, high + pad


def draw(canvas: Canvas, trace: Trace, last_step: int, low: float, high: float) -> None:
    """Draw one curve: the mean of the points that fall on each column of dots, joined to the column before."""
    columns, rows = canvas.width * 2, canvas.height * 4
    sums = [0.0] * columns
    counts = [0] * columns
    broken = [False] * columns
    for step, value in zip(trace.steps, trace.values, strict=True):
        x = min(max(int(step / max(last_step, 1) * (columns - 1)), 0), columns - 1)
        if math.isfinite(value):
            sums[x] += value
            counts[x] += 1
        else:
            broken[x] = True
    before: tuple[int, int] | None = None
    for x in range(columns):
        if broken[x] and not counts[x]:
            before = None
        if not counts[x]:
            continue
        y = round((high - sums[x] / counts[x]) / (high - low) * (rows - 1))
        if before is None:
            canvas.stroke(x, y, y, trace.colour)
        else:
            canvas.join(before, (x, y), trace.colour)
        before = (x, y)


def plot(traces: Sequence[Trace], width: int, height: int, *, share: float = 0.0, log: bool = False) -> list[Line]:
    """Legend, curves with a value axis, and a step axis: `height` lines of `width` cells."""
    legend = legend_lines(traces, width, max(height // 5, 1))
    inner = height - len(legend) - 2
    gutter = 8
    if inner < 2 or width < gutter + 12:
        return legend[:height]
    ready = [_prepared(trace, share, log) for trace in traces]
    spread = value_range(ready)
    if spread is None:
        note = "no points yet" if traces else "no run is selected"
        return [*legend, *[Line()] * (inner // 2), Line(((f.fit(" " * (gutter + 2) + note, width), "faint"),))]
    low, high = spread
    last_step = max([trace.total or 0 for trace in ready] + [trace.steps[-1] for trace in ready if trace.steps])
    canvas = Canvas(width - gutter, inner)
    for step in (step for trace in ready for step in trace.resumed):
        canvas.guides[min(int(step / max(last_step, 1) * (canvas.width * 2 - 1)) // 2, canvas.width - 1)] = GUIDE
    for trace in reversed(ready):
        draw(canvas, trace, last_step, low, high)
    labels = _axis(low, high, inner, log)
    lines = list(legend)
    for row in range(inner):
        name = labels.get(row)
        mark = "┤" if name else "│"
        lines.append(Line(((f.fit(name or "", gutter - 1, right=True), "faint"), (mark, "rule"), *canvas.spans(row))))
    return [*lines, *_step_axis(last_step, width, gutter)]


def _prepared(trace: Trace, share: float, log: bool) -> Trace:
    planned = max((trace.total or 0) / max(trace.steps[-1], 1), 1.0) if trace.steps else 1.0
    values = smooth(trace.values, share * planned)  # the same window from the first point to the last
    if log:
        values = [math.log10(value) if value > 0 and math.isfinite(value) else math.nan for value in values]
    return Trace(trace.label, trace.colour, trace.steps, values, trace.total, trace.resumed)


def _axis(low: float, high: float, rows: int, log: bool) -> dict[int, str]:
    if log:
        marks = [(math.log10(tick), tick) for tick in f.ticks(10**low, 10**high, max(rows * 2 // 5, 2)) if tick > 0]
    else:
        marks = [(tick, tick) for tick in f.ticks(low, high, max(rows * 2 // 5, 2))]
    return {min(int((high - at) / (high - low) * rows), rows - 1): f"{tick:.5g}" for at, tick in marks}


def _step_axis(last_step: int, width: int, gutter: int) -> list[Line]:
    room = width - gutter
    marks = [" "] * room
    rail = ["─"] * room
    for tick in f.ticks(0, max(last_step, 1), max(room // 12, 2)):
        at = min(int(tick / max(last_step, 1) * (room - 1)), room - 1)
        rail[at] = "┴"
        name = f.count(tick) if tick >= 10_000 else f"{tick:.0f}"
        start = min(max(at - len(name) // 2, 0), room - len(name))
        marks[start : start + len(name)] = list(name)
    pad = " " * (gutter - 1)
    return [Line(((pad, "faint"), ("└" + "".join(rail), "rule"))), Line(((pad + " " + "".join(marks), "faint"),))]


def legend_lines(traces: Sequence[Trace], width: int, most: int) -> list[Line]:
    """Labels in their colours with the latest value, as many lines as needed but at most `most`."""
    lines: list[list[Span]] = [[]]
    used = 0
    for trace in traces:
        last = next((value for value in reversed(trace.values) if math.isfinite(value)), None)
        text = f"{trace.label} {f.metric(last)}"
        if trace.resumed:
            text += f" {GUIDE[0]} went on at step {', '.join(map(str, trace.resumed[-3:]))}"
        size = f.width_of(text) + 5
        if used + size > width and used:
            lines.append([])
            used = 0
        lines[-1] += [(" ━ ", trace.colour), (f.fit(text, min(f.width_of(text), width - 4)), "text"), ("  ", "dim")]
        used += size
    return [Line(tuple(spans)) for spans in lines[:most]]


class Curves(Lines):
    """The pane of curves; what it shows is drawn again only when its traces changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.smoothing = "light"
        self.log_axis = False

    def redraw(self, traces: Sequence[Trace], name: str) -> None:
        """Draw these traces, the most important one first."""
        width, height = self.size
        note = f"smoothing {self.smoothing}" + (" · log axis" if self.log_axis else "")
        body = plot(traces, width, max(height - 1, 0), share=SMOOTHING[self.smoothing], log=self.log_axis)
        self.show([rule(name, width, note), *body])
