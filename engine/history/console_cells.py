"""Values of a query as plain JSON: what a cell can be, and what the reader has to be told where it could not be said."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from typing import Any

CELL = 64 * 1024
"""Characters of one cell that are answered; the rest is cut off and its length told."""
_FLOATS = ("DOUBLE", "FLOAT")
_WHOLE = ("HUGEINT", "UHUGEINT")
_AS_THEY_ARE = ("BIGINT", "INTEGER", "SMALLINT", "TINYINT", "UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT", "BOOLEAN")


class Cells:
    """Makes values plain JSON, and remembers what could not be said in it."""

    def __init__(self) -> None:
        self.nonfinite = 0
        self.cut = 0
        self.notes: list[str] = []

    def plain(self, value: Any) -> Any:
        """A value that JSON has; what is longer than `CELL` is cut, nested values as the text of their JSON."""
        if isinstance(value, str):
            return self._cut(value)
        made = self._nested(value)
        if isinstance(made, list | dict):
            text = json.dumps(made, ensure_ascii=False)
            return made if len(text) <= CELL else self._cut(text)
        return self._cut(made) if isinstance(made, str) else made

    def said(self) -> list[str]:
        """What the reader of the answer has to be told."""
        out = list(self.notes)
        if self.nonfinite:
            out.append(f"{self.nonfinite} values that are not finite (NaN or infinite) are shown as null")
        if self.cut:
            out.append(f"{self.cut} cells were cut at {CELL:,} characters")
        return out

    def _cut(self, text: str) -> str:
        if len(text) <= CELL:
            return text
        self.cut += 1
        return f"{text[:CELL]}… ({len(text) - CELL:,} more)"

    def _nested(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float | Decimal):
            number = float(value)
            if math.isfinite(number):
                return number
            self.nonfinite += 1
            return None
        if isinstance(value, bytes | bytearray):
            return value[: CELL // 2 + 1].hex()
        if isinstance(value, datetime | date | clock_time):
            return value.isoformat()
        if hasattr(value, "nanoseconds") and hasattr(value, "months"):  # an interval as Arrow has it
            return interval(value.months, value.days, value.nanoseconds)
        if isinstance(value, dict):
            return {str(key): self._nested(each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._nested(each) for each in value]
        return str(value)


def column(kind: str, values: Sequence[Any], cells: Cells) -> list[Any]:
    """A column of DuckDB's type `kind` as plain JSON; in a column of floats NaN and infinities are text that says so."""
    if kind in _AS_THEY_ARE:
        return list(values)
    if kind in _FLOATS:
        return [value if value is None or math.isfinite(value) else nonfinite(value) for value in values]
    if kind in _WHOLE:
        return [None if value is None else int(value) for value in values]
    if kind.startswith("MAP(") and not kind.endswith("[]"):
        values = [value if value is None else dict(value) for value in values]
    return [cells.plain(value) for value in values]


def nonfinite(value: float) -> str:
    """How a number that JSON does not have is written."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def interval(months: int, days: int, nanoseconds: int) -> str:
    """A span of time as text: `1:30:00`, `3 days, 0:00:00`, `2 months`."""
    rest = timedelta(days=days, microseconds=nanoseconds // 1000)
    return f"{rest}" if not months else f"{months} months" + (f", {rest}" if rest else "")
