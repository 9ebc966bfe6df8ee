"""Turns a stream of full frames into the few cells that differ: what keeps a slow line calm.

`CellDiff` reads what Textual writes (cursor moves, styles, text), keeps a shadow of what the terminal shows, and lets
through only what changes it. It never guesses: at anything it does not know it passes the bytes on as they are and
forgets its shadow, so that everything after is painted in full. Sequences that no frame of ours contains (clipboard,
titles, device control) are dropped.
"""

from __future__ import annotations

import re

from rich.cells import cell_len

_TOKEN = re.compile(
    r"\x1b\[([0-9;:]*)m"  # 1: style
    r"|\x1b\[(\d*);(\d*)H"  # 2, 3: move
    r"|(\x1b\[\?2026[hl])"  # 4: synchronised update
    r"|(\x1b\[[<=>?]?[0-9;:]*[ !$'*]*[@-~])"  # 5: any other control sequence
    r"|(\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|\Z))"  # 6: strings: clipboard, title, device control
    r"|(\n)"  # 7
    r"|([^\x00-\x1f\x7f-\x9f]+)"  # 8: text
    r"|(.)",  # 9: anything else
    re.DOTALL,
)
_HARMLESS = re.compile(
    r"\x1b\[(\?(25|1000|1002|1003|1004|1006|1015|1016|2004|2048|7)[hl]|[<=>]\d*u|\?\d+\$p|\?u|6n|c)\Z"
)
"""Modes and questions that change no cell and do not move the cursor."""

_GAP = 4
"""Unchanged cells shorter than this are written again, since a cursor move costs more."""

Cell = tuple[str, str]
"""Text of a cell and its style; a wide character's second cell is empty."""

_UNKNOWN: Cell = ("\x00", "")


class CellDiff:
    """One terminal's shadow. `feed` is not thread-safe; `forget` is."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Cell]] = {}
        self._x = self._y = 0
        self._style = ""
        self._known = False  # whether the place that the stream means is known
        self._real: tuple[int, int] | None = None  # where the terminal's cursor is
        self._real_style: str | None = None
        self._forget = True
        self._sync = ""
        self.surprises = 0
        self.refused = 0

    def forget(self) -> None:
        """What the terminal shows is not known any more; everything is painted when it comes next."""
        self._forget = True

    def feed(self, data: str) -> str:
        """The bytes to write in place of `data`; empty when nothing would change."""
        if self._forget:
            self._forget = False
            self._lose()
        out: list[str] = []
        for match in _TOKEN.finditer(data):
            kind = match.lastindex or 0
            if kind == 8:
                self._text(match[8], out)
            elif kind == 1:
                self._style = "" if match[1] in ("", "0") else self._style + ("\x1b[" + match[1] + "m")
            elif kind in (2, 3):
                self._y, self._x = int(match[2] or 1) - 1, int(match[3] or 1) - 1
                self._known = True
            elif kind == 4:
                self._synchronise(match[4], out)
            elif kind == 7:
                self._known = False  # textual always moves after it; text before a move is a surprise
            elif kind == 6:
                self.refused += 1
            elif kind == 5:
                self._control(match[5], out)
            elif match[9] == "\x1b":
                self.refused += 1
            else:
                self._surprise(match[9], out)
        if self._known and out and self._real != (self._x, self._y):
            self._move(out)
        return "".join(out)

    def _lose(self) -> None:
        self._rows.clear()
        self._real = None
        self._real_style = None

    def _surprise(self, raw: str, out: list[str]) -> None:
        """Pass on what is not understood, in the style that the stream means, and trust nothing that was known."""
        self.surprises += 1
        if self._known and self._real != (self._x, self._y):
            self._move(out)
        if self._real_style != self._style:
            self._restyle(out)
        self._begin(out)
        out.append(raw)
        self._lose()
        self._known = False

    def _control(self, raw: str, out: list[str]) -> None:
        self._begin(out)
        if _HARMLESS.match(raw):
            out.append(raw)
        elif raw in ("\x1b[?1049h", "\x1b[?1049l", "\x1b[2J"):
            out.append(raw)
            self._lose()
            self._known = False
        else:
            self._surprise(raw, out)

    def _synchronise(self, raw: str, out: list[str]) -> None:
        """Begin only when something is written; an empty update is not announced."""
        if raw.endswith("h"):
            self._sync = raw
        elif self._sync:
            self._sync = ""
        else:
            out.append(raw)

    def _begin(self, out: list[str]) -> None:
        if self._sync:
            out.append(self._sync)
            self._sync = ""

    def _text(self, text: str, out: list[str]) -> None:
        if not self._known or self._x > 2000 or self._y > 1000:
            self._surprise(text, out)
            return
        row = self._rows.setdefault(self._y, [])
        style, start = self._style, self._x
        if text.isascii():
            cells: list[Cell] = [(char, style) for char in text]
            plain = True
        else:
            made = self._cells(text, style)
            if made is None:
                self._surprise(text, out)
                return
            cells, plain = made
        end = start + len(cells)
        if len(row) < end + 1:
            row.extend([_UNKNOWN] * (end + 1 - len(row)))
        old = row[start:end]
        if old != cells:
            if plain and all(len(cell[0]) == 1 for cell in old):
                self._changed_runs(text, start, old, cells, out)
            else:
                self._whole(text, start, end, row, out)
            row[start:end] = cells
        self._x = end

    @staticmethod
    def _cells(text: str, style: str) -> tuple[list[Cell], bool] | None:
        """Cells of a text with wide or combining characters, and whether all are single; None when widths do not add up."""
        cells: list[Cell] = []
        plain = True
        for char in text:
            width = cell_len(char)
            if width == 1:
                cells.append((char, style))
            elif width == 2:
                cells += [(char, style), ("", style)]
                plain = False
            elif cells:
                at = -1 if cells[-1][0] else -2
                cells[at] = (cells[at][0] + char, style)
                plain = False
            else:
                return None
        return (cells, plain) if len(cells) == cell_len(text) else None

    def _changed_runs(self, text: str, start: int, old: list[Cell], new: list[Cell], out: list[str]) -> None:
        at, size = 0, len(new)
        while at < size:
            if old[at] == new[at]:
                at += 1
                continue
            end = last = at + 1
            while end < size and end - last < _GAP:
                end += 1
                if old[end - 1] != new[end - 1]:
                    last = end
            self._write(start + at, text[at:last], out)
            at = last

    def _whole(self, text: str, start: int, end: int, row: list[Cell], out: list[str]) -> None:
        """Where characters are not all one cell wide, write the run as it came, and doubt its neighbours' halves."""
        self._write(start, text, out)
        self._real = None  # terminals disagree about widths; the next write moves
        if start and row[start][0] == "":
            row[start - 1] = _UNKNOWN
        if row[end][0] == "":
            row[end] = _UNKNOWN

    def _write(self, x: int, text: str, out: list[str]) -> None:
        self._begin(out)
        if self._real_style != self._style:
            self._restyle(out)
        if self._real != (x, self._y):
            forward = x - self._real[0] if self._real is not None and self._real[1] == self._y else 0
            out.append(f"\x1b[{forward}C" if 0 < forward < 10 else f"\x1b[{self._y + 1};{x + 1}H")
        out.append(text)
        self._real = (x + len(text), self._y)

    def _restyle(self, out: list[str]) -> None:
        out.append("\x1b[0m" + self._style)
        self._real_style = self._style

    def _move(self, out: list[str]) -> None:
        out.append(f"\x1b[{self._y + 1};{self._x + 1}H")
        self._real = (self._x, self._y)
