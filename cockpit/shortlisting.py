"""The shortlist as the Runs screen shows it: an order of its table, and a line for the selected experiment. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.types import ExperimentRow

from . import format as f
from .model import ReadModel
from .summary import RowKey, matches

if TYPE_CHECKING:
    from engine.shortlist import Listed

SHORTLIST = "shortlist"
"""Name of the order."""


def listed(model: ReadModel) -> list[Listed]:
    """Solid experiments on the present trunk, best first."""
    from engine.shortlist import shortlist  # not before the first paint: an empty table needs none of it

    trunk = model.lab["trunk_arm"] if model.lab else ""
    return shortlist(trunk, model.experiments.values(), model.shards.values(), model.findings.values())


def keys(model: ReadModel, terms: str, unfolded: set[str]) -> list[RowKey]:
    """Lines of the table in this order: the shortlist alone, each followed by its shards when unfolded."""
    found: list[RowKey] = []
    for each in listed(model):
        if not matches(model.experiments[each["experiment"]], terms):
            continue
        found.append(RowKey(each["experiment"]))
        if each["experiment"] in unfolded:
            found += [RowKey(each["experiment"], shard["id"]) for shard in model.shards_of(each["experiment"])]
    return found


def place_of(model: ReadModel, row: ExperimentRow, unit: str) -> str:
    """Where an experiment stands on the shortlist and why, in a sentence; empty when it does not."""
    if row["verdict"] is None or row["verdict"]["verdict"] != "solid":
        return ""
    found = listed(model)
    mine = next((each for each in found if each["experiment"] == row["id"]), None)
    if mine is None or mine["shrunk"] is None:
        return ""
    cost = f"{f.duration(mine['seconds'])} of shards"
    rate = f", {f.signed(mine['per_hour'])} an hour" if mine["per_hour"] is not None else ""
    beside = f"; {f.plural(len(mine['findings']), 'finding')}" if mine["findings"] else ""
    gain = f"{f.signed(mine['shrunk'])} {unit} allowing for luck"
    return f"shortlist {mine['place']} of {len(found)}: {gain}, {cost}{rate}{beside}"
