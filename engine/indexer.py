"""Keeps the DuckDB index and the live rows up with the ledger and with what shards write; rebuilds the index from them.

The index runs behind on purpose: the ledger never waits for it. After a crash it goes on from the event number and the byte
offsets that it committed itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from engine.core import Core, now
from engine.files import read_regular
from engine.history.database import StoreDamaged, StoreError, speaks_of_damage
from engine.history.importers import Reading
from engine.history.store import Store
from engine.history.tables import TABLES, Batch
from engine.importing import index_imports
from engine.ledger import Event
from engine.live import Live
from engine.text import clean
from engine.watch.parse import Parser
from engine.watch.tail import LIMIT, Tailer
from engine.watch.tail import Batch as Tailed

log = logging.getLogger("engine")
CHUNK = 1 << 20
AGAIN_S = 5.0
CHECK_AFTER_S = 2.0
"""Seconds after the start at which the whole history is read once, to find damage before somebody's question does."""
ROWS = 1 << 22
"""Rows of a table that are checked in one go, a tenth of a second's work, before others may ask."""
DOUBT_S = 10.0
"""Seconds within which a second hint at damage is not followed up: anybody can write one into a query."""
GATHER_S = 1.0
MOST_WARNINGS = 200
GROUP = 200


@dataclass(frozen=True, slots=True)
class Read:
    """A stretch of a metrics file, parsed: fits `history.tables.Batch`."""

    shard: str
    points: list[Any]
    summary: dict[str, float | str]
    start: int
    offset: int
    garbage: int


