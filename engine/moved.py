"""The part of the fold that is about experiments which a moved trunk left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import events as e
from engine.types import ExperimentRow, ExperimentState, ProposalRow

if TYPE_CHECKING:
    from engine.state import State


def queued(
    ev: e.ExperimentIntended | e.ExperimentReplayed,
    n: int,
    created: float,
    proposal: str | None,
    of: ProposalRow | ExperimentRow,
) -> ExperimentRow:
    """The row of an arm that has run nothing yet, made from what it is of: its proposal, or the arm that it replays."""
    row = ExperimentRow(
        kind="experiment",
        id=ev.experiment,
        seq=n,
        role="experiment",
        state=ExperimentState.QUEUED,
        hypothesis=of["hypothesis"],
        category=of["category"],
        proposal=proposal,
        branch=ev.branch,
        parent=ev.parent,
        baseline=ev.baseline,
        commit=None,
        tree=None,
        rung=ev.rung,
        verdict=None,
        pairs=[],
        why=None,
        created=created,
    )
    if claims := of.get("claims"):
        row["claims"] = claims
    return row


def replayed(s: State, n: int, t: float, ev: e.ExperimentReplayed) -> None:
    """An experiment goes on as another arm, without any of its evidence; the proposal's experiment is that arm now."""
    s.replays[ev.experiment] = ev
    old = s.experiments[ev.of]
    row = queued(ev, n, old["created"], old["proposal"], old)
    row["replay_of"] = ev.of
    if ev.retest:
        row["retest"] = True
    s.experiments[ev.experiment] = row
    s.put(row, n)
    why = f"the trunk moved to {ev.baseline}: it goes on as {ev.experiment}"
    changes = {"state": ExperimentState.MOVED, "why": why, "moved_to": ev.experiment}
    s.change(s.experiments, n, ev.of, changes)
    s.change(s.proposals, n, str(old["proposal"]), {"experiment": ev.experiment})


def ended(s: State, n: int, t: float, ev: e.ReplayEnded) -> None:
    """An experiment could not be replayed as it was approved."""
    changes = {"state": ev.state, "why": ev.why} | ({"moved_to": ev.proposal} if ev.proposal else {})
    s.change(s.experiments, n, ev.experiment, changes)
