"""The reading half of screen 2: the queue, the proposal under the cursor as a document, and what a proposer says meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from textual.containers import Container, Vertical
from textual.widget import Widget

from engine.rpc import RpcError
from engine.text import clean, clean_all
from engine.types import ProposalRow

from .. import keys
from ..advice import in_use
from ..follow import OFFLINE
from ..mix_lines import mix_lines
from ..summary import reviews
from ..widgets.asking_pane import AskingPane
from ..widgets.diff_view import DiffLine, DiffView, parse_diff
from ..widgets.lines import BLANK, Line, Lines, rule
from ..widgets.prompt import Question
from ..widgets.queue import Queue, claim
from .base import CockpitScreen

NARROW = 120
PAINT_S = 0.1
"""The stream of a round is painted at most so often, and only where it changed."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the reader sees: the diff of a proposal as the engine hashed it."""

    proposal: str
    hash: str
    text: str
    lines: tuple[DiffLine, ...]
    source: str = ""


def _since(since: dict[str, Any] | None) -> Iterable[DiffLine]:
    """How a repair differs from what had been approved, to be read before the whole diff that is decided on."""
    if since is None:
        return
    approved = f"{since['proposal']} as approved ({since['experiment']}, commit {since['commit'][:10]})"
    yield DiffLine("file", clean(f"THE DIFFERENCE TO {approved}"), "")
    yield from parse_diff(clean(since["diff"]) or "Binary or no difference")
    yield DiffLine("file", "THE WHOLE DIFF AGAINST THE TRUNK, which is decided on", "")


