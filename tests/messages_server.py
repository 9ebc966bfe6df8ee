"""A Messages API in miniature on loopback, so that the real SDK is tested over a real socket, faults and all.

It answers `POST /v1/messages` with the next scripted `Turn` as server-sent events, and speaks `count_tokens` and `models`. Its
usage counts a quarter of the characters, and knows which prefixes it has seen, as the API's cache does. Every request is kept.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = (
    ("claude-opus-5-5", "active", 1_000_000, 64_000),
    ("claude-sonnet-5-5", "active", 1_000_000, 64_000),
    ("claude-old", "deprecated", 200_000, 8_192),
    ("claude-gone", "retired", 100_000, 4_096),
)
EARLY = ("drop", "stall", "end early", "malformed chunk")
"""Faults of a stream that has begun: half of the text comes first."""


@dataclass
class Turn:
    """One answer. `fault` is one of EARLY, "overloaded event", or empty; a `status` other than 200 sends `error` instead."""

    text: str = ""
    thinking: str = ""
    stop: str | None = "end_turn"
    fault: str = ""
    status: int = 200
    error: str = ""  # type of the error
    code: str = ""  # its code, as spend limits have one
    message: str = "as scripted"
    retry_after: str = ""
    category: str | None = None  # of a refusal
    explanation: str | None = None
    hold: threading.Event | None = None  # waited for after half of the text
    begun: threading.Event = field(default_factory=threading.Event)  # set when half of the text was sent
    gone: threading.Event = field(default_factory=threading.Event)  # set when the client hung up meanwhile


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class MessagesServer:
    """The server; `turns` are given out in order, and past the last one every answer is a 500 that says so."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.asked: list[Asked] = []
        self.over = threading.Event()  # ends whatever stalls
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Bodies of the requests for a message, in order."""
        return [each.body for each in self.asked if each.path == "/v1/messages"]

    def script(self, *turns: Turn) -> None:
        self.turns += turns

    def next_turn(self) -> Turn:
        with self._lock:
            return self.turns.pop(0) if self.turns else Turn(status=500, error="api_error", message="no turn is left")

    def usage(self, body: dict[str, Any]) -> dict[str, int]:
        """Input tokens by how the API would bill them: from the cache, into it, or plain."""
        blocks = list(_blocks(body))
        marks = [n for n, block in enumerate(blocks) if "cache_control" in block]
        sizes = [len(json.dumps(block)) // 4 for block in blocks]
        prefixes = ["".join(_plain(block) for block in blocks[: n + 1]) for n in range(len(blocks))]
        with self._lock:
            read = max((n for n in range(len(blocks)) if prefixes[n] in self._seen), default=-1) if marks else -1
            last = marks[-1] if marks else -1
            self._seen.update(prefixes[n] for n in marks)
        return {
            "cache_read_input_tokens": sum(sizes[: read + 1]),
            "cache_creation_input_tokens": sum(sizes[read + 1 : last + 1]),
            "input_tokens": sum(sizes[max(read, last) + 1 :]),
        }

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextmanager
def serving(*turns: Turn) -> Iterator[MessagesServer]:
    """A running server with these turns to give."""
    server = MessagesServer()
    server.script(*turns)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _blocks(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The blocks of a request in cache order: system, then messages."""
    system = body.get("system", [])
    yield from [{"type": "text", "text": system}] if isinstance(system, str) else system
    for message in body.get("messages", []):
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            yield {**block, "role": message["role"]}


def _plain(block: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in block.items() if key != "cache_control"})


def _model(name: str, lifecycle: str, window: int, most: int) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": lifecycle,
        "deprecated_at": None if lifecycle == "active" else "2026-06-01T00:00:00Z",
        "retires_at": None if lifecycle == "active" else "2027-01-01T00:00:00Z",
        "max_input_tokens": window,
        "max_tokens": most,
    }


