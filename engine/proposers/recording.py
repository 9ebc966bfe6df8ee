"""Replies that were written down before, one a file, so that the whole loop runs with no key and no network."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from engine.proposers.base import Desk, ProposerError, Reply
from engine.proposers.stream import Said, Written
from engine.reply import MAX_REPLY


class Recording:
    """`*.md` files of one directory, in the order of their names.

    The directory is listed and each file is read when the next reply is asked for, so that files may be added, and the ones
    ahead edited, while the engine runs. What is not a readable regular file of UTF-8 text of at most 256 KiB is passed over
    and named in `problems`.
    """

    name = "recording"
    unasked = True

    def __init__(self, lab_root: Path, path: str) -> None:
        if not path:
            raise ProposerError('proposer.path is missing: give the directory of recorded replies, such as "proposals"')
        self._path = path
        self._directory = lab_root / path
        self.problems: tuple[str, ...] = ()

    async def propose(self, desk: Desk) -> AsyncIterator[Said]:
        """Replies not used before, as they are asked for."""
        for reply in self.replies(desk.used):
            yield Written(reply)

    def replies(self, used: frozenset[str]) -> Iterator[Reply]:
        """Replies not used before. Raises ProposerError when the directory cannot be listed."""
        seen = set(used)
        passed: set[str] = set()
        while True:
            name = next((name for name in self._names() if name not in passed), None)
            if name is None:
                return
            passed.add(name)
            try:
                reply = Reply(_read(self._directory / name), f"{self._path.rstrip('/')}/{name}")
            except (OSError, ValueError) as error:
                self.problems += (f"{name!r} was passed over: {error}",)
                continue
            if reply.digest not in seen:
                seen.add(reply.digest)
                yield reply

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._directory) if name.endswith(".md") and name[0] != ".")
        except OSError as error:
            raise ProposerError(
                f"recorded replies cannot be listed: {self._directory}: {error.strerror}; set proposer.path in cockpit.toml"
            ) from None


def _read(path: Path) -> str:
    """The text of a regular file. Raises OSError, or ValueError when it is something else, too large or not UTF-8."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(MAX_REPLY + 1)
    if len(data) > MAX_REPLY:
        raise ValueError(f"it is larger than {MAX_REPLY} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
