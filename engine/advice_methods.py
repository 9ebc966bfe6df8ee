"""What clients may ask about briefs and second readers: look at one, or have Claude write one now."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from engine import rpc
from engine.conductor import Conductor
from engine.core import Core, person
from engine.decide import find
from engine.rpc import RpcError

ADVISED = ("brief", "ask_brief", "reading", "read")


class AdviceMethods:
    """The methods, bound to one engine."""

    def __init__(self, core: Core, conductor: Conductor) -> None:
        self.core = core
        self.briefing = conductor.briefing
        self.reader = conductor.reader

    async def do_brief(self, brief: str = "") -> dict[str, Any]:
        """A brief with its words, by default the latest; and what was judged since."""
        briefs = self.core.state.briefs
        if brief and brief not in briefs:
            there = f"the latest is {list(briefs)[-1]}" if briefs else "there is none yet"
            raise RpcError(rpc.UNKNOWN_ID, f"no brief {brief!r}; {there}")
        row = briefs[brief] if brief else next(reversed(briefs.values()), None)
        body = None
        if row is not None and row["body"] is not None:
            body = json.loads(await asyncio.to_thread(self.core.blobs.get, row["body"]))
        return {"brief": row, "body": body, "newer": self.briefing.newer()}

    async def do_ask_brief(self, request_id: str = "", wait: bool = True) -> dict[str, Any]:
        """Have Claude write a brief now; with `wait` this returns when it is written."""
        name = self.briefing.ask(person(self.core.identity), request_id or uuid.uuid4().hex)
        if wait:
            await self.core.until(lambda: self.core.state.briefs[name]["ended"] is not None)
        return await self.do_brief(name)

    async def do_reading(self, proposal: str) -> dict[str, Any]:
        """What second readers said of a proposal, oldest first. Predictions are null until it is decided."""
        find(self.core, proposal)
        return {"readings": [row for row in self.core.state.readings.values() if row["proposal"] == proposal]}

    async def do_read(self, proposal: str, wait: bool = True) -> dict[str, Any]:
        """Have Claude read the diff of a waiting proposal now; with `wait` this returns when it is read."""
        find(self.core, proposal)
        name = self.reader.ask(proposal)
        if wait:
            await self.core.until(lambda: self.core.state.readings[name]["ended"] is not None)
        return {"reading": self.core.state.readings[name]}
