"""The two fixed lines: the tabs at the top, and at the bottom what runs, what waits, and how the line to the engine is."""

from __future__ import annotations

from collections.abc import Sequence

from .. import format as f
from ..model import ReadModel
from .lines import Line, Span


def header(model: ReadModel, screen: str, width: int) -> Line:
    """Name of the lab, the screens with the present one lit, and where help is."""
    lab = model.lab
    waiting = len(model.waiting())
    spans: list[Span] = [(f" {lab['name'] if lab else 'cockpit'}  ", "strong")]
    for number, name, badge in (("1", "Runs", 0), ("2", "Review", waiting), ("3", "SQL", 0)):
        here = name.lower() == screen
        spans.append((f" {number} {name}", "accent" if here else "dim"))
        spans.append((f" {badge}" if badge else "", "warn"))
        spans.append((" ", "dim"))
    left = sum(f.width_of(text) for text, _ in spans)
    about = ""
    if lab:
        arrow = "lower is better" if lab["direction"] == "min" else "higher is better"
        scored = "scored by protected code" if lab["scored_by"] == "referee" else "self-reported"
        about = f"{lab['metric']} · {arrow} · {scored}"
    right = "? help "
    room = width - left - len(right) - 2
    about = f.fit(about, room, right=True) if room > 20 else " " * max(room, 0)
    return Line((*spans, (about + "  ", "faint"), (right, "dim")), "raised")


def counts(model: ReadModel) -> tuple[int, int, int]:
    """Shards running (or being scored), shards and experiments queued, proposals waiting."""
    running = sum(row["state"] in ("running", "scoring") for row in model.shards.values())
    queued = sum(row["state"] == "queued" for row in model.shards.values())
    return running, queued, len(model.waiting())


def best(model: ReadModel) -> Span | None:
    """The best solid verdict so far, in words."""
    solid = [row for row in model.experiments.values() if row["verdict"] and row["verdict"]["verdict"] == "solid"]
    if not solid:
        return None
    top = max(solid, key=lambda row: (row["verdict"] and row["verdict"]["effect"]) or 0.0)
    found = top["verdict"]
    assert found is not None
    return f"best {top['id']} {f.interval(found['effect'], found['lo'], found['hi'], short=True)}", "good"


def status(
    model: ReadModel,
    link_state: str,
    trouble: Sequence[str],
    message: Span | None,
    width: int,
    phase: str | None = None,
) -> Line:
    """The bottom line; until the next key a message takes the place of the less urgent half, and if it must of the counts.
    `phase` is what the engine is doing, where that is not to be said in its own words."""
    running, queued, waiting = counts(model)
    left: list[Span] = [
        (f" ● {running} running", "run" if running else "faint"),
        (f"  ○ {queued} queued", "text" if queued else "faint"),
        (f"  ✎ {waiting} to review", "warn" if waiting else "faint"),
    ]
    right: list[Span] = []
    if link_state == "connecting":
        right.append(("connecting", "warn"))
    elif link_state != "connected":
        right.append(("reconnecting; runs keep going", "bad"))
    if message is not None:
        middle: list[Span] = [message]
        beside = sum(f.width_of(text) for text, _ in (*left, *right))
        if f.width_of(message[0]) > width - beside - 7:
            left = []
    elif trouble:
        middle = [(trouble[0], "bad")]
    else:
        lab = model.lab
        first = best(model)
        middle = [first] if first else []
        if lab:
            said = lab["phase"] if phase is None else phase
            middle += [(said, "warn" if lab["config_error"] else "dim")] if said else []
            right = right or [
                (lab["isolation"], "dim" if lab["isolation"].startswith("box") else "bad"),
                ("attached", "dim"),
            ]
    return _spread(left, middle, right, width)


def _spread(left: list[Span], middle: list[Span], right: list[Span], width: int) -> Line:
    tail: list[Span] = []
    for text, name in right:
        tail += [("   " if tail else "", "dim"), (text, name)]
    used = sum(f.width_of(text) for text, _ in left)
    end = sum(f.width_of(text) for text, _ in tail) + 1
    room = width - used - end - 3
    spans = list(left)
    for text, name in middle:
        if room < 12 or (f.width_of(text) > room and name in ("good", "dim")):
            continue
        shown = f.fit(text, room).rstrip() if f.width_of(text) > room else text
        spans.append((f"   {shown}", name))
        room -= f.width_of(shown) + 3
    gap = width - sum(f.width_of(text) for text, _ in spans) - end
    if gap < 1:
        return Line(tuple(spans), "raised")
    return Line((*spans, (" " * gap, "dim"), *tail, (" ", "dim")), "raised")
