"""Sign-off: a solid experiment's branch becomes part of the trunk. Always a person's act, whatever the lab's gates say.

A gain is borne out by fresh pairs first (`engine.confirming`), and merged by itself when it is. What claims no gain, and
everything in a lab that asks for no fresh pairs, is merged at once.
"""

from __future__ import annotations

from typing import Any

from engine import confirming, faults
from engine import events as e
from engine.acknowledging import refuse_open
from engine.asking_retune import refuse_unretuned
from engine.core import Core, now
from engine.decide import next_decision
from engine.found import experiment_of
from engine.full_run import check_wanted
from engine.judge.fresh import FEWEST
from engine.opening import next_arm
from engine.proposals import one_line
from engine.repo import Commit, RepoError
from engine.rpc import NOT_NOW, STALE, UNKNOWN_ID, RpcError
from engine.types import SMOKE, Category, ExperimentRow, ExperimentState, Verdict, VerdictRow, Who


def sign(
    core: Core,
    experiment: str,
    diff_hash: str,
    why: str,
    who: Who,
    request: str,
    setup: str = "",
    *,
    full: bool = False,
) -> dict[str, Any]:
    """Write down a person's signature; fresh pairs and the merge follow, and with `full` a full-scale run of the new trunk.
    `setup` is how runs are measured now. Raises RpcError when there is nothing that may be signed."""
    if request in core.state.requests:
        return core.state.requests[request]
    row = core.state.experiments.get(experiment)
    if row is None or row["role"] == "trunk":
        raise RpcError(UNKNOWN_ID, f"no experiment {experiment!r}; `cockpit ls` lists them")
    if "bundle" in row:
        parts = " ".join(row["bundle"]["parts"])
        raise RpcError(NOT_NOW, f"{experiment} is a bundle: sign its parts together, `cockpit sign {parts}`")
    check_wanted(core.lab, full)
    may_sign(core, row, diff_hash, why)
    number = next_decision(core)
    if confirming.wanted_for(core.lab, row):
        intent = _signature(core, row, number, diff_hash, who.to_json(), why.strip(), request, setup, full)
        core.record(intent)
        faults.point("sign.done")
        return {"state": "confirming", "trunk": intent.ours, "seeds": intent.seeds[:FEWEST]}
    merge = _intent(core, row, number, diff_hash, who.to_json(), why.strip(), request, full)
    core.record(merge)
    return {"state": "merging", "trunk": merge.ours}


def _signature(
    core: Core,
    row: ExperimentRow,
    decision: str,
    diff: str,
    who: e.Json,
    why: str,
    request: str,
    setup: str,
    full: bool,
) -> e.SignIntended:
    """A signature with all that its signer could see, and the seeds that it waits for."""
    if not setup:
        raise RpcError(NOT_NOW, "the data are being prepared, and fresh pairs need them: try again when that is done")
    state, verdict = core.state, row["verdict"]
    assert verdict is not None
    about = {row["id"], *state.of_experiment.get(row["id"], ())}
    return e.SignIntended(
        experiment=row["id"],
        decision=decision,
        diff=diff,
        shown=dict(verdict),
        findings=[each["id"] for each in state.rows.values() if each["kind"] == "finding" and each["about"] in about],
        ours=_trunk(core),
        theirs=str(row["commit"]),
        rung=verdict["rung"],
        setup=setup,
        seeds=confirming.seeds_for(state, core.lab, row["id"]),
        who=who,
        why=why,
        request=request,
        full=full,
    )


def merge_confirmed(core: Core) -> None:
    """Intend the merge of what fresh pairs have borne out, one at a time: the trunk moves with it, and the rest start again."""
    if core.state.merges or core.state.pull is not None:
        return
    for name in confirming.confirmed(core.state)[:1]:
        row, was = core.state.experiments[name], core.state.signoffs[name]
        if row["baseline"] != core.state.trunk_arm:
            core.record(
                e.SignWithdrawn(name, f"the trunk moved before it was merged; it was borne out on {row['baseline']}")
            )
            return
        try:
            for each in (name, *(row["bundle"]["parts"] if "bundle" in row else ())):
                refuse_open(core.state, each)
        except RpcError as error:  # found while the fresh pairs ran; they are kept for when it is signed again
            core.record(e.SignWithdrawn(name, f"{error.message}; then sign it again: its fresh pairs are kept"))
        else:
            core.record(_intent(core, row, was.decision, was.diff, was.who, was.why, was.request, was.full))


