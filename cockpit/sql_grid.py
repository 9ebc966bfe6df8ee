"""What a grid of a million rows needs to know without holding them: pages, widths, and cells as text; pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.text import clean, clean_line

from .format import width_of

PAGE = 200
"""Rows asked for at once, and how far ahead of what is visible they are fetched."""

HELD = 6_000
"""Rows kept; those farthest from what is visible go first."""

WIDEST = 40
"""Cells that a column of text takes at most; a number is never cut."""

NARROWEST = 4

_NUMBER = re.compile(
    r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|INT\d*|UINT\d*|FLOAT|REAL|DOUBLE|NUMBER|DECIMAL(\(.*\))?)\Z", re.I
)
_INEXACT = re.compile(r"(FLOAT|REAL|DOUBLE)\Z", re.I)
_NOT_FINITE = {"NaN": "NaN", "Infinity": "∞", "-Infinity": "−∞"}


@dataclass(slots=True)
class Column:
    """One column: its width in cells grows with what comes, and never shrinks."""

    name: str
    type: str
    width: int
    decimals: int | None = None
    """Digits after the point that a float is shown with, so that points stand under each other; None: as many as needed."""

    @property
    def number(self) -> bool:
        return _NUMBER.match(self.type) is not None

    @property
    def inexact(self) -> bool:
        return _INEXACT.match(self.type) is not None


def columns(names: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Column]:
    """Columns as wide as their names and first rows need."""
    made = [
        Column(clean_line(name), kind, min(max(width_of(clean_line(name)), NARROWEST), WIDEST))
        for name, kind in zip(names, types, strict=True)
    ]
    for place, column in enumerate(made):
        if column.inexact:
            column.decimals = _decimals([row[place] for row in rows])
    widen(made, rows)
    return made


def widen(cols: Sequence[Column], rows: Sequence[Sequence[Any]]) -> None:
    """Let the columns grow to what is in these rows."""
    for place, column in enumerate(cols):
        for row in rows:
            if column.width >= WIDEST and not column.number:
                break
            size = width_of(cell(row[place], column)[0])
            if size > column.width:
                column.width = size if column.number else min(size, WIDEST)


def _decimals(values: Sequence[Any]) -> int | None:
    """Digits after the point with which six significant ones of every value are shown, where that is no more than six."""
    most = 0
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
            continue
        if value and not 1e-4 <= abs(value) < 1e7:
            return None
        digits = f"{value:.6g}"
        if "e" in digits:
            return None
        most = max(most, len(digits.partition(".")[2]))
    return min(max(most, 1), 6)


def cell(value: Any, column: Column) -> tuple[str, str]:
    """A value as one harmless line of text, and the name of its colour."""
    if value is None:
        return "NULL", "faint"
    if isinstance(value, bool):
        return ("true" if value else "false"), "text"
    if isinstance(value, float) or (isinstance(value, int) and column.inexact and abs(value) < 1e300):
        return _float(float(value), column.decimals), "text"
    if isinstance(value, int):
        return str(value).replace("-", "−"), "text"
    if column.inexact and isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value], "warn"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return clean_line(text[:400]), "text"


def _float(value: float, decimals: int | None) -> str:
    if not math.isfinite(value):
        return _NOT_FINITE[json.dumps(value)]
    small = value and abs(value) < 10.0 ** -(decimals or 0)
    plain = decimals is not None and not small and abs(value) < 1e7
    text = f"{value:.{decimals}f}" if plain else f"{value:.6g}"
    return text.replace("-", "−") if text.startswith("-") else text


def exact(value: Any) -> str:
    """A value in full, as it is copied and filtered: no cut, a float with all its digits, an empty text for NULL."""
    if value is None:
        return ""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool | dict | list):
        return clean(json.dumps(value, ensure_ascii=False))
    return repr(value)


def tsv(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as tab-separated text, as spreadsheets paste it: no tab, newline or control character is left within a cell."""
    return "\n".join("\t".join(exact(value).replace("\t", " ").replace("\n", " ") for value in row) for row in rows)


def whole(value: Any, column: Column) -> list[str]:
    """A cell in full as lines for reading: nested values indented."""
    if value is None:
        return ["NULL"]
    if isinstance(value, dict | list):
        return clean(json.dumps(value, ensure_ascii=False, indent=2)).split("\n")
    return clean(value).expandtabs(4).split("\n") if isinstance(value, str) else [exact(value)]


class Pages:
    """Rows of a result that are held here, and which to ask for next; one request at a time."""

    def __init__(self, total: int, first: Sequence[Sequence[Any]] = ()) -> None:
        self.total = total
        self.rows: dict[int, Sequence[Any]] = dict(enumerate(first))

    def get(self, index: int) -> Sequence[Any] | None:
        return self.rows.get(index)

    def wanted(self, top: int, height: int, down: bool = True) -> tuple[int, int] | None:
        """(start, count) of what to fetch now: first what is visible and not there, then a page ahead, then one behind."""
        end = min(top + height, self.total)
        ahead = (end, end + PAGE) if down else (top - PAGE, top)
        behind = (top - PAGE, top) if down else (end, end + PAGE)
        for lo, hi in ((top, end), ahead, behind):
            for index in range(max(lo, 0), min(hi, self.total)):
                if index not in self.rows:
                    return self._run(index, down or lo == top)
        return None

    def _run(self, index: int, down: bool) -> tuple[int, int]:
        """Up to PAGE missing rows from `index`; going up, those before it too, so that one request brings a page."""
        start = index if down else max(index - PAGE // 2, 0)
        while start in self.rows:
            start += 1
        count = 0
        while count < PAGE and start + count < self.total and start + count not in self.rows:
            count += 1
        return start, count

    def put(self, start: int, rows: Sequence[Sequence[Any]], near: int) -> None:
        """Take rows that came; forget those farthest from row `near` when there are too many."""
        for offset, row in enumerate(rows):
            self.rows[start + offset] = row
        if len(self.rows) > HELD:
            keep = sorted(self.rows, key=lambda index: abs(index - near))[: HELD - PAGE]
            self.rows = {index: self.rows[index] for index in sorted(keep)}


def widths(cols: Sequence[Column], width: int) -> list[int]:
    """Cells of each column on a grid of `width`: a text takes a third of it at most, a number all it needs."""
    most = max(width // 3, 12)
    return [each.width if each.number else min(each.width, most) for each in cols]


def window(sizes: Sequence[int], cursor: int, first: int, width: int) -> tuple[int, list[int]]:
    """Which columns are visible in `width` cells: the first always, then those from `first` on; moved so that `cursor` is.

    Returns the new `first` (at least 1) and the places of the visible columns in order. Each column has two cells before it.
    """
    if not sizes:
        return 1, []
    room = width - sizes[0] - 2
    first = max(first, 1)
    if 0 < cursor < first:
        first = cursor
    while cursor > first and sum(each + 2 for each in sizes[first : cursor + 1]) > room:
        first += 1
    shown = [0]
    used = 0
    for place in range(first, len(sizes)):
        size = sizes[place] + 2
        if used + min(size, NARROWEST + 4) > room and place != cursor:
            break
        shown.append(place)
        used += size
        if used > room:
            break
    return first, shown
