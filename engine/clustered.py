"""What clients are told of the cluster's queue: all of it when they ask, and then only what is new.

Nothing of it is in the ledger. Walltime is a moment in unix seconds, which a client counts down to by itself; a running shard
is only named where it has a job of its own, since its row says already on which node of the allocation it runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from engine.shards.executor import Executor, Held, Standing
from engine.text import clean_line
from engine.types import AllocationRow, ClusterRow, StandingRow

LOOK_S = 1.0
STEADY_S = 30.0
"""By how much a moment must move to be told again: a queue tells seconds, whole ones, some of them old."""
FORETOLD_S = 60.0
"""The same of a start that the queue foretells, which is told to the minute."""
LONGEST = 300
"""Characters of a reason that are told."""
ASKED = ("cluster",)


class Clustered:
    """The queue of one engine's executor, and what its clients have been told of it."""

    def __init__(self, executor: Executor, clock: Callable[[], float] = time.time) -> None:
        self.executor = executor
        self._clock = clock
        self._told: ClusterRow | None = None
        self._named: set[str] = set()  # shards that a client has been told of since the last changes
        self._moments: dict[str, float] = {}  # when walltimes end and jobs start, as it was told, by job

    @property
    def there(self) -> bool:
        """Whether shards run on a cluster."""
        return self.executor.allocation is not None

    async def do_cluster(self) -> dict[str, Any]:
        """How the allocation and the shards in the queue stand; empty where shards run on this machine."""
        now = self.whole()
        self._named |= now["shards"].keys() if now else set()
        return cast(dict[str, Any], now or {})

    def whole(self) -> ClusterRow | None:
        """All of it; None where shards run on this machine."""
        held = self.executor.allocation
        if held is None:
            return None
        seen, known = held.held, self._moments
        self._moments = {}
        row = self._allocation(seen, known)
        row["words"] = clean_line(held.words)
        if self.executor.shortage is not None:
            row["sentence"] = clean_line(held.sentence)
        shards = {
            name: self._shard(each, known)
            for name, each in self.executor.standing.items()
            if each.state == "queued" or each.job != seen.job
        }
        return {"allocation": row, "shards": shards}

    def changes(self) -> dict[str, Any]:
        """What is new since the last call: the allocation where anything of it is, and shards, None for one that is not to be
        named any more. Empty when nothing is."""
        now, before = self.whole(), self._told
        if now is None:
            return {}
        self._told = now
        if before is None:
            return cast(dict[str, Any], now)
        found: dict[str, Any] = {}
        if now["allocation"] != before["allocation"]:
            found["allocation"] = now["allocation"]
        shards: dict[str, StandingRow | None] = {
            name: row for name, row in now["shards"].items() if before["shards"].get(name) != row
        }
        shards |= dict.fromkeys((before["shards"].keys() | self._named) - now["shards"].keys())
        self._named.clear()
        return found | ({"shards": shards} if shards else {})

    def _allocation(self, seen: Held, known: dict[str, float]) -> AllocationRow:
        row: AllocationRow = {"state": seen.state, "words": ""}
        if seen.gpu_hours:
            row["gpu_hours"] = round(seen.gpu_hours, 2)
        if seen.job:
            row["job"] = clean_line(seen.job)
        if seen.nodes:
            row["nodes"] = clean_line(seen.nodes)[:LONGEST]
        if seen.why:
            row["why"] = clean_line(seen.why)[:LONGEST]
        if seen.trouble:
            row["trouble"] = clean_line(seen.trouble)[:LONGEST]
        if seen.starts is not None:
            row["starts"] = self._starts(seen.job, seen.starts, known)
        if seen.left_s is not None:
            row["until"] = self._until(seen.job, seen.left_s, known)
        if seen.state == "ready" and self.executor.capacity is not None:
            row["places"] = self.executor.capacity
        if seen.unwell:
            row["unwell"] = seen.unwell
        return row

    def _shard(self, each: Standing, known: dict[str, float]) -> StandingRow:
        row: StandingRow = {"state": each.state}
        if each.job:
            row["job"] = clean_line(each.job)
        if each.why:
            row["why"] = clean_line(each.why)[:LONGEST]
        if each.starts is not None:
            row["starts"] = self._starts(each.job, each.starts, known)
        if each.left_s is not None:
            row["until"] = self._until(each.job, each.left_s, known)
        if each.node:
            row["node"] = clean_line(each.node)
        if each.gpus:
            row["gpus"] = clean_line(each.gpus)
        return row

    def _until(self, job: str, left_s: float, known: dict[str, float]) -> float:
        return self._steady(job, self._clock() + left_s, known)

    def _starts(self, job: str, at: float, known: dict[str, float]) -> float:
        return self._steady(f"{job} starts", at, known, FORETOLD_S)

    def _steady(self, what: str, at: float, known: dict[str, float], by: float = STEADY_S) -> float:
        """A moment in unix seconds, the same as before unless it has truly moved."""
        at, before = float(round(at)), known.get(what)
        self._moments[what] = at if before is None or abs(at - before) >= by else before
        return self._moments[what]
