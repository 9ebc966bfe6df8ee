"""The append-only record of what happened: one hash-chained JSON line an event, durable before its effect.

A line is `{"v":1,"n":7,"t":…,"type":"…","data":{…},"prev":"<hash of line 6>","hash":"<hash of the bytes before this key>"}`.
Hashing the bytes as they lie on disk, instead of a canonical form of what they say, makes reading 100,000 events cheap and
lets `sha256sum` check a line.
"""

from __future__ import annotations

import hashlib
import os
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson

VERSION = 1
GENESIS = "0" * 64
_MARK = b',"hash":"'
_TAIL = len(_MARK) + 64 + 2  # mark, hash, quote and brace
_PIECE = 2000  # events that are read again at a time


class LedgerError(Exception):
    """The ledger cannot be trusted as it is; the message names the line and says what to do."""


class Event(msgspec.Struct):
    """One line: version, number from 1, time (seconds since the epoch), type, its data as JSON, and the hash before it."""

    v: int
    n: int
    t: float
    type: str
    raw: msgspec.Raw = msgspec.field(name="data")
    prev: str = ""

    @property
    def data(self) -> Any:
        """The data, parsed."""
        return orjson.loads(bytes(self.raw))


_LINE = msgspec.json.Decoder(Event)


def seal(
    v: int, n: int, t: float, kind: str, data: Mapping[str, Any] | orjson.Fragment, prev: str
) -> tuple[bytes, str]:
    """The line of an event (with its newline) and its hash."""
    body = orjson.dumps({"v": v, "n": n, "t": t, "type": kind, "data": data, "prev": prev})[:-1]
    digest = hashlib.sha256(body).hexdigest()
    return body + _MARK + digest.encode() + b'"}\n', digest


def read_lines(raw: bytes, name: str = "ledger.jsonl") -> Iterator[tuple[Event, str]]:
    """Events of whole lines with their hashes, each checked against the chain. Raises LedgerError at the first break."""
    prev = GENESIS
    for number, line in enumerate(_lines(raw), 1):
        digest = _sealed(line)
        if digest is None:
            raise LedgerError(f"{name}:{number}: this line was changed or damaged: its hash does not match; {_ADVICE}")
        try:
            event = _LINE.decode(line)
        except (msgspec.MsgspecError, ValueError) as error:
            raise LedgerError(f"{name}:{number}: not an event: {error}; {_ADVICE}") from None
        if event.prev != prev or event.n != number:
            raise LedgerError(f"{name}:{number}: the chain is broken: a line before it is missing or moved; {_ADVICE}")
        prev = digest
        yield event, digest


def _lines(raw: bytes) -> list[bytes]:
    """The lines of `raw` without their newlines, of which the last may have none."""
    lines = raw.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _tell(each: Callable[[Event], None], events: list[Event]) -> None:
    for event in events:
        each(event)
    events.clear()


def _ignore(event: Event) -> None:
    """Only the chain is wanted."""


def _sealed(line: bytes) -> str | None:
    """The hash that closes a line (without its newline); None when the line is not what was hashed."""
    digest = hashlib.sha256(line[:-_TAIL]).hexdigest()
    return digest if line[-_TAIL:] == b'%b%b"}' % (_MARK, digest.encode()) else None


_ADVICE = "restore the file from a backup, or keep its whole part with `head`, then run `cockpit verify`"


class Ledger:
    """The open ledger of one engine. Only one process writes it (the engine's lock sees to that).

    Opening it checks the chain and hands every event to `each`, in order. Events are then forgotten, all but where they end:
    100,000 of them would be 150 MB of objects, and `since` reads them again for the few that ask."""

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, each: Callable[[Event], None] = _ignore
    ) -> None:
        self.path = path
        self.torn: Path | None = None
        self.newest_version = VERSION
        self._clock = clock
        self._hash = GENESIS
        self._ends = array("Q")  # offset behind each event's line
        self._load(each)
        fresh = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if fresh:
            _sync_directory(path.parent)

    @property
    def head(self) -> int:
        """Number of the last event; 0 when there is none."""
        return len(self._ends)

    @property
    def read_only(self) -> bool:
        """True when a newer program wrote here: its events may not be understood, so nothing is added."""
        return self.newest_version > VERSION

    def since(self, n: int, upto: int | None = None) -> Iterator[Event]:
        """Events n + 1 to `upto` (the head, unless given), read from the file a piece at a time."""
        upto = self.head if upto is None else upto
        while n < upto:
            start, piece = self._ends[n - 1] if n else 0, min(upto, n + _PIECE)
            raw = _read_all(self._file, start, self._ends[piece - 1] - start)
            yield from map(_LINE.decode, _lines(raw))
            n = piece

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
            raw = orjson.dumps(data)  # what is folded now is what will be read from disk
            event = Event(VERSION, self.head + len(events) + 1, round(self._clock(), 6), kind, msgspec.Raw(raw), digest)
            line, digest = seal(event.v, event.n, event.t, kind, orjson.Fragment(raw), digest)
            lines.append(line)
            events.append(event)
        self._write(b"".join(lines))
        self._hash = digest
        end = self._end()
        for line in lines:
            end += len(line)
            self._ends.append(end)
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

    def _end(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _load(self, each: Callable[[Event], None]) -> None:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return
        whole = raw.rfind(b"\n") + 1
        end = 0
        waiting: list[Event] = []  # reading many and then folding many takes 4/5 of the time of doing both in turn
        for event, digest in read_lines(raw[:whole], str(self.path)):
            self._hash = digest
            self._ends.append(end := raw.find(b"\n", end) + 1)
            if event.v > self.newest_version:
                self.newest_version = event.v
            waiting.append(event)
            if len(waiting) == _PIECE:
                _tell(each, waiting)
        _tell(each, waiting)
        if whole == len(raw):
            return
        if _sealed(raw[whole:-1]):  # all of an event and one byte more: it was whole once, so it is damaged, not torn
            where = f"{self.path}:{self.head + 1}"
            raise LedgerError(f"{where}: the end of this line was changed or damaged; {_ADVICE}")
        if not self.read_only:
            self.torn = set_aside(self.path, raw, whole, self._clock())


def _read_all(file: int, start: int, size: int) -> bytes:
    pieces = []
    while size > 0:
        piece = os.pread(file, size, start)
        if not piece:
            raise LedgerError(f"the ledger became shorter than it was at byte {start}; {_ADVICE}")
        pieces.append(piece)
        start, size = start + len(piece), size - len(piece)
    return b"".join(pieces)


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
