"""Shards for the tests on a cluster, and an executor with its pilot, as an engine would have them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine.daemon import lock, unlock
from engine.paths import StateDir
from engine.shards.executor import Began, Ended, Event
from engine.shards.local import _ask
from engine.shards.slurm.commands import find
from engine.shards.slurm.executor import SlurmExecutor
from engine.shards.slurm.order import GPUS
from engine.shards.slurm.settings import Settings
from engine.shards.spec import ShardSpec
from tests.slurm.cluster import Cluster

PRINTS = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)"


def shard(state: StateDir, id: str, code: str = PRINTS, **fields: Any) -> ShardSpec:
    """A shard that runs `code` in Python."""
    values: dict[str, Any] = {
        "id": id,
        "argv": (sys.executable, "-c", code),
        "cwd": "/",
        "env": {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": GPUS},
        "run_dir": str(state.runs / id),
        "timeout_s": 60.0,
        "tree": "t",
        "rung": "screen",
        "gpus": (GPUS,),
    }
    return ShardSpec(**(values | fields))


def make(slurm: Cluster, state: StateDir, ranks: int = 1, **settings: Any) -> SlurmExecutor:
    """An executor of that cluster."""
    state.make()
    asked = Settings(**({"nodes": 2, "gpus": 4, "walltime_s": 3600.0} | settings))
    return SlurmExecutor(state, asked, find(slurm.env), ranks=ranks, threads=1)


@asynccontextmanager
async def piloted(slurm: Cluster, state: StateDir, **settings: Any) -> AsyncIterator[SlurmExecutor]:
    """An executor with a pilot that is ready, in a lab whose engine is this process."""
    executor = make(slurm, state, **settings)
    held = lock(state)
    try:
        await executor.reattach()
        await executor.confirm()
        await until(executor, lambda: executor.shortage is None)
        yield executor
    finally:
        await executor.close()
        await end(state)
        unlock(held)


async def until(executor: SlurmExecutor, condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return when `condition` holds; asked whenever the executor says that something has changed."""
    changed = asyncio.Event()
    executor.changed = changed.set
    async with asyncio.timeout(seconds):
        while not condition():
            await changed.wait()
            changed.clear()


async def end(state: StateDir) -> None:
    """End the launcher and all that it runs."""
    try:
        running = (await _ask(state, {"op": "list"}))["running"]
        for each in running:
            await _ask(state, {"op": "stop", "id": each["id"], "grace_s": 0})
        await _ask(state, {"op": "retire"})
    except Exception:
        return


async def endings(executor: SlurmExecutor, count: int, seconds: float = 90.0) -> dict[str, Event]:
    """The next so many endings, by shard."""
    found: dict[str, Event] = {}
    events = executor.events()
    async with asyncio.timeout(seconds):
        while len(found) < count:
            event = await anext(events)
            if isinstance(event, Began):
                continue
            assert event.id not in found, f"{event.id} ended twice"
            found[event.id] = event
    return found


def record(event: Event) -> Any:
    """The exit record of a shard that ended."""
    assert isinstance(event, Ended), event
    assert event.exit is not None, event
    return event.exit


def output(state: StateDir, id: str) -> str:
    return (Path(state.runs) / id / "output.log").read_text()
