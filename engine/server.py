"""The engine's Unix socket: many clients, none of which can slow the engine or another client down.

What a client asks for is answered in tasks of its own; what it is told unasked goes through a bounded queue that collapses to
one `resync` when it overflows; a client that reads nothing for 30 seconds is let go.
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError, validate_call

from engine import rpc
from engine.rpc import RpcError
from engine.types import PROTOCOL

log = logging.getLogger("engine")

Method = Callable[..., Awaitable[Any]]
QUEUE_LIMIT = 256
"""Notifications that may wait for a client before they collapse to a resync."""
IN_FLIGHT = 32
"""Requests of one client that are worked on or whose answers wait to be read; further ones wait in the socket."""
SILENCE_S = float(os.environ.get("COCKPIT_SILENCE_S", "30"))
"""How long a client may read nothing while something waits for it. The variable is for tests that cannot wait so long."""


class Peer:
    """One attached client: its outbox, what it subscribed to, and whether it has shown the token."""

    def __init__(self, writer: asyncio.StreamWriter, silence_s: float) -> None:
        self.writer = writer
        self.silence_s = silence_s
        self.gate = asyncio.Semaphore(IN_FLIGHT)  # taken by a request, given back when its answer was written
        self.name = "?"
        self.admitted = False
        self.live = False
        self.subscribed = False
        self._answers: deque[bytes] = deque()
        self._news: deque[bytes] = deque()
        self._resync = False
        self._ready = asyncio.Event()

    def answer(self, line: bytes) -> None:
        self._answers.append(line)
        self._ready.set()

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Queue a notification; past the limit all that wait are dropped for one `resync`."""
        if self._resync:
            return
        if len(self._news) >= QUEUE_LIMIT:
            self._news.clear()
            self._resync = True
        else:
            self._news.append(rpc.notification(method, params))
        self._ready.set()

    async def pump(self) -> None:
        """Write what is queued, answers first, until the connection breaks or the client stops reading."""
        while True:
            await self._ready.wait()
            while self._answers or self._news or self._resync:
                answer = bool(self._answers)
                if answer:
                    line = self._answers.popleft()
                elif self._news:
                    line = self._news.popleft()
                else:
                    line, self._resync = rpc.notification("resync", {}), False
                self.writer.write(line)
                async with asyncio.timeout(self.silence_s):  # wait_for can swallow a cancellation
                    await self.writer.drain()
                if answer:
                    self.gate.release()
            self._ready.clear()

    async def flush(self) -> None:
        """Write the answers that still wait; the pump must have ended."""
        while self._answers:
            self.writer.write(self._answers.popleft())
        await self.writer.drain()


