"""What a verdict comes to on each data source, and on each further evaluation: a gain overall may be paid by one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.judge.further import Change, change


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


def further(
    mine: Iterable[Mapping[str, Any]],
    theirs: Iterable[Mapping[str, Any]],
    rung: str,
    directions: Mapping[str, str],
) -> list[Change]:
    """What a change does to each further evaluation that the lab declares (`directions`, by name), over the seeds that both
    arms finished at a rung; its noise is that of the trunk's runs there. Fresh pairs are left out."""
    trunk, own = (_evaluated(side, rung) for side in (theirs, mine))
    found = []
    for name, direction in directions.items():
        theirs_, mine_ = ({seed: row[name] for seed, row in side.items() if name in row} for side in (trunk, own))
        one = change(name, "max" if direction == "max" else "min", theirs_, mine_, theirs_)
        found += [one] if one is not None else []
    return found


def _evaluated(shards: Iterable[Mapping[str, Any]], rung: str) -> dict[int, Mapping[str, float]]:
    ended = (row for row in shards if row["rung"] == rung and row["outcome"] == "finished" and not row.get("fresh"))
    return {row["seed"]: row.get("further") or {} for row in sorted(ended, key=lambda row: int(row["attempt"]))}


def _by_seed(shards: Iterable[Mapping[str, Any]], rung: str) -> dict[int, Mapping[str, float]]:
    ended = (row for row in shards if row["rung"] == rung and row["outcome"] == "finished" and row["sources"])
    return {row["seed"]: row["sources"] for row in sorted(ended, key=lambda row: int(row["attempt"]))}


def words(found: Mapping[str, float]) -> str:
    """The changes in one line, the worst first."""
    return "   ".join(f"{name} {value:+.4f}" for name, value in sorted(found.items(), key=lambda pair: pair[1]))
