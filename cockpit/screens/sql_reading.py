"""Screen 3, reading a result: order, filter, whole cells, pictures, and the run that a row is about."""

from __future__ import annotations

from typing import cast

from engine.text import clean_line

from .. import plotting
from ..drawing import NoPicture
from ..sql_grid import exact
from ..summary import SORTS, RowKey
from ..widgets.picture import Picture
from ..widgets.prompt import Question
from ..widgets.question_list import entries
from .runs import RunsScreen
from .sql_taking import SqlTaking

NAMES_A_RUN = ("shard", "shard_id", "run", "run_id", "experiment", "experiment_id", "id")
"""Columns whose values open something on Runs, the more special first."""

DRAWN = 10_000
"""Rows that a picture is drawn of at most, the first in their present order."""


class SqlReading(SqlTaking):
    """Adds what is done with the rows where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.pane = "questions"

    @property
    def pictured(self) -> bool:
        """Whether a picture stands in the place of the rows."""
        return self.has_class("picture")

    def why_not(self, action: str) -> str | None:
        if not self.is_mounted:
            return super().why_not(action)
        result = self.asking.result
        moves = ("left", "right", "first_column", "last_column")
        rows = (*moves, "sort", "cell", "copy", "copy_row", "copy_column", "export", "plot")
        if action in (*rows, "zoom") and result is None:
            return "there is no result yet: pick a question, or write SQL and run it"
        if action in rows and self.has_class("listing"):
            return "the questions lie over the result: tab, then esc goes to it"
        if action in rows and result is not None and not result.columns:
            return "the result has no columns"
        if action in ("cell", "copy", "copy_row") and result is not None and not result.total:
            return "the result has no rows"
        if action == "parameters" and self.pane != "questions" and not self.given():
            return "this SQL has no parameters: name one as in `limit $rows`"
        if action == "save" and not self.editor.text.strip():
            return "there is no SQL to keep: write it first"
        return super().why_not(action)

    def do_open(self) -> None:
        if self.pane == "questions":
            self.pick()
            return
        result = self.asking.result
        if result is None or self.pictured or self.grid.open_at is not None:
            self.grid.open_at = None
            self.show_picture(False)
            return
        key = self._run_of_row()
        if key is None:
            self.do_cell()
        else:
            self._open_on_runs(key)

    def _run_of_row(self) -> RowKey | None:
        """The experiment or shard that the row under the cursor names, if the lab knows it."""
        result = self.asking.result
        values = result.pages.get(self.grid.row) if result is not None else None
        if result is None or values is None:
            return None
        named = {name.lower(): exact(value) for name, value in zip(result.names, values, strict=True)}
        for name in NAMES_A_RUN:
            found = named.get(name, "")
            if found in self.model.shards:
                return RowKey(self.model.shards[found]["experiment"], found)
            if found in self.model.experiments:
                return RowKey(found)
        return None

    def _open_on_runs(self, key: RowKey) -> None:
        runs = cast(RunsScreen, self.cockpit.get_screen("runs"))
        runs.terms = ""
        if runs.sort not in SORTS:
            runs.sort = SORTS[0]
        if key.shard is not None:
            runs.unfolded.add(key.experiment)
        runs.table.cursor = key
        self.cockpit.show_screen("runs")

    def do_cell(self) -> None:
        self.remove_class("picture")
        self.grid.open_at = None if self.grid.open_at is not None else 0
        self.pane = "grid"

    def do_sort(self) -> None:
        result, column = self.asking.result, self.grid.under
        assert result is not None
        assert column is not None
        place = self.grid.column
        down_first = column.number
        before = dict(result.sort).get(place)
        order = [(place, down_first)] if before is None else [(place, not down_first)] if before == down_first else []
        self.start(self._arrange(order, result.filter), "sql-arrange")

    async def _arrange(self, order: list[tuple[int, bool]], terms: str) -> None:
        problem = await self.asking.arrange(order, terms)
        if problem is None:
            self.grid.home()
        else:
            self.say(problem, "bad")
        if self.is_current:
            self.sync()

    def do_filter(self) -> None:
        if self.pane == "questions":
            self._ask_list_filter()
            return
        result = self.asking.result
        if result is None:
            self.say("there is no result to filter yet", "warn")
            return
        self.ask(
            Question(
                title="Rows that are shown", text=result.filter, label="filter", go="show them", guarded=False, alarm=False,
                details=("a text in any column, or: column op value, with op one of = != < <= > >= ~; several all hold",),
                answer=lambda text: self.start(self._arrange(result.sort, text), "sql-arrange"),
            )
        )  # fmt: skip

    def _ask_list_filter(self) -> None:
        self.ask(
            Question(
                title="filter", text=self.terms, go="keep", guarded=False, alarm=False, answer=self._filter_list,
                changed=self._filter_list, cancelled=lambda: self._filter_list(""),
            )
        )  # fmt: skip

    def _filter_list(self, text: str) -> None:
        self.terms = text
        self.menu.set(entries(self.questions, self.walk.past, text))
        self.sync()

    # --- pictures

    def do_plot(self) -> None:
        """Ask what to draw; the question's own picture, or a guess with the column under the cursor, stands there already."""
        result = self.asking.result
        assert result is not None
        words = plotting.words_of(result.picture)
        if not words:
            held = [result.pages.rows[index] for index in sorted(result.pages.rows)[:200]]
            guessed = plotting.guess(result.names, held)
            if guessed is not None:
                at = self.grid.column
                upward = at if result.columns[at].number and at != guessed.x else guessed.y
                words = [guessed.kind, self._word(guessed.x), self._word(upward)]
        self._ask_picture(" ".join(words))

    def _word(self, place: int) -> str:
        """A column as `plotting.choose` reads it: its name, or its number where the name has spaces."""
        result = self.asking.result
        name = result.names[place] if result is not None else ""
        return name if name == clean_line(name) and len(name.split()) == 1 else str(place + 1)

    def _ask_picture(self, text: str) -> None:
        result = self.asking.result
        names = ", ".join(result.names) if result is not None else ""

        def answer(given: str) -> None:
            try:
                choice = plotting.choose(given.split(), result.names if result is not None else [])
            except NoPicture as problem:
                self.say(str(problem), "bad")
                self._ask_picture(given)
                return
            self.start(self._draw(choice), "sql-picture")

        details = ("scatter X Y, lines X Y [SERIES], steps X Y [SERIES] or bars LABEL VALUE", clean_line(f"of {names}"))
        self.ask(
            Question(
                title="Draw two columns", details=details, text=clean_line(text), label="picture", go="draw", required=True,
                answer=answer, guarded=False, alarm=False,
            )
        )  # fmt: skip

    async def _draw(self, choice: plotting.Choice) -> None:
        result = self.asking.result
        rows = None if result is None else await self.first_rows(result, DRAWN)
        if result is None or rows is None:
            return
        cut = f"picture of the first {len(rows):,} of {result.total:,} rows" if len(rows) < result.total else "picture"
        self.cockpit.message = None
        self.query_one(Picture).show(choice.kind, result.names, rows, choice.x, choice.y, choice.series, cut)
        self.show_picture(True)

    def show_picture(self, on: bool) -> None:
        """The picture in the place of the rows, or the rows again."""
        self.set_class(on, "picture")
        self.pane = "grid" if on else self.pane
        self.sync_soon()
