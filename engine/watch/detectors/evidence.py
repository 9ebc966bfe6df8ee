"""Everything that is known of a run when its detectors are asked, and which signals that comes to. Pure and frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from engine.watch.detectors.series import Series
from engine.watch.detectors.signals import FACTS, SERIES, Signal
from engine.watch.detectors.sketch import Row


class Point(Protocol):
    """What was measured at one step, under the lab's own names."""

    @property
    def step(self) -> int: ...
    @property
    def values(self) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True)
class Names:
    """Under which names a lab's runs report the signals; what is not renamed has the signal's own."""

    renamed: Mapping[Signal, str] = field(default_factory=dict)

    def of(self, signal: Signal) -> str:
        return self.renamed.get(signal, signal.value)

    def read(self, point: Point, signal: Signal) -> float | None:
        """The value of a signal at a point; None where it was not written."""
        return point.values.get(self.of(signal))


@dataclass(frozen=True, slots=True)
class Declared:
    """What was agreed before the run: its number of steps, where that is known, and the names it reports under."""

    steps: int | None = None
    names: Names = field(default_factory=Names)


@dataclass(frozen=True, slots=True)
class Run:
    """One run that has ended. What is not known is empty or None; `evaluated` is the referee's value for `reported`."""

    seed: int
    series: Mapping[Signal, Series] = field(default_factory=dict)
    facts: Mapping[Signal, float | str] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    score: float | None = None
    sources: Mapping[str, float] = field(default_factory=dict)
    reported: float | None = None
    evaluated: float | None = None

    def number(self, signal: Signal) -> float | None:
        value = self.facts.get(signal)
        return float(value) if isinstance(value, int | float) else None

    def text(self, signal: Signal) -> str | None:
        value = self.facts.get(signal)
        return value if isinstance(value, str) else None

    @property
    def signals(self) -> frozenset[Signal]:
        """What this run alone has."""
        found = {signal for signal, series in self.series.items() if len(series)} | set(self.facts)
        has = {
            Signal.ROWS: bool(self.rows),
            Signal.SCORE: self.score is not None,
            Signal.SOURCES: bool(self.sources),
            Signal.REPORTED: self.reported is not None,
            Signal.EVALUATED: self.evaluated is not None,
        }
        return frozenset(found | {signal for signal, there in has.items() if there})


@dataclass(frozen=True, slots=True)
class Seen:
    """A run beside what it is compared with. `spread` is the standard deviation of the trunk's score between seeds,
    `changed` the protected files that differ from the commit's (None: nobody looked), `held` hashes of held passages."""

    run: Run
    trunk: Run | None = None
    siblings: tuple[Run, ...] = ()
    trunk_siblings: tuple[Run, ...] = ()
    steps: int | None = None
    lower_is_better: bool = True
    category: str = ""
    claims: str = ""
    spread: float | None = None
    source_spread: Mapping[str, float] = field(default_factory=dict)
    held: frozenset[int] = frozenset()
    changed: tuple[str, ...] | None = None
    first: Run | None = None  # of the campaign's first trunk, where the present one is another

    @property
    def signals(self) -> frozenset[Signal]:
        """What is there to look at, for this run."""
        has = {
            Signal.TRUNK: self.trunk is not None,
            Signal.SIBLINGS: bool(self.siblings),
            Signal.BUDGET: self.steps is not None,
            Signal.SPREAD: self.spread is not None,
            Signal.SOURCE_SPREAD: bool(self.source_spread),
            Signal.HELD: bool(self.held),
            Signal.TREE: self.changed is not None,
        }
        return self.run.signals | {signal for signal, there in has.items() if there}

    def pair(self, signal: Signal) -> tuple[Series, Series]:
        """The series of the run and of the trunk; empty where there is none."""
        other = self.trunk.series if self.trunk else {}
        return self.run.series.get(signal, Series()), other.get(signal, Series())


def read_run(
    seed: int,
    points: Iterable[Point],
    summary: Mapping[str, float | str],
    rows: tuple[Row, ...] = (),
    names: Names | None = None,
    metric: str = "",
) -> Run:
    """A run from what it wrote: points and summary values, under the lab's names; `metric` is what it reports of itself."""
    called = names or Names()
    pairs: dict[Signal, list[tuple[int, float]]] = {signal: [] for signal in SERIES}
    for point in points:
        for signal in SERIES:
            value = called.read(point, signal)
            if value is not None:
                pairs[signal].append((point.step, value))
    facts = {signal: summary[called.of(signal)] for signal in FACTS if called.of(signal) in summary}
    reported = summary.get(metric)
    series = {signal: Series.of(each) for signal, each in pairs.items() if each}
    return Run(seed, series, facts, rows, reported=reported if isinstance(reported, float) else None)
