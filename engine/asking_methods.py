"""What clients may ask about proposals: ask a proposer, follow it, cancel it, see what would go out, submit a diff."""

from __future__ import annotations

import asyncio
import base64
import uuid
from dataclasses import replace
from typing import Any, Literal

from engine import rpc
from engine.applying import applied
from engine.conductor import Conductor
from engine.core import Core, now, person
from engine.decide import decided, find, open_row
from engine.desk import editable_files, spent
from engine.edits import parse
from engine.money import PriceError, left, reached, read_prices
from engine.novelty import fingerprint
from engine.patch import PatchError, patched
from engine.proposers.api_errors import NO_KEY
from engine.proposers.base import KINDS, Proposer, ProposerError, Reply, make
from engine.proposers.writing import Header, Unwritable, as_reply
from engine.repairs import broken
from engine.reply import Refused
from engine.repo import RepoError
from engine.rpc import RpcError
from engine.types import Action, Category, Claim, ProposalState

MOST = 50
TREE_PAGE = 300_000  # bytes of files in one message
LONGEST_WAIT_S = 30.0
ASKED = (
    *("key", "proposer", "propose", "follow", "cancel", "request"),
    *("tree", "submit", "again", "revise", "edited", "money"),
)


class AskingMethods:
    """The methods, bound to one engine."""

    def __init__(self, core: Core, conductor: Conductor) -> None:
        self.core = core
        self.conductor = conductor
        self.asking = conductor.asking

    async def do_key(self, key: str, base_url: str = "") -> dict[str, Any]:
        """Take a key for the Messages API; it stays in this process's memory. An empty one takes it back."""
        self.asking.take_key(key, base_url)
        return {"key": bool(key)}

    async def do_propose(
        self, n: int = 1, by: str = "", note: str = "", request_id: str = "", wait: bool = True
    ) -> dict[str, Any]:
        """Ask for `n` more proposals, of the lab's proposer or of another.

        One that costs nothing answers at once. Another begins a round: with `wait` this returns when it has ended, without it
        at once, so that the round can be followed.
        """
        count = max(1, min(n, MOST))
        is_own = by in ("", self.core.lab.proposer.kind)
        proposer = self.conductor.intake.proposer if is_own else self._proposer(by)
        if proposer.unasked:
            target = self._waiting() + count
            try:
                added = await (self.conductor.refill(target) if is_own else self.conductor.draw(proposer, target))
            except ProposerError as error:
                raise RpcError(rpc.NOT_NOW, str(error)) from None
            return {"added": added, "stopped": self.conductor.intake.stopped}
        who = person(self.core.identity)
        name = self.asking.begin(proposer, count, note, who, request_id or uuid.uuid4().hex)
        if wait:
            await self.asking.until_ended(name)
        row = self.core.state.rounds[name]
        return {"added": row["added"], "round": row}

    def _proposer(self, by: str) -> Proposer:
        if by not in KINDS:
            raise RpcError(rpc.INVALID_PARAMS, f"no proposer {by!r}; there are {', '.join(sorted(KINDS))}")
        try:
            lab = self.core.lab
            return make(by, lab.root, str(lab.proposer.path), lab.proposer.settings())
        except ProposerError as error:
            raise RpcError(rpc.NOT_NOW, str(error)) from None

    async def do_proposer(self) -> dict[str, Any]:
        """Who `propose` would ask, with which model, whether there is a key, and what the budget has left; asks nobody."""
        lab, used = self.core.lab, spent(self.core, now())
        own = self.conductor.intake.proposer
        return {
            "proposer": own.name,
            "unasked": own.unasked,
            "model": lab.proposer.settings().model if own.name == "claude" else "",
            "effort": lab.proposer.settings().effort if own.name == "claude" else "",
            "claude": lab.proposer.model,
            "key": self.asking.credentials is not None,
            "left": list(left(lab.budget, used)),
            "stopped": reached(lab.budget, used),
            "round": self.asking.running(),
        }

    def _waiting(self) -> int:
        return sum(row["state"] == ProposalState.WAITING for row in self.core.state.proposals.values())

    async def do_follow(self, round: str, after: int = 0, wait_s: float = 10.0) -> dict[str, Any]:
        """What a round said after the first `after` things; waits up to `wait_s` seconds for more. Begin with 0, go on with
        `next`, until `ended`."""
        return await self.asking.follow(round, after, max(0.0, min(wait_s, LONGEST_WAIT_S)))

    async def do_cancel(self, round: str) -> dict[str, Any]:
        """End a round: the connection is closed at once, and what had been queued stays."""
        cancelled = self.asking.cancel(round)
        await self.asking.until_ended(round)
        return {"cancelled": cancelled, "round": self.core.state.rounds[round]}

    async def do_request(self, n: int = 1, note: str = "") -> dict[str, Any]:
        """The request that `propose` would send to Claude first, as the hash of a body; nothing is sent."""
        from engine.proposers.claude import Claude

        own = self.conductor.intake.proposer
        proposer = own if isinstance(own, Claude) else self._proposer("claude")
        body = await self.asking.request(proposer, max(1, min(n, MOST)), note)
        return {"hash": await asyncio.to_thread(self.core.blobs.put, body), "size": len(body)}

    async def do_tree(self, parent: str = "", after: int = 0) -> dict[str, Any]:
        """The trunk's editable files, for a scratch copy: as many after the first `after` as one message holds, in base64. Ask
        again with `next` and the same `parent` until `next` is null."""
        commit = parent or await self._trunk()
        try:
            found, left_out = await self.core.git(editable_files, self.core, commit)
        except RepoError as error:
            raise RpcError(rpc.UNKNOWN_ID, str(error)) from None
        files: list[tuple[str, str]] = []
        size, upto = 0, max(0, after)
        for path, data in list(found.items())[upto:]:
            if files and size + len(data) > TREE_PAGE:
                break
            files.append((path, base64.b64encode(data).decode()))
            size, upto = size + len(data), upto + 1
        following = upto if upto < len(found) else None
        return {"parent": commit, "files": files, "left_out": left_out, "next": following}

    async def do_submit(
        self,
        hypothesis: str = "",
        diff: str = "",
        branch: str = "",
        category: Category = Category.SYSTEMS,
        mechanism: str = "",
        prediction: str = "",
        predicted_effect: float | None = None,
        claims: Claim = Claim.GAIN,
        by: Literal["human"] = "human",
        request_id: str = "",
    ) -> dict[str, Any]:
        """Put a diff, or what a branch changes, into the queue as a proposal. It is approved by nobody. With a request id, what
        waits already is not queued again."""
        parent = await self._trunk()
        if bool(diff) == bool(branch):
            raise RpcError(rpc.INVALID_PARAMS, "give a diff or a branch, one of the two")
        try:
            if branch:
                diff, subject = await self.core.git(self._branch_diff, branch, parent)
                hypothesis = hypothesis or subject
            if not hypothesis.strip():
                raise RpcError(rpc.INVALID_PARAMS, "a proposal needs a hypothesis: one sentence that can be wrong")
            said = mechanism or "not given", prediction or "not given"
            header = Header(hypothesis, category, *said, predicted_effect, claims)
            before, after = await self.core.git(patched, diff, lambda path: self.core.repo.read(parent, path))
            text = await asyncio.to_thread(as_reply, header, before, after)
        except (PatchError, Unwritable, Refused) as error:
            raise RpcError(rpc.NOT_NOW, f"this cannot become a proposal: {error}") from None
        except RepoError as error:
            raise RpcError(rpc.NOT_NOW, str(error)) from None
        if request_id and (sent := self._queued_as(text)):
            return self._answer(sent)
        source = f"branch {branch}" if branch else "a diff"
        return self._answer(await self.conductor.put(Reply(text, source, by)))

    def _branch_diff(self, branch: str, parent: str) -> tuple[str, str]:
        """What a branch changes since it left the trunk, and the subject of its last commit. Runs on git's thread."""
        tip = self.core.repo.resolve(f"refs/heads/{branch}")
        if tip is None:
            raise RpcError(rpc.UNKNOWN_ID, f"no branch {branch!r} in this repository")
        base, subject = self.core.repo.fork_point(parent, tip)
        return self.core.repo.diff(base, tip), subject

    async def do_again(self, proposal: str) -> dict[str, Any]:
        """Queue a proposal again that was proposed before, on the present trunk: a new proposal with a link to the first."""
        row = self.core.state.proposals.get(proposal)
        if row is None:
            raise RpcError(rpc.UNKNOWN_ID, f"no proposal {proposal!r}; `cockpit ls` lists them")
        if row["state"] == ProposalState.WAITING:
            raise RpcError(rpc.NOT_NOW, f"{proposal} waits for review already")
        text = self.core.blobs.get(self.core.state.sources[proposal]).decode("utf-8", "replace")
        return self._answer(await self.conductor.put(Reply(text, f"again {proposal}", row["proposer"], again=True)))

    async def do_revise(
        self, proposal: str, diff_hash: str | None, why: str, request_id: str, wait: bool = True
    ) -> dict[str, Any]:
        """ "Yes, but": close a waiting proposal as revised, and begin a round that writes the one which takes its place.

        It waits again when nothing comes of that round. The reason goes into the ledger, and to whoever proposes next.
        """
        if not why.strip():
            raise RpcError(rpc.INVALID_PARAMS, "a revision needs a note: what is to be different")
        name = self.core.state.requests.get(request_id, {}).get("round")
        if name is None:
            row = open_row(self.core, proposal, diff_hash or "", ProposalState.WAITING)
            proposer, who = self._reviser(), person(self.core.identity)
            closing = decided(self.core, row, Action.REVISE, who, why, request_id)
            name = self.asking.begin(proposer, 1, why, who, request_id, closing)
        if wait:
            await self.asking.until_ended(name)
        made = self.core.state.rounds[name]
        return {"added": made["added"], "round": made}

    def _reviser(self) -> Proposer:
        """The lab's own proposer where it can be asked, else Claude when there is a key. Raises RpcError(NOT_NOW)."""
        own = self.conductor.intake.proposer
        proposer = self._proposer("claude") if own.unasked else own
        if proposer.name == "claude" and self.asking.credentials is None:
            raise RpcError(rpc.NOT_NOW, f"nobody can be asked to revise it: {NO_KEY}; or edit it yourself")
        return proposer

    async def do_edited(self, proposal: str, diff_hash: str | None, text: str, request_id: str = "") -> dict[str, Any]:
        """Queue what a person made of a proposal, as a new one that takes its place; they are its co-author.

        `text` is a reply like the one that it was. One that cannot be applied is refused here, and changes nothing. A proposal
        that broke at its smoke stays what it is, and the new one repairs it.
        """
        request = request_id or uuid.uuid4().hex
        if self.core.state.requests.get(request, {}).get("proposal") == proposal:
            return self._answer(self.core.state.proposals[proposal]["replaced_by"])
        mends = broken(self.core.state, find(self.core, proposal)) is not None
        states = (ProposalState.WAITING, ProposalState.REFUSED, *([ProposalState.APPROVED] if mends else []))
        old = open_row(self.core, proposal, diff_hash or "", *states)
        if mends and (sent := self._queued_as(text, proposal)):
            return self._answer(sent)
        who = person(self.core.identity)
        try:
            parsed = parse(text)
            parent = await self.core.git(self.core.repo.trunk)
            before, after = await self.core.git(applied, self.core, parsed, parent)
        except Refused as refused:
            near = f"\nThe nearest text of the file:\n{refused.nearest}" if refused.nearest else ""
            raise RpcError(
                rpc.NOT_NOW, f"the edited text is refused ({refused.reason}): {refused.detail}{near}"
            ) from None
        if old["diff_hash"] and await asyncio.to_thread(fingerprint, before, after) == old.get("fingerprint"):
            raise RpcError(rpc.NOT_NOW, f"that is the change of {proposal} as it was: nothing was queued")
        by = old["proposer"] if old["proposer"].endswith("human") else f"{old['proposer']}+human"
        reply = Reply(text, f"{proposal}, edited", by, co_author=who.name)
        reply = replace(reply, repairs=proposal) if mends else replace(reply, replaces=proposal)
        answer = self._answer(await self.conductor.put(reply))
        row = self.core.state.proposals[proposal]
        if answer["refusal"] is None and row.get("replaced_by") == answer["proposal"]:
            why = f"edited as {answer['proposal']}"
            self.core.record(decided(self.core, row, Action.REVISE, who, why, request))
        return answer

    async def _trunk(self) -> str:
        """The commit of the trunk, once an engine that has only just begun has one."""
        await self.core.until(lambda: bool(self.core.state.trunk_arm))
        return await self.core.git(self.core.repo.trunk)

    def _queued_as(self, text: str, repairs: str = "") -> str | None:
        """The proposal that this very text waits as, so that sending it again queues nothing."""
        state, digest = self.core.state, Reply(text, "").digest
        for row in state.proposals.values():
            same = row["state"] == ProposalState.WAITING and row.get("repairs", "") == repairs
            if same and state.sources[row["id"]] == digest:
                return row["id"]
        return None

    def _answer(self, name: str) -> dict[str, Any]:
        row = self.core.state.proposals[name]
        return {
            "proposal": name,
            "state": row["state"],
            "refusal": row["refusal"],
            "detail": row["detail"],
            "diff_hash": row["diff_hash"],
            "repairs": row.get("repairs"),
        }

    async def do_money(self) -> dict[str, Any]:
        """What was spent and is in flight, what is left, and why nothing more is proposed, if that is so."""
        budget, used = self.core.lab.budget, spent(self.core, now())
        try:
            prices = read_prices(self.core.lab.root)
            shown = {"prices": prices.file, "as_of": prices.as_of, "models": sorted(prices.models)}
        except PriceError as error:
            shown = {"problem": str(error)}
        names = ("dollars_today", "dollars", "minutes_today", "minutes")
        return {
            "spent": {name: round(getattr(used, name), 6) for name in names},
            "left": list(left(budget, used)),
            "stopped": reached(budget, used),
            **shown,
        }