def _intent(
    core: Core, row: ExperimentRow, decision: str, diff: str, who: e.Json, why: str, request: str, full: bool
) -> e.MergeIntended:
    return e.MergeIntended(
        experiment=row["id"],
        decision=decision,
        diff=diff,
        ours=_trunk(core),
        theirs=str(row["commit"]),
        when=float(int(now())),
        author=list(core.identity),
        message=_message(core, row, Who(**who), why),
        who=who,
        why=why,
        request=request,
        full=full,
    )


def _trunk(core: Core) -> str:
    return str(core.state.experiments[core.state.trunk_arm]["commit"])


def may_sign(core: Core, row: ExperimentRow, diff_hash: str, why: str) -> None:
    """Raise RpcError unless a person may sign this experiment now, by the diff that they were shown."""
    name, verdict = row["id"], row["verdict"]
    if row["state"] == ExperimentState.MERGED:
        raise RpcError(NOT_NOW, f"{name} is in the trunk already")
    if core.state.merges or core.state.pull is not None:
        raise RpcError(NOT_NOW, "the trunk is being moved just now: try again in a moment")
    if core.state.signoffs:
        other = next(iter(core.state.signoffs))
        who = "it" if other == name else other
        raise RpcError(
            NOT_NOW, f"{who} is signed, and its fresh pairs run: its merge would move the trunk under others"
        )
    if row["state"] == ExperimentState.VETOED:
        raise RpcError(NOT_NOW, f"{name} was vetoed by its fresh pairs: {row['signoff']['sentence']}")
    if verdict is None or row["state"] != ExperimentState.JUDGED:
        raise RpcError(NOT_NOW, f"{name} is {row['state']}: it has no verdict to sign on")
    refuse_open(core.state, name)
    refuse_unretuned(core.state, core.lab, row)
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


def _acknowledged(core: Core, experiment: str) -> list[str]:
    """A trailer for every finding of an experiment that a person has acknowledged, with their reason."""
    said = []
    for row in core.state.findings.values():
        word = row.get("acknowledged")
        if word is not None and experiment_of(core.state, row["about"]) == experiment:
            said.append(
                f"Cockpit-Acknowledged: {row['id']} by {one_line(word['who']['name'])}: {one_line(word['why'])}"
            )
    return said


def _message(core: Core, row: ExperimentRow, who: Who, why: str) -> str:
    parts = row["bundle"]["parts"] if "bundle" in row else []
    lines = [
        f"Accept {row['id']}: {one_line(row['hypothesis'])[:160]}",
        "",
        one_line(_sentence(row)),
        *([one_line(why)] if why.strip() else []),
        "",
        f"Cockpit-Experiment: {row['id']}",
        *(_bundle(row) if parts else _verdict(row)),
        *_headline(row),
        *(line for each in (row["id"], *parts) for line in _acknowledged(core, each)),
        f"Cockpit-Signed-By: {one_line(who.name)} ({who.os_user}@{who.host})",
        "",
    ]
    return "\n".join(lines)


def _sentence(row: ExperimentRow) -> str:
    """What it rests on: its verdict; of a bundle, its fresh pairs beside what was expected of its parts."""
    if row["verdict"] is not None:
        return row["verdict"]["sentence"]
    return f"{row['bundle']['promised']:+.4g} expected of its parts; {row['signoff']['sentence']}"


def _bundle(row: ExperimentRow) -> list[str]:
    bundle = row["bundle"]
    return [f"Cockpit-Bundle: {', '.join(bundle['parts'])}", f"Cockpit-Promised: {bundle['promised']:+.6g}"]


def _verdict(row: ExperimentRow) -> list[str]:
    verdict = row["verdict"]
    assert verdict is not None
    interval = f"[{verdict['lo']!r}, {verdict['hi']!r}]"
    return [
        f"Cockpit-Verdict: {verdict['verdict']}",
        f"Cockpit-Effect: {verdict['effect']!r} {interval} n={verdict['n']} rung={verdict['rung']}",
        *_evidence(verdict),
    ]


def _evidence(verdict: VerdictRow) -> list[str]:
    """The trailer of a sequential verdict's evidence; none where a fixed number of seeds decided."""
    evidence, bar = verdict.get("evidence"), verdict.get("bar")
    return [] if evidence is None or bar is None else [f"Cockpit-Evidence: E {evidence:.4g} of {bar:.4g}"]


def _headline(row: ExperimentRow) -> list[str]:
    """The trailer of what fresh pairs have measured; none where none were asked for."""
    off = row.get("signoff")
    if off is None or off["state"] != "confirmed" or off["mean"] is None:
        return []
    return [f"Cockpit-Headline: {off['mean']:+.6g} [{off['lo']:+.6g}, {off['hi']:+.6g}] n={off['n']} fresh seeds"]


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
