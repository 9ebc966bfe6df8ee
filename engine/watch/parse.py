"""From the bytes that a shard wrote to points and summary values. Pure; the bytes are untrusted and never fatal.

Three formats, one Protocol: JSON lines, named groups over a log, and the step lines and closing block of autoresearch
scripts. How the bytes are cut into pieces makes no difference to what comes out.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import orjson

LINE = 64 * 1024  # bytes of one line; longer ones are garbage
TEXT_LINE = 4096  # bytes of a log line that patterns are tried on
KEYS = 256  # values taken from one line
NAMES = 512  # distinct names of one run
NAME = 200  # characters of a name
TEXT = 500  # characters of a summary text
STEP = 1 << 53
SHAPES = 64  # lists of names that one run's lines are remembered by

_NUMBERS = frozenset({int, float})
_NUMBER = re.compile(r"[+-]?(?:\d[\d,]*\.?\d*(?:[eE][+-]?\d{1,4})?|\.\d+(?:[eE][+-]?\d{1,4})?|nan|inf(?:inity)?)", re.I)
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at one step. `t` is seconds since the epoch, where the shard said so. NaN stays NaN."""

    step: int
    t: float | None
    values: dict[str, float]


@dataclass(slots=True)
class Parsed:
    """What some bytes held. `garbage` counts lines, `ignored` values that were left out of good lines (texts, nested
    ones, above the caps). `consumed` counts bytes of whole lines: reading may go on there after a restart."""

    points: list[Point] = field(default_factory=list)
    summary: dict[str, float | str] = field(default_factory=dict)
    garbage: int = 0
    ignored: int = 0
    consumed: int = 0


class Parser(Protocol):
    """Reads one run's bytes in order. `names` are those of the run so far, in order of appearance."""

    def feed(self, data: bytes) -> Parsed:
        """What the lines hold that `data` completes; an unfinished line waits."""
        ...

    def finish(self) -> Parsed:
        """What the unfinished last line holds, now that no more will come."""
        ...


class _Lines(ABC):
    """Cuts bytes into lines, and keeps the caps that hold for a whole run."""

    separators = re.compile(rb"\n")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._pending = b""
        self._skipped = 0  # bytes of an endless line that were let go of already
        self._names = set(names)

    def feed(self, data: bytes) -> Parsed:
        parsed = Parsed()
        start = 0
        for found in self.separators.finditer(data):
            piece = data[start : found.start()]
            parsed.consumed += self._skipped + len(self._pending) + found.end() - start
            if self._skipped or len(self._pending) + len(piece) > LINE:
                parsed.garbage += 1
            else:
                self._read(self._pending + piece, parsed)
            self._pending, self._skipped, start = b"", 0, found.end()
        self._pending += data[start:]
        if self._skipped or len(self._pending) > LINE:
            self._skipped += len(self._pending)
            self._pending = b""
        return parsed

    def finish(self) -> Parsed:
        parsed = Parsed(consumed=self._skipped + len(self._pending))
        if self._skipped:
            parsed.garbage += 1
        elif self._pending:
            self._read(self._pending, parsed)
        self._pending, self._skipped = b"", 0
        return parsed

    def _read(self, line: bytes, parsed: Parsed) -> None:
        if line.strip():
            self.read(line, parsed)

    @abstractmethod
    def read(self, line: bytes, parsed: Parsed) -> None:
        """Add what one line that is not blank holds to `parsed`."""

    def admit(self, name: str) -> bool:
        """True when a value called `name` may be kept: the name is short, and the run has not too many."""
        if name in self._names:
            return True
        if not 0 < len(name) <= NAME or len(self._names) >= NAMES:
            return False
        self._names.add(name)
        return True


