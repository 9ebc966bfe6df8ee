"""The terminal's side of the SQL console: one query at a time, the result it holds at the engine, and the pages of it.

Everything here awaits the engine and nothing blocks; `changed` is called when there is something new to show.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from engine import rpc
from engine.rpc import RpcError
from engine.text import clean

from . import sql_errors
from .follow import OFFLINE
from .format import width_of
from .model import Link
from .sql_errors import SqlError
from .sql_grid import Column, Pages, columns, widen

LOST = "that result is no longer held: run the query again (ctrl+r)"
AWAY = "the engine cannot be reached; runs keep going, wait until it answers"

DEADLINE_S = 60.0
"""A query may take longer here than from the shell: somebody sees it run, and esc ends it."""


@dataclass(frozen=True)
class Asked:
    """What was asked: SQL text, or a named query; with values for its parameters."""

    text: str
    query: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Result:
    """A result that the engine holds: `total` rows in the present arrangement of `rows`; times in seconds."""

    id: str
    asked: Asked
    columns: list[Column]
    pages: Pages
    rows: int
    truncated: bool
    ms: float
    age_s: float
    notes: list[str]
    picture: dict[str, Any] | None
    at: float
    names: list[str] = field(default_factory=list)
    sort: list[tuple[int, bool]] = field(default_factory=list)
    filter: str = ""
    lost: str = ""

    @property
    def total(self) -> int:
        return self.pages.total


class SqlSession:
    """State of the console as this terminal sees it."""

    def __init__(self, link: Link, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self.link = link
        self.clock = clock
        self.changed = changed
        self.result: Result | None = None
        self.error: SqlError | None = None
        self.running: str | None = None
        self.began = 0.0
        self._paging = False

    @property
    def elapsed(self) -> float:
        """Seconds that the running query has taken so far."""
        return self.clock() - self.began

    # --- running

    async def open(self, asked: Asked) -> bool:
        """Run; returns whether there is a new result. An error is kept in `error`; the result before stays until a new one."""
        request = self.running = secrets.token_hex(8)
        self.began, self.error = self.clock(), None
        self.changed()
        given = {"query": asked.query} if asked.query else {"text": asked.text}
        try:
            answer = await self.link.call(
                "sql_open", **given, params=dict(asked.params), request=request, deadline_s=DEADLINE_S
            )
        except RpcError as error:
            seen = "" if asked.query else asked.text  # of a question the reader sees its body alone
            self._failed(request, sql_errors.read(clean(error.message), seen, error.data))
            return False
        except OFFLINE:
            self._failed(request, SqlError(AWAY))
            return False
        if self.running != request:  # cancelled, or another was asked meanwhile
            await self._let_go(str(answer["result"]))
            return False
        before, self.result = self.result, _result(answer, asked)
        self.running = None
        self.changed()
        if before is not None and not before.lost:
            await self._let_go(before.id)
        return True

    def _failed(self, request: str, error: SqlError) -> None:
        if self.running == request:
            self.running = None
            self.error = error
            self.changed()

    async def cancel(self) -> None:
        """Stop the running query; the terminal is free at once, whatever the engine answers."""
        request, after = self.running, self.elapsed
        if request is None:
            return
        self.running = None
        self.error = SqlError(f"cancelled after {after:.1f} s")
        self.changed()
        try:
            await self.link.call("sql_cancel", request=request)
        except (RpcError, *OFFLINE):
            return

    async def _let_go(self, result: str) -> None:
        try:
            await self.link.call("sql_close", result=result)
        except (RpcError, *OFFLINE):
            return

    async def close(self) -> None:
        """Let go of everything at the engine; takes at most half a second."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self.cancel()
                if self.result is not None and not self.result.lost:
                    await self._let_go(self.result.id)

    # --- paging

    async def fetch(self, top: int, height: int, down: bool) -> None:
        """Fetch what is visible and a page around it, one request after the other; called again while busy it does nothing."""
        result = self.result
        if self._paging or result is None or result.lost:
            return
        wanted = result.pages.wanted(top, height, down)
        if wanted is None:
            return
        self._paging = True
        pages = result.pages
        try:
            answer = await self.link.call("sql_rows", result=result.id, start=wanted[0], count=wanted[1])
        except RpcError as error:
            self._refused(result, error)
        except OFFLINE:
            result.lost = AWAY
        else:
            if not answer["rows"]:  # never asked for again and again
                result.lost = "the engine gave no rows: run the query again (ctrl+r)"
            if result.pages is pages:  # else it was arranged anew meanwhile
                pages.put(int(answer["start"]), answer["rows"], top)
                widen(result.columns, answer["rows"])
        finally:
            self._paging = False
        self.changed()

    async def arrange(self, sort: list[tuple[int, bool]], terms: str) -> str | None:
        """Sort and filter; returns why it cannot be done, in words, or None."""
        result = self.result
        if result is None:
            return "there is no result yet"
        order = [{"column": column, "descending": down} for column, down in sort]
        try:
            answer = await self.link.call("sql_arrange", result=result.id, sort=order, filter=terms)
        except RpcError as error:
            if error.code == rpc.BAD_SQL:
                return clean(error.message)
            self._refused(result, error)
            return result.lost
        except OFFLINE:
            result.lost = AWAY
            return AWAY
        result.sort, result.filter = sort, terms
        result.pages = Pages(int(answer["total"]))
        for column, _ in sort:  # room for the arrow
            result.columns[column].width = max(result.columns[column].width, width_of(result.columns[column].name) + 1)
        self.changed()
        return None

    def _refused(self, result: Result, error: RpcError) -> None:
        told = {rpc.UNKNOWN_ID: LOST, rpc.DISCONNECTED: AWAY}
        result.lost = told.get(error.code) or clean(error.message)

    def reconnected(self) -> None:
        """The line is back; a result is asked for again when it is next looked at: the engine may be another one."""
        if self.result is not None and self.result.lost == AWAY:
            self.result.lost = ""


def _result(answer: dict[str, Any], asked: Asked) -> Result:
    names = [str(each) for each in answer["columns"]]
    types = [str(each) for each in answer["types"]]
    page = answer["page"]
    return Result(
        id=str(answer["result"]),
        asked=asked,
        columns=columns(names, types, page),
        pages=Pages(int(answer["rows"]), page),
        rows=int(answer["rows"]),
        truncated=bool(answer["truncated"]),
        ms=float(answer["ms"]),
        age_s=float(answer["age_s"]),
        notes=[clean(str(each)) for each in answer.get("notes") or ()],
        picture=answer.get("picture"),
        at=time.time() - float(answer["age_s"]),
        names=names,
    )
