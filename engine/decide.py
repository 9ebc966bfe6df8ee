"""Decisions: compare-and-swap on (proposal, diff hash, state), so that two clients can never both decide one thing."""

from __future__ import annotations

from typing import Any

from engine import events as e
from engine import faults
from engine.core import Core
from engine.proposals import intend
from engine.rpc import INVALID_PARAMS, NOT_NOW, STALE, UNKNOWN_ID, RpcError
from engine.types import Action, ExperimentState, ProposalRow, ProposalState, ShardState, Who

ACTIONS = (Action.APPROVE, Action.DECLINE, Action.DEFER, Action.UNDO)
CLOSED = (ProposalState.APPROVED, ProposalState.DECLINED, ProposalState.REVISED)


def decide(core: Core, proposal: str, diff_hash: str, action: str, why: str, who: Who, request: str) -> dict[str, Any]:
    """Approve, decline, defer, or undo one of the former. Returns what became of it; `first` is false when somebody else had
    decided before.

    Raises RpcError: UNKNOWN_ID, STALE when the diff is not the present one, INVALID_PARAMS for a decline without a reason.
    """
    row = find(core, proposal)
    if core.state.requests.get(request, {}).get("proposal") == proposal:
        return _answer(core, proposal, first=True)
    if action not in ACTIONS:
        raise RpcError(INVALID_PARAMS, f"action is {action!r}; it is one of {', '.join(ACTIONS)}")
    if action == Action.DECLINE and not why.strip():
        raise RpcError(INVALID_PARAMS, "a decline needs a reason: it is what the proposer learns from")
    if action == Action.UNDO:
        core.record(_undo(core, row, who, why, request))
        return _answer(core, proposal, first=True)
    if row["state"] in CLOSED:
        return _answer(core, proposal, first=False)
    check_shown(row, diff_hash)
    if action != Action.DECLINE and row["state"] == ProposalState.REFUSED:
        raise RpcError(NOT_NOW, f"{proposal} cannot be applied ({row['refusal']}): {row['detail']}")
    if action == Action.APPROVE:
        if not is_current(core, row):
            raise RpcError(
                STALE, f"the trunk moved: {proposal} is being applied afresh, look at it again", _present(row)
            )
        core.record(*approve_event(core, proposal, who, why, request))
    else:
        core.record(decided(core, row, Action(action), who, why, request))
    faults.point("decide.done")
    return _answer(core, proposal, first=True)


def find(core: Core, proposal: str) -> ProposalRow:
    """The row of a proposal. Raises RpcError(UNKNOWN_ID)."""
    row = core.state.proposals.get(proposal)
    if row is None:
        raise RpcError(UNKNOWN_ID, f"no proposal {proposal!r}; `cockpit ls` lists them")
    return row


def check_shown(row: ProposalRow, diff_hash: str) -> None:
    """Raise RpcError(STALE) unless the diff that was on the screen is the present one."""
    if row["diff_hash"] != diff_hash and not (row["diff_hash"] is None and not diff_hash):
        raise RpcError(STALE, f"the diff of {row['id']} is not the one that was shown: look at it again", _present(row))


def open_row(core: Core, proposal: str, diff_hash: str, *states: ProposalState) -> ProposalRow:
    """A proposal that is in one of `states` and has the diff that was shown. Raises RpcError: UNKNOWN_ID, NOT_NOW, STALE."""
    row = find(core, proposal)
    if row["state"] not in states:
        by = f" by {row['decided_by']}" if row["decided_by"] else ""
        raise RpcError(NOT_NOW, f"{proposal} is {row['state']}{by}, no longer {states[0]}", _present(row))
    check_shown(row, diff_hash)
    return row


def _undo(core: Core, row: ProposalRow, who: Who, why: str, request: str) -> e.Decided:
    """Take a decline back, or an approval of which nothing has run. Raises RpcError(NOT_NOW)."""
    if row["state"] == ProposalState.APPROVED:
        experiment = core.state.experiments.get(row["experiment"] or "")
        if (
            experiment is None
            or experiment["state"] != ExperimentState.QUEUED
            or core.state.shards_of(experiment["id"])
        ):
            raise RpcError(NOT_NOW, f"{row['id']} runs already, as {row['experiment']}: it can be stopped, not undone")
        if core.lab.ask == "never" or (core.lab.ask == "risky" and not row["risks"]):
            raise RpcError(NOT_NOW, f'ask = "{core.lab.ask}" would approve it again at once: stop {row["experiment"]}')
    elif row["state"] == ProposalState.REVISED and row.get("replaced_by"):
        raise RpcError(NOT_NOW, f"{row['replaced_by']} has taken the place of {row['id']}: decide on that one")
    elif row["state"] != ProposalState.DECLINED:
        raise RpcError(NOT_NOW, f"{row['id']} is {row['state']}: there is no decision to undo")
    return decided(core, row, Action.UNDO, who, why, request)


def is_current(core: Core, row: ProposalRow) -> bool:
    """Whether a proposal applies to the trunk as it stands: only then is a comparison with that trunk one of the idea."""
    return row["parent"] == core.state.experiments[core.state.trunk_arm]["commit"]


def approve_event(
    core: Core, proposal: str, who: Who, why: str, request: str
) -> tuple[e.Decided, e.ExperimentIntended]:
    """The decision and the plan of its branch, to be made durable together."""
    row = core.state.proposals[proposal]
    return decided(core, row, Action.APPROVE, who, why, request), intend(core, proposal, who, why)


def decided(core: Core, row: ProposalRow, action: Action, who: Who, why: str, request: str) -> e.Decided:
    """The event of a decision on the diff as it is now."""
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
        busy = (ExperimentState.QUEUED, ExperimentState.RUNNING, ExperimentState.SIGNED)
        if row["state"] not in busy and target not in state.retuning:
            raise RpcError(NOT_NOW, f"{target} is {row['state']}: there is nothing to stop")
        if target in state.merges:
            raise RpcError(NOT_NOW, f"{target} is being merged: it is too late to stop it")
        shards = [shard["id"] for shard in state.shards_of(target) if shard["state"] != ShardState.ENDED]
    else:
        raise RpcError(UNKNOWN_ID, f"no experiment or shard {target!r}; `cockpit ls` lists them")
    core.record(e.StopIntended(next_decision(core), target, who.to_json(), why.strip(), request, shards))
    return {"state": "stopping", "shards": shards}
