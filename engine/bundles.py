"""Several solid experiments signed together: their patches become one commit, which fresh pairs have to bear out.

Each gain was measured alone, and two of them may do the same thing or stand in each other's way. So the bundle is an experiment
of its own, `exp/NNNN-bundle`, which has shown nothing yet: its fresh pairs are all that it is judged by. It is merged by itself
when they confirm; else its parts are where they were. Nothing in it is new to the person who signs: a part that reads
differently after the others than it was approved is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine import confirming, faults
from engine import events as e
from engine.acknowledging import refuse_open
from engine.core import Core, now
from engine.decide import next_decision
from engine.edits import Refused
from engine.full_run import check_wanted
from engine.judge.fresh import FEWEST
from engine.judge.words import Words
from engine.moving import message_of, normalised
from engine.pricing import Price, price_of
from engine.proposals import one_line
from engine.repo import BranchExists, Commit, Conflict, EmptyDiff, RepoError
from engine.rpc import INVALID_PARAMS, NOT_NOW, UNKNOWN_ID, RpcError
from engine.shortlist import expected_gain
from engine.signing import may_sign
from engine.state import State
from engine.types import Claim, ExperimentRow, ExperimentState, Verdict, Who


class NotTogether(Exception):
    """The patches cannot be put together as they were approved; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What putting a part in its place depends on; git's thread never looks at the state."""

    experiment: str
    parent: str
    commit: str
    message: str


def put_together(core: Core, parts: Sequence[_Part], onto: str, when: float, author: tuple[str, str]) -> Commit:
    """The commit of all parts on `onto`, one after the other; no ref is moved. Deterministic. Runs on git's thread.

    Raises NotTogether, RepoError, and Refused for a tree that no proposal may make."""
    at, before = onto, list[str]()
    for part in parts:
        behind = f" after {', '.join(before)}" if before else ""
        try:
            made = core.repo.replay(part.commit, at, part.message, when, author)
        except EmptyDiff:
            raise NotTogether(f"{part.experiment} changes nothing{behind}: sign without it") from None
        if isinstance(made, Conflict):
            where = ", ".join(made.paths)
            raise NotTogether(f"{part.experiment} conflicts{behind} in {where}: sign one of them by itself")
        as_approved = normalised(core.repo.diff(part.parent, part.commit))
        if normalised(core.repo.diff(at, made.commit)) != as_approved:
            raise NotTogether(
                f"{part.experiment} reads differently{behind} than what was approved: sign it by itself, or propose it again"
            )
        at = made.commit
        before.append(part.experiment)
    core.repo.check_tree(onto, at, core.lab.is_editable)
    return Commit(at, core.repo.tree_of(at))


# --- signing -----------------------------------------------------------------------------------------------------------


async def price_together(core: Core, names: Sequence[str]) -> dict[str, Any]:
    """What signing these together would run, cost and start again, and what is expected of it. Raises RpcError where it cannot
    be done, so that nobody is asked for a signature that would be refused."""
    rows = _parts(core, names, [_diff(core, name) for name in names])
    known = standing(core.state, [row["id"] for row in rows])
    if known is None:
        await _try(core, rows)
    told = price_of(core.state, core.lab, _rung(rows), but=names)
    shrunk, unit = _shrunk(rows), Words(core.lab.metric.unit, 4)
    expected = " ".join(unit.signed(each) for each in shrunk)
    sentence = (
        f"puts {both(names)} together, of which {unit.amount(sum(shrunk))} is expected ({expected}); {told['sentence']}"
    )
    return {**Price(**{**told, "sentence": sentence}), "parts": list(names), "shrunk": shrunk, "promised": sum(shrunk)}


async def sign_together(
    core: Core,
    names: Sequence[str],
    diffs: Sequence[str],
    why: str,
    who: Who,
    request: str,
    setup: str,
    *,
    full: bool = False,
) -> dict[str, Any]:
    """Write down a person's signature on several experiments; the bundle's branch, its fresh pairs and its merge follow.

    Raises RpcError when there is nothing that may be signed, and when the patches do not go together."""
    if request in core.state.requests:
        return core.state.requests[request]
    check_wanted(core.lab, full)
    rows = _parts(core, names, diffs)
    if not setup:
        raise RpcError(NOT_NOW, "the data are being prepared, and fresh pairs need them: try again when that is done")
    if standing(core.state, names) is None:
        await _try(core, rows)
        rows = _parts(core, names, diffs)  # somebody may have signed meanwhile, or the trunk moved
    known = standing(core.state, names)
    intent = _intent(core, rows, diffs, why, who, request, setup, full) if known is None else None
    if intent is not None:
        core.record(intent)
    elif known is not None:
        core.record(_again(core, known, rows, why, who, request, setup, full))
    faults.point("bundle.done")
    name = intent.experiment if intent is not None else str(known and known["id"])
    return {"state": "confirming", "experiment": name, "seeds": core.state.signoffs[name].seeds[:FEWEST]}


