"""autoresearch's `results.tsv`, as agents really write it: any columns, ragged and comma rows, prose in between, comments
that state the metric and its direction, and crashes stored as 0.000000, `DIVERGED`, `NaN` or `n/a`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from engine.history.importers.base import MAX_COLUMNS, Reading, Source, real
from engine.history.importers.columns import ALIASES, Columns, choose, commit_of, explain, run_of
from engine.history.importers.lines import lines
from engine.history.importers.words import BAD, begin, direction_said, knows_metric, likeliest_metric, unmask

_NAMES = frozenset(name for aliases in ALIASES.values() for name in aliases)
_RULE = re.compile(r"[|\s:+=-]+")
_DEFAULT = ("commit", "val_bpb", "memory_gb", "status", "description")
_STATUSES = frozenset(("keep", "kept", "discard", "discarded", "baseline", *BAD))
_SAID_METRIC = re.compile(r"\bmetric\s*(?:name)?\s*[:=]\s*[`\"']?([A-Za-z][\w./-]*)", re.I)
_SAID_WAY = re.compile(
    r"\bdirection\s*[:=]\s*(\w+)|\b(lower|higher|smaller|larger) is better|\b(minimi[sz]e|maximi[sz]e)\b", re.I
)


class Autoresearch:
    name = "autoresearch"
    says = "autoresearch's results.tsv, in all its dialects"

    def suits(self, name: str, head: bytes) -> float:
        first = [
            line for line in head.decode("utf-8", "replace").splitlines()[:20] if line and not line.startswith("#")
        ]
        if not first or "\t" not in head.decode("utf-8", "replace"):
            return 0.0
        cells = [each.strip().lower() for each in first[0].split("\t")]
        if "status" in cells and ("description" in cells or "commit" in cells):
            return 0.95
        return 0.8 if name.lower().endswith("results.tsv") else 0.0

    def read(self, source: Source) -> Reading:
        reading = Reading(self.name)
        table = _Table(reading, source.mapping)
        for number, line in lines(source, reading):
            table.take(number, line)
        table.end()
        unmask(reading)
        return reading


class _Table:
    """The table as far as it was read: its present header, and what comments said of the metric."""

    def __init__(self, reading: Reading, mapping: Mapping[str, str]) -> None:
        self.reading = reading
        self.mapping = mapping
        self.header: Sequence[str] = ()
        self.columns = Columns({})
        self.said = ""
        self.way = ""

    def take(self, number: int, line: str) -> None:
        """Place one line: comment, header, run, or not understood."""
        if _is_header(line):
            self.begin(number, _cells(line.lstrip("# "), 0))
            self.reading.account.header += 1
        elif line.lstrip().startswith(("#", "//", "```", "<!--")) or _RULE.fullmatch(line):
            self._comment(line)
            self.reading.account.comments += 1
        else:
            self._row(number, line)

    def begin(self, number: int, header: Sequence[str]) -> None:
        """A header: the same one again changes nothing, another one begins a segment."""
        if list(header) == list(self.header):
            return
        self.header = list(header)[:MAX_COLUMNS]
        mapping = {role: name for role, name in self.mapping.items() if role in ("direction", "unit") or name in header}
        if "metric" not in mapping and self.said in header:
            mapping["metric"] = self.said
        self.columns = choose(self.header, mapping)
        if "metric" not in self.columns.roles and len(self.header) > 1:
            free = [each for each in self.header[1:] if each not in self.columns.roles.values()]
            if free:
                self.columns = choose(self.header, {**mapping, "metric": free[0]})
        metric = self.columns.roles.get("metric", "")
        named = self.said if self.said and metric.lower() in ("metric", "score", "value") else metric
        begin(self.reading, number, named, self.columns.direction or self.way, unit=self.columns.unit)
        explain(self.reading, self.columns, self.header)

    def _comment(self, line: str) -> None:
        """What a comment states of the metric holds for the segment that it stands in, or before."""
        metric, way = _SAID_METRIC.search(line), _SAID_WAY.search(line)
        if metric:
            self.said = metric.group(1)
        if way:
            self.way = next(each for each in way.groups() if each)

    def _row(self, number: int, line: str) -> None:
        if not self.header and (_plausible(_cells(line, 5), _DEFAULT)):
            self.begin(number, _DEFAULT)
            self.reading.note(
                "no header line: the columns are taken as commit, val_bpb, memory_gb, status, description"
            )
        cells = _cells(line, len(self.header))
        record = self._record(cells) if self.header else None
        if record is None:
            self.reading.puzzled(number, line, "neither a comment nor a row of the table")
        elif run_of(self.reading, number, record, self.columns) is None:
            self.reading.puzzled(number, line, "more runs than an import may hold")
        else:
            self.reading.account.run += 1

    def _record(self, cells: Sequence[str]) -> dict[str, Any] | None:
        """The row's cells by column, ragged ones too; None for what is no row."""
        width = len(self.header)
        metric = self.columns.roles.get("metric")
        if len(cells) < 2 or metric is None:
            return None
        status = self.columns.roles.get("status")
        if status is not None:
            cells = _aligned(cells, self.header.index(status), width)
        cells = [*cells[: width - 1], "\t".join(cells[width - 1 :])] if len(cells) > width else cells
        record: dict[str, Any] = dict(zip(self.header, cells, strict=False))
        if not knows_metric(str(record.get(metric, ""))):
            return None
        if record.get(metric, "") == "" and not record.get(status or "", ""):
            return None
        return record

    def end(self) -> None:
        """What was said of the metric after the header holds too, unless a person said otherwise."""
        if self.way and "direction" not in self.mapping and len(self.reading.segments) == 1:
            said = direction_said(self.way)
            if said is not None and said != self.reading.segments[0].direction:
                self.reading.note(
                    f"a comment says that {said} is better, after the table began: --map direction={said}"
                )


def _is_header(line: str) -> bool:
    """Whether a line names columns: at least two known names, and no number, status or commit among its cells."""
    cells = [each.lower() for each in _cells(line.strip().lstrip("# "), 0)]
    if len(cells) < 2 or any(real(each) is not None or len(each) > 60 for each in cells):
        return False
    if any(each in _STATUSES or (commit_of(each) and each not in _NAMES) for each in cells[:5]):
        return False
    return sum(each in _NAMES or likeliest_metric([each]) is not None for each in cells) >= 2 and all(
        len(each.split()) <= 3 for each in cells
    )


def _cells(line: str, width: int) -> list[str]:
    """Cells of a row, by tabs; by commas (the last cell keeps its own) or bars where there is no tab."""
    if "\t" in line:
        return [each.strip() for each in line.split("\t")]
    if line.lstrip().startswith("|"):
        return [each.strip() for each in line.strip().strip("|").split("|")]
    return [each.strip() for each in (line.split(",", width - 1) if width > 1 else line.split(","))]


def _plausible(cells: Sequence[str], header: Sequence[str]) -> bool:
    return len(cells) >= 2 and len(cells[0]) < 60 and real(cells[1]) is not None and len(cells) <= len(header) + 1


def _aligned(cells: Sequence[str], at: int, width: int) -> Sequence[str]:
    """Cells with the status in its column: a row with one cell too few or too many before it is shifted."""
    if at < len(cells) and cells[at].lower() in _STATUSES:
        return cells
    found = next((n for n, each in enumerate(cells[1:], 1) if each.lower() in _STATUSES), None)
    if found is None or found == at:
        return cells
    if found < at:
        return [*cells[:found], *[""] * (at - found), *cells[found:]]
    return [*cells[:at], *cells[found:]] if found - at < width else cells
