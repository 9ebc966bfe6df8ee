"""Sign-off: a solid experiment's branch becomes part of the trunk. Always a person's act, whatever the lab's gates say."""

from __future__ import annotations

from typing import Any

from engine import events as e
from engine import faults
from engine.acknowledging import refuse_open
from engine.core import Core, now
from engine.decide import next_decision
from engine.opening import next_arm
from engine.proposals import one_line
from engine.repo import Commit, RepoError
from engine.rpc import NOT_NOW, STALE, UNKNOWN_ID, RpcError
from engine.types import SMOKE, Category, ExperimentRow, ExperimentState, Verdict, Who


def sign(core: Core, experiment: str, diff_hash: str, why: str, who: Who, request: str) -> dict[str, Any]:
    """Write down a person's signature; the merge follows. Raises RpcError when there is nothing that may be signed."""
    if request in core.state.requests:
        return core.state.requests[request]
    row = core.state.experiments.get(experiment)
    if row is None or row["role"] == "trunk":
        raise RpcError(UNKNOWN_ID, f"no experiment {experiment!r}; `cockpit ls` lists them")
    _may_sign(core, row, diff_hash, why)
    ours = str(core.state.experiments[core.state.trunk_arm]["commit"])
    core.record(
        e.MergeIntended(
            experiment=experiment,
            decision=next_decision(core),
            diff=diff_hash,
            ours=ours,
            theirs=str(row["commit"]),
            when=float(int(now())),
            author=list(core.identity),
            message=_message(row, who, why),
            who=who.to_json(),
            why=why.strip(),
            request=request,
        )
    )
    return {"state": "merging", "trunk": ours}


def _may_sign(core: Core, row: ExperimentRow, diff_hash: str, why: str) -> None:
    name, verdict = row["id"], row["verdict"]
    if row["state"] == ExperimentState.MERGED:
        raise RpcError(NOT_NOW, f"{name} is in the trunk already")
    if core.state.merges or core.state.pull is not None:
        raise RpcError(NOT_NOW, "the trunk is being moved just now: try again in a moment")
    if verdict is None or row["state"] != ExperimentState.JUDGED:
        raise RpcError(NOT_NOW, f"{name} is {row['state']}: it has no verdict to sign on")
    refuse_open(core.state, name)
    if verdict["verdict"] != Verdict.SOLID:
        _may_sign_without_gain(row, why)
    if row["baseline"] != core.state.trunk_arm:
        raise RpcError(
            NOT_NOW,
            f"{name} was measured against {row['baseline']}; the trunk has moved since: propose it again on the trunk",
        )
    shown = core.state.proposals[str(row["proposal"])]["diff_hash"]
    if diff_hash != shown:
        raise RpcError(
            STALE, f"the diff of {name} is not the one that was shown: look at it again", {"diff_hash": shown}
        )


def _may_sign_without_gain(row: ExperimentRow, why: str) -> None:
    """A bug fix or a systems change need not better the metric; a person who wants it all the same says why."""
    verdict = row["verdict"]
    assert verdict is not None
    if verdict["rung"] == SMOKE:
        raise RpcError(NOT_NOW, f"{row['id']} never had a full run: there is nothing to sign on")
    harmless = verdict["verdict"] in (Verdict.NOT_SOLID, Verdict.UNDECIDED)
    if not harmless or row["category"] not in (Category.BUG_FIX, Category.SYSTEMS):
        raise RpcError(NOT_NOW, f"{row['id']} is {verdict['verdict']}: only a solid experiment can be signed off")
    if not why.strip():
        raise RpcError(
            NOT_NOW,
            f"{row['id']} is {verdict['verdict']}: a harmless {row['category']} change may be signed with a reason",
        )


def _message(row: ExperimentRow, who: Who, why: str) -> str:
    verdict = row["verdict"]
    assert verdict is not None
    lines = [
        f"Accept {row['id']}: {one_line(row['hypothesis'])[:160]}",
        "",
        one_line(verdict["sentence"]),
        *([one_line(why)] if why.strip() else []),
        "",
        f"Cockpit-Experiment: {row['id']}",
        f"Cockpit-Verdict: {verdict['verdict']}",
        f"Cockpit-Effect: {verdict['effect']!r} [{verdict['lo']!r}, {verdict['hi']!r}] n={verdict['n']} rung={verdict['rung']}",
        f"Cockpit-Signed-By: {one_line(who.name)} ({who.os_user}@{who.host})",
        "",
    ]
    return "\n".join(lines)


async def finish_merge(core: Core, experiment: str) -> None:
    """Merge a signed experiment into the trunk; its intent is in the ledger, and doing it again changes nothing."""
    plan = core.state.merges[experiment]
    faults.point("merge.intent")
    try:
        made = await core.git(_merge, core, plan)
    except RepoError as error:
        core.record(e.MergeFailed(experiment, f"not merged: {error}"))
        return
    if isinstance(made, str):
        core.record(e.MergeFailed(experiment, made))
        return
    faults.point("merge.effect")
    why = f"the trunk with {experiment} signed off"
    core.record(
        e.MergeDone(experiment, made.commit, made.tree),
        e.ArmAdded(next_arm(core), made.commit, made.tree, core.lab.branch, why),
    )
    faults.point("merge.done")


async def finish_pull(core: Core) -> None:
    """Merge the researcher's branch into the trunk as they asked; its intent is in the ledger, and twice is like once."""
    plan = core.state.pull
    assert plan is not None
    faults.point("pull.intent")
    try:
        made = await core.git(_merge, core, plan)
    except RepoError as error:
        made = f"not pulled: {error}"
    if isinstance(made, str):
        core.record(e.PullFailed(made))
        return
    faults.point("pull.effect")
    why = f"the trunk with {plan.theirs[:10]} pulled in"
    core.record(e.PullDone(made.commit), e.ArmAdded(next_arm(core), made.commit, made.tree, core.lab.branch, why))
    faults.point("pull.done")


def _merge(core: Core, plan: e.MergeIntended | e.PullIntended) -> Commit | str:
    author = (plan.author[0], plan.author[1])
    made = core.repo.merge(plan.ours, plan.theirs, plan.message, plan.when, author)
    if not isinstance(made, Commit):
        return f"it conflicts with the trunk in {', '.join(made.paths)}"
    core.repo.move(f"refs/heads/{core.lab.branch}", made.commit, plan.ours)
    return made
