"""When an experiment is solid, when it is dropped, and when it needs one more pair: the policy of sequential judging.

    solid       three pairs at the least, and E at the bar
    not solid   E and its modest part at or below 1 (careful: .5), or ten pairs, or far behind half-way
    harmful     the same, and the interval lies below zero
    broken      its own fault on any seed on which the trunk does not fail
    continue    else: one more pair, seeds in a fixed order

The bar is 20, and rises while nothing is kept: twenty to one is little when three hundred ideas are tried. Pure, and quick to
import: no more than `math` below it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.judge.evidence import Evidence, Sample, evidence, sample
from engine.judge.intervals import below_zero, interval
from engine.judge.kinds import MARGIN, Kind, same_loss_speed, sigma_of_kind, worth
from engine.judge.noise import Noise, Pairing, Pool, noise
from engine.judge.shrinking import shrunk
from engine.judge.stopping import abort_at_half
from engine.judge.words import Words, how_many, ratio, which
from engine.types import UNLUCKY, Outcome

Mode = Literal["fast", "careful", "strict"]
Action = Literal["continue", "solid", "not-solid", "harmful", "broken"]

LEAST_PAIRS, MOST_PAIRS = 3, 10
BAR = 20.0
FUTILE = {"fast": 1.0, "careful": 0.5, "strict": 0.5}
"""E and its modest part at or below this: nothing points to a gain."""

FDR = 0.10
"""False discovery rate that strict mode is proven for."""

HORIZON = 1035
"""Proposals that strict mode's guarantee is spread over: the sum of 1 / (4.7 (t + 9)) up to it is just below one."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Both sides of one seed: final losses in the metric's unit, lower is better (negate a metric of which more is better).

    `trunk` is None where the trunk failed or has not finished on this seed: the pair is then void. `outcome` is the
    candidate's, None while it runs. `half_gain` is trunk less candidate at half the budget. `speed` is the candidate's
    tokens/s over the trunk's.
    """

    seed: int
    trunk: float | None
    candidate: float | None
    outcome: Outcome | None = Outcome.FINISHED
    half_gain: float | None = None
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Context:
    """What of the campaign a verdict depends on. All of it is of one trunk, one rung and one start, and is never mixed.

    `proposal_index` (t) counts the campaign's proposals, this one included; `keeps` those kept so far. `sigma` is the
    trunk's seed-to-seed standard deviation, `pooled_df` and `pooled_ss` the pool of this `pairing` (`engine.judge.noise`).
    `kappa` is in the metric's unit, `speed_spread` the standard deviation of ln(tokens/s) between trunk runs, `margin` in
    sigma. `control`: run on where it would be dropped. `unit` and `digits` shape the sentence only.
    """

    proposal_index: int
    keeps: int
    pairing: Pairing
    sigma: float
    pooled_df: int = 0
    pooled_ss: float = 0.0
    mode: Mode = "fast"
    category: str = ""
    kind: Kind = "gain"
    control: bool = False
    kappa: float = 0.0
    speed_spread: float = 0.0
    margin: float = MARGIN
    unit: str = ""
    digits: int = 4


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and what the screen says. `effect`, `lo`, `hi` and `shrunk` are in the metric's unit, above zero is better.

    `effect` is the mean of what is tested (`engine.judge.kinds.worth`), for a simplification without its margin. `lo` and
    `hi` hold with 95 % each, whenever looked at. A broken experiment has none of them, since the mean over the seeds that
    survived would flatter it. `void` are seeds on which the trunk has nothing to compare with, `again` those that have to
    run again.
    """

    action: Action
    evidence: float
    bar: float
    effect: float | None
    lo: float | None
    hi: float | None
    n: int
    shrunk: float
    sigma: float
    mode: Mode
    sentence: str
    void: tuple[int, ...] = ()
    again: tuple[int, ...] = ()


