"""Pair the trunk's shards with an experiment's, seed by seed, so that the seed's own luck cancels in the difference.

Failed shards are not missing at random, so a seed is never quietly dropped:

    candidate failed by its own fault     it loses that seed, and the experiment is broken (`failures`)
    either was killed or lost             not counted; the same seed has to run again (`rerun`)
    trunk failed by its own fault         the pair is void, and the trunk is to be flagged (`voided`)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from engine.types import Direction, Outcome, PairRow


@dataclass(frozen=True, slots=True)
class ShardFact:
    """How one shard ended, and its scored metric in the lab's unit; None unless it finished and was scored."""

    outcome: Outcome
    metric: float | None

    @property
    def counts(self) -> bool:
        """True when the shard finished with a finite metric, so that it can stand in a pair."""
        return self.outcome is Outcome.FINISHED and self.metric is not None and math.isfinite(self.metric)

    @property
    def fault(self) -> Outcome | None:
        """The outcome that the code under test is to blame for, or None. A non-finite score is `nonfinite`."""
        if self.outcome.own_fault:
            return self.outcome
        if self.outcome is Outcome.FINISHED and self.metric is not None and not math.isfinite(self.metric):
            return Outcome.NONFINITE
        return None


@dataclass(frozen=True, slots=True)
class Pair:
    """Both sides of one seed; `difference` > 0 means that the candidate is better, whatever the metric's direction."""

    seed: int
    trunk: float
    candidate: float
    difference: float

    def row(self) -> PairRow:
        """The pair as the read model shows it."""
        return {"seed": self.seed, "trunk": self.trunk, "candidate": self.candidate, "difference": self.difference}


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that the experiment lost by its own fault."""

    seed: int
    outcome: Outcome


def pair(trunk: Mapping[int, ShardFact], candidate: Mapping[int, ShardFact], direction: Direction) -> tuple[Pair, ...]:
    """The seeds on which both sides finished with a finite metric, in the order of the seeds.

    Both sides must come from the same rung and the same budget; each seed is given by its latest attempt.
    """
    pairs = []
    for seed in sorted(trunk.keys() & candidate.keys()):
        ours, theirs = trunk[seed], candidate[seed]
        if not (ours.counts and theirs.counts):
            continue
        assert ours.metric is not None
        assert theirs.metric is not None
        gain = ours.metric - theirs.metric if direction == "min" else theirs.metric - ours.metric
        pairs.append(Pair(seed, ours.metric, theirs.metric, gain))
    return tuple(pairs)


def failures(trunk: Mapping[int, ShardFact], candidate: Mapping[int, ShardFact]) -> tuple[Failure, ...]:
    """The candidate's own-fault failures by seed, but for the seeds on which the trunk itself fails."""
    void = set(voided(trunk))
    return tuple(
        Failure(seed, fault)
        for seed, fact in sorted(candidate.items())
        if seed not in void and (fault := fact.fault) is not None
    )


def voided(trunk: Mapping[int, ShardFact]) -> tuple[int, ...]:
    """The seeds on which the trunk failed by its own fault: no pair can be had there, and the trunk needs a look."""
    return tuple(seed for seed, fact in sorted(trunk.items()) if fact.fault is not None)


def rerun(facts: Mapping[int, ShardFact]) -> tuple[int, ...]:
    """The seeds of one arm that say nothing about its code (killed, lost, never scored) and have to run again."""
    return tuple(seed for seed, fact in sorted(facts.items()) if not fact.counts and fact.fault is None)
