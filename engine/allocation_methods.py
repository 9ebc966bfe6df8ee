"""What clients may ask of the allocation that shards run in: to see it, to confirm it, to give it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine import events as e
from engine import rpc
from engine.allocated import record_ends
from engine.core import Core
from engine.rpc import RpcError
from engine.runs import Runs
from engine.shards.executor import Allocation, ExecutorError
from engine.types import Who

ALLOCATED = ("pilot",)
NONE: dict[str, Any] = {
    "asked": False,
    "words": "",
    "sentence": "shards run on this machine",
    "job": None,
    "state": None,
    "why": "",
    "left_s": None,
    "nodes": [],
    "idle_release_s": None,
    "files_offset_s": None,
}
"""The answer where shards need no allocation."""


class AllocationMethods:
    """The methods, bound to one engine. `who_of` is who decides: a person, or a policy by its name."""

    def __init__(self, core: Core, runs: Runs, who_of: Callable[[str], Who]) -> None:
        self.core = core
        self.runs = runs
        self.who_of = who_of

    async def do_pilot(self, action: str = "show", why: str = "", policy: str = "") -> dict[str, Any]:
        """Show the allocation, confirm that it is asked for, or release it: what `Allocation.view` says of it. `words` is empty
        where the lab needs none."""
        held = self.runs.executor.allocation
        if held is None:
            if action != "show":
                said = 'shards run on this machine: executor = "slurm" under [run] takes a cluster'
                raise RpcError(rpc.NOT_NOW, said)
            return NONE
        if action not in ("show", "confirm", "release"):
            raise RpcError(rpc.NOT_NOW, f"{action!r} is neither show, confirm nor release")
        if action != "show":
            self.core.check_writable()
            await self._carry_out(held, action, why.strip(), policy)
        return held.view

    def staying(self) -> dict[str, Any] | None:
        """What becomes of the allocation when the engine stops now: `{job, sentence}`; None where there is none."""
        held = self.runs.executor.allocation
        sentence = held.stays if held is not None else ""
        return {"job": held.view["job"], "sentence": sentence} if held is not None and sentence else None

    async def _carry_out(self, held: Allocation, action: str, why: str, policy: str) -> None:
        who = self.who_of(policy).to_json()
        try:
            if action == "confirm":
                if held.asked:
                    raise RpcError(rpc.NOT_NOW, f"there is one already: {held.sentence}")
                self.core.record(e.AllocationConfirmed(held.words, who, why))
                await held.confirm()
            else:
                if not held.asked:
                    raise RpcError(rpc.NOT_NOW, "there is none")
                await held.release(why, who)
                record_ends(self.core, held)
        except ExecutorError as error:
            raise RpcError(rpc.NOT_NOW, str(error)) from error
