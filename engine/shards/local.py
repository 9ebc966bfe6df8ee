"""The executor of this machine: a client of the launcher, which it starts when there is none.

Every request is a connection of its own; one more connection streams the endings. When that one breaks, the launcher is
started again if it is gone, and whatever it no longer knows has either left an exit record or vanished.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import py_compile
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from engine.paths import StateDir
from engine.shards.executor import Allocation, Ended, Event, ExecutorError, Handle, Standing, Vanished
from engine.shards.records import read_exit
from engine.shards.sandbox import Probe
from engine.shards.spec import GUARD, ShardSpec

CONNECT_S = 10.0
LINE = 4 * 1024 * 1024  # bytes of one answer
_PASSED = ("PATH", "HOME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH")
_LOG_BYTES = 1024 * 1024

log = logging.getLogger(__name__)


async def ensure_launcher(state: StateDir) -> None:
    """Return when the launcher of `state` answers; start one when there is none.

    Raises ExecutorError after 10 s, with what is known of the cause.
    """
    with contextlib.suppress(OSError, ExecutorError):
        await _ask(state, {"op": "list"})
        return
    try:
        status = await asyncio.to_thread(_spawn, state)
    except OSError as error:
        raise ExecutorError(f"the launcher cannot be started: {error}") from error
    wait_s, last = 0.01, ""
    try:
        async with asyncio.timeout(CONNECT_S):
            while True:
                try:
                    await _ask(state, {"op": "list"})
                    return
                except (OSError, ExecutorError) as error:
                    last = str(error)
                await asyncio.sleep(wait_s)
                wait_s = min(0.5, wait_s * 2)
    except TimeoutError:
        holder = _lock_file(state).get("pid")
        cause = f"process {holder} holds {state.launcher_lock} but does not answer; end it" if status == 3 else last
        raise ExecutorError(f"the launcher does not answer: {cause}; its log is {state.launcher_log}") from None


def _spawn(state: StateDir) -> int:
    """Start a launcher with an environment of its own, without any secret of ours; returns when it answers."""
    state.make()
    with contextlib.suppress(OSError, py_compile.PyCompileError):  # shards write no bytecode, but use what is there
        py_compile.compile(str(GUARD / "sitecustomize.py"), doraise=True)
    env = {name: os.environ[name] for name in _PASSED if name in os.environ}
    env["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent.parent)
    with contextlib.suppress(FileNotFoundError):
        if state.launcher_log.stat().st_size > _LOG_BYTES:
            state.launcher_log.replace(state.launcher_log.with_suffix(".log.1"))
    with open(state.launcher_log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        started = subprocess.Popen(
            [sys.executable, "-m", "engine.shards.launcher", str(state.root.resolve())],
            cwd="/",
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        return started.wait(CONNECT_S)
    except subprocess.TimeoutExpired:
        started.kill()
        return started.wait()


def _lock_file(state: StateDir) -> dict[str, Any]:
    """What the launcher wrote of itself into its lock file; empty when that cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(state.launcher_lock.read_bytes()[:4096])
        if isinstance(found, dict):
            return found
    return {}


