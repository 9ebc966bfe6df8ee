"""A moved trunk: what was in flight on the old one is replayed on the new one, as `exp/0004-slug.r2`, and starts again.

Evidence belongs to the trunk that it was measured against, so an experiment that is replayed is an arm of its own, with none of
it. The approval carries over when the patch is the very one that was approved; else a person reads what it became, as a
proposal. A conflict is the end of it, in a state of its own. Nothing is checked out; no branch is ever moved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine import events as e
from engine import faults
from engine.core import Core, now
from engine.edits import Refused
from engine.field import OPEN
from engine.proposals import Intake, one_line
from engine.proposers.base import Reply
from engine.proposers.writing import Header, Unwritable, as_reply
from engine.repo import BranchExists, Conflict, EmptyDiff, RepoError
from engine.state import State
from engine.types import ExperimentRow, ExperimentState, Verdict

_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@.*$")
_REPLAY = re.compile(r"\.r(\d+)$")


@dataclass(frozen=True, slots=True)
class _Replayed:
    commit: str
    tree: str
    same: bool  # as the patch that was approved


def left_behind(state: State) -> list[ExperimentRow]:
    """The experiments that a moved trunk has left behind and that are still wanted: open ones, and solid ones not signed."""
    return [
        row
        for row in state.experiments.values()
        if row["role"] == "experiment"
        and row["commit"] is not None
        and row["baseline"] != state.trunk_arm
        and row["id"] not in state.merges
        and (row["state"] in OPEN or _is_solid(row))
    ]


def _is_solid(row: ExperimentRow) -> bool:
    verdict = row["verdict"]
    judged = row["state"] == ExperimentState.JUDGED
    return judged and verdict is not None and verdict["verdict"] == Verdict.SOLID


def normalised(diff: str) -> str:
    """A unified diff without what a moved trunk changes in the same patch: hashes of whole files, and numbers of lines."""
    lines = (line for line in diff.splitlines() if not line.startswith("index "))
    return "\n".join(_HUNK.sub("@@", line) for line in lines)


def next_name(name: str) -> str:
    """`0004` to `0004.r2` to `0004.r3`; of a branch too."""
    found = _REPLAY.search(name)
    return f"{name}.r2" if found is None else f"{name[: found.start()]}.r{int(found[1]) + 1}"


async def replay(core: Core, intake: Intake, row: ExperimentRow) -> None:
    """Take one experiment to the present trunk, or write down why it cannot go there. Every step can be repeated safely."""
    arm = core.state.experiments[core.state.trunk_arm]
    try:
        plan = _plan(core, row, str(arm["commit"]))
        made = await core.git(_replayed, core, row, plan)
    except (RepoError, EmptyDiff, Refused) as error:
        core.record(e.ReplayEnded(row["id"], ExperimentState.CONFLICTED, f"not replayed on {arm['id']}: {error}"))
        return
    if isinstance(made, Conflict):
        why = f"it conflicts with {arm['id']} in {', '.join(made.paths)}: propose it again, as it has to be there"
        core.record(e.ReplayEnded(row["id"], ExperimentState.CONFLICTED, why))
    elif made.same:
        core.record(plan)
    else:
        await _to_review(core, intake, row, str(arm["commit"]), made)


def _plan(core: Core, row: ExperimentRow, onto: str) -> e.ExperimentReplayed:
    name = next_name(row["id"])
    was = message_of(core.state, row["id"])
    message = was.replace(f"Cockpit-Experiment: {row['id']}\n", f"Cockpit-Experiment: {name}\n")
    return e.ExperimentReplayed(
        experiment=name,
        of=row["id"],
        parent=onto,
        baseline=core.state.trunk_arm,
        branch=next_name(row["branch"]),
        when=float(int(now())),
        author=list(core.identity),
        message=message.rstrip("\n") + f"\nCockpit-Replayed-From: {row['commit']}\n",
        rung=core.lab.climb[0],
        retest=_is_solid(row) or bool(row.get("retest")),
    )


def message_of(state: State, experiment: str) -> str:
    """The message of an experiment's commit, as it was planned."""
    replayed = state.replays.get(experiment)
    return replayed.message if replayed is not None else state.branch_plans[experiment].message


def _replayed(core: Core, row: ExperimentRow, plan: e.ExperimentReplayed) -> _Replayed | Conflict:
    """The commit on the new trunk, under no branch yet. Runs on git's thread. Raises RepoError, EmptyDiff and Refused."""
    author = (plan.author[0], plan.author[1])
    made = core.repo.replay(str(row["commit"]), plan.parent, plan.message, plan.when, author)
    if isinstance(made, Conflict):
        return made
    core.repo.check_tree(plan.parent, made.commit, core.lab.is_editable)
    old = core.repo.diff(str(row["parent"]), str(row["commit"]))
    new = core.repo.diff(plan.parent, made.commit)
    return _Replayed(made.commit, made.tree, normalised(old) == normalised(new))


async def branch(core: Core, experiment: str) -> None:
    """Make the branch of a replayed experiment. Its plan is in the ledger; doing this again changes nothing."""
    plan = core.state.replays[experiment]
    faults.point("branch.intent")
    try:
        made = await core.git(_replayed, core, core.state.experiments[plan.of], plan)
        assert not isinstance(made, Conflict)  # it was replayed when it was planned, and the same again is the same
        await core.git(core.repo.create_branch, plan.branch, made.commit)
    except (RepoError, EmptyDiff, Refused, BranchExists) as error:
        core.record(e.ExperimentFailed(experiment, f"no branch could be made: {error}"))
        return
    faults.point("branch.effect")
    core.record(e.ExperimentBranched(experiment, made.commit, made.tree, plan.branch))
    faults.point("branch.done")


# --- back to review ----------------------------------------------------------------------------------------------------


async def _to_review(core: Core, intake: Intake, row: ExperimentRow, onto: str, made: _Replayed) -> None:
    """What it became is another patch than the one that was approved: a person reads it, as a proposal."""
    why = f"on {core.state.trunk_arm} its patch reads differently than what was approved"
    try:
        text = await core.git(_as_proposal, core, row, onto, made)
    except (Unwritable, Refused) as error:
        core.record(e.ReplayEnded(row["id"], ExperimentState.CONFLICTED, f"{why}, and cannot be proposed: {error}"))
        return
    source = core.blobs.put(text.encode())
    known = next((name for name, blob in core.state.sources.items() if blob == source), None)  # from before a crash
    origin = f"experiment {row['id']}, replayed on a trunk that moved"
    proposer = core.state.proposals[str(row["proposal"])]["proposer"]
    name = known or await intake.add(Reply(text, origin, by=proposer, again=True))
    core.record(e.ReplayEnded(row["id"], ExperimentState.MOVED, f"{why}: {name} waits for review", name))


def _as_proposal(core: Core, row: ExperimentRow, onto: str, made: _Replayed) -> str:
    proposal = core.state.proposals[str(row["proposal"])]
    paths = [each["path"] for each in proposal["files"]]
    before = {path: core.repo.read(onto, path) for path in paths}
    after = {path: core.repo.read(made.commit, path) for path in paths}
    header = Header(
        one_line(proposal["hypothesis"]),
        proposal["category"],
        f"{one_line(proposal['mechanism'])} (experiment {row['id']} on {core.state.trunk_arm})",
        one_line(proposal["prediction"]) or "not given",
        proposal.get("predicted_effect"),
    )
    return as_reply(header, before, after)
