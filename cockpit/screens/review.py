"""Screen 2: read a proposal and decide it. What is decided is what is on the screen, named by its id and diff hash."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.containers import Container, Vertical
from textual.widget import Widget

from engine.rpc import STALE, RpcError
from engine.text import clean
from engine.types import ProposalRow

from .. import keys
from ..follow import OFFLINE
from ..format import plural
from ..summary import cost, reviews
from ..widgets.diff_view import DiffLine, DiffView, parse_diff
from ..widgets.lines import BLANK, Line, Lines, rule
from ..widgets.prompt import Question
from ..widgets.queue import Queue, claim
from .base import CockpitScreen

NARROW = 120
DECLINE_REASONS = (
    "not a new idea here",
    "the diff does more than the hypothesis says",
    "the effect would be too small to measure",
    "wins only by more compute",
    "risky for the evaluation",
    "badly written",
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the reader sees: the diff of a proposal as the engine hashed it."""

    proposal: str
    hash: str
    text: str
    lines: tuple[DiffLine, ...]


class ReviewScreen(CockpitScreen):
    """Panes: queue and diff. The paging keys always move the diff."""

    scope = "review"
    CSS_PATH: ClassVar[list[str]] = ["base.tcss", "review.tcss"]  # type: ignore[assignment]
    BINDINGS = keys.bindings("all", "review")

    def __init__(self) -> None:
        super().__init__()
        self.pane = "queue"
        self.terms = ""
        self.shown: Shown | None = None
        self.note: str | None = None
        self._loading: str | None = None
        self._failed: tuple[str, str | None] | None = None
        self._seen_as: tuple[str | None, str | None, str | None] = (None, None, None)
        self._keep: str | None = None
        self._asked: tuple[str, str] | None = None
        self._sent: dict[tuple[str, str], str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def body(self) -> Iterable[Widget]:
        yield Container(Queue(), Vertical(Lines(id="title"), DiffView(), id="paper"), id="body")

    @property
    def queue(self) -> Queue:
        return self.query_one(Queue)

    @property
    def diff_view(self) -> DiffView:
        return self.query_one(DiffView)

    # --- showing

    def on_resize(self) -> None:
        self.set_class(self.size.width < NARROW, "narrow")
        if self.size.width < NARROW:
            self.queue.styles.height = min(max(self.size.height // 4, 5), 12)
        else:
            self.queue.styles.height = "100%"
        super().on_resize()

    def sync(self) -> None:
        super().sync()
        queue = self.queue
        rows = [row for row in reviews(self.model, self._keep) if self._matches(row)]
        queue.set_rows(rows)
        row = queue.current
        self._watch(row)
        if row is not None:
            self._load(row)
        waiting = len(self.model.waiting())
        note = f"{waiting} waiting" + (f" · filter {self.terms}" if self.terms else "")
        queue.redraw(rule(" proposals", max(queue.size.width, 1), note, focused=self.pane == "queue"))
        self._show_paper(row)

    def _matches(self, row: ProposalRow) -> bool:
        text = f"{row['id']} {row['state']} {row['hypothesis']} {row['category']} {row['proposer']}".lower()
        return all((term.removeprefix("!") in text) != term.startswith("!") for term in self.terms.lower().split())

    def _watch(self, row: ProposalRow | None) -> None:
        """Guard the deciding keys whenever what they would decide changes; drop a question that is about something else."""
        hashed = self.shown.hash if self.shown and row and self.shown.proposal == row["id"] else None
        seen = (row["id"] if row else None, row["state"] if row else None, hashed)
        if seen != self._seen_as:
            if seen[0] != self._seen_as[0]:
                self.note = None
            self._seen_as = seen
            self.guard()
        if self._asked is not None and self.prompt.is_open:
            present = self.model.proposals.get(self._asked[0])
            if present is None or present["state"] != "waiting" or present["diff_hash"] != self._asked[1]:
                self.prompt.close()
                by = f" by {present['decided_by']}" if present and present["decided_by"] else ""
                state = "changed" if present is None or present["state"] == "waiting" else present["state"] + by
                self.say(f"{self._asked[0]} was {state} while you were asked; nothing was sent", "warn")
                self._asked = None

    def _show_paper(self, row: ProposalRow | None) -> None:
        view = self.diff_view
        width = max(view.size.width, 1)
        title = self.query_one("#title", Lines)
        if row is None:
            title.show([rule("", width)])
            text = (
                "Nothing matches this filter."
                if self.terms
                else "No proposal yet: they appear here as they are drafted."
            )
            view.set_document([BLANK, Line(((text, "dim"),))], (), None)
            return
        here = self.shown if self.shown and self.shown.proposal == row["id"] else None
        head = claim(self.model, row, here.text if here else None, width, self.note or self._missing(row, here))
        view.set_document(head, here.lines if here else (), (row["id"], row["diff_hash"], here is not None))
        hint = "a approve · d decline" if row["state"] == "waiting" and here is not None else ""
        note = "   ".join(each for each in (hint, view.position) if each)
        title.show([rule(f"{row['id']} {row['state']}", width, note, focused=self.pane == "diff")])

    def _missing(self, row: ProposalRow, here: Shown | None) -> str | None:
        if here is not None or row["diff_hash"] is None:
            return None
        if self._failed and self._failed[0] == row["id"]:
            return f"its diff could not be read: {self._failed[1]}"
        return "reading its diff …"

    def _load(self, row: ProposalRow) -> None:
        """Ask for the diff unless the one that the row names is here."""
        here = self.shown is not None and self.shown.proposal == row["id"] and self.shown.hash == row["diff_hash"]
        if here or row["diff_hash"] is None or self._loading is not None or self.cockpit.link.state != "connected":
            return
        if self._failed and self._failed[0] == row["id"]:
            return
        self._loading = row["id"]
        self._start(self._read(row["id"]))

    async def _read(self, proposal: str) -> None:
        try:
            answer = await self.cockpit.link.call("diff", proposal=proposal)
            text = clean(answer["diff"])
            self.shown = Shown(proposal, answer["hash"], answer["diff"], tuple(parse_diff(text)))
            self._failed = None
        except RpcError as error:
            self._failed = (proposal, clean(error.message))
        except OFFLINE:
            self._failed = None
        finally:
            self._loading = None
        if self.is_current:
            self.sync()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- moving

    def _select(self, by: int) -> None:
        """Move in the order that is on the screen; the row that is left may then take its place among the decided."""
        self.queue.move(by)
        self._failed = None
        row = self.queue.current
        self._keep = row["id"] if row is not None and row["state"] == "waiting" else None

    def _move(self, by: int) -> None:
        if self.pane == "diff":
            self.diff_view.scroll_by(by)
        else:
            self._select(by)

    def do_down(self) -> None:
        self._move(1)

    def do_up(self) -> None:
        self._move(-1)

    def do_top(self) -> None:
        self._move(-1_000_000)

    def do_bottom(self) -> None:
        self._move(1_000_000)

    def do_half_down(self) -> None:
        self.diff_view.scroll_by(max(self.diff_view.size.height // 2, 1))

    def do_half_up(self) -> None:
        self.diff_view.scroll_by(-max(self.diff_view.size.height // 2, 1))

    def do_next_hunk(self) -> None:
        self.diff_view.to_hunk(1)

    def do_previous_hunk(self) -> None:
        self.diff_view.to_hunk(-1)

    def do_next_proposal(self) -> None:
        self._select(1)

    def do_previous_proposal(self) -> None:
        self._select(-1)

    def do_next_pane(self) -> None:
        self.pane = "diff" if self.pane == "queue" else "queue"

    do_previous_pane = do_next_pane

    def do_read(self) -> None:
        self.pane = "diff"

    def do_back(self) -> None:
        if self.terms:
            self.terms = ""
        elif self.pane == "diff":
            self.pane = "queue"
        else:
            self.cockpit.show_screen("runs")

    def do_filter(self) -> None:
        def changed(text: str) -> None:
            self.terms = text
            self.sync()

        self.ask(
            Question(
                title="filter", text=self.terms, go="keep", answer=changed, changed=changed,
                cancelled=lambda: changed(""), guarded=False, alarm=False,
            )
        )  # fmt: skip

    def do_copy(self) -> None:
        assert self.shown is not None
        self.cockpit.copy(f"diff of {self.shown.proposal}", self.shown.text)

    # --- deciding

    def why_not(self, action: str) -> str | None:
        row = self.queue.current if self.is_mounted else None
        if action in ("approve", "decline"):
            if row is None:
                return "no proposal is selected"
            if row["state"] == "refused":
                return f"{row['id']} could not be applied ({row['refusal']}): there is nothing to decide"
            if row["state"] != "waiting":
                return f"{row['id']} is {row['state']} already" + (
                    f", by {row['decided_by']}" if row["decided_by"] else ""
                )
            if self.shown is None or self.shown.proposal != row["id"]:
                return f"the diff of {row['id']} is not on the screen yet"
            if self.shown.hash != row["diff_hash"]:
                return f"the diff of {row['id']} has changed; it is being read again"
            if sent := self._sent.get((self.shown.proposal, self.shown.hash)):
                return f"{row['id']} is {sent} already, by you"
        if action == "copy" and (self.shown is None or row is None or self.shown.proposal != row["id"]):
            return "no diff is on the screen"
        return super().why_not(action)

    def do_approve(self) -> None:
        shown = self._bind()
        details = [f"It becomes a branch of its own, then runs {cost(self.model)}."]
        unseen = self.diff_view.unseen
        if unseen:
            details.append(
                f"Not read yet: {plural(unseen, 'line')} of it {'was' if unseen == 1 else 'were'} never on the screen."
            )
        self.ask(
            Question(
                title=f"Approve {shown.proposal}, diff {shown.hash[:10]}?",
                details=details,
                go="approve and run",
                answer=lambda _: self._decide(shown, "approve", ""),
                cancelled=self._unbind,
            )
        )

    def do_decline(self) -> None:
        shown = self._bind()
        self.ask(
            Question(
                title=f"Decline {shown.proposal}, diff {shown.hash[:10]}?",
                details=("The reason is kept with it, for whoever proposes next.",),
                go="decline",
                text="",
                stock=DECLINE_REASONS,
                required=True,
                answer=lambda why: self._decide(shown, "decline", why),
                cancelled=self._unbind,
            )
        )

    def _bind(self) -> Shown:
        assert self.shown is not None
        self._asked = (self.shown.proposal, self.shown.hash)
        return self.shown

    def _unbind(self) -> None:
        self._asked = None

    def _decide(self, shown: Shown, action: str, why: str) -> None:
        self._asked = None
        self._keep = shown.proposal
        self._start(self._send(shown, action, why))

    async def _send(self, shown: Shown, action: str, why: str) -> None:
        """Send one decision; a repeat after a broken line carries the same request id, so that it counts once."""
        done = {"approve": "approved", "decline": "declined"}[action]
        self._sent[(shown.proposal, shown.hash)] = done
        try:
            answer = await self.cockpit.ask_twice(
                "decide", proposal=shown.proposal, diff_hash=shown.hash, action=action, why=why
            )
        except RpcError as error:
            del self._sent[(shown.proposal, shown.hash)]
            if error.code == STALE:
                self.shown = None
                self.note = f"nothing was decided: {clean(error.message)}"
            self.say(clean(error.message), "bad")
        else:
            by = clean(str(answer.get("by") or "somebody else"))
            if answer.get("first", True):
                experiment = f" as experiment {clean(str(answer['experiment']))}" if answer.get("experiment") else ""
                self.say(f"{shown.proposal} is {done}{experiment}", "good")
            else:
                self.say(f"{by} was first: {shown.proposal} is {clean(str(answer['state']))}", "warn")
        if self.is_current:
            self.sync()
