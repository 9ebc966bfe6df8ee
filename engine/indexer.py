"""Keeps the DuckDB index and the live rows up with the ledger and with what shards write; rebuilds the index from them.

The index runs behind on purpose: the ledger never waits for it. After a crash it goes on from the event number and the byte
offsets that it committed itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.core import Core, now
from engine.files import read_regular
from engine.history.tables import Batch
from engine.live import Live
from engine.watch.parse import make_parser
from engine.watch.tail import Tailer

log = logging.getLogger("engine")
CHUNK = 4 << 20


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

    def __init__(self, core: Core, tailer: Tailer, live: Live, metrics_file: Callable[[str], Path]) -> None:
        self.core = core
        self.tailer = tailer
        self.live = live
        self.metrics_file = metrics_file
        self.offsets: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._indexed = 0
        self._busy = asyncio.Lock()
        core.listeners.append(self._wake.set)

    async def start(self) -> None:
        """Learn how far the index is; read what shards wrote after that and nobody watches any more."""
        self._indexed = self.core.store.indexed
        if self._indexed > self.core.state.head:
            await self.rebuild()  # the index has events that the ledger does not: it belongs to another past
            return
        self.offsets = await self.core.index(self.core.store.offsets)
        for shard in self.core.state.shards:
            if shard not in self.core.state.live:
                await self._catch_up(shard)

    async def run(self) -> None:
        """Index events and rows as they come, until cancelled."""
        while True:
            self._wake.clear()
            await self.flush()
            await self._wake.wait()

    async def follow(self) -> None:
        """Take batches from the tailer, for the live rows and for the index, until cancelled."""
        async for batch in self.tailer.batches():
            shard = self.live.shards.get(batch.shard)
            if shard is not None:
                shard.feed(batch.points, batch.summary, batch.garbage)
            await self._append([batch])

    async def _append(self, batches: list[Batch]) -> None:
        async with self._busy:
            skipped = await self.core.index(self.core.store.append, batches)
        for batch in batches:
            if batch.shard in skipped:
                log.warning("points of %s from byte %d were indexed before", batch.shard, batch.start)
            else:
                self.offsets[batch.shard] = batch.offset

    async def flush(self) -> None:
        """Index everything up to the ledger's head. Returns when it is committed."""
        async with self._busy:
            core, base, upto = self.core, self._indexed, self.core.ledger.head
            if base == upto:
                return
            events = [
                {"n": each.n, "t": each.t, "type": each.type, "data": each.data}
                for each in core.ledger.events[base:upto]
            ]
            await core.index(core.store.index, list(core.state.since(base)), events, upto)
            self._indexed = upto

    async def rebuild(self) -> dict[str, int]:
        """Empty the index and fill it again from ledger, blobs and metrics files."""
        core = self.core
        async with self._busy:
            await core.index(core.store.clear)
            self._indexed, self.offsets = 0, {}
        await self.flush()
        for shard in core.state.shards:
            await self._catch_up(shard)
        return {"events": self._indexed, "shards": len(core.state.shards)}

    async def _catch_up(self, shard: str) -> None:
        path = self.metrics_file(shard)
        with suppress(OSError):
            if path.stat().st_size <= self.offsets.get(shard, 0):
                return
        metric = self.core.lab.metric
        for read in await asyncio.to_thread(list, self._reads(shard, path, make_parser(metric.source, metric.pattern))):
            await self._append([read])

    def _reads(self, shard: str, path: Path, parser: Any) -> Iterator[Read]:
        """The whole file from where the index stands, in stretches."""
        start = self.offsets.get(shard, 0)
        body = read_regular(path, 1 << 30)[start:]
        for at in range(0, len(body), CHUNK):
            parsed = parser.feed(body[at : at + CHUNK])
            offset = start + parsed.consumed
            yield Read(shard, parsed.points, parsed.summary, start, offset, parsed.garbage)
            start = offset

    async def seed_live(self, shard: str) -> None:
        """Give a re-attached shard the curve and the facts that it had before the engine went away."""
        live = self.live.shards.get(shard)
        if live is None or not self.offsets.get(shard):
            return
        loss = self.core.lab.metric.loss
        store = self.core.store
        steps, values = (await self.core.index(store.curve, [shard], loss, 500)).get(shard, ([], []))
        facts = await self.core.index(store.facts, shard)
        live.feed([], facts, 0)
        live.curve = list(zip(steps, values, strict=True))
        if steps:
            live.step, live.value = int(steps[-1]), values[-1]
        live.changed = True

    def tick(self) -> dict[str, Any]:
        """Live rows that changed since the last tick."""
        return dict(self.live.changes(now()))
