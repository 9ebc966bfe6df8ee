"""Jobs of their own that are to be cancelled, until Slurm has none of them any more: a controller that is away, an engine that
dies and an answer that never came leave nothing behind in the queue.

    unwanted.json    beside the batches: the number of a job, or the name of a batch that Slurm may have without anyone having
                     been told its number, to when it is called off at the earliest (Unix seconds)
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from engine.shards.slurm.commands import Controller, SlurmError
from engine.shards.slurm.order import put
from engine.shards.slurm.parsing import number_of

log = logging.getLogger(__name__)
NAME = "unwanted.json"
UNSURE_S = 900.0  # for which a batch may still come into the queue whose submission was not answered
APART_S = 60.0  # between two looks for one by its name
MOST_ASKED = 8  # about so many jobs that the queue does not show Slurm is asked one by one, at a time


class Unwanted:
    """What is to be cancelled. `root` is the directory where the list lies."""

    def __init__(self, controller: Controller, root: Path) -> None:
        self.controller = controller
        self.root = root
        self._after: dict[str, float] = {}
        self._saved: dict[str, float] = {}
        self._saving = asyncio.Lock()
        self._looked: dict[str, float] = {}  # a batch by its name: when that was looked for (monotonic)

    def __bool__(self) -> bool:
        return bool(self._after)

    def read(self) -> None:
        """Take up what an earlier engine left. Raises OSError."""
        try:
            found = json.loads((self.root / NAME).read_bytes())
            self._saved = {str(id): float(at) for id, at in found.items()}
            self._after = self._saved | self._after
        except FileNotFoundError:
            return
        except (ValueError, TypeError, AttributeError) as error:
            log.warning("%s cannot be read: %s", self.root / NAME, error)

    @property
    def numbers(self) -> Iterator[str]:
        """The jobs that are to be cancelled by now."""
        now = time.time()
        return (id for id, at in list(self._after.items()) if number_of(id) and at <= now)

    def add(self, *ids: str, after_s: float = 0.0) -> None:
        """These are to be cancelled, in so many seconds if they are still there: numbers of jobs, or names of batches. It is
        for `save` to write that down."""
        at = time.time() + after_s
        self._after |= {id: min(at, self._after.get(id, at)) for id in ids if id}

    async def save(self) -> None:
        """Write down what has changed."""
        async with self._saving:
            body = dict(self._after)
            if body != self._saved and await asyncio.to_thread(self._write, body):
                self._saved = body

    async def cancel(self, *ids: str) -> None:
        """Cancel these jobs now, and again until Slurm has none of them."""
        if not any(ids):
            return
        self.add(*ids)
        await self.save()
        await self._scancel(*filter(None, ids))

    async def work(self, keep: Collection[str]) -> None:
        """Cancel what the queue's last answer still shows, and strike out what is gone, and what is in `keep`: these turned out
        to be wanted. Raises SlurmError."""
        await self._look_for_names()
        asked, listed = self.controller.asked, self.controller.listed
        left, gone, questions = [], [], 0
        for id in [id for id in self.numbers if id in asked]:
            hits = [job for name, job in listed.items() if id in (name, number_of(name))]
            if id in keep or (hits and all(job.over for job in hits)):
                gone.append(id)
            elif hits:
                others = any(number_of(name) == id for name in keep)
                left += [job.id for job in hits if not job.over and job.id not in keep] if others else [id]
            elif any(number_of(name) == number_of(id) for name in listed):
                gone.append(id)  # the queue knows of its array, and no more of it
            elif (questions := questions + 1) <= MOST_ASKED and not await self.controller.knows(id):
                gone.append(id)
        if left:
            await self._scancel(*left)
        self._strike(gone)
        await self.save()

    async def _scancel(self, *ids: str) -> None:
        try:
            await self.controller.ask("scancel", *ids)
        except SlurmError as error:
            log.info("scancel of %s, which is tried again: %s", ", ".join(ids), error)

    async def _look_for_names(self) -> None:
        """Learn the numbers of batches that came into the queue after all."""
        now = time.time()
        for name in [id for id in self._after if not number_of(id)]:
            if time.monotonic() - self._looked.get(name, -APART_S) < APART_S:
                continue
            found = await self.controller.named(name)
            self._looked[name] = time.monotonic()
            if live := {number_of(id) for id, job in found.items() if not job.over}:
                await self.cancel(*live)
            if now - self._after[name] > UNSURE_S:
                self._strike([name])

    def _strike(self, ids: Collection[str]) -> None:
        for id in ids:
            self._after.pop(id, None)
            self._looked.pop(id, None)

    def _write(self, body: dict[str, float]) -> bool:
        try:
            if body:
                self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
                put(self.root, NAME, body)
            else:
                (self.root / NAME).unlink(missing_ok=True)
        except OSError as error:  # tried again when it is saved next
            log.warning("what is to be cancelled cannot be written down: %s", error)
            return False
        return True
