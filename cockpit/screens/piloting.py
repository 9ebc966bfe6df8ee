"""The cluster's allocation on screen 1: what would be asked of Slurm, or given back, before it is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from engine.rpc import RpcError
from engine.text import clean

from ..attempts import waiting
from ..cluster import busy
from ..follow import OFFLINE
from ..format import plural
from ..model import ReadModel
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
        make = _give_back if held["asked"] else _ask_for
        self.ask(make(self.model, held, self._answer))

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
        if self.model.cluster is None:
            return
        with suppress(RpcError, *OFFLINE):
            self.model.take_cluster(await self.cockpit.link.call("cluster"), whole=True)
        self.sync()


def _ask_for(model: ReadModel, held: dict[str, Any], answer: Any) -> Question:
    cost = model.cluster["allocation"].get("gpu_hours") if model.cluster else None
    count = waiting(model)
    waits = (
        f"{plural(count, 'shard')} {'waits' if count == 1 else 'wait'} for it" if count else "nothing waits for it now"
    )
    price = f"At most {cost:g} GPU-hours in the pilot alone; {waits}." if cost else f"{waits.capitalize()}."
    return Question(
        title="Ask Slurm for a pilot allocation?",
        details=(f"{held['words']}.", price, "It is given back when no shard has run in it for a while."),
        go="ask for it",
        text="",
        label="why",
        required=False,
        answer=lambda why: answer("confirm", why),
    )


def _give_back(model: ReadModel, held: dict[str, Any], answer: Any) -> Question:
    count = busy(model.cluster, model.shards.values()) if model.cluster else None
    what = "What runs in it is" if count is None else f"{plural(count, 'shard')} in it {'is' if count == 1 else 'are'}"
    end = "No shard runs in it." if count == 0 else f"{what} cut off; the seeds run again, or go on, in the next."
    return Question(
        title="Give the pilot allocation back?",
        details=(f"{held['sentence']}.", end),
        go="give it back",
        text="",
        label="why",
        required=False,
        answer=lambda why: answer("release", why),
    )
