"""Further evaluations that a lab declares (`[evaluate.NAME]`): what runs after a shard is scored, and what it says.

Each is a command of the lab, its scripts protected, which writes one number for a checkpoint. They run one after the other in
the slot of their shard, in the box of a scoring command, where the run directory is there to read; a shard is scored once all
have ended. One that fails leaves its number out and costs the shard nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.files import last_line, read_regular, read_tail
from engine.judge.further import Change, change
from engine.lab import Evaluation, Lab
from engine.paths import StateDir
from engine.racing import first_seeds, latest
from engine.shards.records import read_exit
from engine.state import State
from engine.text import clean
from engine.types import HALF, SMOKE, Outcome, ShardRow

SCORE = "score"
NOT_MEASURED = "not measured"
"""The rule of the finding that an evaluation gave no number."""

LIMIT = 1 << 20  # bytes of a file with one number


def step_of(evaluation: Evaluation) -> str:
    """The name of its process, after that of its shard and a dot, and the stem of its files in the run directory."""
    return f"evaluate-{evaluation.name}"


def steps(lab: Lab, row: ShardRow) -> list[str]:
    """All that follows the training of a shard, in order: scoring, then every further evaluation, unless it is a run whose
    score alone is wanted: of another length or learning rate, or a canary."""
    score_alone = row["rung"] in (HALF, SMOKE) or row.get("canary") or "retune" in row
    return [SCORE, *([] if score_alone else map(step_of, lab.evaluations))]


def place_of(state: StateDir, shard: str, step: str) -> Path:
    """Where a step leaves its files. An evaluation has a directory of its own: the model's code that runs in one must not
    reach the score, nor what others say."""
    return state.runs / shard if step == SCORE else state.further / f"{shard}.{step}"


def record_of(state: StateDir, shard: str, step: str) -> Path:
    """The file that says how a step ended."""
    return place_of(state, shard, step) / f"{step}-exit.json"


def split(name: str) -> tuple[str, str]:
    """(shard, step) of a process's name; the step is empty for training itself."""
    shard, dot, step = name.rpartition(".")
    follows = step == SCORE or step.startswith("evaluate-")
    return (shard, step) if dot and follows else (name, "")


def at_step(lab: Lab, state: StateDir, row: ShardRow) -> str:
    """The step that a shard which is being scored has come to: the first that has left no exit record, else the last."""
    names = steps(lab, row)
    return next((each for each in names if not record_of(state, row["id"], each).exists()), names[-1])


def evaluation(lab: Lab, step: str) -> Evaluation | None:
    """The evaluation that a step is of; None for scoring itself."""
    return next((each for each in lab.evaluations if step_of(each) == step), None)


def read(lab: Lab, state: StateDir, row: ShardRow) -> tuple[dict[str, float], dict[str, str]]:
    """(number by evaluation, why there is none by evaluation) of a shard, of those steps that have ended."""
    found: dict[str, float] = {}
    failed: dict[str, str] = {}
    for step in steps(lab, row)[1:]:
        asked, place = evaluation(lab, step), place_of(state, row["id"], step)
        record = read_exit(place, f"{step}-exit.json")
        if asked is None or not record_of(state, row["id"], step).exists():
            continue
        if record is None or record.how != "exited" or record.code != 0:
            said = last_line(read_tail(place / f"{step}.log"))
            late = record is not None and record.how == "timeout"
            failed[asked.name] = "it timed out" if late else clean(f"it failed: {said}" if said else "it failed")
            continue
        try:
            value = float(json.loads(read_regular(place / f"{step}.json", LIMIT))["metric"])
        except (ValueError, KeyError, TypeError) as error:
            failed[asked.name] = clean(f"its number cannot be read: {error!r}")
            continue
        if math.isfinite(value):
            found[asked.name] = value
        else:
            failed[asked.name] = "its number is not finite"
    return found, failed


def done_with(lab: Lab, state: StateDir, row: ShardRow) -> list[Path]:
    """The directories of a scored shard's evaluations that gave a number; the others stay for somebody to look at."""
    names = row.get("further", {})
    return [place_of(state, row["id"], step_of(each)) for each in lab.evaluations if each.name in names]


# --- what they say -----------------------------------------------------------------------------------------------------


def changes(state: State, lab: Lab, experiment: str, rung: str, setup: str, *, level: float = 0.95) -> Iterator[Change]:
    """What an experiment does to each evaluation on fresh seeds; noise is that of the trunk's calibration runs."""
    arm = str(state.experiments[experiment]["baseline"])
    calibration = _values(state, arm, rung, setup, fresh=False)
    trunk, mine = (_values(state, each, rung, setup, fresh=True) for each in (arm, experiment))
    for each in lab.evaluations:
        before, after = (
            {seed: row[each.name] for seed, row in side.items() if each.name in row} for side in (trunk, mine)
        )
        seeds = (seed for seed in first_seeds(lab) if each.name in calibration.get(seed, {}))
        noise = {seed: calibration[seed][each.name] for seed in seeds}
        found = change(each.name, each.direction, before, after, noise, level)
        if found is not None:
            yield found


def veto(state: State, lab: Lab, experiment: str, rung: str, setup: str) -> str:
    """Why fresh pairs say no although their metric is better: an evaluation is worse for certain. Empty when none is. Asked
    once, when the metric is settled, and with all evaluations of a lab together wrong in one of twenty at the most."""
    level = 1 - 0.05 / max(1, len(lab.evaluations))
    for each in changes(state, lab, experiment, rung, setup, level=level):
        if each.lo is not None and each.hi is not None and each.hi < 0:
            return (
                f"{each.name} got worse by {-each.effect:.4g} [{-each.hi:.4g}, {-each.lo:.4g}] on {each.n} fresh seeds"
            )
    return ""


def lacking(state: State, lab: Lab, experiment: str, rung: str, setup: str) -> str:
    """Which evaluation of a fresh pair has no number although the trunk's has one; empty where none lacks."""
    arm = str(state.experiments[experiment]["baseline"])
    trunk, mine = (_values(state, each, rung, setup, fresh=True) for each in (arm, experiment))
    for seed in sorted(trunk.keys() & mine.keys()):
        if gone := sorted(trunk[seed].keys() - mine[seed].keys()):
            return f"{gone[0]} could not be measured on fresh seed {seed}, where the trunk's could"
    return ""


def _values(state: State, arm: str, rung: str, setup: str, *, fresh: bool) -> dict[int, Mapping[str, float]]:
    return {
        seed: row.get("further", {})
        for seed, row in latest(state, arm, rung, setup, fresh=fresh).items()
        if row["outcome"] == Outcome.FINISHED
    }
