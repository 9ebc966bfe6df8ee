"""What every screen has: the fixed lines, the question strip, and one dispatcher that knows why a key does nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from engine.rpc import RpcError
from engine.text import clean, clean_all

from .. import keys
from ..follow import OFFLINE
from ..model import ReadModel
from ..widgets.lines import Lines
from ..widgets.prompt import Prompt, Question
from ..widgets.status_line import header, status

if TYPE_CHECKING:
    from ..app import CockpitApp

TOO_SOON = "that key came before this could be read: press it again"

FARTHEST = 1 << 60
"""More lines or rows than there ever are."""


class CockpitScreen(Screen[None], inherit_bindings=False):
    """A screen that shows the read model. Subclasses fill `body`, `sync_body` and one `do_<action>` for each key."""

    scope: ClassVar[str] = "all"
    within: ClassVar[tuple[str, ...]] = ()
    """Scopes of parts of the screen that have keys of their own; the help shows them too."""
    CSS_PATH = "base.tcss"
    AUTO_FOCUS = ""

    def __init__(self) -> None:
        super().__init__()
        self._inert_until = 0.0
        self.drawn = -1

    @property
    def cockpit(self) -> CockpitApp:
        return cast("CockpitApp", self.app)

    @property
    def model(self) -> ReadModel:
        return self.cockpit.model

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    def compose(self) -> ComposeResult:
        yield Lines(id="header")
        yield from self.body()
        yield Prompt(self.cockpit.clock)
        yield Lines(id="status")

    def body(self) -> Iterable[Widget]:
        """The widgets between header and status line."""
        raise NotImplementedError

    def sync(self) -> None:
        """Show what the model says now; called once a tick when something changed, and after every key.

        Nothing happens while the screen is not yet put up, or being taken down: a tick, or an answer of the engine, may come
        at any time."""
        if not self.query("#header"):
            return
        width = self.size.width
        self.query_one("#header", Lines).show([header(self.model, self.scope, width)])
        self.show_status()
        self.sync_body()

    def sync_body(self) -> None:
        """Show the model between the two fixed lines."""
        raise NotImplementedError

    def sync_soon(self) -> None:
        """`sync` once what changed is laid out."""
        self.call_after_refresh(self.sync)

    async def proposer(self) -> dict[str, Any] | None:
        """Who would be asked, with the key and the budget that there are; None when the engine cannot say."""
        try:
            who = cast(dict[str, Any], clean_all(await self.cockpit.link.call("proposer")))
        except RpcError as error:
            self.say(clean(error.message), "bad")
            return None
        except OFFLINE:
            return None
        return who

    def show_status(self) -> None:
        """The bottom line alone, where it is there."""
        if not self.query("#status"):
            return
        app = self.cockpit
        made = status(self.model, app.link.state, app.troubles(), app.message, self.size.width, self.phase())
        self.query_one("#status", Lines).show([made])

    def phase(self) -> str:
        """What the engine is doing, for the bottom line."""
        return self.model.lab["phase"] if self.model.lab else ""

    def on_mount(self) -> None:
        self.prompt.display = False

    def on_resize(self) -> None:
        self.sync_soon()

    def on_screen_resume(self) -> None:
        self.sync_soon()

    def on_key(self, event: events.Key) -> None:
        """A lone escape may be the head of a broken sequence: what follows within a moment decides nothing."""
        if event.key in ("escape", "left_square_bracket"):
            self.guard()

    def guard(self) -> None:
        """Deciding keys are inert for a moment from now."""
        self._inert_until = self.cockpit.clock() + keys.GUARD_S

    # --- actions

    def why_not(self, action: str) -> str | None:
        """Why an action cannot be done now, as a sentence for the status line and the help; None when it can."""
        row = next((key for key in keys.of((self.scope, "all")) if key.action == action), None)
        if row is not None and row.changes and self.cockpit.link.state != "connected":
            return "the engine cannot be reached; runs keep going, wait until it answers"
        return None

    def action_do(self, action: str) -> None:
        """Do what the key table calls `action`, or say why not."""
        self.cockpit.message = None
        row = next((key for key in keys.of((self.scope, "all")) if key.action == action), None)
        reason = self.why_not(action)
        if reason is None and row is not None and row.changes and self.cockpit.clock() < self._inert_until:
            reason = TOO_SOON
        if reason is not None:
            self.say(reason, "warn")
            return
        cast(Any, getattr(self, f"do_{action}"))()
        if self.is_current:
            self.answer()

    def answer(self) -> None:
        """Show what a key did: at once, or with the keys that follow where the line does not keep up."""
        if self.cockpit.backed_up:
            self.cockpit.paint_soon()
        else:
            self.sync()

    def say(self, text: str, name: str = "text") -> None:
        """A sentence on the status line until the next key."""
        self.cockpit.message = (text, name)
        self.show_status()

    def ask(self, question: Question) -> None:
        self.prompt.ask(question)

    def move(self, by: int) -> None:
        """Move in the pane that has the keys, down by so many lines or rows, or up; no further than there are."""
        raise NotImplementedError

    def half_page(self) -> int:
        """Lines or rows that half a page of that pane has."""
        raise NotImplementedError

    def do_down(self) -> None:
        self.move(1)

    def do_up(self) -> None:
        self.move(-1)

    def do_half_down(self) -> None:
        self.move(self.half_page())

    def do_half_up(self) -> None:
        self.move(-self.half_page())

    def do_top(self) -> None:
        self.move(-FARTHEST)

    def do_bottom(self) -> None:
        self.move(FARTHEST)

    def do_runs(self) -> None:
        self.cockpit.show_screen("runs")

    def do_review(self) -> None:
        self.cockpit.show_screen("review")

    def do_sql(self) -> None:
        self.cockpit.show_screen("sql")

    def do_theme(self) -> None:
        self.cockpit.next_theme()

    def do_repaint(self) -> None:
        self.cockpit.repaint()

    def do_help(self) -> None:
        self.cockpit.show_help(self)

    def do_palette(self) -> None:
        self.cockpit.show_help(self)

    def do_leave(self) -> None:
        self.cockpit.leave()
