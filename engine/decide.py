"""Decisions: compare-and-swap on (proposal, diff hash, state), so that two clients can never both decide one thing."""

from __future__ import annotations

from typing import Any

from engine import events as e
from engine import faults
from engine.core import Core
from engine.proposals import intend
from engine.rpc import INVALID_PARAMS, NOT_NOW, STALE, UNKNOWN_ID, RpcError
from engine.types import Action, ExperimentState, ProposalRow, ProposalState, ShardState, Who


def decide(core: Core, proposal: str, diff_hash: str, action: str, why: str, who: Who, request: str) -> dict[str, Any]:
    """Approve or decline. Returns what became of it; `first` is false when somebody else had decided before.

    Raises RpcError: UNKNOWN_ID, STALE when the diff is not the present one, INVALID_PARAMS for a decline without a reason.
    """
    row = core.state.proposals.get(proposal)
    if row is None:
        raise RpcError(UNKNOWN_ID, f"no proposal {proposal!r}; `cockpit ls` lists them")
    if core.state.requests.get(request, {}).get("proposal") == proposal:
        return _answer(core, proposal, first=True)
    if action not in (Action.APPROVE, Action.DECLINE):
        raise RpcError(INVALID_PARAMS, f"action is {action!r}; it is approve or decline")
    if action == Action.DECLINE and not why.strip():
        raise RpcError(INVALID_PARAMS, "a decline needs a reason: it is what the proposer learns from")
    if row["state"] in (ProposalState.APPROVED, ProposalState.DECLINED):
        return _answer(core, proposal, first=False)
    if row["diff_hash"] != diff_hash and not (row["diff_hash"] is None and not diff_hash):
        raise RpcError(STALE, f"the diff of {proposal} is not the one that was shown: look at it again", _present(row))
    if action == Action.APPROVE and row["state"] == ProposalState.REFUSED:
        raise RpcError(NOT_NOW, f"{proposal} cannot be applied ({row['refusal']}): {row['detail']}")
    if action == Action.APPROVE:
        if not is_current(core, row):
            raise RpcError(
                STALE, f"the trunk moved: {proposal} is being applied afresh, look at it again", _present(row)
            )
        core.record(*approve_event(core, proposal, who, why, request))
    else:
        core.record(_decided(core, row, Action.DECLINE, who, why, request))
    faults.point("decide.done")
    return _answer(core, proposal, first=True)


def is_current(core: Core, row: ProposalRow) -> bool:
    """Whether a proposal applies to the trunk as it stands: only then is a comparison with that trunk one of the idea."""
    return row["parent"] == core.state.experiments[core.state.trunk_arm]["commit"]


def approve_event(
    core: Core, proposal: str, who: Who, why: str, request: str
) -> tuple[e.Decided, e.ExperimentIntended]:
    """The decision and the plan of its branch, to be made durable together."""
    row = core.state.proposals[proposal]
    return _decided(core, row, Action.APPROVE, who, why, request), intend(core, proposal, who, why)


def _decided(core: Core, row: ProposalRow, action: Action, who: Who, why: str, request: str) -> e.Decided:
    return e.Decided(next_decision(core), row["id"], action, row["diff_hash"], who.to_json(), why.strip(), request)


def next_decision(core: Core) -> str:
    return f"d{core.state.counts['decision'] + 1:05d}"


def _present(row: ProposalRow) -> dict[str, Any]:
    return {"state": row["state"], "diff_hash": row["diff_hash"]}


def _answer(core: Core, proposal: str, *, first: bool) -> dict[str, Any]:
    row = core.state.proposals[proposal]
    return {"state": row["state"], "first": first, "by": row["decided_by"], "experiment": row["experiment"]}


def stop(core: Core, target: str, why: str, who: Who, request: str) -> dict[str, Any]:
    """Stop an experiment with all of its shards, or one shard. Raises RpcError: UNKNOWN_ID, NOT_NOW."""
    if request in core.state.requests:
        return core.state.requests[request]
    state = core.state
    if target in state.shards:
        if state.shards[target]["state"] == ShardState.ENDED:
            raise RpcError(NOT_NOW, f"{target} has ended already ({state.shards[target]['outcome']})")
        shards = [target]
    elif target in state.experiments:
        row = state.experiments[target]
        if row["role"] == "trunk":
            raise RpcError(NOT_NOW, "the trunk cannot be stopped: stop a shard of it, or `cockpit pause`")
        if row["state"] not in (ExperimentState.QUEUED, ExperimentState.RUNNING):
            raise RpcError(NOT_NOW, f"{target} is {row['state']}: there is nothing to stop")
        shards = [shard["id"] for shard in state.shards_of(target) if shard["state"] != ShardState.ENDED]
    else:
        raise RpcError(UNKNOWN_ID, f"no experiment or shard {target!r}; `cockpit ls` lists them")
    core.record(e.StopIntended(next_decision(core), target, who.to_json(), why.strip(), request, shards))
    return {"state": "stopping", "shards": shards}
