"""What every importer gives back, and the bounds it keeps to: one Protocol, one `Reading`, nothing dropped silently.

A source was made by somebody else's program, so it is data to be bounded, never to be believed: names are cut and made
harmless, sizes are capped, and what cannot be understood is listed with its place instead of raising.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from engine.text import clean_line

MAX_SOURCE = 256 << 20
"""Largest source in bytes; it is held in memory while it is read, and kept as a body."""

MAX_LINE = 1 << 20
MAX_COLUMNS = 1000
MAX_NAME = 200
MAX_TEXT = 4000
MAX_RUNS = 200_000
MAX_POINTS = 5_000_000
MAX_METRICS = 10_000
MAX_PROBLEMS = 10_000
DEADLINE_S = 300.0
SHOWN = 200
"""Characters of a line that was not understood that are kept with it."""

_INT64 = 2**63


class ImportRefused(Exception):
    """The source cannot be imported; the message says why and what to do."""


@dataclass(slots=True)
class Run:
    """One run as the source tells it. `metric` is None unless `outcome` is "finished"; `stored` is what stood there.

    `t` is when it ran, in seconds since the epoch; `seconds` how long; `memory_gb` its peak; `group` what repeats share.
    """

    n: int
    line: int
    segment: int = 0
    name: str = ""
    group: str = ""
    outcome: str = "finished"
    metric: float | None = None
    stored: str = ""
    status: str = ""
    description: str = ""
    commit: str = ""
    seed: int | None = None
    steps: int | None = None
    tokens: float | None = None
    seconds: float | None = None
    memory_gb: float | None = None
    t: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    further: dict[str, float] = field(default_factory=dict)
    detail: str = ""


@dataclass(slots=True)
class Segment:
    """A stretch of the source with one metric and direction ("min" or "max"); runs are never ranked across segments."""

    number: int
    name: str = ""
    metric: str = ""
    direction: str = "min"
    unit: str = ""
    line: int = 0


@dataclass(slots=True)
class Problem:
    """Lines (or records) `line` to `last` that were not understood, with the start of the first one, and why."""

    line: int
    last: int
    text: str
    why: str


@dataclass(slots=True)
class Account:
    """Where every line, value, record or row of the source went. `unit` says which of these is counted."""

    unit: str = "lines"
    total: int = 0
    header: int = 0
    run: int = 0
    measured: int = 0
    comments: int = 0
    left_out: int = 0
    not_understood: int = 0

    @property
    def whole(self) -> bool:
        """Whether the parts add up to the total."""
        parts = self.header + self.run + self.measured + self.comments + self.left_out + self.not_understood
        return parts == self.total


class Curves:
    """Points of curves, in columns: which run and metric (indices into `runs` and `names`), step, time, value."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.run = array("q")
        self.metric = array("q")
        self.step = array("q")
        self.t = array("d")
        self.value = array("d")

    def __len__(self) -> int:
        return len(self.value)

    def name(self, text: str) -> int | None:
        """Index of a metric's name; None when there are too many names already."""
        known = self.names.get(text)
        if known is None:
            shown = cut(text)
            known = self.names.get(shown)
            if known is None:
                if len(self.names) >= MAX_METRICS:
                    return None
                known = self.names[shown] = len(self.names)
        return known

    def add(self, run: int, metric: int, step: int, t: float, value: float) -> None:
        """One point; `t` is NaN where the source has no time. Raises ImportRefused beyond MAX_POINTS."""
        if len(self.value) >= MAX_POINTS:
            raise ImportRefused(f"it has more than {MAX_POINTS} points: import it in smaller parts")
        if abs(step) >= _INT64:
            raise ValueError("a step that fits no 64 bits")
        self.run.append(run)
        self.metric.append(metric)
        self.step.append(step)
        self.t.append(t)
        self.value.append(value)


@dataclass(slots=True)
class Reading:
    """All that an importer understood of one source, and an account of the rest."""

    format: str
    account: Account = field(default_factory=Account)
    segments: list[Segment] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    curves: Curves = field(default_factory=Curves)
    notes: list[str] = field(default_factory=list)
    unlisted: int = 0
    """Lines that were not understood beyond those that `problems` has room for."""

    def run(self, line: int, **fields: Any) -> Run | None:
        """Add a run of the latest segment; None when there are too many."""
        if len(self.runs) >= MAX_RUNS:
            return None
        made = Run(len(self.runs) + 1, line, self.segments[-1].number if self.segments else 0, **fields)
        self.runs.append(made)
        return made

    def segment(self, line: int, **fields: Any) -> Segment:
        """Begin a new segment."""
        self.segments.append(Segment(len(self.segments), line=line, **fields))
        return self.segments[-1]

    def puzzled(self, line: int, text: str | bytes, why: str, last: int | None = None) -> None:
        """List lines `line` to `last` as not understood; a stretch with one reason is one entry."""
        last = line if last is None else last
        self.account.not_understood += last - line + 1
        before = self.problems[-1] if self.problems else None
        if before is not None and before.why == why and before.last == line - 1:
            before.last = last
        elif len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(line, last, shown(text), why))
        else:
            self.unlisted += last - line + 1

    def note(self, text: str) -> None:
        """Say something of the source as a whole, once."""
        if text not in self.notes and len(self.notes) < 50:
            self.notes.append(text)


@dataclass(frozen=True, slots=True)
class Source:
    """A source: what to call it, where its bytes lie on disk, the bytes, and what a person said of its columns."""

    name: str
    path: Path
    body: bytes
    mapping: Mapping[str, str] = field(default_factory=dict)
    ends: float = 0.0

    def check_time(self) -> None:
        """Raise ImportRefused when reading has taken too long."""
        if self.ends and time.monotonic() > self.ends:
            raise ImportRefused(f"reading {self.name} took longer than {DEADLINE_S:.0f} s: import it in smaller parts")


class Importer(Protocol):
    """Reads one format. A new format is a new file and a line in the registry (`engine/history/importers/__init__.py`)."""

    name: str
    says: str
    """What the format is, in a few words, for `--help` and for refusals."""

    def suits(self, name: str, head: bytes) -> float:
        """How likely a source with this file name and first 64 KiB is of the format, from 0 to 1."""

    def read(self, source: Source) -> Reading:
        """Read all of it. Never raises for what the bytes hold; ImportRefused when it cannot be bounded."""


def cut(text: str, limit: int = MAX_NAME) -> str:
    """`text` made harmless, on one line, and no longer than `limit` characters."""
    text = clean_line(text[: limit * 2])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shown(text: str | bytes) -> str:
    """The start of a line that was not understood, harmless."""
    if isinstance(text, bytes):
        text = text[: SHOWN * 4].decode("utf-8", "replace")
    return cut(text, SHOWN)


def whole(value: object) -> int | None:
    """A whole number that fits 64 bits, or None."""
    number = real(value)
    if number is None or number != number or abs(number) >= _INT64 or number != int(number):
        return None
    return int(value) if isinstance(value, int) else int(number)


def real(value: object) -> float | None:
    """A number as a float, infinite ones and NaN too; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def finite(value: object) -> float | None:
    """A finite number, or None."""
    number = real(value)
    return number if number is not None and abs(number) < float("inf") else None
