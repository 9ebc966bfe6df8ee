"""The smoke of an arm: one very short shard that it has to pass before its first full one. Pure.

It says whether the code runs at all, and nothing about how well: it has no metric, stands in no pair and in no ranking. The
trunk passes one too, so that a lab whose smoke cannot work is not taken for a broken idea.
"""

from __future__ import annotations

from enum import StrEnum

from engine import events as e
from engine.lab import Lab
from engine.racing import RETRIES
from engine.setups import setup_for
from engine.state import State
from engine.types import SMOKE, ExperimentRow, Outcome, ShardRow, ShardState, Verdict


class Stand(StrEnum):
    """How it stands with an arm's smoke."""

    PASSED = "passed"  # or there is none to pass
    WANTED = "wanted"
    RUNNING = "running"
    FAILED = "failed"  # by the arm's own fault
    OUT = "out"  # stopped by a person, or lost or killed too often: nothing is known


def latest(state: State, lab: Lab, arm: str, setup: str) -> ShardRow | None:
    """The last attempt at an arm's smoke under this setup."""
    mine = setup_for(setup, SMOKE, lab)
    found = [row for row in state.shards_of(arm) if row.get("smoke") and state.setups[row["id"]] == mine]
    return found[-1] if found else None


def stand(state: State, lab: Lab, arm: str, setup: str) -> Stand:
    """How it stands with the smoke of an arm. An arm with a full shard of this setup needs none."""
    if lab.smoke is None or any(state.setups[row["id"]] == setup for row in state.shards_of(arm)):
        return Stand.PASSED
    row = latest(state, lab, arm, setup)
    if row is None:
        return Stand.WANTED
    if row["state"] != ShardState.ENDED or row["outcome"] is None:
        return Stand.RUNNING
    outcome = Outcome(row["outcome"])
    if outcome is Outcome.FINISHED:
        return Stand.PASSED
    if row["id"] in state.forgiven:
        return Stand.WANTED
    if outcome.own_fault:
        return Stand.FAILED
    if row["id"] in state.stopped_by_person or _times(state, lab, row, setup) > RETRIES.get(outcome, 0):
        return Stand.OUT
    return Stand.WANTED


def _times(state: State, lab: Lab, row: ShardRow, setup: str) -> int:
    """How often the smoke of an arm ended in this way, without what was forgiven."""
    mine = setup_for(setup, SMOKE, lab)
    return sum(
        each["outcome"] == row["outcome"] and each["id"] not in state.forgiven and state.setups[each["id"]] == mine
        for each in state.shards_of(row["experiment"])
    )


def next_attempt(state: State, lab: Lab, arm: str) -> int:
    """The number of a further attempt; never one that a shard of that name has had."""
    seed = lab.seeds[0]
    return 1 + sum(row["rung"] == SMOKE and row["seed"] == seed for row in state.shards_of(arm))


def verdict(state: State, lab: Lab, row: ExperimentRow, setup: str) -> e.VerdictReached | None:
    """What follows from the smoke of an experiment, where it ends it: broken, or undecided when it came to no end."""
    found = stand(state, lab, row["id"], setup)
    shard = latest(state, lab, row["id"], setup)
    if found not in (Stand.FAILED, Stand.OUT) or shard is None:
        return None
    why = f": {shard['detail']}" if shard["detail"] else ""
    if found is Stand.FAILED:
        sentence = f"{shard['outcome']} in its smoke run, so no full run was started{why}"
    else:
        sentence = f"its smoke run was {shard['outcome']} and is not run again: `cockpit resume` tries it once more"
    return e.VerdictReached(
        experiment=row["id"],
        rung=SMOKE,
        verdict=Verdict.BROKEN if found is Stand.FAILED else Verdict.UNDECIDED,
        effect=None,
        lo=None,
        hi=None,
        se=None,
        n=0,
        sentence=sentence,
        pairs=[],
        baseline=str(row["baseline"]),
        final=True,
    )


def is_broken(row: ExperimentRow) -> bool:
    """Whether an experiment ended at its smoke by its own fault."""
    found = row["verdict"]
    return found is not None and found["verdict"] == Verdict.BROKEN and found["rung"] == SMOKE
