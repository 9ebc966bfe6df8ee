"""Whether a gain is one of the idea or of the learning rate: both sides at their own best of the same rates. Pure.

The trunk's rate suits the trunk as it is, if anything. A change that only moves the best rate wins or loses by that alone. So
both sides run the same bracket of factors on tuning seeds, each side's best is fixed, and pairs on seeds that took no part in
the choice say what is left between the two. The noise at rates that nobody calibrated is not known, so the interval is
Student's, of those pairs alone, and their number is fixed before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.judge.evidence import sample
from engine.judge.pairs import ShardFact
from engine.judge.student import quantile
from engine.judge.words import Words, how_many
from engine.scales import shown
from engine.types import Direction, Retuned

FEWEST = 3
"""Pairs without which there is no interval."""


@dataclass(frozen=True, slots=True)
class Side:
    """How one side did over the bracket: the mean metric of its tuning seeds by factor, None where it failed on one of them;
    `best` is None when it failed at every factor."""

    means: Mapping[float, float | None]
    best: float | None

    @property
    def at_edge(self) -> bool:
        """Whether the best factor is the smallest or the largest: it may lie beyond."""
        return self.best is not None and self.best in (min(self.means), max(self.means))

    @property
    def flat(self) -> bool:
        """Whether every factor gives the very same: then the scale does not reach this side's code."""
        return None not in self.means.values() and len(set(self.means.values())) == 1


def side(runs: Mapping[float, Mapping[int, ShardFact]], seeds: Sequence[int], direction: Direction) -> Side:
    """The best factor of one side: the best mean over `seeds`. A factor that fails on any seed by its own fault loses, since
    no seed is dropped; of equals the one closest to 1 is best, then the smaller. `runs` are by factor and seed.

    Raises ValueError without a factor or a seed, and when a factor neither failed nor has a result on every seed.
    """
    if not runs or not seeds:
        raise ValueError("nothing to choose from: give factors above zero and at least one tuning seed")
    means = {factor: _mean(factor, facts, seeds) for factor, facts in runs.items()}
    sign = 1 if direction == "min" else -1
    ranked = sorted((sign * mean, abs(math.log(factor)), factor) for factor, mean in means.items() if mean is not None)
    return Side(means, ranked[0][2] if ranked else None)


def _mean(factor: float, facts: Mapping[int, ShardFact], seeds: Sequence[int]) -> float | None:
    if any(fact.fault is not None for fact in facts.values()):
        return None
    found = [fact.metric for seed in seeds if (fact := facts.get(seed)) and fact.counts and fact.metric is not None]
    if len(found) < len(seeds):
        raise ValueError(f"{len(found)} of {len(seeds)} tuning seeds at {shown(factor)}x: wait for the others")
    return math.fsum(found) / len(found)


@dataclass(frozen=True, slots=True)
class Left:
    """What is left between both sides at their best rates, in the metric's unit; above zero the experiment is better."""

    label: Retuned
    mean: float
    lo: float
    hi: float
    n: int


def left(differences: Sequence[float], solid: bool, at_edge: bool = False, level: float = 0.95) -> Left:
    """Label an experiment by pairs at each side's best rate, on seeds that took no part in the choice:

        mean -+ t(n - 1) sqrt(sum (d - mean)^2 / (n - 1) / n)

    A solid one whose interval reaches zero or lies below it is explained by the rate; one that was not solid, and whose
    interval lies above zero, was held back by it. What is better than a trunk whose best is `at_edge`, where a wider bracket
    may find it better, is open. `differences` as for `engine.judge.fresh`, `solid` is what the verdict said. Source: W. S.
    Gosset (1908). Raises ValueError below three pairs, when one is not finite, or for a level that is no probability.
    """
    if len(differences) < FEWEST:
        raise ValueError(f"{how_many(len(differences), 'pair')}: {FEWEST} at the least")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give the interval's coverage between 0 and 1, e.g. 0.95")
    found = sample(differences)
    error = math.sqrt(found.square / (found.n - 1) / found.n)
    reach = quantile(0.5 + level / 2, found.n - 1) * error
    lo, hi = found.mean - reach, found.mean + reach
    better, not_better = (Retuned.HOLDS, Retuned.EXPLAINED) if solid else (Retuned.HELD_BACK, Retuned.NO_BETTER)
    label = not_better if lo <= 0 else Retuned.OPEN if at_edge else better
    return Left(label, found.mean, lo, hi, found.n)


# --- in words ----------------------------------------------------------------------------------------------------------


def tuned_words(trunk: Side, mine: Side) -> str:
    """Which rate is best for each side, and what stands against believing it."""
    words = []
    for who, found in (("the trunk", trunk), ("the experiment", mine)):
        if found.best is None:
            words.append(f"{who} fails at every rate of the bracket")
        elif found.flat:
            words.append(f"the scale changes nothing in {who}: does its code multiply its rate by it?")
        else:
            edge = ", at the edge of the bracket: widen it" if found.at_edge else ""
            words.append(f"{who} is best at {shown(found.best)}x{edge}")
    return "; ".join(words)


def left_words(found: Left, tuned: str, before: float | None, unit: str) -> str:
    """The sentence of a label: what is left, what there was before, and how each side was tuned."""
    words = Words(unit)
    between = f"[{words.signed(found.lo)}, {words.signed(found.hi)}]"
    was = "" if before is None else f", where the verdict had {words.signed(before)}"
    open_ = found.label is Retuned.EXPLAINED and before is not None and found.lo <= 0 < before <= found.hi
    wide = "; the interval holds that as well as nothing: too few pairs to tell the two apart" if open_ else ""
    same = found.lo == found.hi == 0.0
    what = "the very same" if same else f"{words.amount(found.mean)} {between}"
    return f"{found.label}: {what} on {how_many(found.n, 'pair')}{was}{wide} ({tuned})"
