"""How far each arm of a race has to run, and what its shards say so far: from the campaign's state to a judgement.

With `[judge] mode = "fixed"` every arm runs the lab's seeds, and a t interval decides once they are in. Else the trunk runs
its calibration seeds, an experiment one seed after the other, and `engine.judge.policy` says after each whether there is to be
another. Pure, like the planner that calls it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, islice
from types import MappingProxyType

from engine.halfway import Measures, half_gain, pairing_of
from engine.judge.bases import AT_EQUAL, BASES, COST, Basis, ratios, time_spread
from engine.judge.kinds import MARGIN, Kind, kappa, margin_left
from engine.judge.noise import LEAST_CALIBRATION, Pairing, Pool, noise, sigma_so_far
from engine.judge.pairs import Pair as PairOf
from engine.judge.pairs import ShardFact, failures, pair, voided
from engine.judge.policy import MOST_PAIRS, Action, Context, Decision, Mode, Pair, decide, weigh
from engine.judge.stopping import is_control
from engine.judge.verdict import Judgement, judge
from engine.judge.words import Words
from engine.lab import Lab
from engine.setups import setup_for
from engine.state import State
from engine.types import HALF, Claim, Compare, ExperimentRow, Outcome, ShardRow, ShardState, Verdict

VERDICTS: Mapping[Action, Verdict] = {
    "continue": Verdict.UNDECIDED,
    "solid": Verdict.SOLID,
    "not-solid": Verdict.NOT_SOLID,
    "harmful": Verdict.HARMFUL,
    "broken": Verdict.BROKEN,
}

HALF_SEEDS = 3
"""Seeds of the trunk's shorter runs, which say what a longer run is worth."""

RETRIES = {Outcome.LOST: 1, Outcome.KILLED: 2, Outcome.PREEMPTED: 20, Outcome.NODE_LOST: 4}
"""How often a seed is run again when its shard ended through no fault of its own. A person's stop is never undone."""


def latest(state: State, experiment: str, rung: str, setup: str, *, fresh: bool = False) -> dict[int, ShardRow]:
    """Seed to the last attempt at it, of one experiment, rung and setup, without what was set aside: those of the verdict, or
    of fresh pairs alone."""
    return {
        shard["seed"]: shard
        for shard in state.shards_of(experiment)
        if shard["rung"] == rung
        and state.setups[shard["id"]] == setup
        and bool(shard.get("fresh")) == fresh
        and shard["id"] not in state.set_aside
    }


def facts(state: State, experiment: str, rung: str, setup: str, *, fresh: bool = False) -> dict[int, ShardFact]:
    """Seed to how its last attempt ended, of those that have."""
    shards = latest(state, experiment, rung, setup, fresh=fresh)
    return {
        seed: ShardFact(Outcome(shard["outcome"]), shard["metric"])
        for seed, shard in shards.items()
        if shard["state"] == ShardState.ENDED and shard["outcome"] is not None
    }


def runs_again(state: State, shard: ShardRow, everyone: list[ShardRow], setup: str) -> bool:
    """Whether a seed whose last attempt is `shard` runs once more; `everyone` are the shards of its arm at its rung."""
    if shard["outcome"] is None or shard["id"] in state.stopped_by_person:
        return False
    outcome = Outcome(shard["outcome"])
    same = sum(
        each["seed"] == shard["seed"] and each["outcome"] == outcome and state.setups[each["id"]] == setup
        for each in everyone
        if each["id"] not in state.forgiven
    )
    return same <= RETRIES.get(outcome, 0)


def seconds(state: State, experiment: str) -> float:
    """How long the shards of an experiment ran so far, added up: what it cost. Those that still run are not counted, nor those
    at another learning rate."""
    spans = ((row["started"], row["ended"]) for row in state.shards_of(experiment) if "retune" not in row)
    return sum(max(0.0, ended - started) for started, ended in spans if started is not None and ended is not None)


# --- how far to run ----------------------------------------------------------------------------------------------------


def first_seeds(lab: Lab) -> tuple[int, ...]:
    """The seeds that the trunk runs whatever happens: all of the lab's, or those that its noise is measured on."""
    return lab.seeds if lab.judge.mode == "fixed" else _order(lab, lab.judge.calibration)


def seeds_wanted(state: State, lab: Lab, arm: str, rung: str, setup: str) -> tuple[int, ...]:
    """The seeds that this arm is to have run by now, in order; those on which the trunk fails are among the trunk's alone."""
    if lab.judge.mode == "fixed":
        return lab.seeds
    row = state.experiments[arm]
    if row["role"] == "experiment":
        return _seeds_of(state, lab, row, rung, setup)
    others = (
        each
        for each in (state.experiments[name] for name in state.race.racing())
        if each["baseline"] == arm and each["rung"] == rung
    )
    found = [*first_seeds(lab), *(seed for each in others for seed in _seeds_of(state, lab, each, rung, setup))]
    return tuple(dict.fromkeys(found))


