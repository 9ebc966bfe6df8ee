"""Rounds of asking a proposer that takes its time: what it says is kept for whoever follows, what it costs is in the ledger.

A round runs beside the conductor, so that no run waits for a model. Every call is intended in the ledger before it is made,
with the most that it can cost; the budget is looked at before each of them, never in the middle of one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from engine import events as e
from engine.core import Core, now
from engine.desk import EngineDesk, spent
from engine.money import Price, PriceError, Prices, reached, read_prices
from engine.proposals import Intake
from engine.proposers.base import Credentials, Proposer, ProposerError
from engine.proposers.stream import (
    Afresh,
    Called,
    Calling,
    Failed,
    Noted,
    Said,
    Text,
    Thinking,
    Usage,
    Used,
    Written,
)
from engine.rpc import NOT_NOW, UNKNOWN_ID, RpcError
from engine.text import clean
from engine.types import Failure, Who

log = logging.getLogger("engine")
MAX_SHOWN = 1_000_000  # characters of one round that are kept to be followed; the reply itself is kept in full
PAGE = 400_000  # characters of one answer to a follower
KEEP = 20  # rounds whose stream is kept


@dataclass
class Round:
    """A round that is running, or ran since the engine began."""

    name: str
    task: asyncio.Task[None] | None = None
    said: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    call: str | None = None  # the call that is open
    model: str = ""
    price: Price | None = None  # of that model
    usage: Usage = field(default_factory=Usage)
    heard: int = 0  # characters of the open call
    written: list[str] = field(default_factory=list)  # the open call's text, thinking left out
    added: list[str] = field(default_factory=list)
    failed: Failed | None = None
    ended: bool = False
    by: str = ""  # of an errand, which is no round: whom it asks

    def say(self, kind: str, **what: Any) -> None:
        """Keep something for followers; past the limit, text is dropped and said to be."""
        size = len(what.get("text", ""))
        if size and self.size + size > MAX_SHOWN:
            if self.size <= MAX_SHOWN:
                self.said.append({"kind": "note", "text": "the rest is too long to be shown"})
                self.size = MAX_SHOWN + 1
        else:
            self.size += size
            self.said.append({"kind": kind, **what})
        self.news.set()


class Asking:
    """The rounds of one engine, and the credentials that clients handed over. These are in memory alone."""

    def __init__(self, core: Core, intake: Intake, lock: asyncio.Lock) -> None:
        self.core = core
        self.intake = intake
        self.rounds: dict[str, Round] = {}
        self.credentials: Credentials | None = None
        self._lock = lock  # only one at a time puts proposals into the queue

    # --- what clients ask for ---

    def take_key(self, key: str, base_url: str) -> None:
        """Keep a key, and where to use it, for as long as this engine runs."""
        self.credentials = Credentials(key, base_url) if key else None

    def begin(
        self,
        proposer: Proposer,
        wanted: int,
        note: str,
        who: Who,
        request: str,
        closing: e.Decided | None = None,
        repairs: str = "",
    ) -> str:
        """Begin a round; its name. The same request again is the same round. Raises RpcError.

        `closing` is the decision that a proposal be revised: the round is about that one,
        and both are made durable together. `repairs` is a proposal that broke at its smoke, and is to be mended.
        """
        state = self.core.state
        if known := state.requests.get(request, {}).get("round"):
            return str(known)
        if running := self.running():
            raise RpcError(NOT_NOW, f"{running} is asking already: follow it, or cancel it first")
        name = f"r{len(state.rounds) + 1:04d}"
        revises = closing.target if closing else ""
        began = e.RoundBegan(name, proposer.name, wanted, clean(note).strip(), who.to_json(), request, revises, repairs)
        self.core.record(*([closing] if closing else []), began)
        made = self.rounds[name] = Round(name)
        for old in list(self.rounds)[:-KEEP]:
            del self.rounds[old]
        desk = self._desk(proposer, wanted, note, revises, repairs)
        made.task = asyncio.create_task(self._run(made, proposer.propose(desk)), name=f"round {name}")
        return name

    def running(self) -> str | None:
        """The name of the round that goes on, if one does."""
        return next((each.name for each in self.rounds.values() if not each.ended), None)

    def cancel(self, name: str) -> bool:
        """End a round now; False when it has ended before."""
        found = self._find(name)
        if found is None or found.ended or found.task is None:
            return False
        return found.task.cancel()

    async def follow(self, name: str, after: int, wait_s: float) -> dict[str, Any]:
        """What a round said after the first `after` things; waits for more when there is none yet and it goes on."""
        found = self._find(name)
        if found is None:
            row = self.core.state.rounds[name]
            return {"said": [], "next": after, "ended": True, "round": row, "usd": row["usd"]}
        if len(found.said) <= after and not found.ended:
            found.news.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await found.news.wait()
            except TimeoutError:
                pass
        said, upto = page(found.said, max(0, after))
        ended = found.ended and upto >= len(found.said)
        return {
            "said": said,
            "next": upto,
            "ended": ended,
            "round": self.core.state.rounds[name],
            "usd": self._so_far(found),
        }

    def _so_far(self, made: Round) -> float | None:
        """Dollars of a round's calls, the open one at what it has used at least; None when a price is not known."""
        usd = self.core.state.rounds[made.name]["usd"]
        if made.call is None or usd is None:
            return usd
        return usd + made.price.of(self._least(made)) if made.price else None

    async def until_ended(self, name: str) -> None:
        """Return when the round has ended."""
        found = self.rounds.get(name)
        if found is not None and found.task is not None:
            await asyncio.wait([found.task])

    def _find(self, name: str) -> Round | None:
        if name not in self.core.state.rounds:
            raise RpcError(UNKNOWN_ID, f"no round {name!r}")
        return self.rounds.get(name)

    async def request(self, proposer: Proposer, wanted: int, note: str) -> bytes:
        """The body that a round would send first, as JSON; nothing is sent. Raises RpcError."""
        from engine.proposers.claude import Claude
        from engine.proposers.context import request

        if not isinstance(proposer, Claude):
            raise RpcError(NOT_NOW, f"the proposer is {proposer.name}: it sends nothing anywhere")
        context = await self._desk(proposer, wanted, note).context()
        body = request(context, proposer.settings.model, proposer.settings.effort, proposer.settings.max_tokens)
        return dump(body)

    # --- a round ---

    def recover(self) -> None:
        """End what an engine before this one left open: its calls may have been paid for, and count at their most."""
        state, why = self.core.state, "the engine ended in the middle"
        for call in [row for row in state.calls.values() if row["state"] == "running"]:
            self.core.record(e.CallEnded(call["id"], Failure.LOST, {}, None, None, why))
        for row in [row for row in state.rounds.values() if row["state"] == "asking" and row["id"] not in self.rounds]:
            added = [each["id"] for each in state.proposals.values() if each.get("round") == row["id"]]
            self.core.record(e.RoundEnded(row["id"], Failure.LOST, why, added=added))

    async def close(self) -> None:
        """Cancel what runs, and wait until the ledger says so."""
        tasks = [each.task for each in self.rounds.values() if each.task is not None and not each.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _desk(self, proposer: Proposer, wanted: int, note: str, revises: str = "", repairs: str = "") -> EngineDesk:
        return EngineDesk(self.core, proposer.name, wanted, self.credentials, note, revises, repairs)

    async def errand(self, name: str, by: str, saying: AsyncIterator[Said]) -> Failed | None:
        """Make the calls of something that is no round (a brief, a reading), by the same prices, budget and records.

        Returns how it failed; also when it is cancelled. Its own beginning and end are the caller's to record.
        """
        made = Round(name, by=by)
        await self._run(made, saying)
        return replace(made.failed, detail=self._scrub(made.failed.detail)) if made.failed else None

    async def _run(self, made: Round, asked: AsyncIterator[Said]) -> None:
        """One round to its end, which is in the ledger whatever happens."""
        try:
            await self.core.until(lambda: bool(self.core.state.trunk_arm))  # an engine that has only just begun
            self._allow(Usage(), "")
            async with aclosing(asked) as saying:  # type: ignore[type-var]
                async for said in saying:
                    await self._hear(made, said)
        except _Stop as stop:
            made.failed = stop.failed
        except ProposerError as error:
            made.failed = Failed(Failure.REJECTED, str(error))
        except asyncio.CancelledError:
            made.failed = Failed(Failure.CANCELLED, "what had been queued before stays")
        except Exception as error:
            log.exception("round %s", made.name)
            made.failed = Failed(Failure.REJECTED, clean(f"the proposer broke: {type(error).__name__}: {error}")[:500])
        finally:
            self._end(made)

    def _end(self, made: Round) -> None:
        failed = made.failed
        if made.call is not None:
            text, failure = "".join(made.written), failed.failure if failed else None
            self._end_call(made, Called(self._least(made), None, text, failure, "it was not finished"))
        state = failed.failure if failed else "done"
        detail = self._scrub(failed.detail) if failed else ""
        if made.by:
            return
        self.core.record(
            e.RoundEnded(
                made.name,
                state,
                detail,
                failed.category if failed else "",
                failed.retry_at if failed else None,
                made.added,
            )
        )
        made.say("ended", state=state, detail=detail)
        made.ended = True
        made.news.set()

    def _least(self, made: Round) -> Usage:
        """What an unfinished call has used at least: output is billed as it is written, and counted only at the end."""
        return replace(made.usage, output=max(made.usage.output, made.heard // 4))

    async def _hear(self, made: Round, said: Said) -> None:
        if isinstance(said, Thinking | Text):
            made.heard += len(said.text)
            if isinstance(said, Text):
                made.written.append(said.text)
            made.say("thinking" if isinstance(said, Thinking) else "text", text=clean(said.text))
        elif isinstance(said, Calling):
            self._begin_call(made, said)
        elif isinstance(said, Used):
            made.usage = said.usage
        elif isinstance(said, Called):
            usage = said.usage if said.failure is None else replace(said.usage, output=self._least(made).output)
            self._end_call(made, replace(said, usage=usage))
        elif isinstance(said, Afresh):
            made.say("afresh", why=self._scrub(said.why), wait_s=said.wait_s)
        elif isinstance(said, Noted):
            made.say("note", text=self._scrub(said.sentence))
        elif isinstance(said, Written):
            async with self._lock:
                asked = self.core.state.rounds[made.name]
                reply = replace(said.reply, replaces=asked.get("revises", ""), repairs=asked.get("repairs", ""))
                name = await self.intake.add(reply, made.name)
            made.added.append(name)
            row = self.core.state.proposals[name]
            made.say(
                "proposal", proposal=name, state=row["state"], hypothesis=row["hypothesis"], refusal=row["refusal"]
            )
        else:
            made.failed = said

    # --- calls and money ---

    def _prices(self) -> Prices:
        try:
            return read_prices(self.core.lab.root)
        except PriceError as error:
            raise _Stop(Failed(Failure.BUDGET, str(error))) from None

    def _allow(self, most: Usage, model: str) -> float | None:
        """The most that a call may cost, None when it has no price. Raises _Stop when the budget does not allow it."""
        budget = self.core.lab.budget
        price = self._prices().of(model) if model else None
        limited = budget.dollars is not None or budget.dollars_per_day is not None
        if model and price is None and limited:
            raise _Stop(
                Failed(
                    Failure.BUDGET,
                    f"{model} has no price, so a budget in dollars cannot be kept: add it to prices.toml",
                )
            )
        cost = price.most(most) if price else None
        why = reached(budget, spent(self.core, now()), cost or 0.0)
        if why:
            raise _Stop(Failed(Failure.BUDGET, why))
        return cost

    def _begin_call(self, made: Round, said: Calling) -> None:
        cost = self._allow(said.most, said.model)
        made.price = self._prices().of(said.model)
        name = f"c{len(self.core.state.calls) + 1:05d}"
        body = self.core.blobs.put(dump(said.request))
        self.core.record(
            e.CallIntended(
                name,
                made.name,
                made.by or self.core.state.rounds[made.name]["proposer"],
                said.model,
                said.effort,
                said.purpose,
                body,
                said.most.to_json(),
                cost,
            )
        )
        made.call, made.model, made.usage, made.heard, made.written = name, said.model, Usage(), 0, []
        made.say("call", call=name, purpose=said.purpose, model=said.model)

    def _end_call(self, made: Round, said: Called) -> None:
        if made.call is None:
            return
        try:
            price = read_prices(self.core.lab.root).of(made.model)
        except PriceError:
            price = None
        cost = price.of(said.usage) if price else None
        reply = self.core.blobs.put(self._scrub(said.text).encode("utf-8", "replace")) if said.text else None
        state = said.failure or "done"
        detail = self._scrub(said.detail)
        self.core.record(e.CallEnded(made.call, state, said.usage.to_json(), cost, said.stop_reason, detail, reply))
        made.say("used", call=made.call, state=state, usage=said.usage.to_json(), usd=cost)
        made.call = None

    def _scrub(self, text: str) -> str:
        """Whatever an answer or an error repeats, the key is not among it."""
        return text.replace(self.credentials.key, "[redacted]") if self.credentials else text


class _Stop(Exception):
    """The round is not to go on."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.detail)
        self.failed = failed


def page(said: list[dict[str, Any]], after: int) -> tuple[list[dict[str, Any]], int]:
    """What was said from number `after` on, as much as one message holds, pieces of one kind joined; and where it ends."""
    out: list[dict[str, Any]] = []
    size, upto = 0, after
    for each in said[after:]:
        text = each.get("text", "")
        if size + len(text) > PAGE and out:
            break
        size += len(text) + 200
        upto += 1
        if out and text and each["kind"] == out[-1]["kind"] in ("thinking", "text"):
            out[-1] = {**out[-1], "text": out[-1]["text"] + text}
        else:
            out.append(each)
    return out, upto


def dump(body: Mapping[str, Any]) -> bytes:
    """A request as it is stored and shown: plain ASCII, so that it can be cut into pages anywhere."""
    return json.dumps(body, indent=1).encode()
