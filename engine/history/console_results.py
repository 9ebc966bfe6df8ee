"""Results that the query's own process holds as Arrow, so that a million rows scroll, sort and filter without another run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from engine.history.console_cells import Cells, column
from engine.history.console_filter import FilterError, Term, parse

ROWS = 5_000_000
"""Rows of one result that are held; the rest is left out and it is said."""
BYTES = 300_000_000
"""Bytes of one result that are held, as Arrow; laying it out takes as many again, below the address-space limit."""
BATCH = 4096
"""Rows that are taken at a time, few enough that the cap on bytes is felt before memory runs out."""
PAGE_ROWS = 5_000
PAGE_BYTES = 800_000


class ResultError(ValueError):
    """A result cannot be shown in that way; the message says why and what to do."""


class Held:
    """One result: columns by place (names may repeat), and the order in which its rows are shown."""

    def __init__(self, columns: Sequence[str], types: Sequence[str], table: Any, truncated: bool) -> None:
        self.columns = tuple(columns)
        self.types = tuple(types)
        self.table = table
        self.truncated = truncated
        self.order: Any = None  # places of the rows that are shown, in their order; None: all, as they came

    @property
    def total(self) -> int:
        """Rows that are shown."""
        return int(self.table.num_rows if self.order is None else len(self.order))

    def part(self, start: int, count: int) -> Any:
        """Rows `start` to `start + count` of those shown, as an Arrow table."""
        if self.order is None:
            return self.table.slice(start, count)
        return self.table.take(self.order.slice(start, count))

    def page(self, start: int, count: int) -> str:
        """`{"rows", "start", "total"}` as JSON: fewer rows than asked for where they would not fit in one message."""
        start, count = max(0, start), max(0, min(count, PAGE_ROWS))
        rows: list[str] = []
        size = 0
        for row in self._json_rows(start, count):
            size += len(row.encode("utf-8", "replace")) + 1
            if rows and size > PAGE_BYTES:
                break
            rows.append(row)
        return f'{{"rows":[{",".join(rows)}],"start":{start},"total":{self.total}}}'

    def _json_rows(self, start: int, count: int) -> Iterable[str]:
        """Rows as JSON lists; taken a few at a time, so that wide ones are not made for nothing."""
        for at in range(start, start + count, 100):
            rows = self.plain(at, min(100, start + count - at))
            if not rows:
                return
            for row in rows:
                text = json.dumps(row, allow_nan=False, ensure_ascii=False)
                if len(text) > PAGE_BYTES // 4:  # a row of many huge cells: each gets its share
                    share = max(16, PAGE_BYTES // 8 // len(row))
                    text = json.dumps([_shortened(each, share) for each in row], ensure_ascii=False)
                yield text

    def plain(self, start: int, count: int) -> list[list[Any]]:
        """Rows as plain JSON values."""
        part, cells = self.part(start, count), Cells()
        made = [column(kind, each.to_pylist(), cells) for kind, each in zip(self.types, part.columns, strict=True)]
        return [list(row) for row in zip(*made, strict=True)]

    def arrange(self, sort: Sequence[dict[str, Any]], text: str) -> int:
        """Show only rows that `text` lets through (`console_filter`), sorted; without either, all as they came. How many
        they are. NULL and NaN come last whichever way. Raises ResultError and FilterError."""
        import pyarrow.compute as pc

        keys = [self._key(each) for each in sort]
        mask = None
        for term in parse(text, self.columns):
            found = self._mask(term)
            mask = found if mask is None else pc.and_(mask, found)
        order = None if mask is None else pc.indices_nonzero(mask)
        if keys:
            import pyarrow as pa

            places = list(dict.fromkeys(place for place, _ in keys))
            chosen = pa.table([self.table.column(place) for place in places], names=[str(place) for place in places])
            chosen = chosen if order is None else chosen.take(order)
            ways = list({str(place): way for place, way in reversed(keys)}.items())[::-1]
            ranked = pc.sort_indices(chosen, sort_keys=ways, null_placement="at_end")
            order = ranked if order is None else order.take(ranked)
        self.order = order
        return self.total

    def _key(self, wanted: dict[str, Any]) -> tuple[int, str]:
        import pyarrow.types as kinds

        place = wanted.get("column")
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(self.columns):
            raise ResultError(f"there is no column {place!r}: columns are counted from 0 to {len(self.columns) - 1}")
        kind = self.table.column(place).type
        if kinds.is_nested(kind) or kinds.is_interval(kind) or kinds.is_null(kind):
            raise ResultError(
                f"{self.columns[place]} is {self.types[place]}, which has no order: sort by another column"
            )
        return place, "descending" if wanted.get("descending") is True else "ascending"

    # --- filtering

    def _mask(self, term: Term) -> Any:
        import pyarrow.compute as pc

        if term.column is not None:
            return pc.fill_null(self._compared(term.column, term.op, term.value), False)
        mask = None
        for place in range(len(self.columns)):
            found = pc.fill_null(pc.match_substring(self._text(place), term.value, ignore_case=True), False)
            mask = found if mask is None else pc.or_(mask, found)
        return mask

    def _compared(self, place: int, op: str, value: str) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.types as kinds

        values = self.table.column(place)
        if op in ("=", "!=") and value.lower() == "null":
            return pc.is_null(values) if op == "=" else pc.is_valid(values)
        if op == "~":
            try:
                return pc.match_substring_regex(self._text(place), value, ignore_case=True)
            except pa.ArrowInvalid as error:
                raise FilterError(f"{value!r} is no regular expression ({str(error)[:200]}): write another") from None
        scalar: Any
        if kinds.is_integer(values.type) or kinds.is_floating(values.type) or kinds.is_decimal(values.type):
            scalar = self._number(place, value)
            if isinstance(scalar, float) and math.isnan(scalar) and op in ("=", "!="):
                is_nan = pc.is_nan(values.cast(pa.float64(), safe=False))
                return is_nan if op == "=" else pc.or_kleene(pc.invert(is_nan), pc.is_null(values))
            if not kinds.is_integer(values.type) or isinstance(scalar, float):
                values = values.cast(pa.float64(), safe=False)
        elif kinds.is_boolean(values.type):
            if value.lower() not in ("true", "false"):
                raise FilterError(f"{self.columns[place]} is true or false, and {value!r} is neither")
            scalar = value.lower() == "true"
        else:
            values, scalar = self._text(place), value
        compare = {"=": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal}
        compare |= {">": pc.greater, ">=": pc.greater_equal}
        found = compare[op](values, scalar)
        return pc.or_kleene(found, pc.is_null(values)) if op == "!=" else found

    def _number(self, place: int, value: str) -> int | float:
        try:
            number = float(value)
        except ValueError:
            raise FilterError(f"{self.columns[place]} holds numbers, and {value!r} is none: write a number") from None
        whole = value.lstrip("+-").isdecimal() and len(value) < 19
        return int(value) if whole else number

    def _text(self, place: int) -> Any:
        """A column as text, as the grid shows it or nearly so."""
        import pyarrow as pa
        import pyarrow.types as kinds

        values = self.table.column(place)
        if kinds.is_string(values.type):
            return values
        if kinds.is_nested(values.type) or kinds.is_interval(values.type) or kinds.is_binary(values.type):
            return as_text(values, self.types[place])
        return values.cast(pa.string())


def as_text(values: Any, kind: str) -> Any:
    """A column that Arrow has no text for as JSON text."""
    import pyarrow as pa

    cells, out = Cells(), []
    for chunk in values.chunks:
        for each in column(kind, chunk.to_pylist(), cells):
            out.append(each if each is None or isinstance(each, str) else json.dumps(each, ensure_ascii=False))
    return pa.chunked_array([pa.array(out, pa.string())])


def gather(columns: Sequence[str], types: Sequence[str], reader: Any) -> Held:
    """Everything that `reader` yields, up to `ROWS` and `BYTES`. Raises MemoryError and DuckDB's errors."""
    import pyarrow as pa

    batches: list[Any] = []
    rows = size = 0
    truncated = False
    for batch in reader:
        if rows + batch.num_rows > ROWS:
            batch, truncated = batch.slice(0, ROWS - rows), True
        if size + batch.nbytes > BYTES:
            fits = int(batch.num_rows * max(0, BYTES - size) / batch.nbytes)
            batch, truncated = batch.slice(0, fits), True
        if batch.num_rows:
            batches.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
        if truncated:
            break
    names = [str(place) for place in range(len(columns))]
    arrays = pa.Table.from_batches(batches, reader.schema).rename_columns(names)
    batches.clear()
    return Held(columns, types, pa.table([_simple(each) for each in arrays.columns], names=names), truncated)


def _simple(values: Any) -> Any:
    """A column in one piece (rows are then found at once), of a type that can be sorted and taken from."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_dictionary(values.type):
        values = values.cast(pa.string())
    elif kinds.is_union(values.type):
        values = as_text(values, "")
    made = values.combine_chunks()
    return pa.chunked_array([made], type=values.type) if isinstance(made, pa.Array) else made


def _shortened(value: Any, most: int) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more)"
