"""The part of the fold that is about retuning: both sides of an experiment at their own best learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from engine import events as e
from engine.decided import add_decision
from engine.types import UNLUCKY, Action, RetuneRow

if TYPE_CHECKING:
    from engine.state import State


def intended(s: State, n: int, t: float, ev: e.RetuneIntended) -> None:
    """A person asked for it. What an earlier one lost to bad luck may run again."""
    add_decision(s, n, t, ev.decision, ev.experiment, Action.RETUNE, None, ev.who, ev.why)
    for shard in [*s.shards_of(ev.experiment), *s.shards_of(ev.baseline)]:
        if shard.get("retune") and shard["outcome"] in (None, *UNLUCKY):
            s.stopped_by_person.discard(shard["id"])
            s.forgiven.add(shard["id"])
    row = RetuneRow(
        kind="retune",
        id=ev.retune,
        seq=n,
        experiment=ev.experiment,
        baseline=ev.baseline,
        rung=ev.rung,
        setup=ev.setup,
        state="tuning",
        factors=list(ev.factors),
        tuning=list(ev.tuning),
        seeds=list(ev.seeds),
        wanted=ev.wanted,
        tried=[],
        trunk_best=None,
        best=None,
        label="",
        sentence="",
        mean=None,
        lo=None,
        hi=None,
        n=0,
        pairs=[],
        who=ev.who,
        why=ev.why,
        began=t,
        ended=None,
    )
    s.retunes[ev.retune] = row
    s.retuning[ev.experiment] = ev.retune
    s.put(row, n)
    s.requests[ev.request] = {"state": "retuning", "retune": ev.retune, "experiment": ev.experiment}


def tuned(s: State, n: int, t: float, ev: e.RetuneTuned) -> None:
    """Each side's best rate is fixed; the pairs come next."""
    best = {"trunk_best": ev.trunk, "best": ev.experiment}
    s.change(s.retunes, n, ev.retune, {"state": "pairs", "tried": ev.tried, "sentence": ev.sentence, **best})


def ended(s: State, n: int, t: float, ev: e.RetuneEnded) -> None:
    """What is left between both sides; or that nothing can be said, and why. Its label stands at the experiment from now on."""
    changes: dict[str, Any] = {name: getattr(ev, name) for name in ("label", "sentence", "mean", "lo", "hi", "n")}
    changes |= {"pairs": cast(Any, ev.pairs), "state": "ended" if ev.label else "withdrawn", "ended": t}
    row = s.change(s.retunes, n, ev.retune, changes)
    s.retuning.pop(row["experiment"], None)
    if ev.label:
        s.change(s.experiments, n, row["experiment"], {"retuned": ev.label})


def withdraw(s: State, n: int, t: float, experiment: str, why: str) -> None:
    """A retuning ends without a word on the experiment, and may be asked for again."""
    ended(s, n, t, e.RetuneEnded(s.retuning[experiment], "", why))
