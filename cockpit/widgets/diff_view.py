"""A proposal as one scrolling document: what it claims, then its diff with line numbers and colours.

Nothing is hidden at the right edge: long lines go on below, since a reviewer approves what was on the screen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .. import format as f
from .lines import Line, Lines, Span
from .syntax import colour

Kind = Literal["file", "hunk", "same", "added", "removed", "note"]
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)\Z")


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line of a unified diff with its numbers in the old and the new file."""

    kind: Kind
    text: str
    path: str
    old: int | None = None
    new: int | None = None


def parse_diff(text: str) -> list[DiffLine]:
    """The lines of a unified diff. Counts in the hunk heads are trusted, so that `--- x` inside a hunk is a removed line."""
    out: list[DiffLine] = []
    path = ""
    old = new = left_old = left_new = 0
    for raw in text.split("\n"):
        if left_old > 0 or left_new > 0:
            mark, body = raw[:1], raw[1:]
            if mark == "+":
                out.append(DiffLine("added", body, path, None, new))
                new, left_new = new + 1, left_new - 1
                continue
            if mark == "-":
                out.append(DiffLine("removed", body, path, old, None))
                old, left_old = old + 1, left_old - 1
                continue
            if mark in (" ", ""):
                out.append(DiffLine("same", body, path, old, new))
                old, new, left_old, left_new = old + 1, new + 1, left_old - 1, left_new - 1
                continue
        if match := _HUNK.match(raw):
            old, new = int(match[1]), int(match[3])
            left_old, left_new = int(match[2] or 1), int(match[4] or 1)
            out.append(DiffLine("hunk", match[5], path, old, new))
        elif raw.startswith("+++ "):
            name = raw[4:].split("\t")[0]
            path = path if name == "/dev/null" else name.removeprefix("b/")
            out.append(DiffLine("file", path, path))
        elif raw.startswith("--- "):
            name = raw[4:].split("\t")[0]
            path = path if name == "/dev/null" else name.removeprefix("a/")
        elif raw.startswith(
            ("\\", "Binary", "old mode", "new mode", "deleted file", "new file", "rename", "similarity")
        ):
            out.append(DiffLine("note", raw, path))
    return out


def chunks(text: str, width: int) -> list[str]:
    """`text` cut into pieces of at most `width` cells; one empty piece for an empty text."""
    if f.width_of(text) <= width:
        return [text]
    pieces: list[str] = []
    piece, used = "", 0
    for char in text:
        size = f.width_of(char)
        if used + size > width and piece:
            pieces.append(piece)
            piece, used = "", 0
        piece += char
        used += size
    return [*pieces, piece]


_LOOK: dict[str, tuple[str, str, str]] = {
    "added": ("+", "added", "added_bg"),
    "removed": ("-", "removed", "removed_bg"),
    "same": (" ", "text", "background"),
}


def diff_lines(rows: Sequence[DiffLine], width: int) -> tuple[list[Line], list[int]]:
    """The diff as lines of `width` cells, and the places of its hunks."""
    out: list[Line] = []
    hunks: list[int] = []
    digits = max([4, *(len(str(row.new or row.old or 0)) + 1 for row in rows)])
    room = max(width - 2 * digits - 3, 10)
    for row in rows:
        if row.kind == "file":
            out += [Line(), Line((("  " + row.text + " ", "strong"),), "raised")]
        elif row.kind == "hunk":
            hunks.append(len(out))
            head = f"{'':{digits - 1}}⋯ line {row.new}"
            out.append(Line(((head, "hunk"), (f"  {row.text.strip()}" if row.text.strip() else "", "faint"))))
        elif row.kind == "note":
            out.append(Line(((f"{'':{digits}}  {row.text}", "faint"),)))
        else:
            out += _code_lines(row, digits, room)
    return out, hunks


def _code_lines(row: DiffLine, digits: int, room: int) -> list[Line]:
    mark, plain, fill = _LOOK[row.kind]
    old = f"{row.old or '':>{digits - 1}} "
    new = f"{row.new or '':>{digits - 1}} "
    text = row.text.replace("\t", "    ")
    out: list[Line] = []
    for number, piece in enumerate(chunks(text, room)):
        gutter: Span = (old + new, "faint") if number == 0 else (" " * (2 * digits), "faint")
        sign: Span = (f"{mark} " if number == 0 else "↪ ", plain if number == 0 else "faint")
        body = [(piece, plain)] if row.kind == "removed" else colour(piece, row.path, plain)
        out.append(Line((gutter, sign, *body), fill))
    return out


class DiffView(Lines):
    """The document with its place; remembers which of its lines have been on the screen."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.top = 0
        self.hunks: list[int] = []
        self._document: list[Line] = []
        self._seen = bytearray()
        self._key: object = None

    def set_document(self, head: Sequence[Line], rows: Sequence[DiffLine], key: object) -> None:
        """Show `head` and then the diff. `key` names what is shown: with a new one reading starts at the top."""
        body, hunks = diff_lines(rows, self.size.width)
        document = [*head, *body]
        if key != self._key:
            self.top, self._seen = 0, bytearray()
        self._key = key
        self._document = document
        self.hunks = [place + len(head) for place in hunks]
        if len(self._seen) != len(document):
            self._seen = (self._seen + bytearray(len(document)))[: len(document)]
        self.redraw()

    @property
    def unseen(self) -> int:
        """Lines that have not been on the screen yet."""
        return self._seen.count(0)

    @property
    def position(self) -> str:
        """`12–40 of 96`, or nothing when all of it fits."""
        total, height = len(self._document), self.size.height
        return "" if total <= height else f"{self.top + 1}–{min(self.top + height, total)} of {total}"

    def scroll_by(self, lines: int) -> None:
        """Move by lines; stops at both ends."""
        self.top = min(max(self.top + lines, 0), max(len(self._document) - self.size.height, 0))
        self.redraw()

    def to_hunk(self, step: int) -> None:
        """The next hunk below the first visible line, or the one above."""
        if step > 0:
            place = next((hunk for hunk in self.hunks if hunk > self.top), None)
        else:
            place = next((hunk for hunk in reversed(self.hunks) if hunk < self.top), 0)
        if place is not None:
            self.scroll_by(place - self.top)

    def redraw(self) -> None:
        """Show the window on the document."""
        height = self.size.height
        self.top = min(self.top, max(len(self._document) - height, 0))
        window = self._document[self.top : self.top + height]
        self._seen[self.top : self.top + len(window)] = b"\x01" * len(window)
        self.show(window)
