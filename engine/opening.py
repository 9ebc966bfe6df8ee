"""The start of a campaign, and of every engine after a crash: the trunk exists, and the ledger knows the lab as it is now."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from engine import events as e
from engine import faults
from engine.core import Core
from engine.proposals import intend
from engine.runs import Runs
from engine.types import Action, ProposalState, Who


async def open_campaign(core: Core, runs: Runs) -> None:
    """Fork the trunk when there is none, take note of a changed lab file or machine, and finish torn approvals."""
    known = core.state.lab
    if core.state.config != core.lab.text_hash or (known is not None and known["isolation"] != runs.specs.isolation):
        text = (core.lab.root / "cockpit.toml").read_bytes()
        core.record(e.ConfigLoaded(core.blobs.put(text), lab_fields(core, runs)))
    if core.state.trunk_arm:
        await follow_trunk(core, "the trunk was moved outside the cockpit")
    else:
        if core.state.trunk_start is None:
            _, head = await core.git(core.repo.head)
            core.record(e.TrunkIntended(head))
        faults.point("open.intent")
        commit = await core.git(core.repo.ensure_trunk, str(core.state.trunk_start))
        faults.point("open.effect")
        await add_arm(core, commit, f"the trunk, as forked at {commit[:10]}")
        faults.point("open.done")
    for row in list(core.state.proposals.values()):
        if row["state"] == ProposalState.APPROVED and row["experiment"] is None:
            core.record(intend(core, row["id"], _approver(core, row["id"]), row["why"] or ""))


def _approver(core: Core, proposal: str) -> Who:
    for row in core.state.rows.values():
        if row["kind"] == "decision" and row["target"] == proposal and row["action"] == Action.APPROVE:
            return Who(**row["who"])  # type: ignore[arg-type]
    raise AssertionError(f"{proposal} was approved without a decision")


async def follow_trunk(core: Core, why: str) -> None:
    """Take the trunk as an arm of its own where it stands now, when nobody of us is moving it."""
    commit = await core.git(core.repo.trunk)
    moving = core.state.merges or core.state.pull is not None
    if not moving and commit != core.state.experiments[core.state.trunk_arm]["commit"]:
        await add_arm(core, commit, f"{why}, to {commit[:10]}")


async def add_arm(core: Core, commit: str, why: str) -> None:
    tree = await core.git(core.repo.tree_of, commit)
    core.record(e.ArmAdded(next_arm(core), commit, tree, core.lab.branch, why))


def next_arm(core: Core) -> str:
    """The id of the trunk's next arm."""
    return f"trunk-{core.state.counts['trunk'] + 1}"


def started() -> e.EngineStarted:
    """The event that an engine begins with."""
    return e.EngineStarted(os.getpid(), socket.gethostname(), boot_id(), version())


def lab_fields(core: Core, runs: Runs) -> dict[str, Any]:
    """The part of the lab's row that comes from its file."""
    lab = core.lab
    return {
        "name": lab.name,
        "root": str(lab.root),
        "metric": lab.metric.name,
        "direction": lab.metric.direction,
        "unit": lab.metric.unit,
        "compare": lab.compare,
        "scored_by": "referee" if lab.score else "self-reported",
        "rungs": list(lab.climb),
        "seeds": list(lab.seeds),
        "slots": len(runs.specs.slots),
        "isolation": runs.specs.isolation,
        "ask": lab.ask,
        "proposer": lab.proposer.kind,
        "loss": lab.metric.loss,
        **({"evaluations": {each.name: each.direction for each in lab.evaluations}} if lab.evaluations else {}),
    }


def boot_id() -> str:
    """The kernel's name for this boot; empty where there is none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def version() -> str:
    """The version of this program."""
    try:
        return version_of("research-cockpit")
    except PackageNotFoundError:
        return "checkout"