def decide(pairs: Sequence[Pair], context: Context) -> Decision:
    """The decision on the pairs of one experiment, whatever their order.

        solid  if  n >= 3  and  E >= bar(t, keeps, mode)

    with E from `engine.judge.evidence`, against the noise of `engine.judge.noise`. Given the variance prior
    P(solid | no gain) <= 1/bar, however many pairs are added after looking. Units as in `Pair` and `Context`. Source:
    docs/statistics.md. Raises ValueError when a seed comes twice, a finished candidate has no loss, or the context makes no
    sense.
    """
    found = weigh(pairs, context)
    some = found.sample.n > 0 and not found.lost
    bounds = interval(found.sample, found.noise) if some else None
    shift = _granted(context)
    return Decision(
        action=found.action,
        evidence=found.evidence.total,
        bar=found.bar,
        effect=found.sample.mean - shift if some else None,
        lo=bounds[0] - shift if bounds else None,
        hi=bounds[1] - shift if bounds else None,
        n=found.sample.n,
        shrunk=shrunk(found.sample, found.noise) if some else 0.0,
        sigma=context.sigma,
        mode=context.mode,
        sentence=_sentence(found, context, bounds[1] - shift if bounds else None),
        void=found.void,
        again=found.again,
    )


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a decision rests on: the action, why (`reason`, one word for the sentence), and the numbers behind it."""

    action: Action
    reason: str
    sample: Sample
    noise: Noise
    evidence: Evidence
    bar: float
    lost: tuple[tuple[int, str], ...]
    void: tuple[int, ...]
    again: tuple[int, ...]


def weigh(pairs: Sequence[Pair], context: Context) -> Weighed:
    """`decide` without its interval, its ranking and its words. Formula, units, source and errors are those of `decide`."""
    _check(pairs, context)
    pairs = sorted(pairs, key=lambda pair: pair.seed)
    void = tuple(pair.seed for pair in pairs if not _sound(pair.trunk))
    usable = [pair for pair in pairs if _sound(pair.trunk)]
    lost = tuple((pair.seed, fault) for pair in usable if (fault := _fault(pair)) is not None)
    again = tuple(pair.seed for pair in usable if pair.outcome in UNLUCKY)
    counted = [pair for pair in usable if pair.outcome is Outcome.FINISHED and _sound(pair.candidate)]
    found = sample([_worth(pair, context) for pair in counted])
    against = _noise(context)
    seen, needed = evidence(found, against), bar(context.proposal_index, context.keeps, context.mode)
    running = [pair for pair in usable if pair.outcome is None]
    action: Action = "broken"
    reason = "fault"
    if not lost:
        action, reason = _action(counted, running, context, found, against, seen, needed)
    return Weighed(action, reason, found, against, seen, needed, lost, void, again)


def bar(proposal_index: int, keeps: int, mode: Mode = "fast") -> float:
    """What E has to reach, a ratio, for proposal number t of the campaign after so many keeps:

        max(20, 2 (t + 9) / (keeps + 1))        fast, careful: campaign-wide FDR <= 5 % is simulated (benchmarks/policy.py)
        4.7 (t + 9) / (0.10 (keeps + 1))        strict: FDR <= 10 % is proven under any dependence, up to t = 1035

    Strict is e-LOND (Xu and Ramdas, 2024, "Online multiple testing with e-values") with weights 1 / (4.7 (t + 9)), which add
    up to one at t = 1035; after that nothing can be kept, and the bar is infinite. Source: docs/statistics.md. Raises
    ValueError when t is below 1 or keeps is not below t.
    """
    if proposal_index < 1 or not 0 <= keeps < proposal_index:
        raise ValueError(f"proposal {proposal_index} after {keeps} keeps: count from 1, and fewer keeps than proposals")
    if mode == "strict":
        if proposal_index > HORIZON:
            return math.inf
        return 4.7 * (proposal_index + 9) / (FDR * (keeps + 1))
    return max(BAR, 2 * (proposal_index + 9) / (keeps + 1))


def differences(pairs: Sequence[Pair], context: Context) -> tuple[float, ...]:
    """What every finished pair counts as, by seed, in the metric's unit: for the pool of its class (`noise.pooled`).

    Formula and errors as for `engine.judge.kinds.worth`; void and unfinished pairs have none.
    """
    counted = [pair for pair in pairs if pair.outcome is Outcome.FINISHED]
    return tuple(
        _worth(pair, context)
        for pair in sorted(counted, key=lambda pair: pair.seed)
        if _sound(pair.trunk) and _sound(pair.candidate)
    )


def _action(
    counted: Sequence[Pair],
    running: Sequence[Pair],
    context: Context,
    found: Sample,
    against: Noise,
    seen: Evidence,
    needed: float,
) -> tuple[Action, str]:
    """The action and its reason, nothing being broken."""
    if _one_run(counted):
        return "not-solid", "unwired"
    if found.n >= LEAST_PAIRS and seen.total >= needed:
        return "solid", "evidence"
    faster = _faster(counted, context)
    if found.n >= LEAST_PAIRS and faster >= needed:
        return "solid", "faster"
    least = FUTILE[context.mode]
    if found.n >= MOST_PAIRS:
        reason = "exhausted"
    elif found.n and seen.total <= least and seen.modest <= least and faster <= least:
        reason = "futile"
    elif context.kind == "gain" and any(_behind(pair, context) for pair in running):
        reason = "behind"
    else:
        return "continue", "open"
    if below_zero(found, against):
        return "harmful", reason
    return ("continue", "control") if context.control and found.n < MOST_PAIRS else ("not-solid", reason)


def _check(pairs: Sequence[Pair], context: Context) -> None:
    if len({pair.seed for pair in pairs}) != len(pairs):
        raise ValueError("a seed comes twice among the pairs: give each seed's latest attempt only")
    for pair in pairs:
        if pair.outcome is Outcome.FINISHED and pair.candidate is None:
            raise ValueError(f"seed {pair.seed} finished without a loss: score it before it is judged")
    if context.mode not in FUTILE:
        raise ValueError(f"mode is {context.mode!r}: fast, careful or strict")


def _sound(loss: float | None) -> bool:
    return loss is not None and math.isfinite(loss)


def _fault(pair: Pair) -> str | None:
    """What the candidate is to blame for on a seed on which the trunk is sound, or None."""
    if pair.outcome is None:
        return None
    if pair.outcome.own_fault:
        return str(pair.outcome)
    return str(Outcome.NONFINITE) if pair.outcome is Outcome.FINISHED and not _sound(pair.candidate) else None


def _worth(pair: Pair, context: Context) -> float:
    assert pair.trunk is not None
    assert pair.candidate is not None
    return worth(
        pair.trunk - pair.candidate,
        context.kind,
        context.sigma,
        speed=pair.speed,
        kappa=context.kappa,
        margin=context.margin,
    )


def _granted(context: Context) -> float:
    """The margin in the metric's unit, which is part of what is tested but not of the effect."""
    return min(MARGIN, max(0.0, context.margin)) * context.sigma if context.kind == "simplification" else 0.0


