"""Files that untrusted code may have put there: read never through a link, never a pipe, never without a limit; and found and
removed however deep they lie and whatever modes they have."""

from __future__ import annotations

import os
import secrets
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path


def read_regular(path: Path, limit: int, start: int = 0) -> bytes:
    """Up to `limit` bytes of a regular file from byte `start` on; b"" when there is no such file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # before it becomes a file object, which a directory cannot
        os.close(handle)
        return b""
    with os.fdopen(handle, "rb") as file:
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


def below(top: Path) -> Iterator[Path]:
    """Everything below a directory, links as such; what cannot be listed, or has too long a path, is passed over.

    `Path.rglob` recurses, so that a thousand directories in one another end it with an error.
    """
    waiting = deque([str(top)])
    while waiting:
        with suppress(OSError), os.scandir(waiting.popleft()) as found:
            for each in found:
                yield Path(each.path)
                if each.is_dir(follow_symlinks=False):
                    waiting.append(each.path)


def remove_tree(root: Path) -> None:
    """Delete a directory and all that is in it; a link at `root` is deleted, not followed. Raises OSError.

    Directories are moved up to `root` before they are emptied, so that no depth, no path's length and no mode that untrusted
    code chose is in the way (`shutil.rmtree` recurses, and stops where it may not look).
    """
    if root.is_symlink() or not root.is_dir():
        root.unlink(missing_ok=True)
        return
    top = _enter(str(root))
    token = secrets.token_hex(8)
    fresh = (f".{token}-{n}" for n in count())  # names that nobody can have planted
    try:
        waiting = _empty(top, top, fresh)
        while waiting:
            name = waiting.popleft()
            place = _enter(name, top)
            try:
                waiting += _empty(place, top, fresh)
            finally:
                os.close(place)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(root)


def _enter(name: str, parent: int | None = None) -> int:
    """Descriptor of a directory of ours, made readable and writable first; never through a link."""
    os.chmod(name, 0o700, dir_fd=parent)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _empty(place: int, top: int, fresh: Iterator[str]) -> deque[str]:
    """Unlink what is in the directory `place` and is none itself, move its directories up into `top`; their names there."""
    names: deque[str] = deque()
    with os.scandir(place) as found:
        entries = [(each.name, each.is_dir(follow_symlinks=False)) for each in found]
    for name, is_directory in entries:
        if not is_directory:
            os.unlink(name, dir_fd=place)
        elif place == top:
            names.append(name)
        else:
            os.chmod(name, 0o700, dir_fd=place)  # who moves a directory has to be able to write into it
            names.append(next(fresh))
            os.rename(name, names[-1], src_dir_fd=place, dst_dir_fd=top)
    return names
