"""What a signature would run, cost and start again, said before it is given. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypedDict

from engine import confirming
from engine.field import OPEN
from engine.full_run import FullPrice, full_price
from engine.judge.fresh import FEWEST, MOST
from engine.judge.words import span
from engine.lab import Lab
from engine.state import State
from engine.types import ExperimentRow, ExperimentState, Outcome, Verdict


class Price(TypedDict):
    """What a signature would do. `seconds` are of shards, at least; None before any shard of that rung has finished."""

    pairs: list[int]  # at least, at most; empty where it is merged at once
    shards: int  # at least
    seconds: float | None
    restarts: list[str]
    sentence: str
    full: FullPrice | None  # what a full-scale run of the new trunk would cost, where the lab has a rung for it


def price(state: State, lab: Lab, row: ExperimentRow) -> Price:
    """What signing an experiment would run, for about how long, and under which experiments its merge moves the trunk."""
    rung = row["verdict"]["rung"] if row["verdict"] else row["rung"]
    return price_of(state, lab, rung, but=[row["id"]], fresh=confirming.wanted_for(lab, row))


def price_of(state: State, lab: Lab, rung: str, *, but: Collection[str], fresh: bool = True) -> Price:
    """The same of whatever is signed at a rung; `but` are the experiments that go into the trunk with it."""
    shards = 2 * FEWEST if fresh else 0
    one = seconds_at(state, rung)
    seconds = None if one is None else shards * one
    pairs = [FEWEST, MOST] if fresh else []
    restarts = [
        each["id"]
        for each in state.experiments.values()
        if each["baseline"] == state.trunk_arm and each["id"] not in but and _in_flight(each)
    ]
    return Price(
        pairs=pairs,
        shards=shards,
        seconds=seconds,
        restarts=restarts,
        sentence=_say(pairs, seconds, restarts),
        full=full_price(state, lab, rung),
    )


def seconds_at(state: State, rung: str) -> float | None:
    """Mean seconds of the shards that finished at a rung."""
    spans = [
        row["ended"] - row["started"]
        for row in state.shards.values()
        if row["rung"] == rung and row["outcome"] == Outcome.FINISHED and row["started"] and row["ended"]
    ]
    return sum(spans) / len(spans) if spans else None


def _in_flight(row: ExperimentRow) -> bool:
    """Whether a moved trunk takes evidence from it that is still wanted: it is open, or solid and not signed."""
    solid = row["verdict"] is not None and row["verdict"]["verdict"] == Verdict.SOLID
    return row["state"] in OPEN or (solid and row["state"] == ExperimentState.JUDGED)


def _say(pairs: list[int], seconds: float | None, restarts: list[str]) -> str:
    if pairs:
        took = "" if seconds is None else f", {span(seconds)} of shards at the least"
        first = f"runs {pairs[0]} to {pairs[1]} pairs on fresh seeds{took}; merged by itself if they bear it out"
    else:
        first = "is merged into the trunk at once"
    if not restarts:
        return first
    many = ", ".join(restarts[:4]) + (f" and {len(restarts) - 4} more" if len(restarts) > 4 else "")
    return f"{first}; the trunk then moves under {many}"
