"""The engine's one train of thought: look at the state, take the next steps, wait for something to happen.

All effects on git, shards and the trunk are started from here, one after the other, so that no two of them race. What a client
decides is written to the ledger at once (`engine.methods`) and carried out here. A step that fails is said, and after it
everything that was begun is looked at again, as after a restart.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from msgspec import structs

from engine import bundles, campaign, faults, moving, smoke
from engine import events as e
from engine.allocated import AllocationWarnings, record_ends
from engine.asking import Asking
from engine.briefing import Briefing
from engine.core import Core, policy
from engine.decide import approve_event, is_current
from engine.found import next_finding
from engine.lab import LabError, load
from engine.opening import follow_trunk, open_campaign, started
from engine.paths import CONFIG
from engine.preparing import Preparation
from engine.proposals import Intake, branch, rebase
from engine.proposers.base import Proposer, Reply
from engine.reader import Reader
from engine.repairs import ask_for_one
from engine.runs import Runs
from engine.shards.executor import Began
from engine.signing import finish_merge, finish_pull, merge_confirmed
from engine.smoke import Stand
from engine.text import clean
from engine.types import Outcome, ProposalState, ShardState

log = logging.getLogger("engine")
LOOK_AGAIN_S = 5.0
POINTS = {
    e.HeadlineReached: "headline.done",
    e.AuditIntended: "audit.intent",
    e.AuditEnded: "audit.done",
    e.RetuneTuned: "tuned.done",
    e.RetuneEnded: "retuned.done",
}
"""Where tests kill the engine after what it wrote down of the evidence; after all else it is `verdict.done`."""


class Conductor:
    """Runs the campaign of one lab."""

    def __init__(self, core: Core, runs: Runs, intake: Intake) -> None:
        self.core = core
        self.runs = runs
        self.intake = intake
        self.preparation = Preparation(core, runs)
        self.began: asyncio.Queue[Began] = asyncio.Queue()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self._intake_lock = asyncio.Lock()
        self.asking = Asking(core, intake, self._intake_lock)
        self.briefing = Briefing(core, self.asking, self._indexed)
        self.reader = Reader(core, self.asking)
        self._allocation_warnings = AllocationWarnings(core)
        self._stalled: str | None = None
        self._config_seen = (0, 0)
        runs.executor.changed = core.wake.set

    async def run(self) -> None:
        """Open the campaign, pick up what a crash left, then go on until cancelled. A read-only ledger is only looked at."""
        if self.core.ledger.read_only:
            self.core.set_phase("read-only: a newer version wrote this ledger")
            await asyncio.get_running_loop().create_future()
        self.core.record(started())
        self.asking.recover()
        self.briefing.recover()
        self.reader.recover()
        settled = False
        while True:
            self.core.wake.clear()
            try:
                if not settled:
                    await self._settle()
                settled, busy = True, await self.step()
                self._stalled = None
            except Exception as error:  # whatever it is: shards go on, and a person must be able to look and to mend
                log.exception("step")
                self._stalled = clean(f"{error}" or type(error).__name__)
                settled = busy = False
            self.core.set_phase(self._phase())
            if not busy:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self.core.wake.wait()

    async def listen(self) -> None:
        """Take what the executor says has begun, or ended; run beside `run`."""
        async for event in self.runs.executor.events():
            log.info("%s %s", type(event).__name__.lower(), event.id)
            if isinstance(event, Began):
                self.began.put_nowait(event)
            else:
                self.ended.put_nowait(event.id)
            self.core.wake.set()

    async def _indexed(self) -> None:
        """Return when the index holds all that the ledger does."""
        if self.runs.indexer is not None:
            await self.runs.indexer.ready.wait()
            await self.runs.indexer.flush()

    async def refill(self, wanted: int) -> list[str]:
        """Ask the proposer until `wanted` proposals wait; shares one lock with the conductor's own refills."""
        async with self._intake_lock:
            return await self.intake.refill(wanted)

    async def put(self, reply: Reply) -> str:
        """Put one reply into the queue; its id."""
        async with self._intake_lock:
            return await self.intake.add(reply)

    async def draw(self, proposer: Proposer, wanted: int) -> list[str]:
        """Take proposals of another proposer than the lab's own, one that costs nothing to ask."""
        async with self._intake_lock:
            return await self.intake.draw(proposer, wanted)

    async def _settle(self) -> None:
        """Finish what was begun: after a start, and after a step that failed half-way."""
        await open_campaign(self.core, self.runs)
        await self.runs.look_for_room()
        await self.preparation.look()
        await self.runs.recover()

    async def _look_at_config(self) -> None:
        """Say when the lab file was changed for the worse; a good change waits for the next start of an engine."""
        path = self.core.lab.root / CONFIG
        try:
            info = await asyncio.to_thread(path.stat)
            seen = (info.st_mtime_ns, info.st_size)
        except OSError:
            seen = (0, 0)
        if seen == self._config_seen:
            return
        self._config_seen, error = seen, ""
        try:
            await asyncio.to_thread(load, self.core.lab.root)
        except (LabError, OSError) as found:
            error = str(found)
        lab = self.core.state.lab
        if lab is not None and error != (lab["config_error"] or ""):
            self.core.record(e.ConfigBroken(error))

    # --- one round ---

    async def step(self) -> bool:
        """Do what is to be done now; True when something was done, so that it is worth looking again at once."""
        core, busy = self.core, False
        record_ends(core, self.runs.executor.allocation)
        self._allocation_warnings.look(self.runs.executor.allocation)
        while not self.began.empty():
            await self.runs.began(self.began.get_nowait())
            busy = True
        while not self.ended.empty():
            await self._take(self.ended.get_nowait())
            busy = True
        for target in list(core.state.stops):
            busy = await self._stop(target) or busy
        merge_confirmed(core)
        for experiment in list(core.state.merges):
            await finish_merge(core, experiment)
            busy = True
        if core.state.pull is not None:
            await finish_pull(core)
            busy = True
        await follow_trunk(core, "the trunk moved")
        await self._rebase_waiting()
        busy = await self._replay() or busy
        await self._look_for_room()
        ready = await self.preparation.look() and self.runs.specs.refusal is None and self.runs.shortage is None
        slots = self.runs.room
        for each in campaign.plan(core.state, core.lab, slots, setup=self.runs.setup, launching=ready):
            busy = await self._carry_out(each) or busy
        busy = ask_for_one(core, self.asking, self.intake.proposer) or busy
        await self._look_at_config()
        if not busy:
            busy = bool(await self.refill(core.lab.proposer.queue)) or self._approve_by_policy()
        self.reader.look()
        self.briefing.look()
        return busy

    async def close(self) -> None:
        """End what runs beside this: rounds, a brief, a reading."""
        for each in (self.asking, self.briefing.errands, self.reader.errands):
            await each.close()

    async def _look_for_room(self) -> None:
        """Start nothing while the machine has no room for it; go on where that was stopped short once there is."""
        before = self.runs.shortage
        if self.runs.specs.learn(self.runs.executor.probe, self.runs.executor.program):
            await open_campaign(self.core, self.runs)  # boxes of nodes belong to what the ledger knows of the lab
        await self.runs.look_for_room()
        if self.runs.shortage is None and before is not None:
            log.info("there is room again")
            await self.runs.start_intended()

    async def _carry_out(self, step: campaign.Step) -> bool:
        if isinstance(step, campaign.Branch):
            state, name = self.core.state, step.experiment
            make = moving.branch if name in state.replays else bundles.branch if name in state.bundles else branch
            await make(self.core, name)
        elif isinstance(step, campaign.Launch):
            if not campaign.may_launch(self.core.state, step.experiment):
                return True  # stopped or paused since the plan was made
            await self.runs.launch(step)
        elif isinstance(step, campaign.Cancel):
            await self.runs.cancel(step.shard)
            return False
        else:
            event = step.event
            if isinstance(event, e.FindingNoted):  # its number may have been taken since the plan was made
                event = structs.replace(event, finding=next_finding(self.core.state))
            self.core.record(event)
            faults.point(POINTS.get(type(event), "verdict.done"))
            if isinstance(event, e.RetuneEnded):
                self.runs.drop_retuned(event.retune)
            if isinstance(step.event, e.VerdictReached) and step.event.final:
                self.runs.drop_checkpoints(step.event.experiment)
        return True

    async def _take(self, name: str) -> None:
        if name.startswith("prepare-"):
            if name == self.preparation.running:
                self.preparation.ended(name)
        else:
            await self.runs.ended(name)

    async def _stop(self, target: str) -> bool:
        """Carry out a person's stop: ask every shard of it to end; done when all have."""
        core = self.core
        stop = core.state.stops[target]
        faults.point("stop.intent")
        alive = [shard for shard in stop.shards if core.state.shards[shard]["state"] != ShardState.ENDED]
        for shard in alive:
            await self.runs.cancel(shard)
        faults.point("stop.effect")
        if alive:
            return False
        core.record(e.StopDone(target))
        faults.point("stop.done")
        return True

    async def _replay(self) -> bool:
        """Take what a moved trunk left behind to where the trunk is now."""
        left = moving.left_behind(self.core.state)
        for row in left:
            async with self._intake_lock:
                await moving.replay(self.core, self.intake, row)
        return bool(left)

    async def _rebase_waiting(self) -> None:
        for row in list(self.core.state.proposals.values()):
            if row["state"] == ProposalState.WAITING and not is_current(self.core, row):
                await rebase(self.core, row["id"])

    def _approve_by_policy(self) -> bool:
        """What the lab's gate lets through without asking; recorded as the policy's decision. Where there is no box, nothing:
        code that no person has read must not run as the researcher's own."""
        ask = self.core.lab.ask if self.runs.specs.level > 1 else "always"
        for row in list(self.core.state.proposals.values()):
            if row["state"] != ProposalState.WAITING or ask == "always" or (ask == "risky" and row["risks"]):
                continue
            if row.get("repairs"):
                continue  # what it mends broke: somebody reads the difference first
            if not is_current(self.core, row):
                continue
            why = "no static rule spoke up" if ask == "risky" else "the lab asks about nothing"
            who = policy(f'ask = "{ask}"')
            self.core.record(*approve_event(self.core, row["id"], who, why, f"policy-{row['id']}-{row['diff_hash']}"))
            return True
        return False

    # --- the status line ---

    def _phase(self) -> str:
        """What the engine is doing, or what is in its way, in one short sentence."""
        core = self.core
        if self._stalled:
            return f"stalled: {self._stalled}"
        if core.state.paused is not None:
            return f"paused: {core.state.paused}"
        if self.runs.specs.refusal:
            return self.runs.specs.refusal
        if self.runs.shortage:
            return self.runs.shortage
        if self.preparation.error:
            return self.preparation.error
        if self.preparation.running:
            return "preparing data"
        if smoked := self._smoke_failure():
            return smoked
        trunk = self._trunk_failure()
        if trunk:
            return f"the trunk itself fails: {trunk} (`cockpit resume` tries again)"
        if core.state.live:
            held = self.runs.executor.allocation
            if held is None:
                return "running"
            return f"running{';' if held.held.trouble else ' on'} {held.sentence}"
        strangers = [row["id"] for row in campaign.stranded(core.state, core.lab)]
        if strangers:
            return (
                f"{', '.join(strangers[:3])} stand at a rung that cockpit.toml no longer has: stop them, or put it back"
            )
        if self.intake.stopped:
            return self.intake.stopped
        waiting = any(row["state"] == ProposalState.WAITING for row in core.state.proposals.values())
        return "waiting for a decision" if waiting else "idle"

    def _smoke_failure(self) -> str | None:
        """That the trunk itself fails its smoke, which is the lab's fault and no experiment's; None when it does not."""
        core = self.core
        arm = core.state.trunk_arm
        found = smoke.stand(core.state, core.lab, arm, self.runs.setup) if arm else Stand.PASSED
        if found not in (Stand.FAILED, Stand.OUT):
            return None
        row = smoke.latest(core.state, core.lab, arm, self.runs.setup)
        why = (row["detail"] or row["outcome"]) if row else ""
        return (
            f"the trunk itself fails its smoke run, so the lab is at fault, not an experiment: {why} "
            "(mend it or [smoke] in cockpit.toml, then `cockpit resume`)"
        )

    def _trunk_failure(self) -> str | None:
        """Why no seed of the present trunk gives a result; None when one does, or when it is not known yet."""
        state = self.core.state
        climbed = self.core.lab.climb  # a full-scale run may fail where those that experiments are compared with do not
        arm = [shard for shard in state.shards_of(state.trunk_arm) if shard["rung"] in climbed]
        ended = [shard for shard in arm if shard["state"] == ShardState.ENDED]
        if not ended or any(shard["outcome"] == Outcome.FINISHED for shard in ended):
            return None
        bad = [shard for shard in ended if Outcome(str(shard["outcome"])).own_fault]
        retried = len(ended) > 2 * len(self.core.lab.seeds) - 1
        return str((bad or ended)[0]["detail"]) if bad or retried else None
