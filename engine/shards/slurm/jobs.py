"""Shards of large rungs, each in a job of its own: they need no process on the login node, and outlive engine and launcher.

Whether one runs is what its agent says on the shared file system, by claim, heartbeat and exit record; the queue is asked, for
all of them by one question, why they wait and what became of one that left no record. It never outranks a living heartbeat.
How they are handed over is in `engine.shards.slurm.handover`, how what is called off is sure to end in
`engine.shards.slurm.unwanted`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.files import last_line, read_tail
from engine.shards.executor import Began, Ended, Event, ExecutorError, Standing
from engine.shards.slurm import ends, order
from engine.shards.slurm.batches import Batch, Batches
from engine.shards.slurm.closing import close, record_of
from engine.shards.slurm.commands import Controller, SlurmError
from engine.shards.slurm.ends import Lost
from engine.shards.slurm.handover import Handover, stands
from engine.shards.slurm.order import Order
from engine.shards.slurm.own_job import OwnJob, Sight, sights
from engine.shards.slurm.parsing import Job, accounted, number_of, seen
from engine.shards.slurm.settings import Settings, shown
from engine.shards.slurm.step import ASK, HELD_UP_S
from engine.shards.slurm.tasks import Tasks
from engine.shards.slurm.unwanted import MOST_ASKED, Unwanted
from engine.text import clean

log = logging.getLogger(__name__)
TICK_S = 1.0  # between two looks at claims, heartbeats and records
OFTEN_S, SELDOM_S = 2.0, 60.0  # between two questions about the queue: while something is to change soon, and otherwise
AGAIN_S = 5.0  # until it is looked again how one ended, where that could not be found out
LINGER_S = 15.0  # that a job may last when its shard has ended
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
    _tasks: Tasks = field(default_factory=Tasks)
    _judged: float = 0.0  # when the answer came that was last looked at
    _due: float = 0.0  # when the queue is asked next
    _wait_s: float = OFTEN_S
    _questions: int = 0  # about single jobs, since the queue was last looked at
    _looked: float = 0.0  # when their files were last looked at
    handover: Handover = field(init=False)
    unwanted: Unwanted = field(init=False)

    def __post_init__(self) -> None:
        self.unwanted = Unwanted(self.controller, self.root)
        self.handover = Handover(
            self.jobs, lambda: self.batches, self.size, self.program, self.unwanted,
            self._refused, self._handed, lambda: self.changed(),
        )  # fmt: skip

    # --- what is asked of it

    @property
    def batches(self) -> Batches:
        return Batches(self.controller, self.settings, self.root / "jobs")

    @property
    def ids(self) -> Iterator[str]:
        """What Slurm calls those that it has, and those that are to be cancelled."""
        yield from (own.job for own in self.jobs.values() if own.job and not own.gone)
        yield from self.unwanted.numbers

    @property
    def standing(self) -> dict[str, Standing]:
        at = self.controller.listed_at
        return {id: own.standing(at) for id, own in self.jobs.items() if not own.gone}

    def launch(self, made: Order, place: Path) -> None:
        """Take a shard whose order lies in `place`; it is handed over within moments."""
        self.jobs[made.spec.id] = OwnJob(made, place)
        self.handover.more.set()
        self._kick.set()

    async def attach(self, found: Mapping[str, tuple[Order, Path]]) -> None:
        """Take up the shards of these orders, and follow all from now on. Raises ExecutorError, and cancels nothing, where it
        cannot be told what there is."""
        try:
            batches = await asyncio.to_thread(lambda: list(self.batches.read()))
            await asyncio.to_thread(self.unwanted.read)
        except OSError as error:
            raise ExecutorError(f"what Slurm was given cannot be told, and is left alone: {error}") from error
        for id, (made, place) in found.items():
            self.jobs[id] = OwnJob(made, place)
            if (place / STOP).exists():
                self.jobs[id].stop_by = time.monotonic() + MARGIN_S
        by_nonce = {own.order.nonce: own for own in self.jobs.values()}
        for batch in batches:
            for number, each in enumerate(batch.tasks):
                if (own := by_nonce.get(each.nonce)) is not None:
                    own.batch, own.task = batch, number
            await asyncio.to_thread(self._abandon, batch, by_nonce.keys())
        await self.unwanted.save()
        await self._look_at_files(settle=False)
        self.handover.more.set()
        for part in (self.handover.run, self._follow):
            self._tasks.run(part(), part.__name__)

    def _abandon(self, batch: Batch, known: Collection[str]) -> None:
        """Call off those tasks of a batch whose orders are gone for certain; the batch, where all are."""
        gone = [n for n, each in enumerate(batch.tasks) if each.nonce not in known and not stands(each)]
        if len(gone) == len(batch.tasks):
            self.unwanted.add(batch.number or self.batches.name(batch))
            self.batches.forget(batch)
        else:
            self.unwanted.add(*(batch.job(n) for n in gone))

    async def close(self) -> None:
        """Let go; the jobs stay."""
        await self._tasks.close()

    async def stop(self, id: str, grace_s: float) -> bool:
        """Ask one to end: what waits is called off, what runs is told so, and ended some time after `grace_s`."""
        own = self.jobs.get(id)
        if own is None or own.gone:
            return False
        await asyncio.to_thread((own.place / STOP).touch)
        own.stop_by = time.monotonic() + grace_s + MARGIN_S
        self._tasks.run(self._press(id, own), f"stop of {id}")
        return True

    async def kill(self, id: str) -> bool:
        """End one at once."""
        own = self.jobs.get(id)
        if own is None or own.gone:
            return False
        await asyncio.to_thread((own.place / STOP).touch)
        own.stop_by = 0.0
        self._tasks.run(self._press(id, own), f"stop of {id}")
        return True

    async def call_off(self, why: str) -> None:
        """Take those back that still wait: they are no longer wanted now, and may run at another time."""
        waiting = {id: own for id, own in self.jobs.items() if own.claim is None and not own.gone}
        for own in waiting.values():
            own.ends = own.ends or Lost("preempted", why)
        await self._withdraw_all(waiting)

    # --- handing over

    def _handed(self) -> None:
        self._expect()
        self.changed()

    async def _refused(self, owns: Sequence[OwnJob], said: str) -> None:
        """Slurm will never run these, and said why."""
        for own in owns:
            own.ends = own.ends or Lost("start-failed", f"Slurm refused its job: {said}")
            await self._settle(own.id, own, None)

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
            except Exception:  # they run, and are to be followed
                log.exception("jobs of their own cannot be looked at")
                self._due = time.monotonic() + SELDOM_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S if self.jobs or self.unwanted else SELDOM_S):
                    await self._kick.wait()
            self._kick.clear()

    def _expect(self) -> None:
        """Something is to change soon."""
        self._wait_s, self._due = OFTEN_S, min(self._due, time.monotonic() + OFTEN_S)
        self._kick.set()

    async def _look_at_files(self, *, settle: bool = True) -> None:
        owns = {id: own for id, own in self.jobs.items() if not own.gone}
        found = await asyncio.to_thread(sights, owns)
        now = time.monotonic()
        apart_s, self._looked = now - self._looked, now
        held_up_s = apart_s if apart_s > HELD_UP_S else 0.0  # the file system was away, or this machine
        for id, sight in found.items():
            own = owns[id]
            if own.claim is None and sight.claim:
                await self._claimed(id, own, sight)
            asleep = own.seen is not None and own.seen.state == "SUSPENDED"
            if sight.beat is None or asleep:
                own.beat_at = now
            elif sight.beat != own.beat:
                own.beat, own.beat_at = sight.beat, now
            else:
                own.beat_at = min(now, own.beat_at + held_up_s)
            if sight.ended and settle:
                self._tasks.run(self._settle(id, own, own.seen), f"end of {id}")
            elif own.claim is not None and now - own.beat_at > SILENT_S and own.stop_by is None:
                self._due = min(self._due, self._judged + SILENT_S / 2)
                if now - own.beat_at > LOST_S:
                    own.ends = Lost("node-lost", f"nothing was heard from its node {own.node} for {shown(LOST_S)}")
                    self._tasks.run(self._give_up(id, own), f"end of {id}")

    async def _claimed(self, id: str, own: OwnJob, sight: Sight) -> None:
        """An agent has taken its shard: that one's job is its job now, whatever Slurm was thought to have."""
        own.claim, own.beat_at, own.ends = sight.claim, time.monotonic(), None
        self.tell(Began(id, f"{own.node} (job {own.job})", own.node, own.gpus))
        self._due = min(self._due, own.beat_at + OFTEN_S)
        if own.stop_by is not None:
            self._tasks.run(self._press(id, own), f"stop of {id}")
        if own.handed and own.handed != own.job:  # it was submitted again, since nobody knew that it had been taken
            await self.unwanted.cancel(own.handed)
        elif own.batch is not None and not own.batch.number:
            number = number_of(own.job)
            if own.job in (number, f"{number}_{own.task}"):
                await asyncio.to_thread(self.batches.number, own.batch, number)

    async def _look_at_queue(self) -> None:
        """Take in what the queue says, where there is an answer or it is time to ask."""
        if not self.unwanted and not any(True for _ in self.ids):
            return
        now = time.monotonic()
        if self.controller.listed_at <= self._judged:
            if now < self._due:
                return
            self._wait_s = min(SELDOM_S, self._wait_s * 1.5)
            self._due = now + self._wait_s
            await self.controller.queue()
        self._judged = self.controller.listed_at
        before, self._questions = self.standing, 0
        asked, listed = self.controller.asked, self.controller.listed
        for id, own in list(self.jobs.items()):
            if own.job in asked and not own.gone:
                await self._judge(id, own, seen(listed, own.job))
        await self.unwanted.work({own.job for own in self.jobs.values() if own.claim is not None and not own.gone})
        if any(own.stop_by is not None for own in self.jobs.values()):
            self._due = min(self._due, now + OFTEN_S)
        if self.standing != before:
            self.changed()

    async def _judge(self, id: str, own: OwnJob, seen: Job | None) -> None:
        """What the queue's answer means for one. Where its agent lives, nothing but its record ends it."""
        own.missing = own.missing + 1 if seen is None else 0
        own.seen = seen or own.seen
        if seen is not None and not seen.over:
            if own.stop_by is not None or own.ends is not None:
                self._tasks.run(self._press(id, own), f"stop of {id}")
            return
        now = time.monotonic()
        ended_by_us = own.stop_by is not None and now > own.stop_by
        if own.claim is not None and now - own.beat_at < SILENT_S and not (seen is not None and ended_by_us):
            return
        if seen is None:
            if own.missing < 2 or (asks := self._questions) >= MOST_ASKED:
                return
            self._questions = asks + 1
            if await self.controller.knows(own.job):
                return
            seen = accounted(await self.controller.account(f"--jobs={own.job}")).get(own.job)
            if seen is not None and not seen.over:
                return
        if own.claim is None and await asyncio.to_thread(order.claimed, own.place) is not None:
            return  # another job of it, or this one a moment ago: what its files say is looked at first
        self._tasks.run(self._settle(id, own, seen), f"end of {id}")

    async def _press(self, id: str, own: OwnJob) -> None:
        """Have one end that was asked to: call it off while it waits, tell its agents once it runs, and end it for good when
        that takes too long. It is done again until it has ended."""
        if own.gone:
            return
        if own.claim is None:
            await self._withdraw_all({id: own})
        elif own.stop_by is not None and own.job:
            agents = () if own.many else ("--batch",)  # without that word it goes to the steps, and not to the script
            await self._signal(*agents, f"--signal={ASK}", own.job)
            if time.monotonic() > own.stop_by and not own.gone:  # it knows by now that it was we who did that
                await self._signal("--full", "--signal=KILL", own.job)
        self._expect()

    async def _signal(self, *words: str) -> None:
        try:
            await self.controller.ask("scancel", *words)
        except SlurmError as error:
            log.debug("scancel %s: %s", " ".join(words), error)  # it has ended, or the controller is away: done again

    async def _withdraw_all(self, owns: Mapping[str, OwnJob]) -> None:
        """Call off those that have not begun. Their orders go first: what begins all the same finds nothing to run, and what
        has begun this very moment ends, and writes no record. (`--state=PENDING` would take all of an array that waits.)"""
        waiting = {id: own for id, own in owns.items() if not await asyncio.to_thread(order.withdraw, own.place)}
        await self.unwanted.cancel(*(own.job for own in waiting.values()))
        for id, own in waiting.items():
            await self._settle(id, own, None)
        self._expect()

    async def _give_up(self, id: str, own: OwnJob) -> None:
        """Of a node that says nothing: its agent writes nothing any more once its order is gone."""
        if own.gone:
            return
        await asyncio.to_thread(order.withdraw, own.place, claimed_too=True)
        await self.unwanted.cancel(own.job)
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
        self._leave(own)
        if own.batch is not None and not any(each.batch is own.batch for each in self.jobs.values()):
            if own.batch.unsure:
                self.unwanted.add(self.batches.name(own.batch))
            await self.unwanted.save()
            await asyncio.to_thread(self.batches.forget, own.batch)
        await self.unwanted.save()
        self.tell(event)
        self.handover.more.set()  # there is room for a further one
        self.changed()

    def _leave(self, own: OwnJob) -> None:
        """See to it that its job ends too, which may hang on a lost node: its GPUs would be held until its walltime is over."""
        if own.job and not (own.seen is not None and own.seen.over):
            self.unwanted.add(own.job, after_s=LINGER_S)
            self._wait_s, self._due = OFTEN_S, min(self._due, time.monotonic() + LINGER_S)

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
