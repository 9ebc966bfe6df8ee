"""How a step ended that left no exit record of its own: from what the client's side and the queue say. Pure.

srun's exit code alone says nothing: it is 0 when the step's node has died.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engine.shards.slurm.parsing import Job, usable
from engine.shards.slurm.step import SILENT
from engine.shards.spec import How


@dataclass(frozen=True, slots=True)
class Side:
    """What is known on the login node of a step that is over. `said` is the last line of srun's own output."""

    how: str = "exited"  # of the client's side, as the launcher recorded it
    code: int | None = None
    claimed: bool = False  # an agent had begun
    node: str = ""
    said: str = ""
    own: bool = False  # in a job of its own, which the pilot's fate says nothing of


@dataclass(frozen=True, slots=True)
class Lost:
    """How it is to be written down; "vanished" where nothing is known."""

    how: How | Literal["vanished"]
    why: str


def suspect(names: tuple[str, ...], claimed: str, silent: bool, nodes: dict[str, str]) -> str:
    """Which of a step's nodes was lost, if one was: that of the silent heartbeat, which is the leading agent's; else the first
    that Slurm says is not well. `claimed` is the leading agent's node as it said itself."""
    first = claimed or (names[0] if names else "")
    unwell = [each for each in names if each in nodes and not usable(nodes[each])]
    return unwell[0] if unwell and not silent else first


def lost(side: Side, job: Job | None, nodes: dict[str, str], answered: bool) -> Lost:
    """How a step without a record ended. `job` is its job as the queue shows it now, None where it does not know it;
    `answered` is false where the queue could not be asked."""
    if side.how == "stopped":
        return Lost("stopped", "")
    state = nodes.get(side.node, "")
    if job is not None and job.state == "NODE_FAIL":
        return Lost("node-lost", f"its node {side.node} was lost")
    if not side.own and answered and (job is None or job.over or job.pending):
        return Lost("preempted", _gone(job))
    if (state and not usable(state)) or side.code == SILENT:
        silent = "is silent" if side.code == SILENT else f"is {state.rstrip('*')}"
        return Lost("node-lost", f"its node {side.node} {silent}")
    if not side.claimed:
        return Lost("start-failed", f"no step could be started on {side.node}: {side.said or 'no reason given'}")
    return Lost("vanished", f"its step on {side.node} ended without a record: {side.said or 'no reason given'}")


def lived_s(claim: Mapping[str, Any] | None, beat: Mapping[str, Any] | None) -> float:
    """For how many seconds a shard is known to have run: from its claim to its last heartbeat. Both are by its node's clock,
    which is not compared with any other."""
    first, last = ((each or {}).get("at") for each in (claim, beat))
    if not isinstance(first, int | float) or not isinstance(last, int | float):
        return 0.0
    span = float(last) - float(first)
    return span if math.isfinite(span) and span > 0 else 0.0


def _gone(job: Job | None) -> str:
    if job is None:
        return "its allocation is gone"
    words = {
        "TIMEOUT": "the walltime of its allocation ended",
        "CANCELLED": "its allocation was released or cancelled",
        "PREEMPTED": "its allocation was preempted",
    }
    return words.get(
        job.state,
        "its allocation was taken back and waits again" if job.pending else f"its allocation is {job.state.lower()}",
    )
