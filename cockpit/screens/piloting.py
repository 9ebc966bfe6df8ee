"""The cluster's allocation on screen 1: what would be asked of Slurm, or given back, before it is."""

from __future__ import annotations

from typing import Any

from engine.rpc import RpcError
from engine.text import clean

from ..follow import OFFLINE
from ..widgets.prompt import Question
from .retuning import RetuningScreen


class PilotingScreen(RetuningScreen):
    """Adds the pilot allocation that shards of a cluster run in."""

    def do_pilot(self) -> None:
        self._start(self._offer_pilot())

    async def _offer_pilot(self) -> None:
        """Say how it stands; the second stroke asks for it, or gives it back."""
        held = await self._offered("pilot")
        if held is None:
            return
        if not held["words"]:
            self.say(held["sentence"])
            return
        self.ask(_give_back(held, self._answer) if held["asked"] else _ask_for(held, self._answer))

    def _answer(self, action: str, why: str) -> None:
        self._start(self._carry_out(action, why))

    async def _carry_out(self, action: str, why: str) -> None:
        try:
            answer = await self.cockpit.link.call("pilot", action=action, why=why)
        except RpcError as error:
            self.say(clean(error.message), "bad")
            return
        except OFFLINE:
            return
        self.say(clean(str(answer["sentence"])), "good")


def _ask_for(held: dict[str, Any], answer: Any) -> Question:
    return Question(
        title="Ask Slurm for a pilot allocation?",
        details=(f"{held['words']}.", "It is given back when no shard has run in it for a while."),
        go="ask for it",
        text="",
        label="why",
        required=False,
        answer=lambda why: answer("confirm", why),
    )


def _give_back(held: dict[str, Any], answer: Any) -> Question:
    return Question(
        title="Give the pilot allocation back?",
        details=(f"{held['sentence']}.", "What runs in it is cut off, and runs again, or goes on, in the next."),
        go="give it back",
        text="",
        label="why",
        required=False,
        answer=lambda why: answer("release", why),
    )