def _handler(server: MessagesServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            server.asked.append(Asked(path, dict(self.headers), {}))
            models = [_model(*each) for each in MODELS]
            if path == "/v1/models":
                page = {"data": models, "has_more": False, "first_id": models[0]["id"], "last_id": models[-1]["id"]}
                return self._json(200, page)
            found = next((each for each in models if path == f"/v1/models/{each['id']}"), None)
            if found is None:
                return self._error(Turn(status=404, error="not_found_error", message=f"no {path}"))
            return self._json(200, found)

        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.asked.append(Asked(path, dict(self.headers), body))
            if path == "/v1/messages/count_tokens":
                return self._json(200, {"input_tokens": sum(len(json.dumps(block)) // 4 for block in _blocks(body))})
            turn = server.next_turn()
            if turn.status != 200:
                return self._error(turn)
            with suppress(OSError):
                self._stream(turn, body)
            return None

        def _json(self, status: int, value: Any, **headers: str) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {**headers, "content-type": "application/json", "content-length": str(len(data))}.items():
                self.send_header(name.replace("_", "-"), text)
            self.end_headers()
            self.wfile.write(data)

        def _error(self, turn: Turn) -> None:
            error: dict[str, Any] = {"type": turn.error, "message": turn.message}
            if turn.code:
                error["details"] = {"error_code": turn.code}
            headers = {"retry_after": turn.retry_after} if turn.retry_after else {}
            self._json(turn.status, {"type": "error", "error": error, "request_id": "req_1"}, **headers)

        # --- a stream

        def _stream(self, turn: Turn, body: dict[str, Any]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            usage = {**server.usage(body), "output_tokens": 1}
            message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": body["model"]}
            message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
            self._event("message_start", message=message)
            if turn.fault == "overloaded event":
                self._event("error", error={"type": "overloaded_error", "message": "Overloaded"})
                return self._end()
            index = 0
            if turn.thinking:
                self._block(index, {"type": "thinking", "thinking": "", "signature": ""})
                self._pieces(index, "thinking_delta", "thinking", turn.thinking)
                self._event("content_block_delta", index=index, delta={"type": "signature_delta", "signature": "c2ln"})
                self._event("content_block_stop", index=index)
                index += 1
            self._block(index, {"type": "text", "text": ""})
            half = len(turn.text) // 2
            self._pieces(index, "text_delta", "text", turn.text[:half])
            turn.begun.set()
            if not self._go_on(turn):
                return None
            self._pieces(index, "text_delta", "text", turn.text[half:])
            self._event("content_block_stop", index=index)
            return self._finish(turn, usage)

        def _go_on(self, turn: Turn) -> bool:
            """Whether the stream goes on after its first half."""
            if turn.hold is not None:
                self._wait(turn, turn.hold)
            if turn.fault == "stall":
                self._wait(turn, server.over)
            if turn.fault == "malformed chunk":
                self._raw(b'event: content_block_delta\ndata: {"type": "content_block_delta", "ind\n\n')
                self._end()
            if turn.fault == "end early":
                self._end()
            if turn.fault in EARLY:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return False
            return True

        def _wait(self, turn: Turn, event: threading.Event) -> None:
            """Wait for `event`, or until the client has hung up."""
            self.connection.settimeout(0.02)
            while not event.is_set() and not server.over.is_set():
                with suppress(TimeoutError):
                    if self.connection.recv(1) == b"":
                        turn.gone.set()
                        raise BrokenPipeError
            self.connection.settimeout(None)

        def _finish(self, turn: Turn, usage: dict[str, int]) -> None:
            details = None
            if turn.stop == "refusal":
                details = {"type": "refusal", "category": turn.category, "explanation": turn.explanation}
            delta = {"stop_reason": turn.stop, "stop_sequence": None, "stop_details": details}
            thought = len(turn.thinking) // 4
            out = {
                "output_tokens": thought + len(turn.text) // 4,
                "output_tokens_details": {"thinking_tokens": thought},
            }
            self._event("message_delta", delta=delta, usage={**usage, **out})
            self._event("message_stop")
            self._end()

        def _block(self, index: int, block: dict[str, str]) -> None:
            self._event("content_block_start", index=index, content_block=block)

        def _pieces(self, index: int, kind: str, name: str, text: str) -> None:
            for start in range(0, len(text), 40):
                self._event("content_block_delta", index=index, delta={"type": kind, name: text[start : start + 40]})

        def _event(self, kind: str, **data: Any) -> None:
            self._raw(f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode())

        def _raw(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

        def _end(self) -> None:
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()

    return Handler
