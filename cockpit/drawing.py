"""Pictures of an answer in characters: a scatter, lines over time or steps, and bars. Pure: rows in, rows of spans out.

What has no finite number is left out, and how many that were is said. A picture never takes more than the box it is given;
where the box is too small for axes it says so in one line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engine.text import clean_line

from . import format as f
from .axes import Axis, Column, axis, column
from .bars import bars
from .raster import Canvas, Span

Kind = Literal["scatter", "lines", "steps", "bars"]
KINDS: tuple[Kind, ...] = ("scatter", "lines", "steps", "bars")
"""`steps` are lines that keep their value until the next point, as a best so far does."""

SERIES = 6
"""Series that are drawn; colours repeat beyond that."""
LEAST = 22, 6
"""Cells across and down below which there is no room for axes."""
MOST_ROWS = 10_000
"""Rows up to which each is drawn; of more an even share is, and the head says which. A key press must not wait."""
_BIG_DOTS = 400
"""Points up to which each is drawn two dots wide and high, to be seen singly."""
_HELD = re.compile(r"(best|frontier|so_far|claimed|audited)")
"""Names of columns whose value holds until the next one."""

Row = tuple[Span, ...]


class NoPicture(ValueError):
    """These columns make no such picture; the message says what to choose."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour; `x` and `y` of one length."""

    name: str
    colour: str
    x: list[float]
    y: list[float]


def picture(
    kind: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    x: int,
    y: int,
    series: int | None = None,
    width: int = 80,
    height: int = 24,
) -> list[Row]:
    """At most `height` rows of at most `width` cells. `x`, `y` and `series` are numbers of columns, 0 the first; of bars `x` is
    the label and `y` the length. Raises NoPicture when the columns are none, or hold no numbers where numbers are needed."""
    if kind not in KINDS:
        raise NoPicture(f"{kind!r} is no picture: choose {', '.join(KINDS)}")
    for at in (x, y) if series is None else (x, y, series):
        if not 0 <= at < len(columns):
            raise NoPicture(f"there is no column {at}: the answer has {len(columns)}, the first is 0")
    if width < 1 or height < 1:
        return []
    if kind == "bars":
        drawn = bars(columns[y], [(_cell(row, x), _cell(row, y)) for row in rows], width, height)
    else:
        drawn = _plot(kind, columns, rows, (x, y, series), width, height)
    return [_cut(row, width) for row in drawn[:height]]


def picture_text(
    kind: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    x: int,
    y: int,
    series: int | None = None,
    width: int = 80,
    height: int = 24,
) -> str:
    """The picture without colours, for a pipe or a file. Raises NoPicture as `picture` does."""
    drawn = picture(kind, columns, rows, x, y, series, width, height)
    return "\n".join("".join(text for text, _ in row).rstrip() for row in drawn)


def _cell(row: Sequence[object], at: int) -> object:
    return row[at] if at < len(row) else None


