"""The deciding half of screen 2. What is decided is what is on the screen, named by its id and diff hash."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from textual.app import SuspendNotSupported

from engine.rpc import DISCONNECTED, STALE, RpcError
from engine.text import clean
from engine.types import ProposalRow

from ..editing import NotEdited, Scratch, editor, run_editor, scratch
from ..format import plural
from ..summary import broke_at_smoke, cost
from ..widgets.prompt import Question
from .reading import ReadingScreen, Shown

DECLINE_REASONS = (
    "not a new idea here",
    "the diff does more than the hypothesis says",
    "the effect would be too small to measure",
    "wins only by more compute",
    "risky for the evaluation",
    "badly written",
)
MOST_MARKED = 9
ON_SHOWN = ("approve", "decline", "revise", "later", "mark")
DONE = {"approve": "approved", "decline": "declined", "defer": "at the end of the queue", "undo": "waiting again"}


class DecidingScreen(ReadingScreen):
    """Adds what can be done with a proposal."""

    def __init__(self) -> None:
        super().__init__()
        self._sent: dict[tuple[str, str], str] = {}
        self._scratches: dict[tuple[str, str], Scratch] = {}

    # --- what cannot be done now

    def why_not(self, action: str) -> str | None:
        row = self.queue.current if self.is_mounted else None
        reason: str | None = None
        if action == "approve" and self.marks:
            return super().why_not(action)
        if action in ON_SHOWN:
            reason = self._not_decidable(row)
        elif action == "edit":
            reason = self._not_decidable(row, refused_too=True)
        elif action == "undo":
            reason = self._not_undoable(row)
        elif action == "copy" and (self.shown is None or row is None or self.shown.proposal != row["id"]):
            reason = "no diff is on the screen"
        if (
            action == "mark"
            and reason is None
            and row
            and len(self.marks) >= MOST_MARKED
            and row["id"] not in self.marks
        ):
            reason = f"{MOST_MARKED} are marked: approve them first (a)"
        return reason or super().why_not(action)

    def _not_decidable(self, row: ProposalRow | None, *, refused_too: bool = False) -> str | None:
        if row is None:
            return "no proposal is selected"
        if row["state"] == "refused":
            refused = f"{row['id']} could not be applied ({row['refusal']})"
            return None if refused_too else f"{refused}: there is nothing to decide; e edits it"
        mendable = refused_too and broke_at_smoke(self.model, row) is not None
        if row["state"] != "waiting" and not mendable:
            return f"{row['id']} is {row['state']} already" + (f", by {row['decided_by']}" if row["decided_by"] else "")
        if self.shown is None or self.shown.proposal != row["id"]:
            return f"the diff of {row['id']} is not on the screen yet"
        if self.shown.hash != row["diff_hash"]:
            return f"the diff of {row['id']} has changed; it is being read again"
        if not mendable and (sent := self._sent.get((self.shown.proposal, self.shown.hash))):
            return f"{row['id']} is {sent} already, by you"
        return None

    def _not_undoable(self, row: ProposalRow | None) -> str | None:
        if row is None:
            return "no proposal is selected"
        if row["state"] == "declined":
            return None
        experiment = self.model.experiments.get(row["experiment"] or "")
        if row["state"] != "approved" or experiment is None:
            return f"{row['id']} is {row['state']}: there is no decision to undo"
        if experiment["state"] != "queued" or self.model.shards_of(experiment["id"]):
            return f"{row['id']} runs already, as {experiment['id']}: x on the Runs screen stops it"
        return None

    # --- asking first

    def do_approve(self) -> None:
        if self.marks:
            self._approve_marked()
            return
        shown = self._bind()
        details = [f"It becomes a branch of its own, then runs {cost(self.model)}.", *self._unseen(shown)]
        title = f"Approve {shown.proposal}, diff {shown.hash[:10]}?"
        self._confirm(title, details, "approve and run", lambda _: self._decide([shown], "approve", ""))

    def _unseen(self, shown: Shown) -> list[str]:
        unseen = self.diff_view.unseen
        if not unseen:
            return []
        return [f"Not read yet: {plural(unseen, 'line')} of it {'was' if unseen == 1 else 'were'} never on the screen."]

    def _approve_marked(self) -> None:
        """One question for all that are marked; each is named, and each is decided by its own diff."""
        many = list(self.marks.values())
        self.asked = {shown.proposal: shown.hash for shown in many}
        details = [
            f"{shown.proposal}, diff {shown.hash[:10]}: {self.model.proposals[shown.proposal]['hypothesis'][:200]}"
            for shown in many
        ]
        details.append(f"Each becomes a branch of its own, then runs {cost(self.model)}.")
        title = f"Approve all {len(many)} that are marked?" if len(many) > 1 else f"Approve {many[0].proposal}?"
        self._confirm(title, details, "approve and run", lambda _: self._decide(many, "approve", ""))

    def do_decline(self) -> None:
        shown = self._bind()
        details = ("The reason is kept with it, for whoever proposes next.",)
        title = f"Decline {shown.proposal}, diff {shown.hash[:10]}?"
        self._ask_text(
            title, details, "decline", "", DECLINE_REASONS, lambda why: self._decide([shown], "decline", why)
        )

    def do_revise(self) -> None:
        shown = self._bind()
        details = ("It is closed, and sent back with your note: what comes of that takes its place.",)
        title = f"Revise {shown.proposal}, diff {shown.hash[:10]}? Yes, but …"
        self._ask_text(title, details, "send it back", "note", (), lambda why: self.start(self._revise(shown, why)))

    def do_later(self) -> None:
        shown = self._bind()
        details = ("It waits on, after all others.",)
        title = f"Put {shown.proposal} to the end of the queue?"
        self._confirm(title, details, "defer", lambda _: self._decide([shown], "defer", ""))

    def do_undo(self) -> None:
        row = self.queue.current
        assert row is not None
        shown = Shown(row["id"], row["diff_hash"] or "", "", ())
        what = "decline" if row["state"] == "declined" else f"approval as {row['experiment']}, which has not run yet"
        details = (f"Its {what} is taken back, and it waits again.",)
        self._confirm(
            f"Undo the decision on {row['id']}?", details, "undo", lambda _: self._decide([shown], "undo", "")
        )

    def do_mark(self) -> None:
        assert self.shown is not None
        if self.marks.pop(self.shown.proposal, None) is None:
            self.marks[self.shown.proposal] = self.shown

    def do_edit(self) -> None:
        row = self.queue.current
        assert row is not None
        name = row["id"]
        details = (
            "The screen is the editor's until it ends. What you save takes its place, with you as co-author; "
            "nothing of it runs before it is approved.",
        )
        self._confirm(f"Edit {name} in {editor()[0]}?", details, "open the editor", lambda _: self._edit(name))

    def _confirm(self, title: str, details: Sequence[str], go: str, answer: Any) -> None:
        self.ask(Question(title=title, details=details, go=go, answer=answer, cancelled=self._unbind))

    def _ask_text(
        self, title: str, details: Sequence[str], go: str, label: str, stock: Sequence[str], answer: Any
    ) -> None:
        self.ask(
            Question(
                title=title, details=details, go=go, text="", label=label, stock=stock, required=True, answer=answer,
                cancelled=self._unbind,
            )
        )  # fmt: skip

    def _bind(self) -> Shown:
        assert self.shown is not None
        self.asked = {self.shown.proposal: self.shown.hash}
        return self.shown

    def _unbind(self) -> None:
        self.asked = {}

    # --- sending

    def _decide(self, many: Sequence[Shown], action: str, why: str) -> None:
        self.asked = {}
        if action != "defer":
            self.keep = many[0].proposal
        self.start(self._send(many, action, why))

    async def _send(self, many: Sequence[Shown], action: str, why: str) -> None:
        """Send decisions one after the other, to the first that fails."""
        said: list[str] = []
        name = "good"
        for shown in many:
            text, name = await self._send_one(shown, action, why)
            said.append(text)
            if name == "bad":
                break
        self.say("; ".join(said), name)
        if self.is_current:
            self.sync()

    async def _send_one(self, shown: Shown, action: str, why: str) -> tuple[str, str]:
        """Send one decision; a repeat after a broken line carries the same request id, so that it counts once."""
        key = (shown.proposal, shown.hash)
        before = self._sent.pop(key, None)
        if action in ("approve", "decline"):
            self._sent[key] = DONE[action]
        try:
            answer = await self.cockpit.ask_twice(
                "decide", proposal=shown.proposal, diff_hash=shown.hash, action=action, why=why
            )
        except RpcError as error:
            self._sent.pop(key, None)
            if before is not None and action == "undo":
                self._sent[key] = before
            self._look_again(error)
            return clean(error.message), "bad"
        self.marks.pop(shown.proposal, None)
        if not answer.get("first", True):
            by = clean(str(answer.get("by") or "somebody else"))
            return f"{by} was first: {shown.proposal} is {clean(str(answer['state']))}", "warn"
        if action == "defer" and self.queue.cursor == shown.proposal:
            self.select(1)
        experiment = f" as experiment {clean(str(answer['experiment']))}" if answer.get("experiment") else ""
        return f"{shown.proposal} is {DONE[action]}{experiment}", "good"

    def _look_again(self, error: RpcError) -> None:
        if error.code == STALE:
            self.shown = None
            self.note = f"nothing was decided: {clean(error.message)}"

    async def _revise(self, shown: Shown, why: str) -> None:
        self.asked = {}
        self.keep = shown.proposal
        try:
            answer = await self.cockpit.ask_twice(
                "revise", proposal=shown.proposal, diff_hash=shown.hash, why=why, wait=False
            )
            self.cockpit.listener.listen(answer["round"]["id"])
            self.say(f"{shown.proposal} is sent back: {answer['round']['id']} writes what takes its place", "good")
        except RpcError as error:
            self._look_again(error)
            self.say(f"{clean(error.message)}; your note was: {why}", "bad")
        if self.is_current:
            self.sync()

    # --- editing

    def _edit(self, name: str) -> None:
        self.start(self._edited(name))

    async def _edited(self, name: str) -> None:
        """Hand the terminal to the editor, then queue what was saved. What cannot be queued stays in its file."""
        file: Scratch | None = None
        try:
            file = await self._scratch(name)
            with self.app.suspend():
                text = run_editor(file)
            self.cockpit.repaint()
            answer = await self._queue_edit(file, text)
        except SuspendNotSupported:
            self.say(f"this terminal cannot be lent to an editor: `cockpit edit {name}` does it", "warn")
            if file is not None:
                file.drop()
            return
        except NotEdited as error:
            self.cockpit.repaint()
            self.say(str(error), "warn")
            return
        except RpcError as error:
            kept = f"; your text is kept, e opens it again ({file.path})" if file is not None else ""
            self.note = f"nothing was queued: {clean(error.message)}{kept}"
            self.say(f"nothing was queued{kept}", "bad")
        else:
            self._scratches.pop((name, file.diff_hash or ""), None)
            file.drop()
            self.keep = name
            does = "repairs" if answer.get("repairs") == name else "takes the place of"
            self.say(f"{answer['proposal']} {does} {name}: it waits for review", "good")
        if self.is_current:
            self.sync()

    async def _scratch(self, name: str) -> Scratch:
        """The file to edit: the one that was kept when it was refused before, else a new one."""
        shown = await self.cockpit.link.call("diff", proposal=name)
        key = (name, shown["hash"] or "")
        kept = self._scratches.get(key)
        if kept is None or not kept.path.is_file():
            kept = self._scratches[key] = scratch(name, shown["hash"], shown["source"])
        return kept

    async def _queue_edit(self, file: Scratch, text: str) -> dict[str, Any]:
        """Send what was saved."""
        told = {"proposal": file.proposal, "diff_hash": file.diff_hash, "text": text}
        answer = await self.after_editor("edited", **told)
        if answer["refusal"]:
            raise RpcError(STALE + 1, f"{answer['proposal']} is refused ({answer['refusal']}): {answer['detail']}")
        return answer

    async def after_editor(self, method: str, **told: Any) -> dict[str, Any]:
        """Ask the engine after an editor had the screen. One may be open for hours: the engine has let go of this terminal
        meanwhile, and it takes a moment to be attached again."""
        for pause in (0.1, 0.2, 0.5, 1.0, 2.0, 4.0):
            try:
                return dict(await self.cockpit.ask_twice(method, **told))
            except RpcError as error:
                if error.code != DISCONNECTED:
                    raise
                await asyncio.sleep(pause)
        return dict(await self.cockpit.ask_twice(method, **told))
