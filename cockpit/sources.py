"""By how much each data source got better or worse, for a verdict: a gain overall may be paid by one of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def changes(
    mine: Iterable[Mapping[str, Any]], theirs: Iterable[Mapping[str, Any]], rung: str, direction: str
) -> dict[str, float]:
    """Mean change by source over the seeds that both arms finished at a rung, in the metric's unit; > 0 is better. `mine` and
    `theirs` are shard rows; of several attempts at a seed the last counts."""
    sign = 1 if direction == "max" else -1
    found: dict[str, list[float]] = {}
    trunk = _by_seed(theirs, rung)
    for seed, sources in _by_seed(mine, rung).items():
        for name, value in sources.items():
            if name in trunk.get(seed, {}):
                found.setdefault(name, []).append(sign * (value - trunk[seed][name]))
    return {name: sum(each) / len(each) for name, each in found.items()}


def _by_seed(shards: Iterable[Mapping[str, Any]], rung: str) -> dict[int, Mapping[str, float]]:
    ended = (row for row in shards if row["rung"] == rung and row["outcome"] == "finished" and row["sources"])
    return {row["seed"]: row["sources"] for row in sorted(ended, key=lambda row: int(row["attempt"]))}


def words(found: Mapping[str, float]) -> str:
    """The changes in one line, the worst first."""
    return "   ".join(f"{name} {value:+.4f}" for name, value in sorted(found.items(), key=lambda pair: pair[1]))
