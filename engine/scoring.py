"""How a finished shard is scored: the process that the executor starts for it, and the event that comes of what it wrote.

With a referee the engine's own process reads the held text and the model's code runs in two boxes without it
(`engine.judge.referee`). With a command of the lab, protected code runs in one box that has both.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import events as e
from engine.files import last_line, read_regular, read_tail
from engine.judge import referee, serving
from engine.lab import Evaluation, Lab, Referee, Score
from engine.shards import join, warm
from engine.shards.imports import library_imports
from engine.shards.sandbox import entering_python
from engine.shards.slots import Slot
from engine.shards.spec import ExitRecord, ShardSpec
from engine.text import clean
from engine.types import Outcome, ShardRow

SCORE_LIMIT = 1 << 20  # bytes of a score file
_SERVING = tuple(Path(str(each.__file__)).resolve() for each in (referee, serving, join, warm))
"""What a box needs of the engine's files where its process cannot be forked."""

SPARE_S = 2.0  # of the lab's limit, for the referee to say itself that time is up


@dataclass(frozen=True, slots=True)
class Place:
    """Where a shard is scored, and how its processes are made: `environment(run_dir)` is a complete environment there,
    `boxed(spec, readable)` the spec in the lab's box with these files beside what every shard may read."""

    lab: Lab
    tree: Path
    run_dir: Path
    slot: Slot
    values: Mapping[str, str]
    environment: Callable[[Path], dict[str, str]]
    boxed: Callable[[ShardSpec, tuple[Path, ...]], ShardSpec]
    boxed_with_held: Callable[[ShardSpec], ShardSpec]


def spec(row: ShardRow, tree_hash: str, score: Score, place: Place) -> ShardSpec:
    """The process that scores this shard. Raises BoxError when its box cannot be made."""
    common = _common(row, tree_hash, "score", score.timeout_s, place)
    if score.referee is not None:
        return _refereed(score.referee, place, common)
    return _command(score.command, place, common)


def evaluating(row: ShardRow, tree_hash: str, step: str, asked: Evaluation, place: Place) -> ShardSpec:
    """The process of a further evaluation of this shard. Raises BoxError when its box cannot be made."""
    return _command(asked.command, place, _common(row, tree_hash, step, asked.timeout_s, place))


def _command(command: tuple[str, ...], place: Place, common: dict[str, Any]) -> ShardSpec:
    argv = place.lab.fill(command, place.values)
    env = place.environment(place.run_dir)
    return place.boxed_with_held(ShardSpec(argv=argv, cwd=str(place.tree), env=env, **common))


def _common(row: ShardRow, tree_hash: str, step: str, timeout_s: float, place: Place) -> dict[str, Any]:
    """What the specs of all that follows training have in common; `step` names its process and its files."""
    lab, slot = place.lab, place.slot
    return {
        "id": f"{row['id']}.{step}",
        "run_dir": str(place.run_dir),
        "output": f"{step}.log",
        "record": f"{step}-exit.json",
        "fresh": False,
        "timeout_s": timeout_s,
        "cores": slot.cores,
        "gpus": slot.gpus,
        "threads": lab.threads,
        "nice": lab.nice,
        "tree": tree_hash,
        "seed": row["seed"],
        "rung": row["rung"],
        "attempt": row["attempt"],
    }


def _refereed(asked: Referee, place: Place, common: dict[str, Any]) -> ShardSpec:
    """The referee, outside any box: it is the engine's own code, and knows the held text. It makes the boxes of the model."""
    lab, script = place.lab, referee.__file__
    model = place.tree / asked.model
    python = lab.interpreter()
    checkpoint = place.run_dir / asked.checkpoint
    half = place.run_dir / asked.half if asked.half else None
    boxes: dict[str, dict[str, Any]] = {}
    for name in ("told", "asked"):
        scratch = place.run_dir / f"{name}-{secrets.token_hex(8)}"  # nothing that ran here could have foreseen it
        serve = (python, "-B", script, "--serve", str(model))
        env = place.environment(scratch)
        inside = ShardSpec(id=name, argv=serve, cwd=str(place.tree), env=env, run_dir=str(scratch), timeout_s=1.0)
        seen = (checkpoint, *([half] if half else []), *_SERVING)
        made = place.boxed(inside, seen)
        boxes[name] = {"scratch": str(scratch), "walls": made.walls, "env": dict(made.env)}
    imports = library_imports(place.tree, asked.model)
    plan = {
        "model": str(model),
        "cwd": str(place.tree),
        "run_dir": str(place.run_dir),
        "checkpoint": str(checkpoint),
        "half": str(half) if half else None,
        "text": lab.fill((asked.text,), place.values)[0],
        "report": lab.fill((asked.report,), place.values)[0] if asked.report else None,
        "out": place.values["scores"],
        "rows": asked.rows,
        "tolerance": asked.tolerance,
        "seconds": max(1.0, common["timeout_s"] - SPARE_S),
        "imports": imports,
        "python": python,
        "enter": entering_python(),
        "boxes": boxes,
    }
    # Nothing of the run tree may be imported where the held text is. The rest is as in the boxes, for one warm parent to serve.
    own, scratch = str(place.run_dir / f"referee-{secrets.token_hex(8)}"), boxes["told"]["scratch"]
    told = {name: value.replace(scratch, own) for name, value in boxes["told"]["env"].items()}
    env = {name: value for name, value in told.items() if name != "PYTHONPATH" and not name.startswith("COCKPIT_")}
    inner = (python, script, json.dumps(plan))
    argv = (python, "-B", *inner[1:])
    return ShardSpec(argv=argv, inner=inner, cwd="/", env=env, warm=imports if lab.warm else (), **common)


def scratch_of(run_dir: Path) -> list[Path]:
    """What scoring left in a run directory beside its result: what the boxes of the model's code could write to."""
    return [each for name in ("told", "asked", "referee") for each in run_dir.glob(f"{name}-{'[0-9a-f]' * 16}")]


def read_score(shard: str, run_dir: Path, record: ExitRecord) -> e.ShardScored:
    """The event of a scoring that ended. A score that cannot be read is the shard's crash, with the reason."""
    if record.how != "exited" or record.code != 0:
        tail = read_tail(run_dir / "score.log")
        failed = f"it {record.error}" if record.error else last_line(tail)
        why = "scoring timed out" if record.how == "timeout" else f"scoring failed: {failed}"
        lost = record.how == "stopped"
        return e.ShardScored(shard, Outcome.KILLED if lost else Outcome.CRASHED, clean(why), None)
    try:
        score = json.loads(read_regular(run_dir / "score.json", SCORE_LIMIT))
        metric = float(score["metric"])
        scores = {clean(str(name)): float(value) for name, value in dict(score.get("sources", {})).items()}
        sources = {name: value for name, value in scores.items() if math.isfinite(value)}
        evaluated = float(score["evaluated"]) if score.get("evaluated") is not None else None
    except (ValueError, KeyError, TypeError) as error:
        return e.ShardScored(shard, Outcome.CRASHED, clean(f"the score cannot be read: {error!r}"), None)
    if not math.isfinite(metric):
        return e.ShardScored(shard, Outcome.NONFINITE, "its checkpoint scores as not finite", None)
    evaluated = evaluated if evaluated is not None and math.isfinite(evaluated) else None
    return e.ShardScored(shard, Outcome.FINISHED, "", metric, sources, evaluated=evaluated)
