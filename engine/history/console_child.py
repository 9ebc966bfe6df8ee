"""The process that runs a person's SQL, so that nothing a query does can reach the engine.

    python -m engine.history.console_child serve ADDRESS_SPACE MEMORY [COPIES]   answers requests, one JSON line each
    python -m engine.history.console_child copy SOURCE TARGET                   copies the history's file
    python -m engine.history.console_child check COPY                           opens a copy, as another program would

DuckDB has no privileges within a process, and neither its memory limit nor its time limit reaches inside one function
call. So `serve` opens a copy of the history, read-only and locked down, in a process with an address-space limit, no
environment, no right to write a file, and, where the kernel has landlock and seccomp, no files but Python's and those in
COPIES, and no sockets; the engine kills it at the deadline. `copy` is a process of its own because closing a file drops
all locks that the closing process has on it, the engine's own among them.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from engine.history.console_cells import Cells
from engine.history.console_filter import FilterError
from engine.history.console_results import BATCH, ROWS, ResultError, gather

ANSWER = 900_000
"""Bytes of all rows together, so that an answer fits in one message of the socket protocol."""
COLUMNS = 1_000
FIRST_PAGE = 200
"""Rows of a held result that come with its first answer."""
IDLE_S = 0.1
"""Seconds without a request after which Arrow is loaded, for the first result that is to be held."""

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
    """Run `serve`, `copy` or `check`; returns the exit status."""
    match arguments:
        case ["copy", source, target]:
            from engine.history.console_copying import copy

            return copy(source, target)
        case ["check", path]:
            return _check(path)
        case ["serve", space, memory, *copies]:
            return _serve(int(space), int(memory), *copies[:1])
    print(__doc__, file=sys.stderr)
    return 2


# --- answering ------------------------------------------------------------------------------------------------------


def _check(path: str) -> int:
    """Whether a copy opens, read-only, and every table in it can be read; prints why it does not."""
    import duckdb

    try:
        with duckdb.connect(path, config=_OPEN) as con:
            for (name,) in con.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall():
                con.execute(f'SELECT count(*) FROM "{name}"').fetchall()
    except duckdb.Error as error:
        print(f"the copy of the history cannot be opened: {_brief(error)}", file=sys.stderr)
        return 1
    return 0


def _serve(space: int, memory: int, copies: str | None = None) -> int:
    """Answer requests from standard input until it ends; the process ends with it, whatever a query is doing."""
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # others reserve addresses by the gigabyte
    replies = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # nothing but replies may come out of the pipe
    import duckdb

    _limit(space)
    if copies is not None:
        _confine(copies)
        duckdb.connect().close()  # what DuckDB cannot do without, it has to be seen to miss before a query comes
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()  # the box holds for it too: it came after
    session = _Session(duckdb, memory)
    _write(replies, b'{"ready":true}\n')
    try:
        line = requests.get(timeout=IDLE_S)
    except queue.Empty:
        _load_arrow()
        line = requests.get()
    while True:
        _write(replies, _reply(session, json.loads(line), duckdb, replies).encode("utf-8", "replace") + b"\n")
        line = requests.get()


def _reply(session: _Session, request: dict[str, Any], duckdb: Any, replies: int) -> str:
    try:
        return session.answer(request)
    except Refused as refused:
        return json.dumps({"refused": str(refused)})
    except Unopened as error:
        return json.dumps({"unopened": str(error)})
    except (FilterError, ResultError) as error:
        return json.dumps({"refused": str(error)})
    except (MemoryError, duckdb.OutOfMemoryException, duckdb.FatalException, duckdb.InternalException) as error:
        _write(replies, (json.dumps({"exhausted": _brief(error)}) + "\n").encode())
        os._exit(1)  # what ran out of memory half-way is not to be trusted with another query
    except duckdb.Error as error:
        return json.dumps({"refused": _advice(_brief(error))})
    except (ValueError, TypeError, RecursionError, ArithmeticError) as error:  # what Python or Arrow cannot take on
        return json.dumps({"refused": f"the query or its answer cannot be read: {_brief(error)}"})


def _load_arrow() -> None:
    import pyarrow
    import pyarrow.compute

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)


def _confine(copies: str) -> None:
    """No file but the copies and what Python itself is made of, and no socket; where the kernel cannot, DuckDB's own locks
    and the limits remain."""
    from engine.shards import box

    own = [sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/bin", "/etc/localtime", "/etc/ld.so.cache"]
    own += ["/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/sys/fs/cgroup"]  # DuckDB looks there for what it may use
    packages = [each for each in sys.path if os.path.basename(each) in ("site-packages", "dist-packages")]
    code = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        scoped = box.landlock([copies, code, *own, *packages], [], [os.devnull, "/dev/urandom"])
        box.drop_capabilities()
        box.seccomp(2, signals_scoped=scoped)
    except OSError:
        return


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
    """One open copy of the history. Every query has a cursor and a read-only transaction of its own. One result is held."""

    def __init__(self, duckdb: Any, memory: int) -> None:
        self._duckdb = duckdb
        self._config = _OPEN | {"memory_limit": f"{memory}B"}
        self._path: str | None = None
        self._con: Any = None
        self._held: Any = None
        self._export: Any = None

    def answer(self, request: dict[str, Any]) -> str:
        """The answer to a request as a line of JSON without its end. `op` says which:

        `run`, also when there is none: `{"database", "sql", "params", "limit"}`, all rows at once; `open`: the same, and
        the rows are held; then `rows`, `arrange` and `export` are about those, and `drop` lets go of them.
        """
        match request.get("op", "run"):
            case "run":
                return self._query(request, partial(_fetch, limit=request["limit"]))
            case "open":
                return self._query(request, self._hold)
            case "drop":
                self._held = self._export = None
                return "{}"
        if self._held is None:
            raise Refused("there is no result here")
        match request["op"]:
            case "rows":
                return str(self._held.page(request["start"], request["count"]))
            case "arrange":
                self._export = None
                return json.dumps({"total": self._held.arrange(request["sort"], request["filter"])})
            case "export":
                return self._exported(request["format"], request["start_part"])
        raise Refused(f"there is no op {request['op']!r}")

    def _query(self, request: dict[str, Any], answer: Callable[[Any, Any, dict[str, Any]], str]) -> str:
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
            return answer(cursor, statement, params)
        finally:
            cursor.close()  # rolls back

    def _hold(self, cursor: Any, statement: Any, params: dict[str, Any]) -> str:
        _load_arrow()
        self._held = self._export = None
        began = time.perf_counter()
        if statement.type == self._duckdb.StatementType.SELECT:  # a relation streams into Arrow
            try:
                source = cursor.sql(statement, params=params) if params else cursor.sql(statement)
            except self._duckdb.Error:
                cursor.execute(statement, params) if params else cursor.execute(statement)  # says at which line, too
                raise
            columns, kinds = list(source.columns), [str(each) for each in source.types]
        else:
            source = cursor.execute(statement, params) if params else cursor.execute(statement)
            columns, kinds = (
                [str(each[0]) for each in source.description],
                [str(each[1]) for each in source.description],
            )
        _columns(list(zip(columns, kinds, strict=True)))
        held = gather(columns, kinds, source.to_arrow_reader(BATCH))
        head = {
            "columns": [name[:1024] for name in columns],
            "types": [kind[:1024] for kind in kinds],
            "total": held.total,
            "truncated": held.truncated,
            "ms": round((time.perf_counter() - began) * 1e3, 3),
            "notes": [],
        }
        if held.truncated:
            why = f"at most {ROWS:,} rows" if held.total == ROWS else "what fits in memory"
            head["notes"] = [
                f"the result was cut at {held.total:,} rows: {why} can be held; aggregate or filter earlier"
            ]
        self._held = held
        return json.dumps(head, ensure_ascii=False)[:-1] + "," + held.page(0, FIRST_PAGE)[1:]

    def _exported(self, form: str, number: int) -> str:
        from engine.history.console_export import Export

        if number == 0 or self._export is None or self._export.form != form:
            self._export = Export(self._held, form)
        part, after = self._export.part(number)
        return json.dumps({"part": base64.b64encode(part).decode(), "next": after})

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


def _columns(description: list[tuple[str, str]]) -> None:
    """Refuse what cannot be shown, by (name, type) of each column."""
    if len(description) > COLUMNS:
        raise Refused(f"the answer has {len(description)} columns and {COLUMNS} are shown: name the ones you want")
    for name, kind in description:
        if "TIME ZONE" in kind:
            raise Refused(f'column "{name}" is {kind}: cast it, as in {name}::TIMESTAMP (UTC)')


def _fetch(cursor: Any, statement: Any, params: dict[str, Any], limit: int) -> str:
    """At most `limit` rows and `ANSWER` bytes of them, as JSON; streams, so a huge result costs what is read of it."""
    began = time.perf_counter()
    cursor.execute(statement, params) if params else cursor.execute(statement)
    description = cursor.description or []
    _columns([(str(name), str(kind)) for name, kind, *_ in description])
    rows: list[str] = []
    size, truncated, cells = 0, False, Cells()
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
