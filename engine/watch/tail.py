"""From files that running shards write to batches of points: woken by watchfiles, with polling as the floor that always works.

Every file is untrusted: opened anew for each look (which also sees what a network file system hides from an open one),
never through a link, never anything but a regular file, in bounded pieces, one piece a file in turn.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import watchfiles

from engine.watch.parse import Parser, Point

CHUNK = 1 << 20  # bytes of one file a turn
ROUND = 4 << 20  # bytes of all files that are read before they are handed on
LIMIT = 1 << 30  # bytes of one file at most
POLL_S = 0.25
WATCHED = 16
"""Files up to which their directories are watched. Of more, something is new at every look: then watching finds nothing that
polling does not, and costs more than looking does."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read of one shard's file between the byte offsets `start` and `offset`, both at line ends.

    `garbage` counts lines, `ignored` values left out of good lines. `note` says in words why nothing more of this file
    will be read; `truncated` that it is because the file shrank or was replaced: what was read before stays.
    """

    shard: str
    points: list[Point]
    summary: dict[str, float | str]
    start: int
    offset: int
    garbage: int = 0
    ignored: int = 0
    truncated: bool = False
    note: str | None = None


@dataclass(slots=True, eq=False)
class _Tail:
    """One file that is followed. `offset` is where its last whole line ended, `position` how far it was read."""

    shard: str
    path: Path
    parser: Parser
    offset: int
    position: int
    identity: tuple[int, int] | None = None
    over: bool = False  # nothing more is read of it
    leaving: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at some files found: batches; the files that it did not come to; those it read something of, and whether one
    of them may have more to read at once."""

    found: list[Batch]
    unread: list[_Tail]
    moved: set[_Tail]
    more: bool


