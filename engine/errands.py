"""Work that runs beside the conductor and that nothing waits for: at most one of a kind, and ended with the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Errands:
    """The one errand of a kind that may be under way."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin one; the one before has ended."""
        assert not self.busy
        self._task = asyncio.create_task(work, name=f"{self.kind} {name}")

    async def until_done(self) -> None:
        """Return when none is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """End it now; what it leaves in the ledger says so."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
