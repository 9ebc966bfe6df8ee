"""Asking for a retuning: what it would cost, when it may be, and what it holds up at sign-off. A person's act, written down."""

from __future__ import annotations

from typing import Any, TypedDict

from engine import events as e
from engine import faults
from engine.core import Core
from engine.decide import next_decision
from engine.judge.words import how_many, span
from engine.lab import Lab, Retuning
from engine.pricing import seconds_at
from engine.racing import facts
from engine.retuning import seeds_for
from engine.rpc import NOT_NOW, UNKNOWN_ID, RpcError
from engine.scales import PLACEHOLDER, scaled, shown
from engine.setups import setup_for
from engine.state import State
from engine.types import SMOKE, Category, Claim, ExperimentRow, ExperimentState, Retuned, Verdict, Who

TUNABLE = frozenset({Category.ARCHITECTURE, Category.OPTIMIZER, Category.SCHEDULE, Category.INITIALISATION})
"""Changes that move the best learning rate most easily: `before_sign` is about these."""

_WIRE = (
    f"cockpit.toml declares no [judge.retune]: hand {{{PLACEHOLDER}}} to the training code in lab.command, have it multiply "
    "its learning rate by that, and add [judge.retune] with factors = [0.5, 1.0, 2.0] (docs/statistics.md)"
)


class Cost(TypedDict):
    """What a retuning would run. `shards` are at most, `cached` those of them that have run already, as the trunk's bracket may
    have; `seconds` are of shards, None before any of that rung has finished."""

    factors: list[float]
    tuning: list[int]
    pairs: int
    shards: int
    cached: int
    seconds: float | None
    sentence: str


def cost(state: State, lab: Lab, row: ExperimentRow, setup: str) -> Cost:
    """What retuning an experiment would run, and for about how long. Raises RpcError when it cannot be retuned."""
    bracket, rung = _may_retune(state, lab, row)
    tuning, _ = seeds_for(state, lab, row, rung)
    bracketed = 2 * len(bracket.factors) * len(tuning)
    arms = (str(row["baseline"]), row["id"])
    rungs = [scaled(rung, factor) for factor in bracket.factors]
    known = [facts(state, arm, each, setup_for(setup, each, lab)) for arm in arms for each in rungs]
    cached = sum(seed in each and each[seed].counts for each in known for seed in tuning)
    shards, one = bracketed + 2 * bracket.pairs, seconds_at(state, rung)
    seconds = None if one is None else (shards - cached) * one
    took = "" if seconds is None else f", {span(seconds)} of shards"
    there = f", of which {cached} have run already" if cached else ""
    rates = " ".join(f"{shown(factor)}x" for factor in bracket.factors)
    sentence = (
        f"runs both sides at {rates} of their learning rate on {how_many(len(tuning), 'tuning seed')}, then "
        f"{how_many(bracket.pairs, 'pair')} on other seeds at each side's best: {shards} shards at most{there}{took}"
    )
    return Cost(
        factors=list(bracket.factors),
        tuning=tuning,
        pairs=bracket.pairs,
        shards=shards,
        cached=cached,
        seconds=seconds,
        sentence=sentence,
    )


def find(state: State, experiment: str) -> ExperimentRow:
    """The row of an experiment. Raises RpcError(UNKNOWN_ID)."""
    row = state.experiments.get(experiment)
    if row is None or row["role"] == "trunk":
        raise RpcError(UNKNOWN_ID, f"no experiment {experiment!r}; `cockpit ls` lists them")
    return row


def retune(core: Core, experiment: str, why: str, who: Who, request: str, setup: str) -> dict[str, Any]:
    """Write down that both sides are to be retuned; the shards follow. `setup` is how runs are measured now. Raises RpcError
    when there is nothing that can be retuned."""
    if request in core.state.requests:
        return core.state.requests[request]
    row = find(core.state, experiment)
    bracket, rung = _may_retune(core.state, core.lab, row)
    if not setup:
        raise RpcError(NOT_NOW, "the data are being prepared, and retuning needs them: try again when that is done")
    tuning, seeds = seeds_for(core.state, core.lab, row, rung)
    core.record(
        e.RetuneIntended(
            retune=f"t{len(core.state.retunes) + 1:04d}",
            experiment=experiment,
            decision=next_decision(core),
            baseline=str(row["baseline"]),
            rung=rung,
            setup=setup,
            factors=list(bracket.factors),
            tuning=tuning,
            seeds=seeds,
            wanted=bracket.pairs,
            who=who.to_json(),
            why=why.strip(),
            request=request,
        )
    )
    faults.point("retune.done")
    return core.state.requests[request]


def _may_retune(state: State, lab: Lab, row: ExperimentRow) -> tuple[Retuning, str]:
    """The bracket, and the rung that an experiment was judged at. Raises RpcError(NOT_NOW)."""
    name, verdict, bracket = row["id"], row["verdict"], lab.judge.retune
    if bracket is None:
        raise RpcError(NOT_NOW, _WIRE)
    if name in state.retuning:
        raise RpcError(NOT_NOW, f"{name} is being retuned already, as {state.retuning[name]}")
    if verdict is None or row["state"] != ExperimentState.JUDGED or verdict["verdict"] == Verdict.UNDECIDED:
        raise RpcError(NOT_NOW, f"{name} is {row['state']}: there is no verdict yet that a rate could explain")
    if verdict["rung"] == SMOKE:
        raise RpcError(NOT_NOW, f"{name} never had a full run: there is nothing to retune")
    if row.get("claims", Claim.GAIN) != Claim.GAIN:
        raise RpcError(NOT_NOW, f"{name} claims {row['claims']}, and no gain that a rate could explain")
    if row["baseline"] != state.trunk_arm:
        raise RpcError(NOT_NOW, f"{name} was measured against {row['baseline']}; the trunk has moved since")
    if state.signoffs:
        other = next(iter(state.signoffs))
        raise RpcError(NOT_NOW, f"{other} is signed, and its merge would move the trunk: wait for it")
    for each in state.retunes.values():
        same = (each["experiment"], each["state"], each["factors"]) == (name, "ended", list(bracket.factors))
        if same:
            raise RpcError(NOT_NOW, f"{name} was retuned in this bracket, as {each['id']}: {each['sentence']}")
    return bracket, verdict["rung"]


def refuse_unretuned(state: State, lab: Lab, row: ExperimentRow) -> None:
    """Raise RpcError(NOT_NOW) while an experiment is being retuned, and for one that the lab wants retuned before it is
    signed."""
    name, bracket = row["id"], lab.judge.retune
    if name in state.retuning:
        raise RpcError(NOT_NOW, f"{name} is being retuned: wait for what that says, or `cockpit stop {name}` ends it")
    asked = bracket is not None and bracket.before_sign and row["category"] in TUNABLE
    gain = row.get("claims", Claim.GAIN) == Claim.GAIN
    solid = row["verdict"] is not None and row["verdict"]["verdict"] == Verdict.SOLID
    if asked and gain and solid and row.get("retuned") in (None, Retuned.FAILED, Retuned.OPEN):
        again = ", with other factors than before" if row.get("retuned") else ""
        raise RpcError(
            NOT_NOW, f"{name} may have won by its learning rate alone: `cockpit retune {name}` comes first{again}"
        )
