"""The part of the fold that is about asking models: rounds, and the calls that they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import events as e
from engine.advised import paid, total
from engine.decided import not_replaced
from engine.types import CallRow, RoundRow

if TYPE_CHECKING:
    from engine.state import State


def round_began(s: State, n: int, t: float, ev: e.RoundBegan) -> None:
    row = RoundRow(
        kind="round",
        id=ev.round,
        seq=n,
        proposer=ev.proposer,
        state="asking",
        detail="",
        category="",
        retry_at=None,
        wanted=ev.wanted,
        added=[],
        note=ev.note,
        who=ev.who,
        usd=0.0,
        began=t,
        ended=None,
    )
    if ev.revises:
        row["revises"] = ev.revises
    if ev.repairs:
        row["repairs"] = ev.repairs
    s.rounds[ev.round] = row
    s.put(row, n)
    s.requests[ev.request] = {"round": ev.round}


def round_ended(s: State, n: int, t: float, ev: e.RoundEnded) -> None:
    changes = {name: getattr(ev, name) for name in ("state", "detail", "category", "retry_at", "added")}
    s.change(s.rounds, n, ev.round, {**changes, "ended": t})
    if revises := s.rounds[ev.round].get("revises"):
        not_replaced(s, n, revises)


def call_intended(s: State, n: int, t: float, ev: e.CallIntended) -> None:
    row = CallRow(
        kind="call",
        id=ev.call,
        seq=n,
        round=ev.round,
        proposer=ev.proposer,
        model=ev.model,
        effort=ev.effort,
        purpose=ev.purpose,
        state="running",
        detail="",
        stop_reason=None,
        input=0,
        cache_read=0,
        cache_write=0,
        output=0,
        thinking=0,
        usd=None,
        most_usd=ev.most_usd,
        request=ev.request,
        reply=None,
        began=t,
        ended=None,
    )
    s.calls[ev.call] = row
    s.put(row, n)


def call_ended(s: State, n: int, t: float, ev: e.CallEnded) -> None:
    usage = {name: ev.usage.get(name, 0) for name in ("input", "cache_read", "cache_write", "output", "thinking")}
    changes = {name: getattr(ev, name) for name in ("state", "usd", "stop_reason", "detail", "reply")}
    row = s.change(s.calls, n, ev.call, {**usage, **changes, "ended": t})
    if row["round"] in s.rounds:
        s.change(s.rounds, n, row["round"], {"usd": total(s.rounds[row["round"]]["usd"], ev.usd)})
    else:
        paid(s, n, row, ev.usd)
