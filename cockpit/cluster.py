"""What a cluster says of single shards and of its allocation: pure, from rows and what the engine tells beside them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

from engine.types import ClusterRow, StandingRow


def standing(cluster: ClusterRow | None, row: Mapping[str, Any]) -> StandingRow | None:
    """How a shard stands in the queue; None where it does not, as on one machine or when it has ended."""
    if cluster is None or row["state"] == "ended":
        return None
    told, held = cluster["shards"].get(row["id"]), cluster["allocation"]
    if told is None and (row["state"] == "queued" or not row.get("node")):
        return None
    found: dict[str, Any] = dict(told) if told is not None else {"state": "running"}
    if told is None:
        found |= {name: held[name] for name in ("job", "until") if name in held}
    for name in ("node", "gpus"):
        if row.get(name):
            found.setdefault(name, row[name])
    return cast(StandingRow, found)


def busy(cluster: ClusterRow, rows: Iterable[Mapping[str, Any]]) -> int:
    """Places of the allocation that shards take now."""
    return sum(
        row["state"] in ("running", "scoring") and bool(row.get("node")) and row["id"] not in cluster["shards"]
        for row in rows
    )


def place(row: Mapping[str, Any]) -> str:
    """Where it runs or ran, short: `n1:0,1`; empty on one machine."""
    node = row.get("node") or ""
    return f"{node}:{row['gpus']}" if node and row.get("gpus") else node


def span(seconds: float) -> str:
    """A span of walltime, in whole minutes: `3 h 12 m`, `12 m`, `under a minute`."""
    minutes = int(seconds // 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} m" if minutes else f"{hours} h"
    return f"{minutes} m" if minutes > 0 else "under a minute"


def left(until: float | None, now: float) -> float | None:
    """Seconds until then, never below zero."""
    return None if until is None else max(0.0, until - now)


def foretold(starts: float | None, now: float) -> str:
    """When something that waits is expected to begin: `starts about 14:05`, with the day where that is not today; empty where
    the queue does not say, or said a time that has passed."""
    if starts is None or starts <= now:
        return ""
    there, here = time.localtime(starts), time.localtime(now)
    return f"starts about {time.strftime('%H:%M' if there[:3] == here[:3] else '%a %d %b %H:%M', there)}"


def waits(row: Mapping[str, Any], now: float) -> str:
    """Why something waits in the queue, and when it is expected to begin; empty where neither is known."""
    return ", ".join(filter(None, (row.get("why"), foretold(row.get("starts"), now))))


def cluster_words(cluster: ClusterRow | None, now: float) -> list[str]:
    """How allocation and queue stand, beside the engine's own sentence, which says what is in the way; one line each."""
    if cluster is None:
        return []
    held, lines = cluster["allocation"], []
    if "places" in held:
        rest = left(held.get("until"), now)
        walltime = f", {span(rest)} left" if rest is not None else ""
        lines.append(f"pilot {held.get('job', '')} on {held.get('nodes', '?')}, {held['places']} places{walltime}")
    if held.get("trouble"):
        lines.append(f"the queue does not answer: {held['trouble']}")
    for name, row in sorted(cluster["shards"].items()):
        if row["state"] == "queued":
            why = waits(row, now)
            lines.append(f"{name} {why}" if why.startswith("waits ") else f"{name} waits{f': {why}' if why else ''}")
    return lines