def standing(state: State, names: Sequence[str]) -> ExperimentRow | None:
    """The bundle of these very parts on the present trunk that can be signed again, or that was vetoed. Its seeds stay the
    same: putting the same things together once more is no second draw."""
    for name, plan in state.bundles.items():
        row = state.experiments[name]
        dead = row["state"] in (ExperimentState.FAILED, ExperimentState.MERGED)
        if set(plan.parts) == set(names) and row["baseline"] == state.trunk_arm and not dead:
            return row
    return None


def both(names: Sequence[str]) -> str:
    """`0003 and 0007`, `0003, 0007 and 0009`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _diff(core: Core, name: str) -> str:
    row = core.state.experiments.get(name)
    proposal = core.state.proposals.get(row["proposal"] or "") if row else None
    return (proposal["diff_hash"] or "") if proposal else ""


def _parts(core: Core, names: Sequence[str], diffs: Sequence[str]) -> list[ExperimentRow]:
    """The rows of what is to be put together, each of which might be signed by itself. Raises RpcError."""
    if len(set(names)) < 2 or len(set(names)) != len(names) or len(diffs) != len(names):
        raise RpcError(INVALID_PARAMS, "name two experiments or more, each once, and for each the diff that was shown")
    rows = []
    for name, diff in zip(names, diffs, strict=True):
        row = core.state.experiments.get(name)
        if row is None or row["role"] == "trunk":
            raise RpcError(UNKNOWN_ID, f"no experiment {name!r}; `cockpit ls` lists them")
        if row.get("bundle"):
            raise RpcError(NOT_NOW, f"{name} is a bundle itself: name its parts")
        may_sign(core, row, diff, "")
        assert row["verdict"] is not None
        if row["verdict"]["verdict"] != Verdict.SOLID or row.get("claims", Claim.GAIN) != Claim.GAIN:
            raise RpcError(NOT_NOW, f"{name} claims no gain that fresh pairs could bear out: sign it by itself")
        rows.append(row)
    rungs = {str(row["verdict"] and row["verdict"]["rung"]) for row in rows}
    if len(rungs) > 1:
        raise RpcError(NOT_NOW, f"these were judged at different rungs, {both(sorted(rungs))}: sign one by itself")
    known = standing(core.state, names)
    if known is not None and known["state"] == ExperimentState.VETOED:
        said = known["signoff"]["sentence"]
        raise RpcError(NOT_NOW, f"{both(names)} together, as {known['id']}, were vetoed by their fresh pairs: {said}")
    return rows


async def _try(core: Core, rows: Sequence[ExperimentRow]) -> None:
    """Put them together, and leave it at that. Raises RpcError where it cannot be done."""
    onto = str(core.state.experiments[core.state.trunk_arm]["commit"])
    parts = _places(core.state, [row["id"] for row in rows])
    try:
        await core.git(put_together, core, parts, onto, float(int(now())), core.identity)
    except (NotTogether, RepoError) as error:
        raise RpcError(NOT_NOW, f"not put together: {error}") from None
    except Refused as refused:
        raise RpcError(NOT_NOW, f"not put together: {refused.detail}") from None


def _places(state: State, names: Sequence[str]) -> list[_Part]:
    rows = [state.experiments[name] for name in names]
    return [_Part(row["id"], str(row["parent"]), str(row["commit"]), message_of(state, row["id"])) for row in rows]


def _rung(rows: Sequence[ExperimentRow]) -> str:
    verdict = rows[0]["verdict"]
    assert verdict is not None
    return verdict["rung"]


def _shrunk(rows: Sequence[ExperimentRow]) -> list[float]:
    return [expected_gain(row) or 0.0 for row in rows]


def _intent(
    core: Core,
    rows: Sequence[ExperimentRow],
    diffs: Sequence[str],
    why: str,
    who: Who,
    request: str,
    setup: str,
    full: bool,
) -> e.BundleIntended:
    number = max(core.state.counts["experiment"], core.first_free - 1) + 1
    name, parts = f"{number:04d}", [row["id"] for row in rows]
    shrunk = _shrunk(rows)
    return e.BundleIntended(
        experiment=name,
        parts=parts,
        diffs=list(diffs),
        shrunk=shrunk,
        decision=next_decision(core),
        shown=[dict(row["verdict"] or {}) for row in rows],
        findings=_findings(core.state, parts),
        parent=str(core.state.experiments[core.state.trunk_arm]["commit"]),
        baseline=core.state.trunk_arm,
        branch=f"exp/{name}-bundle",
        when=float(int(now())),
        author=list(core.identity),
        message=_message(rows, name, who, why),
        rung=_rung(rows),
        setup=setup,
        seeds=confirming.seeds_for(core.state, core.lab, name),
        who=who.to_json(),
        why=why.strip(),
        request=request,
        full=full,
    )


def _again(
    core: Core,
    known: ExperimentRow,
    rows: Sequence[ExperimentRow],
    why: str,
    who: Who,
    request: str,
    setup: str,
    full: bool,
) -> e.SignIntended:
    """A signature on a bundle that stands already, with the seeds that it had."""
    refuse_open(core.state, known["id"])
    return e.SignIntended(
        experiment=known["id"],
        decision=next_decision(core),
        diff="",
        shown={},
        findings=_findings(core.state, [known["id"], *(row["id"] for row in rows)]),
        ours=str(known["parent"]),
        theirs=known["commit"] or "",
        rung=_rung(rows),
        setup=setup,
        seeds=confirming.seeds_for(core.state, core.lab, known["id"]),
        who=who.to_json(),
        why=why.strip(),
        request=request,
        full=full,
    )


def _findings(state: State, names: Sequence[str]) -> list[str]:
    """The findings that there were to be read."""
    about = {each for name in names for each in (name, *state.of_experiment.get(name, ()))}
    return [row["id"] for row in state.findings.values() if row["about"] in about]


def _message(rows: Sequence[ExperimentRow], name: str, who: Who, why: str) -> str:
    parts = [row["id"] for row in rows]
    lines = [
        f"Put {both(parts)} together",
        "",
        *[f"{row['id']}: {one_line(row['hypothesis'])[:200]}" for row in rows],
        *([f"Why signed: {one_line(why)}"] if why.strip() else []),
        "",
        f"Cockpit-Experiment: {name}",
        f"Cockpit-Bundle: {', '.join(parts)}",
        f"Cockpit-Signed-By: {one_line(who.name)} ({who.os_user}@{who.host})",
        "",
    ]
    return "\n".join(lines)


# --- the branch --------------------------------------------------------------------------------------------------------


async def branch(core: Core, experiment: str) -> None:
    """Make the branch of a bundle. Its plan is in the ledger; doing this again changes nothing."""
    plan = core.state.bundles[experiment]
    parts = _places(core.state, plan.parts)
    faults.point("branch.intent")
    try:
        made = await core.git(_make_branch, core, plan, parts)
    except (NotTogether, RepoError, EmptyDiff, BranchExists) as error:
        core.record(e.ExperimentFailed(experiment, f"no branch could be made: {error}"))
        return
    except Refused as refused:
        core.record(e.ExperimentFailed(experiment, f"no branch could be made: {refused.detail}"))
        return
    faults.point("branch.effect")
    core.record(e.ExperimentBranched(experiment, made.commit, made.tree, plan.branch))
    faults.point("branch.done")


def _make_branch(core: Core, plan: e.BundleIntended, parts: Sequence[_Part]) -> Commit:
    """One commit on the trunk with the tree of all parts. Runs on git's thread."""
    author = (plan.author[0], plan.author[1])
    whole = put_together(core, parts, plan.parent, plan.when, author)
    paths = [each.path for each in core.repo.check_tree(plan.parent, whole.commit, core.lab.is_editable)]
    contents = {path: core.repo.read(whole.commit, path) for path in paths}
    made = core.repo.commit(plan.parent, contents, plan.message, plan.when, author)
    if made.tree != whole.tree:
        raise RepoError("its files do not give the tree of its parts: sign them one by one")
    core.repo.create_branch(plan.branch, made.commit)
    return made
