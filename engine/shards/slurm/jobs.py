"""Shards of large rungs, each in a job of its own: they need no process on the login node, and outlive engine and launcher.

Whether one runs is what its agent says on the shared file system, by claim, heartbeat and exit record; the queue is asked, for
all of them by one question, why they wait and what became of one that left no record. What is to be handed over is gathered for
a moment, so that shards that are alike become one array; how often, and how many at a time, is limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from engine.files import last_line, read_tail
from engine.shards.executor import Began, Ended, Event, Standing
from engine.shards.slurm import ends, order
from engine.shards.slurm.batches import Batch, Batches, Task
from engine.shards.slurm.bucket import Bucket
from engine.shards.slurm.closing import close, record_of
from engine.shards.slurm.commands import Controller, SlurmError
from engine.shards.slurm.ends import Lost
from engine.shards.slurm.order import Order
from engine.shards.slurm.own_job import OwnJob, sights
from engine.shards.slurm.parsing import Job, accounted, never
from engine.shards.slurm.settings import Settings, shown
from engine.shards.slurm.step import ASK
from engine.text import clean

log = logging.getLogger(__name__)
GATHER_S, MOST_GATHERS = 1.0, 5  # until what was gathered is handed over, where more comes meanwhile again
TICK_S = 1.0  # between two looks at claims, heartbeats and records
OFTEN_S, SELDOM_S = 2.0, 60.0  # between two questions about the queue: while something is to change soon, and otherwise
A_MINUTE, AT_ONCE = 6, 3  # submissions
AGAIN_S, MOST_S = 5.0, 300.0  # until a refused batch is handed over again
SILENT_S = 20.0  # without a heartbeat, Slurm is asked what it knows of the job
LOST_S = 300.0  # without a heartbeat, it is given up, whatever Slurm thinks of its node
MARGIN_S = 20.0  # that an agent may take beyond the grace of a stop
STOP = "stop"  # file beside an order: the shard is to end


@dataclass(slots=True)
class OwnJobs:
    """All shards of one lab in jobs of their own. `root` is what the nodes see, `key` the file that seals records, `tell` takes
    what happens, `changed` is called when how one stands has."""

    settings: Settings
    controller: Controller
    root: Path
    key: Path
    tell: Callable[[Event], None]
    changed: Callable[[], None]
    size: Callable[[Order], Sequence[str]]  # what sbatch is told of the size of one, and of how long it may run
    program: Callable[[Order, Sequence[str]], list[str]]  # what it runs, by the words that start an agent
    jobs: dict[str, OwnJob] = field(default_factory=dict)
    _kick: asyncio.Event = field(default_factory=asyncio.Event)
    _gathering: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _bucket: Bucket = field(default_factory=lambda: Bucket(A_MINUTE, AT_ONCE))
    _judged: float = 0.0  # when the answer came that was last looked at
    _due: float = 0.0  # when the queue is asked next
    _wait_s: float = OFTEN_S

    # --- what is asked of it

    @property
    def batches(self) -> Batches:
        return Batches(self.controller, self.settings, self.root / "jobs")

    @property
    def ids(self) -> Iterator[str]:
        """What Slurm calls those that it has."""
        return (own.job for own in self.jobs.values() if own.job and not own.gone)

    @property
    def standing(self) -> dict[str, Standing]:
        at = self.controller.listed_at
        return {id: own.standing(at) for id, own in self.jobs.items() if not own.gone}

    def launch(self, made: Order, place: Path) -> None:
        """Take a shard whose order lies in `place`; it is handed over within moments."""
        self.jobs[made.spec.id] = OwnJob(made, place)
        self._gathering.set()
        self._kick.set()

    async def attach(self, found: Mapping[str, tuple[Order, Path]]) -> None:
        """Take up the shards of these orders, and follow all from now on."""
        for id, (made, place) in found.items():
            self.jobs[id] = OwnJob(made, place)
            if (place / STOP).exists():
                self.jobs[id].stop_by = time.monotonic() + MARGIN_S
        by_nonce = {own.order.nonce: own for own in self.jobs.values()}
        for batch in await asyncio.to_thread(lambda: list(self.batches.read())):
            known = [
                (number, by_nonce[each.nonce]) for number, each in enumerate(batch.tasks) if each.nonce in by_nonce
            ]
            for number, own in known:
                own.batch, own.task = batch, number
            if not known:
                self._run(self._abandon(batch), f"batch {batch.place.name}")
        await self._look_at_files(settle=False)
        self._gathering.set()
        for part in (self._hand_over, self._follow):
            self._run(part(), part.__name__)

    async def _abandon(self, batch: Batch) -> None:
        """Call off a batch none of whose shards is to run any more."""
        with contextlib.suppress(SlurmError):
            if batch.number:
                await self.controller.ask("scancel", batch.number)
        await asyncio.to_thread(self.batches.forget, batch)

    async def close(self) -> None:
        """Let go; the jobs stay."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self, id: str, grace_s: float) -> bool:
        """Ask one to end: what waits is called off, what runs is told so, and ended some time after `grace_s`."""
        own = self.jobs.get(id)
        if own is None or own.gone:
            return False
        await asyncio.to_thread((own.place / STOP).touch)
        own.stop_by = time.monotonic() + grace_s + MARGIN_S
        self._run(self._press(id, own), f"stop of {id}")
        return True

    async def kill(self, id: str) -> bool:
        """End one at once."""
        own = self.jobs.get(id)
        if own is None or own.gone:
            return False
        await asyncio.to_thread((own.place / STOP).touch)
        own.stop_by = 0.0
        self._run(self._press(id, own), f"stop of {id}")
        return True

    async def call_off(self, why: str) -> None:
        """Take those back that still wait: they are no longer wanted now, and may run at another time."""
        waiting = {id: own for id, own in self.jobs.items() if own.claim is None and not own.gone}
        for own in waiting.values():
            own.ends = own.ends or Lost("preempted", why)
        await self._withdraw_all(waiting)

    # --- handing over

    async def _hand_over(self) -> None:
        """Hand over what was gathered, whenever something was."""
        again_s = 0.0
        while True:
            if again_s:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(again_s):
                        await self._gathering.wait()
            else:
                await self._gathering.wait()
            for _ in range(MOST_GATHERS):
                if not self._gathering.is_set():
                    break
                self._gathering.clear()
                await asyncio.sleep(GATHER_S)
            try:
                again_s = await self._submit_all(again_s)
            except OSError as error:
                log.warning("jobs cannot be handed over: %s", error)
                again_s = AGAIN_S

    async def _submit_all(self, again_s: float) -> float:
        """Hand over all that may be now; returns in how many seconds to try again, 0 for when there is more."""
        for batch, asked in [*self._unnumbered(), *self._alike()]:
            ids = [id for id in asked if id in self.jobs and not self.jobs[id].gone]
            if not ids:
                continue  # stopped meanwhile
            wait_s = self._bucket.wait_s(time.monotonic())
            if wait_s > 0:
                self._say(ids, f"submissions are limited to {A_MINUTE} a minute")
                return wait_s
            self._bucket.take(time.monotonic())
            first = self.jobs[ids[0]].order
            made = await asyncio.to_thread(self._batch, ids) if batch is None else batch
            try:
                await self.batches.submit(made, self.size(first), partial(self.program, first))
            except SlurmError as error:
                said = clean(str(error))
                if never(said):
                    await self._refused(ids, said)
                    continue
                again_s = min(MOST_S, max(AGAIN_S, 2 * again_s))
                self._say(ids, f"not taken by Slurm yet: {said}; asked again in {shown(again_s)}")
                return again_s
            await self._withdraw(made)
            self._expect()
            self.changed()
        held = [id for id, own in self.jobs.items() if own.batch is None and not own.gone]
        self._say(held, f"{self.settings.queue} jobs of their own are in the queue, as many as slurm.queue lets")
        return SELDOM_S if held else 0.0

    async def _withdraw(self, made: Batch) -> None:
        """Call off the tasks whose shards were stopped while they were handed over: there is nothing for them to run."""
        wanted = {own.order.nonce for own in self.jobs.values() if not own.gone}
        left = [made.job(number) for number, each in enumerate(made.tasks) if each.nonce not in wanted]
        if left:
            with contextlib.suppress(SlurmError):
                await self.controller.ask("scancel", *left)
        if len(left) == len(made.tasks):
            await asyncio.to_thread(self.batches.forget, made)

    def _unnumbered(self) -> list[tuple[Batch | None, list[str]]]:
        """Batches of which it is not known that Slurm has them."""
        found: dict[Path, tuple[Batch | None, list[str]]] = {}
        for id, own in self.jobs.items():
            if own.batch is not None and not own.batch.number and not own.gone and own.claim is None:
                found.setdefault(own.batch.place, (own.batch, []))[1].append(id)
        return list(found.values())

    def _alike(self) -> list[tuple[Batch | None, list[str]]]:
        """What was gathered, those together that ask for the same; no more than may be in the queue."""
        room = self.settings.queue - sum(own.batch is not None and not own.gone for own in self.jobs.values())
        found: dict[tuple[object, ...], tuple[Batch | None, list[str]]] = {}
        for id, own in self.jobs.items():
            if own.batch is None and not own.gone and (room := room - 1) >= 0:
                alike = tuple(self.size(own.order))
                found.setdefault(alike, (None, []))[1].append(id)
        return list(found.values())

    def _batch(self, ids: Sequence[str]) -> Batch:
        owns = [self.jobs[id] for id in ids]
        made = self.batches.make([Task(own.place, own.order.nonce) for own in owns])
        for number, own in enumerate(owns):
            own.batch, own.task = made, number
        return made

    def _say(self, ids: Sequence[str], why: str) -> None:
        for id in ids:
            if (own := self.jobs.get(id)) is not None:
                own.why = why
        if ids:
            self.changed()

    async def _refused(self, ids: Sequence[str], said: str) -> None:
        for id in ids:
            if (own := self.jobs.get(id)) is not None and not own.gone:
                own.ends = own.ends or Lost("start-failed", f"Slurm refused its job: {said}")
                await self._settle(id, own, None)

    # --- following

    async def _follow(self) -> None:
        """Look at their files every moment, and at the queue seldom, unless something is expected."""
        while True:
            try:
                await self._look_at_files()
                await self._look_at_queue()
            except (OSError, SlurmError) as error:
                log.warning("jobs of their own: %s", error)
                self._due = time.monotonic() + SELDOM_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S if self.jobs else SELDOM_S):
                    await self._kick.wait()
            self._kick.clear()

    def _expect(self) -> None:
        """Something is to change soon."""
        self._wait_s, self._due = OFTEN_S, min(self._due, time.monotonic() + OFTEN_S)
        self._kick.set()

    async def _look_at_files(self, *, settle: bool = True) -> None:
        owns = {id: own for id, own in self.jobs.items() if not own.gone}
        for id, sight in (await asyncio.to_thread(sights, owns)).items():
            own, now = owns[id], time.monotonic()
            if own.claim is None and sight.claim:
                own.claim, own.beat_at, own.ends = sight.claim, now, None
                where = f"{own.node} (job {own.job})"
                self.tell(Began(id, where, own.node, own.gpus))
                self._due = min(self._due, now + OFTEN_S)
                if own.stop_by is not None:
                    self._run(self._press(id, own), f"stop of {id}")
            if sight.beat != own.beat:
                own.beat, own.beat_at = sight.beat, now
            if sight.ended and settle:
                self._run(self._settle(id, own, own.seen), f"end of {id}")
            elif own.claim is not None and now - own.beat_at > SILENT_S and own.stop_by is None:
                self._due = min(self._due, self._judged + SILENT_S / 2)
                if now - own.beat_at > LOST_S:
                    own.ends = Lost("node-lost", f"nothing was heard from its node {own.node} for {shown(LOST_S)}")
                    self._run(self._give_up(id, own), f"end of {id}")

    async def _look_at_queue(self) -> None:
        """Take in what the queue says, where there is an answer or it is time to ask."""
        if not any(True for _ in self.ids):
            return
        now = time.monotonic()
        if self.controller.listed_at <= self._judged:
            if now < self._due:
                return
            self._wait_s = min(SELDOM_S, self._wait_s * 1.5)
            self._due = now + self._wait_s
            await self.controller.queue()
        self._judged = self.controller.listed_at
        before = self.standing
        asked, listed = self.controller.asked, self.controller.listed
        for id, own in list(self.jobs.items()):
            if own.job in asked and not own.gone:
                await self._judge(id, own, listed.get(own.job))
        if any(own.stop_by is not None for own in self.jobs.values()):
            self._due = min(self._due, now + OFTEN_S)
        if self.standing != before:
            self.changed()

    async def _judge(self, id: str, own: OwnJob, seen: Job | None) -> None:
        """What the queue's answer means for one."""
        own.missing = own.missing + 1 if seen is None else 0
        own.seen = seen or own.seen
        if seen is not None and not seen.over:
            if own.stop_by is not None or own.ends is not None:
                self._run(self._press(id, own), f"stop of {id}")
        elif seen is not None:
            self._run(self._settle(id, own, seen), f"end of {id}")
        elif own.missing > 1:
            found = accounted(await self.controller.account(f"--jobs={own.job}"))
            self._run(self._settle(id, own, found.get(own.job)), f"end of {id}")

    async def _press(self, id: str, own: OwnJob) -> None:
        """Have one end that was asked to: call it off while it waits, tell its agent once it runs, and end it for good when
        that takes too long. It is done again until it has ended."""
        if own.gone:
            return
        if own.claim is None:
            await self._withdraw_all({id: own})
        elif own.stop_by is not None and own.job:
            try:
                await self.controller.ask("scancel", "--batch", f"--signal={ASK}", own.job)
                if time.monotonic() > own.stop_by and not own.gone:  # it knows by now that it was we who did that
                    await self.controller.ask("scancel", "--full", "--signal=KILL", own.job)
            except SlurmError as error:
                log.debug("scancel of %s: %s", own.job, error)  # it has ended, or the controller is away: asked again
        self._expect()

    async def _withdraw_all(self, owns: Mapping[str, OwnJob]) -> None:
        """Call off those that have not begun. Their orders go first: what begins all the same finds nothing to run, and what
        has begun this very moment ends, and writes no record. (`--state=PENDING` would take all of an array that waits.)"""
        waiting = {id: own for id, own in owns.items() if not await asyncio.to_thread(order.withdraw, own.place)}
        if known := [own.job for own in waiting.values() if own.job]:
            try:
                await self.controller.ask("scancel", *known)
            except SlurmError as error:
                if "Invalid job id" not in str(error):
                    log.info("jobs are called off once the controller answers: %s", error)
                    return
        for id, own in waiting.items():
            await self._settle(id, own, None)

    async def _give_up(self, id: str, own: OwnJob) -> None:
        """Of a node that says nothing: its agent writes nothing any more once its order is gone."""
        if own.gone:
            return
        await asyncio.to_thread(order.withdraw, own.place, claimed_too=True)
        with contextlib.suppress(SlurmError):
            await self.controller.ask("scancel", own.job)
        await self._settle(id, own, own.seen)

    # --- ends

    async def _settle(self, id: str, own: OwnJob, seen: Job | None) -> None:
        """Say how one ended, once: as its record says, else as Slurm does."""
        if own.gone:
            return
        own.gone = True
        while True:
            try:
                event = await self._end_of(id, own, seen)
                break
            except OSError as error:  # a disk that is away comes back
                log.warning("how %s ended cannot be found out yet: %s", id, error)
                await asyncio.sleep(AGAIN_S)
        await asyncio.to_thread(shutil.rmtree, own.place, True)
        self.jobs.pop(id, None)
        if (
            own.batch is not None
            and own.batch.number
            and not any(each.batch is own.batch for each in self.jobs.values())
        ):
            await asyncio.to_thread(self.batches.forget, own.batch)
        self.tell(event)
        self._gathering.set()  # there is room for a further one
        self.changed()

    async def _end_of(self, id: str, own: OwnJob, seen: Job | None) -> Event:
        """How it ended. Raises OSError."""
        claim = own.claim or await asyncio.to_thread(order.claimed, own.place)
        record = await record_of(own.order, own.output)
        if record is not None:
            return Ended(id, own.order.spec.record, record)
        stopped = own.stop_by is not None
        said = last_line(await asyncio.to_thread(read_tail, own.output))
        found = ends.of_own_job(seen, own.node, claimed=claim is not None, stopped=stopped, said=clean(said))
        return await close(own.order, own.place, found if stopped else own.ends or found, claim, self.key)

    def _run(self, call: Any, name: str) -> None:
        task = asyncio.create_task(call, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