class Tailer:
    """Follows any number of files and yields what their new lines hold."""

    def __init__(self, runs: Path, poll_s: float = POLL_S) -> None:
        self._runs = runs
        self._poll_s = poll_s
        self._tails: dict[str, _Tail] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self._reading = False
        self._notifier = _Notifier()

    def add(self, shard: str, path: Path, parser: Parser, offset: int = 0) -> None:
        """Follow `path` from byte `offset`, the end of a line that was taken in before. It need not exist yet."""
        if shard not in self._tails:
            self._tails[shard] = _Tail(shard, path, parser, offset, offset)
            self._wake.set()

    async def remove(self, shard: str) -> None:
        """Nothing will be written any more: read the rest, and forget it once the reader of `batches` has taken that.

        An unfinished last line is left where it is. Returns at once when nobody reads `batches`.
        """
        tail = self._tails.get(shard)
        if tail is None:
            return
        if not self._reading:
            del self._tails[shard]
            return
        tail.leaving = True
        self._wake.set()
        await tail.gone.wait()

    async def close(self) -> None:
        """End `batches`; the rest of the files stays unread. Blocks on nothing."""
        self._closed = True
        self._wake.set()
        self._release()

    async def batches(self) -> AsyncIterator[Batch]:
        """What is new, as it comes, until `close`. For one reader."""
        async for found in self.rounds():
            for batch in found:
                yield batch

    async def rounds(self) -> AsyncIterator[list[Batch]]:
        """The same, with all that one look at the files has found at a time: a thread is asked once for many files, and
        whoever reads can do for all of them what need not be done for each. None is empty."""
        self._reading = True
        try:
            while not self._closed:
                self._wake.clear()
                tails = list(self._tails.values())
                leaving = [tail for tail in tails if tail.leaving]
                followed = [tail for tail in tails if not tail.over]
                self._notifier.watch({tail.path.parent for tail in followed if len(followed) <= WATCHED}, self._wake)
                unread, moved, more = followed, set[_Tail](), False
                while unread:
                    look = await asyncio.to_thread(_look, unread)
                    unread, moved, more = look.unread, moved | look.moved, more or look.more
                    if look.found:
                        yield look.found
                for tail in leaving:
                    if tail not in moved:
                        self._forget(tail)
                if not more and moved.isdisjoint(leaving):
                    await self._next()
        finally:
            self._reading = False
            self._release()

    async def _next(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _forget(self, tail: _Tail) -> None:
        self._tails.pop(tail.shard, None)
        tail.gone.set()

    def _release(self) -> None:
        self._notifier.stop()
        for tail in self._tails.values():
            tail.gone.set()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def _refused(tail: _Tail, info: os.stat_result) -> tuple[str, bool] | None:
    """Why the file is read no further, and whether that is because it shrank or was replaced."""
    name = tail.path.name
    if not stat.S_ISREG(info.st_mode):
        return f"{name} is not a regular file; it is not read", False
    if tail.identity is not None and tail.identity != (info.st_dev, info.st_ino):
        return f"{name} was replaced by another file; it is read no further", True
    if info.st_size < tail.position:
        return f"{name} shrank from {tail.position} to {info.st_size} bytes; it is read no further", True
    if info.st_size > tail.position >= LIMIT:
        return f"{name} is larger than {LIMIT} bytes; it is read no further", False
    return None


def _look(tails: list[_Tail]) -> _Look:
    """Read the next piece of each file, until that is enough."""
    found: list[Batch] = []
    moved: set[_Tail] = set()
    read, more = 0, False
    for n, tail in enumerate(tails):
        if read >= ROUND:
            return _Look(found, tails[n:], moved, more)
        before = tail.position
        batch = _read(tail)
        if tail.position > before:
            moved.add(tail)
        read += tail.position - before
        more = more or tail.position - before >= CHUNK
        if batch is not None:
            found.append(batch)
    return _Look(found, [], moved, more)


def _read(tail: _Tail) -> Batch | None:
    """The next piece of the file; None when it completes no line."""
    try:
        found = _open(tail.path)
    except OSError as error:
        if error.errno != errno.ELOOP:
            return None
        return _end(tail, f"{tail.path.name} is a symbolic link; it is not read", False)
    try:
        info = os.fstat(found)
        refused = _refused(tail, info)
        if refused is not None:
            return _end(tail, *refused)
        tail.identity = (info.st_dev, info.st_ino)
        if info.st_size == tail.position:
            return None
        data = os.pread(found, CHUNK, tail.position)
    except OSError as error:
        return _end(tail, f"{tail.path.name} cannot be read: {error.strerror}", False)
    finally:
        os.close(found)
    tail.position += len(data)
    parsed = tail.parser.feed(data)
    start, tail.offset = tail.offset, tail.offset + parsed.consumed
    if not parsed.consumed:
        return None
    return Batch(tail.shard, parsed.points, parsed.summary, start, tail.offset, parsed.garbage, parsed.ignored)


def _end(tail: _Tail, note: str, truncated: bool) -> Batch:
    tail.over = True
    log.warning("%s: %s", tail.shard, note)
    return Batch(tail.shard, [], {}, tail.offset, tail.offset, truncated=truncated, note=note)


class _Notifier:
    """A thread that sets an event when something changes in the watched directories. Its failure costs 250 ms, no more."""

    def __init__(self) -> None:
        self._watched: set[Path] = set()
        self._stop = threading.Event()

    def watch(self, directories: set[Path], wake: asyncio.Event) -> None:
        """Watch these and no others. Directories that do not exist yet are taken up by a later call."""
        wanted = {each for each in directories if each in self._watched or each.is_dir()}
        if wanted == self._watched:
            return
        self.stop()
        self._watched = wanted
        if wanted:
            loop = asyncio.get_running_loop()
            work = threading.Thread(
                target=_notify, args=(wanted, self._stop, loop, wake), daemon=True, name="watchfiles"
            )
            work.start()

    def stop(self) -> None:
        """Let the thread end by itself within milliseconds; nobody waits for it."""
        self._stop.set()
        self._stop = threading.Event()
        self._watched = set()


def _notify(
    directories: set[Path], stop: threading.Event, loop: asyncio.AbstractEventLoop, wake: asyncio.Event
) -> None:
    try:
        changes = watchfiles.watch(
            *directories,
            watch_filter=None,
            debounce=100,
            step=50,
            stop_event=stop,
            rust_timeout=1000,
            yield_on_timeout=True,
            recursive=False,
            raise_interrupt=False,
        )
        for change in changes:
            if change:
                loop.call_soon_threadsafe(wake.set)
    except (OSError, RuntimeError) as error:  # no watches left, a directory that went, a loop that closed
        log.info("watching is off, polling goes on: %s", error)
