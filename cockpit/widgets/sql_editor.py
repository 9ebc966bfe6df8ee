"""Where SQL is written: a text area with colours of its own tokenizer, and nothing a control character could get through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.widgets import TextArea
from textual.widgets.text_area import TextAreaTheme

from engine.text import clean

from .. import keys
from ..sql_errors import SqlError
from ..sql_tokens import colours
from ..themes import Palette

LONGEST = 200_000
"""Characters that are coloured; a text beyond that is shown plain."""


class SqlEditor(TextArea):
    """One statement. `popup_open` says whether keys go to the suggestions; `at_edge` is told of up and down at an edge."""

    BINDINGS: ClassVar[list[BindingType]] = keys.bindings("editor")

    def __init__(self, popup_key: Callable[[str], bool], at_edge: Callable[[int], bool]) -> None:
        super().__init__(
            soft_wrap=True, tab_behavior="focus", compact=True, highlight_cursor_line=False, show_line_numbers=False,
        )  # fmt: skip
        self.cursor_blink = False
        self.match_cursor_bracket = False
        self._popup_key = popup_key
        self._at_edge = at_edge
        self._colours: list[list[tuple[int, int, str]]] = [[]]
        self._coloured: str | None = None
        self.wrong: SqlError | None = None

    @property
    def palette(self) -> Palette:
        return cast(Palette, cast(Any, self.app).palette)

    @property
    def cursor(self) -> int:
        """Where the cursor is, in characters from the start."""
        row, column = self.cursor_location
        return sum(len(self.document.get_line(each)) + 1 for each in range(row)) + column

    def location(self, offset: int) -> tuple[int, int]:
        """Row and column of a character."""
        before = self.text[:offset]
        return before.count("\n"), offset - (before.rfind("\n") + 1)

    def put(self, text: str, *, at_end: bool = True) -> None:
        """Another text in the place of what is there, the cursor at its end or start; undo brings the old one back."""
        self.replace(clean(text).replace("\t", "    "), (0, 0), self.document.end)
        self.move_cursor(self.document.end if at_end else (0, 0))

    def take(self, start: int, text: str) -> None:
        """A suggestion, in the place of what was typed of it."""
        self.replace(text, self.location(start), self.cursor_location)

    def mark(self, error: SqlError | None) -> None:
        """Underline where an error is, and put the cursor there; None takes the mark away."""
        if error == self.wrong:
            return
        self.wrong = error
        if error is not None and error.line:
            self.move_cursor((error.line - 1, error.column - 1))
        self.repaint()

    def repaint(self) -> None:
        """Paint all of it again: colours have changed, not the text."""
        self._line_cache.clear()
        self.refresh()

    def on_mount(self) -> None:
        self.dress()

    def dress(self) -> None:
        """Take the colours of the present theme."""
        paint = self.palette.style
        plain = paint("text")
        self.register_theme(
            TextAreaTheme(
                name="cockpit",
                base_style=plain,
                cursor_style=Style(reverse=True) + plain,
                selection_style=Style(bgcolor=paint("text", "cursor").bgcolor, reverse=self.palette.theme.ansi or None),
            )
        )
        self.theme = "cockpit"
        self._set_theme("cockpit")
        self.repaint()

    def get_line(self, line_index: int) -> Text:
        """The line in its colours, the place of an error underlined."""
        row = super().get_line(line_index)
        text = self.text
        if text != self._coloured:
            self._coloured = text
            self._colours = colours(text) if len(text) < LONGEST else []
        if line_index < len(self._colours):
            for start, end, name in self._colours[line_index]:
                row.stylize(Style(color=self.palette.style(name).color), start, end)
        wrong = self.wrong
        if wrong is not None and wrong.line == line_index + 1:
            style = Style(color=self.palette.style("bad").color, underline=True)
            row.stylize(style, wrong.column - 1, wrong.column - 1 + wrong.length)
        return row

    async def _on_key(self, event: events.Key) -> None:
        """Suggestions first, then past queries at an edge, then the text."""
        row = self.cursor_location[0]
        edge = -1 if event.key == "up" and row == 0 else 0
        edge = 1 if event.key == "down" and row == self.document.line_count - 1 else edge
        if self._popup_key(event.key) or (edge and self._at_edge(edge)):
            event.stop()
            event.prevent_default()
        elif event.key in ("escape", "tab", "shift+tab"):
            return  # the screen's
        else:
            await super()._on_key(event)

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        self.replace(clean(event.text).replace("\t", "    "), *self.selection)
