"""Horizontal bars: from zero to the right, and to the left where a value is negative. Pure.

Drawn in half cells with the strokes of box drawing, which every terminal font has, as the forest plot is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from engine.text import clean_line

from . import format as f
from .axes import column
from .raster import Span

LABEL = 24
"""Cells that a label takes at most."""
LEAST_BAR = 8
_BETTER = re.compile(r"gain|effect|better|shrunk|difference|change")
"""Columns in which more than 0 is good, by the product's convention that a gain is positive."""

Row = tuple[Span, ...]


def bars(name: str, items: Sequence[tuple[object, object]], width: int, height: int) -> list[Row]:
    """Bars for `(label, value)` in the order given: a head, then a row each, at most `height` rows; what has no number is left
    out and counted, and so are the rows for which there is no room."""
    found = column([value for _, value in items])
    values = found.values if found.kind == "number" else [None] * len(items)
    known = [(_label(label), value) for (label, _), value in zip(items, values, strict=True) if value is not None]
    left_out = len(items) - len(known)
    room = max(height - 1, 0)
    more = max(len(known) - room, 0)
    if more:
        more += 1  # the row that says so
    shown = known[: max(len(known) - more, 0)]
    said = f.plural(len(known), "bar") + (f", {f.plural(left_out, 'row')} without a number" if left_out else "")
    head: Row = ((f"→ {clean_line(name)}", "dim"), (f"  {said}", "warn" if left_out else "faint"))
    rows = bar_rows(shown, width, name, span=[value for _, value in known])
    tail: list[Row] = [((f"… and {f.plural(more, 'more bar')}", "faint"),)] if more and room else []
    return [head, *rows, *tail][:height]


def bar_rows(
    items: Sequence[tuple[str, float]], width: int, name: str = "", *, span: Sequence[float] | None = None
) -> list[Row]:
    """One row for each label with its bar and its value, all on one scale around zero; `span` are the values that the scale is
    to hold where these are not all. Values are finite, labels clean. Without room for bars, labels and values only."""
    if not items:
        return []
    pool = [0.0, *(value for _, value in items), *(span or ())]
    low, high = min(pool), max(pool)
    signed = low < 0
    figures = [_figure(value, signed) for _, value in items]
    wide = max(map(f.width_of, figures))
    label = min(max(f.width_of(text) for text, _ in items), LABEL, max(width - wide - LEAST_BAR - 4, 4))
    room = width - label - wide - 4
    judged = signed and _BETTER.search(name.lower()) is not None
    rows: list[Row] = []
    for (text, value), figure in zip(items, figures, strict=True):
        colour = ("good" if value > 0 else "bad" if value < 0 else "faint") if judged else "curve0"
        bar = _bar(value, low, high, room) if room >= LEAST_BAR else ("", "", "")
        rows.append(
            (
                (f.fit(text, label) + " ", "text"),
                (bar[0], colour),
                (bar[1], "rule"),
                (bar[2], colour),
                (" " + f.fit(figure, wide, right=True), colour if judged else "dim"),
            )
        )
    return [tuple(span for span in row if span[0]) for row in rows]


def _label(cell: object) -> str:
    return "(none)" if cell is None else clean_line(str(cell))[:200] or "(empty)"


def _figure(value: float, signed: bool) -> str:
    if abs(value) >= 100_000 or 0 < abs(value) < (0.00005 if signed else 0.001):
        return f"{value:+.2e}" if signed else f"{value:.2e}"
    if signed:
        return f.signed(value)
    return f"{value:.0f}" if value == int(value) else f.metric(value)


def _bar(value: float, low: float, high: float, room: int) -> tuple[str, str, str]:
    """What is left of zero, the line at zero, and what is right of it: `room` cells and one."""
    whole = high / 2 - low / 2  # halves, since the whole may be more than a float holds
    if whole < 1e-300:
        low, high, value, whole = (math.copysign(2.0, each) if each else 0.0 for each in (low, high, value, 1.0))
    left = min(max(round(-low / 2 / whole * room), int(low < 0)), room - int(high > 0))
    halves = round(abs(value) / 2 / whole * room * 2)
    if value and not halves:
        halves = 1  # little is not nothing
    full, half = divmod(halves, 2)
    if value < 0:
        text = ("╺" if half else "") + "━" * full
        return f.fit(text[-left:] if left else "", left, right=True), "│", " " * (room - left)
    text = "━" * full + ("╸" if half else "")
    return " " * left, "│", f.fit(text[: room - left], room - left)
