"""Writes what shards measured: points, a tally of each series, and the byte up to which each file was read.

What the tables say of a shard that is being read is known in memory too, so that a transaction is three statements: one that
adds points, one that replaces tallies, one that moves offsets. It is written after the transaction, never before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from engine.history.columns import PointColumns, Tally
from engine.history.tables import Batch, storable

KNOWN = 20_000
"""Tallies that are kept in memory; beyond that all of them are let go, and read again when they are needed."""

MEASURED_TABLES = ("points", "summaries", "shard_facts", "offsets")


@dataclass(frozen=True, slots=True)
class Read:
    """How far a shard's file was read, in bytes, and how many of its lines were garbage."""

    offset: int = 0
    garbage: int = 0


@dataclass(slots=True)
class Taken:
    """What one transaction is going to write of several batches; `refused` are shards whose batch did not fit."""

    columns: PointColumns = field(default_factory=PointColumns)
    reads: dict[str, Read] = field(default_factory=dict)
    summaries: dict[str, dict[str, float | str]] = field(default_factory=dict)
    refused: dict[str, None] = field(default_factory=dict)


class Measured:
    """The measured tables of an open history. `write` and `forget` belong into a transaction, `keep` after it."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        self.reads: dict[str, Read] = {}
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._loaded: set[str] = set()  # shards of which all tallies are in memory

    def load(self) -> None:
        """Read how far every file was read; let go of all else."""
        found = self._con.execute("SELECT shard, byte_offset, garbage FROM offsets").fetchall()
        self.reads = {shard: Read(offset, garbage) for shard, offset, garbage in found}
        self._let_go()

    def take(self, batches: Iterable[Batch]) -> Taken:
        """What there is to write of `batches`. One that does not start where its shard's last one ended is left out whole."""
        taken = Taken()
        for batch in batches:
            read = taken.reads.get(batch.shard) or self.reads.get(batch.shard) or Read()
            if batch.start != read.offset or batch.offset < batch.start:
                taken.refused[batch.shard] = None
                continue
            odd = taken.columns.add(batch.shard, batch.points)
            taken.reads[batch.shard] = Read(batch.offset, read.garbage + batch.garbage + odd)
            if batch.summary:
                taken.summaries.setdefault(batch.shard, {}).update(batch.summary)
        return taken

    def write(self, taken: Taken) -> dict[tuple[str, str], Tally]:
        """Write points, tallies and offsets; returns the tallies as they are now, for `keep`."""
        tallies = dict[tuple[str, str], Tally]()
        if taken.columns.values:
            self._con.from_arrow(taken.columns.table()).insert_into("points")
            self._look_up({shard for shard, _ in taken.columns.tallies})
            for key, more in taken.columns.tallies.items():
                known = self._tallies.get(key)
                tallies[key] = more if known is None else known.then(more)
            self._write_tallies(tallies)
        self._write_reads(taken.reads)
        return tallies

    def keep(self, taken: Taken, tallies: Mapping[tuple[str, str], Tally]) -> None:
        """Take note of what `write` wrote, now that it is committed."""
        self.reads.update(taken.reads)
        self._tallies.update(tallies)
        if len(self._tallies) > KNOWN:
            self._let_go()

    def forget(self, shard: str) -> None:
        """Drop everything measured of `shard` from the tables."""
        for table in MEASURED_TABLES:
            self._con.execute(f"DELETE FROM {table} WHERE shard = ?", [storable(shard)])

    def drop(self, shard: str) -> None:
        """Take note that `shard` was forgotten."""
        self.reads.pop(shard, None)
        self._let_go()

    def _let_go(self) -> None:
        self._tallies.clear()
        self._loaded.clear()

    def _look_up(self, shards: set[str]) -> None:
        """Read the tallies of shards that were read before and are not in memory."""
        wanted = [shard for shard in shards - self._loaded if shard in self.reads]
        if wanted:
            found = self._con.execute(
                "SELECT shard, metric, last, last_step, min, count, nonfinite FROM summaries "
                "WHERE shard IN (SELECT unnest(?))",
                [wanted],
            ).fetchall()
            self._tallies |= {(shard, metric): Tally(*row) for shard, metric, *row in found}
        self._loaded |= shards

    def _write_tallies(self, tallies: Mapping[tuple[str, str], Tally]) -> None:
        new = [key for key in tallies if key not in self._tallies]
        old = [key for key in tallies if key in self._tallies]
        for sql, keys in ((_INSERT_TALLIES, new), (_UPDATE_TALLIES, old)):
            if keys:
                rows = [(*key, each.last, each.step, each.low, each.count, each.nonfinite)
                        for key, each in ((key, tallies[key]) for key in keys)]  # fmt: skip
                self._con.execute(sql, _columns(rows))

    def _write_reads(self, reads: Mapping[str, Read]) -> None:
        new = [(shard, read.offset, read.garbage) for shard, read in reads.items() if shard not in self.reads]
        old = [(shard, read.offset, read.garbage) for shard, read in reads.items() if shard in self.reads]
        for sql, rows in ((_INSERT_READS, new), (_UPDATE_READS, old)):
            if rows:
                self._con.execute(sql, _columns(rows))


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    """The rows as one list a column, which is what a statement takes for each `unnest(?)`."""
    return [list(column) for column in zip(*rows, strict=True)]


_INSERT_TALLIES = (
    "INSERT INTO summaries SELECT unnest(?), unnest(?), unnest(?), unnest(?), unnest(?), unnest(?), unnest(?)"
)
_UPDATE_TALLIES = """
UPDATE summaries SET last = i.last, last_step = i.last_step, min = i.min, count = i.count, nonfinite = i.nonfinite
FROM (SELECT unnest(?) AS shard, unnest(?) AS metric, unnest(?) AS last, unnest(?) AS last_step, unnest(?) AS min,
             unnest(?) AS count, unnest(?) AS nonfinite) i
WHERE summaries.shard = i.shard AND summaries.metric = i.metric
"""
_INSERT_READS = "INSERT INTO offsets SELECT unnest(?), unnest(?), unnest(?)"
_UPDATE_READS = """
UPDATE offsets SET byte_offset = i.byte_offset, garbage = i.garbage
FROM (SELECT unnest(?) AS shard, unnest(?) AS byte_offset, unnest(?) AS garbage) i WHERE offsets.shard = i.shard
"""
