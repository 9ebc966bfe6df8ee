"""Reading files that untrusted code may have put there: never through a link, never a pipe, never without a limit."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_regular(path: Path, limit: int, start: int = 0) -> bytes:
    """Up to `limit` bytes of a regular file from byte `start` on; b"" when there is no such file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return b""
        file.seek(start)
        return file.read(limit)


def read_tail(path: Path, limit: int = 16384) -> str:
    """The last `limit` bytes of a regular file, as text; "" when there is no such file."""
    try:
        size = path.lstat().st_size
    except OSError:
        return ""
    return read_regular(path, limit, max(0, size - limit)).decode("utf-8", "replace")


def last_line(text: str) -> str:
    """The last line that holds something, or "no output"."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")
