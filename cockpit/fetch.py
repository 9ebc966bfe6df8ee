"""Asks the engine for what is not pushed: curves of ended shards and log tails. One request of a kind at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from engine.rpc import RpcError
from engine.text import clean

from .follow import OFFLINE
from .model import Link, ReadModel
from .widgets.log_view import LogView

TAIL = 32_768
"""Bytes of a log asked for at once."""

LOG_EVERY_S = 1.0
"""How often the log of a running shard is read again."""


class Fetcher:
    """Remembers what was asked, so that moving the cursor quickly asks only for where it stops."""

    def __init__(self, link: Link, model: ReadModel, clock: Callable[[], float]) -> None:
        self.link = link
        self.model = model
        self.clock = clock
        self.on_log: Callable[[str, str, int, int], None] = lambda *_: None
        self.changed = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: set[str] = set()
        self._log_busy = False
        self._log: tuple[str, float, bool] | None = None

    def want_curves(self, shards: Iterable[str]) -> None:
        """Ask for the training curves of these ended shards, each once."""
        new = [shard for shard in shards if shard not in self._asked][:32]
        if new and self.link.state == "connected":
            self._asked.update(new)
            self._start(self._curves(new))

    def want_log(self, shard: str | None, running: bool) -> None:
        """Ask for the end of a log: at once for another shard or when it ended, else once a second while it runs."""
        if shard is None or self._log_busy or self.link.state != "connected":
            return
        last = self._log
        now = self.clock()
        due = last is None or last[0] != shard or last[2] != running or (running and now - last[1] >= LOG_EVERY_S)
        if due:
            self._log = (shard, now, running)
            self._log_busy = True
            self._start(self._tail(shard))

    def want_older(self, view: LogView) -> None:
        """Ask for the text before what the reader has scrolled to."""
        if not self._log_busy and view.shard is not None and self.link.state == "connected":
            self._log_busy = True
            self._start(self._older(view, view.shard))

    def forget(self) -> None:
        """Ask again for everything: the engine may have restarted."""
        self._asked.clear()
        self._log = None

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _curves(self, shards: list[str]) -> None:
        lab = self.model.lab
        name = lab.get("loss", "loss") if lab else "loss"
        try:
            answer = await self.link.call("curve", shards=shards, metric=name, points=500)
        except (RpcError, *OFFLINE):
            self._asked.difference_update(shards)
            return
        for shard, curve in answer.items():
            self.model.take_curve(shard, curve["steps"], curve["values"], curve.get("resumed_at"))

    async def _tail(self, shard: str) -> None:
        try:
            answer = await self.link.call("log", shard=shard, before=None, bytes=TAIL)
            self.on_log(shard, clean(answer["text"]), answer["start"], answer["size"])
        except RpcError as error:
            self.on_log(shard, clean(error.message), 0, 0)
        except OFFLINE:
            self._log = None
        finally:
            self._log_busy = False
            self.changed += 1

    async def _older(self, view: LogView, shard: str) -> None:
        try:
            answer = await self.link.call("log", shard=shard, before=view.start, bytes=TAIL)
            if view.shard == shard:
                view.prepend(clean(answer["text"]), answer["start"])
        except (RpcError, *OFFLINE):
            return
        finally:
            self._log_busy = False
            self.changed += 1

    async def close(self) -> None:
        """Stop asking."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
