"""SQL over the whole history for a person, run where it can do no harm: see `console_child`.

The engine's side: it has the history checkpointed and copied when there is something new, keeps one child warm, hands it
one query at a time, and kills it at the deadline. A killed child is replaced at the next query.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADDRESS_SPACE = 2 * 1024**3
"""Bytes of addresses that a query's process may use; what asks for more fails there and nowhere else."""
MEMORY = 768 * 1024**2
"""Bytes that DuckDB plans with in it."""
SQL_LENGTH = 100_000
LIMIT = 100_000
START_S = 30.0
"""Seconds within which a child has to come up, on however slow a machine."""
COPY_S = 120.0
_PACKAGES = str(Path(__file__).resolve().parents[2])
_LINE = 16 * 1024**2


class SqlRefused(Exception):
    """A query was not run or did not finish; the message says what and what to do."""


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


class Console:
    """Runs queries over copies of `database`, which lie in `workdir` (made, private) until the console is closed.

    `checkpoint` has the store write everything into its file and returns a number that changes with its contents.
    """

    def __init__(self, database: Path, workdir: Path, checkpoint: Callable[[], Awaitable[int]]) -> None:
        self._database = database
        self._workdir = workdir
        self._checkpoint = checkpoint
        self._copied: int | None = None
        self._copy: Path | None = None
        self._copies = 0
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def run(
        self, sql: str, params: Mapping[str, object] | None = None, limit: int = 1000, deadline_s: float = 10
    ) -> Answer:
        """Run one SELECT or EXPLAIN on the history as it is now; queries wait for each other.

        `params` are bound to `$name`; at most `limit` rows come back. Raises SqlRefused when the query is not allowed,
        is wrong, needs too much memory, or takes longer than `deadline_s` seconds.
        """
        if len(sql) > SQL_LENGTH:
            raise SqlRefused(f"the query has {len(sql):,} characters and {SQL_LENGTH:,} are allowed: shorten it")
        request = {"sql": sql, "params": dict(params or {}), "limit": max(1, min(limit, LIMIT))}
        async with self._turn:
            reply = await self._ask(request, deadline_s)
            if "unopened" in reply:  # the copy came to harm: take another one, once
                self._copied = None
                reply = await self._ask(request, deadline_s)
        if "unopened" in reply:
            raise SqlRefused(f"the copy of the history cannot be opened ({reply['unopened']}): run cockpit rebuild")
        if "exhausted" in reply:
            raise SqlRefused("the query needs more memory than it may have: aggregate or filter earlier")
        if "refused" in reply:
            raise SqlRefused(str(reply["refused"]))
        columns, types = tuple(reply["columns"]), tuple(reply["types"])
        return Answer(columns, types, reply["rows"], reply["truncated"], reply["ms"], tuple(reply["notes"]))

    async def close(self) -> None:
        """End the child and remove the copy."""
        async with self._turn:
            await self._kill()
            if self._copy is not None:
                self._copy.unlink(missing_ok=True)
            self._copy = self._copied = None

    async def _ask(self, request: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        """One request to the child, and its reply; the child is killed unless it answered in time."""
        request = {"database": str(await self._fresh_copy()), **request}
        child = await self._warm_child()
        assert child.stdin is not None
        assert child.stdout is not None
        line = b""
        try:
            async with asyncio.timeout(deadline_s):
                child.stdin.write(json.dumps(request, default=str).encode() + b"\n")
                await child.stdin.drain()
                line = await child.stdout.readline()
        except TimeoutError:
            raise SqlRefused(f"the query took longer than {deadline_s:g} s and was stopped: ask for less") from None
        except (ConnectionError, ValueError):  # it died before it read the request, or its line has no end
            pass
        finally:
            if not line.endswith(b"\n"):
                await self._kill()
        if not line.endswith(b"\n"):
            raise SqlRefused("the query's process died, probably for want of memory: aggregate or filter earlier")
        reply: dict[str, Any] = json.loads(line)
        if "exhausted" in reply:
            await self._kill()
        return reply

    async def _fresh_copy(self) -> Path:
        """The copy to query, taken again when the history has changed since the last one."""
        version = await self._checkpoint()
        if self._copy is not None and version == self._copied:
            return self._copy
        if self._copies == 0:
            self._workdir.mkdir(parents=True, exist_ok=True, mode=0o700)
            _remove(self._workdir, "console-*.duckdb*")
        self._copies += 1
        target = self._workdir / f"console-{os.getpid()}-{self._copies}.duckdb"
        copier = await _spawn(self._workdir, "copy", str(self._database.absolute()), str(target.absolute()))
        try:
            async with asyncio.timeout(COPY_S):
                said, _ = await copier.communicate()
        except TimeoutError:
            raise SqlRefused(f"copying the history took longer than {COPY_S:g} s: is its disk very slow?") from None
        finally:
            _kill_group(copier)
            _remove(self._workdir, f"{target.name}.partial")
        if copier.returncode != 0:
            raise SqlRefused(said.decode("utf-8", "replace").strip() or "the history could not be copied: ask again")
        if self._copy is not None:
            self._copy.unlink(missing_ok=True)
        self._copy, self._copied = target, version
        return target

    async def _warm_child(self) -> asyncio.subprocess.Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        self._child = await _spawn(self._workdir, "serve", str(ADDRESS_SPACE), str(MEMORY))
        assert self._child.stdout is not None
        line = b""
        try:
            async with asyncio.timeout(START_S):
                line = await self._child.stdout.readline()
        except TimeoutError:
            raise SqlRefused(f"the query's process did not start within {START_S:g} s: ask again") from None
        finally:
            if not line.endswith(b"\n"):
                await self._kill()
        if self._child is None:
            raise SqlRefused("the query's process did not start: run cockpit doctor")
        return self._child

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            _kill_group(child)
            await child.wait()


async def _spawn(workdir: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start `console_child` in a session of its own, with nothing of the engine's environment but what it needs."""
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment["PYTHONPATH"] = _PACKAGES
    environment["MALLOC_ARENA_MAX"] = "1"  # else each thread reserves addresses that the limit counts
    copying = arguments[0] == "copy"
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-s", "-m", "engine.history.console_child", *arguments,
        stdin=asyncio.subprocess.DEVNULL if copying else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if copying else asyncio.subprocess.DEVNULL,
        cwd=workdir, env=environment, start_new_session=True, limit=_LINE,
    )  # fmt: skip


def _remove(directory: Path, pattern: str) -> None:
    for each in directory.glob(pattern):
        each.unlink(missing_ok=True)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
