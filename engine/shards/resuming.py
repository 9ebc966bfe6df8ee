"""How a shard goes on where an attempt before it was cut off: it takes over what that one saved, and its curve.

A shard that can resume keeps what it needs in the directory `resume` of its run directory, and may say in `resume/step` up to
which step that holds. The next attempt starts with that directory, and with the lines of `metrics.jsonl` up to that step, so
that its file is the one series of the whole run. Everything there was written by untrusted code: nothing is followed, all is
bounded. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress

from engine.shards import process

DIRECTORY, STEP, METRICS = "resume", "step", "metrics.jsonl"
MOST = 16 << 20  # bytes of a metrics file that are taken over; one that is larger is left where it is
_STEP = re.compile(rb'"step"\s*:\s*(\d{1,15})\b')


def begin(directory: int, earlier: str, attempt: int) -> None:
    """Make the run directory `directory` ready for a shard that can resume, from the run directory `earlier` of the attempt
    before it where there was one that left something. Raises OSError.

    The series is there before what was saved moves: one that is cut off in between leaves `earlier` to be gone on from.
    """
    at = _saved(earlier) if earlier else None
    if at is not None:
        mark = {"summary": {"resumed_at": at, "attempt": attempt}}
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(METRICS, flags, 0o600, dir_fd=directory), "wb") as file:
            file.write(_lines(earlier, at))
            file.write(json.dumps(mark).encode() + b"\n")
    if earlier:
        _take(directory, earlier)
    with suppress(FileExistsError):
        os.mkdir(DIRECTORY, 0o700, dir_fd=directory)


def left_something(run_dir: str) -> bool:
    """Whether an attempt saved anything there that another could go on from."""
    try:
        with os.scandir(os.path.join(run_dir, DIRECTORY)) as found:
            return next(found, None) is not None
    except OSError:
        return False


def _saved(earlier: str) -> int | None:
    """The step that the earlier attempt says it saved; None where it saved nothing or does not say."""
    with suppress(OSError):
        other = process.open_directory(earlier)
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inside = os.open(DIRECTORY, flags, dir_fd=other)
        finally:
            os.close(other)
        try:
            said = _read(STEP, 64, inside).strip()
        finally:
            os.close(inside)
        return int(said) if said.isdigit() else None
    return None


def _take(directory: int, earlier: str) -> None:
    """Move what the earlier attempt saved, where it is a directory indeed."""
    with suppress(OSError):
        other = process.open_directory(earlier)
        try:
            if stat.S_ISDIR(os.stat(DIRECTORY, dir_fd=other, follow_symlinks=False).st_mode):
                os.rename(DIRECTORY, DIRECTORY, src_dir_fd=other, dst_dir_fd=directory)
        finally:
            os.close(other)


def _lines(earlier: str, at: int) -> bytes:
    """The whole lines of the earlier attempt's metrics up to that step."""
    other = process.open_directory(earlier)
    try:
        body = _read(METRICS, MOST, other)
    finally:
        os.close(other)
    kept = []
    for line in body.split(b"\n")[:-1]:  # what follows the last end of a line was cut off
        found = _STEP.search(line)
        if found is None or int(found[1]) <= at:
            kept.append(line + b"\n")
    return b"".join(kept)


def _read(name: str, most: int, directory: int) -> bytes:
    """A regular file of at most `most` bytes; empty when there is none."""
    with suppress(OSError):
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        with open(found, "rb") as file:
            info = os.fstat(found)
            if stat.S_ISREG(info.st_mode) and info.st_nlink == 1 and info.st_size <= most:
                return file.read(most)
    return b""
