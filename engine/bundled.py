"""The part of the fold that is about bundles: several experiments that a person signed together, as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import events as e
from engine.decided import add_decision
from engine.signed import begun
from engine.types import Action, BundleRow, ExperimentRow, ExperimentState

if TYPE_CHECKING:
    from engine.state import State


def intended(s: State, n: int, t: float, ev: e.BundleIntended) -> None:
    """A bundle is an experiment that is signed from the start, and has no verdict: fresh pairs are all that it is judged by."""
    add_decision(s, n, t, ev.decision, ev.experiment, Action.SIGN, None, ev.who, ev.why)
    s.counts["experiment"] = max(s.counts["experiment"], int(ev.experiment))
    s.bundles[ev.experiment] = ev
    s.signoffs[ev.experiment] = e.SignIntended(
        experiment=ev.experiment,
        decision=ev.decision,
        diff="",
        shown={},
        findings=ev.findings,
        ours=ev.parent,
        theirs="",
        rung=ev.rung,
        setup=ev.setup,
        seeds=ev.seeds,
        who=ev.who,
        why=ev.why,
        request=ev.request,
        full=ev.full,
    )
    row = ExperimentRow(
        kind="experiment",
        id=ev.experiment,
        seq=n,
        role="experiment",
        state=ExperimentState.SIGNED,
        hypothesis=f"{', '.join(ev.parts[:-1])} and {ev.parts[-1]} put together",
        category="",
        proposal=None,
        branch=ev.branch,
        parent=ev.parent,
        baseline=ev.baseline,
        commit=None,
        tree=None,
        rung=ev.rung,
        verdict=None,
        pairs=[],
        why=None,
        created=t,
        signoff=begun(ev.who),
        bundle=BundleRow(parts=list(ev.parts), shrunk=list(ev.shrunk), promised=sum(ev.shrunk)),
    )
    s.experiments[ev.experiment] = row
    s.put(row, n)
    s.requests[ev.request] = {"state": "confirming", "experiment": ev.experiment, "seeds": ev.seeds[:3]}


def merged(s: State, n: int, experiment: str) -> None:
    """What went into the trunk as a part of something is in the trunk."""
    plan = s.bundles.get(experiment)
    for part in plan.parts if plan is not None else ():
        changes = {"state": ExperimentState.MERGED, "why": f"merged with {experiment}", "merged_with": experiment}
        s.change(s.experiments, n, part, changes)
