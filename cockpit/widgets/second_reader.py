"""What stands above a diff of its risks, each with who says so: the static rules, and a second reader if there is one."""

from __future__ import annotations

from collections.abc import Iterator

from engine.types import ProposalRow, ReadingRow

from ..model import ReadModel

Labelled = tuple[str, str, str]
"""A label, a text, and the name of its colour."""


def risks(model: ReadModel, row: ProposalRow) -> Iterator[Labelled]:
    """Risk flags of a proposal, those of the rules first."""
    for risk in row["risks"]:
        yield "risk, rules", risk, "bad"
    reading = model.reading_of(row["id"])
    if reading is None or reading["reader"] == "rules":
        yield from _predicted(reading)
        return
    old = "" if reading["diff_hash"] == row["diff_hash"] else "of an earlier diff: "
    if reading["state"] == "reading":
        yield "reader", f"{reading['model']} is reading it; you need not wait", "dim"
    elif reading["state"] != "done":
        detail = reading["detail"] or "no detail was given"
        yield "reader", f"{reading['model']} has not read it, {reading['state']}: {detail}", "warn"
    elif not reading["flags"]:
        yield "reader", f"{old}{reading['model']} found nothing to stop at", "dim"
    for flag in reading["flags"]:
        place = f"{flag['path']}: " if flag["path"] else ""
        yield "risk, model", f"{old}{flag['kind']}: {place}{flag['sentence']}", "bad"
    yield from _predicted(reading)


def _predicted(reading: ReadingRow | None) -> Iterator[Labelled]:
    """What was predicted, once that can change no decision any more."""
    if reading is None or reading["p_approve"] is None or reading["p_solid"] is None:
        return
    who = reading["model"] or "what was usual so far"
    yield "predicted", f"{who}: approved {reading['p_approve']:.0%}, solid {reading['p_solid']:.0%}", "dim"
