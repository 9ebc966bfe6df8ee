"""The part of the fold that is about signatures which fresh pairs have to bear out before anything is merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from engine import events as e
from engine.decided import add_decision
from engine.types import UNLUCKY, Action, ExperimentState, Outcome, SignOffRow

if TYPE_CHECKING:
    from engine.state import State


def sign_intended(s: State, n: int, t: float, ev: e.SignIntended) -> None:
    """A person signed. Seeds of an earlier signature of theirs may run again, whatever had ended them."""
    add_decision(s, n, t, ev.decision, ev.experiment, Action.SIGN, ev.diff, ev.who, ev.why)
    s.signoffs[ev.experiment] = ev
    row = s.experiments[ev.experiment]
    for shard in [*s.shards_of(ev.experiment), *s.shards_of(str(row["baseline"]))]:
        # one without an outcome may be ending just now, and the trunk's side ends early when the other one is stopped
        if shard.get("fresh") and shard["outcome"] in (None, Outcome.ENDED_EARLY, *UNLUCKY):
            s.stopped_by_person.discard(shard["id"])
            s.forgiven.add(shard["id"])
    changes = {"state": ExperimentState.SIGNED, "signoff": begun(ev.who), "why": None}
    s.change(s.experiments, n, ev.experiment, changes)
    s.requests[ev.request] = {"state": "confirming", "experiment": ev.experiment, "seeds": ev.seeds[:3]}


def begun(who: e.Json) -> SignOffRow:
    """A signature that no fresh pair has said anything of yet."""
    return SignOffRow(
        state="confirming", sentence="no fresh pair yet", by=who["name"], mean=None, lo=None, hi=None, n=0, pairs=[]
    )


def headline_reached(s: State, n: int, t: float, ev: e.HeadlineReached) -> None:
    """The fresh pairs so far; a veto ends the signature, and what confirms it waits for its merge."""
    names = ("mean", "lo", "hi", "n", "sentence", "pairs")
    state = {"confirmed": "confirmed", "vetoed": "vetoed"}.get(ev.action, "confirming")
    changes: dict[str, Any] = {
        "signoff": _off(s, ev.experiment, state=state, **{name: getattr(ev, name) for name in names})
    }
    if ev.action == "vetoed":
        s.signoffs.pop(ev.experiment, None)
        changes |= {"state": ExperimentState.VETOED, "why": ev.sentence}
    s.change(s.experiments, n, ev.experiment, changes)


def sign_withdrawn(s: State, n: int, t: float, ev: e.SignWithdrawn) -> None:
    """Fresh pairs can say nothing any more."""
    withdraw(s, n, ev.experiment, ev.why)


def withdraw(s: State, n: int, experiment: str, why: str) -> None:
    """The experiment stands as before it was signed, and may be signed again."""
    s.signoffs.pop(experiment, None)
    changes: dict[str, Any] = {"state": ExperimentState.JUDGED, "why": f"no longer signed: {why}"}
    changes["signoff"] = _off(s, experiment, state="withdrawn", sentence=why)
    s.change(s.experiments, n, experiment, changes)


def _off(s: State, experiment: str, **changes: Any) -> SignOffRow:
    return cast(SignOffRow, {**s.experiments[experiment]["signoff"], **changes})
