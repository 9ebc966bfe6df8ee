"""The ledger's decisions as a lab book: who decided what, when and why, and what they had on their screen. Pure.

What was on the screen is not written down a second time: the ledger is folded up to each decision, and the state just before
it is what every client showed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from engine import events as e
from engine.core import fold_one
from engine.found import experiment_of
from engine.ledger import VERSION, Event
from engine.state import State
from engine.types import Severity

Entry = dict[str, Any]
_TARGETS = ("target", "experiment", "finding")  # fields of events that name what was decided on


def entries(ledger: Iterable[Event]) -> Iterator[Entry]:
    """Every decision, oldest first: `{event, t, decision, action, target, about, diff_hash, who, why, shown}`.

    `about` says what the target is, in a sentence; `shown` what was known of it at that moment (see `_shown`). Pausing and
    resuming are entries too; they have no number and no target. So is what the lab itself found out about signatures: what
    came of a bundle, and audits of past merges; and what of a cluster was asked for, by whom, and how it ended.
    """
    state = State()
    for event in ledger:
        decided = _loaded(event)
        if ("decision", getattr(decided, "decision", "")) in state.rows:
            decided = None  # what somebody decided before is carried out: a merge that waited for fresh pairs
        before = None if decided is None else _seen(state, _target(decided))
        fold_one(state, event)
        if event.type == "audit.ended" and event.v <= VERSION:
            yield _audited(state, event)
        if event.type == "headline.reached" and event.v <= VERSION and (told := _borne_out(state, event)) is not None:
            yield told
        if event.type.startswith("allocation.") and event.v <= VERSION:
            yield _allocated(event)
        if isinstance(decided, e.Paused | e.Resumed):
            action = "pause" if isinstance(decided, e.Paused) else "resume"
            yield _entry(event, "", action, "", None, decided.who, getattr(decided, "why", ""), _seen(state, ""))
        elif decided is not None:
            row: Any = state.rows[("decision", decided.decision)]
            same = (
                before is not None and before["target"] == row["target"] and not isinstance(decided, e.BundleIntended)
            )
            named = before if same and before is not None else _seen(state, row["target"])
            yield _entry(
                event, row["id"], row["action"], row["target"], row["diff_hash"], row["who"], row["why"], named
            )


def _audited(state: State, event: Event) -> Entry:
    """The entry of an audit that has just ended."""
    row = state.audits[event.data["audit"]]
    who = {"kind": "policy", "name": "[judge] audit", "os_user": "", "host": ""}
    numbers = {name: row[name] for name in ("then", "now", "claimed", "within", "audited", "lo", "hi", "claims")}
    seen = {"about": f"{row['id']} {row['state']}: {row['sentence']}", "shown": {"audit": {"id": row["id"], **numbers}}}
    return _entry(event, "", "audit", f"{row['then']}..{row['now']}", None, who, "", seen)


def _allocated(event: Event) -> Entry:
    """The entry of an allocation that somebody confirmed or gave back, or that the cluster ended."""
    data = event.data
    action = {"allocation.confirmed": "ask for", "allocation.released": "give back"}.get(event.type, "lose")
    about = data.get("words", "")
    if data.get("since") and data.get("until"):
        held_s = max(0.0, data["until"] - data["since"])
        about = f"held for {held_s:.0f} s" if held_s < 120 else f"held for {held_s / 3600:.2f} h"
    who = data.get("who") or {"kind": "policy", "name": "the cluster", "os_user": "", "host": ""}
    target = f"allocation {data['name']}" if data.get("name") else "an allocation"
    return _entry(event, "", action, target, None, who, data.get("why", ""), {"about": about, "shown": {}})


def _borne_out(state: State, event: Event) -> Entry | None:
    """The entry of a bundle that its fresh pairs have just decided: what was expected of it beside what was measured."""
    name, action = event.data["experiment"], event.data["action"]
    row = state.experiments[name]
    if "bundle" not in row or action == "more":
        return None
    who = {"kind": "policy", "name": "fresh pairs", "os_user": "", "host": ""}
    off = row["signoff"]
    about = f"{row['hypothesis']}: {row['bundle']['promised']:+.4g} expected of its parts; {off['sentence']}"
    measured = {each: off[each] for each in ("mean", "lo", "hi", "n")}
    return _entry(
        event, "", action, name, None, who, "", {"about": about, "shown": {"bundle": _parts(state, name) | measured}}
    )


def _parts(state: State, bundle: str) -> dict[str, Any]:
    """The parts of a bundle, with the diffs that were signed, and what was expected of each and of all."""
    plan = state.bundles[bundle]
    parts = [
        {**_shown(state, part), "diff_hash": diff, "shrunk": shrunk}
        for part, diff, shrunk in zip(plan.parts, plan.diffs, plan.shrunk, strict=True)
    ]
    return {"parts": parts, "promised": sum(plan.shrunk)}


def _loaded(event: Event) -> Any | None:
    """The event, when a person or a policy decided something by it. A glance at its bytes spares reading all others twice."""
    if event.v > VERSION or (b'"decision"' not in bytes(event.raw) and not event.type.startswith("engine.")):
        return None
    loaded = e.load(event.type, event.v, event.raw)
    is_one = isinstance(loaded, e.Paused | e.Resumed) or bool(getattr(loaded, "decision", ""))
    return loaded if is_one else None


def _target(decided: Any) -> str:
    return next((str(getattr(decided, name)) for name in _TARGETS if hasattr(decided, name)), "")


def _entry(
    event: Event,
    decision: str,
    action: str,
    target: str,
    diff: str | None,
    who: Mapping[str, str],
    why: str,
    seen: Mapping[str, Any],
) -> Entry:
    return {
        "event": event.n,
        "t": event.t,
        "decision": decision,
        "action": action,
        "target": target,
        "about": seen["about"],
        "diff_hash": diff,
        "who": dict(who),
        "why": why,
        "shown": seen["shown"],
    }


def _seen(state: State, target: str) -> dict[str, Any]:
    """What a screen said of this target: a proposal, an experiment, a shard or a finding; nothing of anything else."""
    about, shown = "", dict[str, Any]()
    if target in state.proposals:
        row = state.proposals[target]
        about = row["hypothesis"]
        shown = {"category": row["category"], "risks": list(row["risks"]), "refusal": row["refusal"]}
    elif target in state.experiments:
        about, shown = state.experiments[target]["hypothesis"], _shown(state, target)
        shown |= {"bundle": _parts(state, target)} if target in state.bundles else {}
    elif target in state.shards:
        name = state.shards[target]["experiment"]
        about, shown = f"seed {state.shards[target]['seed']} of {name}", _shown(state, name)
    elif target in state.findings:
        found = state.findings[target]
        about = f"{found['severity']}, {found['rule']} in {found['about']}: {found['sentence']}"
        name = experiment_of(state, found["about"])
        shown = _shown(state, name) if name else {}
    return {"target": target, "about": about, "shown": shown}


def _shown(state: State, experiment: str) -> dict[str, Any]:
    """The verdict of an experiment with its numbers, the findings about it that speak up, and what was said of each."""
    row = state.experiments[experiment]
    verdict: Any = row["verdict"]
    names = ("verdict", "effect", "lo", "hi", "n", "sentence", "rung")
    ours = {experiment, *(shard["id"] for shard in state.shards_of(experiment))}
    spoke = [
        each for each in state.findings.values() if each["about"] in ours and each["severity"] != Severity.NOTE.value
    ]
    return {
        "experiment": experiment,
        "state": row["state"],
        "verdict": None if verdict is None else {name: verdict[name] for name in names},
        **({"retuned": row["retuned"]} if "retuned" in row else {}),
        "findings": [
            {"id": each["id"], "rule": each["rule"], "severity": each["severity"], "sentence": each["sentence"]}
            | ({"acknowledged": each["acknowledged"]} if "acknowledged" in each else {})
            for each in spoke
        ],
    }
