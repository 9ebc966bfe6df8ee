"""Any JSON lines: one run a line, or, where lines have a step, points of curves whose last metric is the run's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson

from engine.history.importers.base import Reading, Run, Source, cut, real, whole
from engine.history.importers.columns import (
    Columns,
    as_json,
    check_mapping,
    choose,
    explain,
    flat,
    param,
    run_of,
    seconds_of,
    text,
)
from engine.history.importers.lines import lines
from engine.history.importers.words import begin, settle, unmask

_LOOK = 200
_NAN = float("nan")
Numbered = list[tuple[int, dict[str, Any]]]


class JsonLines:
    name = "jsonl"
    says = "JSON lines: one run a line, or curves where lines have a step"

    def suits(self, name: str, head: bytes) -> float:
        first = head.lstrip()[:1]
        if first != b"{":
            return 0.0
        line = head.lstrip().split(b"\n", 1)[0]
        whole_line = isinstance(parsed(line.decode("utf-8", "replace")), dict)
        if name.lower().endswith((".jsonl", ".ndjson")):
            return 0.8
        return 0.5 if whole_line else 0.0

    def read(self, source: Source) -> Reading:
        reading = Reading(self.name)
        rows: Numbered = []
        for number, line in lines(source, reading):
            record = parsed(line)
            if isinstance(record, dict):
                rows.append((number, record))
            elif line.lstrip().startswith(("#", "//")):
                reading.account.comments += 1
            else:
                reading.puzzled(number, line, "no JSON object")
        take(reading, rows, source.mapping)
        return reading


def parsed(line: str) -> Any:
    """What a line of JSON holds, NaN and infinities too; None when it is none."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            return None


def take(reading: Reading, rows: Numbered, mapping: Mapping[str, str]) -> None:
    """Runs or curves from records; adds to the account. Raises ImportRefused for a mapping that does not fit."""
    check_mapping(mapping)
    if not rows:
        return
    seen: Counter[str] = Counter()
    numeric: dict[str, None] = {}
    steps = 0
    for _, record in rows[:_LOOK]:
        level = flat(record)
        seen.update(level.keys())
        numeric.update((key, None) for key, value in level.items() if real(value) is not None)
    if mapping:
        for _, record in rows[_LOOK:]:
            seen.update(flat(record).keys() & set(mapping.values()))
    columns = choose(seen, mapping, numeric)
    step = columns.roles.get("step")
    if step is not None:
        steps = sum(step in record for _, record in rows[:_LOOK])
    begin(reading, rows[0][0], columns.roles.get("metric", ""), columns.direction, unit=columns.unit)
    explain(reading, columns, list(numeric))
    if step is not None and 2 * steps >= min(len(rows), _LOOK):
        _Curves(reading, columns, step).take(rows)
    else:
        for number, record in rows:
            if run_of(reading, number, flat(record), columns) is None:
                reading.puzzled(number, "", "more runs than an import may hold")
            else:
                reading.account.run += 1
    unmask(reading)


class _Curves:
    """Turns records with a step into points; a run is told by its column, by the seed, or is the whole source."""

    def __init__(self, reading: Reading, columns: Columns, step: str) -> None:
        self.reading = reading
        self.columns = columns
        self.step = step
        self.key = columns.roles.get("run") or columns.roles.get("name") or columns.roles.get("seed")
        self.time = columns.roles.get("time")
        self.metric = columns.roles.get("metric")
        self.runs: dict[str, tuple[int, Run]] = {}
        self.last: dict[str, Any] = {}
        self.skip = {step, self.key, self.time, columns.roles.get("status")}

    def take(self, rows: Numbered) -> None:
        """Place every record: points, facts of a run, or not understood."""
        for number, record in rows:
            self._record(number, record)
        for key, (_, run) in self.runs.items():
            settle(run, self.last.get(key), self.reading.segments[-1].direction)
            if self.metric is None:
                run.detail = "no name was given as the metric: --map metric=NAME"

    def _run(self, number: int, key: str) -> tuple[int, Run] | None:
        if key not in self.runs:
            made = self.reading.run(number, name=cut(key))
            if made is None:
                return None
            self.runs[key] = (made.n - 1, made)
        return self.runs[key]

    def _record(self, number: int, record: dict[str, Any]) -> None:
        reading, account = self.reading, self.reading.account
        found = self._run(number, text(record.get(self.key)) if self.key else "")
        if found is None:
            reading.puzzled(number, "", "more runs than an import may hold")
            return
        index, run = found
        step = whole(record.get(self.step))
        if step is None:
            if self.step in record:
                reading.puzzled(number, as_json(record), "the step is no whole number")
            else:
                self._facts(run, record)
                account.comments += 1
            return
        if run.seed is None:
            run.seed = whole(self.columns.get(record, "seed"))
        run.status = cut(text(self.columns.get(record, "status")), 100) or run.status
        run.steps = max(run.steps or 0, step)
        t = seconds_of(record[self.time]) if self.time in record else None
        points = 0
        for key, value in record.items():
            if key in self.skip or type(value) not in (float, int):
                continue
            name = reading.curves.name(key)
            number_ = real(value)
            if name is not None and number_ is not None:
                reading.curves.add(index, name, step, _NAN if t is None else t, number_)
                points += 1
        if self.metric in record:
            self.last[text(record.get(self.key)) if self.key else ""] = record[self.metric]
        if points:
            account.measured += 1
        else:
            account.left_out += 1
            reading.note("some lines have a step and no number beside it")

    def _facts(self, run: Run, record: dict[str, Any]) -> None:
        """A line without a step tells of the run: its summary or its config."""
        for key, value in flat(record).items():
            inner = key.rpartition(".")[2]
            number = real(value)
            if inner == self.metric and number is not None:
                self.last[run.name] = value
            elif number is not None and abs(number) < float("inf"):
                run.further[cut(inner)] = number
            elif value is not None and key != self.key:
                run.params[cut(inner)] = param(value)
        self.reading.note("lines without a step are taken as facts of their run")
