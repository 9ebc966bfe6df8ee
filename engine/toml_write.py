"""Values as a TOML file writes them, for lab files that are drafted and for messages that show what was written. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

MOST = 200


def toml_text(text: str) -> str:
    """`text` as a TOML basic string, on one line."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_list(items: Iterable[str]) -> str:
    """`items` as a TOML array of strings."""
    return "[" + ", ".join(toml_text(each) for each in items) + "]"


def shown(value: object) -> str:
    """A value as the lab file would write it, short enough for a message; tables and lists by their kind only."""
    if isinstance(value, str):
        return toml_text(value if len(value) <= MOST else value[:MOST] + "…")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, int) and value.bit_length() > 100:
        return "a very large number"
    return str(value)[:80]
