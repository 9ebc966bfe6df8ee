"""Which solid experiments to sign first: those whose gain, once luck is allowed for, cost least to have. Pure.

A list by measured gains is headed by whatever was measured with luck, so gains are shrunk (`engine.judge.shrinking`). Where
fresh pairs have measured a headline, that stands beside it; and so does everything that was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from engine import confirming
from engine.judge.evidence import sample
from engine.judge.fresh import FEWEST, MOST
from engine.judge.shrinking import shrunk
from engine.lab import Lab
from engine.state import State
from engine.types import ExperimentRow, ExperimentState, FindingRow, Verdict

LISTED = (ExperimentState.JUDGED, ExperimentState.SIGNED, ExperimentState.VETOED)


class Listed(TypedDict):
    """One line of the shortlist; gains in the metric's unit, > 0 is better than the trunk."""

    place: int
    experiment: str
    hypothesis: str
    state: str
    effect: float | None
    shrunk: float | None
    seconds: float  # of its shards, which is what it cost
    per_hour: float | None  # shrunk gain an hour of shards
    headline: float | None
    interval: list[float] | None  # of the headline
    signoff: str | None
    sentence: str
    findings: list[str]
    diff_hash: str | None


def shrunk_gain(row: Mapping[str, Any]) -> float | None:
    """The posterior mean of an experiment's gain, in the metric's unit; None where it has no verdict that measured noise."""
    verdict = row["verdict"]
    if verdict is None or not verdict["se"] or not verdict["n"]:
        return None
    found = [pair["difference"] for pair in row["pairs"] if pair["difference"] is not None]
    return shrunk(sample(found), confirming.noise_of(verdict))


def shortlist(state: State) -> list[Listed]:
    """Solid experiments on the present trunk, best first: by shrunk gain an hour; what fresh pairs vetoed comes last."""
    rows = [
        row
        for row in state.experiments.values()
        if row["baseline"] == state.trunk_arm
        and row["state"] in LISTED
        and row["verdict"] is not None
        and row["verdict"]["verdict"] == Verdict.SOLID
    ]
    found = [_listed(state, row) for row in rows]
    found.sort(
        key=lambda each: (each["state"] == ExperimentState.VETOED, -(each["per_hour"] or 0.0), each["experiment"])
    )
    return [{**each, "place": place} for place, each in enumerate(found, 1)]


def _listed(state: State, row: ExperimentRow) -> Listed:
    verdict, off = row["verdict"], row.get("signoff")
    assert verdict is not None
    gain, seconds = shrunk_gain(row), spent(state, row["id"])
    return Listed(
        place=0,
        experiment=row["id"],
        hypothesis=row["hypothesis"],
        state=row["state"],
        effect=verdict["effect"],
        shrunk=gain,
        seconds=round(seconds, 3),
        per_hour=None if gain is None or not seconds else gain / seconds * 3600,
        headline=off["mean"] if off else None,
        interval=None if off is None or off["lo"] is None or off["hi"] is None else [off["lo"], off["hi"]],
        signoff=off["state"] if off else None,
        sentence=off["sentence"] if off else verdict["sentence"],
        findings=[f"{each['severity']}: {each['sentence']}" for each in _findings(state, row["id"])],
        diff_hash=state.proposals[str(row["proposal"])]["diff_hash"],
    )


def spent(state: State, arm: str) -> float:
    """Seconds that the shards of an arm took, all together."""
    spans = [(row["started"], row["ended"]) for row in state.shards_of(arm) if not row.get("smoke")]
    return sum(ended - started for started, ended in spans if started is not None and ended is not None)


def _findings(state: State, experiment: str) -> list[FindingRow]:
    about = {experiment, *state.of_experiment.get(experiment, ())}
    return [row for row in state.rows.values() if row["kind"] == "finding" and row["about"] in about]


# --- before a signature ------------------------------------------------------------------------------------------------


class Price(TypedDict):
    """What a signature would run, cost and restart."""

    pairs: list[int]  # at least, at most; empty where it is merged at once
    shards: int  # at least
    seconds: float | None  # of shards, at least; None before any shard of that rung has finished
    restarts: list[str]
    sentence: str


def price(state: State, lab: Lab, row: ExperimentRow) -> Price:
    """What signing an experiment would run, about how long that takes, and which experiments its merge starts again."""
    restarts = [
        each["id"]
        for each in state.experiments.values()
        if each["baseline"] == state.trunk_arm and each["id"] != row["id"] and _in_flight(each)
    ]
    fresh = confirming.wanted_for(lab, row)
    rung = row["verdict"]["rung"] if row["verdict"] else row["rung"]
    spans = [
        shard["ended"] - shard["started"]
        for shard in state.shards.values()
        if shard["rung"] == rung and shard["outcome"] == "finished" and shard["started"] and shard["ended"]
    ]
    shards = 2 * FEWEST if fresh else 0
    seconds = shards * sum(spans) / len(spans) if spans else None
    pairs = [FEWEST, MOST] if fresh else []
    return Price(
        pairs=pairs, shards=shards, seconds=seconds, restarts=restarts, sentence=_say(pairs, seconds, restarts)
    )


def _in_flight(row: ExperimentRow) -> bool:
    solid = row["verdict"] is not None and row["verdict"]["verdict"] == Verdict.SOLID
    return row["state"] in (ExperimentState.QUEUED, ExperimentState.RUNNING) or (
        solid and row["state"] == ExperimentState.JUDGED
    )


def _say(pairs: list[int], seconds: float | None, restarts: list[str]) -> str:
    if pairs:
        took = "" if seconds is None else f", {_span(seconds)} of shards at the least"
        first = f"runs {pairs[0]} to {pairs[1]} pairs on fresh seeds{took}; merged by itself if they bear it out"
    else:
        first = "is merged into the trunk at once"
    if not restarts:
        return first
    many = ", ".join(restarts[:4]) + (f" and {len(restarts) - 4} more" if len(restarts) > 4 else "")
    return f"{first}; the trunk then moves under {many}"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
