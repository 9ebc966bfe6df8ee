"""The terminal's connection to the engine: asynchronous, and mending itself when the engine or the line goes away.

`state` is "connecting", "connected" or "reconnecting". Every time a connection comes up, `notifications` yields
`("connected", hello)`, after which the reader should pull from the last event it has.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from cockpit.attach import is_running, own_key, spawn, start_failure, state_dir
from engine import rpc
from engine.paths import CONFIG
from engine.rpc import RpcError
from engine.types import PROTOCOL

LinkState = Literal["connecting", "connected", "reconnecting"]


class Client:
    """A link to the engine of the lab at `root`. `start` lets it start an engine when none runs, once."""

    def __init__(self, root: Path, *, start: bool = True) -> None:
        self.root = root
        self.state: LinkState = "connecting"
        self.problem: str | None = None  # why there is no connection, in a sentence for the person
        self._dir = state_dir(root)
        self._may_start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._tried = 0  # when the lab file had last been changed as an engine was started
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._news: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()

    async def open(self) -> None:
        """Begin connecting, in the background."""
        self._task = asyncio.create_task(self._run(), name="link")

    async def wait(self) -> None:
        """Return when a connection is up."""
        await self._up.wait()

    async def close(self) -> None:
        """Let go. The engine and its runs go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def call(self, method: str, **params: Any) -> Any:
        """The result of one request. Raises RpcError; its code is DISCONNECTED when there is no connection."""
        if self._writer is None or self.state != "connected":
            raise RpcError(rpc.DISCONNECTED, self.problem or "not connected to the engine")
        return await self._ask(self._writer, method, params)

    async def notifications(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """What the engine tells unasked, as (method, params); never ends by itself."""
        while True:
            yield await self._news.get()

    async def _ask(self, writer: asyncio.StreamWriter, method: str, params: dict[str, Any]) -> Any:
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            writer.write(rpc.request(number, method, params))
            await writer.drain()
            return await future
        except OSError as error:
            raise RpcError(rpc.DISCONNECTED, f"the connection broke: {error}") from None
        finally:
            self._waiting.pop(number, None)

    async def _run(self) -> None:
        pause = 0.05
        while True:
            try:
                await self._attach()
                pause = 0.05
            except (OSError, RpcError) as error:
                self._explain(error)
            self._drop()
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 1.6)

    async def _attach(self) -> None:
        """Connect, greet and read until the connection ends."""
        reader, writer = await asyncio.open_unix_connection(str(self._dir.socket), limit=2 * rpc.MAX_MESSAGE)
        read = asyncio.create_task(self._read(reader))
        try:
            token = self._dir.token.read_text().strip()
            greeting = {"token": token, "client": f"terminal {os.getpid()}", "protocol": PROTOCOL}
            hello = await self._ask(writer, "hello", greeting)
            await self._hand_over_key(writer)
            self._writer, self.state, self.problem = writer, "connected", None
            self._up.set()
            self._news.put_nowait(("connected", hello))
            await read
        finally:
            read.cancel()
            with suppress(OSError):
                writer.close()

    async def _hand_over_key(self, writer: asyncio.StreamWriter) -> None:
        """Give the engine the key of this shell, if there is one; an engine that will not have it is used all the same."""
        if key := own_key():
            with suppress(RpcError):
                await self._ask(writer, "key", key)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._take(rpc.decode(line))
        except ValueError as error:  # a line beyond the limit
            raise RpcError(rpc.INVALID_REQUEST, f"the engine sent something unreadable: {error}") from None
        finally:
            self._fail_waiting()

    def _take(self, message: dict[str, Any]) -> None:
        if "method" in message:
            self._news.put_nowait((message["method"], message.get("params", {})))
            return
        future = self._waiting.get(message.get("id", -1))
        if future is None or future.done():
            return
        if "error" in message:
            error = message["error"]
            future.set_exception(RpcError(error["code"], error["message"], error.get("data")))
        else:
            future.set_result(message["result"])

    def _fail_waiting(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(RpcError(rpc.DISCONNECTED, "the engine went away in the middle"))

    def _drop(self) -> None:
        was_up = self.state == "connected"
        self._writer = None
        self._up.clear()
        if was_up:
            self.state = "reconnecting"
            self._news.put_nowait(("disconnected", {}))
        self._fail_waiting()

    def _lab_file(self) -> int:
        """When the lab file was last changed, in nanoseconds; 0 when there is none."""
        try:
            return (self.root / CONFIG).stat().st_mtime_ns
        except OSError:
            return 0

    def _explain(self, error: OSError | RpcError) -> None:
        """Say why there is no connection; start an engine when that is what is missing, and allowed."""
        if isinstance(error, RpcError):
            self.problem = error.message
            return
        if is_running(self._dir):
            self.problem = "the engine is starting"
        elif self._process is None and self._may_start and self.state == "connecting":
            self._tried = self._lab_file()
            self._process = spawn(self.root, self._dir)
            self.problem = "starting the engine"
        elif self._process is not None and self._process.poll() is not None:
            self.problem = start_failure(self._dir)
            if self._lab_file() != self._tried:  # the person has mended what was wrong with it, perhaps
                self._process = None
        elif self._process is None:
            self.problem = "no engine runs for this lab: `cockpit up` starts it"
