"""The last word on a shard of a cluster: the record that its agent wrote, or the one that is written in its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.files import read_tail
from engine.shards.executor import Ended, Event, Vanished
from engine.shards.records import read_exit
from engine.shards.slurm import notes, order, step
from engine.shards.slurm.ends import Lost, lived_s
from engine.shards.slurm.order import Order
from engine.shards.spec import ExitRecord

VISIBLE_S = 65.0
"""Until a file that was written on a node is seen here, at the worst: NFS keeps what it knows for a minute."""


async def record_of(made: Order, output: Path) -> ExitRecord | None:
    """The record that the agent wrote. It is waited for where the agent says, in `output`, that it did: another machine wrote
    it."""
    run_dir, name = Path(made.spec.run_dir), made.spec.record
    found = await asyncio.to_thread(read_exit, run_dir, name)
    if found is not None:
        return found
    said = await asyncio.to_thread(read_tail, output)
    until = time.monotonic() + (VISIBLE_S if step.RECORDED in said else 0.0)
    while found is None and time.monotonic() < until:
        await asyncio.sleep(0.2)
        found = await asyncio.to_thread(read_exit, run_dir, name)
    return found


async def close(made: Order, place: Path, found: Lost, claim: Mapping[str, Any] | None, key: Path) -> Event:
    """Write down how a shard ended whose agent left no record in `place`, and say so. Nothing is written of what vanished, nor
    of a protected step that could not be started: that is done again."""
    spec = made.spec
    if found.how == "vanished" or (found.how == "start-failed" and not spec.fresh):
        return Vanished(spec.id, found.why)
    now = time.time()
    started = now - lived_s(claim, await asyncio.to_thread(notes.read, place / "beat"))
    record = ExitRecord(spec.id, found.how, None, None, started, now, None, error=found.why[:2000] or None)
    seal = await asyncio.to_thread(key.read_bytes)
    try:
        stands = await asyncio.to_thread(order.record_end, Path(spec.run_dir), record, spec.record, seal)
    except OSError as error:
        return Vanished(spec.id, f"{found.why}; its record cannot be written: {error}")
    return Ended(spec.id, spec.record, stands)
