"""What a verdict comes to on each data source, and on each further evaluation: a gain overall may be paid by one. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.judge.further import Change


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
    pairs: Iterable[Mapping[str, Any]],
    mine: Iterable[Mapping[str, Any]],
    theirs: Iterable[Mapping[str, Any]],
    rung: str,
    directions: Mapping[str, str],
) -> list[Change]:
    """What a change does to each further evaluation that the lab declares (`directions`, by name), over the pairs of its
    verdict: in the very runs that their figures are of. Its noise is that of the trunk's runs at that rung."""
    if not directions:
        return []
    from engine.judge.further import change  # after the first paint, and only in a lab that declares any

    wanted = list(pairs)
    own = _evaluated(mine, rung, {(each["seed"], each["candidate"]) for each in wanted})
    all_of_trunk = list(theirs)
    trunk = _evaluated(all_of_trunk, rung, {(each["seed"], each["trunk"]) for each in wanted})
    calibration = _evaluated(all_of_trunk, rung)
    found = []
    for name, direction in directions.items():
        before, after, noise = (
            {seed: row[name] for seed, row in side.items() if name in row} for side in (trunk, own, calibration)
        )
        one = change(name, "max" if direction == "max" else "min", before, after, noise)
        found += [one] if one is not None else []
    return found


def _evaluated(
    shards: Iterable[Mapping[str, Any]], rung: str, of: Collection[tuple[int, float | None]] | None = None
) -> dict[int, Mapping[str, float]]:
    """Seed to the evaluations of the last run that finished there, of those whose seed and metric are among `of`."""
    ended = (
        row
        for row in shards
        if (row["rung"], row["outcome"]) == (rung, "finished")
        and not (row.get("fresh") or row.get("canary"))
        and (of is None or (row["seed"], row["metric"]) in of)
    )
    return {row["seed"]: row.get("further") or {} for row in sorted(ended, key=lambda row: int(row["attempt"]))}


def _by_seed(shards: Iterable[Mapping[str, Any]], rung: str) -> dict[int, Mapping[str, float]]:
    ended = (row for row in shards if row["rung"] == rung and row["outcome"] == "finished" and row["sources"])
    return {row["seed"]: row["sources"] for row in sorted(ended, key=lambda row: int(row["attempt"]))}


def words(found: Mapping[str, float]) -> str:
    """The changes in one line, the worst first."""
    return "   ".join(f"{name} {value:+.4f}" for name, value in sorted(found.items(), key=lambda pair: pair[1]))
