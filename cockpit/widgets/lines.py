"""The one way that text reaches the screen: lines of named spans, of which only those that changed are painted again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from ..format import fit, width_of
from ..themes import Palette

Span = tuple[str, str]
"""A piece of clean text and the name of its colour in the theme."""


@dataclass(frozen=True, slots=True)
class Line:
    """Spans from left to right on one fill (a background's name in the theme)."""

    spans: tuple[Span, ...] = ()
    fill: str = "background"

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.spans)

    def on(self, fill: str) -> Line:
        """The same line on another background."""
        return Line(self.spans, fill)


def line(*spans: Span | str, fill: str = "background") -> Line:
    """A line; a bare string is a span in the colour of text."""
    return Line(tuple((each, "text") if isinstance(each, str) else each for each in spans), fill)


BLANK = Line()


def rule(title: str, width: int, note: str = "", *, focused: bool = False) -> Line:
    """A pane's head: its title, a thin rule and, at the right, a note."""
    head = f"{title} " if title else ""
    tail = f" {note}" if note else ""
    room = max(width - width_of(head) - width_of(tail), 0)
    return Line(((head, "accent" if focused else "dim"), ("─" * room, "rule"), (tail, "faint")))


def paint(row: Line, width: int, palette: Palette) -> Strip:
    """The line as a strip of exactly `width` cells."""
    segments: list[Segment] = []
    left = width
    for text, name in row.spans:
        if left <= 0:
            break
        size = width_of(text)
        if size > left:
            text, size = fit(text, left), left
        segments.append(Segment(text, palette.style(name, row.fill)))
        left -= size
    if left > 0:
        style = (
            segments[-1].style if segments else palette.style("text", row.fill)
        )  # the same style again costs nothing
        segments.append(Segment(" " * left, style))
    return Strip(segments, width)


class Lines(Widget):
    """A box of lines, cut at its edges; it never wraps, scrolls or takes the focus by itself."""

    can_focus = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []

    @property
    def palette(self) -> Palette:
        return cast(Palette, cast(Any, self.app).palette)

    @property
    def lines(self) -> Sequence[Line]:
        """What is shown now."""
        return self._lines

    def show(self, lines: Iterable[Line]) -> None:
        """Show these lines from the top; ask for a repaint of exactly those that differ from what was shown."""
        new = list(lines)
        old, self._lines = self._lines, new
        if not self.is_attached:
            return
        width, height = self.size
        changed = [
            Region(0, y, width, 1)
            for y in range(min(height, max(len(new), len(old))))
            if (new[y] if y < len(new) else BLANK) != (old[y] if y < len(old) else BLANK)
        ]
        if len(changed) == height and changed:
            self.refresh()
        elif changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        row = self._lines[y] if y < len(self._lines) else BLANK
        return paint(row, self.size.width, self.palette)