def _noise(context: Context) -> Noise:
    sigma = sigma_of_kind(context.sigma, context.kind, kappa=context.kappa, spread=context.speed_spread)
    return noise(sigma, Pool(context.pooled_df, context.pooled_ss))


def _one_run(counted: Sequence[Pair]) -> bool:
    """True when a change made every seed give the same loss: one lucky run then counts as one pair, however often it is run."""
    ours, theirs = {pair.trunk for pair in counted}, {pair.candidate for pair in counted}
    return len(counted) > 1 and len(theirs) == 1 and len(ours) > 1


def _faster(counted: Sequence[Pair], context: Context) -> float:
    """E for a higher throughput where a speed diff leaves every loss as it was, else 0."""
    if context.kind != "speed":
        return 0.0
    losses = [float(pair.trunk or 0) - float(pair.candidate or 0) for pair in counted]
    found = same_loss_speed(losses, [pair.speed for pair in counted], context.speed_spread)
    return evidence(*found).total if found else 0.0


def _behind(pair: Pair, context: Context) -> bool:
    return abort_at_half(pair.half_gain, context.sigma, context.category)


def _sentence(found: Weighed, context: Context, hi: float | None) -> str:
    """One line that can be read aloud."""
    words, n = Words(context.unit, context.digits), found.sample.n
    if found.lost:
        kinds = {kind: [seed for seed, each in found.lost if each == kind] for _, kind in found.lost}
        what = ", ".join(f"{kind} on {which(seeds)}" for kind, seeds in kinds.items())
        return f"{what}; {how_many(n)} finished"
    weight = f"E {ratio(found.evidence.total)} of {ratio(found.bar)} needed"
    if math.isinf(found.bar):
        weight = f"E {ratio(found.evidence.total)}, but strict mode's guarantee is spent after {HORIZON} proposals"
    effect = f"{words.amount(found.sample.mean - _granted(context))} on {how_many(n)}" if n else "no pair yet"
    if found.action == "solid":
        if found.reason == "faster":
            return f"the same loss, bit by bit, and faster on {how_many(n)}"
        return f"{ratio(found.bar)}:1 evidence on the same seeds; {weight}; {effect}"
    if found.action == "harmful":
        return f"worse: {effect}, at best {words.signed(hi or 0.0)}; {weight}"
    if found.reason == "behind":
        return f"more than one sigma behind half-way; {effect}"
    if found.reason == "unwired":
        return f"the change gives the same loss on {how_many(n)}: one run, not {n}; is the seed wired?"
    if found.reason == "exhausted":
        return f"not enough after {how_many(n)}: {weight}; {effect}"
    if found.reason == "futile":
        same = n and found.sample.mean == found.sample.square == 0 and context.kind == "gain"
        return f"identical to the trunk on {how_many(n)}" if same else f"nothing points to a gain: {weight}; {effect}"
    more = "runs on as a control" if found.reason == "control" else "one more pair"
    return f"{more}: {weight}; {effect}"
