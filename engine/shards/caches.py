"""Compile caches of shards: a directory a run tree, shared by the seeds of one experiment and by nobody else.

What lies in such a cache is code, and whoever may write into one runs code in whoever reads it. So each tree has its own; the
trunk's lie apart from those of experiments, also where a merged experiment has become the trunk; and a new one begins as a copy
of the trunk's, which is the only way that anything passes from one to another. Scoring starts with an empty one each time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from engine.files import remove_tree

SEED_BYTES = 1 << 30  # a trunk's cache beyond this is not copied: shards compile anew
SEED_FILES = 20_000
SETTLED_S = 5.0  # what was written to more lately may not be whole yet
_DEPTH = 16
_PIECE = 1 << 20
_FICLONE = 0x40049409  # on file systems that can, a copy shares its blocks until one of the two is written to
_MAKING = "making-"
_TRUNK = "trunk-"
_SCORING = "score-"


@dataclass(frozen=True, slots=True)
class Caches:
    """The caches of a lab, below `root`."""

    root: Path
    settled_s: float = SETTLED_S

    def name(self, tree: str, *, trunk: bool) -> str:
        """The name of a tree's cache; what ran as the trunk and what ran as an experiment never share one."""
        return f"{_TRUNK}{tree}" if trunk else tree

    def ready(self, tree: str, *, trunk: bool, parents: list[str]) -> Path:
        """The cache of a tree. One that is made first is a copy of that of the first tree among `parents` which, as the trunk,
        has one. Raises OSError."""
        path = self.root / self.name(tree, trunk=trunk)
        if path.is_dir() and not path.is_symlink():
            return path
        self.root.mkdir(mode=0o700, exist_ok=True)
        making = self._empty(f"{_MAKING}{path.name}")
        old = next(
            (each for each in (self.root / self.name(tree, trunk=True) for tree in parents) if each.is_dir()), None
        )
        # now, as the file system has it: on a shared one its clock may differ from ours
        if old is not None and not seed(old, making, making.stat().st_mtime - self.settled_s):
            self._empty(making.name)
        os.rename(making, path)
        return path

    def scoring(self, shard: str) -> Path:
        """An empty cache for the scoring of a shard. Raises OSError."""
        self.root.mkdir(mode=0o700, exist_ok=True)
        return self._empty(f"{_SCORING}{shard}")

    def scored(self, shard: str) -> None:
        """Remove the cache of a scoring that ended."""
        with contextlib.suppress(OSError):
            remove_tree(self.root / f"{_SCORING}{shard}")

    def idle(self, busy: set[str], live: set[str]) -> list[Path]:
        """Caches that can go: all but those of names in `busy`, of scorings of shards in `live`, and what is being made."""
        kept = busy | {f"{_SCORING}{shard}" for shard in live}
        try:
            found = sorted(self.root.iterdir())
        except FileNotFoundError:
            return []
        return [each for each in found if each.name not in kept and not each.name.startswith(_MAKING)]

    def _empty(self, name: str) -> Path:
        path = self.root / name
        with contextlib.suppress(FileNotFoundError):
            remove_tree(path)
        path.mkdir(mode=0o700)
        return path


# --- copying: the source was written by shards, so nothing in it is followed or trusted


class _TooMuch(Exception):
    pass


@dataclass(slots=True)
class _Budget:
    """How much may still be copied, and from when on a file is too fresh."""

    bytes: int
    files: int
    before: float

    def take(self, size: int) -> None:
        self.bytes, self.files = self.bytes - size, self.files - 1
        if self.bytes < 0 or self.files < 0:
            raise _TooMuch


def seed(source: Path, target: Path, before: float, most: int = SEED_BYTES, files: int = SEED_FILES) -> bool:
    """Copy the regular files of `source` that were last written to until `before` (seconds since the epoch) into the empty
    directory `target`; no links, no files with a second name. False when they are too large or too many, or cannot be read:
    what is in `target` then is only a part."""
    opened = []
    try:
        for place in (source, target):
            opened.append(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        _copy_directory(opened[0], opened[1], _Budget(most, files, before), _DEPTH)
    except (_TooMuch, OSError):
        return False
    finally:
        for each in opened:
            os.close(each)
    return True


def _copy_directory(source: int, target: int, budget: _Budget, depth: int) -> None:
    for name in sorted(os.listdir(source)):
        try:
            kind = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind) and depth:
                _copy_below(name, source, target, budget, depth)
            elif stat.S_ISREG(kind):
                _copy_file(name, source, target, budget)
        except (FileNotFoundError, NotADirectoryError):
            continue  # a shard of the trunk is at work there


def _copy_below(name: str, source: int, target: int, budget: _Budget, depth: int) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    old = os.open(name, flags, dir_fd=source)
    try:
        os.mkdir(name, 0o700, dir_fd=target)
        new = os.open(name, flags, dir_fd=target)
        try:
            _copy_directory(old, new, budget, depth - 1)
        finally:
            os.close(new)
    finally:
        os.close(old)


def _copy_file(name: str, source: int, target: int, budget: _Budget) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    old = os.open(name, flags, dir_fd=source)
    try:
        info = os.fstat(old)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1 or info.st_mtime > budget.before:
            return
        budget.take(info.st_size)
        mode = 0o600 | info.st_mode & 0o100
        new = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=target)
        try:
            _copy_bytes(old, new, info.st_size)
            os.utime(new, ns=(info.st_mtime_ns, info.st_mtime_ns))  # extensions are rebuilt by age
        finally:
            os.close(new)
    finally:
        os.close(old)


def _copy_bytes(old: int, new: int, size: int) -> None:
    """All `size` bytes, and no more, should it grow meanwhile."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(new, _FICLONE, old)
        os.ftruncate(new, size)
        return
    while size > 0 and (piece := os.read(old, min(_PIECE, size))):
        size -= len(piece)
        while piece:
            piece = piece[os.write(new, piece) :]
