"""From what shards wrote, line by line, to columns of points and a tally of each series; pure.

Lines that name the same metrics in the same order are taken together, so that the work on each number is done by C: a shard
writes the same names on nearly all of its lines.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

from engine.history.tables import Point, number, storable

if TYPE_CHECKING:
    import pyarrow

_INT64 = 2**63


@dataclass(slots=True)
class Tally:
    """The row of `summaries` of one metric of one shard: `last` is the latest written, `low` is over finite values."""

    last: float
    step: int
    low: float | None
    count: int
    nonfinite: int

    def then(self, more: Tally) -> Tally:
        """The tally of these values and of `more`, which were written later."""
        lows = [low for low in (self.low, more.low) if low is not None]
        low = min(lows) if lows else None
        return Tally(more.last, more.step, low, self.count + more.count, self.nonfinite + more.nonfinite)


def tally(values: Sequence[float], step: int) -> Tally:
    """Of the values of one series, in their order, the last of them at `step`. Raises IndexError for none at all."""
    if math.isfinite(sum(values)):  # then every one of them is
        return Tally(values[-1], step, min(values), len(values), 0)
    finite = [value for value in values if math.isfinite(value)]
    return Tally(values[-1], step, min(finite, default=None), len(values), len(values) - len(finite))


@dataclass(slots=True)
class PointColumns:
    """Points of many batches as columns, in the order they came; `shards` and `metrics` are numbers into their names."""

    shard_names: list[str] = field(default_factory=list)
    metric_names: list[str] = field(default_factory=list)
    shards: array[int] = field(default_factory=lambda: array("i"))
    metrics: array[int] = field(default_factory=lambda: array("i"))
    steps: array[int] = field(default_factory=lambda: array("q"))
    times: list[float | None] = field(default_factory=list)
    values: array[float] = field(default_factory=lambda: array("d"))
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    _codes: dict[str, int] = field(default_factory=dict)

    def add(self, shard: str, points: Sequence[Point]) -> int:
        """Append the points of one shard, in order; returns how many were left out since their step fits no column."""
        kept = points
        steps = [point.step for point in points]
        if steps and not -_INT64 <= min(steps) <= max(steps) < _INT64:
            kept = [point for point in points if -_INT64 <= point.step < _INT64]
        name = storable(shard)
        self.shard_names.append(name)
        for names, alike in groupby(kept, key=_names):
            if names:
                self._add_alike(name, names, list(alike))
        return len(points) - len(kept)

    def _add_alike(self, shard: str, names: tuple[str, ...], points: list[Point]) -> None:
        """Append lines that name the same metrics in the same order."""
        width, height = len(names), len(points)
        steps = [point.step for point in points]
        values = _floats(list(chain.from_iterable([point.values.values() for point in points])))
        self.values.extend(values)
        self.steps.extend(_each(steps, width))
        self.times.extend(_each([point.t for point in points], width))
        self.shards.extend(array("i", (len(self.shard_names) - 1,)) * (width * height))
        codes = array("i", [self._code(name) for name in names])
        self.metrics.extend(codes * height)
        for place, code in enumerate(codes):
            key = (shard, self.metric_names[code])
            more, known = tally(values[place::width], steps[-1]), self.tallies.get(key)
            self.tallies[key] = more if known is None else known.then(more)

    def _code(self, name: str) -> int:
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = len(self.metric_names)
            self.metric_names.append(storable(name))
        return code

    def table(self) -> pyarrow.Table:
        """The columns of `points` as an Arrow table, over the very memory of these: add nothing afterwards."""
        import pyarrow

        def column(kind: Any, numbers: array[Any]) -> Any:
            return pyarrow.Array.from_buffers(kind, len(numbers), [None, pyarrow.py_buffer(numbers)])

        def text(codes: array[int], names: list[str]) -> Any:
            return pyarrow.DictionaryArray.from_arrays(column(pyarrow.int32(), codes), pyarrow.array(names))

        columns = {
            "shard": text(self.shards, self.shard_names),
            "metric": text(self.metrics, self.metric_names),
            "step": column(pyarrow.int64(), self.steps),
            "t": pyarrow.array(self.times, pyarrow.float64()),
            "value": column(pyarrow.float64(), self.values),
        }
        return pyarrow.table(columns)


def _names(point: Point) -> tuple[str, ...]:
    return tuple(point.values)


def _each(numbers: Sequence[Any], times: int) -> chain[Any]:
    """Every one of `numbers` so many times in a row."""
    return chain.from_iterable(zip(*[numbers] * times, strict=True))


def _floats(values: list[float]) -> array[float]:
    try:
        return array("d", values)
    except (OverflowError, TypeError):  # an integer beyond all floats
        return array("d", map(number, values))
