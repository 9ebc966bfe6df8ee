"""E and its bar in a few characters, for the columns of the terminal and of the command line, which paints nothing."""

from __future__ import annotations

from engine.judge.words import ratio
from engine.types import VerdictRow


def short_weight(verdict: VerdictRow | None) -> str:
    """`31/20`, for a column."""
    if verdict is None or (evidence := verdict.get("evidence")) is None:
        return ""
    bar = verdict.get("bar")
    return f"{ratio(evidence)}/{ratio(bar) if bar is not None else '∞'}"
