"""What clients may ask of histories that other programs made: to import one, and what was imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine import events as e
from engine.core import Core, person
from engine.history.database import StoreError
from engine.history.imported import report
from engine.history.importers import ImportRefused, formats
from engine.importing import Imports, refused
from engine.indexer import Indexer
from engine.rpc import INVALID_PARAMS, RpcError

IMPORTING = ("import", "imports")
_PROBLEM_BYTES = 600_000


class ImportMethods:
    """The methods, bound to one engine."""

    def __init__(self, core: Core, indexer: Indexer) -> None:
        self.core = core
        self.indexer = indexer
        self.importing = Imports(core, indexer.readings)

    async def do_import(
        self, path: str, request_id: str, format: str = "", mapping: dict[str, str] | None = None, repo: str = ""
    ) -> dict[str, Any]:
        """Import the file at `path`, which is absolute and on the engine's machine. `{import, first, …report}`; `first` false:
        this source was imported before, read the same way, and nothing changed."""
        place = Path(path)
        if not place.is_absolute():
            raise RpcError(INVALID_PARAMS, f"{path!r} is relative: the engine needs the whole path")
        who = person(self.core.identity)
        try:
            event, reading, notes, first = await self.importing.take(
                place, format, mapping or {}, repo, who, request_id
            )
        except ImportRefused as error:
            raise refused(error) from None
        commits = await self._indexed(event.id)
        if commits.pop("known") == 0:
            notes.append("it is in the ledger, but could not be indexed: `cockpit status` says why")
        told = report(reading)
        told["notes"] = [*told["notes"], *notes]
        return _fit({"import": event.id, "first": first, **told, "commits": commits})

    async def _indexed(self, name: str) -> dict[str, Any]:
        """Wait until an import is in the index; how many of its commits were found, and where."""
        try:
            await self.indexer.ready.wait()
            await self.indexer.flush()
            return dict((await self.core.index(lambda store: store.answer(_COMMITS, {"import": name})))[0])
        except StoreError as error:
            raise refused(error) from None

    async def do_imports(self) -> dict[str, Any]:
        """What was imported, and which formats there are."""
        found = [_line(each) for each in self.core.state.imports.values()]
        return {"imports": found[-1000:], "formats": [{"name": name, "says": says} for name, says in formats()]}


_COMMITS = """
SELECT
    count("commit") FILTER ("commit" <> '') AS named, count(*) FILTER (commit_state = 'branch') AS branch,
    count(*) FILTER (commit_state = 'dangling') AS dangling, count(*) FILTER (commit_state = 'missing') AS missing,
    count(diff) AS diffs, (SELECT count(*) FROM imports WHERE id = $import) AS known
FROM imported_runs WHERE import = $import
"""


def _line(event: e.HistoryImported) -> dict[str, Any]:
    return {
        "import": event.id,
        "name": event.name,
        "format": event.format,
        "size": event.size,
        "body": event.body,
        "mapping": event.mapping,
        **event.account,
    }


def _fit(answer: dict[str, Any]) -> dict[str, Any]:
    """As many problems as one message holds; all of them are in the table `imported_problems`."""
    kept, size = [], 0
    for each in answer["problems"]:
        size += len(json.dumps(each))
        if size > _PROBLEM_BYTES:
            answer["notes"] = [
                *answer["notes"],
                "more were not understood than are shown: see `imported_problems` in SQL",
            ]
            break
        kept.append(each)
    return {**answer, "problems": kept}
