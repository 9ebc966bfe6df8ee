"""The history of a lab in DuckDB: what SQL, curves and the ranking read. An index only; losing it loses nothing.

Notable choices:
- one connection, used by one thread; every write is one transaction, so that an index is never half an event behind;
- a batch of points and the byte offset it was read up to are committed together, so each line is counted exactly once,
  whenever the engine is killed;
- a file that cannot be opened is set aside and an empty one made: the caller sees `recovered` and rebuilds;
- the file is opened only here and only through DuckDB: opening it a second time in this process would drop its lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import duckdb

from engine.history.database import make_tables, open_database, told
from engine.history.imported import Links, put_import
from engine.history.importers.base import Reading
from engine.history.keys import Keys
from engine.history.measured import Measured
from engine.history.tables import (
    TABLES,
    Batch,
    Record,
    event_record,
    fact_records,
    records,
    verdict_record,
)
from engine.types import Row


class RankedShard(TypedDict):
    seed: int
    rung: str
    outcome: str | None
    metric: float | None


class Ranked(TypedDict):
    """One experiment of the ranking, on the `board` of those that it can be compared with; `effect` and `interval` in the
    metric's unit, > 0 is better than the trunk."""

    id: str
    board: str
    hypothesis: str
    verdict: str | None
    effect: float | None
    interval: list[float] | None
    n: int | None
    evidence: float | None
    bar: float | None
    sigma: float | None
    mode: str | None
    shrunk: float | None
    minutes: float | None
    shards: list[RankedShard]


