"""The engine's one train of thought: look at the state, take the next steps, wait for something to happen.

All effects on git, shards and the trunk are started from here, one after the other, so that no two of them race. What a client
decides is written to the ledger at once (`engine.methods`) and carried out here.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine import campaign, faults
from engine import events as e
from engine.core import Core, policy
from engine.decide import approve_event
from engine.lab import LabError, load
from engine.proposals import Intake, branch, rebase
from engine.repo import RepoError
from engine.runs import GRACE_S, Runs
from engine.shards.executor import Ended, ExecutorError
from engine.shards.spec import ShardSpec
from engine.signing import finish_merge
from engine.types import Outcome, ProposalState, ShardState

log = logging.getLogger("engine")
LOOK_AGAIN_S = 5.0


class Conductor:
    """Runs the campaign of one lab."""

    def __init__(self, core: Core, runs: Runs, intake: Intake) -> None:
        self.core = core
        self.runs = runs
        self.intake = intake
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.opened = asyncio.Event()
        self._intake_lock = asyncio.Lock()
        self._preparing: str | None = None
        self._prepare_error: str | None = None
        self._stalled: str | None = None

    async def run(self) -> None:
        """Open the campaign, pick up what a crash left, then go on until cancelled. A read-only ledger is only looked at."""
        if self.core.ledger.read_only:
            self.core.set_phase("read-only: a newer version wrote this ledger")
            self.opened.set()
            await asyncio.get_running_loop().create_future()
        await self.open()
        await self.runs.recover()
        self.opened.set()
        while True:
            self.core.wake.clear()
            try:
                busy = await self.step()
                self._stalled = None
            except (RepoError, ExecutorError, OSError) as error:
                log.exception("step")
                self._stalled, busy = str(error), False
            self._show_phase()
            if not busy:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.core.wake.wait(), LOOK_AGAIN_S)

    async def listen(self) -> None:
        """Take what the executor says has ended; run beside `run`."""
        async for event in self.runs.executor.events():
            log.info("%s %s", "ended" if isinstance(event, Ended) else "vanished", event.id)
            self.ended.put_nowait(event.id)
            self.core.wake.set()

    async def refill(self, wanted: int) -> list[str]:
        """Ask the proposer until `wanted` proposals wait; shares one lock with the conductor's own refills."""
        async with self._intake_lock:
            return await self.intake.refill(wanted)

    # --- opening ---

    async def open(self) -> None:
        """The trunk exists, and the ledger knows the lab as it is configured now."""
        core = self.core
        core.record(e.EngineStarted(os.getpid(), socket.gethostname(), boot_id(), version()))
        if core.state.config != core.lab.text_hash:
            text = (core.lab.root / "cockpit.toml").read_bytes()
            core.record(e.ConfigLoaded(core.blobs.put(text), lab_fields(core, self.runs)))
        if not core.state.trunk_arm:
            _, head = await core.git(core.repo.head)
            if not core.state.trunk_intended:
                core.record(e.TrunkIntended(head))
            faults.point("open.intent")
            commit = await core.git(core.repo.ensure_trunk, head)
            faults.point("open.effect")
            await self._add_arm(commit, f"the trunk, as forked at {commit[:10]}")
            faults.point("open.done")
        else:
            await self._follow_trunk("the trunk was moved outside the cockpit")

    async def _follow_trunk(self, why: str) -> None:
        commit = await self.core.git(self.core.repo.trunk)
        if self.core.state.merges or commit == self.core.state.experiments[self.core.state.trunk_arm]["commit"]:
            return
        await self._add_arm(commit, f"{why}, to {commit[:10]}")

    async def _add_arm(self, commit: str, why: str) -> None:
        tree = await self.core.git(self.core.repo.tree_of, commit)
        name = f"trunk-{self.core.state.counts['trunk'] + 1}"
        self.core.record(e.ArmAdded(name, commit, tree, self.core.lab.branch, why))

    # --- one round ---

    async def step(self) -> bool:
        """Do what is to be done now; True when something was done, so that it is worth looking again at once."""
        core, busy = self.core, False
        while not self.ended.empty():
            await self._take(self.ended.get_nowait())
            busy = True
        for target in list(core.state.stops):
            busy = await self._stop(target) or busy
        for experiment in list(core.state.merges):
            await finish_merge(core, experiment)
            busy = True
        await self._follow_trunk("the trunk moved")
        await self._rebase_waiting()
        ready = await self._prepared()
        for each in campaign.plan(core.state, core.lab, len(self.runs.slots), launching=ready):
            busy = await self._carry_out(each) or busy
        if not busy:
            busy = bool(await self.refill(core.lab.proposer.queue)) or self._approve_by_policy()
        return busy

    async def _carry_out(self, step: campaign.Step) -> bool:
        if isinstance(step, campaign.Branch):
            await branch(self.core, step.experiment)
        elif isinstance(step, campaign.Launch):
            await self.runs.launch(step)
        elif isinstance(step, campaign.Cancel):
            await self.runs.cancel(step.shard)
            return False
        else:
            faults.point("verdict.intent")
            self.core.record(step.event)
            faults.point("verdict.done")
            if isinstance(step.event, e.VerdictReached) and step.event.final:
                self.runs.drop_checkpoints(step.event.experiment)
        return True

    async def _take(self, name: str) -> None:
        if name == self._preparing:
            self._end_prepare(name)
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

    async def _rebase_waiting(self) -> None:
        trunk = self.core.state.experiments[self.core.state.trunk_arm]["commit"]
        for row in list(self.core.state.proposals.values()):
            if row["state"] == ProposalState.WAITING and row["parent"] != trunk:
                await rebase(self.core, row["id"])

    def _approve_by_policy(self) -> bool:
        """What the lab's gate lets through without asking; recorded as the policy's decision."""
        ask = self.core.lab.ask
        for row in list(self.core.state.proposals.values()):
            if row["state"] != ProposalState.WAITING or ask == "always" or (ask == "risky" and row["risks"]):
                continue
            why = "no static rule spoke up" if ask == "risky" else "the lab asks about nothing"
            who = policy(f'ask = "{ask}"')
            self.core.record(*approve_event(self.core, row["id"], who, why, f"policy-{row['id']}-{row['diff_hash']}"))
            return True
        return False

    # --- data ---

    async def _prepared(self) -> bool:
        """True when the lab's data lie ready; starts their preparation, once, when they do not."""
        lab, core = self.core.lab, self.core
        if lab.prepare is None or self.runs.data is not None:
            return True
        key = await self._data_key()
        ready = core.dir.data / key
        if (ready / "ready.json").is_file():
            self.runs.data = ready
            return True
        if self._preparing is None and self._prepare_error is None:
            await self._prepare(key)
        return False

    async def _data_key(self) -> str:
        """Hash of what the data depend on: the command, and the content of the trunk's files that it names."""
        core, lab = self.core, self.core.lab
        assert lab.prepare is not None
        commit = str(core.state.experiments[core.state.trunk_arm]["commit"])
        entries = await core.git(core.repo.entries, commit)
        files = {part: entries[part].oid for part in lab.prepare.command if part in entries}
        text = json.dumps([lab.prepare.command, files, lab.interpreter()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    async def _prepare(self, key: str) -> None:
        core, lab = self.core, self.core.lab
        assert lab.prepare is not None
        commit = str(core.state.experiments[core.state.trunk_arm]["commit"])
        tree = await core.git(core.repo.export, commit, core.dir.trees)
        part = core.dir.data / f"{key}.part"
        tries = len(list(core.dir.runs.glob(f"prepare-{key}-*")))
        name = f"prepare-{key}-{tries + 1}"
        running = await self.runs.executor.reattach()
        for old in running:
            if old.startswith(f"prepare-{key}-"):
                self._preparing = old
                return
        shutil.rmtree(part, ignore_errors=True)
        for place in (part / "open", part / "held"):
            place.mkdir(parents=True, mode=0o700)
        values = lab.prepare_values(data=part / "open", held=part / "held")
        run_dir = core.dir.runs / name
        slot = self.runs.slots[0]
        spec = ShardSpec(
            id=name,
            argv=lab.fill(lab.prepare.command, values),
            cwd=str(tree),
            env=self.runs.environment(tree, run_dir, slot, lab.fill_env(values)),
            run_dir=str(run_dir),
            timeout_s=lab.prepare.timeout_s,
            nice=lab.nice,
        )
        self._preparing = name
        await self.runs.executor.launch(spec)

    def _end_prepare(self, name: str) -> None:
        self._preparing = None
        key = name.split("-")[1]
        error = self.runs.step_error(name)
        if error is not None:
            self._prepare_error = f"preparing data failed: {error} (runs/{name}/output.log)"
            self.core.warnings.append(self._prepare_error)
            return
        part = self.core.dir.data / f"{key}.part"
        (part / "ready.json").write_text(json.dumps({"key": key, "by": name}))
        os.rename(part, self.core.dir.data / key)

    # --- the status line ---

    def _show_phase(self) -> None:
        self.core.set_phase(self._phase())

    def _phase(self) -> str:
        core = self.core
        if self._stalled:
            return f"stalled: {self._stalled}"
        if core.state.paused is not None:
            return f"paused: {core.state.paused}"
        if self._prepare_error:
            return self._prepare_error
        if self._preparing:
            return "preparing data"
        trunk = [shard for shard in core.state.shards_of(core.state.trunk_arm) if shard["state"] == ShardState.ENDED]
        bad = [shard for shard in trunk if shard["outcome"] and Outcome(shard["outcome"]).own_fault]
        if bad and len(bad) == len(trunk):
            return f"the trunk itself fails: {bad[0]['detail']}"
        if core.state.live:
            return "running"
        return "waiting for a decision" if self._waiting() else "idle"

    def _waiting(self) -> bool:
        return any(row["state"] == ProposalState.WAITING for row in self.core.state.proposals.values())


def lab_fields(core: Core, runs: Runs) -> dict[str, Any]:
    """The part of the lab's row that comes from its file."""
    lab = core.lab
    return {
        "name": lab.name,
        "root": str(lab.root),
        "metric": lab.metric.name,
        "direction": lab.metric.direction,
        "unit": lab.metric.unit,
        "compare": lab.compare,
        "scored_by": "referee" if lab.score else "self-reported",
        "rungs": list(lab.climb),
        "seeds": list(lab.seeds),
        "slots": len(runs.slots),
        "isolation": runs.executor.isolation,
        "ask": lab.ask,
        "proposer": lab.proposer.kind,
    }


def config_problem(root: Path) -> str | None:
    """What is wrong with the lab file now; None when it reads."""
    try:
        load(root)
    except (LabError, OSError) as error:
        return str(error)
    return None


def boot_id() -> str:
    """The kernel's name for this boot; empty where there is none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def version() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as of

    try:
        return of("research-cockpit")
    except PackageNotFoundError:
        return "checkout"


__all__ = ["GRACE_S", "Conductor", "boot_id", "config_problem", "lab_fields", "version"]