async def _connect(state: StateDir) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the launcher where it says it is: its runtime directory may not be named by our environment."""
    said = _lock_file(state).get("socket")
    path = said if isinstance(said, str) else str(state.launcher_socket)
    return await asyncio.open_unix_connection(path, limit=LINE)


async def _ask(state: StateDir, request: dict[str, Any]) -> dict[str, Any]:
    """One request, one answer. Raises OSError when nobody answers, ExecutorError when the launcher refuses."""
    async with asyncio.timeout(CONNECT_S):  # TimeoutError is an OSError
        reader, writer = await _connect(state)
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            return _understood(await reader.readline())
        finally:
            writer.close()


def _understood(line: bytes) -> dict[str, Any]:
    if not line:
        raise ConnectionResetError("the launcher closed the connection")
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ExecutorError("the launcher sent something that is not an answer")
    if answer.get("ok") is False:
        raise ExecutorError(f"the launcher refused: {answer.get('error')}")
    return answer


class LocalExecutor:
    """Executor of local processes; see `engine.shards.executor.Executor` for what its methods promise."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._tracked: dict[str, tuple[Path, str]] = {}  # id -> (run_dir, record) of what was not seen to end
        self._launching: set[str] = set()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._watcher: asyncio.Task[None] | None = None
        self._attached = asyncio.Event()
        self._failure: str | None = None
        self._stocktakings = 0
        self.changed: Callable[[], None] = lambda: None

    @property
    def shortage(self) -> str | None:
        return None

    @property
    def capacity(self) -> int | None:
        return None

    @property
    def probe(self) -> Probe | None:
        return None

    @property
    def program(self) -> str | None:
        return None

    @property
    def allocation(self) -> Allocation | None:
        return None

    @property
    def standing(self) -> Mapping[str, Standing]:
        return {}

    @property
    def isolation(self) -> str:
        return "limits only"

    async def reattach(self) -> frozenset[str]:
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(), name="launcher-watch")
        try:
            async with asyncio.timeout(3 * CONNECT_S):
                await self._attached.wait()
        except TimeoutError:
            raise ExecutorError(self._failure or "the launcher does not answer") from None
        return frozenset(self._tracked)

    async def launch(self, spec: ShardSpec) -> Handle:
        await self.reattach()
        place = (Path(spec.run_dir), spec.record)
        fresh_here = spec.id not in self._tracked
        stocktakings = self._stocktakings
        self._launching.add(spec.id)
        self._tracked[spec.id] = place  # before the request: its end may be told before its start is answered
        try:
            answer = await self._request({"op": "launch", "spec": spec.to_json()})
        except ExecutorError:
            if fresh_here:
                self._tracked.pop(spec.id, None)
            raise
        finally:
            self._launching.discard(spec.id)
        if stocktakings != self._stocktakings:  # the launcher that answered may be gone already
            await self._take_stock()
        known, state = answer.get("known") is True, answer.get("state")
        if state == "lost":
            self._tracked.pop(spec.id, None)
            return Handle(spec.id, "lost", known)
        if state == "ended":
            self._settle(spec.id)  # once: an event that came before has taken it off
            return Handle(spec.id, "ended", known)
        return Handle(spec.id, "running", known, where=f"pid {answer.get('pid')}")

    async def events(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event

    async def stop(self, id: str, grace_s: float) -> bool:
        answer = await self._request({"op": "stop", "id": id, "grace_s": grace_s})
        return answer.get("running") is True

    async def kill(self, id: str) -> bool:
        return await self.stop(id, 0.0)

    async def retire(self) -> None:
        """Let the launcher end when nothing of ours runs; the next engine starts another."""
        if not self._tracked:
            with contextlib.suppress(OSError, ExecutorError):
                await _ask(self._state, {"op": "retire"})

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        self._events.put_nowait(None)

    async def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask, and once more after making sure that there is a launcher: every request may be repeated safely."""
        try:
            return await _ask(self._state, request)
        except OSError:
            await ensure_launcher(self._state)
        try:
            return await _ask(self._state, request)
        except OSError as error:
            raise ExecutorError(f"the launcher does not answer: {error}") from error

    async def _watch(self) -> None:
        """Follow the endings, over as many launchers as it takes."""
        wait_s = 0.05
        while True:
            try:
                await ensure_launcher(self._state)
                reader, writer = await _connect(self._state)
                try:
                    writer.write(b'{"op": "watch"}\n')
                    _understood(await reader.readline())
                    await self._take_stock()
                    self._failure, wait_s = None, 0.05
                    self._attached.set()
                    while line := await reader.readline():
                        self._heard(_understood(line))
                finally:
                    writer.close()
            except (OSError, ValueError, ExecutorError) as error:
                self._failure = str(error)
                log.warning("lost the launcher: %s", error)
            await asyncio.sleep(wait_s)  # only ever when the launcher went away
            wait_s = min(5.0, wait_s * 2)

    async def _take_stock(self) -> None:
        """Compare with what runs: take up the unknown, settle what is gone. Called once the endings are streamed."""
        self._stocktakings += 1
        before = set(self._tracked) - self._launching
        listed = (await _ask(self._state, {"op": "list"})).get("running")
        running: set[str] = set()
        for each in listed if isinstance(listed, list) else []:
            running.add(str(each["id"]))
            self._tracked.setdefault(str(each["id"]), (Path(each["run_dir"]), str(each["record"])))
        for id in before - running:
            self._settle(id)

    def _heard(self, message: dict[str, Any]) -> None:
        if message.get("event") == "ended":
            self._settle(str(message.get("id")))

    def _settle(self, id: str) -> None:
        """It runs no more: say how it ended, once."""
        place = self._tracked.pop(id, None)
        if place is None:
            return
        run_dir, record = place
        found = read_exit(run_dir, record)
        if found is None and not os.path.lexists(run_dir / record):
            self._events.put_nowait(Vanished(id, "it left no exit record: the launcher or the machine went down"))
        else:
            self._events.put_nowait(Ended(id, record, found))
