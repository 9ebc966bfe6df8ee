"""Retuning on screen 1: whether the selected experiment's gain is more than a matter of the learning rate."""

from __future__ import annotations

from engine.rpc import RpcError
from engine.text import clean
from engine.types import ExperimentRow, ExperimentState

from ..widgets.prompt import Question
from .signing import SigningScreen


class RetuningScreen(SigningScreen):
    """Adds the comparison of both sides at their own best learning rate."""

    def why_not(self, action: str) -> str | None:
        if action == "retune":
            row = self.to_sign()
            if row is None or row["role"] == "trunk":
                return "no experiment is selected"
            if row["state"] != ExperimentState.JUDGED or row["verdict"] is None:
                return f"{row['id']} is {row['state']}: there is no verdict that a rate could explain"
        return super().why_not(action)

    def do_retune(self) -> None:
        row = self.to_sign()
        assert row is not None
        self._start(self._offer_to_retune(row))

    async def _offer_to_retune(self, row: ExperimentRow) -> None:
        """Say what it would run; the second stroke starts it."""
        cost = await self._offered("retune_cost", experiment=row["id"])
        if cost is None:
            return
        self.ask(
            Question(
                title=f"Retune {row['id']}: did the idea win, or the learning rate?",
                details=(
                    f"It {cost['sentence']}.",
                    "None of these runs enters the verdict; what they say stands beside it.",
                ),
                go="start it",
                text="",
                label="why",
                required=False,
                answer=lambda why: self._start(self._retune(row["id"], why)),
            )
        )

    async def _retune(self, experiment: str, why: str) -> None:
        try:
            answer = await self.cockpit.ask_twice("retune", experiment=experiment, why=why)
        except RpcError as error:
            self.say(clean(error.message), "bad")
            return
        self.say(f"{experiment} is being retuned, as {answer['retune']}", "good")
