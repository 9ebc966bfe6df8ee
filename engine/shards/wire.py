"""The launcher's socket: JSON lines both ways, bounded both ways, any number of clients, one thread. Standard library only.

Nothing a client does can block or grow the launcher: a request has a largest size, a client that leaves its answers
unread is let go, and what cannot be understood is answered with an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.paths import private_directory

LINE = 256 * 1024  # bytes of one request: the walls of a box take thousands
OUTBOX = 1024 * 1024  # bytes that a client may leave unread
CLIENTS = 100

Answer = dict[str, Any]


class BadRequest(ValueError):
    """The request cannot be carried out; the message says why, and goes to the client."""


@dataclass(slots=True, eq=False)
class Client:
    """One connection: bytes that came and bytes that still have to go."""

    sock: socket.socket
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)
    watching: bool = False
    open: bool = True


class Wire:
    """Listens, reads requests, hands each to `answer`, sends what it returns; `selector` is the caller's loop."""

    def __init__(self, selector: selectors.BaseSelector, answer: Callable[[Client, Answer], Answer]) -> None:
        self.selector = selector
        self.answer = answer
        self.clients: list[Client] = []
        self.path = ""
        self._inode = 0
        self._listener: socket.socket | None = None

    def bind(self, directories: Iterable[Path], name: str) -> None:
        """Listen as `name` in the first of `directories` that can be made private. Raises OSError when none can."""
        self.close()
        last: OSError | None = None
        for directory in directories:
            path = str(directory / name)
            try:
                private_directory(directory)
                self._listener = _listen(path)
                self._inode = os.stat(path).st_ino
            except OSError as error:
                last = error
                continue
            self.path = path
            self.selector.register(self._listener, selectors.EVENT_READ, lambda mask: self._accept())
            return
        raise last if last is not None else OSError("no directory to listen in")

    def is_there(self) -> bool:
        """False when the socket's file was removed: whoever cleans temporary directories may have done it."""
        with contextlib.suppress(OSError):
            return os.stat(self.path).st_ino == self._inode
        return False

    def close(self) -> None:
        """Listen no more. Clients that are connected stay."""
        if self._listener is not None:
            self.selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            if self.is_there():
                with contextlib.suppress(OSError):
                    os.unlink(self.path)

    def tell(self, message: Answer) -> None:
        """Send `message` to every client that watches."""
        for client in [each for each in self.clients if each.watching]:
            self._send(client, message)

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            sock, _ = self._listener.accept()
            if len(self.clients) >= CLIENTS:
                sock.close()
                return
            sock.setblocking(False)
            client = Client(sock)
            self.clients.append(client)
            self.selector.register(sock, selectors.EVENT_READ, lambda mask: self._ready(client, mask))

    def _ready(self, client: Client, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush(client)
        if not mask & selectors.EVENT_READ or not client.open:
            return
        try:
            received = client.sock.recv(LINE)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._drop(client)
            return
        client.inbox += received
        while client.open and (end := client.inbox.find(b"\n")) >= 0:
            line = bytes(client.inbox[:end])
            del client.inbox[: end + 1]
            self._send(client, self._answer_line(client, line))
        if client.open and len(client.inbox) > LINE:
            self._send(client, {"ok": False, "error": f"a request of more than {LINE} bytes"})
            self._drop(client)

    def _answer_line(self, client: Client, line: bytes) -> Answer:
        try:
            if len(line) > LINE:
                raise BadRequest(f"a request of more than {LINE} bytes")
            request = json.loads(line)
            if not isinstance(request, dict):
                raise BadRequest("a request is a JSON object")
            return {"ok": True, **self.answer(client, request)}
        except (OSError, ValueError, RecursionError) as error:
            return {"ok": False, "error": str(error) or type(error).__name__}

    def _send(self, client: Client, message: Answer) -> None:
        if client.open:
            client.outbox += json.dumps(message).encode() + b"\n"
            self._flush(client)

    def _flush(self, client: Client) -> None:
        try:
            with contextlib.suppress(BlockingIOError):
                while client.outbox:
                    del client.outbox[: client.sock.send(client.outbox)]
        except OSError:
            self._drop(client)
            return
        if len(client.outbox) > OUTBOX:
            self._drop(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.outbox else 0)
        key = self.selector.get_key(client.sock)
        if key.events != events:
            self.selector.modify(client.sock, events, key.data)

    def _drop(self, client: Client) -> None:
        if client.open:
            client.open = False
            self.clients.remove(client)
            self.selector.unregister(client.sock)
            client.sock.close()


def _listen(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # stale: the launcher's lock is ours
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen(64)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
