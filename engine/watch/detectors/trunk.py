"""What the trunk's runs on other seeds say about a difference: how far scores move by the seed alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.judge.noise import sigma_so_far
from engine.types import ShardRow
from engine.watch.detectors.evidence import Run


def spread(rows: Iterable[ShardRow]) -> float | None:
    """Standard deviation of the score between seeds, in the metric's unit, widened for few of them as sigma is when
    experiments are judged; None below three, and when the seed changes nothing."""
    return _sigma([row["metric"] for row in rows])


def source_spread(rows: Sequence[ShardRow]) -> dict[str, float]:
    """The same by data source, of those sources that have one."""
    names = dict.fromkeys(name for row in rows for name in row["sources"])
    found = {name: _sigma([row["sources"].get(name) for row in rows]) for name in names}
    return {name: sigma for name, sigma in found.items() if sigma is not None}


def _sigma(values: Iterable[float | None]) -> float | None:
    try:
        return sigma_so_far([value for value in values if value is not None])
    except ValueError:  # all the same, or one is not finite
        return None


def scored(row: ShardRow) -> Run:
    """A finished shard by its scores alone, as the engine's own row has them; nothing that it wrote is read."""
    return Run(
        row["seed"],
        score=row["metric"],
        sources=row["sources"],
        reported=row["reported"],
        evaluated=row.get("evaluated"),
    )
