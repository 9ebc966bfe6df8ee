"""What is done about a proposal that broke at its smoke: Claude is asked to mend it, and what comes back goes to review.

A repair is a proposal like any other, with a diff and a hash of its own; that what it mends had been approved approves nothing
of it, and no policy may. The reader sees how it differs from what was approved, beside the whole of it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from engine import faults
from engine.applying import applied
from engine.asking import Asking
from engine.core import Core, now, policy
from engine.desk import spent
from engine.edits import Refused, parse, unified
from engine.money import reached
from engine.proposers.base import Proposer
from engine.repo import RepoError
from engine.rpc import RpcError
from engine.smoke import is_broken
from engine.state import State
from engine.text import clean
from engine.types import ExperimentRow, ExperimentState, ProposalRow, ProposalState

MOST = 2
"""How often a model is asked to mend what began as one approved proposal."""


def broken(state: State, row: ProposalRow) -> ExperimentRow | None:
    """The experiment of an approved proposal that ended at its smoke; None for any other proposal."""
    experiment = state.experiments.get(row["experiment"] or "")
    ended = row["state"] == ProposalState.APPROVED and experiment is not None and is_broken(experiment)
    return experiment if ended else None


def due(state: State) -> str | None:
    """The oldest proposal that a repair is to be asked for: it broke at its smoke on the trunk as it stands, nobody has mended
    it, no round was about it, and fewer than `MOST` rounds led to it."""
    rows = [
        row
        for row in state.experiments.values()
        if row["baseline"] == state.trunk_arm and row["state"] == ExperimentState.JUDGED and is_broken(row)
    ]
    if not rows:
        return None
    asked = {row["repairs"] for row in state.rounds.values() if "repairs" in row}
    mended = {row["repairs"] for row in state.proposals.values() if "repairs" in row}
    for experiment in rows:
        name = str(experiment["proposal"])
        if name not in asked and name not in mended and _rounds_before(state, name, asked) < MOST:
            return name
    return None


def _rounds_before(state: State, name: str, asked: set[str]) -> int:
    count = 0
    while name := state.proposals[name].get("repairs", ""):
        count += name in asked
    return count


def ask_for_one(core: Core, asking: Asking, proposer: Proposer) -> bool:
    """Begin a round for the next repair that is due, when Claude proposes, a key is there, nobody is being asked and the
    budget allows it. It is due until then, so that a crash in between forgets nothing."""
    if proposer.name != "claude" or asking.credentials is None or asking.running():
        return False
    name = due(core.state)
    if name is None or reached(core.lab.budget, spent(core, now())):
        return False
    with suppress(RpcError):  # somebody else was first: the next look finds out
        asking.begin(proposer, 1, "", policy("repair after a smoke"), f"repair-{name}", repairs=name)
        faults.point("repair.done")
        return True
    return False


def since_approval(core: Core, name: str) -> dict[str, Any] | None:
    """How a repair differs from what was approved: a unified diff from that commit to the files that it would make. None for
    a proposal that repairs nothing. Runs on git's thread."""
    row = core.state.proposals[name]
    base = core.state.proposals.get(row.get("repairs", ""))
    experiment = core.state.experiments.get(base["experiment"] or "") if base else None
    if base is None or experiment is None or experiment["commit"] is None or row["diff_hash"] is None:
        return None
    commit = experiment["commit"]
    try:
        text = core.blobs.get(core.state.sources[name]).decode("utf-8", "replace")
        _, after = applied(core, parse(text), row["parent"])
        paths = {*after, *(file["path"] for file in base["files"])}
        approved = {path: core.repo.read(commit, path) for path in paths}
        now_ = {path: after[path] if path in after else core.repo.read(row["parent"], path) for path in paths}
    except (Refused, RepoError):
        return None  # what may be edited has changed since; the whole diff is shown in any case
    diff = clean(unified(approved, now_))
    return {"proposal": base["id"], "experiment": experiment["id"], "commit": commit, "diff": diff}
