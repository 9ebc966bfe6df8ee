"""E and its bar in a few characters, for the columns of the terminal and of the command line, which paints nothing."""

from __future__ import annotations

from engine.judge.words import ratio
from engine.types import VerdictRow

_FAR, _NONE = 1_000, 0.1


def short_weight(verdict: VerdictRow | None) -> str:
    """`31/20`, for a column of seven cells; `>1k/20` for what is far beyond most bars, `<0.1/20` for no evidence."""
    if verdict is None or (evidence := verdict.get("evidence")) is None:
        return ""
    bar = verdict.get("bar")
    weight = ">1k" if evidence >= _FAR else "<0.1" if evidence < _NONE else ratio(evidence)
    return f"{weight}/{ratio(bar) if bar is not None else '∞'}"
