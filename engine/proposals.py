"""From a reply to a proposal in the queue, and from an approved proposal to a branch. Every step can be repeated safely."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import msgspec

from engine import events as e
from engine import faults
from engine.applying import applied
from engine.core import Core, now
from engine.desk import EngineDesk, spent
from engine.edits import Draft, Refused, file_changes, parse, unified
from engine.money import reached
from engine.neighbours import neighbours, protected_code
from engine.novelty import change_class, fingerprint
from engine.proposers.base import Proposer, Reply
from engine.proposers.stream import Written
from engine.repo import BranchExists, EmptyDiff, RepoError
from engine.risk import risks
from engine.text import clean
from engine.types import Category, Claim, ProposalState, Refusal, Who

log = logging.getLogger("engine")
INBOX_LIMIT = 256 * 1024


class Intake:
    """Fills the review queue: from the lab's proposer, and from files that were put into the inbox."""

    def __init__(self, core: Core, proposer: Proposer) -> None:
        self.core = core
        self.proposer = proposer
        self.stopped: str | None = None  # why nothing more is proposed, though the queue has room

    async def refill(self, wanted: int | None = None) -> list[str]:
        """Add proposals until `wanted` wait for review (by default what the lab file says); return the new ids."""
        core = self.core
        target = core.lab.proposer.queue if wanted is None else wanted
        added = [await self.add(reply) for reply in inbox(core.dir.root / "inbox", core.state.seen)]
        if self._waiting() >= target:
            return added
        return added + await self.draw(self.proposer, target) if self.proposer.unasked else added

    async def draw(self, proposer: Proposer, target: int) -> list[str]:
        """Take proposals of a proposer that costs nothing to ask until `target` wait, as far as the budget allows."""
        added: list[str] = []
        self.stopped = reached(self.core.lab.budget, spent(self.core, now()))
        if self.stopped:
            return added
        desk = EngineDesk(self.core, proposer.name, max(1, target - self._waiting()))
        async with aclosing(proposer.propose(desk)) as saying:  # type: ignore[type-var]
            async for said in saying:
                if isinstance(said, Written):
                    added.append(await self.add(replace(said.reply, by=said.reply.by or proposer.name)))
                if self._waiting() >= target:
                    break
        return added

    def _waiting(self) -> int:
        return sum(row["state"] == ProposalState.WAITING for row in self.core.state.proposals.values())

    async def add(self, reply: Reply, round: str = "") -> str:
        """Judge one reply against the present trunk and put it into the ledger, refused ones too. Returns its id.

        A change that was proposed before is not queued again, unless the reply says that a person wants it.
        """
        core = self.core
        source = core.blobs.put(reply.text.encode())
        name = f"p{len(core.state.proposals) + 1:04d}"
        parent = await core.git(core.repo.trunk)
        event = await draft(core, name, reply, source, parent)
        replaced = core.state.proposals.get(reply.replaces)
        repairs = reply.repairs or (replaced.get("repairs", "") if replaced else "")
        event = msgspec.structs.replace(
            event, round=round, replaces=reply.replaces, co_author=reply.co_author, repairs=repairs
        )
        first = core.state.fingerprints.get(event.fingerprint) if event.fingerprint else None
        if first is not None:
            event = msgspec.structs.replace(event, duplicate_of=first)
            if not reply.again:
                event = msgspec.structs.replace(event, refusal=Refusal.DUPLICATE, detail=_earlier(core, first, name))
        faults.point("propose.effect")
        core.record(event)
        faults.point("propose.done")
        return name


def _earlier(core: Core, first: str, name: str) -> str:
    """How the first proposal of the same change went, in a sentence."""
    row = core.state.proposals[first]
    went = f"which is {row['state']}" + (f": {row['why']}" if row["why"] else "")
    experiment = core.state.experiments.get(row["experiment"] or "")
    if experiment is not None:
        verdict = experiment["verdict"]
        went = f"experiment {experiment['id']}, {verdict['sentence'] if verdict else experiment['state']}"
    return f"the same change as {first}, {went}; `cockpit propose --again {name}` queues it all the same"


def inbox(path: Path, seen: set[str]) -> list[Reply]:
    """Proposals left as files (by `cockpit init`, a person or a script), oldest name first, without those seen before."""
    import hashlib

    replies = []
    for file in sorted(path.glob("*.md")) if path.is_dir() else []:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > INBOX_LIMIT:
            continue
        text = file.read_text("utf-8", "replace")
        if hashlib.sha256(text.encode()).hexdigest() not in seen:
            replies.append(Reply(text, f"inbox/{file.name}"))
    return replies


async def draft(core: Core, name: str, reply: Reply, source: str, parent: str) -> e.ProposalAdded:
    """The event of a reply judged against commit `parent`; blobs are written, the ledger is not."""
    try:
        parsed = parse(reply.text)
    except Refused as refused:
        return _refused(core, name, reply, source, parent, None, refused)
    try:
        before, after = await core.git(applied, core, parsed, parent)
        keepers = await core.git(protected_code, core, parent)
    except Refused as refused:
        return _refused(core, name, reply, source, parent, parsed, refused)
    diff = core.blobs.put(unified(before, after).encode())
    change = await asyncio.to_thread(change_class, before, after)
    mark = await asyncio.to_thread(fingerprint, before, after)
    return e.ProposalAdded(
        proposal=name,
        hypothesis=clean(parsed.hypothesis),
        mechanism=clean(parsed.mechanism),
        prediction=clean(parsed.prediction),
        category=parsed.category,
        proposer=_proposer(core, reply),
        parent=parent,
        source=source,
        diff=diff,
        files=[change.to_json() for change in file_changes(before, after)],
        risks=[*risks(before, after, core.lab.most_lines), *neighbours(before, after, keepers)],
        predicted_effect=parsed.predicted_effect,
        claims="" if parsed.claims is Claim.GAIN else parsed.claims,
        origin=clean(reply.source),
        change=change,
        fingerprint=mark,
    )


