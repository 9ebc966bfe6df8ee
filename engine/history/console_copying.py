"""Copies the history's file, as a process of its own: see `console_child`."""

from __future__ import annotations

import errno
import os
import sys

HEADER = 12_288
"""Bytes at the start of a DuckDB file that a checkpoint rewrites last: the main header and two database headers."""
COPY_TRIES = 20


def copy(source: str, target: str) -> int:
    """Copy a checkpointed history, private to its owner, and rename it into place.

    DuckDB never overwrites a block that the present header refers to. So a copy is whole when the header is the same
    after it as before it; when a checkpoint came in between, it is taken again.
    """
    partial = f"{target}.partial"
    try:
        for _ in range(COPY_TRIES):
            before = _header(source)
            _copy_bytes(source, partial)
            if before == _header(source) == _header(partial):
                os.rename(partial, target)
                return 0
        print("the history was being written to all the time: ask again", file=sys.stderr)
    except OSError as error:
        print(f"the history could not be copied for the query: {error.strerror} ({error.filename})", file=sys.stderr)
    if os.path.exists(partial):
        os.unlink(partial)
    return 1


def _header(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEADER)


def _copy_bytes(source: str, target: str) -> None:
    with open(source, "rb") as old, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as new:
        while True:
            try:
                moved = os.copy_file_range(old.fileno(), new.fileno(), 1 << 30)  # shares blocks where the disk can
            except (OSError, AttributeError) as error:
                if getattr(error, "errno", None) == errno.ENOSPC:
                    raise
                break
            if moved == 0:
                return
        while chunk := os.read(old.fileno(), 1 << 20):
            new.write(chunk)
