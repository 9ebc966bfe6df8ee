"""Writes what comes in parts into a file of the reader: whole or not at all, and never over another unasked."""

from __future__ import annotations

import base64
import errno
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
           ".pq": "parquet"}  # fmt: skip


class ExportError(Exception):
    """The file cannot be written; the message says why and what to do."""


class Exists(ExportError):
    """There is a file of that name, and nobody said to replace it."""


def target(text: str) -> tuple[Path, str]:
    """The file that a person named, `~` resolved, and its format by its ending. Raises ExportError."""
    path = Path(os.path.expanduser(text))
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ExportError(f"{path.name or text!r} says no format: end the name in .csv, .json, .jsonl or .parquet")
    if not path.parent.is_dir():
        raise ExportError(f"there is no directory {path.parent}: make it first, or name another")
    if path.is_dir():
        raise ExportError(f"{path} is a directory: name a file")
    return path, kind


class Saving:
    """A file that is being written beside its place. Blocking calls: use them in a thread. All raise ExportError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        try:
            self._partial = path.parent / f".{path.name[:60]}.{secrets.token_hex(6)}"
            handle = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise ExportError(f"{path.parent} cannot be written: {error.strerror}") from None
        self._file = os.fdopen(handle, "wb")

    def add(self, body: bytes) -> None:
        """Append a part."""
        try:
            self._file.write(body)
        except OSError as error:
            raise ExportError(f"{self.path} cannot be written: {error.strerror}") from None
        self.size += len(body)

    def finish(self, replace: bool) -> None:
        """Give the file its name. Raises Exists when there is one and `replace` was not said."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if replace:
                os.replace(self._partial, self.path)
            else:
                self._name()
        except FileExistsError:
            raise Exists(f"{self.path} exists already") from None
        except OSError as error:
            raise ExportError(f"{self.path} cannot be written: {error.strerror}") from None

    def _name(self) -> None:
        """Take the name where it is free: a link fails where there is a file; not every file system has links."""
        try:
            os.link(self._partial, self.path)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            os.replace(self._partial, self.path)

    def drop(self) -> None:
        """Leave nothing behind; harmless after `finish`."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            os.unlink(self._partial)


def decoded(part: str) -> bytes:
    """A part as the engine sends it, base64. Raises ExportError."""
    try:
        return base64.b64decode(part, validate=True)
    except ValueError:
        raise ExportError("the engine sent a part that cannot be read: try again") from None


def write_whole(path: Path, pieces: Iterable[bytes], *, replace: bool) -> int:
    """Write `pieces` into `path`; returns its size in bytes. Raises ExportError, and whatever the pieces raise."""
    saving = Saving(path)
    try:
        for piece in pieces:
            saving.add(piece)
        saving.finish(replace)
        return saving.size
    finally:
        saving.drop()


async def write(
    path: Path,
    replace: bool,
    fetch: Callable[[int], Awaitable[dict[str, Any]]],
    in_thread: Callable[..., Awaitable[Any]],
    progress: Callable[[int], None],
) -> int:
    """Fetch all parts into `path`; returns its size in bytes. Raises ExportError, and whatever `fetch` raises."""
    if not replace and await in_thread(path.exists):
        raise Exists(f"{path} exists already")
    saving: Saving = await in_thread(Saving, path)
    try:
        part: int | None = 0
        while part is not None:
            answer = await fetch(part)
            await in_thread(lambda part: saving.add(decoded(part)), answer["part"])
            progress(saving.size)
            part = answer["next"]
        await in_thread(saving.finish, replace)
        return saving.size
    finally:
        await in_thread(saving.drop)
