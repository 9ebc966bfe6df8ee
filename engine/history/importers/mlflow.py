"""MLflow's SQLite store (`mlflow.db`): each experiment a segment, each run a run, its metrics as points.

The file is somebody else's database: it is opened read-only and immutable, with an untrusting schema, and every statement has
a limit on its steps; only plain tables are read, never a view.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.history.importers.base import Curves, Reading, Run, Source, cut, whole
from engine.history.importers.columns import check_mapping, commit_of, param, seconds_of, text
from engine.history.importers.curves import finish
from engine.history.importers.words import begin

_MAGIC = b"SQLite format 3\0"
_STEPS = 1_000_000
"""Steps of SQLite's machine between two looks at the clock."""

_WANTED = {
    "experiments": ("experiment_id", "name"),
    "runs": ("run_uuid", "name", "status", "start_time", "end_time", "experiment_id"),
    "metrics": ("key", "value", "timestamp", "run_uuid", "step"),
    "params": ("key", "value", "run_uuid"),
    "tags": ("key", "value", "run_uuid"),
}


class MLflow:
    name = "mlflow"
    says = "MLflow's SQLite store (mlflow.db)"

    def suits(self, name: str, head: bytes) -> float:
        return 0.9 if head.startswith(_MAGIC) else 0.0

    def read(self, source: Source) -> Reading:
        reading = Reading(self.name)
        reading.account.unit = "rows"
        check_mapping(source.mapping)
        if not source.body:
            return reading
        try:
            store = _open(source.path, source.ends)
            try:
                _Store(reading, source, store).read()
            finally:
                store.close()
        except (sqlite3.Error, OverflowError) as error:
            source.check_time()  # what was interrupted half way is no reading
            reading.account.total += 1
            reading.puzzled(reading.account.total, b"", f"SQLite cannot read on: {cut(str(error))}")
        finish(reading, source.mapping)
        return reading


def _open(path: Path, ends: float) -> sqlite3.Connection:
    """The database, read-only, with everything switched off that a hostile schema could use."""
    store = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    store.execute("PRAGMA trusted_schema = OFF")
    store.execute("PRAGMA query_only = ON")
    store.execute("PRAGMA cell_size_check = ON")
    store.execute("PRAGMA mmap_size = 0")
    store.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 16 << 20)
    store.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    store.text_factory = lambda raw: raw.decode("utf-8", "replace")
    store.set_progress_handler(lambda: int(bool(ends) and time.monotonic() > ends), _STEPS)
    return store


class _Store:
    """One pass over the tables."""

    def __init__(self, reading: Reading, source: Source, store: sqlite3.Connection) -> None:
        self.reading = reading
        self.source = source
        self.store = store
        self.runs: dict[str, Run] = {}
        self.curves: Curves = reading.curves

    def read(self) -> None:
        """Place every row of the tables that are known."""
        missing = [table for table in ("runs", "metrics") if self._columns(table) is None]
        if missing:
            self.reading.account.total += 1
            self.reading.puzzled(1, b"", f"there is no table {' and no table '.join(missing)}: this is no MLflow store")
            return
        names = {str(key): text(name) for key, name in self._rows("experiments")}
        self.reading.account.header += len(names)
        self._runs(names)
        self._metrics()
        self._facts("params")
        self._facts("tags")
        others = self._others()
        if others:
            self.reading.note(f"tables left out: {', '.join(others)}")

    def _columns(self, table: str) -> list[str] | None:
        """Columns of a plain table; None when there is none of that name."""
        asked = "SELECT type FROM sqlite_master WHERE name = ? AND type = 'table' AND rootpage > 0"
        if self.store.execute(asked, [table]).fetchone() is None:
            return None
        return [row[1] for row in self.store.execute(f"PRAGMA table_info({table})")]

    def _rows(self, table: str) -> Iterator[Sequence[Any]]:
        """Rows of a table with the wanted columns, NULL for those that it lacks; each is counted."""
        present = self._columns(table)
        if present is None:
            return
        chosen = ", ".join(name if name in present else f"NULL AS {name}" for name in _WANTED[table])
        nan = ", is_nan" if table == "metrics" and "is_nan" in present else ""
        for row in self.store.execute(f"SELECT {chosen}{nan} FROM {table} ORDER BY rowid"):
            self.reading.account.total += 1
            yield row

    def _runs(self, names: dict[str, str]) -> None:
        by_experiment: dict[str, list[Sequence[Any]]] = defaultdict(list)
        for row in self._rows("runs"):
            by_experiment[str(row[5])].append(row)
        number = 0
        for experiment, rows in by_experiment.items():
            begin(self.reading, 0, "", name=names.get(experiment, experiment))
            for uuid, name, status, start, end, _ in rows:
                number += 1
                run = None if str(uuid) in self.runs else self.reading.run(number, name=cut(text(name)))
                if run is None:
                    self.reading.puzzled(number, text(uuid), "a run that is there twice, or beyond the cap")
                    continue
                self.reading.account.run += 1
                run.status, run.t = cut(text(status), 100), seconds_of(start)
                ended = seconds_of(end)
                run.seconds = ended - run.t if ended is not None and run.t is not None else None
                self.runs[str(uuid)] = run

    def _metrics(self) -> None:
        account, curves, runs = self.reading.account, self.curves, self.runs
        for key, value, stamp, uuid, step, *nan in self._rows("metrics"):
            run = runs.get(uuid)
            name = curves.name(key) if isinstance(key, str) else None
            if run is None or name is None or not isinstance(value, int | float):
                self.reading.puzzled(
                    account.total, f"{key}={value}", "a metric without its run, its name or its number"
                )
                continue
            account.measured += 1
            t = seconds_of(stamp)
            exact = step if isinstance(step, int) else whole(step) or 0
            number = float("nan") if nan and nan[0] else float(value)
            curves.add(run.n - 1, name, exact, float("nan") if t is None else t, number)

    def _facts(self, table: str) -> None:
        """Params and tags: of their run."""
        account, mapping = self.reading.account, self.source.mapping
        seed, group = mapping.get("seed", "seed"), mapping.get("group", "group")
        for key, value, uuid in self._rows(table):
            run = self.runs.get(uuid)
            if run is None:
                self.reading.puzzled(account.total, f"{key}={value}", f"one of {table} without its run")
                continue
            account.run += 1
            if key == seed:
                run.seed = whole(value)
            if key == group:
                run.group = cut(text(value))
            if key == "mlflow.note.content":
                run.description = text(value)
            elif key == "mlflow.source.git.commit":
                run.commit = commit_of(text(value))
            elif key == "mlflow.runName":
                run.name = run.name or cut(text(value))
            elif not str(key).startswith("mlflow.") and len(run.params) < 1000:
                run.params[cut(text(key))] = param(value)

    def _others(self) -> list[str]:
        """Names of tables with rows that are not read."""
        asked = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1 LIMIT 200"
        names = [str(name) for (name,) in self.store.execute(asked)]
        names = [each for each in names if each not in _WANTED and each not in ("alembic_version", "latest_metrics")]
        return [cut(each, 40) for each in names if self._holds(each)]

    def _holds(self, table: str) -> bool:
        quoted = table.replace('"', '""')
        return self.store.execute(f'SELECT 1 FROM "{quoted}" LIMIT 1').fetchone() is not None