def _seeds_of(state: State, lab: Lab, row: ExperimentRow, rung: str, setup: str) -> tuple[int, ...]:
    """One seed until the trunk's noise is known, then one more as long as the policy asks for one."""
    trunk = facts(state, str(row["baseline"]), rung, setup) if row["baseline"] else {}
    mine = facts(state, row["id"], rung, setup)
    void = set(voided(trunk))
    n = len(pair(trunk, mine, lab.metric.direction))
    order = [seed for seed in _order(lab, MOST_PAIRS + len(void)) if seed not in void]
    context = _context(state, lab, row, rung, setup, trunk, mine)
    if context is None:
        return tuple(order[:1])
    shift = basis(state, lab, row, rung, setup).shift
    if shift is None:
        return tuple(order[: max(1, n)])  # what costs are worth has to be measured before anything is asked for
    ahead = _ahead(state, row, rung, setup, context.sigma)
    speeds = _faster(state, row, rung, setup)
    action = weigh(_pairs(trunk, mine, lab, ahead, shift, speeds), context).action
    more = action == "continue"
    return tuple(order[: min(n + more, MOST_PAIRS)])


def _order(lab: Lab, length: int) -> tuple[int, ...]:
    """The fixed order of seeds: the lab's own, and then the smallest others."""
    others = (seed for seed in count() if seed not in lab.seeds)
    return (*lab.seeds, *islice(others, max(0, length - len(lab.seeds))))[:length]


# --- what it says ------------------------------------------------------------------------------------------------------


def judgement(
    state: State,
    lab: Lab,
    row: ExperimentRow,
    setup: str,
    trunk: Mapping[int, ShardFact],
    mine: Mapping[int, ShardFact],
) -> Judgement:
    """What the shards of an experiment (the `facts` of its baseline and of itself, at its rung) say so far."""
    pairs = pair(trunk, mine, lab.metric.direction)
    # a failure counts once the trunk has shown that it does not fail on that seed itself
    known = [failure for failure in failures(trunk, mine) if failure.seed in trunk]
    fixed = lab.judge.mode == "fixed"
    wanted = len(set(lab.seeds) - set(voided(trunk))) if fixed else len(pairs) + len(known)
    equal = basis(state, lab, row, row["rung"], setup)
    if equal.shift is None and not known:
        return _unweighed(equal, len(pairs), lab)
    if fixed or known:
        speeds = _faster(state, row, row["rung"], setup)
        saved = {seed: (equal.kappa or 0.0) * math.log(speed) for seed, speed in speeds.items()}
        shift = equal.shift or 0.0
        level = [replace(each, difference=each.difference - shift + saved.get(each.seed, 0.0)) for each in pairs]
        said = replace(judge(level, known, wanted, unit=lab.metric.unit), mode=lab.judge.mode)
        return _on_basis(said, equal, pairs, lab)
    context = _context(state, lab, row, row["rung"], setup, trunk, mine)
    if context is None:
        return _uncalibrated(trunk, lab, len(pairs))
    ahead = _ahead(state, row, row["rung"], setup, context.sigma)
    speeds = _faster(state, row, row["rung"], setup)
    decision = decide(_pairs(trunk, mine, lab, ahead, equal.shift or 0.0, speeds), context)
    if _premature(trunk, lab, decision.action):
        decision = replace(decision, action="continue", sentence=f"{_progress(trunk, lab)}; {decision.sentence}")
    return _on_basis(_told(decision, context), equal, pairs, lab)


def _premature(trunk: Mapping[int, ShardFact], lab: Lab, action: Action) -> bool:
    """Whether to wait with dropping: a sigma that is widened for want of calibration makes small gains look hopeless."""
    return action == "not-solid" and any(seed not in trunk for seed in first_seeds(lab))


def _progress(trunk: Mapping[int, ShardFact], lab: Lab) -> str:
    return f"{len(_calibration(trunk, lab))} of {len(first_seeds(lab))} runs of the trunk that its noise is measured on"


def _told(said: Decision, context: Context) -> Judgement:
    scale = noise(context.sigma, Pool(context.pooled_df, context.pooled_ss)).scale
    return Judgement(
        VERDICTS[said.action],
        said.effect,
        said.lo,
        said.hi,
        scale / math.sqrt(said.n) if said.n else None,
        said.n,
        said.sentence,
        evidence=said.evidence,
        bar=said.bar if math.isfinite(said.bar) else None,
        sigma=said.sigma,
        mode=said.mode,
        shrunk=said.shrunk if said.n else None,
        pairing=context.pairing,
    )


