"""One run of the new trunk at full scale, where the lab has a rung `full` and the person who signs asks for it. Pure.

It says nothing about any experiment: it stands in no verdict, no pair and no audit. It is never started without a person's
word, since it may cost more than all that led to it.
"""

from __future__ import annotations

import statistics
from typing import TypedDict

from engine import smoke
from engine.judge.words import span
from engine.lab import Lab, Rung
from engine.racing import runs_again
from engine.rpc import NOT_NOW, RpcError
from engine.smoke import Stand
from engine.state import State
from engine.types import FULL


class FullPrice(TypedDict):
    """What a full-scale run would take of one slot; `seconds` is None while no run has shown how fast the trunk is."""

    rung: str
    ratio: float  # of its budget to that of the rung of the verdict
    seconds: float | None
    sentence: str


def full_rung(lab: Lab) -> Rung | None:
    """The lab's full-scale rung; None where it has none, and where experiments climb to it anyway."""
    return None if FULL in lab.climb else next((rung for rung in lab.rungs if rung.name == FULL), None)


def check_wanted(lab: Lab, full: bool) -> None:
    """Raise RpcError for a full-scale run that the lab does not know."""
    if full and full_rung(lab) is None:
        raise RpcError(
            NOT_NOW,
            "cockpit.toml has no [rungs.full] beyond those that experiments climb: sign without a full-scale run, or add that "
            "rung first",
        )


def full_price(state: State, lab: Lab, rung: str) -> FullPrice | None:
    """What a full-scale run would cost after a merge that was judged at `rung`; None where the lab has no such rung."""
    full = full_rung(lab)
    known = {each.name: each for each in lab.rungs}
    if full is None or rung not in known:
        return None
    ratio = full.budget / known[rung].budget
    one = _seconds(state, rung)
    seconds = None if one is None else one * ratio
    took = "for how long is not known yet" if seconds is None else f"about {span(seconds)} of one slot"
    sentence = f"a full-scale run of the new trunk can follow its merge: {ratio:.3g}x the budget of rung {rung}, {took}"
    return FullPrice(rung=FULL, ratio=ratio, seconds=seconds, sentence=sentence)


def _seconds(state: State, rung: str) -> float | None:
    """What a run of the present trunk takes at a rung: its tokens over its tokens/s, the median over its runs; where they do
    not say, how long they ran."""
    rows = [row for row in state.shards_of(state.trunk_arm) if row["rung"] == rung and row["outcome"] == "finished"]
    found = [state.measures.get(row["id"]) for row in rows]
    spans = [each.tokens / each.speed for each in found if each is not None and each.tokens and each.speed]
    spans = spans or [row["ended"] - row["started"] for row in rows if row["ended"] and row["started"]]
    return statistics.median(spans) if spans else None


def wanted(state: State, lab: Lab, setup: str) -> list[tuple[str, int, str, int]]:
    """(arm, seed, rung, attempt) of the full-scale runs that a person asked for and that have not run. One that has run is
    never run again because settings changed: that would be another decision. It waits for the trunk to have passed its smoke,
    and for what is in flight to have its place on the new trunk."""
    if full_rung(lab) is None or any(
        row["commit"] is None for row in map(state.experiments.get, state.race.racing()) if row
    ):
        return []
    found, seed = [], lab.seeds[0]
    for arm in state.full_runs:
        if smoke.stand(state, lab, arm, setup) is not Stand.PASSED:
            continue
        ran = [row for row in state.shards_of(arm) if row["rung"] == FULL]
        if not ran or runs_again(state, ran[-1], ran, state.setups[ran[-1]["id"]]):
            found.append((arm, seed, FULL, len(ran) + 1))
    return found
