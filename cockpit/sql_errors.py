"""Where in the SQL an error is, in words, and what is wrong there: the database's own drawing of it is taken apart; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DRAWN = re.compile(r"\n*LINE (?P<line>\d+): (?P<code>[^\n]*)\n(?P<caret> *)(?P<length>\^+)[^\n]*(?:\n|$)")
_KIND = re.compile(r"^(?:[A-Z][a-z]+ )+Error: ")


@dataclass(frozen=True, slots=True)
class SqlError:
    """What is wrong, and where: `line` and `column` count from 1 (0: not known), `length` in characters."""

    message: str
    line: int = 0
    column: int = 0
    length: int = 1

    @property
    def sentence(self) -> str:
        """The place in words, then the message on one line."""
        return f"line {self.line}, column {self.column}: {self.message}" if self.line else self.message


def read(message: str, sql: str, data: object = None) -> SqlError:
    """The error that the engine told. Its `data` may give line and column; else they are read off the drawing."""
    found = _DRAWN.search(message)
    words = _words(message if found is None else message[: found.start()] + "\n" + message[found.end() :])
    given = _given(data)
    if given is not None:
        return SqlError(words, *given)
    if found is None:
        return SqlError(words)
    line = int(found["line"])
    place = len(found["caret"]) - len(f"LINE {line}: ")
    rows = sql.split("\n")
    code = found["code"]
    if not 1 <= line <= len(rows) or place < 0:
        return SqlError(words)
    if code.startswith("..."):  # a long line is drawn from its middle
        middle = code[3:].removesuffix("...")
        begin = rows[line - 1].find(middle)
        if begin < 0:
            return SqlError(words)
        place += begin - 3
    return SqlError(words, line, min(place, len(rows[line - 1])) + 1, len(found["length"]))


def _given(data: object) -> tuple[int, int] | None:
    if isinstance(data, Mapping) and isinstance(data.get("line"), int) and data["line"] > 0:
        column: Any = data.get("column")
        return data["line"], column if isinstance(column, int) and column > 0 else 1
    return None


def _words(message: str) -> str:
    """The message without the database's class of errors, its lines joined as sentences."""
    lines = [line.strip() for line in _KIND.sub("", message.strip()).split("\n")]
    kept = [line for line in lines if line]
    joined = ". ".join(line.rstrip(".!") for line in kept)
    return joined[:1].lower() + joined[1:] if joined[:2] != joined[:2].upper() else joined
