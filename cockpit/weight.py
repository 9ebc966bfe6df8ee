"""E and its bar in a few characters, for the columns of the terminal and of the command line, which paints nothing."""

from __future__ import annotations

from engine.judge.words import ratio
from engine.types import VerdictRow

_FAR = 1_000


def short_weight(verdict: VerdictRow | None) -> str:
    """`31/20`, for a column of seven cells; `>1k/20` for what is far beyond most bars."""
    if verdict is None or (evidence := verdict.get("evidence")) is None:
        return ""
    bar = verdict.get("bar")
    weight = ratio(evidence) if evidence < _FAR else ">1k"
    return f"{weight}/{ratio(bar) if bar is not None else '∞'}"
