"""What came of the last batch, as a page to read: claims in their sections, each with the record's numbers below it."""

from __future__ import annotations

from typing import Any

from engine.types import BriefRow

from .. import format as f
from ..brief_text import Piece, headline, pieces
from .lines import BLANK, Line, Lines, rule

_LOOK = {"head": "strong", "claim": "text", "record": "dim", "finding": "warn", "none": "faint", "note": "warn"}
_INDENT = {"head": 1, "note": 1, "claim": 2, "none": 2, "record": 4, "finding": 4}
WIDEST = 110
"""Columns that a paragraph takes at most: longer lines are hard to read."""


def page(row: BriefRow, body: dict[str, Any] | None, width: int) -> list[Line]:
    """A brief as lines, wrapped to `width`."""
    out: list[Line] = []
    for piece in pieces(row, body):
        if piece.kind == "head":
            out.append(BLANK)
        out += _wrapped(piece, min(width, WIDEST))
    return out


def _wrapped(piece: Piece, width: int) -> list[Line]:
    indent = _INDENT[piece.kind]
    if piece.kind == "record":  # one line each: a table of numbers is read down, not along
        text = f.fit(piece.text, max(width - indent, 8)).rstrip()
        return [Line(((" " * indent + text, _verdict_colour(piece.text)),))]
    name = _LOOK[piece.kind]
    return [Line(((" " * indent + part, name),)) for part in f.wrap(piece.text, max(width - indent, 8))]


def _verdict_colour(text: str) -> str:
    found = {"solid": "good", "barred": "bad", "harmful": "bad", "broken": "bad"}
    return next((found[word] for word in text.split("  ")[1:2] if word in found), "dim")


class BriefPane(Lines):
    """The pane of the brief; `top` is the first line that is shown."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.top = 0
        self._page: list[Line] = []

    def scroll_by(self, lines: int) -> None:
        """Down is positive."""
        self.top = min(max(self.top + lines, 0), max(len(self._page) - self._height, 0))

    @property
    def _height(self) -> int:
        return max(self.size.height - 1, 1)

    def redraw(
        self, row: BriefRow | None, body: dict[str, Any] | None, writing: BriefRow | None, *, focused: bool
    ) -> None:
        """Show a brief, and above it that another one is being written."""
        width = max(self.size.width, 1)
        lines: list[Line] = []
        if writing is not None:
            lines.append(Line(((f" {writing['id']}: {writing['model'] or 'the history'} is being asked …", "accent"),)))
        if row is None:
            text = "No brief yet: one is written when a batch is judged; a asks Claude for one."
            lines += [Line(((f" {part}", "dim"),)) for part in f.wrap(text, width - 1)] if writing is None else []
        else:
            lines += [Line(((f" {part}", "faint"),)) for part in f.wrap(headline(row), width - 1, 2)]
            lines += page(row, body, width)
            if body is None and row["body"] is not None:
                lines.append(Line(((" reading it …", "dim"),)))
        self._page = lines
        self.scroll_by(0)
        more = len(lines) - self._height
        where = f"{self.top + 1}–{min(self.top + self._height, len(lines))} of {len(lines)}" if more > 0 else ""
        title = f" brief {row['id']}" if row is not None else " brief"
        shown = [
            rule(title, width, where or "esc closes this", focused=focused),
            *lines[self.top : self.top + self._height],
        ]
        self.show(shown + [BLANK] * (self.size.height - len(shown)))
