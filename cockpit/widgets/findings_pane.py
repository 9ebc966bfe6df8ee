"""What was found, as a list with a cursor: which finding, how bad, where, in words; `enter` shows the numbers below it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.types import DetectorsRow, FindingRow, stands

from .. import format as f
from ..findings import COLOURS, acknowledged_words, asleep_words, detectors_words, evidence_words, means
from .lines import BLANK, Line, Lines, rule

WIDEST = 110
"""Columns that a paragraph takes at most: longer lines are hard to read."""


def block(row: FindingRow, width: int, *, unfolded: bool) -> list[Line]:
    """One finding as lines; the first says which, how bad, of which rule, and where."""
    room = min(width, WIDEST)
    colour = COLOURS.get(row["severity"], "warn") if stands(row) else "dim"
    where = f"{row['about']}{' · ' + row['place'] if row.get('place') else ''}"
    spans = ((f" {row['id']}  ", "strong"), (row["severity"], colour), (f"  {row['rule']}  ", "text"), (where, "faint"))
    lines = [Line(spans)]
    lines += _wrapped(row["sentence"], room, "text" if stands(row) else "dim", 99 if unfolded else 2)
    if unfolded:
        numbers = evidence_words(row) or row.get("mechanism") or "the rule compared no numbers"
        lines += _wrapped(numbers, room, "dim", 9)
        lines += _wrapped(means(row), room, "faint", 3)
    lines += _wrapped(acknowledged_words(row), room, "good", 9 if unfolded else 1)
    return lines


def _wrapped(text: str, width: int, colour: str, most: int) -> list[Line]:
    return [Line((("   " + part, colour),)) for part in f.wrap(text, max(width - 3, 8), most)] if text else []


class FindingsPane(Lines):
    """The pane of findings. `cursor` is the selected one; it stays on its finding while others come."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: Sequence[FindingRow] = ()
        self.cursor = ""
        self.unfolded: set[str] = set()
        self.top = 0

    @property
    def selected(self) -> FindingRow | None:
        return next((row for row in self.rows if row["id"] == self.cursor), None)

    def set_rows(self, rows: Sequence[FindingRow]) -> None:
        """Take the findings to show, in order."""
        self.rows = rows
        if self.selected is None:
            self.cursor = rows[0]["id"] if rows else ""

    def move(self, by: int) -> None:
        """Move the cursor by so many findings."""
        names = [row["id"] for row in self.rows]
        if names:
            self.cursor = names[min(max(names.index(self.cursor) + by, 0), len(names) - 1)]

    def toggle(self) -> None:
        """Show or hide the numbers of the selected finding."""
        self.unfolded ^= {self.cursor}

    def redraw(self, about: str, known: DetectorsRow | None, *, focused: bool) -> None:
        """Show the findings about `about`, and which detectors work in this lab."""
        width, height = max(self.size.width, 1), max(self.size.height - 1, 1)
        lines: list[Line] = []
        first = last = 0
        for row in self.rows:
            made = block(row, width, unfolded=row["id"] in self.unfolded)
            if row["id"] == self.cursor:
                first, last = len(lines), len(lines) + len(made)
                made = [made[0].on("cursor"), *made[1:]]
            lines += made
        if not self.rows:
            lines.append(Line(((" nothing was found here", "dim"),)))
        lines += [BLANK, *_wrapped(detectors_words(known), width, "dim", 2)]
        for each in asleep_words(known):
            lines += _wrapped(each, width, "faint", 3)
        self.top = min(self.top, first, max(len(lines) - height, 0)) if first < self.top else self.top
        if last > self.top + height:
            self.top = min(last - height, first)
        head = rule(f" findings of {about}", width, "enter: numbers · i: acknowledge", focused=focused)
        shown = [head, *lines[self.top : self.top + height]]
        self.show(shown + [BLANK] * (self.size.height - len(shown)))
