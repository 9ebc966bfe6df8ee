"""How often each source of the data is gone through: by the shares that a diff gives it, at this budget and at the largest one.

A small source with a large share is fine in a short run and is learnt by heart in a long one. What a source has to draw from is
what the trunk's run says of itself, so a diff that selects other documents is reckoned with the documents of the trunk. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from engine.halfway import Measures
from engine.lab import Lab
from engine.mix import MixRow
from engine.state import State
from engine.types import FULL


class Epochs(TypedDict):
    """Passes over each source in one run, before and after a diff; `tokens` that such a run is trained on."""

    rung: str
    tokens: float
    before: dict[str, float]
    after: dict[str, float]


def measured(state: State, lab: Lab) -> Measures | None:
    """What a run of the trunk at the rung where experiments start says of its data; None where none says anything."""
    for shard in state.shards_of(state.trunk_arm):
        found = state.measures.get(shard["id"])
        if shard["rung"] == lab.climb[0] and found is not None and found.tokens and found.source_tokens:
            return found
    return None


def epochs(mix: MixRow, trunk: Measures, lab: Lab) -> list[Epochs]:
    """At the rung where experiments start, and projected at the largest one where that is another. Budgets of a lab are taken
    to be in one unit, as steps and tokens are. Empty where the sources of the mix are not those that the run names."""
    budgets = {rung.name: rung.budget for rung in lab.rungs}
    start = lab.climb[0]
    largest = FULL if FULL in budgets else max(budgets, key=lambda name: budgets[name])
    found = []
    for rung in dict.fromkeys((start, largest)):
        tokens = (trunk.tokens or 0.0) * budgets[rung] / budgets[start]
        before, after = (_passes(side, trunk.source_tokens, tokens) for side in (mix["before"], mix["after"]))
        if before or after:
            found.append(Epochs(rung=rung, tokens=tokens, before=before, after=after))
    return found


def _passes(shares: Mapping[str, float], sizes: Mapping[str, float], tokens: float) -> dict[str, float]:
    return {name: share * tokens / sizes[name] for name, share in shares.items() if sizes.get(name)}
