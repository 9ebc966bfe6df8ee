"""The brief on screen 1: a page beside the table, or in its place where it is narrow, and asking Claude for another one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from engine.rpc import RpcError
from engine.text import clean, clean_all
from engine.types import Failure

from ..advice import ADVICE
from ..follow import OFFLINE
from ..widgets.brief_pane import BriefPane
from ..widgets.prompt import Question
from .base import CockpitScreen


class BriefingScreen(CockpitScreen):
    """Adds the pane of the brief. It opens on a key alone; that there is a new one is said on the status line."""

    def __init__(self) -> None:
        super().__init__()
        self._body: dict[str, Any] | None = None
        self._body_of = ""  # hash of the body that is here
        self._loading = ""  # and of the one that was asked for
        self._told = ""  # the brief that the reader was told of
        self._work: set[asyncio.Task[None]] = set()

    @property
    def brief_pane(self) -> BriefPane:
        return self.query_one(BriefPane)

    @property
    def brief_shown(self) -> bool:
        return self.has_class("brief")

    def open_brief(self) -> None:
        """Show the page, and let the moving keys move it."""
        raise NotImplementedError

    def show_brief(self, on: bool) -> None:
        """Open or close the page."""
        self.set_class(on, "brief")
        self.brief_pane.top = 0
        self.sync_soon()

    def sync_brief(self, *, focused: bool) -> None:
        """Paint the page, and ask for the words of the brief that it is to show."""
        row = self.model.brief()
        if self.brief_shown:
            if row is not None and row["body"] and row["body"] not in (self._body_of, self._loading):
                self._loading = row["body"]
                self._start(self._load(row["id"], row["body"]))
            here = self._body if row is not None and row["body"] == self._body_of else None
            self.brief_pane.redraw(row, here, self.model.writing(), focused=focused)
        if row is not None and row["id"] != self._told and (self.brief_shown or self.cockpit.message is None):
            self._told = row["id"]
            if not self.brief_shown:
                self.say(f"b reads {row['id']}: what came of the last batch", "accent")

    async def _load(self, name: str, body: str) -> None:
        try:
            answer = await self.cockpit.link.call("brief", brief=name)
            self._body, self._body_of = cast(dict[str, Any], clean_all(answer["body"])), body
        except RpcError as error:
            self.say(clean(error.message), "bad")
            return
        except OFFLINE:
            self._loading = ""
            return
        if self.is_current:
            self.sync_soon()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # --- asking

    def why_not(self, action: str) -> str | None:
        if action == "ask_brief" and (writing := self.model.writing()) is not None:
            return f"{writing['id']} is being written already"
        return super().why_not(action)

    def do_ask_brief(self) -> None:
        self._start(self._offer())

    async def _offer(self) -> None:
        """Say what asking costs, or why nobody can be asked; the second stroke asks."""
        who = await self.proposer()
        if who is None:
            return
        if not self.is_current or self.prompt.is_open:
            return
        reason = f"{who['stopped']}; {ADVICE[Failure.BUDGET]}" if who["stopped"] else None
        if not who["key"]:
            reason = f"Claude cannot be asked, there is no key: {ADVICE[Failure.NO_CREDENTIALS]}"
        if reason:
            self.say(reason, "warn")
            return
        self.ask(
            Question(
                title=f"Ask {who['claude']} for a brief on the last batch?",
                details=(f"One call, with the key of your shell. Budget: {'; '.join(who['left'])}.",),
                go="ask",
                answer=lambda _: self._start(self._ask_brief()),
            )
        )

    async def _ask_brief(self) -> None:
        try:
            answer = await self.cockpit.ask_twice("ask_brief", wait=False)
        except RpcError as error:
            self.say(clean(error.message), "bad")
            return
        self.say(f"{clean(answer['brief']['id'])} has begun", "good")
        if self.is_current and not self.brief_shown:
            self.open_brief()
