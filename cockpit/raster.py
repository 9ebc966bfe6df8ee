"""Dots in braille: the one core that curves and pictures draw on, two dots across and four down in every cell. Pure.

A cell has one colour, that of what was drawn there last; so what matters most is drawn last.
"""

from __future__ import annotations

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Braille bits by row and column of the dot."""

Span = tuple[str, str]
"""A piece of clean text and the name of its colour in the theme."""


class Canvas:
    """A grid of braille cells; each keeps the colour of what was drawn there last. Nothing is ever drawn outside of it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._bits = [[0] * width for _ in range(height)]
        self._colour = [["text"] * width for _ in range(height)]
        self.guides: dict[int, tuple[str, str]] = {}
        """Column of cells to the character, one cell wide, and colour of a line that stands behind all that is drawn."""

    def dot(self, x: int, y: int, colour: str) -> None:
        """Set a dot; x from the left, y from the top, in dots. Outside the grid nothing happens."""
        column, row = x >> 1, y >> 2
        if 0 <= column < self.width and 0 <= row < self.height and x >= 0 and y >= 0:
            self._bits[row][column] |= DOTS[y & 3][x & 1]
            self._colour[row][column] = colour

    def stroke(self, x: int, y0: int, y1: int, colour: str) -> None:
        """A vertical run of dots in one column, both ends included."""
        top, bottom = max(min(y0, y1), 0), min(max(y0, y1), self.height * 4 - 1)
        for y in range(top, bottom + 1):
            self.dot(x, y, colour)

    def join(self, start: tuple[int, int], end: tuple[int, int], colour: str) -> None:
        """A line from a dot that is already set to one further right, without a gap between its columns."""
        (x0, y0), (x1, y1) = start, end
        last = y0
        for x in range(x0 + 1, x1 + 1):
            y = round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
            step = (y > last) - (y < last)
            self.stroke(x, last + step, y, colour)
            last = y

    def step(self, start: tuple[int, int], end: tuple[int, int], colour: str) -> None:
        """The old height up to the column of `end`, then straight up or down to it."""
        (x0, y0), (x1, y1) = start, end
        for x in range(x0 + 1, x1 + 1):
            self.dot(x, y0, colour)
        self.stroke(x1, y0, y1, colour)

    def spans(self, row: int) -> list[Span]:
        """One row of cells, neighbours of one colour joined."""
        out: list[Span] = []
        for column, (bits, colour) in enumerate(zip(self._bits[row], self._colour[row], strict=True)):
            char = chr(0x2800 + bits) if bits else " "
            if not bits and column in self.guides:
                char, colour = self.guides[column]
            if out and (out[-1][1] == colour or char == " "):
                out[-1] = (out[-1][0] + char, out[-1][1])
            else:
                out.append((char, colour))
        return out