class Store:
    """The open history. Not thread-safe: all calls come from one thread. Use `Store.open`."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, recovered: str | None) -> None:
        self.path = path
        self.recovered = recovered
        """Why an empty history was made in place of the one that was there, or None; then rebuild."""
        self.version = 0
        """Counts the writes since opening: equal numbers mean equal contents."""
        self._con = connection
        self._measured = Measured(connection)
        self._keys = Keys(connection)
        self._schemas: dict[str, Any] = {}
        self._indexed = 0

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the history at `path`, or make it.

        A damaged file, or one of another schema, is set aside (see `recovered`). Raises StoreError when another process
        has it open or its directory cannot be written.
        """
        con, recovered = open_database(path)
        store = cls(path, con, recovered)
        store._load()
        return store

    # --- writing -----------------------------------------------------------------------------------------------------

    @property
    def indexed(self) -> int:
        """Number of the last ledger event that the history holds; 0 when it holds none."""
        return self._indexed

    def index(self, rows: Sequence[Row], events: Sequence[Mapping[str, Any]], upto: int) -> None:
        """Put `rows` in the place of older ones with their ids, and append `events`, in one transaction.

        `events` are ledger lines (`n`, `t`, `type`, `data`) in order, up to and including number `upto`; those already
        here are skipped, and so are rows older (by `seq`) than what is here, so that indexing again changes nothing.
        Raises ValueError when an event between the last one here and `upto` is missing.
        """
        fresh = [event for event in events if self._indexed < event["n"] <= upto]
        if [event["n"] for event in fresh] != list(range(self._indexed + 1, upto + 1)):
            got = f"{fresh[0]['n']} to {fresh[-1]['n']}" if fresh else "none"
            raise ValueError(f"events {self._indexed + 1} to {upto} are wanted and {got} given: index without gaps")
        arms = {row["id"]: row for row in rows if row["kind"] == "experiment"}
        reached = [event for event in fresh if event["type"] == "verdict.reached"]
        tables = records(rows)
        with self._transaction():
            setups, contended = self._keys.label(tables.get("shards", []), fresh)
            for table, rows_of in tables.items():
                self._replace(table, rows_of)
            if contended:
                self._con.execute("UPDATE shards SET contended = true WHERE id IN (SELECT unnest(?))", [contended])
            self._insert("setups", setups)
            self._insert("events", [event_record(event) for event in fresh])
            self._insert("verdicts", [verdict_record(each, arms.get(each["data"]["experiment"])) for each in reached])
            self._con.execute("UPDATE meta SET number = ? WHERE key = 'indexed'", [max(upto, self._indexed)])
        self._indexed = max(upto, self._indexed)

    def put_import(self, entry: Mapping[str, Any], reading: Reading, links: Links) -> None:
        """Put a history that another program made in the place of an earlier reading of it, in one transaction."""
        with self._transaction():
            put_import(self._con, entry, reading, links)

    def append(self, batches: Sequence[Batch]) -> tuple[str, ...]:
        """Append points, summaries and byte offsets of `batches` in one transaction.

        A batch that does not start where its shard's last one ended is left out whole; the shards of such batches are
        returned, and are to be read again from `offsets()`.
        """
        taken = self._measured.take(batches)
        if taken.reads:
            facts = [row for shard, summary in taken.summaries.items() for row in fact_records(shard, summary)]
            with self._transaction():
                tallies = self._measured.write(taken)
                self._replace_facts(facts)
            self._measured.keep(taken, tallies)
        return tuple(taken.refused)

    def forget(self, shard: str) -> None:
        """Drop everything measured of `shard` and its offset, so that its file can be read again from the start."""
        with self._transaction():
            self._measured.forget(shard)
        self._measured.drop(shard)

    def clear(self) -> None:
        """Empty every table, to rebuild from the ledger and the shards' files."""
        with self._transaction():
            for table in TABLES:
                self._con.execute(f"DROP TABLE IF EXISTS {table}")
            make_tables(self._con)
        self._load()

    def checkpoint(self) -> int:
        """Write everything into the file itself, for a copy of it by another process; returns `version`."""
        with told():
            self._con.execute("CHECKPOINT").fetchall()
        return self.version

    def close(self) -> None:
        """Close the file; the store is of no use afterwards."""
        self._con.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def offsets(self) -> dict[str, int]:
        """Shard to the byte up to which its file was read."""
        return {shard: read.offset for shard, read in self._measured.reads.items()}

    def point_counts(self) -> dict[str, tuple[int, int]]:
        """Shard to the byte up to which its file was read and the number of values that the history holds of it."""
        found = self._ask(
            "SELECT o.shard, o.byte_offset, coalesce(p.values, 0) FROM offsets o "
            "LEFT JOIN (SELECT shard, count(*) AS values FROM points GROUP BY shard) p USING (shard)"
        )
        return {shard: (int(offset), int(count)) for shard, offset, count in found}

    def metric_names(self, shard: str) -> list[str]:
        """Names of everything that `shard` streamed, sorted."""
        return [name for (name,) in self._ask("SELECT metric FROM summaries WHERE shard = ? ORDER BY 1", [shard])]

    def latest(self, shard: str) -> dict[str, tuple[int, float]]:
        """Metric to the step and value that `shard` wrote last; the value may be NaN or infinite."""
        found = self._ask("SELECT metric, last_step, last FROM summaries WHERE shard = ? ORDER BY 1", [shard])
        return {metric: (step, value) for metric, step, value in found}

    def speeds(self) -> dict[str, float]:
        """Shard to the last tokens a second that it wrote, where it wrote any."""
        asked = "SELECT shard, last FROM summaries WHERE metric = 'tokens_per_s' AND isfinite(last)"
        return {str(shard): float(last) for shard, last in self._ask(asked)}

    def answer(self, sql: str, params: Mapping[str, object]) -> list[dict[str, Any]]:
        """Rows of one of the questions that ship with the program, by column. A person's SQL goes to `Console`."""
        with told():
            found = self._con.execute(sql, dict(params))
            names = [each[0] for each in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def facts(self, shard: str) -> dict[str, float | str]:
        """What `shard` said of itself: tokens, parameters, peak memory in bytes and the like."""
        found = self._ask("SELECT key, number, text FROM shard_facts WHERE shard = ? ORDER BY 1", [shard])
        return {key: number if text is None else text for key, number, text in found}

    def curve(
        self, shards: Sequence[str], metric: str, points: int = 500
    ) -> dict[str, tuple[list[int], list[float | None]]]:
        """Steps and values of `metric` per shard, at most `points` (no fewer than 4) each; a shard without any is left out.

        Where a step was written twice the later value counts. Thinning keeps the first and the last step and, of each
        stretch between them, the lowest and the highest value, or the lowest and a non-finite one (None).
        """
        if not shards:
            return {}
        points = max(4, points)
        bounds = {"points": points, "stretches": (points - 2) // 2}
        found = self._ask(_CURVE, {"shards": list(shards), "metric": metric, **bounds})
        curves: dict[str, tuple[list[int], list[float | None]]] = {}
        for shard, step, value in found:
            steps, values = curves.setdefault(shard, ([], []))
            steps.append(step)
            values.append(value)
        return curves

    def rank(self, limit: int = 20) -> list[Ranked]:
        """Experiments by board, the one that the lab now works on first, best first on each, with the latest shard of every
        seed and rung; see the view `leaderboard`.

        A smoke is listed where it failed, which is then all that there is."""
        best = self._ask(
            "SELECT experiment, board, hypothesis, verdict, effect, lo, hi, n, evidence, bar, sigma, mode, shrunk, minutes "
            "FROM leaderboard ORDER BY board_place, rank LIMIT ?",
            [limit],
        )
        ids = [row[0] for row in best]
        shards: dict[str, list[RankedShard]] = {each: [] for each in ids}
        for experiment, seed, rung, outcome, metric in self._ask(
            "SELECT experiment, seed, rung, outcome, metric FROM shards WHERE experiment IN (SELECT unnest(?)) "
            "AND NOT (smoke AND coalesce(outcome, 'finished') = 'finished') AND retune IS NULL "
            "QUALIFY row_number() OVER (PARTITION BY experiment, rung, seed ORDER BY attempt DESC) = 1 "
            "ORDER BY rung, seed",
            [ids],
        ):
            shards[experiment].append({"seed": seed, "rung": rung, "outcome": outcome, "metric": metric})
        return [
            {
                "id": id,
                "board": board,
                "hypothesis": hypothesis,
                "verdict": verdict,
                "effect": effect,
                "interval": None if lo is None else [lo, hi],
                "n": n,
                "evidence": evidence,
                "bar": bar,
                "sigma": sigma,
                "mode": mode,
                "shrunk": shrunk,
                "minutes": minutes,
                "shards": shards[id],
            }
            for id, board, hypothesis, verdict, effect, lo, hi, n, evidence, bar, sigma, mode, shrunk, minutes in best
        ]

    def digest(self) -> dict[str, str]:
        """Table to a hash of its contents that does not depend on the order of its rows."""
        out = {}
        for table in TABLES:
            ((count, total),) = self._ask(f"SELECT count(*), sum(hash({table})::HUGEINT) FROM {table}")
            out[table] = f"{count}:{int(total or 0):x}"
        return out

    # --- inside ------------------------------------------------------------------------------------------------------

    def _ask(self, sql: str, params: object = None) -> list[tuple[Any, ...]]:
        with told():
            return self._con.execute(sql, params).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with told():
            self._con.execute("BEGIN")
            try:
                yield
            except BaseException:
                self._con.execute("ROLLBACK")
                raise
            self._con.execute("COMMIT")
        self.version += 1

    def _load(self) -> None:
        self._keys = Keys(self._con)
        with told():
            self._measured.load()
        ((self._indexed,),) = self._ask("SELECT number FROM meta WHERE key = 'indexed'")

    @contextmanager
    def _incoming(self, table: Any) -> Iterator[None]:
        """An Arrow table under the name `incoming`, for as long as the block runs."""
        self._con.register("incoming", table)
        try:
            yield
        finally:
            self._con.unregister("incoming")

    def _arrow(self, table: str, rows: Sequence[Record]) -> Any:
        """`rows` as an Arrow table with the very columns of `table`."""
        import pyarrow

        if table not in self._schemas:
            self._schemas[table] = self._con.sql(f"SELECT * FROM {table} LIMIT 0").to_arrow_table().schema
        return pyarrow.Table.from_pylist(rows, schema=self._schemas[table])

    def _insert(self, table: str, rows: Sequence[Record]) -> None:
        if rows:
            with self._incoming(self._arrow(table, rows)):
                self._con.execute(f"INSERT INTO {table} SELECT * FROM incoming")

    def _replace(self, table: str, rows: Sequence[Record]) -> None:
        with self._incoming(self._arrow(table, rows)):
            self._con.execute(f"DELETE FROM {table} USING incoming i WHERE {table}.id = i.id AND {table}.seq <= i.seq")
            self._con.execute(
                f"INSERT INTO {table} SELECT * FROM incoming WHERE id NOT IN (SELECT id FROM {table} WHERE id IS NOT NULL)"
            )

    def _replace_facts(self, rows: Sequence[Record]) -> None:
        if rows:
            with self._incoming(self._arrow("shard_facts", rows)):
                self._con.execute(
                    "DELETE FROM shard_facts USING incoming i WHERE shard_facts.shard = i.shard AND shard_facts.key = i.key"
                )
                self._con.execute("INSERT INTO shard_facts SELECT * FROM incoming")


# rowid grows with every line that was appended, so it tells which of two values of a step is the later one
_CURVE = """
WITH latest AS (
    SELECT shard, step, arg_max(value, rowid) AS value
    FROM points
    WHERE metric = $metric AND shard IN (SELECT unnest($shards))
    GROUP BY shard, step
), placed AS (
    SELECT
        shard, step, value, isfinite(value) AS finite,
        row_number() OVER w AS place, count(*) OVER (PARTITION BY shard) AS total
    FROM latest
    WINDOW w AS (PARTITION BY shard ORDER BY step)
), stretched AS (
    SELECT *, (place - 1) * $stretches // total AS stretch FROM placed
), kept AS (
    SELECT
        shard,
        arg_min(step, (value, step)) FILTER (finite) AS low,
        arg_max(step, (value, -step)) FILTER (finite) AS high,
        min(step) FILTER (NOT finite) AS broken
    FROM stretched
    GROUP BY shard, stretch
)
SELECT s.shard, s.step, CASE WHEN s.finite THEN s.value END AS value
FROM stretched s
WHERE s.total <= $points OR s.place = 1 OR s.place = s.total
    OR (s.shard, s.step) IN (FROM (SELECT shard, unnest([low, coalesce(broken, high)]) FROM kept) k(shard, step)
                             WHERE k.step IS NOT NULL)
ORDER BY s.shard, s.step
"""
