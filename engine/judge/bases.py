"""Equal what? How two runs compare in tokens, FLOPs and time, and what a difference in one of them is worth. Pure.

A model of twice the width wins at equal tokens by compute alone. So each run says what it cost, an experiment is judged on the
basis that the lab declares (`compare`), and all three are shown. Nothing is run again with another budget for that: what a
longer run is worth is measured on the trunk, at two lengths, and a difference is corrected by it:

    d on a basis = d as measured - kappa ln(cost of the experiment / cost of the trunk)

with kappa from `engine.judge.kinds`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.halfway import Measures
from engine.types import Compare

LEAST = 0.01
"""Share by which costs have to differ before a difference is corrected for it."""

MOST = 1e6
"""Costs that differ by more are no costs."""

BASES: tuple[Compare, ...] = ("tokens", "flops", "time")

COST: Mapping[Compare, str] = {"tokens": "tokens", "flops": "FLOPs", "time": "time"}
AT_EQUAL: Mapping[Compare, str] = {"tokens": "at equal tokens", "flops": "at equal FLOPs", "time": "in equal time"}


def cost(run: Measures, basis: Compare) -> float | None:
    """What one run cost: tokens (steps, where it does not count them), FLOPs, or seconds of its steps. None when not known."""
    amount = run.tokens or run.steps
    if basis == "tokens" or not amount:
        return amount or None
    rate = run.flops if basis == "flops" else run.speed and 1 / run.speed
    return amount * rate if rate and math.isfinite(rate) and rate > 0 else None


@dataclass(frozen=True, slots=True)
class Basis:
    """How an experiment and its trunk compare. `ratios` are the experiment's costs over the trunk's, of those that both say;
    `kappa` is what ln(cost) is worth, in the metric's unit, lower is better; None while it is not known. `least` is how far
    the logarithm of a ratio has to be from zero, by basis. `speed`: a higher speed is what the change claims, so that kappa is
    wanted whatever it costs, and what it saves is part of the test."""

    compare: Compare = "tokens"
    ratios: Mapping[Compare, float] = field(default_factory=dict)
    kappa: float | None = None
    least: Mapping[Compare, float] = field(default_factory=dict)
    speed: bool = False

    def even(self, basis: Compare) -> bool:
        """Whether the two cost the same on this basis, as far as is known."""
        return abs(math.log(self.ratios.get(basis, 1.0))) <= max(LEAST, self.least.get(basis, 0.0))

    def worth(self, basis: Compare) -> float | None:
        """What a difference on this basis is less than the one measured, in the metric's unit; None when not known."""
        if basis not in self.ratios:
            return None
        if self.even(basis):
            return 0.0
        return None if self.kappa is None else self.kappa * math.log(self.ratios[basis])

    @property
    def shift(self) -> float | None:
        """`worth` on the basis that the lab declares; zero when that is not known, None when kappa is to be measured first."""
        if self.speed:
            return None if self.kappa is None and "time" in self.ratios else 0.0
        return self.worth(self.compare) if self.compare in self.ratios else 0.0

    def row(self, measured: float | None) -> dict[str, Any] | None:
        """What is shown: by basis its ratio and the mean difference on it, from the mean difference as measured. None when the
        two cost the same, whatever the basis."""
        if all(self.even(basis) for basis in BASES):
            return None
        shown: dict[str, Any] = {"compare": self.compare, "kappa": self.kappa}
        for basis, ratio in self.ratios.items():
            worth = self.worth(basis)
            effect = None if measured is None or worth is None else measured - worth
            shown[basis] = {"ratio": ratio, "effect": effect}
        return shown


def worth_on_record(bases: Mapping[str, Any] | None, differences: Iterable[float | None]) -> float:
    """What the effect of a verdict was corrected by, in the metric's unit: its `bases` beside the differences of its pairs as
    they were measured. Zero where both sides cost the same. What was measured of its runs may have been set aside since."""
    on = (bases or {}).get((bases or {}).get("compare", "")) or {}
    measured = [each for each in differences if each is not None]
    if on.get("effect") is None or not measured:
        return 0.0
    return math.fsum(measured) / len(measured) - float(on["effect"])


def ratios(trunk: Mapping[int, Measures], mine: Mapping[int, Measures]) -> dict[Compare, float]:
    """The experiment's cost over the trunk's, by basis: the median over the seeds on which both say."""
    found: dict[Compare, float] = {}
    for basis in BASES:
        of_seed = [
            b / a
            for seed in sorted(trunk.keys() & mine.keys())
            if (a := cost(trunk[seed], basis)) and (b := cost(mine[seed], basis))
        ]
        middle = statistics.median(of_seed) if of_seed else 0.0
        if 1 / MOST < middle < MOST:
            found[basis] = middle
    return found


def time_spread(trunk: Iterable[Measures]) -> float:
    """How far apart equal runs are in time: three standard deviations of ln(tokens/s) between the trunk's runs, which is what
    two of them may differ by on a machine that others use as well. Zero with fewer than two."""
    logs = [math.log(run.speed) for run in trunk if run.speed and run.speed > 0]
    return 3 * statistics.stdev(logs) if len(logs) > 1 else 0.0
