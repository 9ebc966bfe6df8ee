"""What becomes of the allocation that shards run in, taken into the ledger and the warnings: each end once, whoever saw it."""

from __future__ import annotations

from engine import events as e
from engine.core import Core, policy
from engine.shards.executor import Allocation, Over


def record_ends(core: Core, held: Allocation | None) -> None:
    """Write down how allocations ended, also those that ended while no engine ran. An end that an engine wrote down, and could
    not say so before it died, is not written again. Raises RpcError when the ledger is read-only."""
    for over in held.ends if held is not None else ():
        if held is not None:
            if over.id not in core.state.allocations_over:
                core.record(_event(over))
            held.written(over.id)


def _event(over: Over) -> e.AllocationReleased | e.AllocationEnded:
    who = policy(over.rule).to_json() if over.rule else over.who
    if who is None:
        return e.AllocationEnded(over.id, over.name, over.how, over.why, over.since, over.until)
    return e.AllocationReleased(dict(who), over.why, over.id, over.name, over.since, over.until)


class AllocationWarnings:
    """What a person should know of the allocation, among the engine's warnings as long as it holds."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._said: list[str] = []

    def look(self, held: Allocation | None) -> None:
        """Take in what is to be said now, in place of what was."""
        found = list(held.warnings) if held is not None else []
        if found != self._said:
            kept = [each for each in self.core.warnings if each not in self._said]
            self.core.warnings[:] = [*kept, *found]
            self._said = found