class Indexer:
    """Feeds the store from the ledger and from the tailer."""

    def __init__(
        self,
        core: Core,
        tailer: Tailer,
        live: Live,
        metrics_file: Callable[[str], Path],
        make_parser: Callable[[str], Parser],
    ) -> None:
        self.core = core
        self.tailer = tailer
        self.live = live
        self.metrics_file = metrics_file
        self.make_parser = make_parser
        self.offsets: dict[str, int] = {}
        self._over: set[str] = set()  # shards whose file is read no further, whatever is in it now
        self._left_out = False
        self.ready = asyncio.Event()  # what was written before this engine began is indexed
        self.news = asyncio.Event()  # live rows may have changed
        self.watcher: Callable[[Batch], Awaitable[None]] | None = None  # is told of each batch as it comes
        self.readings: dict[str, Reading] = {}  # imports that were read just now, to be indexed, by id
        self._wake = asyncio.Event()
        self._indexed = 0
        self._pending: list[Batch] = []
        self._due = asyncio.Event()
        self._busy = asyncio.Lock()
        self._mending = asyncio.Lock()
        self._mended = self._doubted = -math.inf  # of the loop's clock
        core.listeners.append(self._wake.set)

    async def start(self) -> None:
        """Bring the index up to where the last engine left off; until then SQL waits (`ready`)."""
        try:
            await self._resume()
        except StoreError as error:
            self._complain(error)
        self.ready.set()

    async def _resume(self) -> None:
        self._indexed = self.core.store.indexed
        if self._indexed > self.core.state.head:
            await self.rebuild()  # the index has events that the ledger does not: it belongs to another past
            return
        self.offsets = await self.core.index(Store.offsets)
        await self._catch_up_all([shard for shard in self.core.state.shards if shard not in self.core.state.live])

    async def run(self) -> None:
        """Index events and rows as they come, until cancelled; an index that was lost is made again."""
        checking = asyncio.create_task(self._check_later())
        try:
            while True:
                self._wake.clear()
                try:
                    await self.flush()
                    well = not self.core.damaged
                except StoreError as error:
                    self._complain(error)
                    well = False
                if not well:
                    lately = asyncio.get_running_loop().time() < self._mended + AGAIN_S
                    if lately or not self.core.damaged:  # what was lost for the first time is made again at once
                        await asyncio.sleep(AGAIN_S)
                    self._wake.set()
                await self._wake.wait()
        finally:
            checking.cancel()

    async def _check_later(self) -> None:
        await asyncio.sleep(CHECK_AFTER_S)
        await self.check()

    async def check(self) -> None:
        """Read all that the history holds, a piece at a time; what cannot be read is set aside and made again."""
        try:
            for table in TABLES:
                at, rows = 0, 1
                while rows:
                    sql = f"SELECT count(*) AS rows, sum(hash(x)::HUGEINT) FROM {table} x WHERE rowid >= $a AND rowid < $b"
                    piece = partial(Store.answer, sql=sql, params={"a": at, "b": at + ROWS})
                    rows, at = (await self.core.index(piece))[0]["rows"], at + ROWS
        except StoreError as error:
            if not self.core.damaged or isinstance(error, StoreDamaged):  # else it is being made anew, and read by that
                self._complain(error)

    async def doubt(self, said: str) -> None:
        """Somebody who reads a copy of the history was told this by the database. Where it speaks of damage, the history
        itself is read anew from the disk, and mended where that is so."""
        now = asyncio.get_running_loop().time()
        if not speaks_of_damage(said) or now < self._doubted + DOUBT_S:
            return
        self._doubted = now
        try:
            await self.core.reopen_index()
        except StoreError as error:
            self._complain(error)
        await self.check()

    async def follow(self) -> None:
        """Take batches from the tailer, for the live rows and for the index, until cancelled."""
        async for found in self.tailer.rounds():
            for batch in found:
                shard = self.live.shards.get(batch.shard)
                if shard is not None:
                    shard.feed(batch.points, batch.summary, batch.garbage)
                if batch.note or batch.ignored:
                    self._note(batch)
            self.news.set()
            if self.watcher is not None:
                for batch in found:
                    await self.watcher(batch)
            if not self._pending:
                asyncio.get_running_loop().call_later(GATHER_S, self._due.set)
            self._pending += found

    def _note(self, batch: Tailed) -> None:
        """Say what is not read of a shard's file, and once that values are left out: most runs make the same mistake."""
        if batch.note:
            self._over.add(batch.shard)
            self._warn(clean(f"{batch.shard}: {batch.note}"))
        if batch.ignored and not self._left_out:
            self._left_out = True
            self._warn(
                f"{batch.shard}: values are left out of its lines that are no numbers, or one name too many; the same may "
                "be so of other runs (docs/logging.md)"
            )

    def _warn(self, sentence: str) -> None:
        if sentence not in self.core.warnings and len(self.core.warnings) < MOST_WARNINGS:
            log.warning("%s", sentence)
            self.core.warnings.append(sentence)

    async def write(self) -> None:
        """Index what was followed, a second's worth at a time: a transaction costs far more than the points in it."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self._write_pending()

    async def _write_pending(self) -> None:
        batches, self._pending = self._pending, []
        try:
            behind = await self._append(batches) if batches else ()
        except StoreError as error:
            self._complain(error)  # what is missing is read again from the file
            return
        for shard in dict.fromkeys(behind):  # a rebuild went past it: go on from where the index stands
            await self._read_on(shard)

    async def _append(self, batches: Sequence[Batch]) -> tuple[str, ...]:
        async with self._busy:
            skipped = await self.core.index(lambda store: store.append(batches), mending=True)
        for batch in batches:
            if batch.shard not in skipped:
                self.offsets[batch.shard] = batch.offset
        return skipped

    async def flush(self) -> None:
        """Index everything up to the ledger's head and the last line that was read. Returns when it is committed."""
        if self.core.damaged or self._mending.locked():
            await self._mend()
        await self._write_pending()
        await self._flush_events()

    async def _flush_events(self, *, mending: bool = False) -> None:
        async with self._busy:
            core, base, upto = self.core, self._indexed, self.core.state.head
            if base == upto:
                return
            rows = list(core.state.since(base))
            await index_imports(core, base, upto, self.readings)
            await core.index(
                lambda store: store.index(rows, [_fields(each) for each in core.ledger.since(base, upto)], upto),
                mending=mending,
            )
            self._indexed = upto

    async def _mend(self) -> None:
        """Fill the index that took the place of a lost one; whoever comes meanwhile waits for that."""
        async with self._mending:
            if self.core.damaged:
                await self._rebuild()

    async def rebuild(self) -> dict[str, int]:
        """Empty the index and fill it again from ledger, blobs and metrics files."""
        try:
            async with self._mending:
                await self._rebuild()
        finally:
            self._wake.set()  # what failed half-way is done again
        return {"events": self._indexed, "shards": len(self.core.state.shards)}

    async def _rebuild(self) -> None:
        core = self.core
        self._mended = asyncio.get_running_loop().time()
        self._over.clear()  # files are the truth, as they are now
        async with self._busy:
            core.damaged, damages = True, core.damages  # nobody is to be answered out of what is not whole
            await core.index(Store.clear, mending=True)
            self._indexed, self.offsets = 0, {}
        await self._write_pending()
        await self._flush_events(mending=True)
        await self._catch_up_all(list(core.state.shards))
        core.damaged = core.damages != damages

    async def _catch_up_all(self, shards: list[str]) -> None:
        """`catch_up` for many shards, with one transaction for the first pieces of a group of them. Raises StoreError."""
        for at in range(0, len(shards), GROUP):
            reads = await asyncio.to_thread(self._first_pieces, shards[at : at + GROUP])
            await self._append(reads)
            for read in reads:
                if read.offset - read.start > CHUNK // 2:
                    await self._read_on(read.shard)

    def _first_pieces(self, shards: list[str]) -> list[Read]:
        reads = []
        for shard in shards:
            start, path = self.offsets.get(shard, 0), self.metrics_file(shard)
            if size_of(path) <= start:  # as of nearly all shards after a restart: a look costs a third of a reading
                continue
            piece = read_regular(path, CHUNK, start)
            if piece:
                parsed = self.make_parser(shard).feed(piece)
                reads.append(Read(shard, parsed.points, parsed.summary, start, start + parsed.consumed, parsed.garbage))
        return reads

    async def catch_up(self, shard: str) -> None:
        """Index all that a shard's file holds."""
        await self._write_pending()
        await self._read_on(shard)

    async def _read_on(self, shard: str) -> None:
        """Index what a shard's file holds beyond the stored offset, a piece at a time; never more than is followed of it,
        since a sparse file of a terabyte costs its shard nothing and its reader hours."""
        if shard in self._over:
            return
        path = self.metrics_file(shard)
        if size_of(path) <= self.offsets.get(shard, 0):
            return
        parser = self.make_parser(shard)
        start = at = self.offsets.get(shard, 0)
        try:
            while at < LIMIT and (piece := await asyncio.to_thread(read_regular, path, CHUNK, at)):
                at += len(piece)
                parsed = await asyncio.to_thread(parser.feed, piece)
                read = Read(shard, parsed.points, parsed.summary, start, start + parsed.consumed, parsed.garbage)
                if parsed.consumed and await self._append([read]):
                    return  # somebody else indexed it meanwhile
                start = read.offset
        except StoreError as error:
            self._complain(error)

    def _complain(self, error: StoreError) -> None:
        """Losing the index never ends the engine: it is said, and made again."""
        log.warning("the index: %s", error)
        if not isinstance(error, StoreDamaged):  # of damage it was said already what became of it
            self._warn(str(error))
        self._wake.set()

    async def seed_live(self, shard: str) -> None:
        """Give a re-attached shard the curve and the facts that it had before the engine went away."""
        live = self.live.shards.get(shard)
        if live is None or not self.offsets.get(shard):
            return
        loss = self.core.lab.metric.loss
        try:
            steps, values = (await self.core.index(lambda store: store.curve([shard], loss, 500))).get(shard, ([], []))
            facts = await self.core.index(lambda store: store.facts(shard))
        except StoreError as error:
            self._complain(error)  # it has its curve from here on
            return
        live.feed([], facts, 0)
        live.curve = list(zip(steps, values, strict=True))
        if steps:
            live.step, live.value = int(steps[-1]), values[-1]
        live.changed = True
        self.news.set()

    def tick(self) -> dict[str, Any]:
        """Live rows that changed since the last tick."""
        return dict(self.live.changes(now()))


def size_of(path: Path) -> int:
    """Bytes that a file holds, or a link itself; 0 where there is none."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _fields(event: Event) -> dict[str, Any]:
    return {"n": event.n, "t": event.t, "type": event.type, "data": event.data}
