"""The writing half of screen 2: a proposal of one's own, in an editor that has the screen for as long as it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textual.app import SuspendNotSupported

from engine.rpc import STALE, RpcError
from engine.text import clean

from ..editing import NotEdited, editor
from ..follow import OFFLINE
from ..owning import ScratchTree, TrunkCopy, make
from .deciding import DecidingScreen


class WritingScreen(DecidingScreen):
    """Adds writing a proposal by hand."""

    def __init__(self) -> None:
        super().__init__()
        self._own: ScratchTree | None = None  # one that was not handed in yet

    def do_write(self) -> None:
        kept = self._own is not None and self._own.path.is_dir()
        details = [
            "The screen is the editor's until it ends. It opens a hypothesis to fill in, and copies of the trunk's files.",
            "What you change there becomes a proposal that waits for review; nothing of it runs before it is approved.",
        ]
        if kept:
            details.insert(0, "It goes on with the one that was not queued before.")
        self._confirm(
            f"Write a proposal of your own in {editor()[0]}?",
            details,
            "open the editor",
            lambda _: self.start(self._write()),
        )

    async def _write(self) -> None:
        """Hand the terminal to the editor, then queue what differs. What cannot be queued stays in its directory."""
        try:
            tree = await self._tree()
            with self.app.suspend():
                tree.edit()
            self.cockpit.repaint()
            answer = await self._hand_in(tree.proposal())
        except SuspendNotSupported:
            self._discard()
            self.say("this terminal cannot be lent to an editor: `cockpit propose --edit` does it", "warn")
        except NotEdited as error:
            self.cockpit.repaint()
            self.note = clean(str(error))
            self.say(f"nothing was queued; w opens it again{f' ({self._own.path})' if self._own else ''}", "warn")
        except RpcError as error:
            kept = f"; {self._own.resume}" if self._own else ""
            self.note = f"nothing was queued: {clean(error.message)}{kept}"
            self.say(f"nothing was queued; w opens it again{f' ({self._own.path})' if self._own else ''}", "bad")
        except OFFLINE:
            self.say("the engine did not answer; w tries again", "bad")
        else:
            self._discard()
            self.say(f"{answer['proposal']} is yours: it waits for review", "good")
        if self.is_current:
            self.sync()

    def _discard(self) -> None:
        if self._own is not None:
            self._own.drop()
        self._own = None

    async def _tree(self) -> ScratchTree:
        """The tree that was kept, else a fresh one of the trunk as it stands."""
        if self._own is not None and self._own.path.is_dir():
            return self._own
        assert self.model.lab is not None
        copy = TrunkCopy()
        while copy.wanted is not None:
            copy.take(await self.cockpit.link.call("tree", **copy.wanted))
        self._own = make(copy, Path(self.model.lab["root"]), None)
        return self._own

    async def _hand_in(self, told: dict[str, Any]) -> dict[str, Any]:
        answer = await self.after_editor("submit", **told)
        if answer["refusal"]:
            raise RpcError(STALE + 1, f"{answer['proposal']} is refused ({answer['refusal']}): {answer['detail']}")
        return answer
