"""HTML of single values and whole tables. What comes from the history passes `text` here, and is text after it. Pure."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence

from engine.text import clean

_DIFFERENCE = re.compile(
    r"(^|_)(effect|lo|hi|gain|difference|shrunk|headline|claimed|audited|promised|trunk_shift)(_|$)"
)
"""Columns of differences, which are shown with their sign; > 0 is better."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")
CELL = 400
"""Characters of one cell that are shown; the rest is told by its length."""

VERDICTS: Mapping[str, str] = {
    "solid": "✓", "not-solid": "○", "harmful": "✗", "broken": "!", "undecided": "…", "barred": "⊘",
}  # fmt: skip
_SEVERE: Mapping[str, str] = {
    "never kept": "bad",
    "stop": "bad",
    "bars a keep": "bad",
    "asks": "warn",
    "warning": "warn",
}


def text(value: object) -> str:
    """Any value as text that is text, in an element or in a quoted attribute: nothing in it is markup, a control character or a
    mark that turns the direction of reading."""
    return html.escape(clean(str(value)), quote=True)


def number(value: float, *, signed: bool = False) -> str:
    """A number with five significant digits or so, the sign always there where it is a difference."""
    if not math.isfinite(value):
        return str(value)
    if signed:
        return f"{value:+.4f}" if abs(value) >= 0.0001 or value == 0 else f"{value:+.2e}"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.1f}"
    return f"{value:.5g}" if size >= 0.001 else f"{value:.2e}"


def cell(column: str, value: object) -> str:
    """One `<td>`; what is shown shorter than it is has the whole of it as its title."""
    if value is None:
        return '<td class="none">·</td>'
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, int | float):
        shown = (
            number(value, signed=_DIFFERENCE.search(column) is not None) if isinstance(value, float) else f"{value:,}"
        )
        return f'<td class="n" title="{text(repr(value))}">{text(shown)}</td>'
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else ", ".join(map(str, value))
    said = str(value)
    if column == "verdict" and said in VERDICTS:
        return f'<td><span class="v {said}">{VERDICTS[said]} {said}</span></td>'
    if column == "severity":
        return f'<td class="{_SEVERE.get(said, "dim")}">{text(said)}</td>'
    if _TIME.match(said):
        return f'<td class="t" title="{text(said)}">{text(said[:16].replace("T", " "))}</td>'
    wide = " wide" if len(said) > 40 else ""
    if len(said) > CELL:
        return f'<td class="s{wide}">{text(said[:CELL])}… <span class="dim">({len(said) - CELL:,} characters more)</span></td>'
    return f'<td class="s{wide}">{text(said)}</td>'


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, hidden: Sequence[str] = ()) -> str:
    """The rows as a table without the columns that are `hidden`, and without those in which nothing stands."""
    kept = [
        at
        for at, name in enumerate(columns)
        if name not in hidden and any(row[at] not in (None, [], {}) for row in rows)
    ]
    head = "".join(_heading(columns[at], [row[at] for row in rows]) for at in kept)
    body = "\n".join("<tr>" + "".join(cell(columns[at], row[at]) for at in kept) + "</tr>" for row in rows)
    return f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _heading(column: str, values: Sequence[object]) -> str:
    numeric = all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)
    style = ' class="n"' if numeric else ""
    return f'<th scope="col"{style}>{text(column.replace("_", " "))}</th>'


def details(summary: str, body: str) -> str:
    """A part that is folded in until somebody wants it; `body` is HTML."""
    return f"<details><summary>{text(summary)}</summary>\n{body}\n</details>"


def code(source: str) -> str:
    """A piece of code or SQL as it is."""
    return f"<pre><code>{text(source)}</code></pre>"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else noun + 's'}"
