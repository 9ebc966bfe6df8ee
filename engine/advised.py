"""The part of the fold that is about advice: briefs after a batch, and second readings before a decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import events as e
from engine.types import BriefRow, CallRow, ReadingRow

if TYPE_CHECKING:
    from engine.state import State


def brief_began(s: State, n: int, t: float, ev: e.BriefBegan) -> None:
    row = BriefRow(
        kind="brief",
        id=ev.brief,
        seq=n,
        state="writing",
        writer=ev.writer,
        model=ev.model,
        detail="",
        category="",
        retry_at=None,
        experiments=list(ev.experiments),
        upto=ev.upto,
        body=None,
        claims=[],
        dropped=0,
        who=ev.who,
        usd=0.0,
        began=t,
        ended=None,
    )
    s.briefs[ev.brief] = row
    s.put(row, n)
    s.requests[ev.request] = {"brief": ev.brief}


def brief_ended(s: State, n: int, t: float, ev: e.BriefEnded) -> None:
    names = ("state", "writer", "detail", "category", "retry_at", "body", "claims", "dropped")
    s.change(s.briefs, n, ev.brief, {"ended": t, **{name: getattr(ev, name) for name in names}})
    if ev.body is not None:
        s.bodies.add(ev.body)


def reading_began(s: State, n: int, t: float, ev: e.ReadingBegan) -> None:
    row = ReadingRow(
        kind="reading",
        id=ev.reading,
        seq=n,
        proposal=ev.proposal,
        diff_hash=ev.diff,
        reader=ev.reader,
        model=ev.model,
        state="reading",
        detail="",
        category="",
        retry_at=None,
        flags=[],
        p_approve=None,
        p_solid=None,
        sealed=None,
        usd=0.0,
        began=t,
        ended=None,
        opened=None,
    )
    s.readings[ev.reading] = row
    s.put(row, n)


def reading_ended(s: State, n: int, t: float, ev: e.ReadingEnded) -> None:
    names = ("state", "detail", "category", "retry_at", "flags", "sealed")
    s.change(s.readings, n, ev.reading, {"ended": t, **{name: getattr(ev, name) for name in names}})
    if ev.sealed is not None:
        s.sealed[ev.sealed] = ev.reading
        s.bodies.add(ev.sealed)


def reading_opened(s: State, n: int, t: float, ev: e.ReadingOpened) -> None:
    s.change(s.readings, n, ev.reading, {"opened": t, "p_approve": ev.p_approve, "p_solid": ev.p_solid})


def paid(s: State, n: int, call: CallRow, usd: float | None) -> None:
    """A call that was made for a brief or a reading has ended. The whole answer of a reader holds its predictions."""
    name = call["round"]
    if name in s.briefs:
        s.change(s.briefs, n, name, {"usd": total(s.briefs[name]["usd"], usd)})
    elif name in s.readings:
        s.change(s.readings, n, name, {"usd": total(s.readings[name]["usd"], usd)})
        if call["reply"] is not None:
            s.sealed[call["reply"]] = name


def total(so_far: float | None, more: float | None) -> float | None:
    """Dollars with those of one more call; None as soon as one of them has no price."""
    return None if so_far is None or more is None else so_far + more
