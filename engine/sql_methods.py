"""What clients may ask in SQL: one-shot answers, results that stay to be scrolled and exported, and questions by name."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from engine import rpc
from engine.core import Core
from engine.history import snapshots
from engine.history.console import Answer, Console, NotHeld, SqlRefused
from engine.history.database import SCRIPTS, StoreError
from engine.history.queries import Query, QueryError, load_all
from engine.history.saving import save
from engine.indexer import Indexer
from engine.resources import shipped
from engine.rpc import RpcError

SQL = (
    "queries",
    "sql",
    "sql_open",
    "sql_rows",
    "sql_arrange",
    "sql_export",
    "sql_cancel",
    "sql_close",
    "sql_schema",
    "sql_save",
    "snapshot",
    "history_copy",
)
PAGE_BYTES = 900_000
DEADLINE_S = 10.0
LONGEST_S = 600.0

T = TypeVar("T")
Request = Annotated[str, Field(max_length=200)]


class SqlMethods:
    """The methods, bound to one engine."""

    def __init__(self, core: Core, indexer: Indexer, console: Console) -> None:
        self.core = core
        self.indexer = indexer
        self.console = console
        self._schema: dict[str, Any] | None = None
        self._copying = asyncio.Lock()

    # --- questions by name

    async def do_queries(self) -> dict[str, Any]:
        """The ranked questions that can be asked by name."""
        listed = [query.to_json() for query in (await self._queries()).values()]
        room = PAGE_BYTES - sum(len(json.dumps({**each, "sql": ""})) for each in listed)
        for each in listed:
            room -= len(json.dumps(each["sql"]))
            each["sql"] = each["sql"] if room > 0 else ""
        return {"queries": listed}

    async def do_sql_save(
        self, name: str, title: str, description: str, text: str, overwrite: bool = False
    ) -> dict[str, Any]:
        """Keep a SELECT as one of the lab's own questions: `queries/NAME.sql`."""
        place = self.core.lab.root / "queries"
        try:
            path = await asyncio.to_thread(save, place, name, title, description, text, overwrite=overwrite)
        except ValueError as error:
            raise RpcError(rpc.BAD_SQL, str(error)) from None
        except OSError as error:
            raise RpcError(rpc.NOT_NOW, f"{place}/{name}.sql cannot be written: {error.strerror}") from None
        return {"path": str(path)}

    async def _queries(self) -> dict[str, Query]:
        return await asyncio.to_thread(load_all, [shipped("queries"), self.core.lab.root / "queries"])

    async def _question(
        self, text: str, query: str, params: Mapping[str, Any] | None
    ) -> tuple[str, dict[str, Any], Query | None]:
        """The SQL, values for its parameters, and the named question where it is one. Raises RpcError, QueryError."""
        given: dict[str, Any] = dict(params or {})
        if not query:
            return text, given, None
        queries = await self._queries()
        if query not in queries:
            raise RpcError(rpc.UNKNOWN_ID, f"no query {query!r}; there are {', '.join(sorted(queries))}")
        found = queries[query]
        return found.sql, found.bind(given), found

    # --- asking

    async def do_sql(
        self,
        text: str = "",
        query: str = "",
        params: dict[str, Any] | None = None,
        limit: int = 1000,
        deadline_s: float = DEADLINE_S,
        request: Request = "",
    ) -> dict[str, Any]:
        """Answer one SELECT, or a named query, in a process of its own on a snapshot of the history."""
        ask = self._run(text, query, params, max(1, min(limit, 100_000)), _deadline(deadline_s))
        answer = await self._asked(self.console.stoppable(request, ask))
        return _fit(answer.to_json())

    async def do_sql_open(
        self,
        text: str = "",
        query: str = "",
        params: dict[str, Any] | None = None,
        request: Request = "",
        deadline_s: float = DEADLINE_S,
    ) -> dict[str, Any]:
        """Run a SELECT, or a named query, and hold the result: the first rows now, the others by `sql_rows`."""
        ask = self._open(text, query, params, _deadline(deadline_s))
        return await self._asked(self.console.stoppable(request, ask))

    async def _run(
        self, text: str, query: str, params: Mapping[str, Any] | None, limit: int, deadline_s: float
    ) -> Answer:
        sql, given, _ = await self._question(text, query, params)
        await self.indexer.ready.wait()
        return await self.console.run(sql, given, limit, deadline_s)

    async def _open(self, text: str, query: str, params: Mapping[str, Any] | None, deadline_s: float) -> dict[str, Any]:
        sql, given, found = await self._question(text, query, params)
        await self.indexer.ready.wait()
        answer = await self.console.open(sql, given, deadline_s)
        return {**answer, "picture": None if found is None or found.picture is None else dict(found.picture)}

    async def do_sql_cancel(self, request: Request) -> dict[str, Any]:
        """Stop a query by the name that its client gave it."""
        return {"cancelled": self.console.cancel(request)}

    async def do_sql_rows(self, result: str, start: int, count: int) -> dict[str, Any]:
        """Rows of a held result in the order in which it is arranged; fewer than asked for where they would not fit."""
        return await _held(self.console.rows(result, start, count))

    async def do_sql_arrange(
        self, result: str, sort: list[dict[str, Any]] | None = None, filter: str = ""
    ) -> dict[str, Any]:
        """Sort and filter a held result."""
        return {"total": await _held(self.console.arrange(result, sort or [], filter))}

    async def do_sql_export(
        self, result: str, format: Literal["csv", "json", "jsonl", "parquet"], start_part: int = 0
    ) -> dict[str, Any]:
        """A held result as a file, a part at a time; the client writes it."""
        return await _held(self.console.export(result, format, start_part))

    async def do_sql_close(self, result: str) -> dict[str, Any]:
        """Let go of a held result."""
        await self.console.drop(result)
        return {}

    async def do_sql_schema(self) -> dict[str, Any]:
        """Tables with their columns, functions and keywords, for completion."""
        if self._schema is None:
            self._schema = await self._asked(self._read_schema())
        return self._schema

    async def _read_schema(self) -> dict[str, Any]:
        await self.indexer.ready.wait()
        columns = await self.console.run(_COLUMNS, limit=20_000)
        functions = await self.console.run(_FUNCTIONS, limit=20_000)
        keywords = await self.console.run(_KEYWORDS, limit=5_000)
        tables: dict[str, dict[str, Any]] = {}
        comments = table_comments()
        for table, kind, column, type in columns.rows:
            made = tables.setdefault(
                table, {"name": table, "kind": kind, "comment": comments.get(table), "columns": []}
            )
            made["columns"].append({"name": column, "type": type})
        return {
            "tables": list(tables.values()),
            "functions": [row[0] for row in functions.rows],
            "keywords": [row[0] for row in keywords.rows],
        }

    # --- copies for other programs

    async def do_snapshot(self, keep: Annotated[int, Field(ge=1, le=1000)] = 5) -> dict[str, Any]:
        """Make a dated copy of the history that other programs can open, and remove all but the `keep` latest ones."""
        place = self.core.dir.root / "snapshots"
        await self.indexer.ready.wait()
        async with self._copying:  # one at a time, so that each finds a name and a link of its own
            return await self._asked(snapshots.take(place, keep, self.console.snapshot))

    async def do_history_copy(self) -> dict[str, Any]:
        """Copy the history as it is now. `{path, lab}`: a DuckDB file in the private state directory, which the caller deletes;
        and the lab's name."""
        await self.indexer.ready.wait()
        target = await asyncio.to_thread(snapshots.place_for_export, self.core.dir.root.resolve() / "exports")
        await self._asked(self.console.snapshot(target))
        return {"path": str(target), "lab": self.core.lab.name}

    async def _asked(self, ask: Awaitable[T]) -> T:
        """What the console answers. Raises RpcError."""
        try:
            return await ask
        except QueryError as error:
            raise RpcError(rpc.BAD_SQL, str(error)) from None
        except SqlRefused as error:
            await self.indexer.doubt(str(error))
            raise RpcError(rpc.BAD_SQL, str(error)) from None
        except StoreError as error:
            raise being_mended(error) from None
        except OSError as error:
            why = f"{error.strerror} ({error.filename})"
            raise RpcError(rpc.NOT_NOW, f"the history cannot be copied just now: {why}") from None


