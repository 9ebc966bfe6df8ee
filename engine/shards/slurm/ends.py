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
    if answered and (job is None or job.over or job.pending):
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


def of_own_job(job: Job | None, node: str, *, claimed: bool, stopped: bool, said: str) -> Lost:
    """How a shard in a job of its own ended without a record. `job` is how Slurm last showed it, None where nobody knows it any
    more; `said` is the last line of its output."""
    state, why = ("", "") if job is None else (job.state, job.why)
    on = f" {node}" if node else ""
    if stopped:
        return Lost("stopped", "")
    if state == "TIMEOUT":
        return Lost("timeout", "the walltime of its job ended")
    if state in ("NODE_FAIL", "BOOT_FAIL"):
        return Lost("node-lost", f"its node{on} was lost")
    if state == "OUT_OF_MEMORY":
        return Lost("memory", "took more memory than its job may")
    if state in ("PREEMPTED", "CANCELLED", "DEADLINE", "REVOKED"):
        return Lost("preempted", f"its job was {'preempted' if state == 'PREEMPTED' else 'cancelled'}")
    if job is None and not claimed:
        return Lost("preempted", "its job is gone from the queue and never began")
    if claimed:
        return Lost(
            "vanished", f"its job{f' on{on}' if on else ''} ended without a record: {said or 'no reason given'}"
        )
    return Lost("start-failed", f"its job could not start it: {said or why or 'no reason given'}")
