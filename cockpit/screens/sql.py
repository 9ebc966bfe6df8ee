"""Screen 3: the history asked in SQL. Panes: questions, editor, result; below 120 columns the questions lie over the rest."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar, cast

from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import TextArea

from .. import format as f
from .. import keys
from ..sql_complete import complete
from ..sql_grid import exact
from ..sql_params import written
from ..summary import SORTS, RowKey
from ..widgets.lines import BLANK, Line, Lines, Span, rule
from ..widgets.prompt import Question
from ..widgets.question_list import QuestionList, entries
from ..widgets.result_grid import ResultGrid
from ..widgets.sql_editor import SqlEditor
from ..widgets.sql_popup import Suggestions
from .runs import RunsScreen
from .sql_taking import SqlTaking

NARROW = 120
PANES = ("questions", "editor", "grid")
NAMES_A_RUN = ("shard", "shard_id", "run", "run_id", "experiment", "experiment_id", "id")
"""Columns whose values open something on Runs, the more special first."""


class SqlScreen(SqlTaking):
    """Layout and moving; what is asked and taken away is in the classes below."""

    scope = "sql"
    within = ("editor",)
    CSS_PATH: ClassVar[list[str]] = ["base.tcss", "sql.tcss"]  # type: ignore[assignment]
    BINDINGS = keys.bindings("all", "sql")

    def __init__(self) -> None:
        super().__init__()
        self.pane = "questions"
        self._dressed: object = None

    def body(self) -> Iterable[Widget]:
        yield Horizontal(
            QuestionList(self.sync_soon),
            Vertical(
                Lines(id="asked"),
                SqlEditor(self.popup_key, self.at_edge),
                Lines(id="said"),
                ResultGrid(self.sync_soon),
                id="work",
            ),
            id="body",
        )
        yield Suggestions()

    @property
    def popup(self) -> Suggestions:
        return self.query_one(Suggestions)

    @property
    def narrow(self) -> bool:
        return self.has_class("narrow")

    # --- showing

    def on_resize(self) -> None:
        self.set_class(self.size.width < NARROW, "narrow")
        self.close_popup()
        self._fit_editor()
        super().on_resize()

    def _fit_editor(self) -> None:
        """The editor is as high as its text needs, at most a third of the screen."""
        editor = self.editor
        most = max((self.size.height - 2) // 3, 3)
        height = min(max(editor.wrapped_document.height, 3), most)
        if editor.styles.height is None or editor.styles.height.value != height:
            editor.styles.height = height

    def sync_body(self) -> None:
        self.load_soon()
        self.set_class(self.narrow and self.pane == "questions" and not self.has_class("zoom"), "listing")
        focused = self.pane if not self.prompt.is_open else ""
        self._focus()
        if self.menu.size.width:
            self.menu.redraw(focused=focused == "questions", terms=self.terms, empty=self._no_questions())
        self.query_one("#asked", Lines).show([self._asked(focused == "editor")])
        self._say()
        if self.grid.size.width:
            self.grid.redraw(focused=focused == "grid", note=self._note(), empty=self._no_result())
        self.fetch_rows()
        if self.cockpit.palette is not self._dressed:
            self._dressed = self.cockpit.palette
            self.editor.dress()

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

    def _move(self, by: int) -> None:
        if self.pane == "questions":
            self.menu.move(by)
        else:
            self.grid.move(by)

    def _page(self) -> int:
        pane = self.menu.size.height if self.pane == "questions" else self.grid.rows_visible
        return max(pane // 2, 1)

    def do_down(self) -> None:
        self._move(1)

    def do_up(self) -> None:
        self._move(-1)

    def do_half_down(self) -> None:
        self._move(self._page())

    def do_half_up(self) -> None:
        self._move(-self._page())

    def do_top(self) -> None:
        self._move(-(1 << 60))

    def do_bottom(self) -> None:
        self._move(1 << 60)

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

    # --- the editor

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

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        if not self.is_mounted:
            return
        self._fit_editor()
        if self.asking.error is not None and self.asking.error.line:
            self.asking.error = None
            self.editor.mark(None)
        if self.pane == "editor" and self.editor.has_focus:
            self._suggest(forced=False)
        self.sync()

    def on_text_area_selection_changed(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        popup = self.popup
        if popup.is_open and not popup.completion.start <= self.editor.cursor:
            self.close_popup()

    def on_descendant_focus(self) -> None:
        if self.focused is self.editor and self.pane != "editor":
            self.pane = "editor"

    def do_complete(self) -> None:
        self._suggest(forced=True)

    def _suggest(self, *, forced: bool) -> None:
        """Offer what could stand here: once a letter or a dot was typed, or when asked."""
        editor, popup = self.editor, self.popup
        text, cursor = editor.text, editor.cursor
        found = complete(text, cursor, self.schema)
        typed = text[found.start : cursor]
        wanted = forced or bool(typed) or text[:cursor].endswith(".")
        done = not forced and len(found.items) == 1 and found.items[0].text.lower() == typed.lower()
        if not wanted or done or not found.items:
            self.close_popup()
            return
        popup.offer(found)
        width, height = popup.measure()
        place = editor.cursor_screen_offset
        below = place.y + 1
        if below + height > self.size.height - 1:
            below = max(place.y - height, 1)
        left = min(max(place.x - len(typed) - 3, 0), max(self.size.width - width, 0))
        popup.styles.offset = (left, below)
        popup.styles.width, popup.styles.height = width, height
        popup.display = True
        popup.redraw()
        popup.call_after_refresh(popup.redraw)

    def close_popup(self) -> None:
        if self.is_mounted and self.popup.is_open:
            self.popup.close()
            self.popup.display = False

    def popup_key(self, key: str) -> bool:
        """Whether the open suggestions took the key."""
        popup = self.popup
        chosen = popup.chosen
        if chosen is None:
            return False
        if key == "tab":
            start = popup.completion.start
            self.close_popup()
            self.editor.take(start, chosen.text)
            self.close_popup()
        elif key in ("down", "up"):
            popup.move(1 if key == "down" else -1)
            popup.redraw()
        elif key == "escape":
            self.close_popup()
        else:
            if key in ("left", "right", "home", "end", "enter"):
                self.close_popup()
            return False
        return True

    def at_edge(self, by: int) -> bool:
        """Go through past queries; whether there was one."""
        text = self.walk.back(self.editor.text) if by < 0 else self.walk.forth()
        if text is None:
            return False
        self.editor.put(text)
        self.close_popup()
        return True

    def do_earlier(self) -> None:
        self.editor.action_cursor_up()

    def do_newer(self) -> None:
        self.editor.action_cursor_down()

    # --- the result

    def why_not(self, action: str) -> str | None:
        if not self.is_mounted:
            return super().why_not(action)
        result = self.asking.result
        rows = (
            "left",
            "right",
            "first_column",
            "last_column",
            "sort",
            "cell",
            "copy_row",
            "copy_column",
            "copy",
            "export",
        )
        if action in (*rows, "zoom") and result is None:
            return "there is no result yet: pick a question, or write SQL and run it"
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
        if result is None or self.grid.open_at is not None:
            self.grid.open_at = None
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


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else f.duration(value)
