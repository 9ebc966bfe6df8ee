"""Findings and sign-off: what a person has to acknowledge first, and what nobody can. Always a person's act, with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import events as e
from engine.core import Core
from engine.decide import next_decision
from engine.found import experiment_of, open_findings
from engine.rpc import INVALID_PARAMS, NOT_NOW, UNKNOWN_ID, RpcError
from engine.state import State
from engine.types import ExperimentState, Severity, Who

SHOWN = 3  # findings that a refusal names
INSTEAD = "Propose the idea again without that, for example by `cockpit propose --edit`"


def acknowledge(core: Core, findings: Sequence[str], why: str, who: Who, request: str) -> dict[str, Any]:
    """Write down that a person knows of these findings; all of them, or none. Returns where their experiments stand then.

    Raises RpcError: UNKNOWN_ID; INVALID_PARAMS without a reason, or for a policy; NOT_NOW for one that nobody can acknowledge.
    """
    if request in core.state.requests:
        return _answer(core.state, findings)
    if who.kind != "person":
        raise RpcError(INVALID_PARAMS, "a finding is acknowledged by a person, never by a policy")
    if not findings or not why.strip():
        raise RpcError(INVALID_PARAMS, "name the findings, and say why the experiment may be kept all the same")
    fresh = []
    for name in dict.fromkeys(findings):
        row = core.state.findings.get(name)
        if row is None:
            raise RpcError(UNKNOWN_ID, f"no finding {name!r}; `cockpit findings` lists them")
        if row["severity"] == Severity.NEVER:
            raise RpcError(NOT_NOW, f"{name} cannot be acknowledged: {row['sentence']}. {INSTEAD}")
        if "acknowledged" not in row:
            fresh.append(name)
    first = int(next_decision(core)[1:])
    core.record(
        *(
            e.FindingAcknowledged(name, f"d{first + place:05d}", who.to_json(), why.strip(), request)
            for place, name in enumerate(fresh)
        )
    )
    return _answer(core.state, findings)


def _answer(state: State, findings: Sequence[str]) -> dict[str, Any]:
    names = dict.fromkeys(experiment_of(state, state.findings[each]["about"]) for each in findings)
    left = {name: [row["id"] for row in open_findings(state, name)] for name in names if name}
    return {"acknowledged": list(findings), "open": left}


def refuse_open(state: State, experiment: str) -> None:
    """Raise RpcError(NOT_NOW) unless nothing that was found stands between an experiment and the trunk."""
    left = open_findings(state, experiment)
    if not left or state.experiments[experiment]["state"] == ExperimentState.MERGED:
        return
    never = [row for row in left if row["severity"] == Severity.NEVER]
    if never:
        said = "; ".join(f"{row['id']} {row['sentence']}" for row in never[:SHOWN])
        raise RpcError(NOT_NOW, f"{experiment} can never be signed off: {said}. {INSTEAD}")
    said = "; ".join(f"{row['id']} {row['sentence']}" for row in left[:SHOWN])
    more = f" (and {len(left) - SHOWN} more)" if len(left) > SHOWN else ""
    ids = " ".join(row["id"] for row in left)
    raise RpcError(
        NOT_NOW,
        f"{experiment} has findings that nobody has acknowledged: {said}{more}. Look at them "
        f"(`cockpit findings {experiment}`); `cockpit ack {ids} --why REASON` says that it may be kept all the same",
        {"findings": [row["id"] for row in left]},
    )
