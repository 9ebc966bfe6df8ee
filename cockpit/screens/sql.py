"""Screen 3: the history asked in SQL. Panes: questions, editor, result; below 120 columns the questions lie over the rest."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from .. import format as f
from .. import keys
from ..sql_params import written
from ..widgets.lines import BLANK, Line, Lines, Span, rule
from ..widgets.picture import Picture
from ..widgets.question_list import QuestionList
from ..widgets.result_grid import ResultGrid
from ..widgets.sql_editor import SqlEditor
from ..widgets.sql_popup import Suggestions
from .sql_writing import SqlWriting

NARROW = 120
PANES = ("questions", "editor", "grid")


class SqlScreen(SqlWriting):
    """Layout and moving; what is asked and taken away is in the classes below."""

    scope = "sql"
    within = ("editor",)
    CSS_PATH: ClassVar[list[str]] = ["base.tcss", "sql.tcss"]  # type: ignore[assignment]
    BINDINGS = keys.bindings("all", "sql")

    def __init__(self) -> None:
        super().__init__()
        self._dressed: object = None

    def body(self) -> Iterable[Widget]:
        yield Horizontal(
            QuestionList(self.sync_soon),
            Vertical(
                Lines(id="asked"),
                SqlEditor(self.popup_key, self.at_edge),
                Lines(id="said"),
                ResultGrid(self.sync_soon),
                Picture(),
                id="work",
            ),
            id="body",
        )
        yield Suggestions()

    @property
    def narrow(self) -> bool:
        return self.has_class("narrow")

    # --- showing

    def on_resize(self) -> None:
        self.set_class(self.size.width < NARROW, "narrow")
        self.close_popup()
        self.fit_editor()
        super().on_resize()

    def sync_body(self) -> None:
        self.load_soon()
        self.set_class(self.narrow and self.pane == "questions" and not self.has_class("zoom"), "listing")
        focused = self.pane if not self.prompt.is_open else ""
        self._focus()
        if self.menu.size.width:
            self.menu.redraw(focused=focused == "questions", terms=self.terms, empty=self._no_questions())
        self.show_asked()
        if self.grid.size.width:
            self.grid.redraw(focused=focused == "grid", note=self._note(), empty=self._no_result())
        self.fetch_rows()
        if self.cockpit.palette is not self._dressed:
            self._dressed = self.cockpit.palette
            self.editor.dress()

    def show_asked(self) -> None:
        focused = self.pane == "editor" and not self.prompt.is_open
        self.query_one("#asked", Lines).show([self._asked(focused)])
        self._say()

    def _focus(self) -> None:
        if self.prompt.is_open:
            return
        if self.pane == "editor" and self.focused is not self.editor:
            self.set_focus(self.editor, scroll_visible=False)
        elif self.pane != "editor" and self.focused is self.editor:
            self.set_focus(None)

    def _no_questions(self) -> str:
        if self.terms:
            return "No question matches; esc clears the filter."
        return self.trouble or ("the engine is asked for its questions" if self._linked else "not connected")

    def _asked(self, focused: bool) -> Line:
        width = self.query_one("#asked").size.width
        title = "SQL"
        if self.question is not None:
            name = str(self.question["name"])
            title = name if self.from_question else f"{name}, changed"
        values = written({name: value for name, value in self.given().items() if value is not None})
        hint = "ctrl+r runs · tab takes a suggestion · esc leaves" if focused else "i writes · ctrl+r runs"
        room = max(width - f.width_of(hint) - f.width_of(title) - 8, 0)
        shown = f.fit(values, min(f.width_of(values), room)) if room > 8 else ""
        return rule(f"{title}  {shown}" if shown else title, width, hint, focused=focused)

    def _say(self) -> None:
        """The error, or the notes of the result, below the editor."""
        box = self.query_one("#said", Lines)
        error, result = self.asking.error, self.asking.result
        width = max(self.query_one("#work").size.width, 20)
        lines: list[Line] = []
        if error is not None:
            colour = "warn" if error.message.startswith("cancelled") else "bad"
            lines = [Line(((part, colour),)) for part in f.wrap(error.sentence, width, 4)]
        elif result is not None and result.lost:
            lines = [Line(((part, "warn"),)) for part in f.wrap(result.lost, width, 2)]
        elif result is not None and result.notes:
            lines = [Line(((part, "dim"),)) for part in f.wrap(" · ".join(result.notes), width, 2)]
        box.styles.height = max(len(lines), 1)
        box.display = bool(lines) and not self.has_class("zoom")
        box.show(lines)

    def _note(self) -> Span:
        """What the head of the result says: how long, how many, how old."""
        session = self.asking
        if session.running is not None:
            return f"running {_seconds(session.elapsed)} · esc cancels", "run"
        result = session.result
        if result is None:
            return "", "faint"
        parts = [f"{min(self.grid.row + 1, result.total):,}/{result.total:,}"]
        if result.filter:
            parts.append(f"/ {result.filter} (of {result.rows:,})")
        if result.truncated:
            parts.append(f"cut at {result.rows:,} rows")
        parts += [f"{result.ms:,.0f} ms" if result.ms >= 10 else f"{result.ms:.1f} ms"]
        asked = time.strftime("%H:%M:%S", time.localtime(result.at + result.age_s))
        parts.append(f"data {_seconds(result.age_s)} old at {asked}")
        return " · ".join(parts), "warn" if result.truncated else "faint"

    def _no_result(self) -> list[Line]:
        if self.asking.running is not None:
            return []
        said = ("Pick a question with enter, or write SQL (i) and run it (ctrl+r).",
                "Tables, columns and functions are suggested as you type.")  # fmt: skip
        return [BLANK, *(Line(((f"  {each}", "dim"),)) for each in said)]

    def show_running(self) -> None:
        if self.is_current and self.grid.size.width:
            self.grid.redraw(focused=self.pane == "grid", note=self._note(), empty=self._no_result())

    def answered(self) -> None:
        self.close_popup()
        self.remove_class("picture")
        if self.pane != "editor" or self.narrow:
            self.to_pane("grid")

    # --- moving

    def to_pane(self, pane: str) -> None:
        self.close_popup()
        if pane != "grid":
            self.remove_class("zoom")
        self.pane = pane
        self.sync_soon()

    def do_next_pane(self) -> None:
        self.to_pane(PANES[(PANES.index(self.pane) + 1) % 3])

    def do_previous_pane(self) -> None:
        self.to_pane(PANES[(PANES.index(self.pane) - 1) % 3])

    def move(self, by: int) -> None:
        if self.pane == "questions":
            self.menu.move(by)
        else:
            self.grid.move(by)

    def half_page(self) -> int:
        pane = self.menu.size.height if self.pane == "questions" else self.grid.rows_visible
        return max(pane // 2, 1)

    def do_left(self) -> None:
        self.grid.sideways(-1)

    def do_right(self) -> None:
        self.grid.sideways(1)

    def do_first_column(self) -> None:
        self.grid.sideways(-(1 << 30))

    def do_last_column(self) -> None:
        self.grid.sideways(1 << 30)

    def do_zoom(self) -> None:
        self.toggle_class("zoom")
        self.pane = "grid"
        self.sync_soon()

    def do_back(self) -> None:
        """One layer: the running query, the whole cell, the large result, the editor, a filter, the list, the screen."""
        result = self.asking.result
        if self.asking.running is not None:
            self.start(self.asking.cancel(), "sql-cancel")
        elif self.pane == "editor":
            self.to_pane("grid" if result is not None else "questions")
        elif self.pictured:
            self.show_picture(False)
        elif self.grid.open_at is not None:
            self.grid.open_at = None
        elif self.has_class("zoom"):
            self.do_zoom()
        elif self.pane == "grid" and result is not None and result.filter:
            self.start(self._arrange(result.sort, ""), "sql-arrange")
        elif self.pane == "grid":
            self.to_pane("questions")
        elif self.terms:
            self._filter_list("")
        else:
            self.cockpit.show_screen("runs")

    # --- doing

    def do_edit(self) -> None:
        self.to_pane("editor")

    def do_run(self) -> None:
        self.close_popup()
        self.run_it()

    def do_parameters(self) -> None:
        if self.pane == "questions" and self.menu.entry is not None and self.menu.entry.question is not None:
            self.pick()
        else:
            self.fill_in()


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else f.duration(value)
