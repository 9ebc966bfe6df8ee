"""Any table with a header and one run a row: CSV, semicolons or tabs, quoted cells too."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from engine.history.importers.base import MAX_COLUMNS, MAX_LINE, Reading, Source, real, whole
from engine.history.importers.columns import check_mapping, choose, explain, run_of
from engine.history.importers.jsonl import take
from engine.history.importers.lines import lines
from engine.history.importers.words import begin, unmask

_JOINED = 100
"""Most lines that one quoted cell may span; a quote that never closes then costs its own line alone."""


class CsvTable:
    name = "csv"
    says = "a table with a header: commas, semicolons or tabs"

    def suits(self, name: str, head: bytes) -> float:
        if b"\0" in head or head.lstrip()[:1] in (b"{", b"["):
            return 0.0
        first = next((line for line in head.splitlines() if line.strip() and not line.startswith(b"#")), b"")
        if not any(each in first for each in (b",", b";", b"\t")):
            return 0.6 if name.lower().endswith(".csv") else 0.0
        return 0.7 if name.lower().endswith((".csv", ".tsv")) else 0.3

    def read(self, source: Source) -> Reading:
        reading = Reading(self.name)
        check_mapping(source.mapping)
        rows = _rows(source, reading)
        header, rest = _header(rows, reading)
        if header is None:
            return reading
        body = [(first, last, cells) for first, last, cells in rest if _fits(reading, header, first, last, cells)]
        numeric = [
            name
            for n, name in enumerate(header)
            if any(n < len(cells) and real(cells[n]) is not None for _, _, cells in body[:200])
        ]
        columns = choose(header, source.mapping, numeric)
        step = columns.roles.get("step")
        if step is not None and ("step" in source.mapping or _several_steps(header, body, step)):
            self._curves(source, reading, header, body)
            return reading
        begin(reading, 1, columns.roles.get("metric", ""), columns.direction, unit=columns.unit)
        explain(reading, columns, header)
        for first, last, cells in body:
            if run_of(reading, first, dict(zip(header, cells, strict=False)), columns) is None:
                reading.puzzled(first, "", "more runs than an import may hold", last)
            else:
                reading.account.run += last - first + 1
        unmask(reading)
        return reading

    def _curves(
        self, source: Source, reading: Reading, header: list[str], body: list[tuple[int, int, list[str]]]
    ) -> None:
        """A table of curves, read as JSON lines are: numbers as numbers."""
        records = [(first, {k: _value(v) for k, v in zip(header, cells, strict=False)}) for first, _, cells in body]
        take(reading, records, source.mapping)
        reading.account.measured += sum(last - first for first, last, _ in body)


def _value(cell: str) -> Any:
    number = real(cell)
    if number is None:
        return cell
    exact = whole(cell)
    return number if exact is None or "." in cell or "e" in cell.lower() else exact


def _rows(source: Source, reading: Reading) -> Iterator[tuple[int, int, list[str]]]:
    """(first line, last line, cells) of every row; comments are counted, what never closes its quote is listed."""
    delimiter = ""
    waiting: list[tuple[int, str]] = []
    for number, line in lines(source, reading):
        if not waiting and line.lstrip().startswith("#"):
            reading.account.comments += 1
            continue
        delimiter = delimiter or max(",;\t", key=line.count)
        waiting.append((number, line))
        while waiting:
            first, text = waiting[0]
            joined = "\n".join(each for _, each in waiting)
            if joined.count('"') % 2 == 0:
                yield from _split(reading, waiting, joined, delimiter)
                waiting = []
            elif len(waiting) > _JOINED or len(joined) > MAX_LINE:
                reading.puzzled(first, text, "a quote is opened and never closed")
                waiting = _after(waiting)
                yield from _again(reading, waiting, delimiter)
            else:
                break
    while waiting:
        reading.puzzled(waiting[0][0], waiting[0][1], "a quote is opened and never closed")
        waiting = _after(waiting)
        yield from _again(reading, waiting, delimiter)


def _after(waiting: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return waiting[1:]


def _again(reading: Reading, waiting: list[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, int, list[str]]]:
    """Rows that stand whole in lines that were waiting for a quote; what is left keeps waiting."""
    while waiting and waiting[0][1].count('"') % 2 == 0:
        line = waiting.pop(0)
        yield from _split(reading, [line], line[1], delimiter)


def _split(
    reading: Reading, waiting: list[tuple[int, str]], joined: str, delimiter: str
) -> Iterator[tuple[int, int, list[str]]]:
    first, last = waiting[0][0], waiting[-1][0]
    skipped = last - first + 1 - len(waiting)  # blank lines within a quoted cell are counted as comments already
    if '"' not in joined:
        yield first, last, joined.split(delimiter)
        return
    try:
        found = list(csv.reader(io.StringIO(joined, newline=""), delimiter=delimiter))
    except csv.Error as error:
        found = []
        for number, text in waiting:
            reading.puzzled(number, text, f"no row of a table: {error}")
    if found:
        cells = found[0] if len(found) == 1 else [cell for row in found for cell in row]
        yield first, last - skipped, cells


def _header(
    rows: Iterator[tuple[int, int, list[str]]], reading: Reading
) -> tuple[list[str] | None, Iterator[tuple[int, int, list[str]]]]:
    """The first row as names, or made-up names where it holds numbers."""
    first = next(rows, None)
    if first is None:
        return None, rows
    cells = [each.strip() for each in first[2]]
    if any(real(each) is not None for each in cells):
        reading.note("the first row holds numbers, so columns are called column1, column2, …: --map metric=column1")

        def again() -> Iterator[tuple[int, int, list[str]]]:
            yield first
            yield from rows

        return [f"column{n}" for n in range(1, min(len(cells), MAX_COLUMNS) + 1)], again()
    reading.account.header += first[1] - first[0] + 1
    return cells[:MAX_COLUMNS], rows


def _fits(reading: Reading, header: list[str], first: int, last: int, cells: list[str]) -> bool:
    """Whether a row may be one of the table: it has a second column where the table has, and no more than the header."""
    if len(cells) > len(header) and any(each.strip() for each in cells[len(header) :]):
        reading.puzzled(first, ",".join(cells), f"more cells than the {len(header)} columns", last)
        return False
    if len(header) > 1 and len(cells) < 2:
        reading.puzzled(first, ",".join(cells), "fewer cells than a row of the table", last)
        return False
    if [each.strip() for each in cells] == header:
        reading.account.header += last - first + 1
        return False
    return True


def _several_steps(header: list[str], body: list[tuple[int, int, list[str]]], step: str) -> bool:
    """Whether the step differs from row to row more than the metric's final step would: points, not runs."""
    at = header.index(step)
    found = [number for _, _, cells in body[:200] if at < len(cells) and (number := whole(cells[at])) is not None]
    return len(found) > 2 and sum(b > a for a, b in pairwise(found)) > len(found) // 2
