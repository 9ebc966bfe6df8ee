"""Signing on screen 1: what deserves it is listed first, and the strip says what it runs, costs and starts again."""

from __future__ import annotations

from typing import Any, cast

from engine.rpc import RpcError
from engine.text import clean, clean_all
from engine.types import ExperimentRow, ExperimentState

from ..findings import before_signing
from ..follow import OFFLINE
from ..widgets.prompt import Question
from .weighing import WeighingScreen


class _Wish:
    """Whether a full-scale run was asked for on the strip, as parameters of the call."""

    def __init__(self) -> None:
        self.told: dict[str, bool] = {}

    def turn(self, on: bool) -> None:
        self.told = {"full": True} if on else {}


class SigningScreen(WeighingScreen):
    """Adds the signature of the selected experiment."""

    def to_sign(self) -> ExperimentRow | None:
        """The experiment that the cursor is on, itself or one of its shards."""
        raise NotImplementedError

    def to_sign_together(self) -> list[ExperimentRow]:
        """The experiments that are marked on the shortlist, when there are several: one signature is for all of them."""
        raise NotImplementedError

    def why_not(self, action: str) -> str | None:
        if action == "sign" and (rows := self.to_sign_together()):
            late = next((row for row in rows if row["state"] != ExperimentState.JUDGED), None)
            if late is not None:
                return f"{late['id']} is {late['state']}: take its mark off (space)"
            told = (self._before_signing(row) for row in rows)
            return next((said for said in told if said), None) or super().why_not(action)
        if action == "sign":
            row = self.to_sign()
            if row is None or row["role"] == "trunk":
                return "no experiment is selected"
            if row["state"] != ExperimentState.JUDGED or row["verdict"] is None:
                return f"{row['id']} is {row['state']}: there is no verdict to sign on"
            if self.model.lab is not None and row["baseline"] != self.model.lab["trunk_arm"]:
                return f"{row['id']} was measured against {row['baseline']}, and the trunk has moved since"
            return self._before_signing(row) or super().why_not(action)
        return super().why_not(action)

    def _before_signing(self, row: ExperimentRow) -> str | None:
        return before_signing(row["id"], [*row.get("barred", ()), *row.get("asks", ())], self.model.findings)

    def do_sign(self) -> None:
        if rows := self.to_sign_together():
            self._start(self._offer_together(rows))
            return
        row = self.to_sign()
        assert row is not None
        self._start(self._offer_to_sign(row))

    async def _offered(self, method: str, **params: Any) -> dict[str, Any] | None:
        """What a first stroke would set going, as the engine says it; None where it is refused, which is said, and where nobody
        is there any more to be asked for the second."""
        try:
            told = cast(dict[str, Any], clean_all(await self.cockpit.link.call(method, **params)))
        except RpcError as error:
            self.say(clean(error.message), "bad")
            return None
        except OFFLINE:
            return None
        return told if self.is_current and not self.prompt.is_open else None

    async def _offer_together(self, rows: list[ExperimentRow]) -> None:
        """Say what one signature on all of them would do; the second stroke gives it."""
        names = [row["id"] for row in rows]
        price = await self._offered("bundle_price", experiments=names)
        if price is None:
            return
        proposals = [self.model.proposals[str(row["proposal"])] for row in rows]
        shown = [each["diff_hash"] or "" for each in proposals]
        wish = _Wish()
        sizes = [f"{row['id']} {_size(each['files'])}" for row, each in zip(rows, proposals, strict=True)]
        self.ask(
            Question(
                title=f"Sign {', '.join(names)} off together? All of them are solid, each by itself.",
                details=(f"It {price['sentence']}.", f"Their diffs: {'; '.join(sizes)}; screen 2 shows them."),
                go="sign them",
                text="",
                label="why",
                switch=_switch(price),
                switched=wish.turn,
                answer=lambda why: self._start(self._sign_together(names, shown, why, wish.told)),
            )
        )

    async def _sign_together(self, names: list[str], shown: list[str], why: str, wish: dict[str, bool]) -> None:
        try:
            answer = await self.cockpit.ask_twice("bundle", experiments=names, diff_hashes=shown, why=why, **wish)
        except RpcError as error:
            self.say(clean(error.message), "bad")
            return
        self.say(
            f"{', '.join(names)} are signed as {answer['experiment']}: fresh pairs run before it is merged", "good"
        )

    async def _offer_to_sign(self, row: ExperimentRow) -> None:
        """Say what the signature would do; the second stroke gives it."""
        price = await self._offered("price", experiment=row["id"])
        if price is None:
            return
        proposal, verdict = self.model.proposals[str(row["proposal"])], row["verdict"]
        assert verdict is not None
        shown = proposal["diff_hash"] or ""
        needs_reason = verdict["verdict"] != "solid"
        wish = _Wish()
        self.ask(
            Question(
                title=f"Sign {row['id']} off? {verdict['verdict']}: {verdict['sentence']}",
                details=(f"It {price['sentence']}.", f"Its diff is {_size(proposal['files'])}; screen 2 shows it."),
                go="sign it",
                text="",
                label="why",
                required=needs_reason,
                switch=_switch(price),
                switched=wish.turn,
                answer=lambda why: self._start(self._sign(row["id"], shown, why, wish.told)),
            )
        )

    async def _sign(self, experiment: str, shown: str, why: str, wish: dict[str, bool]) -> None:
        try:
            answer = await self.cockpit.ask_twice("sign", experiment=experiment, diff_hash=shown, why=why, **wish)
        except RpcError as error:
            self.say(clean(error.message), "bad")
            return
        waits = answer["state"] == "confirming"
        self.say(
            f"{experiment}: {'fresh pairs run before it is merged' if waits else 'it is in the trunk now'}", "good"
        )


def _switch(price: dict[str, Any]) -> str:
    """What the strip offers to be turned on: a full-scale run with what it costs; nothing where the lab has no rung for it."""
    full = price.get("full")
    return str(full["sentence"]) if full else ""


def _size(files: Any) -> str:
    added, removed = sum(each["added"] for each in files), sum(each["removed"] for each in files)
    return f"+{added} -{removed} in {', '.join(each['path'] for each in files[:3])}"
