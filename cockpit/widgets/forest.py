"""A forest plot in characters: one mark a seed on one scale around zero, and below them the mean with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import format as f
from .lines import Line, Span

LABEL = 9
LEAST_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of the plot: a value with an interval, or without one."""

    label: str
    value: float
    lo: float | None = None
    hi: float | None = None
    colour: str = "text"


def forest(marks: Sequence[Mark], width: int) -> list[Line]:
    """The marks from top to bottom, then the scale. A bound far outside of all values ends in an arrow, so that one wide
    interval does not press the seeds together. Nothing where the values, or the room for them, do not make a plot."""
    marks = [mark for mark in marks if math.isfinite(mark.value)]
    room = width - LABEL - 1
    if not marks or room < LEAST_WIDTH:
        return []
    low, high = _range(marks)

    def place(value: float) -> int:
        return min(max(round((value - low) / (high - low) * (room - 1)), 0), room - 1)

    zero = place(0.0)
    lines = [Line(((f.fit(mark.label, LABEL), "dim"), *_row(mark, place, zero, room))) for mark in marks]
    return [*lines, _scale(low, high, zero, room)]


def _range(marks: Sequence[Mark]) -> tuple[float, float]:
    """The values and zero, and of the intervals what reaches no further than the values span."""
    values = [0.0, *(mark.value for mark in marks)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    bounds = [each for mark in marks for each in (mark.lo, mark.hi) if each is not None]
    low = max(min([low, *bounds]), low - span)
    high = min(max([high, *bounds]), high + span)
    return low - 0.02 * span, high + 0.02 * span


def _row(mark: Mark, place: Callable[[float], int], zero: int, room: int) -> list[Span]:
    cells: list[Span] = [(" ", "text")] * room
    cells[zero] = ("│", "rule")
    at = place(mark.value)
    if mark.lo is None or mark.hi is None:
        for x in range(min(zero, at), max(zero, at) + 1):
            cells[x] = ("─", mark.colour)
        cells[zero] = ("│", "rule")
    else:
        first, last = place(mark.lo), place(mark.hi)
        for x in range(first, last + 1):
            cells[x] = ("┼" if x == zero else "━", mark.colour)
        inside = first > 0, last < room - 1
        cells[first] = ("├" if inside[0] else "◂", mark.colour)
        cells[last] = ("┤" if inside[1] else "▸", mark.colour)
    cells[at] = ("●", mark.colour)
    return _joined(cells)


def _joined(cells: Sequence[Span]) -> list[Span]:
    """Neighbours of one colour as one span."""
    out: list[Span] = []
    for text, colour in cells:
        if out and out[-1][1] == colour:
            out[-1] = (out[-1][0] + text, colour)
        else:
            out.append((text, colour))
    return out


def _scale(low: float, high: float, zero: int, room: int) -> Line:
    """Both ends and zero, as far as they do not touch."""
    left, right = f.signed(low), f.signed(high)
    cells = list(" " * room)
    cells[zero] = "0"
    if zero > len(left) + 1:
        cells[: len(left)] = left
    if zero < room - len(right) - 2:
        cells[room - len(right) :] = right
    return Line(((" " * LABEL + "".join(cells), "faint"),))
