"""Hands shards over to Slurm, each in a job of its own: what is to go is gathered for a moment, so that shards that are alike
become one array; how often, and how many at a time, is limited. What is refused for now waits, and nothing else for its sake.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from engine.shards.slurm import order
from engine.shards.slurm.batches import Batch, Batches, Task
from engine.shards.slurm.bucket import Bucket
from engine.shards.slurm.commands import SlurmError
from engine.shards.slurm.order import Order
from engine.shards.slurm.own_job import OwnJob
from engine.shards.slurm.parsing import never, too_many
from engine.shards.slurm.settings import shown
from engine.shards.slurm.unwanted import Unwanted
from engine.text import clean

log = logging.getLogger(__name__)
GATHER_S, MOST_GATHERS = 1.0, 5  # until what was gathered is handed over, where more comes meanwhile again
A_MINUTE, AT_ONCE = 6, 3  # submissions
AGAIN_S, MOST_S = 5.0, 300.0  # until shards of a shape that was refused are handed over again
FULL_S = 60.0  # until it is looked again whether there is room in the queue
Shape = tuple[str, ...]
Lot = tuple[Batch | None, list[OwnJob]]


@dataclass(slots=True)
class Handover:
    """Hands over those of `jobs` that Slurm does not have. `more` says that there are new ones, or room; `refused` takes those
    that Slurm will never run, with its words; `handed` is called when Slurm has some more."""

    jobs: Mapping[str, OwnJob]
    batches: Callable[[], Batches]
    size: Callable[[Order], Sequence[str]]
    program: Callable[[Order, Sequence[str]], list[str]]
    unwanted: Unwanted
    refused: Callable[[Sequence[OwnJob], str], Awaitable[None]]
    handed: Callable[[], None]
    changed: Callable[[], None]
    more: asyncio.Event = field(default_factory=asyncio.Event)
    most: int = 1 << 30  # tasks of one array: what the site lets is learnt when it refuses one
    _bucket: Bucket = field(default_factory=lambda: Bucket(A_MINUTE, AT_ONCE))
    # until when a shape waits (monotonic), and how long that was
    _waits: dict[Shape, tuple[float, float]] = field(default_factory=dict)

    async def run(self) -> None:
        """Hand over what was gathered, whenever something was."""
        again_s = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again_s or None):
                    await self.more.wait()
            for _ in range(MOST_GATHERS):
                if not self.more.is_set():
                    break
                self.more.clear()
                await asyncio.sleep(GATHER_S)
            try:
                again_s = await self._submit_all()
            except OSError as error:
                log.warning("jobs cannot be handed over: %s", error)
                again_s = AGAIN_S
            except Exception:  # others are still to be handed over
                log.exception("jobs cannot be handed over")
                again_s = AGAIN_S

    async def _submit_all(self) -> float:
        """Hand over all that may be now; returns in how many seconds to try again, 0 for when there is more."""
        waits = []
        for made, lot in [*self._unnumbered(), *self._alike()]:
            owns = [own for own in lot if not own.gone]
            if not owns:
                continue  # stopped meanwhile
            shape, now = tuple(self.size(owns[0].order)), time.monotonic()
            if (left_s := self._waits.get(shape, (now, 0.0))[0] - now) > 0:
                waits.append(left_s)
            elif (wait_s := self._bucket.wait_s(now)) > 0:
                self._say(owns, f"submissions are limited to {A_MINUTE} a minute")
                return min(wait_s, *waits, MOST_S)
            else:
                self._bucket.take(now)
                waits += await self._submit(made, owns, shape)
        queue = self.batches().settings.queue
        held = [own for own in self.jobs.values() if own.batch is None and not own.gone and not self._waiting(own)]
        self._say(held, f"{queue} jobs of their own are in the queue, as many as slurm.queue lets")
        return min([*waits, FULL_S] if held else waits, default=0.0)

    def _waiting(self, own: OwnJob) -> bool:
        """Whether its shape was refused for now, which it says of itself."""
        return self._waits.get(tuple(self.size(own.order)), (0.0, 0.0))[0] > time.monotonic()

    async def _submit(self, made: Batch | None, owns: Sequence[OwnJob], shape: Shape) -> list[float]:
        """Hand some over together; where Slurm does not take them yet, that says in how many seconds to try again."""
        first = owns[0].order
        if made is None:
            made = await asyncio.to_thread(self._batch, owns)
        try:
            surplus = await self.batches().submit(made, shape, partial(self.program, first))
        except SlurmError as error:
            return await self._not_taken(made, owns, shape, clean(str(error)))
        self._waits.pop(shape, None)
        await self.unwanted.cancel(*surplus)
        await self._withdraw(made)
        self.handed()
        return []

    async def _not_taken(self, made: Batch, owns: Sequence[OwnJob], shape: Shape, said: str) -> list[float]:
        if too_many(said) and len(made.tasks) > 1:
            self.most = max(1, len(made.tasks) // 2)
            for own in owns:
                own.batch = None
            await asyncio.to_thread(self.batches().forget, made)
            self.more.set()
            return []
        if never(said):
            made.unsure = False
            await self.refused(owns, said)
            return []
        wait_s = min(MOST_S, max(AGAIN_S, 2 * self._waits.get(shape, (0.0, 0.0))[1]))
        self._waits[shape] = time.monotonic() + wait_s, wait_s
        self._say(owns, f"not taken by Slurm yet: {said}; asked again in {shown(wait_s)}")
        return [wait_s]

    async def _withdraw(self, made: Batch) -> None:
        """Call off the tasks whose shards were stopped while they were handed over: there is nothing for them to run."""
        wanted = {own.order.nonce for own in self.jobs.values() if not own.gone}
        ended = [n for n, each in enumerate(made.tasks) if each.nonce not in wanted]
        left = await asyncio.to_thread(lambda: [n for n in ended if not stands(made.tasks[n])])
        await self.unwanted.cancel(*(made.job(n) for n in left))
        if len(left) == len(made.tasks):
            await asyncio.to_thread(self.batches().forget, made)

    def _unnumbered(self) -> list[Lot]:
        """Batches of which it is not known that Slurm has them."""
        found: dict[Path, Lot] = {}
        for own in self.jobs.values():
            if own.batch is not None and not own.batch.number and not own.gone and own.claim is None:
                found.setdefault(own.batch.place, (own.batch, []))[1].append(own)
        return list(found.values())

    def _alike(self) -> list[Lot]:
        """What was gathered, those together that ask for the same; no more than may be in the queue, or in one array."""
        room = self.batches().settings.queue - sum(own.batch is not None and not own.gone for own in self.jobs.values())
        found: dict[tuple[Shape, int], Lot] = {}
        count: Counter[Shape] = Counter()
        for own in self.jobs.values():
            if own.batch is None and not own.gone and (room := room - 1) >= 0:
                shape = tuple(self.size(own.order))
                found.setdefault((shape, count[shape] // self.most), (None, []))[1].append(own)
                count[shape] += 1
        return list(found.values())

    def _batch(self, owns: Sequence[OwnJob]) -> Batch:
        made = self.batches().make([Task(own.place, own.order.nonce) for own in owns])
        for number, own in enumerate(owns):
            own.batch, own.task = made, number
        return made

    def _say(self, owns: Sequence[OwnJob], why: str) -> None:
        for own in owns:
            own.why = why
        if owns:
            self.changed()


def stands(task: Task) -> bool:
    """Whether the order that a task is to run may still be there."""
    return order.stands(task.place, task.nonce)
