"""Who has taken which step, looked for cheaply: often after a launch, then ever more seldom, and not where none waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.shards.slurm.order import claimed

FIRST_S, MOST_S = 0.2, 3.0  # between two looks


async def watch(
    waiting: Callable[[], Mapping[str, Path]], told: Callable[[str, Mapping[str, Any]], None], more: asyncio.Event
) -> None:
    """Say once of each of the steps in `waiting` (its place by its id) who claimed it; `more` says that there is a new one."""
    wait_s = FIRST_S
    while True:
        places = dict(waiting())
        found = await asyncio.to_thread(_claims, places)
        for id, claim in found.items():
            told(id, claim)
        wait_s = FIRST_S if found else min(MOST_S, wait_s * 1.5)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s if len(found) < len(places) else None):
                await more.wait()
                more.clear()
                wait_s = FIRST_S


def _claims(places: Mapping[str, Path]) -> dict[str, Mapping[str, Any]]:
    return {id: claim for id, place in places.items() if (claim := claimed(place))}
