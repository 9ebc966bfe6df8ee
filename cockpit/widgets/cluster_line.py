"""The one line of the Runs screen about the cluster: how the allocation stands that shards run in."""

from __future__ import annotations

from collections.abc import Iterable

from engine.types import AllocationRow, StandingRow

from .. import format as f
from ..attempts import needed, waiting
from ..cluster import busy, foretold, left, span
from ..model import ReadModel
from .lines import Line, Span

SHORT_S = 300.0
"""Walltime below which it is marked whatever runs: nobody knows how long that takes."""


def cluster_line(model: ReadModel, width: int, now: float) -> Line | None:
    """The line at `now` (unix seconds); None where shards run on this machine."""
    if model.cluster is None:
        return None
    held = model.cluster["allocation"]
    state, name = held["state"], f" pilot {held['job']}" if "job" in held else " pilot"
    if state == "none":
        spans = _none(model, held)
    elif state == "asked":
        spans = [(f"{name} is being asked for", "text")]
    elif state == "waiting":
        spans = _waits(name, held, now)
    else:
        spans = _runs(model, name, held, now)
    spans += _besides(model.cluster["shards"].values())
    if trouble := held.get("trouble"):
        spans.append((f" · no answer: {trouble}", "warn"))
    return Line(tuple(_within(spans, width)))


def _none(model: ReadModel, held: AllocationRow) -> list[Span]:
    count = waiting(model)
    why = held.get("why", "")
    spans: list[Span] = [(f" {why}" if why else " no pilot", "warn" if count else "dim")]
    spans.append((f": p asks for {held['words']}", "text" if count else "dim"))
    if count:
        spans.insert(1, (f", {f.plural(count, 'shard')} {'waits' if count == 1 else 'wait'}", "warn"))
    return spans


def _waits(name: str, held: AllocationRow, now: float) -> list[Span]:
    why = held.get("why", "")
    spans: list[Span] = [(f"{name} waits", "text")]
    if why:
        spans.append((why.removeprefix("waits") if why.startswith("waits ") else f": {why}", "dim"))
    if soon := foretold(held.get("starts"), now):
        spans.append((f", {soon}", "dim"))
    return spans


def _runs(model: ReadModel, name: str, held: AllocationRow, now: float) -> list[Span]:
    assert model.cluster is not None
    spans: list[Span] = [(name, "text")]
    if nodes := held.get("nodes"):
        spans.append((f" · {nodes}", "dim"))
    if held["state"] == "begun":
        return [*spans, (" · its nodes are being looked at", "dim")]
    if unwell := held.get("unwell"):
        spans.append((f", {f.plural(unwell, 'node')} lost or unwell", "warn"))
    taken, places = busy(model.cluster, model.shards.values()), held.get("places")
    if places == 0:
        spans.append((" · none of its nodes is well", "warn"))
    else:
        spans.append((f" · {taken}{f' of {places}' if places else ''} busy", "run" if taken else "dim"))
    rest = left(held.get("until"), now)
    if rest is not None:
        needs = needed(model, now)
        late = bool(taken) and (rest < needs if needs is not None else rest < SHORT_S)
        more = f", {span(needs)} needed" if late and needs is not None else ""
        spans.append((f" · {span(rest)} left{more}", "warn" if late else "dim"))
    return spans


def _besides(shards: Iterable[StandingRow]) -> list[Span]:
    """How many shards the queue has in jobs of their own."""
    states = [each["state"] for each in shards]
    runs, waits = states.count("running"), states.count("queued")
    spans: list[Span] = []
    if runs:
        spans.append((f" · {runs} in {'a job of its own' if runs == 1 else 'jobs of their own'}", "run"))
    return [*spans, (f" · {waits} in the queue", "dim")] if waits else spans


def _within(spans: list[Span], width: int) -> list[Span]:
    """The spans, the last one cut with an ellipsis where they take more than `width` cells."""
    room, out = width - 1, []
    for text, colour in spans:
        size = f.width_of(text)
        if size > room:
            if room > 1:
                out.append((f.fit(text, room), colour))
            break
        out.append((text, colour))
        room -= size
    return out
