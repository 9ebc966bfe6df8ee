"""SQL over the whole history for a person, run where it can do no harm: see `console_child`.

The engine's side: it has the history checkpointed and copied when there is something new, hands a query to a child that is
warm, and kills that child at the deadline, or when whoever asked has had enough. A result that is held lives in the child
that made it, each in one of its own, so that no other query can take it along; the oldest ones are let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from engine.history.console_process import Child, Copies, SqlRefused

__all__ = ["Answer", "Console", "NotHeld", "SqlRefused"]

SQL_LENGTH = 100_000
LIMIT = 100_000
RUNNING = 3
"""Queries that run at a time; further ones wait."""
HELD = 4
"""Results that are held at a time."""
IDLE = 1
"""Children that wait for the next query."""
UNUSED_S = 1800.0
"""Seconds after which a result that nobody looks at is let go when the next one is opened."""
LEAST_S = 0.3
ARRANGE_S = 15.0
PART_S = 30.0

T = TypeVar("T")


class NotHeld(Exception):
    """A result is no longer there; the message says what to do."""

    def __init__(self) -> None:
        super().__init__("that result is no longer held: run the query again (ctrl+r)")


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of a query as plain JSON values.

    NaN and infinities, which JSON does not have, are None; `notes` tells how many, and what else was left out. `ms` is
    the time that running and fetching took, in milliseconds. `truncated` when there are more rows than were asked for.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[list[Any]]
    truncated: bool
    ms: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "columns": list(self.columns),
            "types": list(self.types),
            "rows": self.rows,
            "truncated": self.truncated,
            "ms": self.ms,
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class _Held:
    """A result in its child; one question at a time is put to it."""

    child: Child
    used: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class _Running:
    task: asyncio.Task[Any]
    cancelled: bool = False


class Console:
    """Runs queries over copies of `database`, which lie in `workdir` (made, private) until the console is closed.

    `checkpoint` has the store write everything into its file and returns a number that changes with its contents.
    """

    def __init__(self, database: Path, workdir: Path, checkpoint: Callable[[], Awaitable[int]]) -> None:
        self._workdir = workdir
        self._copies = Copies(database, workdir, checkpoint)
        self._idle: list[Child] = []
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._running: dict[str, _Running] = {}
        self._turns = asyncio.Semaphore(RUNNING)
        self._starting: asyncio.Task[Child] | None = None  # the next one, on its way or ready
        self._ending: set[Child] = set()
        self._background: set[asyncio.Task[Any]] = set()

    # --- running

    async def run(
        self,
        sql: str,
        params: Mapping[str, object] | None = None,
        limit: int = 1000,
        deadline_s: float = 10,
        request: str = "",
    ) -> Answer:
        """Run one SELECT or EXPLAIN on the history as it is now.

        `params` are bound to `$name`; at most `limit` rows come back; `cancel(request)` stops it. Raises SqlRefused when
        the query is not allowed, is wrong, needs too much memory, takes longer than `deadline_s` seconds or is cancelled.
        """
        asked = {"op": "run", "sql": sql, "params": dict(params or {}), "limit": max(1, min(limit, LIMIT))}
        reply = await self.stoppable(request, self._answered(asked, deadline_s))
        columns, types = tuple(reply["columns"]), tuple(reply["types"])
        return Answer(columns, types, reply["rows"], reply["truncated"], reply["ms"], tuple(reply["notes"]))

    async def open(
        self, sql: str, params: Mapping[str, object] | None = None, deadline_s: float = 10, request: str = ""
    ) -> dict[str, Any]:
        """Run a query and hold all of its rows (up to what a child can hold), for `rows`, `arrange` and `export`.

        `result` names it, `page` are its first rows, `rows` how many there are, `age_s` how old the data may be that it
        saw. Raises as `run`.
        """
        asked = {"op": "open", "sql": sql, "params": dict(params or {})}
        name, reply, age = await self.stoppable(request, self._opened(asked, deadline_s))
        names = ("columns", "types", "truncated", "ms", "notes")
        more = {"rows": reply["total"], "age_s": round(age, 3), "page": reply["rows"]}
        return {"result": name, **{each: reply[each] for each in names}, **more}

    def cancel(self, request: str) -> bool:
        """Stop a query that runs or waits; whoever asked it is refused at once. False when there is none of that name."""
        running = self._running.get(request)
        if running is None or running.task.done():
            return False
        running.cancelled = True
        running.task.cancel()
        return True

    # --- looking at what is held

    async def rows(self, result: str, start: int, count: int) -> dict[str, Any]:
        """Rows of a result as it is arranged: `rows`, `start`, `total`. Raises NotHeld and SqlRefused."""
        return await self._look(result, {"op": "rows", "start": start, "count": count}, ARRANGE_S)

    async def arrange(self, result: str, sort: list[dict[str, Any]], filter: str) -> int:
        """Sort and filter a result; how many rows are then shown. Raises NotHeld and SqlRefused."""
        reply = await self._look(result, {"op": "arrange", "sort": sort, "filter": filter}, ARRANGE_S)
        return int(reply["total"])

    async def export(self, result: str, form: str, start_part: int) -> dict[str, Any]:
        """One part of a result as a file: `part` (base64) and `next`. Raises NotHeld and SqlRefused."""
        return await self._look(result, {"op": "export", "format": form, "start_part": start_part}, PART_S)

    async def drop(self, result: str) -> None:
        """Let go of a result; its child can be used again."""
        held = self._held.pop(result, None)
        if held is not None:
            await asyncio.shield(self._aside(self._let_go(held)))

    # --- copies for other programs

    async def snapshot(self, target: Path) -> None:
        """Put a copy of the history as it is now at `target`, seen to open. Raises SqlRefused."""
        await self._copies.dated(target)

    async def close(self) -> None:
        """End the children and remove the copies."""
        at_work = [running.task for running in self._running.values()]
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, *self._background, return_exceptions=True)
        ready, self._starting = self._starting, None
        if ready is not None and not ready.cancelled() and ready.exception() is None:
            self._end(ready.result())
        for child in [*self._idle, *(held.child for held in self._held.values())]:
            self._end(child)
        self._idle.clear()
        self._held.clear()
        for child in list(self._ending):
            await child.gone()
        self._ending.clear()
        await self._copies.close()

    # --- inside

    async def stoppable(self, request: str, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns; `cancel(request)` ends it with SqlRefused, which two of one name at a time also raise."""
        if request and request in self._running:
            work.close()
            raise SqlRefused(f"a query named {request!r} runs already: name each one differently")
        task = asyncio.ensure_future(work)
        running = _Running(task)
        name = request or uuid.uuid4().hex
        self._running[name] = running
        try:
            return await task
        except asyncio.CancelledError:
            if not running.cancelled:
                raise
            raise SqlRefused("cancelled") from None
        finally:
            del self._running[name]

    async def _answered(self, asked: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        child, reply, _ = await self._query(asked, deadline_s)
        self._rest(child)
        return reply

    async def _opened(self, asked: dict[str, Any], deadline_s: float) -> tuple[str, dict[str, Any], float]:
        child, reply, age = await self._query(asked, deadline_s)
        name = uuid.uuid4().hex
        self._held[name] = _Held(child, time.monotonic())
        self._let_go_of_old()
        self._warm_up()
        return name, reply, age

    async def _query(self, asked: dict[str, Any], deadline_s: float) -> tuple[Child, dict[str, Any], float]:
        """The child that answered, what it said, and how old the data may be that it saw, in seconds."""
        if len(asked["sql"]) > SQL_LENGTH:
            raise SqlRefused(
                f"the query has {len(asked['sql']):,} characters and {SQL_LENGTH:,} are allowed: shorten it"
            )
        async with self._turns:
            until = time.monotonic() + deadline_s
            child, reply, age = await self._try(asked, until, deadline_s)
            if "unopened" in reply:  # the copy came to harm: take another one, once
                self._rest(child)
                self._copies.distrust()
                child, reply, age = await self._try(asked, until, deadline_s)
        if "columns" in reply:
            return child, reply, age
        self._rest(child)
        raise SqlRefused(_refusal(reply))

    async def _try(self, asked: dict[str, Any], until: float, deadline_s: float) -> tuple[Child, dict[str, Any], float]:
        """Ask a child, which has until `until` (monotonic); a little longer where starting and copying took all of that."""
        child = await self._take()  # before the copy, which is then the younger
        try:
            async with self._copies.fresh() as copy:
                now = time.monotonic()
                age, left = now - copy.seen, max(until - now, min(0.1 * deadline_s, LEAST_S))
                reply = await child.ask({**asked, "database": str(copy.path.absolute())}, left, deadline_s)
        except BaseException:
            self._end(child)
            self._warm_up()
            raise
        return child, reply, age

    async def _look(self, result: str, asked: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        held = self._held.get(result)
        if held is None or not held.child.alive:
            self._held.pop(result, None)
            raise NotHeld
        held.used = time.monotonic()
        self._held.move_to_end(result)
        # a client that gives up must not leave its answer in the pipe for the next one: the question is finished anyway
        reply = await asyncio.shield(self._aside(self._put(held, asked, deadline_s)))
        if "exhausted" in reply:
            self._held.pop(result, None)
            raise SqlRefused("this needs more memory than it may have, and the result was let go: run the query again")
        if "refused" in reply:
            raise SqlRefused(str(reply["refused"]))
        return reply

    async def _put(self, held: _Held, asked: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        async with held.turn:
            if not held.child.alive:
                raise NotHeld
            try:
                return await held.child.ask(asked, deadline_s)
            finally:
                if not held.child.alive:
                    self._end(held.child)

    async def _let_go(self, held: _Held) -> None:
        with contextlib.suppress(SqlRefused, NotHeld):
            await self._put(held, {"op": "drop"}, ARRANGE_S)
        self._rest(held.child)

    async def _take(self) -> Child:
        """A child that is ready, the last one used first."""
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            self._end(child)
        starting, self._starting = self._starting, None
        if starting is not None:
            with contextlib.suppress(SqlRefused, OSError):
                child = await starting
                if child.alive:
                    return child
                self._end(child)
        return await self._start()

    def _rest(self, child: Child) -> None:
        """Keep a child for the next query, or end it when enough wait."""
        if child.alive and len(self._idle) < IDLE + 1:
            self._idle.append(child)
        else:
            self._end(child)

    def _end(self, child: Child) -> None:
        child.kill()
        if child not in self._ending:
            self._ending.add(child)
            self._aside(child.gone()).add_done_callback(lambda _: self._ending.discard(child))

    def _let_go_of_old(self) -> None:
        now = time.monotonic()
        unused = [name for name, held in self._held.items() if now - held.used > UNUSED_S]
        while len(self._held) - len(unused) > HELD:
            unused.append(next(name for name in self._held if name not in unused))
        for name in unused:
            self._end(self._held.pop(name).child)

    def _warm_up(self) -> None:
        """Have a child ready for the next query, in the background."""
        if len(self._idle) < IDLE and self._starting is None:
            self._starting = self._aside(self._start())

    async def _start(self) -> Child:
        self._copies.prepare()
        return await Child.start(self._workdir)

    def _aside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._done_aside)
        return task

    def _done_aside(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits is told; when nobody does, nobody has to know


def _refusal(reply: Mapping[str, Any]) -> str:
    if "unopened" in reply:
        return f"the copy of the history cannot be opened ({reply['unopened']}): run cockpit rebuild"
    if "exhausted" in reply:
        return "the query needs more memory than it may have: aggregate or filter earlier"
    return str(reply["refused"])
