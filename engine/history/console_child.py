"""The process that runs a person's SQL, so that nothing a query does can reach the engine.

    python -m engine.history.console_child serve ADDRESS_SPACE MEMORY     answers requests, one JSON line each
    python -m engine.history.console_child copy SOURCE TARGET             copies the history's file

DuckDB has no privileges within a process, and neither its memory limit nor its time limit reaches inside one function
call. So `serve` opens a copy of the history, read-only and locked down, in a process with an address-space limit, no
environment, and no right to write a file; the engine kills it at the deadline. `copy` is a process of its own because
closing a file drops all locks that the closing process has on it, the engine's own among them.
"""

from __future__ import annotations

import errno
import json
import math
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable
from datetime import date, datetime
from datetime import time as clock_time
from decimal import Decimal
from typing import Any

CELL = 64 * 1024
"""Characters of one cell that are answered; the rest is cut off and its length told."""
ANSWER = 900_000
"""Bytes of all rows together, so that an answer fits in one message of the socket protocol."""
COLUMNS = 1_000
HEADER = 12_288
"""Bytes at the start of a DuckDB file that a checkpoint rewrites last: the main header and two database headers."""
COPY_TRIES = 20

_OPEN: dict[str, str | bool | int | float | list[str]] = {
    "access_mode": "READ_ONLY",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "threads": 1,
    "async_threads": 1,
}
# after opening, in this order: once files are out of reach, the rest can no longer be said
_LOCK_DOWN = (
    "SET temp_directory = ''",
    "SET allow_persistent_secrets = false",
    "SET enable_external_file_cache = false",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


class Refused(Exception):
    """The query is not run, or failed; the message is for the person who wrote it."""


class Unopened(Exception):
    """The copy of the history cannot be opened."""


def main(arguments: list[str]) -> int:
    """Run `serve` or `copy`; returns the exit status."""
    match arguments:
        case ["copy", source, target]:
            return _copy(source, target)
        case ["serve", space, memory]:
            return _serve(int(space), int(memory))
    print(__doc__, file=sys.stderr)
    return 2


# --- copying --------------------------------------------------------------------------------------------------------


def _copy(source: str, target: str) -> int:
    """Copy a checkpointed history, private to its owner, and rename it into place.

    DuckDB never overwrites a block that the present header refers to. So a copy is whole when the header is the same
    after it as before it; when a checkpoint came in between, it is taken again.
    """
    partial = f"{target}.partial"
    try:
        for _ in range(COPY_TRIES):
            before = _header(source)
            _copy_bytes(source, partial)
            if before == _header(source) == _header(partial):
                os.rename(partial, target)
                return 0
        print("the history was being written to all the time: ask again", file=sys.stderr)
    except OSError as error:
        print(f"the history could not be copied for the query: {error.strerror} ({error.filename})", file=sys.stderr)
    if os.path.exists(partial):
        os.unlink(partial)
    return 1


def _header(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEADER)


def _copy_bytes(source: str, target: str) -> None:
    with open(source, "rb") as old, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as new:
        while True:
            try:
                moved = os.copy_file_range(old.fileno(), new.fileno(), 1 << 30)  # shares blocks where the disk can
            except (OSError, AttributeError) as error:
                if getattr(error, "errno", None) == errno.ENOSPC:
                    raise
                break
            if moved == 0:
                return
        while chunk := os.read(old.fileno(), 1 << 20):
            new.write(chunk)


# --- answering ------------------------------------------------------------------------------------------------------


def _serve(space: int, memory: int) -> int:
    """Answer requests from standard input until it ends; the process ends with it, whatever a query is doing."""
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    replies = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # nothing but replies may come out of the pipe
    import duckdb

    _limit(space)
    session = _Session(duckdb, memory)
    _write(replies, b'{"ready":true}\n')
    while True:
        request = json.loads(requests.get())
        try:
            reply = session.answer(request)
        except Refused as refused:
            reply = json.dumps({"refused": str(refused)})
        except Unopened as error:
            reply = json.dumps({"unopened": str(error)})
        except (MemoryError, duckdb.OutOfMemoryException, duckdb.FatalException, duckdb.InternalException) as error:
            _write(replies, (json.dumps({"exhausted": _brief(error)}) + "\n").encode())
            os._exit(1)  # what ran out of memory half-way is not to be trusted with another query
        except duckdb.Error as error:
            reply = json.dumps({"refused": _advice(_brief(error))})
        except (ValueError, TypeError, RecursionError) as error:  # text or nesting that Python cannot take on
            reply = json.dumps({"refused": f"the query or its answer cannot be read: {_brief(error)}"})
        _write(replies, reply.encode("utf-8", "replace") + b"\n")


def _read(requests: queue.Queue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _limit(space: int) -> None:
    """No file may be written, no core dumped, and no more than `space` bytes of addresses be used."""
    wanted = {resource.RLIMIT_AS: space, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    for kind, most in wanted.items():
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS does not have RLIMIT_AS; the deadline and the kill remain
            continue


class _Session:
    """One open copy of the history. Every query has a cursor and a read-only transaction of its own."""

    def __init__(self, duckdb: Any, memory: int) -> None:
        self._duckdb = duckdb
        self._config = _OPEN | {"memory_limit": f"{memory}B"}
        self._path: str | None = None
        self._con: Any = None

    def answer(self, request: dict[str, Any]) -> str:
        """The answer to `{"database", "sql", "params", "limit"}` as a line of JSON without its end."""
        if request["database"] != self._path:
            if self._con is not None:
                self._con.close()
            self._path, self._con = None, None
            self._con = self._open(request["database"])
            self._path = request["database"]
        statement = self._one_statement(request["sql"])
        params = _params(statement, request["params"])
        cursor = self._con.cursor()  # temporary tables and variables end with it
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            began = time.perf_counter()
            cursor.execute(statement, params) if params else cursor.execute(statement)
            return _fetch(cursor, request["limit"], began)
        finally:
            cursor.close()  # rolls back

    def _open(self, path: str) -> Any:
        try:
            con = self._duckdb.connect(path, config=self._config)
            for setting in _LOCK_DOWN:
                con.execute(setting)
            return con
        except self._duckdb.Error as error:
            raise Unopened(_brief(error)) from None

    def _one_statement(self, sql: str) -> Any:
        try:
            statements = self._duckdb.extract_statements(sql)
        except self._duckdb.Error as error:
            raise Refused(_brief(error)) from None
        if not statements:
            raise Refused("there is no statement in this text: write a SELECT")
        if len(statements) > 1:
            raise Refused(f"these are {len(statements)} statements: run one SELECT at a time")
        kind = statements[0].type
        allowed = self._duckdb.StatementType
        if kind == allowed.MULTI:
            raise Refused("this becomes several statements: name the columns, as in PIVOT t ON x IN ('a', 'b') USING …")
        if kind not in (allowed.SELECT, allowed.EXPLAIN):
            raise Refused(f"{kind.name} is not allowed here: the history is read only, write a SELECT or an EXPLAIN")
        return statements[0]


def _params(statement: Any, given: dict[str, Any]) -> dict[str, Any]:
    wanted = set(statement.named_parameters)
    missing, unknown = sorted(wanted - given.keys()), sorted(given.keys() - wanted)
    if missing:
        raise Refused(
            f"no value was given for {', '.join('$' + name for name in missing)}: give one for each parameter"
        )
    if unknown:
        raise Refused(f"the query has no parameter {', '.join('$' + name for name in unknown)}: leave it out")
    return given


def _fetch(cursor: Any, limit: int, began: float) -> str:
    """At most `limit` rows and `ANSWER` bytes of them, as JSON; streams, so a huge result costs what is read of it."""
    description = cursor.description or []
    if len(description) > COLUMNS:
        raise Refused(f"the answer has {len(description)} columns and {COLUMNS} are shown: name the ones you want")
    for name, kind, *_ in description:
        if "TIME ZONE" in str(kind):
            raise Refused(f'column "{name}" is {kind}: cast it, as in {name}::TIMESTAMP (UTC)')
    rows: list[str] = []
    size, truncated, cells = 0, False, _Cells()
    while not truncated:
        got = cursor.fetchmany(256)
        for values in got:
            if len(rows) >= limit:
                truncated = True
                break
            row = json.dumps([cells.plain(value) for value in values], allow_nan=False, ensure_ascii=False)
            size += len(row.encode("utf-8", "replace")) + 1
            if size > ANSWER:
                truncated = True
                cells.notes.append(f"the answer was cut at {ANSWER:,} bytes")
                break
            rows.append(row)
        if not got:
            break
    head = {
        "columns": [str(name)[:1024] for name, *_ in description],
        "types": [str(kind)[:1024] for _, kind, *_ in description],
        "truncated": truncated,
        "ms": round((time.perf_counter() - began) * 1e3, 3),
        "notes": cells.said(),
    }
    return json.dumps(head, ensure_ascii=False)[:-1] + ',"rows":[' + ",".join(rows) + "]}"


class _Cells:
    """Makes values plain JSON, and remembers what could not be said in it."""

    def __init__(self) -> None:
        self.nonfinite = 0
        self.cut = 0
        self.notes: list[str] = []

    def plain(self, value: Any) -> Any:
        """A value that JSON has; what is longer than `CELL` is cut, nested values as the text of their JSON."""
        if isinstance(value, str):
            return self._cut(value)
        made = self._nested(value)
        if isinstance(made, list | dict):
            text = json.dumps(made, ensure_ascii=False)
            return made if len(text) <= CELL else self._cut(text)
        return self._cut(made) if isinstance(made, str) else made

    def said(self) -> list[str]:
        """What the reader of the answer has to be told."""
        out = list(self.notes)
        if self.nonfinite:
            out.append(f"{self.nonfinite} values that are not finite (NaN or infinite) are shown as null")
        if self.cut:
            out.append(f"{self.cut} cells were cut at {CELL:,} characters")
        return out

    def _cut(self, text: str) -> str:
        if len(text) <= CELL:
            return text
        self.cut += 1
        return f"{text[:CELL]}… ({len(text) - CELL:,} more)"

    def _nested(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float | Decimal):
            number = float(value)
            if math.isfinite(number):
                return number
            self.nonfinite += 1
            return None
        if isinstance(value, bytes | bytearray):
            return value[: CELL // 2 + 1].hex()
        if isinstance(value, datetime | date | clock_time):
            return value.isoformat()
        if isinstance(value, dict):
            return {str(key): self._nested(each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._nested(each) for each in value]
        return str(value)


def _brief(error: BaseException) -> str:
    """The message without a stack trace, at most 2,000 characters."""
    text = str(error).split("Stack Trace")[0].strip()
    return text[:2000] or type(error).__name__


def _advice(text: str) -> str:
    """What to do about the refusals that a person meets most."""
    hints: dict[str, Callable[[str], bool]] = {
        "files, settings and other databases are out of reach here: ask the history's own tables (SHOW TABLES)": (
            lambda low: "disabled by configuration" in low or "has been locked" in low
        ),
        "cast it, as in now()::TIMESTAMP": lambda low: "pytz" in low,
    }
    low = text.lower()
    for hint, fits in hints.items():
        if fits(low):
            return f"{text.splitlines()[0]}: {hint}"
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
