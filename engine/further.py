"""Further evaluations that a lab declares (`[evaluate.NAME]`): what runs after a shard is scored, and what it says.

Each is a command of the lab, its scripts protected, which writes one number for a checkpoint. They run one after the other in
the slot of their shard, in the box of a scoring command; a shard is scored once all have ended. One that fails leaves its
number out and costs the shard nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.files import last_line, read_regular, read_tail
from engine.judge.fresh import FEWEST
from engine.judge.further import Change, change
from engine.lab import Evaluation, Lab
from engine.racing import first_seeds, latest
from engine.shards.records import read_exit
from engine.state import State
from engine.text import clean
from engine.types import Outcome

SCORE = "score"
NOT_MEASURED = "not measured"
"""The rule of the finding that an evaluation gave no number."""

LIMIT = 1 << 20  # bytes of a file with one number


def step_of(evaluation: Evaluation) -> str:
    """The name of its process, after that of its shard and a dot, and the stem of its files in the run directory."""
    return f"evaluate-{evaluation.name}"


def steps(lab: Lab) -> list[str]:
    """All that follows training, in order: scoring, then every further evaluation."""
    return [SCORE, *map(step_of, lab.evaluations)]


def files_of(step: str) -> tuple[str, str, str]:
    """The names of a step's files in the run directory: how it ended, what it printed, its number."""
    return (f"{step}-exit.json", f"{step}.log", f"{step}.json")


def split(name: str) -> tuple[str, str]:
    """(shard, step) of a process's name; the step is empty for training itself."""
    shard, dot, step = name.rpartition(".")
    follows = step == SCORE or step.startswith("evaluate-")
    return (shard, step) if dot and follows else (name, "")


def at_step(lab: Lab, run_dir: Path) -> str:
    """The step that a shard which is being scored has come to: the first that has left no exit record, else the last."""
    names = steps(lab)
    return next((each for each in names if not (run_dir / f"{each}-exit.json").exists()), names[-1])


def evaluation(lab: Lab, step: str) -> Evaluation | None:
    """The evaluation that a step is of; None for scoring itself."""
    return next((each for each in lab.evaluations if step_of(each) == step), None)


def read(lab: Lab, run_dir: Path) -> tuple[dict[str, float], dict[str, str]]:
    """(number by evaluation, why there is none by evaluation) of a shard whose steps have all ended."""
    found: dict[str, float] = {}
    failed: dict[str, str] = {}
    for each in lab.evaluations:
        record = read_exit(run_dir, f"{step_of(each)}-exit.json")
        if record is None or record.how != "exited" or record.code != 0:
            said = last_line(read_tail(run_dir / f"{step_of(each)}.log"))
            late = record is not None and record.how == "timeout"
            failed[each.name] = "it timed out" if late else clean(f"it failed: {said}" if said else "it failed")
            continue
        try:
            value = float(json.loads(read_regular(run_dir / f"{step_of(each)}.json", LIMIT))["metric"])
        except (ValueError, KeyError, TypeError) as error:
            failed[each.name] = clean(f"its number cannot be read: {error!r}")
            continue
        if math.isfinite(value):
            found[each.name] = value
        else:
            failed[each.name] = "its number is not finite"
    return found, failed


# --- what they say -----------------------------------------------------------------------------------------------------


def changes(state: State, lab: Lab, experiment: str, rung: str, setup: str, *, fresh: bool) -> Iterator[Change]:
    """What an experiment does to each evaluation: at a rung in its verdict's pairs, or in those on fresh seeds."""
    arm = str(state.experiments[experiment]["baseline"])
    calibration = _values(state, arm, rung, setup, fresh=False)
    trunk, mine = (_values(state, each, rung, setup, fresh=fresh) for each in (arm, experiment))
    for each in lab.evaluations:
        before, after = (
            {seed: row[each.name] for seed, row in side.items() if each.name in row} for side in (trunk, mine)
        )
        seeds = (seed for seed in first_seeds(lab) if each.name in calibration.get(seed, {}))
        noise = {seed: calibration[seed][each.name] for seed in seeds}
        found = change(each.name, each.direction, before, after, noise)
        if found is not None:
            yield found


def veto(state: State, lab: Lab, experiment: str, rung: str, setup: str) -> str:
    """Why fresh pairs say no although their metric may be better: an evaluation is worse for certain, or cannot be had where
    the trunk has it. Empty when none does."""
    arm = str(state.experiments[experiment]["baseline"])
    trunk, mine = (_values(state, each, rung, setup, fresh=True) for each in (arm, experiment))
    for seed in sorted(trunk.keys() & mine.keys()):
        lacking = trunk[seed].keys() - mine[seed].keys()
        if lacking:
            return f"{min(lacking)} could not be measured on fresh seed {seed}, where the trunk's could"
    for each in changes(state, lab, experiment, rung, setup, fresh=True):
        if each.lo is not None and each.hi is not None and each.hi < 0 and each.n >= FEWEST:
            return (
                f"{each.name} got worse by {-each.effect:.4g} [{-each.hi:.4g}, {-each.lo:.4g}] on {each.n} fresh seeds"
            )
    return ""


def _values(state: State, arm: str, rung: str, setup: str, *, fresh: bool) -> dict[int, Mapping[str, float]]:
    return {
        seed: row.get("further", {})
        for seed, row in latest(state, arm, rung, setup, fresh=fresh).items()
        if row["outcome"] == Outcome.FINISHED
    }