def _proposer(core: Core, reply: Reply) -> str:
    return reply.by or ("inbox" if reply.source.startswith("inbox/") else core.lab.proposer.kind)


def _refused(
    core: Core, name: str, reply: Reply, source: str, parent: str, parsed: Draft | None, refused: Refused
) -> e.ProposalAdded:
    return e.ProposalAdded(
        proposal=name,
        hypothesis=clean(parsed.hypothesis if parsed else _first_line(reply.text)),
        mechanism=clean(parsed.mechanism) if parsed else "",
        prediction=clean(parsed.prediction) if parsed else "",
        category=parsed.category if parsed else Category.SYSTEMS,
        proposer=_proposer(core, reply),
        parent=parent,
        source=source,
        refusal=refused.reason,
        detail=clean(refused.detail),
        origin=clean(reply.source),
    )


def _first_line(text: str) -> str:
    return next((line.strip()[:200] for line in text.splitlines() if line.strip()), "(an empty reply)")


async def rebase(core: Core, name: str) -> None:
    """Apply a waiting proposal to the trunk as it stands now; what it becomes is a new diff to be decided on."""
    parent = await core.git(core.repo.trunk)
    reply = Reply(core.blobs.get(core.state.sources[name]).decode(), "")
    new = await draft(core, name, reply, core.state.sources[name], parent)
    row = core.state.proposals[name]  # only now: somebody may have decided meanwhile
    if row["parent"] != parent and row["state"] == ProposalState.WAITING:
        refusal = Refusal.CONFLICT if new.refusal else None
        detail = f"the trunk moved on, and there the edits no longer fit: {new.detail}" if refusal else None
        core.record(e.ProposalRebased(name, parent, new.diff, new.files, refusal, detail, new.risks))
        faults.point("rebase.done")


# --- approval ----------------------------------------------------------------------------------------------------------


def intend(core: Core, proposal: str, who: Who, why: str) -> e.ExperimentIntended:
    """The plan of a branch: everything that its commit depends on, so that making it twice makes the same commit."""
    row = core.state.proposals[proposal]
    number = max(core.state.counts["experiment"], core.first_free - 1) + 1
    name = f"{number:04d}"
    identity = core.identity
    return e.ExperimentIntended(
        experiment=name,
        proposal=proposal,
        parent=row["parent"],
        baseline=core.state.trunk_arm,
        branch=f"exp/{name}-{slug(row['hypothesis'])}",
        when=float(int(now())),
        author=list(identity),
        message=_message(core, proposal, name, who, why),
        rung=core.lab.climb[0],
    )


def slug(text: str, limit: int = 40) -> str:
    """A branch-name-safe abbreviation: lower-case ASCII words, hyphens."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    out = ""
    for word in words:
        if len(out) + len(word) + 1 > limit:
            break
        out += ("-" if out else "") + word
    return out or "untitled"


def _message(core: Core, proposal: str, experiment: str, who: Who, why: str) -> str:
    row = core.state.proposals[proposal]
    body = [
        one_line(row["hypothesis"])[:200],
        "",
        f"Mechanism: {one_line(row['mechanism'])}",
        f"Prediction: {one_line(row['prediction'])}",
        f"Proposed by: {row['proposer']}",
        *([f"Why approved: {one_line(why)}"] if why else []),
        "",
        f"Cockpit-Experiment: {experiment}",
        f"Cockpit-Proposal: {proposal}",
        f"Cockpit-Category: {row['category']}",
        f"Cockpit-Proposer: {row['proposer']}",
        f"Cockpit-Diff: {row['diff_hash']}",
        f"Cockpit-Approved-By: {one_line(who.name)} ({who.kind}, {who.os_user}@{who.host})",
        *([f"Co-authored-by: {one_line(row['co_author'])}"] if row.get("co_author") else []),
        "",
    ]
    return "\n".join(body)


def one_line(text: str) -> str:
    """Untrusted text on one line, so that it cannot add a trailer of its own."""
    return " ".join(text.split())


async def branch(core: Core, experiment: str) -> None:
    """Make an approved experiment's commit and branch. Its intent is in the ledger; doing this again changes nothing."""
    plan = core.state.branch_plans[experiment]
    faults.point("branch.intent")
    try:
        commit, tree, name = await core.git(_make_branch, core, plan)
    except (Refused, EmptyDiff, BranchExists, RepoError) as error:
        detail = error.detail if isinstance(error, Refused) else str(error)
        core.record(e.ExperimentFailed(experiment, f"no branch could be made: {detail}"))
        return
    faults.point("branch.effect")
    core.record(e.ExperimentBranched(experiment, commit, tree, name))
    faults.point("branch.done")


def _make_branch(core: Core, plan: e.ExperimentIntended) -> tuple[str, str, str]:
    parsed = parse(core.blobs.get(core.state.sources[plan.proposal]).decode())
    before, after = applied(core, parsed, plan.parent)
    shown = core.state.diffs[plan.proposal]
    if core.blobs.put(unified(before, after).encode()) != shown:
        raise RepoError("the edits no longer give the diff that was approved; propose it again")
    author = (plan.author[0], plan.author[1])
    made = core.repo.commit(plan.parent, after, plan.message, plan.when, author)
    core.repo.check_tree(plan.parent, made.commit, core.lab.is_editable)
    core.repo.create_branch(plan.branch, made.commit)
    return made.commit, made.tree, plan.branch
