"""A result as a grid: only what is visible is painted, so a million rows scroll as quickly as ten.

At an edge it moves by half a page, not by a line: a scroll repaints everything, a cursor move two lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import format as f
from ..sql_grid import Column, cell, whole, widths, window
from ..sql_session import Result
from .lines import BLANK, Line, Lines, Span, rule


class ResultGrid(Lines):
    """The grid with its cursor, a cell. Lines: the head, the names, then rows."""

    def __init__(self, sized: Callable[[], None] = lambda: None) -> None:
        super().__init__(id="grid")
        self._sized = sized  # told when there is another size to fill
        self.result: Result | None = None
        self.row = 0
        self.column = 0
        self.top = 0
        self.first = 1
        self.down = True
        self._sizes: list[int] = []
        self.open_at: int | None = None  # first visible line of the cell that is shown whole

    def on_resize(self) -> None:
        self._sized()

    @property
    def rows_visible(self) -> int:
        return max(self.size.height - 2, 1)

    @property
    def under(self) -> Column | None:
        """The column under the cursor."""
        result = self.result
        return result.columns[self.column] if result is not None and self.column < len(result.columns) else None

    def take(self, result: Result | None) -> None:
        """Another result: the cursor goes to its first cell."""
        if result is not self.result:
            self.result = result
            self.column = 0
            self.first = 1
            self.home()

    def home(self) -> None:
        """The first row, as after sorting."""
        self.row = self.top = 0
        self.down = True
        self.open_at = None

    def move(self, by: int) -> None:
        """Move by rows; within the cell that is shown whole, by lines."""
        if self.open_at is not None:
            self.open_at = max(self.open_at + by, 0)
        elif self.result is not None:
            self.down = by >= 0
            self.row = min(max(self.row + by, 0), max(self.result.total - 1, 0))
            self._scroll()

    def sideways(self, by: int) -> None:
        """Move by columns."""
        if self.result is not None:
            self.column = min(max(self.column + by, 0), max(len(self.result.columns) - 1, 0))

    def _scroll(self) -> None:
        page = self.rows_visible
        if self.row < self.top:
            self.top = max(self.row - page // 2, 0)
        elif self.row >= self.top + page:
            self.top = self.row - page // 2
        total = self.result.total if self.result is not None else 0
        self.top = min(self.top, max(total - page, 0))

    def redraw(self, *, focused: bool, note: Span, empty: Sequence[Line]) -> None:
        """Paint what is visible; `empty` where there is no result."""
        width, result = self.size.width, self.result
        head = self._head(width, focused, note)
        if result is None:
            self.show([head, *empty])
            return
        if self.open_at is not None:
            self.show([head, *self._cell_lines(result, width)])
            return
        self._scroll()
        self._sizes = widths(result.columns, width)
        self.first, shown = window(self._sizes, self.column, self.first, width)
        lines = [head, self._names(result, shown, width)]
        for index in range(self.top, min(self.top + self.rows_visible, result.total)):
            made = self._row(result, index, shown, width)
            lines.append(made.on("cursor" if focused else "raised") if index == self.row else made)
        if result.total == 0:
            said = "no row matches this filter; esc clears it" if result.filter else "no rows"
            lines += [BLANK, Line(((f"  {said}", "dim"),))]
        self.show(lines)

    def _head(self, width: int, focused: bool, note: Span) -> Line:
        text, colour = note
        made = rule("result", width, f.fit(text, min(f.width_of(text), max(width - 10, 4))), focused=focused)
        *before, (tail, _) = made.spans
        return Line((*before, (tail, colour)))

    def _names(self, result: Result, shown: Sequence[int], width: int) -> Line:
        order = {column: ("▾" if down else "▴") for column, down in result.sort}
        spans: list[Span] = []
        for place in shown:
            column = result.columns[place]
            name = f.fit(column.name + order.get(place, ""), self._room(place, spans, width), right=column.number)
            spans += [("  ", "faint"), (name, "accent" if place == self.column else "faint")]
        more = shown and shown[-1] < len(result.columns) - 1
        left = width - sum(f.width_of(text) for text, _ in spans)
        if more and left >= 2:
            spans.append((f.fit("…", left, right=True), "faint"))
        return Line(tuple(spans))

    def _room(self, place: int, spans: Sequence[Span], width: int) -> int:
        used = sum(f.width_of(text) for text, _ in spans) + 2
        return max(min(self._sizes[place], width - used), 1)

    def _row(self, result: Result, index: int, shown: Sequence[int], width: int) -> Line:
        values = result.pages.get(index)
        if values is None:
            return Line((("  …", "faint"),))
        faded = "faint" if result.lost else ""
        spans: list[Span] = []
        used = 0
        for place in shown:
            column = result.columns[place]
            size = max(min(self._sizes[place], width - used - 2), 1)
            text, colour = cell(values[place], column)
            here = index == self.row and place == self.column
            if here:
                colour = "strong" if colour == "text" else colour
            spans += [(" ▏" if here else "  ", "accent"), (f.fit(text, size, right=column.number), faded or colour)]
            used += size + 2
        return Line(tuple(spans))

    def _cell_lines(self, result: Result, width: int) -> list[Line]:
        """The cell under the cursor in full, wrapped."""
        values = result.pages.get(self.row)
        column = result.columns[self.column]
        title = Line(((f"  {column.name}", "accent"), (f"  {column.type} · row {self.row + 1:,}", "faint")))
        if values is None or self.open_at is None:
            return [title]
        lines = [part for text in whole(values[self.column], column) for part in (_chunks(text, width - 4) or [""])]
        room = max(self.rows_visible - 1, 1)
        self.open_at = min(self.open_at, max(len(lines) - room, 0))
        shown = lines[self.open_at : self.open_at + room]
        return [title, BLANK, *(Line(((f"  {text}", "text"),)) for text in shown)]


def _chunks(text: str, width: int) -> list[str]:
    """A line cut into pieces of at most `width` cells, nothing left out."""
    width = max(width, 8)
    if text.isascii():
        return [text[at : at + width] for at in range(0, len(text), width)]
    out: list[str] = []
    piece, size = "", 0
    for char in text:
        wide = f.width_of(char)
        if size + wide > width:
            out.append(piece)
            piece, size = "", 0
        piece, size = piece + char, size + wide
    return [*out, piece] if piece else out
