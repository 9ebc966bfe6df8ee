"""Runs of the trunk at half their length: what a longer run is worth is read off the two. Pure.

They are made when an open experiment, or a bundle that is signed, costs more or less than its trunk in what the lab holds
equal, on three seeds, and never before: most experiments cost what the trunk does.
"""

from __future__ import annotations

from engine.lab import Lab
from engine.racing import RETRIES, basis, facts, half_seeds, latest
from engine.setups import setup_for
from engine.state import State
from engine.types import HALF, ExperimentRow, Outcome, ShardRow, ShardState


def wanted(state: State, lab: Lab, setup: str) -> list[tuple[str, int, int]]:
    """(trunk's arm, seed, attempt) of the shorter runs that are to start."""
    bundles = (name for name in state.signoffs if "bundle" in state.experiments[name])
    rows = (state.experiments[name] for name in (*state.race.racing(), *bundles))
    arms = dict.fromkeys(str(row["baseline"]) for row in rows if _needs(state, lab, row, setup))
    return [(arm, *each) for arm in arms for each in _missing(state, lab, arm, setup)]


def pending(state: State, lab: Lab, row: ExperimentRow, setup: str) -> bool:
    """Whether an experiment waits for shorter runs of its trunk that are running or still to come."""
    if not _needs(state, lab, row, setup):
        return False
    arm = str(row["baseline"])
    shards = latest(state, arm, HALF, setup_for(setup, HALF, lab)).values()
    return any(each["state"] != ShardState.ENDED for each in shards) or bool(_missing(state, lab, arm, setup))


def _needs(state: State, lab: Lab, row: ExperimentRow, setup: str) -> bool:
    first = row["baseline"] and row["rung"] == lab.climb[0]
    return bool(first) and basis(state, lab, row, row["rung"], setup, fresh="bundle" in row).shift is None


def _missing(state: State, lab: Lab, arm: str, setup: str) -> list[tuple[int, int]]:
    mine = setup_for(setup, HALF, lab)
    shards = latest(state, arm, HALF, mine)
    if any(fact.fault for fact in facts(state, arm, HALF, mine).values()):
        return []  # it fails at that length: more of the same would say no more
    found = []
    for seed in half_seeds(lab):
        tries = [each for each in state.shards_of(arm) if (each["rung"], each["seed"]) == (HALF, seed)]
        if seed not in shards or _again(state, shards[seed], tries):
            found.append((seed, len(tries) + 1))
    return found


def _again(state: State, shard: ShardRow, tries: list[ShardRow]) -> bool:
    """Whether a run that came to nothing through no fault of its own has another try."""
    if shard["outcome"] not in RETRIES or shard["id"] in state.stopped_by_person:
        return False
    same = [each for each in tries if each["outcome"] == shard["outcome"] and each["id"] not in state.forgiven]
    return len(same) <= RETRIES[Outcome(str(shard["outcome"]))]
