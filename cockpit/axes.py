"""Axes of a picture: what a column of an answer holds, where a value lies, and round marks with labels just long enough. Pure.

A column is numbers, times (ISO 8601, read as UTC where they say no zone) or names. What is none of its column's kind, and
what is not finite, is no value: None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal

from . import format as f

Kind = Literal["number", "time", "name"]

_SECOND_STEPS = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200)
_DAY = 86_400
_DAY_STEPS = (1, 2, 7, 14, 30, 90, 180, 365, 730, 1825)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer; times are seconds since the epoch, names are their row's number, 0 the first."""

    kind: Kind
    values: list[float | None]

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]


def column(cells: Sequence[object]) -> Column:
    """What these cells hold: numbers where any is one, else times where any is one, else names."""
    numbers = [_number(cell) for cell in cells]
    if any(value is not None for value in numbers):
        return Column("number", numbers)
    times = [_time(cell) for cell in cells]
    if any(value is not None for value in times):
        return Column("time", times)
    if any(isinstance(cell, str) and cell not in _WORDS for cell in cells):
        return Column("name", [float(at) for at in range(len(cells))])
    return Column("number", numbers)


_WORDS = frozenset({"NaN", "Infinity", "-Infinity"})
"""How an answer writes what JSON has no number for."""


def _number(cell: object) -> float | None:
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    if isinstance(cell, str) and ("_" in cell or len(cell) > 40):
        return None
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _time(cell: object) -> float | None:
    if not isinstance(cell, str) or len(cell) > 40 or len(cell) < 10:
        return None
    try:
        found = datetime.fromisoformat(cell)
    except ValueError:
        return None
    zoned = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    try:
        return (zoned - _EPOCH).total_seconds()
    except OverflowError:
        return None


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values; `low` < `high`, both finite."""

    low: float
    high: float
    kind: Kind = "number"

    def place(self, value: float, cells: int) -> int:
        """The cell (or dot) of `cells` at which a value lies, 0 at `low`; never outside."""
        half = self.high / 2 - self.low / 2  # the halves, since the whole span may be more than a float holds
        share = (value / 2 - self.low / 2) / half
        return min(max(round(share * (cells - 1)), 0), max(cells - 1, 0))

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def marks(self, most: int) -> list[tuple[float, str]]:
        """At most `most` round values within the range, and their labels."""
        if self.kind == "time":
            return _time_marks(self.low, self.high, most)
        ticks = [tick for tick in f.ticks(self.low, self.high, most) if self.holds(tick)]
        if self.kind == "name":
            ticks = [tick for tick in ticks if tick == int(tick)]
            return [(tick, f"{tick + 1:.0f}") for tick in ticks]
        return list(zip(ticks, labels(ticks), strict=True))


def axis(values: Sequence[float], kind: Kind = "number", *, pad: float = 0.04) -> Axis | None:
    """The range of these values with a margin of `pad` of it at both ends; None without any value."""
    if not values:
        return None
    low, high = (_finite(each, 1.6e308) for each in (min(values), max(values)))
    size = max(abs(low), abs(high))
    if high / 2 - low / 2 <= max(size * 1e-12, 1e-280):
        margin = size * 0.01 or 0.01
    else:
        margin = (high / 2 - low / 2) * 2 * pad if high / 2 - low / 2 < 1e300 else 0.0
    return Axis(_finite(low - margin), _finite(high + margin), kind)


def _finite(value: float, most: float = 1.7e308) -> float:
    """The value, kept from where a margin would make it infinite."""
    return min(max(value, -most), most)


def labels(ticks: Sequence[float]) -> list[str]:
    """Evenly spaced ticks as text with the same number of decimals, as many as tell them apart."""
    if not ticks:
        return []
    largest = max(abs(tick) for tick in ticks)
    step = min((abs(b - a) for a, b in pairwise(ticks)), default=largest) or 1.0
    if largest >= 1e12 or (largest and largest < 1e-4):
        return ["0" if tick == 0 else f"{tick:.3g}" for tick in ticks]
    if largest >= 10_000:
        return [f.count(tick) for tick in ticks] if step >= largest / 500 else [f"{tick:.0f}" for tick in ticks]
    digits = next((n for n in range(9) if all(abs(round(t, n) - t) < step * 1e-6 for t in ticks)), 9)
    return [f"{0.0 if tick == 0 else tick:.{digits}f}" for tick in ticks]


def _time_marks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    wanted = (high - low) / max(most, 1)
    steps = [*_SECOND_STEPS, *(days * _DAY for days in _DAY_STEPS)]
    step = next((each for each in steps if each >= wanted), 0)
    if most < 1 or not step:
        return []
    pattern = "%H:%M:%S" if step < 60 else "%H:%M" if step < _DAY else "%m-%d" if step < 90 * _DAY else "%Y-%m"
    found = []
    for index in range(math.ceil(low / step), math.floor(high / step) + 1):
        try:
            when = _EPOCH + timedelta(seconds=index * step)
        except OverflowError:
            continue
        day = step < _DAY and index * step % _DAY == 0
        found.append((float(index * step), when.strftime("%m-%d" if day else pattern)))
    return found[:most]
