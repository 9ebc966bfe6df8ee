"""The part of the fold that is about decisions: what each of them makes of a proposal and of its experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import events as e
from engine.types import Action, DecisionRow, ExperimentState, ProposalState

if TYPE_CHECKING:
    from engine.state import State

_STATES = {
    Action.APPROVE: ProposalState.APPROVED,
    Action.DECLINE: ProposalState.DECLINED,
    Action.REVISE: ProposalState.REVISED,
}
_OPEN: dict[str, Any] = {"state": ProposalState.WAITING, "why": None, "decided_by": None}


def add_decision(
    s: State, n: int, t: float, name: str, target: str, action: str, diff: str | None, who: e.Json, why: str
) -> None:
    """The row of a decision; its number is taken."""
    s.counts["decision"] += 1
    row = DecisionRow(
        kind="decision", id=name, seq=n, action=action, target=target, diff_hash=diff, who=who, why=why, at=t
    )
    s.put(row, n)


def decided(s: State, n: int, t: float, ev: e.Decided) -> None:
    """A decision on a proposal."""
    add_decision(s, n, t, ev.decision, ev.target, ev.action, ev.diff, ev.who, ev.why)
    action = Action(ev.action)
    if action == Action.DEFER:
        _change(s, n, ev.target, deferred=t)
    elif action == Action.UNDO:
        _undo(s, n, ev)
    else:
        _change(s, n, ev.target, state=_STATES[action], why=ev.why or None, decided_by=ev.who["name"])
    s.requests[ev.request] = {"proposal": ev.target, "state": str(s.proposals[ev.target]["state"])}


def _undo(s: State, n: int, ev: e.Decided) -> None:
    """It waits again; the branch that may have been made for it stays, and never runs."""
    experiment = s.proposals[ev.target]["experiment"]
    if experiment is not None:
        why = f"its approval was taken back before it ran{': ' + ev.why if ev.why else ''}"
        s.change(s.experiments, n, experiment, {"state": ExperimentState.STOPPED, "why": why})
    _change(s, n, ev.target, **_OPEN, experiment=None)


def replaced(s: State, n: int, old: str, new: str) -> None:
    """Another proposal takes the place of `old`, which is closed unless somebody has decided it meanwhile."""
    row = s.proposals.get(old)
    if row is not None and row["state"] in (ProposalState.WAITING, ProposalState.REFUSED, ProposalState.REVISED):
        _change(s, n, old, state=ProposalState.REVISED, replaced_by=row.get("replaced_by", new))


def not_replaced(s: State, n: int, old: str) -> None:
    """What was asked to be revised waits again when nothing came of it."""
    row = s.proposals.get(old)
    if row is not None and row["state"] == ProposalState.REVISED and "replaced_by" not in row:
        _change(s, n, old, **_OPEN)


def _change(s: State, n: int, name: str, **changes: Any) -> None:
    s.change(s.proposals, n, name, changes)
