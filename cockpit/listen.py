"""Listens to the round of asking that goes on, whoever began it: keeps the end of what it says, and paces how it comes."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from engine.rpc import DISCONNECTED, RpcError
from engine.text import clean, clean_line

from .follow import OFFLINE
from .model import Link, ReadModel

PACE_S = 0.1
"""Between two questions to the engine: a fast stream comes in few large pieces."""

KEEP_LINES = 400
LONGEST = 2000
"""Characters of one line, after which another begins."""


@dataclass(slots=True)
class Heard:
    """One line of what was said: `kind` is thinking, text, proposal, note or void."""

    kind: str
    text: str


class Stream:
    """The end of what a round said, as lines; `first` is the number of the first one that is kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: deque[Heard] = deque()
        self.first = 0
        self.after = 0
        self.usd: float | None = 0.0
        self.ended = False
        self.version = 0

    def take(self, page: dict[str, Any]) -> None:
        """Add one page of `follow`."""
        for said in page["said"]:
            self._take(said)
        changed = bool(page["said"]) or page["usd"] != self.usd or page["ended"]
        self.after, self.usd, self.ended = page["next"], page["usd"], page["ended"]
        self.version += changed

    def _take(self, said: dict[str, Any]) -> None:
        kind = said["kind"]
        if kind in ("thinking", "text"):
            self._stream(kind, clean(said["text"]))
        elif kind == "proposal":
            fate = f"refused, {said['refusal']}" if said["refusal"] else "queued"
            self._add(kind, clean_line(f"{said['proposal']} {fate}: {said['hypothesis']}"))
        elif kind == "afresh":
            self._add(
                "void", clean_line(f"{said['why']}: once more in {said['wait_s']:.0f} s; what came so far is void")
            )
        elif kind == "note":
            self._add(kind, clean_line(said["text"]))
        elif kind == "call" and said["purpose"] == "repair":
            self._add("note", "some of it could not be applied: it is sent back to be mended")

    def _stream(self, kind: str, text: str) -> None:
        """Go on with the last line when it is of the same kind."""
        parts = text.split("\n")
        if self.lines and self.lines[-1].kind == kind and len(self.lines[-1].text) < LONGEST:
            self.lines[-1].text += parts.pop(0)
        for part in parts:
            self._add(kind, part)

    def _add(self, kind: str, text: str) -> None:
        for start in range(0, max(len(text), 1), LONGEST):
            self.lines.append(Heard(kind, text[start : start + LONGEST]))
        while len(self.lines) > KEEP_LINES:
            self.lines.popleft()
            self.first += 1


class Listener:
    """Follows one round at a time. `milestone` changes when one begins or ends, `version` with whatever is said."""

    def __init__(self, link: Link, model: ReadModel) -> None:
        self.link = link
        self.model = model
        self.stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def milestone(self) -> object:
        return (self.stream.name, self.stream.ended) if self.stream else None

    @property
    def version(self) -> object:
        return (self.stream.name, self.stream.version) if self.stream else None

    def look(self) -> None:
        """Begin to follow the round that asks, when it is not followed yet."""
        row = self.model.asking()
        if row is not None:
            self.listen(row["id"])

    def listen(self, name: str) -> None:
        """Follow this round, which this cockpit began: it may end before its row says that it asks."""
        if self.stream is not None and self.stream.name == name:
            return
        if self._task is not None:
            self._task.cancel()
        self.stream = Stream(name)
        self._task = asyncio.create_task(self._follow(self.stream))

    @property
    def has_ended(self) -> bool:
        """Whether the round that is followed is over; its row may say so before its stream does."""
        if self.stream is None:
            return False
        row = self.model.rounds.get(self.stream.name)
        return self.stream.ended or (row is not None and row["state"] != "asking")

    def forget(self) -> None:
        """Drop what an ended round said."""
        if self.has_ended:
            self.stream = None

    async def _follow(self, stream: Stream) -> None:
        while not stream.ended:
            try:
                stream.take(await self.link.call("follow", round=stream.name, after=stream.after, wait_s=10.0))
            except RpcError as error:
                if error.code != DISCONNECTED:
                    stream.ended = True  # the ledger knows better than this stream how it went
                    return
            except OFFLINE:
                pass
            await asyncio.sleep(PACE_S)

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
