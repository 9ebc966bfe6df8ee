"""The pane that draws an answer as scatter, lines, steps or bars (`cockpit.drawing`), anew when data or size change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from textual.strip import Strip
from textual.widget import Widget

from ..drawing import NoPicture, picture
from ..themes import Palette
from .lines import BLANK, Line, paint, rule


class Picture(Widget):
    """A picture in whatever box it is given; it never scrolls or takes the focus by itself."""

    can_focus = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._asked: tuple[str, Sequence[str], Sequence[Sequence[Any]], int, int, int | None, str] | None = None
        self._drawn: list[Line] = []
        self._drawn_at: tuple[int, int] | None = None

    @property
    def palette(self) -> Palette:
        return cast(Palette, cast(Any, self.app).palette)

    @property
    def lines(self) -> Sequence[Line]:
        """What is drawn at the present size: the head with the title, then the picture."""
        width, height = self.size
        if self._drawn_at != (width, height):
            self._drawn_at = (width, height)
            self._drawn = self._draw(width, height)
        return self._drawn

    def show(
        self,
        kind: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        x: int,
        y: int,
        series: int | None = None,
        title: str = "",
    ) -> None:
        """Draw these rows. `kind` is scatter, lines, steps or bars; `x`, `y` and `series` are numbers of columns, 0 the first;
        of bars `x` is the label. What cannot be drawn is said in the pane, in one sentence."""
        self._asked = (kind, columns, rows, x, y, series, title)
        self._drawn_at = None
        if self.is_attached:
            self.refresh()

    def clear(self) -> None:
        """Show nothing."""
        self._asked, self._drawn_at = None, None
        if self.is_attached:
            self.refresh()

    def _draw(self, width: int, height: int) -> list[Line]:
        if self._asked is None or width < 1 or height < 1:
            return []
        kind, columns, rows, x, y, series, title = self._asked
        try:
            body = picture(kind, columns, rows, x, y, series, width, height - 1)
        except NoPicture as problem:
            body = [((f"  {problem}", "warn"),)]
        return [rule(title, width, kind), *(Line(row) for row in body)]

    def render_line(self, y: int) -> Strip:
        lines = self.lines
        return paint(lines[y] if y < len(lines) else BLANK, self.size.width, self.palette)
