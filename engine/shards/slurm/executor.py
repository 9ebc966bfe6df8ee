"""The executor of a Slurm cluster: every shard is a step of the pilot, started on this machine by the launcher; those of large
rungs get jobs of their own (`engine.shards.slurm.jobs`).

The launcher's children are the clients of the steps (`engine.shards.slurm.step`), so that a new engine finds them again as it
finds local shards. Whether a shard runs is what its agent says, by heartbeat and exit record; the queue is only asked what
became of one that left none. What belongs to no shard (preparing the data) runs on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.files import last_line, read_tail
from engine.paths import StateDir
from engine.scales import unscaled
from engine.shards.executor import Allocation, Began, Ended, Event, ExecutorError, Handle, Held, Over, Standing
from engine.shards.local import LocalExecutor
from engine.shards.records import read_exit
from engine.shards.sandbox import SHOWN, Probe
from engine.shards.slurm import claims, ends, keeper, notes, order, owner, step, view
from engine.shards.slurm.closing import close, record_of
from engine.shards.slurm.commands import Controller, Programs, SlurmError, own
from engine.shards.slurm.jobs import OwnJobs
from engine.shards.slurm.order import Order, OrderError
from engine.shards.slurm.orders import Orders, left_by
from engine.shards.slurm.parsing import usable
from engine.shards.slurm.pilot import Pilot, idle_words
from engine.shards.slurm.settings import Settings
from engine.shards.slurm.standing import held
from engine.shards.slurm.tasks import Tasks
from engine.shards.spec import ExitRecord, ShardSpec
from engine.text import clean

log = logging.getLogger(__name__)
OFTEN_S, SELDOM_S = 2.0, 30.0  # between two looks at the queue: while something is expected, and otherwise
LATER_S = (2.0, 4.0)  # when the queue is asked again about an end that it does not explain
AGAIN_S = 5.0  # until it is looked again how a shard ended, where that could not be found out
DOUBT_S = 60.0  # for which nothing is placed on a node whose heartbeat stopped, unless Slurm says that it is well


@dataclass(slots=True)
class Placed:
    """A step that is running, as far as is known."""

    order: Order
    gone: bool = False  # its client has ended; how is being found out
    gpus: str | None = None  # that its agent was given; None until it has claimed the shard


class SlurmExecutor:
    """See `engine.shards.executor.Executor` for what its methods promise. `changed` is called when the pilot has."""

    def __init__(self, state: StateDir, settings: Settings, programs: Programs, ranks: int, threads: int) -> None:
        self._state = state
        self._settings = settings
        self._ranks = ranks
        self._orders = Orders(state, settings, programs, ranks, threads)
        self._local = LocalExecutor(state)
        self._controller = Controller(programs)
        self.pilot = Pilot(settings, self._controller, state.root, state.shared_root, ranks, threads)
        self.changed: Callable[[], None] = lambda: None
        self._placed: dict[str, Placed] = {}
        self._elsewhere: set[str] = set()  # what runs on this machine
        self._doubted: dict[str, float] = {}  # node -> when its heartbeat stopped (monotonic)
        self._unfit: dict[str, float] = {}  # node -> when nothing could be started on it: it is always the emptiest
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._tasks = Tasks()
        self._given_up: set[str] = set()  # whose clients were ended since their allocation is gone
        self._looking = asyncio.Lock()
        self._looked = 0.0  # when the last look at the queue began (monotonic)
        self._kick = asyncio.Event()
        self._used = time.monotonic()
        self._attached: asyncio.Future[None] | None = None
        self._launched = asyncio.Event()
        self._releasing = False
        self.jobs = OwnJobs(
            settings,
            self._controller,
            state.shared_root,
            self._orders.key,
            self._events.put_nowait,
            lambda: self.changed(),
            self._orders.size,
            self._orders.program,
        )
        self._controller.also = lambda: self.jobs.ids

    # --- what the engine asks of it

    @property
    def isolation(self) -> str:
        found = self.probe
        return SHOWN[found.level] if found else "limits only"

    @property
    def probe(self) -> Probe | None:
        """What boxes the pilot's nodes can make; None while there are none."""
        return self.pilot.seen.probe

    @property
    def program(self) -> str | None:
        """The bubblewrap of the pilot's nodes."""
        return self.pilot.seen.program

    @property
    def shortage(self) -> str | None:
        """Why no further shard can be started now, in a sentence."""
        if not self.pilot.ready:
            return self.pilot.sentence
        if self._releasing:
            return "the pilot is being given back"
        if self.pilot.confirmed not in ("", self.words):
            return (
                f"pilot {self.pilot.job_id} was confirmed as {clean(self.pilot.confirmed)}, and the lab file now asks for "
                "something else: `cockpit pilot --release`, then confirm it anew"
            )
        return None if self.capacity else self._too_few()

    @property
    def capacity(self) -> int:
        """How many shards may run at once now: lost nodes have room for none."""
        return self._settings.at_once(self._ranks, len(self._nodes()))

    @property
    def standing(self) -> Mapping[str, Standing]:
        """Every step of the pilot and every job of its own, by shard."""
        left_s = self.pilot.left_s
        steps = {
            id: Standing("running", placed.order.job, left_s=left_s, node=placed.order.node, gpus=placed.gpus or "")
            for id, placed in self._placed.items()
        }
        return steps | self.jobs.standing

    @property
    def allocation(self) -> Allocation:
        return self

    @property
    def asked(self) -> bool:
        return self.pilot.asked

    @property
    def words(self) -> str:
        return self._settings.words(self._ranks)

    @property
    def sentence(self) -> str:
        return self.pilot.sentence

    @property
    def held(self) -> Held:
        found = held(self.pilot)
        lacks = self._settings.nodes - len(self._nodes()) if found.state == "ready" else 0
        return replace(found, unwell=lacks)

    async def launch(self, spec: ShardSpec) -> Handle:
        await self.reattach()
        if not spec.rung:
            self._elsewhere.add(spec.id)
            return await self._local.launch(spec)
        if spec.id in self._placed:
            return Handle(spec.id, "running", True, where=self._placed[spec.id].order.node)
        if spec.id in self.jobs.jobs:
            standing = self.jobs.standing.get(spec.id)  # none while its end is being found out
            return Handle(spec.id, standing.state if standing else "running", True)
        if (found := await asyncio.to_thread(left_by, spec)) is not None:
            return Handle(spec.id, found, True)
        if self.shortage is not None:
            raise ExecutorError(self.shortage)
        if spec.fresh and unscaled(spec.rung) in self._settings.own:
            apart = await asyncio.to_thread(self._orders.write, spec)
            if (lacks := self.shortage) is not None:  # the pilot was given back, and with it the leave to ask for jobs
                await asyncio.to_thread(self._orders.remove, spec.id)
                raise ExecutorError(lacks)
            self.jobs.launch(apart, self._orders.place(spec.id))
            return Handle(spec.id, "queued", False, where="a job of its own")
        made = await asyncio.to_thread(self._orders.write, spec, self.pilot.job_id or "", self._choose(spec.nodes))
        self._placed[spec.id] = Placed(made)
        try:
            handle = await self._local.launch(self._orders.client_spec(spec.id))
        except ExecutorError:
            self._placed.pop(spec.id, None)  # should it have been started all the same, it ends and writes nothing
            await asyncio.to_thread(order.withdraw, self._orders.place(spec.id), claimed_too=True)
            raise
        if handle.state != "running" and spec.id in self._placed:
            await self._settle(spec.id)
            return Handle(spec.id, "ended", handle.known)
        self._used = time.monotonic()
        self._launched.set()
        return Handle(spec.id, "running", handle.known, where=f"{made.node} (job {made.job})", node=made.node)

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    async def stop(self, id: str, grace_s: float) -> bool:
        return await (self.jobs if id in self.jobs.jobs else self._local).stop(id, grace_s)

    async def kill(self, id: str) -> bool:
        return await (self.jobs if id in self.jobs.jobs else self._local).kill(id)

    async def reattach(self) -> frozenset[str]:
        if self._attached is None:
            self._attached = asyncio.get_running_loop().create_future()
            try:
                await self._attach()
            except BaseException as error:
                waiting, self._attached = self._attached, None
                waiting.set_exception(error if isinstance(error, ExecutorError) else ExecutorError(str(error)))
                waiting.exception()
                raise
            self._attached.set_result(None)
        await asyncio.shield(self._attached)
        return frozenset((*await self._local.reattach(), *self._placed, *self.jobs.jobs))

    async def retire(self) -> None:
        """Let the launcher end when nothing runs."""
        await self._local.retire()

    async def close(self) -> None:
        await self._tasks.close()
        await self.jobs.close()
        await self._local.close()
        self._events.put_nowait(None)

    # --- what a person asks of it

    async def confirm(self) -> None:
        try:
            self.pilot.confirm(self._settings.name)
        except SlurmError as error:
            raise ExecutorError(str(error)) from error
        await self._have_kept()
        self._kick.set()

    async def release(self, why: str, who: Mapping[str, Any] | None = None) -> None:
        self._releasing = True  # so that nothing takes the room of what is called off
        try:
            await self.jobs.call_off(f"its job was called off before it began: {why}")
            await self.pilot.release(why, who)
        except SlurmError as error:
            raise ExecutorError(str(error)) from error
        finally:
            self._releasing = False
        self.changed()

    @property
    def view(self) -> dict[str, Any]:
        rest_s = None
        if self.pilot.ready and not self._placed:
            rest_s = max(0.0, self._settings.idle_s - (time.monotonic() - self._used))
        return view.view(self.pilot, rest_s)

    @property
    def stays(self) -> str:
        return view.stays(self.pilot, len(self._placed))

    @property
    def warnings(self) -> Sequence[str]:
        return view.warnings(self.pilot)

    @property
    def ends(self) -> Sequence[Over]:
        return tuple(self.pilot.ends)

    def written(self, id: str) -> None:
        self.pilot.written(id)

    # --- attaching

    async def _attach(self) -> None:
        """Take up what runs; settle what ended while no engine was there; then follow the rest."""
        if self._settings.shared is not None:
            await asyncio.to_thread(owner.take, self._state.shared_root, self._state.root)
        running = await self._local.reattach()
        await asyncio.to_thread(self._orders.share_key)
        ended, apart = [], {}
        for place in await asyncio.to_thread(lambda: sorted(self._orders.root.glob("*"))):
            try:
                found = order.read(place)
            except OrderError as error:
                log.warning("%s", error)
                continue
            except OSError as error:
                raise ExecutorError(f"what was launched cannot be told, and is left alone: {error}") from error
            if found.apart:
                apart[place.name] = found, place
                continue
            self._placed[place.name] = Placed(found)
            if place.name not in running:
                ended.append(place.name)
        self._elsewhere |= running - self._placed.keys()
        await asyncio.to_thread(notes.pass_gate, self._state.root)
        await self.pilot.look()
        await self.jobs.attach(apart)
        for id in ended:
            if self._orders.client(id).exists():
                self._tasks.run(self._settle(id), f"end of {id}")
            else:  # it was never asked for
                self._placed.pop(id, None)
                await asyncio.to_thread(self._orders.remove, id)
        for part in (self._pump, self._follow_pilot):
            self._tasks.run(part(), part.__name__)
        self._tasks.run(claims.watch(self._unclaimed, self._claimed, self._launched), "claims")
        self._launched.set()

    async def _pump(self) -> None:
        async for event in self._local.events():
            if event.id in self._placed:
                self._tasks.run(self._settle(event.id), f"end of {event.id}")
            elif event.id in self._elsewhere:
                self._events.put_nowait(event)

    # --- nodes

    def _unclaimed(self) -> dict[str, Path]:
        """Where the orders lie of steps whose shards no agent has taken yet, as far as is known."""
        return {id: self._orders.place(id) for id, placed in self._placed.items() if placed.gpus is None}

    def _claimed(self, id: str, claim: Mapping[str, Any]) -> None:
        """An agent has taken a step's shard: it is known now which GPUs it runs on."""
        if (placed := self._placed.get(id)) is not None:
            placed.gpus = clean(str(claim.get("gpus", "")))
            made = placed.order
            self._events.put_nowait(Began(id, f"{made.node} (job {made.job})", made.node, placed.gpus))

    def _nodes(self) -> list[str]:
        """The nodes on which steps may be placed now."""
        seen, now = self.pilot.seen, time.monotonic()
        if not self.pilot.ready:
            return []
        well = [node for node in seen.nodes if usable(seen.states.get(node, "idle"))]
        well = [node for node in well if now - self._doubted.get(node, -DOUBT_S) >= DOUBT_S]
        fit = [node for node in well if now - self._unfit.get(node, -DOUBT_S) >= DOUBT_S]
        enough = self._settings.at_once(self._ranks, len(fit)) > 0
        return fit if enough else well  # where nothing can be started on any of them, it is not the nodes' fault

    def _too_few(self) -> str:
        span, well = self._settings.span(self._ranks), len(self._nodes())
        if span == 1 or not well:
            return f"no node of {self.pilot.sentence} is well"
        return f"one shard takes {span} nodes, and {well} of {self.pilot.sentence} {'is' if well == 1 else 'are'} well"

    def _choose(self, count: int) -> str:
        """So many neighbours with the fewest steps, commas between. Raises ExecutorError when there are not so many nodes."""
        busy = [node for placed in self._placed.values() for node in placed.order.nodes]
        nodes = self._nodes()
        groups = [nodes[at : at + count] for at in range(0, len(nodes) - count + 1, count)]
        if not groups:
            raise ExecutorError(self._too_few())
        return ",".join(min(groups, key=lambda group: sum(map(busy.count, group))))

    # --- ends

    async def _settle(self, id: str) -> None:
        """A step's client has ended: find out how the shard did, write that down where its agent has not, and say so once."""
        placed = self._placed.get(id)
        if placed is None or placed.gone:
            return
        placed.gone = True
        while True:
            try:
                event = await self._end_of(id, placed.order)
                break
            except (OSError, ExecutorError, SlurmError) as error:  # a disk or a controller that is away comes back
                log.warning("how %s ended cannot be found out yet: %s", id, error)
                await asyncio.sleep(AGAIN_S)
        await asyncio.to_thread(self._orders.remove, id)
        self._placed.pop(id, None)
        self._given_up.discard(id)
        self._used = time.monotonic()
        self._events.put_nowait(event)
        log.debug("%s", event)

    async def _end_of(self, id: str, made: Order) -> Event:
        """How it ended. Raises OSError, SlurmError, ExecutorError."""
        client = await asyncio.to_thread(read_exit, self._orders.client(id))
        record = await record_of(made, self._orders.client(id) / "output.log")
        if record is None:
            return await self._lost(id, made, client)
        doubtful = await asyncio.to_thread(order.lost_nodes, self._orders.place(id), made)
        if record.how == "start-failed":
            self._unfit |= dict.fromkeys(made.nodes, time.monotonic())
        self._doubt(*doubtful)
        if record.how in ("preempted", "node-lost"):  # nothing more is to be started in what may be gone
            await self._look()
        return Ended(id, made.spec.record, record)

    def _doubt(self, *nodes: str) -> None:
        """Place nothing on these for a while."""
        self._doubted |= dict.fromkeys(filter(None, nodes), time.monotonic())

    async def _lost(self, id: str, made: Order, client: ExitRecord | None) -> Event:
        """What is to be said of a shard whose agent left no record."""
        claim = await asyncio.to_thread(order.claimed, self._orders.place(id))
        said = await asyncio.to_thread(read_tail, self._orders.client(id) / "output.log")
        code, by = None if client is None else client.code, str((claim or {}).get("node", ""))
        side = ends.Side(
            how="exited" if client is None or id in self._given_up else client.how,
            code=code,
            claimed=claim is not None,
            node=ends.suspect(made.nodes, by, code == step.SILENT, {}),
            said=last_line(said),
        )
        if side.code == step.SILENT:
            self._doubt(side.node)
        for pause_s in (0.0, *LATER_S):  # a step may end seconds before the queue says why
            await asyncio.sleep(pause_s)
            if side.how != "stopped":
                await self._look()
            seen = self.pilot.seen
            side = replace(side, node=ends.suspect(made.nodes, by, code == step.SILENT, seen.states))
            job = seen.job if self.pilot.job_id == made.job else None
            found = ends.lost(side, job, seen.states, not seen.trouble)
            if found.how not in ("vanished", "start-failed"):
                break
        if found.how == "node-lost":
            self._doubt(side.node)
        elif found.how == "start-failed":
            self._unfit |= dict.fromkeys(made.nodes, time.monotonic())
        self.changed()
        return await close(made, self._orders.place(id), found, claim, self._orders.key)

    # --- the pilot

    async def _look(self) -> None:
        """Look at the pilot, once however many shards ask for it at a time."""
        asked = time.monotonic()
        async with self._looking:
            if self._looked < asked:
                self._looked = time.monotonic()
                await self.pilot.look()
                await self._give_up()

    async def _give_up(self) -> None:
        """End the clients that still try to start a step in an allocation that is gone."""
        for id, placed in list(self._placed.items()):
            stale = placed.order.job != self.pilot.job_id and not placed.gone and id not in self._given_up
            if stale and await asyncio.to_thread(order.claimed, self._orders.place(id)) is None:
                self._given_up.add(id)
                await self._local.kill(id)

    async def _follow_pilot(self) -> None:
        """Look at the pilot, seldom while nothing is expected; release it when nothing has run for long."""
        wait_s = OFTEN_S
        while True:
            before, ran = (self.pilot.sentence, self.capacity), self.pilot.running
            if self.pilot.asked:
                await self._have_kept()
            try:
                await self._look()
                if self.pilot.running and not ran:
                    self._used = time.monotonic()
                if self.pilot.running and self._idle():
                    await self.pilot.release(idle_words(self._settings.idle_s), how="idle")
            except (SlurmError, ExecutorError, OSError) as error:
                log.warning("the pilot: %s", error)
            except Exception:  # it is followed for as long as it is paid for
                log.exception("the pilot could not be looked at")
            expecting = self.pilot.asked and not (
                self.pilot.ready and not self.pilot.seen.trouble and not self._doubted
            )
            wait_s = min(SELDOM_S, wait_s * 1.5) if (self.pilot.sentence, self.capacity) == before else OFTEN_S
            self._doubted = {node: at for node, at in self._doubted.items() if time.monotonic() - at < DOUBT_S}
            self.changed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, 5.0) if expecting else wait_s):
                    await self._kick.wait()
                    wait_s = OFTEN_S
            self._kick.clear()

    async def _have_kept(self) -> None:
        """Have a keeper give the pilot back should this engine be gone."""
        root, programs = self._state.root, self._controller.programs
        try:
            await asyncio.to_thread(keeper.start, root, own("keeper", str(root.resolve())), programs.env)
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("the pilot has no keeper: %s", error)

    def _idle(self) -> bool:
        return not self._placed and time.monotonic() - self._used > self._settings.idle_s
