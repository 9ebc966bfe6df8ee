"""The field of a race: which experiments are still open, and of those that have ended what later verdicts depend on.

Kept by the fold, row by row, so that a plan looks at what is open and not at everything that was ever tried.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.judge.noise import Pairing, Pool, pooled
from engine.types import ExperimentRow, ExperimentState, Verdict

OPEN = (ExperimentState.QUEUED, ExperimentState.RUNNING)


def is_open(row: ExperimentRow) -> bool:
    """Whether more evidence may still change something: also when all that could be had left it undecided."""
    verdict = row["verdict"]
    undecided = verdict is not None and verdict["verdict"] == Verdict.UNDECIDED
    return row["state"] in OPEN or (row["state"] == ExperimentState.JUDGED and undecided)


@dataclass
class Field:
    """`places` is where each experiment stands in the campaign, from one on; `open` those that race, by place; `solid` the
    places of those that ended solid, and `moved` of those that go on as another arm since the trunk moved, both ascending;
    `spreads` the differences of those that ended with two pairs or more; `against` counts the experiments by the trunk's arm
    that they were begun against."""

    places: dict[str, int] = field(default_factory=dict)
    open: dict[int, str] = field(default_factory=dict)
    solid: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    against: dict[str, int] = field(default_factory=dict)
    spreads: dict[tuple[str, str], dict[int, tuple[str, tuple[float, ...]]]] = field(default_factory=dict)
    _pools: dict[tuple[str, str, str, float], Pool] = field(default_factory=dict, compare=False, repr=False)

    def take(self, row: ExperimentRow) -> None:
        """An experiment's row has changed."""
        if row["role"] != "experiment" or "bundle" in row:  # a bundle is no idea of its own, and is not raced
            return
        if row["id"] not in self.places and row["baseline"]:
            self.against[row["baseline"]] = self.against.get(row["baseline"], 0) + 1
        place = self.places.setdefault(row["id"], len(self.places) + 1)
        self._forget(place)
        if row["state"] == ExperimentState.MOVED:
            insort(self.moved, place)
        if is_open(row):
            self.open[place] = row["id"]
            return
        verdict = row["verdict"]
        if verdict is None:
            return
        if verdict["verdict"] == Verdict.SOLID:
            insort(self.solid, place)
        if verdict["n"] >= 2:
            key = (verdict["rung"], verdict.get("pairing") or "loose")
            found = tuple(pair["difference"] for pair in row["pairs"] if pair["difference"] is not None)
            self.spreads.setdefault(key, {})[place] = (row["id"], found)
            self._pools.clear()

    def _forget(self, place: int) -> None:
        """Nothing is known of the experiment at that place."""
        self.open.pop(place, None)
        for places in (self.solid, self.moved):
            at = bisect_left(places, place)
            if at < len(places) and places[at] == place:
                del places[at]
        for spread in self.spreads.values():
            if spread.pop(place, None) is not None:
                self._pools.clear()

    def racing(self) -> list[str]:
        """The open experiments, oldest first."""
        return [self.open[place] for place in sorted(self.open)]

    def before(self, experiment: str) -> tuple[int, int]:
        """(place of an experiment, which one that moved before it does not take; how many before it ended solid)."""
        place = self.places[experiment]
        return place - bisect_left(self.moved, place), bisect_left(self.solid, place)

    def pool(
        self, rung: str, setup: str, alike: Pairing, sigma: float, ran: Callable[[str], bool], but: str = ""
    ) -> Pool:
        """What experiments of this class that ended at this rung showed of the spread within one, without experiment `but`;
        `ran` says of one whether it ran under this setup, which is asked once as long as none ends."""
        found = self.spreads.get((rung, alike), {})
        alone = self.places.get(but) in found
        key = (rung, setup, alike, sigma)
        if not alone and key in self._pools:
            return self._pools[key]
        pool = Pool()
        for place in sorted(found):
            experiment, differences = found[place]
            if experiment != but and ran(experiment):
                pool = pooled(pool, differences, sigma)
        if not alone:
            self._pools[key] = pool
        return pool
