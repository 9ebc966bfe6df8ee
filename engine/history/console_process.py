"""The processes of the console as the engine holds them: children that answer, and copies of the history for them to open."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADDRESS_SPACE = 1_900_000_000
"""Bytes of addresses that a query's process may use; what asks for more fails there and nowhere else."""
MEMORY = 640 * 1024**2
"""Bytes that DuckDB plans with in it."""
START_S = 30.0
"""Seconds within which a child has to come up, on however slow a machine."""
COPY_S = 120.0
_PACKAGES = str(Path(__file__).resolve().parents[2])
_LINE = 16 * 1024**2
_boxes_work = True


class SqlRefused(Exception):
    """A query was not run or did not finish; the message says what and what to do."""


class Child:
    """One process that answers requests, one at a time. Whatever does not end in an answer ends the process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._reaping: asyncio.Task[int] | None = None

    @classmethod
    async def start(cls, workdir: Path) -> Child:
        """A child that is ready; in a box, unless none comes up in one here. Raises SqlRefused."""
        global _boxes_work
        if _boxes_work:
            with contextlib.suppress(SqlRefused):
                return await cls._start(workdir, ".")  # it starts there
        child = await cls._start(workdir)
        _boxes_work = False
        return child

    @classmethod
    async def _start(cls, workdir: Path, *box: str) -> Child:
        child = cls(await _spawn(workdir, "serve", str(ADDRESS_SPACE), str(MEMORY), *box))
        line = b""
        try:
            async with asyncio.timeout(START_S):
                line = await child._line()
        except TimeoutError:
            raise SqlRefused(f"the query's process did not start within {START_S:g} s: ask again") from None
        finally:
            if not line.endswith(b"\n"):
                child.kill()
        if not child.alive:
            raise SqlRefused("the query's process did not start: run cockpit doctor")
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked something."""
        return self._reaping is None and self._process.returncode is None

    async def ask(self, request: dict[str, Any], left_s: float, deadline_s: float | None = None) -> dict[str, Any]:
        """The reply to one request. Raises SqlRefused when there is none within `left_s` seconds of a `deadline_s`."""
        line = b""
        try:
            async with asyncio.timeout(left_s):
                assert self._process.stdin is not None
                self._process.stdin.write(json.dumps(request, default=str).encode() + b"\n")
                await self._process.stdin.drain()
                line = await self._line()
        except TimeoutError:
            told = f"{left_s if deadline_s is None else deadline_s:g} s"
            raise SqlRefused(f"the query took longer than {told} and was stopped: ask for less") from None
        except (ConnectionError, ValueError):  # it died before it read the request, or its line has no end
            pass
        finally:
            if not line.endswith(b"\n"):
                self.kill()
        if not line.endswith(b"\n"):
            raise SqlRefused("the query's process died, probably for want of memory: aggregate or filter earlier")
        reply: dict[str, Any] = json.loads(line)
        if "exhausted" in reply:
            self.kill()
        return reply

    def kill(self) -> None:
        """End it at once; `gone` waits until it has ended."""
        if self._reaping is None:
            _kill_group(self._process)
            self._reaping = asyncio.create_task(self._process.wait())

    async def gone(self) -> None:
        if self._reaping is not None:
            await self._reaping

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()


@dataclass(slots=True)
class Copy:
    """A copy of the history on disk; `users` are about to open it, `seen` is when all that it shows had been written at
    the latest (monotonic seconds)."""

    path: Path
    version: int
    users: int = 0
    seen: float = 0.0


class Copies:
    """Copies of `database` in `workdir` (made, private), taken again when `checkpoint` returns another number."""

    def __init__(self, database: Path, workdir: Path, checkpoint: Callable[[], Awaitable[int]]) -> None:
        self._database = database
        self._workdir = workdir
        self._checkpoint = checkpoint
        self._copies: list[Copy] = []  # the last is the one to query
        self._count = 0
        self._stale = False
        self._busy = asyncio.Lock()

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Copy]:
        """The history as it is now; the file stays in place while the block runs. Raises SqlRefused."""
        async with self._busy:
            copy = await self._take()
            copy.users += 1
        try:
            yield copy
        finally:
            copy.users -= 1
            self._sweep()

    def distrust(self) -> None:
        """The latest copy came to harm: take another one next time."""
        self._stale = True

    async def dated(self, target: Path) -> None:
        """Put a copy of the history as it is now at `target`, once it has been seen to open. Raises SqlRefused."""
        async with self._busy:
            await self._checkpoint()
            await self._run("copy", self._database, target)
        try:
            await self._run("check", target)
        except BaseException:
            _remove(target.parent, target.name)
            raise

    async def close(self) -> None:
        """Remove every copy."""
        async with self._busy:
            for copy in self._copies:
                copy.path.unlink(missing_ok=True)
            self._copies.clear()

    def prepare(self) -> None:
        """Make the directory, and remove what an engine that was killed left in it."""
        if self._count == 0:
            self._workdir.mkdir(parents=True, exist_ok=True, mode=0o700)
            _remove(self._workdir, "console-*.duckdb*")
            self._count = 1

    async def _take(self) -> Copy:
        seen = time.monotonic()
        version = await self._checkpoint()
        if self._copies and self._copies[-1].version == version and not self._stale:
            self._copies[-1].seen = seen
            return self._copies[-1]
        self.prepare()
        target = self._workdir / f"console-{os.getpid()}-{self._count}.duckdb"
        self._count += 1
        await self._run("copy", self._database, target)
        self._copies.append(Copy(target, version, seen=seen))
        self._stale = False
        self._sweep()
        return self._copies[-1]

    def _sweep(self) -> None:
        """Remove copies that nobody is about to open; who has one open goes on reading it."""
        for copy in self._copies[:-1]:
            if copy.users == 0:
                copy.path.unlink(missing_ok=True)
                self._copies.remove(copy)

    async def _run(self, what: str, *paths: Path) -> None:
        worker = await _spawn(paths[-1].parent, what, *(str(path.absolute()) for path in paths))
        try:
            async with asyncio.timeout(COPY_S):
                said, _ = await worker.communicate()
        except TimeoutError:
            raise SqlRefused(f"copying the history took longer than {COPY_S:g} s: is its disk very slow?") from None
        finally:
            _kill_group(worker)
            _remove(paths[-1].parent, f"{paths[-1].name}.partial")
        if worker.returncode != 0:
            raise SqlRefused(said.decode("utf-8", "replace").strip() or "the history could not be copied: ask again")


async def _spawn(workdir: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start `console_child` in a session of its own, with nothing of the engine's environment but what it needs."""
    environment = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment["PYTHONPATH"] = _PACKAGES
    environment["MALLOC_ARENA_MAX"] = "1"  # else each thread reserves addresses that the limit counts
    serving = arguments[0] == "serve"
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-s", "-m", "engine.history.console_child", *arguments,
        stdin=asyncio.subprocess.PIPE if serving else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if serving else asyncio.subprocess.STDOUT,
        cwd=workdir, env=environment, start_new_session=True, limit=_LINE,
    )  # fmt: skip


def _remove(directory: Path, pattern: str) -> None:
    for each in directory.glob(pattern):
        each.unlink(missing_ok=True)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