def being_mended(error: StoreError) -> RpcError:
    """What a client is told while the history cannot be read."""
    return RpcError(rpc.NOT_NOW, f"the index cannot answer just now, it is being mended: {error}")


async def _held(ask: Awaitable[T]) -> T:
    try:
        return await ask
    except NotHeld as error:
        raise RpcError(rpc.UNKNOWN_ID, str(error)) from None
    except SqlRefused as error:
        raise RpcError(rpc.BAD_SQL, str(error)) from None


def _deadline(seconds: float) -> float:
    return max(0.1, min(seconds, LONGEST_S))


def _fit(answer: dict[str, Any]) -> dict[str, Any]:
    """Drop rows from the end until the answer fits one message; `truncated` says so."""
    size = 0
    kept: list[Any] = []
    for row in answer["rows"]:
        size += len(json.dumps(row, default=str))
        if size > PAGE_BYTES:
            return {**answer, "rows": kept, "truncated": True}
        kept.append(row)
    return answer


@lru_cache(maxsize=1)
def table_comments() -> dict[str, str]:
    """What the scripts of the schema say above each table and view."""
    scripts = (Path(__file__).parent / "history" / name for name in SCRIPTS)
    text = "\n".join(each.read_text(encoding="utf-8") for each in scripts)
    made = r"CREATE (?:OR REPLACE )?(?:TABLE|VIEW)(?: IF NOT EXISTS)? (\w+)"
    found = re.findall(rf"((?:^--[^\n]*\n)+){made}", text, re.MULTILINE)
    return {name: " ".join(line.lstrip("- ").strip() for line in lines.splitlines()) for lines, name in found}


_COLUMNS = """
SELECT c.table_name, CASE WHEN v.view_name IS NULL THEN 'table' ELSE 'view' END, c.column_name, c.data_type
FROM duckdb_columns() c
LEFT JOIN duckdb_views() v ON v.view_name = c.table_name AND NOT v.internal
WHERE NOT c.internal
ORDER BY c.table_name, c.column_index
"""
_FUNCTIONS = """
SELECT DISTINCT function_name FROM duckdb_functions()
WHERE function_name SIMILAR TO '[a-z][a-z0-9_]*' AND function_type NOT IN ('pragma')
ORDER BY 1
"""
_KEYWORDS = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved' ORDER BY 1"
