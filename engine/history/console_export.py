"""A held result as the bytes of a file, a part at a time: CSV, JSON, JSON lines or Parquet. The client writes the file."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from engine.history.console_results import Held, ResultError, as_text

FORMATS = ("csv", "json", "jsonl", "parquet")
PART = 600_000
"""Bytes of a part; as base64 it fits in one message."""
_ROWS = 2_000
_GROUP_BYTES = 16_000_000


class Export:
    """One file in the making. Parts are asked for in order, the last one once more where an answer was lost."""

    def __init__(self, held: Held, form: str) -> None:
        if form not in FORMATS:
            raise ResultError(f"there is no format {form!r}: choose one of {', '.join(FORMATS)}")
        self.form = form
        self._parts = _parts(_WAYS[form](held, unique(held.columns)))
        self._ahead: bytes | None = next(self._parts)
        self._last = b""
        self._number = 0

    def part(self, number: int) -> tuple[bytes, int | None]:
        """Part `number`, counted from 0, and the number of the next one, None after the last. Raises ResultError."""
        if number == self._number and self._ahead is not None:
            self._last, self._ahead = self._ahead, next(self._parts, None)
            self._number += 1
        elif number != self._number - 1:
            raise ResultError(f"part {number} is not the one that comes next: begin again with part 0")
        return self._last, None if self._ahead is None else self._number


def unique(names: Sequence[str]) -> list[str]:
    """Names of columns for a format that has each but once: a second `loss` becomes `loss_2`."""
    out: list[str] = []
    taken = set(names)
    for name in names:
        made, count = name, 1
        while made in out or (count > 1 and made in taken):
            count += 1
            made = f"{name}_{count}"
        out.append(made)
    return out


def _parts(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of one size; at least one part."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) > PART:
            yield bytes(held[:PART])
            del held[:PART]
    yield bytes(held)


def _objects(held: Held, names: Sequence[str]) -> Iterator[str]:
    for start in range(0, held.total, _ROWS):
        for row in held.plain(start, min(_ROWS, held.total - start)):
            yield json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, allow_nan=False)


def _jsonl(held: Held, names: Sequence[str]) -> Iterator[bytes]:
    for line in _objects(held, names):
        yield line.encode("utf-8", "replace") + b"\n"


def _json(held: Held, names: Sequence[str]) -> Iterator[bytes]:
    mark = b"["
    for line in _objects(held, names):
        yield mark + b"\n" + line.encode("utf-8", "replace")
        mark = b","
    yield b"\n]\n" if mark == b"," else b"[]\n"


def _csv(held: Held, names: Sequence[str]) -> Iterator[bytes]:
    import pyarrow.csv as csv

    options = csv.WriteOptions(include_header=True)
    for table in _tables(held, names, flat=True):
        made = io.BytesIO()
        csv.write_csv(table, made, options)
        options = csv.WriteOptions(include_header=False)
        yield made.getvalue()


def _parquet(held: Held, names: Sequence[str]) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    pieces = _Pieces()
    writer: Any = None
    for table in _tables(held, names, flat=False):
        if writer is None:
            writer = parquet.ParquetWriter(pa.PythonFile(pieces, "w"), table.schema, compression="zstd")
        writer.write_table(table)
        yield pieces.take()
    writer.close()
    yield pieces.take()


class _Pieces(io.RawIOBase):
    """A file that hands out what was written to it since the last time."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._held += piece
        self._at += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        out = bytes(self._held)
        self._held.clear()
        return out


def _tables(held: Held, names: Sequence[str], *, flat: bool) -> Iterator[Any]:
    """The rows in tables of moderate size, at least one; `flat` has nested values as JSON text."""
    import pyarrow as pa
    import pyarrow.types as kinds

    each_row = max(1, held.table.nbytes // max(1, held.table.num_rows))
    count = max(1, min(131_072, _GROUP_BYTES // each_row))
    for start in range(0, max(1, held.total), count):
        part = held.part(start, count)
        columns = []
        for kind, values in zip(held.types, part.columns, strict=True):
            odd = kinds.is_interval(values.type) or (
                flat and (kinds.is_nested(values.type) or kinds.is_binary(values.type))
            )
            columns.append(as_text(values, kind) if odd else values)
        yield pa.table(columns, names=list(names))


_WAYS = {"csv": _csv, "json": _json, "jsonl": _jsonl, "parquet": _parquet}
