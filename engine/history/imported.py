"""Writes what an importer read into the history's own tables for it (`imported.sql`), a source at a time, whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import duckdb
import orjson

from engine.history.importers.base import Account, Curves, Reading, Run
from engine.text import clean_all

IMPORTED = (
    "imports",
    "imported_segments",
    "imported_runs",
    "imported_problems",
    "imported_points",
    "imported_summaries",
)
"""The tables of imported.sql."""

_PIECE = 1_000_000
Links = Mapping[str, Mapping[str, Any]]


def put_import(con: duckdb.DuckDBPyConnection, entry: Mapping[str, Any], reading: Reading, links: Links) -> None:
    """Put an import in the place of an earlier one of its id; within the caller's transaction.

    `entry` has the fields of the event `history.imported`, with `event` and `t`; `links` is what a repository says of commits:
    `{commit: {state, commit, parent, diff}}`.
    """
    name = str(entry["id"])
    _forget(con, name)
    _insert(con, "imports", [_head(entry, reading)])
    _insert(con, "imported_segments", [_segment(name, each) for each in reading.segments])
    _insert(con, "imported_problems", [{"import": name, **asdict(each)} for each in reading.problems])
    for at in range(0, len(reading.runs), 20000):
        _insert(con, "imported_runs", [_run(name, each, links) for each in reading.runs[at : at + 20000]])
    _points(con, name, reading)


def _forget(con: duckdb.DuckDBPyConnection, name: str) -> None:
    for table in ("imported_points", "imported_summaries"):
        con.execute(f"DELETE FROM {table} WHERE starts_with(run, ?)", [f"{name}."])
    for table in ("imported_segments", "imported_problems", "imported_runs"):
        con.execute(f"DELETE FROM {table} WHERE import = ?", [name])
    con.execute("DELETE FROM imports WHERE id = ?", [name])


def _head(entry: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    more = [f"{reading.unlisted} more were not understood than are listed"] if reading.unlisted else []
    return {
        "id": entry["id"],
        "event": entry["event"],
        "t": entry["t"],
        "name": entry["name"],
        "format": entry["format"],
        "body": entry["body"],
        "size": entry["size"],
        "mapping": json.dumps(dict(entry["mapping"]), sort_keys=True),
        "who": entry["who"].get("name"),
        **asdict(reading.account),
        "runs": len(reading.runs),
        "points": len(reading.curves),
        "notes": [*reading.notes, *more],
    }


def _segment(name: str, each: Any) -> dict[str, Any]:
    return {"import": name, "segment": each.number, **{k: getattr(each, k) for k in _SEGMENT}}


_RUN = tuple(each.name for each in fields(Run))
_SEGMENT = ("name", "metric", "direction", "unit", "line")


def _run(name: str, run: Run, links: Links) -> dict[str, Any]:
    link = links.get(run.commit, {}) if run.commit else {}
    return {
        **{field: getattr(run, field) for field in _RUN},
        "id": f"{name}.{run.n}",
        "import": name,
        "commit": link.get("commit") or run.commit,
        "commit_state": link.get("state"),
        "parent": link.get("parent"),
        "diff": link.get("diff"),
        "params": orjson.dumps(clean_all(run.params)).decode() if run.params else "{}",
        "further": sorted(run.further.items()),
    }


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    import pyarrow

    schema = con.sql(f"SELECT * FROM {table} LIMIT 0").to_arrow_table().schema
    _through(con, pyarrow.Table.from_pylist(rows, schema=schema), f"INSERT INTO {table} SELECT * FROM incoming")


def _points(con: duckdb.DuckDBPyConnection, name: str, reading: Reading) -> None:
    """Points in the source's order, a million at a time; then their summaries."""
    import pyarrow

    curves: Curves = reading.curves
    if not len(curves):
        return
    runs = pyarrow.array([f"{name}.{run.n}" for run in reading.runs], pyarrow.string())
    metrics = pyarrow.array(list(curves.names), pyarrow.string())
    for at in range(0, len(curves), _PIECE):
        end = min(len(curves), at + _PIECE)
        columns = {
            "run": pyarrow.DictionaryArray.from_arrays(_longs(curves.run, at, end), runs),
            "metric": pyarrow.DictionaryArray.from_arrays(_longs(curves.metric, at, end), metrics),
            "step": _longs(curves.step, at, end),
            "t": _doubles(curves.t, at, end),
            "value": _doubles(curves.value, at, end),
            "line": pyarrow.array(range(at, end), pyarrow.int64()),
        }
        asked = (
            "INSERT INTO imported_points SELECT run, metric, step, CASE WHEN isfinite(t) THEN t END, value "
            "FROM incoming ORDER BY line"
        )
        _through(con, pyarrow.table(columns), asked)
    con.execute(_SUMMARIES, [f"{name}."])


def _longs(column: Any, at: int, end: int) -> Any:
    import pyarrow

    return pyarrow.Array.from_buffers(pyarrow.int64(), end - at, [None, pyarrow.py_buffer(column[at:end])])


def _doubles(column: Any, at: int, end: int) -> Any:
    import pyarrow

    return pyarrow.Array.from_buffers(pyarrow.float64(), end - at, [None, pyarrow.py_buffer(column[at:end])])


def _through(con: duckdb.DuckDBPyConnection, table: Any, sql: str) -> None:
    con.register("incoming", table)
    try:
        con.execute(sql)
    finally:
        con.unregister("incoming")


_SUMMARIES = """
INSERT INTO imported_summaries
SELECT
    run, metric, arg_max(value, rowid), arg_max(step, rowid), min(value) FILTER (isfinite(value)),
    max(value) FILTER (isfinite(value)), count(*), count(*) FILTER (NOT isfinite(value))
FROM imported_points
WHERE starts_with(run, ?)
GROUP BY run, metric
"""


def report(reading: Reading) -> dict[str, Any]:
    """What an import says of a source, as JSON: the account, runs by outcome, segments, what was not understood."""
    account: Account = reading.account
    outcomes: dict[str, int] = {}
    for run in reading.runs:
        outcomes[run.outcome] = outcomes.get(run.outcome, 0) + 1
    return {
        "format": reading.format,
        **asdict(account),
        "runs": len(reading.runs),
        "points": len(reading.curves),
        "outcomes": dict(sorted(outcomes.items(), key=lambda item: -item[1])),
        "segments": [
            {"segment": each.number, **{k: getattr(each, k) for k in _SEGMENT}} for each in reading.segments[:200]
        ],
        "problems": [asdict(each) for each in reading.problems],
        "unlisted": reading.unlisted,
        "notes": reading.notes,
    }