class Server:
    """Listens on a socket and dispatches to `methods`, whose parameters are validated by their annotations."""

    def __init__(
        self,
        path: Path,
        token: str,
        methods: Mapping[str, Method],
        hello: Callable[[], dict[str, Any]],
        silence_s: float = SILENCE_S,
    ) -> None:
        self.path = path
        self.peers: set[Peer] = set()
        self._token = token
        self._methods = {name: validate_call(method) for name, method in methods.items()}
        self._signatures = {name: inspect.signature(method) for name, method in methods.items()}
        self._hello = hello
        self._silence_s = silence_s
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Bind the socket, mode 0600 from its first moment. Raises OSError."""
        with suppress(FileNotFoundError):
            self.path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            listener.bind(str(self.path))
        finally:
            os.umask(old)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=rpc.MAX_MESSAGE)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for peer in list(self.peers):
            peer.writer.close()
        with suppress(FileNotFoundError):
            self.path.unlink()

    def broadcast(self, method: str, params: dict[str, Any], *, live: bool = False) -> None:
        """Tell every subscriber (`live`: those who asked for live metrics)."""
        for peer in self.peers:
            if peer.live if live else peer.subscribed:
                peer.notify(method, params)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(writer, self._silence_s)
        self.peers.add(peer)
        pump = asyncio.create_task(peer.pump())
        read = asyncio.create_task(self._read(peer, reader))
        try:
            await asyncio.wait({pump, read}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.peers.discard(peer)
            for task in (pump, read):
                task.cancel()
            for done in await asyncio.gather(pump, read, return_exceptions=True):
                if isinstance(done, TimeoutError):
                    log.info("client %s reads nothing: it is let go", peer.name)
                elif isinstance(done, Exception) and not isinstance(done, OSError):
                    log.error("client %s", peer.name, exc_info=done)
            with suppress(OSError):  # last answers, such as the one that says why it is let go; a TimeoutError is one
                async with asyncio.timeout(1.0):
                    await peer.flush()
            writer.transport.abort()

    async def _read(self, peer: Peer, reader: asyncio.StreamReader) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                try:
                    line = await reader.readuntil(b"\n")
                except asyncio.LimitOverrunError:
                    error = RpcError(
                        rpc.INVALID_REQUEST, f"a message may hold {rpc.MAX_MESSAGE} bytes; send bodies by hash"
                    )
                    peer.answer(rpc.failure(None, error))
                    return
                except (asyncio.IncompleteReadError, OSError):
                    return
                await peer.gate.acquire()
                task = asyncio.create_task(self._answer(peer, line))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, peer: Peer, line: bytes) -> None:
        number: int | str | None = None
        try:
            number, method, params = rpc.decode_request(line)
            value = await self._call(peer, method, params)
            reply = rpc.result(number, value)
        except RpcError as error:
            reply = rpc.failure(number, error)
        except Exception:
            log.exception("request %s", number)  # never its text: it may hold a key
            why = "the engine failed at this; its log (`cockpit status` names it) says why"
            reply = rpc.failure(number, RpcError(rpc.INTERNAL_ERROR, why))
        peer.answer(reply)

    async def _call(self, peer: Peer, method: str, params: dict[str, Any]) -> Any:
        if method == "hello":
            return self._greet(peer, params)
        if not peer.admitted:
            raise RpcError(rpc.WRONG_TOKEN, "say hello with the token first")
        if method == "subscribe":
            live = params.get("live", False)
            if not isinstance(live, bool) or params.keys() - {"live"}:
                raise RpcError(rpc.INVALID_PARAMS, "subscribe: live: true or false is expected, and nothing else")
            peer.subscribed, peer.live = True, live
            return {}
        call = self._methods.get(method)
        if call is None:
            names = ", ".join(sorted(self._methods))
            raise RpcError(rpc.UNKNOWN_METHOD, f"no method {method!r}; there are {names}")
        try:
            self._signatures[method].bind(**params)
            return await call(**params)
        except (TypeError, ValidationError) as error:
            if isinstance(error, TypeError) and error.__traceback__ and error.__traceback__.tb_next:
                inner = error.__traceback__.tb_next
                if inner.tb_frame.f_code.co_name != "bind":
                    raise
            raise RpcError(rpc.INVALID_PARAMS, f"{method}: {_sentence(error)}") from None

    def _greet(self, peer: Peer, params: dict[str, Any]) -> dict[str, Any]:
        if params.get("protocol") != PROTOCOL:
            theirs = params.get("protocol")
            raise RpcError(
                rpc.WRONG_PROTOCOL,
                f"the engine speaks protocol {PROTOCOL}, this client {theirs!r}: "
                "run `cockpit down`, then start the cockpit again, so that both are of one version",
            )
        if not hmac.compare_digest(str(params.get("token", "")).encode(), self._token.encode()):
            raise RpcError(rpc.WRONG_TOKEN, "wrong token: the engine was started anew or belongs to another lab")
        peer.admitted, peer.name = True, str(params.get("client", "?"))[:80]
        return self._hello()


def _sentence(error: TypeError | ValidationError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return str(error)