class ReadingScreen(CockpitScreen):
    """Panes: queue, diff, and while a proposer is asked what it says. The paging keys always move the diff."""

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
        self.keep: str | None = None
        self.asked: dict[
            str, str | None
        ] = {}  # proposals that the open question is about, and the diffs that were shown
        self.marks: dict[str, Shown] = {}
        self.who: dict[str, Any] | None = None
        self._heard: object = None
        self._tasks: set[asyncio.Task[None]] = set()

    def body(self) -> Iterable[Widget]:
        left = Vertical(Queue(), AskingPane(id="asking"), id="left")
        yield Container(left, Vertical(Lines(id="title"), DiffView(), id="paper"), id="body")

    @property
    def queue(self) -> Queue:
        return self.query_one(Queue)

    @property
    def diff_view(self) -> DiffView:
        return self.query_one(DiffView)

    @property
    def asking_pane(self) -> AskingPane:
        return self.query_one(AskingPane)

    @property
    def asking_shown(self) -> bool:
        return self.has_class("asking")

    # --- showing

    def on_mount(self) -> None:
        super().on_mount()
        self.set_interval(PAINT_S, self._paint_stream)

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        self.look_who()

    def on_resize(self) -> None:
        self._fit()
        super().on_resize()

    def _fit(self) -> None:
        """Give queue and stream their heights: beside the paper, or above it where that is narrow."""
        narrow = self.size.width < NARROW
        self.set_class(narrow, "narrow")
        if narrow:
            queue = min(max(self.size.height // 4, 5), 12)
            self.queue.styles.height = queue - 2 if self.asking_shown else queue
            self.asking_pane.styles.height = min(max(self.size.height // 3, 6), 16)
        else:
            self.queue.styles.height = "1fr"
            self.asking_pane.styles.height = "50%"

    def look_who(self) -> None:
        """Ask the engine which proposer is in use, for the head of the queue."""
        if self.cockpit.link.state == "connected":
            self.start(self._look_who())

    async def _look_who(self) -> None:
        try:
            self.who = cast(dict[str, Any], clean_all(await self.cockpit.link.call("proposer")))
        except (RpcError, *OFFLINE):
            return
        if self.is_current:
            self.sync()

    def _paint_stream(self) -> None:
        """What a proposer says, as it comes; the rest of the screen has its own tick."""
        version = self.cockpit.listener.version
        if version != self._heard and self.is_current and self.asking_shown and not self.cockpit.slow:
            self._heard = version
            self._show_stream()

    def _show_stream(self) -> None:
        stream = self.cockpit.listener.stream
        if stream is not None:
            model, focused = self.model.model_of(stream.name), self.pane == "asking"
            self.asking_pane.redraw(stream, self.model.rounds.get(stream.name), model, focused=focused)

    def sync_body(self) -> None:
        self._sync_stream()
        queue = self.queue
        rows = [row for row in reviews(self.model, self.keep) if self._matches(row)]
        queue.set_rows(rows)
        row = queue.current
        self._watch(row)
        if row is not None:
            self._load(row)
        waiting = len(self.model.waiting())
        parts = [f"{waiting} waiting", f"{len(self.marks)} marked" if self.marks else ""]
        parts += [in_use(self.who) if self.who else "", f"filter {self.terms}" if self.terms else ""]
        note = " · ".join(part for part in parts if part)
        queue.redraw(rule(" proposals", max(queue.size.width, 1), note, focused=self.pane == "queue"), self.marks)
        self._show_paper(row)

    def _sync_stream(self) -> None:
        """Make room for a round's stream while there is one; what it says is painted by its own clock."""
        shown = self.cockpit.listener.stream is not None
        if shown != self.asking_shown:
            self.set_class(shown, "asking")
            self.pane = "queue" if self.pane == "asking" else self.pane
            self._fit()
            self.sync_soon()
        self._show_stream()

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
        for name, shown in self.marks.copy().items():
            if not self._is_as_shown(name, shown.hash):
                del self.marks[name]
        for name, hashed_then in list(self.asked.items()) if self.prompt.is_open else []:
            if not self._is_as_shown(name, hashed_then):
                present = self.model.proposals.get(name)
                self.prompt.close()
                by = f" by {present['decided_by']}" if present and present["decided_by"] else ""
                state = "changed" if present is None or present["state"] == "waiting" else present["state"] + by
                self.say(f"{name} was {state} while you were asked; nothing was sent", "warn")
                self.asked = {}
                break

    def _is_as_shown(self, name: str, hashed: str | None) -> bool:
        row = self.model.proposals.get(name)
        return row is not None and row["state"] == "waiting" and row["diff_hash"] == hashed

    def _show_paper(self, row: ProposalRow | None) -> None:
        view = self.diff_view
        width = max(view.size.width, 1)
        title = self.query_one("#title", Lines)
        if row is None:
            title.show([rule("", width)])
            text = (
                "Nothing matches this filter."
                if self.terms
                else "No proposal yet: they appear here as they are drafted; p asks for some."
            )
            view.set_document([BLANK, Line(((text, "dim"),))], (), None)
            return
        here = self.shown if self.shown and self.shown.proposal == row["id"] else None
        head = claim(self.model, row, here.text if here else None, width, self.note or self._missing(row, here))
        view.set_document(head, here.lines if here else (), (row["id"], row["diff_hash"], here is not None))
        hint = "a approve · d decline · r revise · e edit" if row["state"] == "waiting" and here is not None else ""
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
        self.start(self._read(row["id"]))

    async def _read(self, proposal: str) -> None:
        try:
            answer = await self.cockpit.link.call("diff", proposal=proposal)
            text = clean(answer["diff"])
            lines = (*_since(answer.get("since")), *mix_lines(answer.get("mix", ())), *parse_diff(text))
            self.shown = Shown(proposal, answer["hash"], answer["diff"], lines, answer["source"])
            self._failed = None
        except RpcError as error:
            self._failed = (proposal, clean(error.message))
        except OFFLINE:
            self._failed = None
        finally:
            self._loading = None
        if self.is_current:
            self.sync()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- moving

    def select(self, by: int) -> None:
        """Move in the order that is on the screen; the row that is left may then take its place among the decided."""
        self.queue.move(by)
        self._failed = None
        row = self.queue.current
        self.keep = row["id"] if row is not None and row["state"] == "waiting" else None

    def move(self, by: int) -> None:
        if self.pane == "diff":
            self.diff_view.scroll_by(by)
        elif self.pane == "asking":
            self.asking_pane.scroll_by(by)
        else:
            self.select(by)

    def do_half_down(self) -> None:
        self.diff_view.scroll_by(max(self.diff_view.size.height // 2, 1))

    def do_half_up(self) -> None:
        self.diff_view.scroll_by(-max(self.diff_view.size.height // 2, 1))

    def do_next_hunk(self) -> None:
        self.diff_view.to_hunk(1)

    def do_previous_hunk(self) -> None:
        self.diff_view.to_hunk(-1)

    def do_next_proposal(self) -> None:
        self.select(1)

    def do_previous_proposal(self) -> None:
        self.select(-1)

    def do_next_pane(self) -> None:
        panes = self._panes()
        self.pane = panes[(panes.index(self.pane) + 1) % len(panes)]

    def do_previous_pane(self) -> None:
        panes = self._panes()
        self.pane = panes[panes.index(self.pane) - 1]

    def _panes(self) -> list[str]:
        return ["queue", "diff", *(["asking"] if self.asking_shown else [])]

    def do_read(self) -> None:
        self.pane = "diff"

    def do_back(self) -> None:
        if self.terms:
            self.terms = ""
        elif self.pane != "queue":
            self.pane = "queue"
        elif self.cockpit.listener.has_ended:
            self.cockpit.listener.forget()
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
