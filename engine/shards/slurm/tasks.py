"""What runs beside whoever started it, until it ends or is let go: an error is logged, and takes nothing else with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator

log = logging.getLogger(__name__)


class Tasks:
    """Tasks of one owner, by names that the log tells them by."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[asyncio.Task[None]]:
        return iter(set(self._running))

    def __len__(self) -> int:
        return len(self._running)

    def run(self, call: Coroutine[None, None, None], name: str) -> None:
        """Start `call`."""
        task = asyncio.create_task(call, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        """Cancel all of them, and return when they have ended."""
        for task in self:
            task.cancel()
        await asyncio.gather(*self, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
