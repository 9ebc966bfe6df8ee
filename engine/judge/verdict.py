"""The verdict on an experiment from its pairs: a mean difference, a t interval, and one sentence for the screen.

Notable choices:
- the interval is Student's t on the paired differences (W. S. Gosset, 1908, "The probable error of a mean"), which is
  what `scipy.stats.ttest_rel` reports;
- fewer than three pairs are always undecided: no experiment is kept on one lucky seed;
- a broken experiment has no effect at all, since the mean over the seeds that survived would flatter it;
- differences without any spread give an interval of no width, which the sentence calls suspicious.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from engine.judge.pairs import Failure, Pair
from engine.judge.student import quantile
from engine.judge.words import Words, how_many, which
from engine.types import BasesRow, Verdict, VerdictRow

LEAST_PAIRS = 3


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its evidence. `effect`, `lo`, `hi` and `se` are in the metric's unit; `effect` > 0 is better.

    `evidence` (E), its `bar`, `sigma` and the `shrunk` gain are of sequential judging (`engine.judge.policy`), and None when
    `mode` is "fixed".
    `n` counts pairs. `lo` and `hi` are None below three pairs, `se` below two; a broken experiment has none of them.
    """

    verdict: Verdict
    effect: float | None
    lo: float | None
    hi: float | None
    se: float | None
    n: int
    sentence: str
    evidence: float | None = None
    bar: float | None = None
    sigma: float | None = None
    mode: str = "fixed"
    shrunk: float | None = None
    pairing: str = ""
    bases: dict[str, Any] | None = None

    def row(self, rung: str) -> VerdictRow:
        """The verdict at `rung` as the read model shows it."""
        row: VerdictRow = {
            "verdict": str(self.verdict),
            "rung": rung,
            "effect": self.effect,
            "lo": self.lo,
            "hi": self.hi,
            "se": self.se,
            "n": self.n,
            "sentence": self.sentence,
        }
        if self.mode != "fixed":
            row |= {"evidence": self.evidence, "bar": self.bar, "sigma": self.sigma, "mode": self.mode}
            row["shrunk"] = self.shrunk
            row["pairing"] = self.pairing
        if self.bases:
            row["bases"] = cast(BasesRow, self.bases)
        return row


def judge(
    pairs: Sequence[Pair],
    failures: Sequence[Failure],
    wanted: int,
    level: float = 0.95,
    *,
    unit: str = "",
    digits: int = 4,
) -> Judgement:
    """Judge an experiment on the pairs it has so far.

    `wanted` is the number of pairs that will ever come (the lab's seeds without those on which the trunk fails): below
    it an experiment is undecided, since peeking at every seed would find more than there is. `level` is the interval's
    coverage. `unit` and `digits` (after the point) shape the sentence only. Raises ValueError when `level` is not between
    0 and 1 or a seed comes twice.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give the interval's coverage between 0 and 1, e.g. 0.95")
    if len({each.seed for each in pairs}) != len(pairs):
        raise ValueError("a seed comes twice among the pairs: give each seed's latest attempt only")
    wanted = max(wanted, len(pairs))
    if failures:
        return _broken(pairs, failures, wanted)
    if not pairs:
        return Judgement(Verdict.UNDECIDED, None, None, None, None, 0, f"no pair yet of {how_many(wanted)}")
    effect, se, rounding = _mean_and_error([each.difference for each in pairs], pairs)
    n, said = len(pairs), Words(unit, digits)
    if n < LEAST_PAIRS:
        need = "" if wanted < LEAST_PAIRS else f"; {LEAST_PAIRS - n} more before anything can be said"
        sentence = f"{said.amount(effect)} on {n} of {how_many(wanted)}, no interval below {LEAST_PAIRS} pairs{need}"
        return Judgement(Verdict.UNDECIDED, effect, None, None, se if n > 1 else None, n, sentence)
    if abs(effect) <= rounding and se == 0:
        sentence = f"identical to the trunk on {n} of {how_many(wanted)}"
        return Judgement(Verdict.NOT_SOLID, 0.0, 0.0, 0.0, 0.0, n, sentence)
    reach = quantile(0.5 + level / 2, n - 1) * se
    lo, hi = effect - reach, effect + reach
    if se == 0:
        # seeds that change nothing are one run, however often it is repeated
        sentence = (
            f"{said.amount(effect)}, the very same on each of {how_many(n)}: one run, not {n}; is the seed wired?"
        )
        return Judgement(Verdict.UNDECIDED, effect, None, None, None, n, sentence)
    sentence = (
        f"{said.amount(effect)} on {n} of {how_many(wanted)}, "
        f"{level * 100:.4g} % interval {said.signed(lo)} to {said.signed(hi)}"
    )
    return Judgement(_decide(lo, hi, n, wanted), effect, lo, hi, se, n, sentence)


def _decide(lo: float, hi: float, n: int, wanted: int) -> Verdict:
    if n < wanted:
        return Verdict.UNDECIDED  # the interval holds for a number of seeds that was fixed before, not for a first peek
    if lo > 0:
        return Verdict.SOLID
    return Verdict.HARMFUL if hi < 0 else Verdict.NOT_SOLID


def _broken(pairs: Sequence[Pair], failures: Sequence[Failure], wanted: int) -> Judgement:
    """Broken by its own fault: the seeds and their outcomes are named, the survivors' mean is not."""
    kinds: dict[str, list[int]] = {}
    for failure in sorted(failures, key=lambda each: each.seed):
        kinds.setdefault(str(failure.outcome), []).append(failure.seed)
    what = ", ".join(f"{outcome} on {which(seeds)}" for outcome, seeds in kinds.items())
    finished = f"{len(pairs)} of {how_many(max(wanted, len(pairs) + len(failures)))} finished"
    return Judgement(Verdict.BROKEN, None, None, None, None, len(pairs), f"{what}; {finished}")


def _mean_and_error(differences: Sequence[float], pairs: Sequence[Pair]) -> tuple[float, float, float]:
    """Mean, standard error of the mean, and the size of rounding errors in the differences.

    Differences that are equal up to rounding have a standard error of exactly 0, so that no interval is made of the
    last bits of the metric.
    """
    n = len(differences)
    scale = max(abs(value) for value in differences)
    rounding = 4 * sys.float_info.epsilon * max(max(abs(each.trunk), abs(each.candidate)) for each in pairs)
    if scale == 0:
        return 0.0, 0.0, rounding
    parts = [value / scale for value in differences]  # so that squares neither overflow nor vanish
    mean = math.fsum(parts) / n
    if max(differences) - min(differences) <= rounding:
        return mean * scale, 0.0, rounding
    square = math.fsum((value - mean) ** 2 for value in parts)
    se = math.sqrt(square / (n - 1) / n) * scale if n > 1 else 0.0
    return mean * scale, se, rounding
