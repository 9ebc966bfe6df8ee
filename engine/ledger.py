"""The append-only record of what happened: one hash-chained JSON line an event, durable before its effect.

A line is `{"v":1,"n":7,"t":…,"type":"…","data":{…},"prev":"<hash of line 6>","hash":"<hash of the bytes before this key>"}`.
Hashing the bytes as they lie on disk, instead of a canonical form of what they say, makes reading 100,000 events cheap and
lets `sha256sum` check a line.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

VERSION = 1
GENESIS = "0" * 64
_MARK = b',"hash":"'
_TAIL = len(_MARK) + 64 + 2  # mark, hash, quote and brace


class LedgerError(Exception):
    """The ledger cannot be trusted as it is; the message names the line and says what to do."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line: version, number from 1, time (seconds since the epoch), type, data."""

    v: int
    n: int
    t: float
    type: str
    data: Mapping[str, Any]


def seal(v: int, n: int, t: float, kind: str, data: Mapping[str, Any], prev: str) -> tuple[bytes, str]:
    """The line of an event (with its newline) and its hash."""
    body = orjson.dumps({"v": v, "n": n, "t": t, "type": kind, "data": data, "prev": prev})[:-1]
    digest = hashlib.sha256(body).hexdigest()
    return body + _MARK + digest.encode() + b'"}\n', digest


def read_lines(raw: bytes, name: str = "ledger.jsonl") -> Iterator[tuple[Event, str]]:
    """Events of whole lines with their hashes, each checked against the chain. Raises LedgerError at the first break."""
    prev = GENESIS
    start, number = 0, 0
    while start < len(raw):
        number += 1
        end = raw.find(b"\n", start)
        line = raw[start:end] if end >= 0 else raw[start:]
        start = end + 1 if end >= 0 else len(raw)
        digest = _sealed(line)
        if digest is None:
            raise LedgerError(f"{name}:{number}: this line was changed or damaged: its hash does not match; {_ADVICE}")
        try:
            fields = orjson.loads(line)
            event = Event(fields["v"], fields["n"], fields["t"], fields["type"], fields["data"])
            chained = fields["prev"] == prev and event.n == number
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{name}:{number}: not an event: {error}; {_ADVICE}") from None
        if not chained:
            raise LedgerError(f"{name}:{number}: the chain is broken: a line before it is missing or moved; {_ADVICE}")
        prev = digest
        yield event, digest


def _sealed(line: bytes) -> str | None:
    """The hash that closes a line (without its newline); None when the line is not what was hashed."""
    body = line[:-_TAIL]
    digest = hashlib.sha256(body).hexdigest()
    return digest if line[len(body) :] == _MARK + digest.encode() + b'"}' else None


_ADVICE = "restore the file from a backup, or keep its whole part with `head`, then run `cockpit verify`"


class Ledger:
    """The open ledger of one engine. Only one process writes it (the engine's lock sees to that)."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.events: list[Event] = []
        self.torn: Path | None = None
        self.newest_version = VERSION
        self._clock = clock
        self._hash = GENESIS
        self._load()
        fresh = not path.exists()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if fresh:
            _sync_directory(path.parent)

    @property
    def head(self) -> int:
        """Number of the last event; 0 when there is none."""
        return len(self.events)

    @property
    def read_only(self) -> bool:
        """True when a newer program wrote here: its events may not be understood, so nothing is added."""
        return self.newest_version > VERSION

    def append(self, kind: str, data: Mapping[str, Any]) -> Event:
        """Write one event and make it durable. Raises LedgerError when the ledger is read-only."""
        return self.append_all([(kind, data)])[0]

    def append_all(self, entries: list[tuple[str, Mapping[str, Any]]]) -> list[Event]:
        """Write several events with one fsync; they are durable when this returns. All or none survive a crash of the
        machine only as far as the file system keeps a single write whole; a torn end is set aside at the next start.

        Raises LedgerError when the ledger is read-only, OSError when the disk takes no more; the file is then as it was."""
        if self.read_only:
            raise LedgerError(
                f"{self.path}: written by a newer version ({self.newest_version}); it is opened read-only"
            )
        lines: list[bytes] = []
        events: list[Event] = []
        digest = self._hash
        for kind, data in entries:
            plain = orjson.loads(orjson.dumps(data))  # what is folded now is what will be read from disk
            event = Event(VERSION, self.head + len(events) + 1, round(self._clock(), 6), kind, plain)
            line, digest = seal(event.v, event.n, event.t, kind, plain, digest)
            lines.append(line)
            events.append(event)
        self._write(b"".join(lines))
        self._hash = digest
        self.events += events
        return events

    def close(self) -> None:
        os.close(self._file)

    def _write(self, blob: bytes) -> None:
        """Make `blob` durable at the end of the file, or leave the file as it was: a full disk must not break the chain."""
        size = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(blob):
                written += os.write(self._file, blob[written:])
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise

    def _load(self) -> None:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return
        whole = raw.rfind(b"\n") + 1
        for event, digest in read_lines(raw[:whole], str(self.path)):
            self.events.append(event)
            self._hash = digest
            if event.v > self.newest_version:
                self.newest_version = event.v
        if whole == len(raw):
            return
        if _sealed(raw[whole:-1]):  # all of an event and one byte more: it was whole once, so it is damaged, not torn
            where = f"{self.path}:{self.head + 1}"
            raise LedgerError(f"{where}: the end of this line was changed or damaged; {_ADVICE}")
        if not self.read_only:
            self.torn = set_aside(self.path, raw, whole, self._clock())


def set_aside(path: Path, raw: bytes, whole: int, now: float) -> Path:
    """Move the torn last line (bytes from `whole` on) into a file of its own beside the ledger; return that file."""
    torn = path.with_name(f"{path.stem}.torn-{int(now)}")
    with open(torn, "ab") as file:
        file.write(raw[whole:])
        os.fsync(file.fileno())
    with open(path, "r+b") as file:
        file.truncate(whole)
        os.fsync(file.fileno())
    _sync_directory(path.parent)
    return torn


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
