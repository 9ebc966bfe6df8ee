"""The wire between cockpit and engine: JSON-RPC 2.0, one UTF-8 message a line, at most 1 MiB.

Pure functions and one exception; both ends use them, so only the standard library is imported.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_MESSAGE = 1 << 20
"""Largest message in bytes, newline included. Larger bodies travel by hash (`body`) or by page (`pull`)."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
UNKNOWN_METHOD = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
WRONG_TOKEN = 10
WRONG_PROTOCOL = 11
UNKNOWN_ID = 20
STALE = 21
NOT_NOW = 22
BAD_SQL = 23
READ_ONLY = 30
DISCONNECTED = 40


class RpcError(Exception):
    """An answer that says no: `code` (see above), `message` (what was wrong and what to do), `data`."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


def encode(message: dict[str, Any]) -> bytes:
    """One line; a non-finite number goes as null, since JSON has none. Raises RpcError(INTERNAL_ERROR) when the line would
    pass the size limit."""
    try:
        text = _dumps(message)
    except ValueError:
        text = _dumps(finite(message))
    line = text.encode("utf-8", "replace") + b"\n"
    if len(line) > MAX_MESSAGE:
        raise RpcError(
            INTERNAL_ERROR, f"the message is {len(line)} bytes long; {MAX_MESSAGE} are allowed: ask for a smaller page"
        )
    return line


def _dumps(message: Any) -> str:
    return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)


def finite(value: Any) -> Any:
    """`value` with every non-finite number replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def request(number: int | str, method: str, params: dict[str, Any]) -> bytes:
    return encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def result(number: int | str | None, value: Any) -> bytes:
    return encode({"jsonrpc": "2.0", "id": number, "result": value})


def failure(number: int | str | None, error: RpcError) -> bytes:
    return encode({"jsonrpc": "2.0", "id": number, "error": error.to_json()})


def notification(method: str, params: dict[str, Any]) -> bytes:
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def decode(line: bytes) -> dict[str, Any]:
    """The message on a line. Raises RpcError(PARSE_ERROR | INVALID_REQUEST)."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RpcError(PARSE_ERROR, f"not JSON: {error}") from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise RpcError(INVALID_REQUEST, 'not a JSON-RPC 2.0 message: an object with "jsonrpc": "2.0" is expected')
    return message


def _is_text(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def decode_request(line: bytes) -> tuple[int | str | None, str, dict[str, Any]]:
    """(id, method, params) of a client's request. Raises RpcError; its `data` is the id where one was readable."""
    message = decode(line)
    number = message.get("id")
    if number is not None and not isinstance(number, int | str):
        raise RpcError(INVALID_REQUEST, "the id must be a number or a string")
    method, params = message.get("method"), message.get("params", {})
    if b"\\ud" in line.lower() and not _is_text(params):
        raise RpcError(INVALID_REQUEST, "a text holds half of a surrogate pair, which no encoding has", {"id": number})
    if not isinstance(method, str) or not isinstance(params, dict):
        raise RpcError(INVALID_REQUEST, "a request has a method (string) and params (an object)", {"id": number})
    return number, method, params