def _on_basis(said: Judgement, equal: Basis, pairs: Sequence[PairOf], lab: Lab) -> Judgement:
    """The same judgement, saying on which basis it is where the two sides do not cost the same."""
    measured = math.fsum(each.difference for each in pairs) / len(pairs) if pairs else None
    shown = equal.row(measured)
    if shown is None or said.effect is None:
        return replace(said, bases=shown)
    amount = Words(lab.metric.unit).amount(measured or 0.0)
    if equal.speed and "time" in equal.ratios:
        what = f"this counts that it took {equal.ratios['time']:.3g}x the time; as measured {amount}"
        said = replace(said, sentence=f"{said.sentence}; {what}")
    elif not equal.speed and not equal.even(equal.compare):
        ratio = equal.ratios[equal.compare]
        what = f"this is {AT_EQUAL[equal.compare]}, of which it took {ratio:.3g}x: as measured {amount}"
        said = replace(said, sentence=f"{said.sentence}; {what}")
    return replace(said, bases=shown)


def _unweighed(equal: Basis, n: int, lab: Lab) -> Judgement:
    """It costs other than its trunk, and what that is worth is not known yet."""
    basis = "time" if equal.speed else equal.compare
    sentence = (
        f"it takes {equal.ratios[basis]:.3g}x what the trunk does in {COST[basis]}: waiting for runs of the trunk at another "
        "length, which say what that is worth"
    )
    shown = equal.row(None)
    return Judgement(Verdict.UNDECIDED, None, None, None, None, n, sentence, mode=lab.judge.mode, bases=shown)


def _uncalibrated(trunk: Mapping[int, ShardFact], lab: Lab, n: int) -> Judgement:
    """Nothing can be said yet, or ever: why."""
    losses = _calibration(trunk, lab)
    if len(losses) >= LEAST_CALIBRATION:
        sentence = "the trunk's result is the same on every seed: nothing can be judged; is the seed wired?"
    else:
        sentence = _progress(trunk, lab)
    return Judgement(Verdict.UNDECIDED, None, None, None, None, n, sentence, mode=lab.judge.mode)


def _calibration(trunk: Mapping[int, ShardFact], lab: Lab) -> list[float]:
    """The trunk's results on its calibration seeds, as far as they are there."""
    return [
        fact.metric
        for seed in first_seeds(lab)
        if (fact := trunk.get(seed)) and fact.counts and fact.metric is not None
    ]


def basis(state: State, lab: Lab, row: ExperimentRow, rung: str, setup: str, *, fresh: bool = False) -> Basis:
    """How an experiment and its trunk compare in cost at a rung, and what that is worth as far as it is known."""
    arm = str(row["baseline"])
    trunk, mine = (_measures(state, each, rung, setup, fresh=fresh) for each in (arm, row["id"]))
    found = ratios(trunk, mine)
    least: dict[Compare, float] = {"time": time_spread(trunk.values())}
    equal = Basis(lab.compare, found, None, least, row.get("claims") == Claim.SPEED)
    if not equal.speed and all(equal.even(each) for each in BASES):
        return equal
    return replace(equal, kappa=kappa_of(state, lab, arm, rung, setup))


def half_seeds(lab: Lab) -> tuple[int, ...]:
    """The seeds that the trunk's shorter runs are on: three of those that it has anyway."""
    return first_seeds(lab)[:HALF_SEEDS]


def kappa_of(state: State, lab: Lab, arm: str, rung: str, setup: str) -> float | None:
    """What ln(cost) is worth at a rung, from the trunk there and at the rung below it; below the first lies half of that."""
    at = lab.climb.index(rung) if rung in lab.climb else -1
    if at < 0:
        return None
    below = lab.climb[at - 1] if at else HALF
    short = facts(state, arm, below, setup_for(setup, below, lab))
    long = facts(state, arm, rung, setup)
    seeds = [seed for seed in half_seeds(lab) if seed in short and seed in long]
    lengths = float(lab.rung(below).budget), float(lab.rung(rung).budget)
    both = [(short[seed], long[seed]) for seed in seeds if short[seed].counts and long[seed].counts]
    if len(both) < len(half_seeds(lab)) or lengths[0] >= lengths[1]:
        return None
    sign = 1 if lab.metric.direction == "min" else -1
    means = [sign * math.fsum(each.metric or 0.0 for each in side) / len(both) for side in zip(*both, strict=True)]
    return kappa((lengths[0], means[0]), (lengths[1], means[1]))


def _measures(state: State, arm: str, rung: str, setup: str, *, fresh: bool = False) -> dict[int, Measures]:
    """Seed to what was measured of its last attempt."""
    shards = latest(state, arm, rung, setup, fresh=fresh)
    return {seed: found for seed, shard in shards.items() if (found := state.measures.get(shard["id"])) is not None}


