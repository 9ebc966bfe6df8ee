"""Screen 3, asking: questions with their parameters, the text in the editor, past queries, running and paging."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, cast

from textual.timer import Timer

from engine.rpc import RpcError
from engine.text import clean_all, clean_line

from .. import sql_history, sql_params
from ..follow import OFFLINE
from ..sql_complete import Schema
from ..sql_errors import SqlError
from ..sql_history import Walk
from ..sql_params import ParamError, Value
from ..sql_session import Asked, SqlSession
from ..sql_tokens import params
from ..widgets.prompt import Question
from ..widgets.question_list import QuestionList, entries
from ..widgets.result_grid import ResultGrid
from ..widgets.sql_editor import SqlEditor
from .base import CockpitScreen

RUNNING_EVERY_S = 0.25
"""How often the seconds of a running query are painted."""

UNTOLD = "each as name=value; text with spaces in '…'"
"""Said of parameters that nothing declares."""


class SqlAsking(CockpitScreen):
    """What is asked and what came of it. The rest of the screen lays it out and moves in it."""

    def __init__(self) -> None:
        super().__init__()
        self.session: SqlSession | None = None
        self.schema = Schema()
        self.questions: list[dict[str, Any]] = []
        self.question: dict[str, Any] | None = None  # what the editor was filled from
        self.values: dict[str, dict[str, Value]] = {}  # by question, as last filled in
        self.terms = ""
        self.walk = Walk()
        self.trouble = ""  # why there are no questions
        self._linked = ""
        self._second: Timer | None = None

    @property
    def asking(self) -> SqlSession:
        if self.session is None:
            self.session = SqlSession(self.cockpit.link, self.cockpit.clock, self.changed)
        return self.session

    @property
    def editor(self) -> SqlEditor:
        return self.query_one(SqlEditor)

    @property
    def grid(self) -> ResultGrid:
        return self.query_one(ResultGrid)

    @property
    def menu(self) -> QuestionList:
        return self.query_one(QuestionList)

    def start(self, work: Coroutine[Any, Any, None], group: str) -> None:
        """Run in the background; ends with the application."""
        self.run_worker(work, group=group, exit_on_error=True)

    async def on_unmount(self) -> None:
        if self.session is not None:
            self.session.changed = lambda: None
            await self.session.close()

    def changed(self) -> None:
        """The session has something new to show."""
        running = self.asking.running is not None
        if running and self._second is None:
            self._second = self.set_interval(RUNNING_EVERY_S, self.show_running)
        elif not running and self._second is not None:
            self._second.stop()
            self._second = None
        if self.is_current:
            self.answer()

    def show_running(self) -> None:
        """Paint the seconds that the query has taken."""
        raise NotImplementedError

    # --- what there is to ask

    def load_soon(self) -> None:
        """Fetch questions, names for completion and past queries: at the first look, and when the line is back."""
        state = self.cockpit.link.state
        if state == self._linked:
            return
        if state == "connected":
            self.asking.reconnected()
            self.start(self._load(), "sql-load")
        self._linked = state

    async def _load(self) -> None:
        await self.load_questions()
        try:
            self.schema = Schema.of(cast(dict[str, Any], clean_all(await self.cockpit.link.call("sql_schema"))))
        except OFFLINE:
            self._linked = ""
        except RpcError:
            self.schema = Schema()  # an engine that does not say; keywords are completed all the same
        if not self.walk.past and (lab := self.model.lab):
            self.walk.set(await asyncio.to_thread(sql_history.load, sql_history.place(lab["root"])))
        self.list_again()

    async def load_questions(self) -> None:
        """Fetch the list of questions."""
        try:
            answer = await self.cockpit.link.call("queries")
        except RpcError as error:
            self.trouble = clean_line(error.message)
            return
        except OFFLINE:
            self._linked = ""
            return
        found = answer["queries"] if isinstance(answer, dict) else answer
        self.trouble = ""
        self.questions = [dict(each) for each in found]

    def list_again(self) -> None:
        """Fill the list anew; the cursor stays on its entry."""
        if self.is_mounted:
            self.menu.set(entries(self.questions, self.walk.past, self.terms))
            if self.is_current:
                self.sync()

    # --- asking

    def pick(self) -> None:
        """Take what is under the cursor of the list: a past query into the editor, a question with its parameters."""
        entry = self.menu.entry
        if entry is None:
            return
        if entry.question is None:
            self.question = None
            self.editor.put(entry.text)
            self.to_pane("editor")
            return
        if entry.question.get("problem"):
            self.say(clean_line(str(entry.question["problem"])), "bad")
            return
        self.question = entry.question
        self.editor.put(sql_params.body(str(entry.question.get("sql") or "")), at_end=False)
        if entry.question.get("params"):
            self.fill_in()
        else:
            self.run_it()

    def to_pane(self, pane: str) -> None:
        raise NotImplementedError

    @property
    def from_question(self) -> bool:
        """Whether the editor holds the question as it was picked."""
        text = self.editor.text.strip()
        return self.question is not None and text == sql_params.body(str(self.question.get("sql") or ""))

    def given(self) -> dict[str, Value]:
        """Values for the parameters: as last filled in, else the defaults; None where there is neither."""
        name = str(self.question["name"]) if self.question else ""
        defaults = {str(each["name"]): each.get("default") for each in (self.question or {}).get("params", ())}
        known = {**defaults, **self.values.get("", {}), **self.values.get(name, {})}
        if self.from_question:
            return {each: known.get(each) for each in defaults}
        return {each: known.get(each) for each in params(self.editor.text)}

    def fill_in(self) -> None:
        """Ask for the parameters, with what they were last time or by default, and run."""
        given = self.given()
        types = sql_params.declared(self.question, given)
        types = {name: types[name] for name in given}
        about = {str(each["name"]): each for each in (self.question or {}).get("params", ())}
        details = [
            f"{name}: {clean_line(' '.join(str(about[name].get(part) or '') for part in ('type', 'meaning')))}"
            for name in given
            if name in about
        ]
        title = clean_line(str(self.question["title"])) if self.question and self.from_question else "this SQL"

        def answer(text: str) -> None:
            try:
                read = sql_params.read(text, types)
            except ParamError as error:
                self.say(str(error), "bad")
                self.ask_values(text, title, details, answer)
                return
            self.values[str(self.question["name"]) if self.question else ""] = read
            self.run_it()

        self.ask_values(sql_params.written(given), title, details, answer)

    def ask_values(self, text: str, title: str, details: Sequence[str], answer: Callable[[str], None]) -> None:
        """The line in which parameters are filled in."""
        self.ask(
            Question(
                title=f"Parameters of {title}", details=details[:6] or (UNTOLD,), text=text, label="values", go="ask",
                answer=answer, guarded=False, alarm=False,
            )
        )  # fmt: skip

    def run_it(self) -> None:
        """Run what is in the editor: the question as it is, else the text."""
        text = self.editor.text
        if not text.strip() and not self.from_question:
            self.say("there is nothing to run: write a SELECT, or pick a question", "warn")
            return
        given = self.given()
        needed = {str(each["name"]) for each in (self.question or {}).get("params", ()) if each.get("required")}
        if [name for name, value in given.items() if value is None and (not self.from_question or name in needed)]:
            self.fill_in()
            return
        values = {name: value for name, value in given.items() if value is not None}
        name = str(self.question["name"]) if self.question is not None and self.from_question else ""
        self.editor.mark(None)
        self.start(self._run(Asked(text, name, values)), "sql-run")

    async def _run(self, asked: Asked) -> None:
        if asked.text.strip() and not asked.query:
            self.start(self._remember(asked.text.strip()), "sql-remember")
        if await self.asking.open(asked):
            self.grid.take(self.asking.result)
            self.answered()
        else:
            self.place_error(self.asking.error)
        if self.is_current:
            self.sync()

    def answered(self) -> None:
        """A new result has come."""
        raise NotImplementedError

    def place_error(self, error: SqlError | None) -> None:
        """Show where in the text the error is, while it is still that text."""
        if error is not None and error.line:
            self.editor.mark(error)

    async def _remember(self, text: str) -> None:
        """Add to the past queries; a disk that cannot be written only loses them with the terminal."""
        past = [*(each for each in self.walk.past if each != text), text]
        if lab := self.model.lab:
            with suppress(OSError):
                past = await asyncio.to_thread(sql_history.add, sql_history.place(lab["root"]), text)
        self.walk.set(past)
        self.list_again()

    def fetch_rows(self) -> None:
        """Ask for the rows that are visible and those around them, where they are not here yet."""
        result, grid = self.asking.result, self.grid
        if result is None or result.lost or self.cockpit.link.state != "connected":
            return
        if result.pages.wanted(grid.top, grid.rows_visible, grid.down) is not None:
            self.start(self.asking.fetch(grid.top, grid.rows_visible, grid.down), "sql-rows")
