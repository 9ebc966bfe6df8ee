"""Placeholders in commands and environment values: `{seed}` is replaced, `{{` and `}}` stand for braces. Pure.

Python's `str.format` is not used: it reaches into attributes and indices, and the values come from a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")


def names(text: str) -> tuple[str, ...]:
    """The placeholders of `text`, in order, each once."""
    return tuple(dict.fromkeys(found[1] for found in _TOKEN.finditer(text) if found[1]))


def has_stray_brace(text: str) -> bool:
    """Whether `text` holds a brace that is neither escaped nor part of a placeholder."""
    return any(found[0] in "{}" for found in _TOKEN.finditer(text))


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with every placeholder replaced by its value. Raises ValueError for a name without one, or a stray brace."""

    def replace(found: re.Match[str]) -> str:
        if found[1] is None:
            if found[0] in ("{{", "}}"):
                return found[0][0]
            raise ValueError(f"stray brace in {text!r}: write {{{{ or }}}} for a brace")
        if found[1] not in values:
            raise ValueError(f"no value for {{{found[1]}}} in {text!r}: there are {', '.join(sorted(values))}")
        return values[found[1]]

    return _TOKEN.sub(replace, text)
