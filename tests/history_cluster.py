"""Two days of a small lab on a cluster of two nodes, made by hand; what questions about it answer is worked out on paper.

A run takes 60 s, on n2's GPU 1 twice as long. Steps go from 0 to 99, one a line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.history.store import Store
from engine.types import Row, ShardRow
from tests.history_samples import T0, experiment, lab, losses, shard, trunk

DAY = 86_400.0


def on_cluster(path: Path) -> Store:
    """The history in a new store at `path`; the caller closes it."""

    def ran(
        arm: str, seed: int, where: str, seconds: float, *, outcome: str = "finished", attempt: int = 1, **more: Any
    ) -> ShardRow:
        node, _, gpus = where.partition(":")
        began = T0 + more.pop("after", 0.0)
        times = {"started": began, "ended": began + seconds, "node": node, "gpus": gpus}
        return shard(arm, seed, 2.0 if outcome == "finished" else None, outcome, attempt, **times, **more)

    rows: list[Row] = [
        lab(), trunk(), experiment(1),
        ran("trunk-1", 0, "n1:0", 60),
        ran("trunk-1", 1, "n1:0", 60),
        ran("trunk-1", 2, "n2:1", 120),
        ran("0001", 0, "n1:0", 40, outcome="preempted", detail="Slurm took its allocation back"),  # at step 79 of 0..79
        ran("0001", 0, "n2:1", 70, attempt=2, resumes="0001.screen.s0.a1", after=DAY),  # from step 59 on
        ran("0001", 1, "n2:1", 30, outcome="node-lost", detail="n2 fell silent"),
        ran("0001", 1, "n1:0", 60, attempt=2, after=DAY),
        ran("0001", 2, "n2:1", 6, outcome="crashed", detail="CUDA error: an illegal memory access", after=DAY),
        shard("0001", 3, 2.0),  # on the login node: none of the cluster's
    ]  # fmt: skip
    store = Store.open(path)
    store.index(rows, [], 0)
    again = losses("0001.screen.s0.a2", [2.0] * 100, summary={"resumed_at": 59.0, "attempt": 2.0})
    store.append([losses("0001.screen.s0.a1", [2.0] * 80), again])
    return store
