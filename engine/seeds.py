"""The seeds that are spoken for: what is fresh for one purpose no other has seen, or waits for. Pure."""

from __future__ import annotations

from engine.lab import Lab
from engine.state import State


def taken(state: State, lab: Lab) -> set[int]:
    """Seeds of the lab file, of every shard that ever was, and of what stands on record and may not have run: signatures,
    audits of past merges, and all retunings, since one that was withdrawn gets its own seeds again."""
    found = {*lab.seeds, *(shard["seed"] for shard in state.shards.values())}
    found |= {seed for each in state.signoffs.values() for seed in each.seeds}
    found |= {seed for each in state.audit_plans.values() for seed in each.seeds}
    return found | {seed for each in state.retunes.values() for seed in (*each["tuning"], *each["seeds"])}
