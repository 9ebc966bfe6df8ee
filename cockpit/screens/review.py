"""Screen 2: read proposals, decide them, and ask for more."""

from __future__ import annotations

from typing import Any

from engine.rpc import RpcError
from engine.text import clean

from ..advice import cannot_ask, who_is_asked
from ..follow import OFFLINE
from ..widgets.prompt import Question
from .writing import WritingScreen

WANTED = 3


class ReviewScreen(WritingScreen):
    """Adds asking the lab's proposer, and stopping it."""

    def why_not(self, action: str) -> str | None:
        asking = self.model.asking()
        if action == "propose" and asking is not None:
            return f"{asking['id']} is asking already: x stops it"
        if action == "cancel" and asking is None:
            return "nobody is being asked: p asks for more"
        return super().why_not(action)

    def do_propose(self) -> None:
        self.start(self._offer())

    async def _offer(self) -> None:
        """Say who would be asked, or why nobody can be; the second stroke asks."""
        who = await self.proposer()
        if who is None:
            return
        self.who = who
        if not self.is_current or self.prompt.is_open:
            return
        if reason := cannot_ask(who):
            self.say(reason, "warn")
            return
        self.ask(
            Question(
                title=f"Ask {who['proposer']} for {WANTED} proposals?",
                details=who_is_asked(who),
                go="ask",
                text=None if who["unasked"] else "",
                label="a note to it, or nothing",
                answer=lambda note: self.start(self._ask_proposer(note)),
            )
        )

    async def _ask_proposer(self, note: str) -> None:
        try:
            answer = await self.cockpit.ask_twice("propose", n=WANTED, note=note, wait=False)
        except RpcError as error:
            self.say(clean(error.message), "bad")
        else:
            if "round" in answer:
                self.cockpit.listener.listen(answer["round"]["id"])  # its pane says the rest
            else:
                self.say(*self._added(answer))
        if self.is_current:
            self.sync()

    def _added(self, answer: dict[str, Any]) -> tuple[str, str]:
        if answer["added"]:
            return f"added {clean(', '.join(answer['added']))}", "good"
        return clean(answer.get("stopped") or "the proposer has nothing more to propose"), "warn"

    def do_cancel(self) -> None:
        asking = self.model.asking()
        assert asking is not None
        name = asking["id"]
        self.ask(
            Question(
                title=f"Stop {name}, which asks {asking['proposer']}?",
                details=("What it has queued stays, and what it has used is paid for.",),
                go="stop asking",
                answer=lambda _: self.start(self._cancel(name)),
            )
        )

    async def _cancel(self, name: str) -> None:
        try:
            answer = await self.cockpit.link.call("cancel", round=name)
            self.say(f"{name} is stopped" if answer["cancelled"] else f"{name} had ended already", "warn")
        except RpcError as error:
            self.say(clean(error.message), "bad")
        except OFFLINE:
            self.say(f"the engine did not answer, and {name} may go on: press x again when it is back", "bad")
        if self.is_current:
            self.sync()
