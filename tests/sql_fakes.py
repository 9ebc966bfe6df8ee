"""A scripted console beside the scripted engine: results of any size, computed from their row number, that page and arrange."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from engine.rpc import BAD_SQL, UNKNOWN_ID, RpcError
from tests.fakes import ScriptedEngine, lab_in_progress

LEADERBOARD = """-- title: Leaderboard
-- description: Experiments, best first
SELECT rank, experiment, effect
FROM leaderboard
ORDER BY rank
LIMIT $limit
"""
QUESTIONS = [
    {
        "name": "leaderboard", "title": "Leaderboard", "description": "Experiments, best first", "source": "shipped",
        "params": [{"name": "limit", "type": "integer", "default": 50, "required": False, "meaning": "How many"}],
        "problem": None, "picture": None, "sql": LEADERBOARD,
    },
    {
        "name": "noise", "title": "Noise by environment", "description": "How far seeds of the trunk lie apart",
        "params": [], "problem": None, "picture": None, "source": "shipped", "sql": "SELECT * FROM noise\n",
    },
    {
        "name": "ours", "title": "What we tried at night", "description": "A question of this lab", "source": "lab",
        "params": [{"name": "word", "type": "text", "default": None, "required": True, "meaning": "A word"}],
        "problem": None, "picture": None, "sql": "SELECT * FROM experiments WHERE hypothesis ILIKE $word\n",
    },
]  # fmt: skip
SCHEMA = {
    "tables": [
        {"name": "experiments", "kind": "table", "columns": [
            {"name": "id", "type": "VARCHAR"}, {"name": "hypothesis", "type": "VARCHAR"}, {"name": "effect", "type": "DOUBLE"},
        ]},
        {"name": "shards", "kind": "table", "columns": [
            {"name": "id", "type": "VARCHAR"}, {"name": "experiment", "type": "VARCHAR"}, {"name": "seed", "type": "BIGINT"},
        ]},
        {"name": "leaderboard", "kind": "view", "columns": [{"name": "rank", "type": "BIGINT"}]},
    ],
    "functions": ["avg", "count", "median"],
    "keywords": ["select", "from", "where", "group", "order", "by", "limit"],
}  # fmt: skip
EVIL = "\x1b]52;c;aGFja2Vk\x07 then\nmore"

Row = list[Any]


class ScriptedConsole(ScriptedEngine):
    """Adds the console: every query answers `count` rows of `made`; `hold` keeps one running until it is cancelled."""

    columns = ("experiment", "effect", "note")
    types = ("VARCHAR", "DOUBLE", "VARCHAR")

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.count = count
        self.hold = False
        self.order: list[int] = list(range(count)) if count <= 10_000 else []
        self.saved: list[dict[str, Any]] = []
        self.closed: list[str] = []
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.held: set[str] = set()
        self.answers["queries"] = {"queries": QUESTIONS}
        self.answers["sql_schema"] = SCHEMA

    def made(self, index: int) -> Row:
        if index == 2:
            return [f"{index:04d}", "NaN", EVIL]
        return [f"{index:04d}", None if index == 1 else round(index * 0.25 - 0.5, 4), f"row {index}"]

    async def call(self, method: str, **params: Any) -> Any:
        if method == "sql_open" and self.state == "connected" and method not in self.refuse and self.hold:
            self.calls.append((method, params))
            self.waiting[params["request"]] = asyncio.get_running_loop().create_future()
            await self.waiting[params["request"]]
            return self._sql_open(**params)
        return await super().call(method, **params)

    def _sql_open(
        self, request: str, params: dict[str, Any], text: str = "", query: str = "", deadline_s: float = 10.0
    ) -> dict[str, Any]:
        name = f"q{len(self.asked('sql_open'))}"
        self.held.add(name)
        return {
            "result": name, "columns": list(self.columns), "types": list(self.types), "rows": self.count, "truncated": False,
            "ms": 12.3, "age_s": 0.4, "notes": [], "page": self._page(0, 200), "picture": None,
        }  # fmt: skip

    def _page(self, start: int, count: int) -> list[Row]:
        if self.order or self.count == 0:
            return [self.made(index) for index in self.order[start : start + count]]
        return [self.made(index) for index in range(start, min(start + count, self.count))]

    def _sql_cancel(self, request: str) -> dict[str, Any]:
        future = self.waiting.pop(request, None)
        if future is not None:
            future.set_exception(RpcError(BAD_SQL, "cancelled"))
        return {"cancelled": future is not None}

    def _known(self, result: str) -> None:
        if result not in self.held:
            raise RpcError(UNKNOWN_ID, "that result is no longer held: run the query again (ctrl+r)")

    def _sql_rows(self, result: str, start: int, count: int) -> dict[str, Any]:
        self._known(result)
        return {"rows": self._page(start, count), "start": start, "total": len(self.order) or self.count}

    def _sql_arrange(self, result: str, sort: list[dict[str, Any]], filter: str) -> dict[str, Any]:
        self._known(result)
        if filter.startswith("="):
            raise RpcError(BAD_SQL, "= needs a column before it: write column = value")
        order = [index for index in range(self.count) if filter in " ".join(map(str, self.made(index)))]
        for each in reversed(sort):
            place = each["column"]
            order.sort(key=lambda index: str(self.made(index)[place]), reverse=each["descending"])
        self.order = order
        return {"total": len(order)}

    def _sql_export(self, result: str, format: str, start_part: int) -> dict[str, Any]:
        self._known(result)
        rows = [f"{index},x\n" for index in range(self.count)]
        half = len(rows) // 2
        part = rows[:half] if start_part == 0 else rows[half:]
        return {"part": base64.b64encode("".join(part).encode()).decode(), "next": 1 if start_part == 0 else None}

    def _sql_close(self, result: str) -> dict[str, Any]:
        self.held.discard(result)
        self.closed.append(result)
        return {}

    def _sql_save(self, **params: Any) -> dict[str, Any]:
        if params["name"] == "leaderboard" and not params["overwrite"]:
            raise RpcError(BAD_SQL, "queries/leaderboard.sql exists already")
        self.saved.append(params)
        return {"path": f"queries/{params['name']}.sql"}


def console_in_progress(count: int = 3) -> ScriptedConsole:
    """The lab some way in, with a console."""
    engine = ScriptedConsole(count)
    engine.rows.update(lab_in_progress().rows)
    engine.head = max(row["seq"] for row in engine.rows.values())
    return engine
