"""What runs have to agree in to be compared, put into the rows of shards as they are indexed.

A shard's own events say under which setup it was started; on which machine, by which version and for which metric, the events
before them do. A row that changes later keeps what it had.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb

from engine.history.tables import Record, storable

KEYS = ("setup", "host", "engine", "metric_of", "budget", "environment", "board", "contended")
CONTENDED = "contended"
"""Rule of the finding that something else had the machine."""

_CONTEXT = ("engine.started", "config.loaded")


class Keys:
    """Follows the events that say how shards are run. One of them for an open history; a transaction that fails changes
    nothing that matters, since the same events come again."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self._recalled = False
        self._host: str | None = None
        self._engine: str | None = None
        self._metric: str | None = None
        self._setups: dict[tuple[str, str], Mapping[str, Any]] = {}

    def label(self, shards: Sequence[Record], events: Iterable[Mapping[str, Any]]) -> tuple[list[Record], list[str]]:
        """Fill in the keys of `shards`, records of rows that changed by `events`.

        Returns the records for the table `setups`, and shards that turned out to be contended.
        """
        labels, setups, contended = dict[str, Record](), list[Record](), list[str]()
        for event in events:
            kind, data = event["type"], event["data"]
            if kind in _CONTEXT:
                self._recall()
                self._note(kind, data)
            elif kind == "setup.noted":
                self._recall()
                self._setups[data["setup"], data["rung"]] = data
                setups.append({**storable(data), "event": event["n"], "t": event["t"]})
            elif kind == "shard.intended":
                self._recall()
                labels[data["shard"]] = self._label(data)
            elif kind == "finding.noted" and data["rule"] == CONTENDED:
                contended.append(data["about"])
        earlier = self._earlier([row["id"] for row in shards if row["id"] not in labels])
        for row in shards:
            row.update(labels.get(row["id"]) or earlier.get(row["id"]) or unknown(row))
        return setups, contended

    def _note(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "engine.started":
            self._host, self._engine = data.get("host"), data.get("version")
        else:
            self._metric = data["lab"].get("metric")

    def _recall(self) -> None:
        """Read what earlier engines had noted, once, before the first event that builds on it."""
        if self._recalled:
            return
        self._recalled = True
        found = self._con.execute(
            "SELECT type, arg_max(data, n) FROM events WHERE type IN ('engine.started', 'config.loaded') GROUP BY type"
        ).fetchall()
        for kind, data in found:
            self._note(kind, json.loads(data))
        result = self._con.execute("SELECT * FROM setups ORDER BY event")
        names = [each[0] for each in result.description or ()]
        for row in result.fetchall():
            noted = dict(zip(names, row, strict=True))
            self._setups[noted["setup"], noted["rung"]] = noted

    def _label(self, data: Mapping[str, Any]) -> Record:
        noted = self._setups.get((data["setup"], data["rung"]), {})
        found: Record = {
            "setup": data["setup"],
            "host": noted.get("host") or self._host,
            "engine": self._engine,
            "metric_of": noted.get("metric") or self._metric,
            "budget": noted.get("budget"),
            "environment": environment(noted),
            "contended": False,
        }
        label: Record = storable(found)
        return {**label, "board": board(label, data["rung"])}

    def _earlier(self, ids: list[str]) -> dict[str, Record]:
        """The keys that shards have in the table."""
        if not ids:
            return {}
        found = self._con.execute(
            f"SELECT id, {', '.join(KEYS)} FROM shards WHERE id IN (SELECT unnest(?))", [ids]
        ).fetchall()
        return {id: dict(zip(KEYS, row, strict=True)) for id, *row in found}


def environment(noted: Mapping[str, Any]) -> str | None:
    """Interpreter, torch and GPU in words; None where nothing was noted."""
    parts = [f"{name} {noted[name]}" for name in ("python", "torch") if noted.get(name)]
    parts += [str(noted["gpu"])] if noted.get("gpu") else []
    return ", ".join(parts) or None


def board(label: Mapping[str, Any], rung: str) -> str:
    """The short name of everything that a comparison needs to agree in, as in `val_bpb/screen/300/1a2b3c4d/9f3e`."""
    where = label.get("environment")
    known = hashlib.sha256(where.encode()).hexdigest()[:4] if where else None
    parts = (label.get("metric_of"), rung, label.get("budget"), (label.get("setup") or "")[:8], known)
    return "/".join(part or "?" for part in parts)


def unknown(row: Mapping[str, Any]) -> Record:
    """The keys of a shard that no event tells of."""
    return {"board": board({}, str(row["rung"])), "contended": False}