def _ahead(state: State, row: ExperimentRow, rung: str, setup: str, sigma: float) -> dict[int, float | None]:
    """Seeds of an experiment that are running, and how far each is ahead of the trunk half-way; None when not known."""
    trunk = _measures(state, str(row["baseline"]), rung, setup)
    return {
        seed: half_gain(trunk, state.measures.get(shard["id"]), seed, sigma)
        for seed, shard in latest(state, row["id"], rung, setup).items()
        if shard["state"] == ShardState.RUNNING
    }


def _pairs(
    trunk: Mapping[int, ShardFact],
    mine: Mapping[int, ShardFact],
    lab: Lab,
    ahead: Mapping[int, float | None] = MappingProxyType({}),
    shift: float = 0.0,
    speeds: Mapping[int, float] = MappingProxyType({}),
) -> list[Pair]:
    """The pairs as the policy takes them: losses, of which lower is better, the candidate's `shift` higher for what it cost;
    and those that are still running."""
    sign = 1 if lab.metric.direction == "min" else -1

    def loss(fact: ShardFact | None) -> float | None:
        return None if fact is None or not fact.counts or fact.metric is None else sign * fact.metric

    found = []
    for seed, fact in sorted(mine.items()):
        outcome = fact.fault or fact.outcome
        if outcome is Outcome.FINISHED and not fact.counts:
            outcome = Outcome.LOST  # finished and never scored: it says nothing, and runs again
        mine_there = loss(fact)
        shifted = None if mine_there is None else mine_there + shift
        found.append(Pair(seed, loss(trunk.get(seed)), shifted, outcome, speed=speeds.get(seed, 1.0)))
    return found + [Pair(seed, loss(trunk.get(seed)), None, None, gain) for seed, gain in ahead.items()]


def _faster(state: State, row: ExperimentRow, rung: str, setup: str) -> dict[int, float]:
    """Seed to the experiment's tokens/s over the trunk's, of a change that claims to be faster."""
    if row.get("claims") != Claim.SPEED:
        return {}
    trunk, mine = (_measures(state, arm, rung, setup) for arm in (str(row["baseline"]), row["id"]))
    both = {seed: (trunk[seed].speed, mine[seed].speed) for seed in trunk.keys() & mine.keys()}
    return {seed: b / a for seed, (a, b) in both.items() if a and b}


def _context(
    state: State,
    lab: Lab,
    row: ExperimentRow,
    rung: str,
    setup: str,
    trunk: Mapping[int, ShardFact],
    mine: Mapping[int, ShardFact],
) -> Context | None:
    """What of the campaign the verdict depends on; None while the trunk's noise is not known."""
    losses = _calibration(trunk, lab)
    mode = lab.judge.mode
    if mode == "fixed" or (len(losses) >= LEAST_CALIBRATION and max(losses) == min(losses)):
        return None
    sigma = sigma_so_far(losses)
    if sigma is None:
        return None
    alike = pairing_of(
        _measures(state, str(row["baseline"]), rung, setup),
        _measures(state, row["id"], rung, setup),
        [seed for seed, fact in mine.items() if fact.counts and seed in trunk],
    )
    index, keeps, pool = _past(state, row, rung, setup, sigma, alike)
    equal = basis(state, lab, row, rung, setup)
    claims: Kind = Claim(row.get("claims", Claim.GAIN)).value
    judged: Mode = mode
    return Context(
        index,
        keeps,
        alike,
        sigma,
        pool.df,
        pool.ss,
        mode=judged,
        category=row["category"],
        kind=claims,
        control=is_control(lab.name, row["id"]),
        margin=min(MARGIN, margin_left([MARGIN] * state.simplified)),
        kappa=equal.kappa or 0.0,
        speed_spread=equal.least.get("time", 0.0) / 3,
        unit=lab.metric.unit,
    )


def _past(
    state: State, row: ExperimentRow, rung: str, setup: str, sigma: float, alike: Pairing
) -> tuple[int, int, Pool]:
    """(place among the campaign's experiments, how many of those before it were solid, what all that ended showed of the
    spread within an experiment of this class at this rung and setup)."""
    index, keeps = state.race.before(row["id"])
    ran = partial(_ran, state, rung=rung, setup=setup)
    return index, keeps, state.race.pool(rung, setup, alike, sigma, ran, row["id"])


def _ran(state: State, experiment: str, rung: str, setup: str) -> bool:
    """Whether any of its shards was of that rung and setup."""
    shards = (state.shards[name] for name in state.of_experiment.get(experiment, ()))
    return any(shard["rung"] == rung and state.setups[shard["id"]] == setup for shard in shards)
