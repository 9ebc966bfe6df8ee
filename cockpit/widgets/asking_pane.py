"""What a proposer says while it is asked: the end of its thinking and text, its cost so far, and how it went.

At the bottom it moves on by half a page: a scroll repaints everything, a line that grows only itself.
"""

from __future__ import annotations

from engine.types import RoundRow

from .. import format as f
from ..advice import outcome
from ..listen import Heard, Stream
from .diff_view import chunks
from .lines import Line, Lines, Span, rule

_LOOK = {"thinking": "dim", "text": "text", "proposal": "good", "note": "warn", "void": "warn"}


def heard_lines(heard: Heard, width: int) -> list[Line]:
    """One line of what was said, wrapped. What a model writes is code, so that its spaces stay."""
    name = _LOOK.get(heard.kind, "text")
    if heard.kind == "text":
        return [Line(((f" {piece}", name),)) for piece in chunks(heard.text.replace("\t", "    "), width - 1)]
    sign = "✎ " if heard.kind == "proposal" else ""
    return [Line(((f" {piece}", name),)) for piece in f.wrap(sign + heard.text, width - 1)] or [Line()]


class AskingPane(Lines):
    """The pane of one round. `up` counts lines scrolled back from the end; 0 follows."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.up = 0
        self._top = 0
        self._key: object = None
        self._wrapped: dict[int, list[Line]] = {}
        self._open = 0  # the first line that may still grow when it was wrapped

    def scroll_by(self, lines: int) -> None:
        """Down is positive; at the end it follows again."""
        self.up = max(self.up - lines, 0)

    def redraw(self, stream: Stream, row: RoundRow | None, model: str, *, focused: bool) -> None:
        """Show the window on what was said, and below it how it went."""
        width = max(self.size.width, 1)
        ended = row is not None and row["state"] != "asking"
        usd = row["usd"] if ended and row is not None else stream.usd
        cost = "" if not usd else f"${usd:.4f}" + ("" if ended else " so far")
        note = " · ".join(each for each in (model, cost) if each)
        title = f" {stream.name} ended" if ended else f" asking, {stream.name} · x stops it"
        foot = self._foot(row, width) if ended and row is not None else []
        body = self._body(stream, max(width, 8))
        gap = [Line()] if foot and body and self.size.height > len(foot) + 3 else []
        height = max(self.size.height - 1 - len(gap) - len(foot), 0)
        window = self._window(body, height)
        fill = [Line()] * (height - len(window))  # below the foot, which stays with what it is about
        self.show([rule(title, width, note, focused=focused), *window, *gap, *foot, *fill])

    def _foot(self, row: RoundRow, width: int) -> list[Line]:
        text, name = outcome(row)
        spans: list[list[Span]] = [
            [(f" {piece}", name)] for piece in f.wrap(text, width - 1, max(self.size.height - 3, 1))
        ]
        return [*(Line(tuple(each)) for each in spans), Line(((" esc closes this", "faint"),))]

    def _body(self, stream: Stream, width: int) -> list[Line]:
        """Every kept line wrapped; only those that may have grown are wrapped again."""
        if self._key != (stream.name, width):
            self._key, self._wrapped, self._open, self._top, self.up = (stream.name, width), {}, 0, 0, 0
        for number in [each for each in self._wrapped if each < stream.first]:
            self._top = max(self._top - len(self._wrapped.pop(number)), 0)
        for number, heard in enumerate(stream.lines, stream.first):
            if number >= self._open or number not in self._wrapped:
                self._wrapped[number] = heard_lines(heard, width)
        self._open = max(stream.first + len(stream.lines) - 1, 0)
        return [line for number in sorted(self._wrapped) for line in self._wrapped[number]]

    def _window(self, body: list[Line], height: int) -> list[Line]:
        self.up = min(self.up, max(len(body) - height, 0))
        if self.up:
            end = len(body) - self.up
            return body[max(end - height, 0) : end]
        if len(body) - self._top > height or self._top > len(body):
            self._top = max(len(body) - max(height // 2, 1), 0)
        return body[self._top : self._top + height]
