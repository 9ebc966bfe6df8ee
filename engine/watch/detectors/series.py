"""Series of measurements, and the few robust statistics that the rules are made of. Values may be NaN or infinite: runs are
untrusted, and a broken one is what detectors look for."""

from __future__ import annotations

import itertools
import math
import statistics
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

WINDOW = 30
"""Steps that live rules compare a new value with."""

_NORMAL = 1.4826 / math.sqrt(2)  # from the median size of differences to a standard deviation, for normal noise


@dataclass(frozen=True, slots=True)
class Series:
    """Values by step, steps ascending."""

    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, float]]) -> Series:
        """From (step, value) in any order; of a step that was written twice, the last value counts."""
        found = sorted(dict(pairs).items())
        return cls(tuple(step for step, _ in found), tuple(value for _, value in found))

    def __len__(self) -> int:
        return len(self.steps)

    def between(self, first: float, last: float) -> Series:
        """The part from step `first` to `last`, both included."""
        at, end = bisect_left(self.steps, first), bisect_right(self.steps, last)
        return Series(self.steps[at:end], self.values[at:end])

    def finite(self) -> Series:
        """Without NaN and infinities."""
        return Series.of(pair for pair in zip(self.steps, self.values, strict=True) if math.isfinite(pair[1]))

    def on(self, steps: Iterable[int]) -> Series:
        """Only what was measured at one of these steps."""
        wanted = set(steps)
        return Series.of(pair for pair in zip(self.steps, self.values, strict=True) if pair[0] in wanted)

    def median(self) -> float | None:
        """Median of the finite values; None when there is none."""
        good = [value for value in self.values if math.isfinite(value)]
        return statistics.median(good) if good else None

    @property
    def last(self) -> int:
        """The last step, 0 when there is none."""
        return self.steps[-1] if self.steps else 0


def medians_together(one: Series, other: Series) -> tuple[float, float] | None:
    """Both medians over the steps that both were measured at; None when they share none."""
    a, b = one.finite(), other.finite()
    mine, theirs = a.on(b.steps).median(), b.on(a.steps).median()
    return None if mine is None or theirs is None else (mine, theirs)


class Window:
    """The last finite values of a stream, with a robust centre and spread."""

    def __init__(self, size: int = WINDOW) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        if math.isfinite(value):
            self._values.append(value)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def full(self) -> bool:
        return len(self._values) == self._values.maxlen

    def median(self) -> float:
        return statistics.median(self._values)

    def z(self, value: float) -> float:
        """How many robust standard deviations `value` lies above the median; infinite above a window without spread.

        The spread is that of the differences between neighbours, so that a loss which falls fast does not count as noise.
        """
        above = value - self.median()
        spread = _NORMAL * statistics.median(abs(b - a) for a, b in itertools.pairwise(self._values))
        if spread > 0:
            return above / spread
        return math.copysign(math.inf, above) if above else 0.0
