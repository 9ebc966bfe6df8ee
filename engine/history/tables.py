"""From rows of the read model, ledger events and metric batches to the columns of the history's tables; pure.

A row kind is one table; what is nested in a row (a verdict, a person) is laid out flat, since a column can be asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from engine.history.imported import IMPORTED
from engine.shortlist import shrunk_gain
from engine.types import Claim, Row

Record = dict[str, Any]

ROW_TABLES: Mapping[str, str] = {
    "lab": "lab",
    "proposal": "proposals",
    "experiment": "experiments",
    "shard": "shards",
    "decision": "decisions",
    "finding": "findings",
    "round": "rounds",
    "call": "calls",
    "brief": "briefs",
    "reading": "readings",
    "audit": "audits",
    "retune": "retunes",
}
"""Kind of a read-model row to the table that holds it."""

TABLES = (
    *ROW_TABLES.values(),
    "setups",
    "verdicts",
    "events",
    "points",
    "summaries",
    "shard_facts",
    "offsets",
    "meta",
    *IMPORTED,
)

_VERDICT = (
    *("verdict", "rung", "effect", "lo", "hi", "se", "n", "sentence"),
    *("evidence", "bar", "sigma", "mode", "shrunk", "seconds", "pairing"),
)


class Point(Protocol):
    """One line of a metrics file: every number that the shard wrote at one step; `t` in seconds since the epoch."""

    @property
    def step(self) -> int: ...
    @property
    def t(self) -> float | None: ...
    @property
    def values(self) -> Mapping[str, float]: ...


class Batch(Protocol):
    """What was read of one shard's file between the byte offsets `start` and `offset`; `garbage` lines were in it."""

    @property
    def shard(self) -> str: ...
    @property
    def points(self) -> Sequence[Point]: ...
    @property
    def summary(self) -> Mapping[str, float | str]: ...
    @property
    def start(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def garbage(self) -> int: ...


def _experiment(row: Mapping[str, Any]) -> Record:
    verdict = row["verdict"] or {}
    flat = {name: verdict.get(name) for name in _VERDICT if name != "rung"}
    verdict_rung, gain = verdict.get("rung"), shrunk_gain(row)
    return {
        **row,
        **flat,
        **_bases(verdict.get("bases")),
        "verdict_rung": verdict_rung,
        "shrunk": gain,
        **_signoff(row),
        **_bundle(row),
        **claimed(row),
    }


def claimed(row: Mapping[str, Any]) -> Record:
    """What an experiment claims, and whether it is a control."""
    return {"control": bool(row.get("control")), "claim": row.get("claims") or Claim.GAIN.value}


def _signoff(row: Mapping[str, Any]) -> Record:
    off = row.get("signoff") or {}
    return {
        "signoff": off.get("state"),
        "signoff_sentence": off.get("sentence"),
        "headline": off.get("mean"),
        "headline_lo": off.get("lo"),
        "headline_hi": off.get("hi"),
        "headline_n": off.get("n"),
        "headline_pairs": off.get("pairs"),
    }


def _bundle(row: Mapping[str, Any]) -> Record:
    found = row.get("bundle") or {}
    return {"bundle": found.get("parts"), "promised": found.get("promised")}


def _bases(found: Mapping[str, Any] | None) -> Record:
    """Columns of the bases on which an experiment and its trunk do not cost the same."""
    found = found or {}
    flat: Record = {"compare": found.get("compare"), "kappa": found.get("kappa")}
    for basis in ("tokens", "flops", "time"):
        on = found.get(basis) or {}
        flat |= {f"{basis}_ratio": on.get("ratio"), f"effect_{basis}": on.get("effect")}
    return flat


def _shard(row: Mapping[str, Any]) -> Record:
    kinds = {name: bool(row.get(name)) for name in ("smoke", "canary", "fresh")}
    return {
        **row,
        "sources": sorted(row["sources"].items()),
        "further": sorted(row.get("further", {}).items()),
        **kinds,
    }


def _decision(row: Mapping[str, Any]) -> Record:
    who = row["who"]
    person = {
        "who": who.get("name"),
        "who_kind": who.get("kind"),
        "os_user": who.get("os_user"),
        "host": who.get("host"),
    }
    return {**row, **person, "t": row["at"]}


def _retune(row: Mapping[str, Any]) -> Record:
    return {**row, "who": row["who"].get("name")}


def _finding(row: Mapping[str, Any]) -> Record:
    word = row.get("acknowledged") or {}
    said = {
        "acknowledged_by": word.get("who", {}).get("name"),
        "acknowledged_why": word.get("why"),
        "acknowledged": word.get("at"),
    }
    return {**row, "t": row["at"], "evidence": sorted(row.get("evidence", {}).items()), **said}


def _audit(row: Mapping[str, Any]) -> Record:
    pairs = [
        {
            "seed": each["seed"],
            "trunk_then": each["trunk"],
            "trunk_now": each["candidate"],
            "difference": each["difference"],
        }
        for each in row["pairs"]
    ]
    return {**row, "trunk_then": row["then"], "trunk_now": row["now"], "n": len(pairs), "pairs": pairs}


def _lab(row: Mapping[str, Any]) -> Record:
    known = row.get("detectors") or {}
    return {**row, "detectors_active": known.get("active"), "detectors_asleep": known.get("asleep")}


_FLATTEN: Mapping[str, Callable[[Mapping[str, Any]], Record]] = {
    "lab": _lab,
    "experiment": _experiment,
    "shard": _shard,
    "decision": _decision,
    "finding": _finding,
    "audit": _audit,
    "retune": _retune,
}


def records(rows: Iterable[Row]) -> dict[str, list[Record]]:
    """Table to its records; of several rows with the same id, the last one counts."""
    tables: dict[str, dict[str, Record]] = {}
    for row in rows:
        kind = row["kind"]
        flatten = _FLATTEN.get(kind, dict)
        tables.setdefault(ROW_TABLES[kind], {})[row["id"]] = storable(flatten(row))
    return {table: list(by_id.values()) for table, by_id in tables.items()}


def event_record(event: Mapping[str, Any]) -> Record:
    """A ledger event for the table `events`; its data becomes JSON text with sorted keys."""
    data = json.dumps(event["data"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"n": event["n"], "t": event["t"], "type": event["type"], "data": storable(data)}


def verdict_record(event: Mapping[str, Any], experiment: Mapping[str, Any] | None = None) -> Record:
    """A `verdict.reached` event for the table `verdicts`, with what the experiment's row says of it, where that is at hand."""
    data: Record = storable(event["data"])
    flat = {name: data.get(name) for name in (*_VERDICT, "experiment", "baseline")}
    more = {"pairing": flat["pairing"] or None, "event": event["n"], "t": event["t"]}
    return {**flat, **_bases(data.get("bases")), **more, **(claimed(experiment) if experiment else {})}


def storable(value: Any) -> Any:
    """`value` with what no UTF-8 text can hold (lone surrogates, from JSON escapes) replaced by a question mark."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {storable(key): storable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(storable(each) for each in value)
    return value


def fact_records(shard: str, summary: Mapping[str, float | str]) -> list[Record]:
    """A shard's summary for the table `shard_facts`: a number or a text for each key."""
    out: list[Record] = []
    for key, value in summary.items():
        kind: Record = {"text": storable(value)} if isinstance(value, str) else {"number": number(value)}
        out.append({"shard": storable(shard), "key": storable(key), **kind})
    return out


def number(value: Any) -> float:
    """A float; an integer beyond its range becomes an infinity of the same sign."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
