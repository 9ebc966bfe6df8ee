"""The seeds that are spoken for: what is fresh for one purpose no other has seen, or waits for. Pure."""

from __future__ import annotations

from engine.lab import Lab
from engine.state import State


def taken(state: State, lab: Lab) -> set[int]:
    """Seeds of the lab file, of every shard that ever was, and of what stands on record and has not run yet: signatures, audits
    of past merges, retunings."""
    found = {*lab.seeds, *(shard["seed"] for shard in state.shards.values())}
    found |= {seed for each in state.signoffs.values() for seed in each.seeds}
    found |= {seed for each in state.audit_plans.values() for seed in each.seeds}
    open_ = (state.retunes[name] for name in state.retuning.values())
    return found | {seed for each in open_ for seed in (*each["tuning"], *each["seeds"])}