def _plot(
    kind: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    chosen: tuple[int, int, int | None],
    width: int,
    height: int,
) -> list[Row]:
    x, y, by = chosen
    stride = -(-len(rows) // MOST_ROWS)
    total = len(rows)
    rows = rows[::stride] if stride > 1 else rows
    across = column([_cell(row, x) for row in rows])
    up = column([_cell(row, y) for row in rows])
    if up.kind != "number":
        raise NoPicture(f"{clean_line(columns[y])} holds no numbers: choose another column to draw upwards")
    if kind == "scatter" and across.kind == "name":
        raise NoPicture(f"{clean_line(columns[x])} holds no numbers: choose another column, or draw bars")
    names = ["" if by is None else _name(_cell(row, by)) for row in rows]
    found = _series(across, up, names)
    count = sum(len(each.x) for each in found)
    beside = _beside(columns, y) if by is None and kind != "scatter" else None
    if beside is not None:
        second = column([_cell(row, beside) for row in rows])
        both = (across, up), (across, second)
        pair = [
            one
            for at, (a, b) in zip((y, beside), both, strict=True)
            for one in _series(a, b, [columns[at]] * len(rows))
        ]
        found = [Series(clean_line(one.name), f"curve{at}", one.x, one.y) for at, one in enumerate(pair)]
    head: list[Row] = [_head(columns[x], columns[y], count, len(rows) - count)]
    if stride > 1:
        head = [(*head[0], (f", 1 in {stride:,} of {total:,} rows", "warn"))]
    if not count:
        return [*head, ((("  no row has both numbers" if rows else "  no rows"), "faint"),)]
    if kind == "lines" and _HELD.search(columns[y].lower()):
        kind = "steps"
    frame = _Frame.around(found, across.kind, kind)
    head += _legend(found, frame.diagonal, width) if height > LEAST[1] + 2 else []
    if width < LEAST[0] or height < LEAST[1]:
        return [*head, (("  too small for axes", "faint"),)]
    return [*head, *frame.draw(found, kind, width, height - len(head))]


def _beside(columns: Sequence[str], y: int) -> int | None:
    """The column with what audits measured of what column `y` claims: of its name, with `audited` for `claimed`."""
    other = columns[y].replace("claimed", "audited")
    return columns.index(other) if other != columns[y] and other in columns else None


def _name(cell: object) -> str:
    return "(none)" if cell is None else clean_line(str(cell))[:60] or "(empty)"


def _series(across: Column, up: Column, names: Sequence[str]) -> list[Series]:
    """Rows with both numbers by their series, in the order in which the series come first."""
    found: dict[str, Series] = {}
    for name, at, value in zip(names, across.values, up.values, strict=True):
        if at is None or value is None:
            continue
        one = found.setdefault(name, Series(name, f"curve{len(found) % SERIES}", [], []))
        one.x.append(at)
        one.y.append(value)
    return list(found.values())


def _head(x: str, y: str, count: int, left_out: int) -> Row:
    said = f.plural(count, "point") + (f", {f.plural(left_out, 'row')} without a number" if left_out else "")
    return ((f"↑ {clean_line(y)}  → {clean_line(x)}", "dim"), (f"  {said}", "warn" if left_out else "faint"))


def _legend(found: Sequence[Series], diagonal: bool, width: int) -> list[Row]:
    spans: list[Span] = []
    used = 0
    for each in found if found[0].name or len(found) > 1 else ():
        text = f.fit(each.name, min(f.width_of(each.name), 24))
        if used + f.width_of(text) + 5 > width - 6:
            spans.append(("…", "faint"))
            break
        spans += [(" ━ ", each.colour), (f"{text}  ", "text")]
        used += f.width_of(text) + 5
    if diagonal:
        spans.append((" ┄ equal", "faint"))
    return [tuple(spans)] if spans else []


@dataclass(frozen=True, slots=True)
class _Frame:
    """Both axes, and the guides that they ask for."""

    x: Axis
    y: Axis
    diagonal: bool

    @classmethod
    def around(cls, found: Sequence[Series], across: Literal["number", "time", "name"], kind: str) -> _Frame:
        xs = [value for each in found for value in each.x]
        ys = [value for each in found for value in each.y]
        pad = 0.04 if kind == "scatter" else 0.0
        if kind == "steps":  # room for what came last
            xs.append(min(max(xs) + (max(xs) / 2 - min(xs) / 2) * 0.06, 1.7e308))
        x, y = axis(xs, across, pad=pad), axis(ys)
        assert x is not None
        assert y is not None
        if kind != "scatter" or across != "number":
            return cls(x, y, False)
        x, y = _with_zero(x), _with_zero(y)
        common = min(x.high, y.high) / 2 - max(x.low, y.low) / 2
        whole = max(x.high, y.high) / 2 - min(x.low, y.low) / 2
        return cls(x, y, common > whole * 0.15)  # else the two are of different units, and equal means nothing

    def draw(self, found: Sequence[Series], kind: str, width: int, height: int) -> list[Row]:
        rows = height - 2
        marks: dict[int, str] = {}
        for at, text in self.y.marks(max(rows * 2 // 5, 2)):
            marks[rows - 1 - self.y.place(at, rows * 4) // 4] = text
        gutter = min(max((f.width_of(text) for text in marks.values()), default=1), 12) + 1
        canvas = Canvas(width - gutter - 1, rows)
        self._guides(canvas, kind)
        for each in reversed(found):
            self._draw_one(canvas, each, kind, sum(len(one.x) for one in found))
        lines: list[Row] = []
        for row in range(rows):
            text = marks.get(row, "")
            edge = "┤" if text else "│"
            lines.append(((f.fit(text, gutter, right=True), "faint"), (edge, "rule"), *canvas.spans(row)))
        return [*lines, *self._below(width, gutter)]

    def _at(self, canvas: Canvas, x: float, y: float) -> tuple[int, int]:
        return self.x.place(x, canvas.width * 2), canvas.height * 4 - 1 - self.y.place(y, canvas.height * 4)

    def _guides(self, canvas: Canvas, kind: str) -> None:
        """Zero where both sides of it are in sight, and the line on which both are equal."""
        if self.y.low < 0 < self.y.high:
            row = self._at(canvas, self.x.low, 0.0)[1]
            for dot in range(0, canvas.width * 2, 3):
                canvas.dot(dot, row, "rule")
        if kind == "scatter" and self.x.kind == "number" and self.x.low < 0 < self.x.high:
            dot = self._at(canvas, 0.0, self.y.low)[0]
            for row in range(0, canvas.height * 4, 3):
                canvas.dot(dot, row, "rule")
        if self.diagonal:
            last = max(canvas.width * 2 - 1, 1)
            for dot in range(0, canvas.width * 2, 2):
                value = self.x.low + (self.x.high - self.x.low) * (dot / last)
                if self.y.holds(value):
                    canvas.dot(dot, self._at(canvas, value, value)[1], "faint")

    def _draw_one(self, canvas: Canvas, one: Series, kind: str, count: int) -> None:
        dots = [self._at(canvas, x, y) for x, y in zip(one.x, one.y, strict=True)]
        if kind == "scatter":
            size = 2 if count <= _BIG_DOTS else 1
            for x, y in dots:
                for extra in range(size):
                    canvas.stroke(x + extra, y, y + size - 1, one.colour)
            return
        ordered = sorted(zip(one.x, dots, strict=True), key=lambda pair: pair[0])
        before: tuple[int, int] | None = None
        for _, dot in ordered:
            canvas.stroke(*dot, dot[1], one.colour)
            if before is not None and dot[0] == before[0]:
                canvas.stroke(dot[0], before[1], dot[1], one.colour)
            elif before is not None:
                (canvas.step if kind == "steps" else canvas.join)(before, dot, one.colour)
            before = dot
        if kind == "steps" and before is not None:  # the best so far is still the best
            canvas.step(before, (canvas.width * 2 - 1, before[1]), one.colour)

    def _below(self, width: int, gutter: int) -> list[Row]:
        room = width - gutter - 1
        rail, text = ["─"] * room, [" "] * room
        free = 0
        for at, name in self.x.marks(max(room // 11, 2)):
            cell = self.x.place(at, room * 2) // 2
            rail[cell] = "┴"
            start = min(max(cell - len(name) // 2, 0), room - len(name))
            if start >= free and len(name) <= room:
                text[start : start + len(name)] = list(name)
                free = start + len(name) + 1
        pad = " " * gutter
        return [((pad, "faint"), ("└" + "".join(rail), "rule")), ((f"{pad} " + "".join(text), "faint"),)]


def _with_zero(one: Axis) -> Axis:
    """The axis reaching to zero, where that is no further off than the values themselves spread."""
    span = one.high / 2 - one.low / 2
    if 0 < one.low <= span * 2:
        return Axis(-span * 0.06, one.high, one.kind)
    if -span * 2 <= one.high < 0:
        return Axis(one.low, span * 0.06, one.kind)
    return one


def _cut(row: Row, width: int) -> Row:
    """The row, not wider than `width` cells."""
    out: list[Span] = []
    left = width
    for text, colour in row:
        size = f.width_of(text)
        if size > left:
            text, size = f.fit(text, left), left
        if text:
            out.append((text, colour))
        left -= size
    return tuple(out)
