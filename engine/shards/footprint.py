"""How much disk a run directory takes: walked a slice at a time, so that a million files delay nobody. Standard library only.

The directory is a shard's, which may change it while it is walked: no link is followed, and what cannot be looked into,
is nested too deep or made of too many files counts as too much.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import ExitStack, suppress

from engine.sizes import sized

FILES = 200_000  # in one run directory
DEPTH = 64


class Footprint:
    """One walk through one directory, of whose bytes some are `known` to be there without a name.

    `excess` says in a sentence what is too much, as soon as it is.
    """

    def __init__(self, path: str, allowed: int, known: int = 0) -> None:
        self.path = path
        self.allowed = allowed
        self.bytes = known
        self.files = 0
        self.excess = ""
        self.done = False
        self._linked: set[tuple[int, int]] = set()  # files of several names, counted once
        self._steps = self._walk()

    def step(self, entries: int) -> int:
        """Look at so many further entries; returns how many there were."""
        for count in range(entries):
            ended = next(self._steps, None) is None
            self._judge()
            if ended or self.excess:
                self.close()
                return count + (not ended)
        return entries

    def close(self) -> None:
        """Let go of the directories that are open."""
        self.done = True
        self._steps.close()

    def _judge(self) -> None:
        if self.bytes > self.allowed:
            self.excess = f"wrote {sized(self.bytes)} into its run directory, {sized(self.allowed)} are allowed"
        elif self.files > FILES:
            self.excess = f"made more than {FILES:,} files in its run directory"

    def _walk(self) -> Generator[bool, None, None]:  # a generator, so that it can stop anywhere
        with ExitStack() as held:
            try:
                top = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                return  # it was removed
            held.callback(os.close, top)
            yield from self._below(top, 1)

    def _below(self, directory: int, depth: int) -> Generator[bool, None, None]:
        with os.scandir(directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    self._count(info)
                    if stat.S_ISDIR(info.st_mode):
                        yield from self._into(directory, entry.name, depth)
                yield True

    def _into(self, directory: int, name: str, depth: int) -> Generator[bool, None, None]:
        if depth >= DEPTH:
            self.excess = f"nested more than {DEPTH} directories in its run directory"
            return
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except PermissionError:
            self.excess = f"made a directory that cannot be looked into: {name!r:.100}"
            return
        except OSError:
            return  # it is another thing by now
        try:
            yield from self._below(inner, depth + 1)
        finally:
            os.close(inner)

    def _count(self, info: os.stat_result) -> None:
        self.files += 1
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            if (info.st_dev, info.st_ino) in self._linked:
                return
            self._linked.add((info.st_dev, info.st_ino))
        self.bytes += info.st_blocks * 512  # what is really taken: a hole in a file takes nothing
