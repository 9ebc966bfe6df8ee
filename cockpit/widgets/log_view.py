"""The tail of a shard's log: follows its end until one scrolls up, and asks for older text at the top."""

from __future__ import annotations

import re

from .diff_view import chunks
from .lines import Line, Lines, rule

_BAD = re.compile(r"\b(error|exception|traceback|nan|inf|killed|oom|out of memory|failed)\b", re.IGNORECASE)


def log_lines(text: str, width: int) -> list[Line]:
    """Clean text as lines; a line that smells of trouble is coloured. Lone carriage returns begin a line."""
    out: list[Line] = []
    for raw in text.replace("␍", "\n").rstrip("\n").split("\n"):
        name = "warn" if _BAD.search(raw[:500]) else "dim"
        out += [Line(((piece, name),)) for piece in chunks(raw.replace("\t", "    ")[:4000], max(width, 8))]
    return out


class LogView(Lines):
    """The pane of the log. `up` counts lines scrolled back from the end; 0 follows."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.up = 0
        self.shard: str | None = None
        self.text = ""
        self.start = 0
        self.size_bytes = 0
        self._wrapped: tuple[str, int, list[Line]] = ("", 0, [])

    def set_text(self, shard: str | None, text: str, start: int, size: int) -> None:
        """Show the log of `shard`: `text` begins at byte `start` of `size`. Another shard starts at its end."""
        if shard != self.shard:
            self.up = 0
        self.shard, self.text, self.start, self.size_bytes = shard, text, start, size

    def prepend(self, text: str, start: int) -> None:
        """Older text, for a reader who scrolled to the top; what is on the screen stays where it is."""
        self.text, self.start = text + self.text, start

    @property
    def at_top(self) -> bool:
        return self.up >= self._last_up()

    def scroll_by(self, lines: int) -> None:
        """Down is positive; at the end it follows again."""
        self.up = min(max(self.up - lines, 0), self._last_up())

    def _body(self) -> list[Line]:
        width = self.size.width
        if self._wrapped[0] is not self.text or self._wrapped[1] != width:
            self._wrapped = (self.text, width, log_lines(self.text, width) if self.text else [])
        return self._wrapped[2]

    def _last_up(self) -> int:
        return max(len(self._body()) - max(self.size.height - 1, 1), 0)

    def redraw(self, *, focused: bool, note: str) -> None:
        """Show the window on the log."""
        height = max(self.size.height - 1, 0)
        body = self._body()
        self.up = min(self.up, self._last_up())
        end = len(body) - self.up
        window = body[max(end - height, 0) : end]
        if not body:
            window = [Line((("nothing was written yet" if self.shard else "", "faint"),))]
        place = f"{self.up} lines above the end" if self.up else note
        name = f"log {self.shard}" if self.shard else "log"
        self.show([rule(name, self.size.width, place, focused=focused), *window])