class JsonLines(_Lines):
    """One JSON object a line: `{"step": 10, "loss": 2.3}` is a point, `{"summary": {...}}` merges into the summary.

    A run writes the same names on nearly all of its lines: those that were found good once are not looked at again.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        super().__init__(names)
        self._good: set[tuple[str, ...]] = set()  # names of whole lines of numbers, in their order

    def read(self, line: bytes, parsed: Parsed) -> None:
        try:
            row = _load(line)
        except (ValueError, RecursionError):
            row = None
        shape = tuple(row) if isinstance(row, dict) else ()
        if shape in self._good and (point := _point(row)) is not None:
            parsed.points.append(point)
            return
        if not isinstance(row, dict) or not all(name.isprintable() for name in row):
            parsed.garbage += 1
            return
        summary, step = row.pop("summary", None), row.pop("step", None)
        good = False
        if isinstance(summary, dict) and all(name.isprintable() for name in summary):
            self._summarise(summary, parsed)
            good = True
        if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < STEP:
            t = _float(row.pop("t", None))
            parsed.points.append(Point(step, t if t is not None and math.isfinite(t) else None, {}))
            self._values(row, parsed)
            good = True
            plain = "summary" not in shape and len(row) == len(parsed.points[-1].values)
            if plain and len(self._good) < SHAPES:
                self._good.add(shape)
        if not good:
            parsed.garbage += 1

    def _values(self, row: dict[str, Any], parsed: Parsed) -> None:
        values = parsed.points[-1].values
        for name, raw in row.items():
            value = _float(raw)
            if value is None or len(values) >= KEYS or not self.admit(name):
                parsed.ignored += 1
            else:
                values[name] = value

    def _summarise(self, row: dict[str, Any], parsed: Parsed) -> None:
        for n, (name, raw) in enumerate(row.items()):
            value: float | str | None = _float(raw)
            if value is None and isinstance(raw, str) and len(raw) <= TEXT and raw.isprintable():
                value = raw
            if value is None or n >= KEYS or not self.admit(name):
                parsed.ignored += 1
            else:
                parsed.summary[name] = value


def _point(row: dict[str, Any]) -> Point | None:
    """The point of a line whose names are good; None, and `row` with all that it had, when a value is not a plain number."""
    step = row.pop("step")
    t = row.pop("t", None)
    kinds = set(map(type, row.values()))
    if type(step) is int and 0 <= step < STEP and kinds <= _NUMBERS and (t is None or type(t) is float):
        when = t if t is not None and math.isfinite(t) else None
        try:
            return Point(step, when, row if int not in kinds else {name: float(value) for name, value in row.items()})
        except OverflowError:
            pass  # an integer beyond all floats is left out, as on any other line
    row |= {"step": step} if t is None else {"step": step, "t": t}
    return None


def _load(line: bytes) -> Any:
    """The JSON of one line: orjson, and the slow reader for what it refuses (NaN) or would hide (a key given twice)."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line, object_pairs_hook=_unique)
    if isinstance(row, dict) and line.count(b'"') == 2 * len(row):
        return row  # names and plain values only, each name once
    return json.loads(line, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key is given twice")
    return row


def _float(raw: object) -> float | None:
    """`raw` as a number, or None when it is none; a boolean is none, and neither is an integer beyond all floats."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    try:
        return float(raw)
    except OverflowError:
        return None


def _read_number(text: str) -> float | None:
    """A number as people print it, with thousands separators; None when it is none."""
    return float(text.replace(",", "")) if _NUMBER.fullmatch(text) else None


class _TextLines(_Lines):
    """Lines of a log, which a carriage return ends too; escape sequences are taken out."""

    separators = re.compile(rb"[\r\n]")

    def read(self, line: bytes, parsed: Parsed) -> None:
        if len(line) <= TEXT_LINE:  # patterns can take long on long lines, and no step line is one
            self.read_text(_ESCAPE.sub("", line.decode("utf-8", "replace")), parsed)

    @abstractmethod
    def read_text(self, line: str, parsed: Parsed) -> None:
        """Add what one line of text holds to `parsed`."""

    def add(self, values: dict[str, float], name: str, value: float, parsed: Parsed) -> None:
        """Keep one value, within the caps."""
        if len(values) < KEYS and self.admit(name):
            values[name] = value
        else:
            parsed.ignored += 1


class RegexLines(_TextLines):
    """Named groups over a log: with a `step` a line is a point, without one its values merge into the summary.

    Lines that the pattern does not find are just log. A found line is garbage when its step is not a whole number or
    none of its values is a number. Raises ValueError when `pattern` is not a pattern with named groups.
    """

    def __init__(self, pattern: str, names: Iterable[str] = ()) -> None:
        super().__init__(names)
        try:
            self._pattern = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        if not self._pattern.groupindex:
            raise ValueError(f"{pattern!r} names no group: write (?P<step>\\d+) and (?P<loss>\\S+)")

    def read_text(self, line: str, parsed: Parsed) -> None:
        found = self._pattern.search(line)
        if found is None:
            return
        groups = {name: text.strip() for name, text in found.groupdict().items() if text is not None}
        step = groups.pop("step", None)
        numbers = {name: _read_number(text) for name, text in groups.items()}
        good = {name: value for name, value in numbers.items() if value is not None}
        parsed.ignored += len(numbers) - len(good)
        if step is None:
            if not good:
                parsed.garbage += 1
            kept: dict[str, float] = {}
            for name, value in good.items():
                self.add(kept, name, value, parsed)
            parsed.summary.update(kept)
            return
        number = _step(step)
        if number is None or (groups and not good):
            parsed.garbage += 1
            return
        point = Point(number, good.pop("t", None), {})
        for name, value in good.items():
            self.add(point.values, name, value, parsed)
        parsed.points.append(point)


class SummaryLines(_TextLines):
    """What autoresearch scripts print: `step 00010 (3.2%) | loss: 5.1 | dt: 300ms | tok/sec: 123,456`, and in the end
    lines of `name:   value`. Units become part of the name (`dt_ms`), tok/sec becomes `tokens_per_s`."""

    _step_line = re.compile(r"\s*step\s+(\d+)\s*(?:\(\s*([\d.]+)%\))?\s*\|(.*)", re.ASCII)
    _field = re.compile(r"\s*([A-Za-z_][\w./ -]{0,60}?)\s*:\s*(\S+?)\s*(ms|s|%)?\s*", re.ASCII)
    _closing = re.compile(r"([A-Za-z_][\w./-]{0,60}):[ \t]+(\S+)\s*", re.ASCII)
    _called: ClassVar = {"tok/sec": "tokens_per_s", "tok/s": "tokens_per_s", "tokens/s": "tokens_per_s"}
    _also: ClassVar = {
        "num_steps": ("steps", 1.0),
        "total_tokens_M": ("tokens", 1e6),
        "num_params_M": ("parameters", 1e6),
    }

    def read_text(self, line: str, parsed: Parsed) -> None:
        step_line = self._step_line.fullmatch(line)
        if step_line is not None:
            self._point(step_line[1], step_line[2], step_line[3], parsed)
            return
        closing = self._closing.fullmatch(line)
        value = None if closing is None else _read_number(closing[2])
        if closing is not None and value is not None:
            kept: dict[str, float] = {}
            self.add(kept, closing[1], value, parsed)
            if kept and closing[1] in self._also:
                name, factor = self._also[closing[1]]
                self.add(kept, name, value * factor, parsed)
            parsed.summary.update(kept)

    def _point(self, step: str, percent: str | None, rest: str, parsed: Parsed) -> None:
        number = _step(step)
        if number is None:
            parsed.garbage += 1
            return
        point = Point(number, None, {})
        progress = None if percent is None else _read_number(percent)
        if progress is not None:
            self.add(point.values, "progress", progress, parsed)
        for piece in rest.split("|"):
            found = self._field.fullmatch(piece)
            value = None if found is None else _read_number(found[2])
            if found is None or value is None:
                parsed.ignored += 1 if piece.strip() else 0
                continue
            name = self._called.get(found[1].lower(), found[1])
            self.add(point.values, f"{name}_{found[3]}" if found[3] in ("ms", "s") else name, value, parsed)
        parsed.points.append(point)


def _step(text: str) -> int | None:
    """The step `text` says, or None; it may be padded with zeros and have thousands separators."""
    digits = text.replace(",", "")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        return None
    return int(digits) if int(digits) < STEP else None


def make_parser(
    source: Literal["jsonl", "regex", "summary"], pattern: str | None = None, names: Iterable[str] = ()
) -> Parser:
    """The parser of a lab's metric source. Raises ValueError for a pattern that is none, or missing."""
    if source == "jsonl":
        return JsonLines(names)
    if source == "summary":
        return SummaryLines(names)
    if pattern is None:
        raise ValueError("metrics by regular expression need a pattern")
    return RegexLines(pattern, names)
