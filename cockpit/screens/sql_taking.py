"""Screen 3, taking away: copying cells, saving a result to a file, keeping the SQL as a question of the lab."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.rpc import RpcError
from engine.text import clean, clean_line

from .. import sql_export, sql_params
from ..follow import OFFLINE
from ..sql_export import Exists, ExportError
from ..sql_grid import exact, tsv
from ..sql_session import AWAY, Result
from ..widgets.prompt import Question
from .sql_asking import SqlAsking

COPIED = 20_000
"""Rows of a column that are copied at most; a file takes all of them."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")


class SqlTaking(SqlAsking):
    """Adds what leaves the screen."""

    # --- copying

    def do_copy(self) -> None:
        result = self.asking.result
        values = result.pages.get(self.grid.row) if result is not None else None
        if values is None:
            self.say("that row has not come yet", "warn")
            return
        self.cockpit.copy("the cell", exact(values[self.grid.column]))

    def do_copy_row(self) -> None:
        result = self.asking.result
        values = result.pages.get(self.grid.row) if result is not None else None
        if values is None:
            self.say("that row has not come yet", "warn")
            return
        self.cockpit.copy("the row", tsv([values]))

    def do_copy_column(self) -> None:
        result = self.asking.result
        assert result is not None
        self.start(self._copy_column(result, self.grid.column), "sql-copy")

    async def _copy_column(self, result: Result, place: int) -> None:
        rows = await self.first_rows(result, COPIED)
        if rows is None:
            return
        values = [row[place] for row in rows]
        cut = f"the first {len(values):,} of {result.total:,} values of " if len(values) < result.total else ""
        self.cockpit.copy(f"{cut}column {result.columns[place].name}", tsv([[value] for value in values]))

    async def first_rows(self, result: Result, most: int) -> list[Sequence[Any]] | None:
        """The first rows in their present order, from here or the engine; None, and it is said, where they do not come."""
        rows: list[Sequence[Any]] = []
        wanted = min(result.total, most)
        pages = result.pages
        try:
            while len(rows) < wanted:
                held = pages.get(len(rows))
                if held is not None:
                    rows.append(held)
                    continue
                count = min(wanted - len(rows), 1000)
                answer = await self.cockpit.link.call("sql_rows", result=result.id, start=len(rows), count=count)
                if not answer["rows"]:
                    break
                rows += answer["rows"]
        except RpcError as error:
            self.say(clean_line(error.message), "bad")
            return None
        except OFFLINE:
            self.say(AWAY, "bad")
            return None
        return rows[:wanted]

    # --- into a file

    def do_export(self) -> None:
        result = self.asking.result
        assert result is not None
        self._ask_file(result, f"{result.asked.query or 'result'}.csv")

    def _ask_file(self, result: Result, text: str) -> None:
        rows = f"{result.total:,} row{'' if result.total == 1 else 's'}, in their present order"
        self.ask(
            Question(
                title=f"Save {rows}", details=(f"into {Path.cwd()}, or where the name says; .csv .json .jsonl .parquet",),
                text=text, label="file", go="save", required=True, guarded=False, alarm=False,
                answer=lambda name: self._export(result, name, False),
            )
        )  # fmt: skip

    def _export(self, result: Result, text: str, replace: bool) -> None:
        try:
            path, kind = sql_export.target(text)
        except ExportError as error:
            self.say(clean_line(str(error)), "bad")
            self._ask_file(result, text)
            return
        self.start(self._write(result, path, kind, replace), "sql-export")

    async def _write(self, result: Result, path: Path, kind: str, replace: bool) -> None:
        name = clean_line(str(path))

        async def fetch(part: int) -> dict[str, Any]:
            answer: dict[str, Any] = await self.cockpit.link.call(
                "sql_export", result=result.id, format=kind, start_part=part
            )
            return answer

        def progress(size: int) -> None:
            self.say(f"saving {name}: {size / 1e6:.1f} MB", "dim")

        try:
            size = await sql_export.write(path, replace, fetch, asyncio.to_thread, progress)
        except Exists:
            self.ask(
                Question(
                    title=f"{name} exists already. Replace it?", details=("What is in it is lost.",), go="replace it",
                    answer=lambda _: self._export(result, str(path), True),
                )
            )  # fmt: skip
        except ExportError as error:
            self.say(clean_line(str(error)), "bad")
        except RpcError as error:
            self.say(clean_line(error.message), "bad")
        except OFFLINE:
            self.say(f"the engine went away; {name} was not written", "bad")
        else:
            self.say(f"saved {result.total:,} rows, {size:,} bytes: {name}", "good")

    # --- as a question

    def do_save(self) -> None:
        name = str(self.question["name"]) if self.question else ""
        text = sql_params.headed(self.editor.text.strip(), self.question, self.given())
        self._ask_name(text, "" if self.from_question else name)

    def _ask_name(self, text: str, name: str) -> None:
        def answer(given: str) -> None:
            if not _NAME.match(given):
                self.say(f"{given!r:.60} cannot be a name: small letters, digits, - and _ only", "bad")
                self._ask_name(text, given)
            else:
                self._ask_title(text, given)

        self.ask(
            Question(
                title="Keep this SQL as a question of the lab", text=name, label="name", go="next", required=True, alarm=False,
                details=("It becomes queries/NAME.sql; `cockpit sql NAME` asks it from the shell.",), answer=answer,
                guarded=False,
            )
        )  # fmt: skip

    def _ask_title(self, text: str, name: str) -> None:
        title = str(self.question["title"]) if self.question and self.question["name"] == name else ""
        self.ask(
            Question(
                title=f"{name}: a title", text=clean_line(title), label="title", go="next", required=True, alarm=False,
                answer=lambda given: self._ask_description(text, name, given), guarded=False,
            )
        )  # fmt: skip

    def _ask_description(self, text: str, name: str, title: str) -> None:
        self.ask(
            Question(
                title=f"{name}: what it answers", text="", label="what it answers, in a sentence", go="save", alarm=False,
                answer=lambda about: self.start(self._save(text, name, title, about, False), "sql-save"), guarded=False,
            )
        )  # fmt: skip

    async def _save(self, text: str, name: str, title: str, about: str, overwrite: bool) -> None:
        given = {"name": name, "title": title, "description": about or title, "text": text}
        try:
            answer = await self.cockpit.link.call("sql_save", **given, overwrite=overwrite)
        except RpcError as error:
            if not overwrite and "already" in error.message:
                self.ask(
                    Question(
                        title=f"There is a question {name} already. Replace it?", details=(clean(error.message),),
                        go="replace it", answer=lambda _: self.start(self._save(text, name, title, about, True), "sql-save"),
                    )
                )  # fmt: skip
            else:
                self.say(clean_line(error.message), "bad")
            return
        except OFFLINE:
            self.say(AWAY, "bad")
            return
        await self.load_questions()
        self.question = next((each for each in self.questions if each["name"] == name), self.question)
        self.list_again()
        self.say(f"kept as {clean_line(str(answer['path']))}", "good")
