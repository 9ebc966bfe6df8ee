"""Seeds that do not do what the lab believes: then several runs are one run, or the run's luck was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Run, Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.series import Series
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class UnwiredSeed(AfterDetector):
    """Runs with other seeds give the same series: they are one measurement, and no test may count them as more."""

    name: ClassVar = "unwired-seed"
    needs: ClassVar = frozenset({Signal.LOSS, Signal.SIBLINGS})

    steps: int = 5  # equal losses that are too many for chance

    def judge(self, seen: Seen) -> list[Finding]:
        mine = seen.run.series[Signal.LOSS]
        same = [other.seed for other in seen.siblings if other.seed != seen.run.seed and self._equal(mine, other)]
        if not same:
            return []
        named = ", ".join(map(str, sorted(same)))
        sentence = f"seed {seen.run.seed} gives the same losses as seed {named}: the seed is not used, so they count as one run"
        return [self.found(Severity.BARS, sentence, Place(mine.steps[0], mine.last), runs=float(len(same) + 1))]

    def _equal(self, mine: Series, other: Run) -> bool:
        theirs = other.series.get(Signal.LOSS, Series())
        return len(mine) >= self.steps and mine == theirs


@dataclass(frozen=True)
class WrongSeed(AfterDetector):
    """The random generator was given another seed than the run was told, or the data come in another seed's order."""

    name: ClassVar = "wrong-seed"
    needs: ClassVar = frozenset({Signal.SEED_USED})

    def judge(self, seen: Seen) -> list[Finding]:
        used, told = seen.run.text(Signal.SEED_USED), str(seen.run.seed)
        order = seen.run.text(Signal.DATA_ORDER)
        others = {run.text(Signal.DATA_ORDER): run.seed for run in seen.trunk_siblings if run.seed != seen.run.seed}
        if used is not None and used != told:
            sentence = f"the run was told seed {told} and used {used[:20]}: who chooses the seed chooses the luck"
        elif order is not None and order in others:
            sentence = f"the run was told seed {told} and read the data in the order of seed {others[order]}"
        else:
            return []
        return [self.found(Severity.NEVER, sentence, told=float(seen.run.seed))]
