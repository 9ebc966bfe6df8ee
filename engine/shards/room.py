"""How much memory and disk the machine has left, and what it must keep to stay alive. Standard library only.

`look` reads the figures; what follows from them is decided by pure functions.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.sizes import sized

GIB = 1 << 30
FILES = 10_000  # that a disk must have left, where it counts them


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of this machine or container; `total` 0 where it is not known."""

    total: int = 0
    free: int = 0  # what can be had without swapping

    @property
    def floor(self) -> int:
        """Below so much the largest shard is ended: 5 %, at most 4 GiB."""
        return min(self.total // 20, 4 * GIB)


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes and files of the disk under a directory; `total` 0 where it is not known."""

    total: int = 0
    free: int = 0
    files: int = 0  # all there can be; 0: not counted
    files_free: int = 0

    @property
    def floor(self) -> int:
        """Below so much no shard is started: 2 %, at least 1 GiB and at most 16; of a small disk a tenth."""
        return min(self.total // 10, max(GIB, min(self.total // 50, 16 * GIB)))


def shortage(memory: Memory, disk: Disk, where: Path) -> str | None:
    """Why no shard should be started now and what to do about it, in a sentence; None when there is room."""
    if disk.total and disk.free < disk.floor:
        return (
            f"no shard is started: the disk of {where} has {sized(disk.free)} left, {sized(disk.floor)} are kept free; "
            "delete what can be spared there"
        )
    least = min(FILES, disk.files // 10)
    if disk.files_free < least:
        return (
            f"no shard is started: the disk of {where} has room for {disk.files_free:,} more files, {least:,} are kept; "
            "delete what can be spared there"
        )
    if memory.total and memory.free < 2 * memory.floor:
        return (
            f"no shard is started: {sized(memory.free)} of memory are left, {sized(2 * memory.floor)} are kept free; "
            "end other programs, or lower slots under [run]"
        )
    return None


def memory_here() -> Memory:
    """The memory of this machine, or of this container where that has less."""
    found = _figures(Path("/proc/meminfo"))
    memory = Memory(found.get("MemTotal:", 0) * 1024, found.get("MemAvailable:", 0) * 1024)
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        most = int((group / "memory.max").read_text())  # "max" where there is no limit
        used = int((group / "memory.current").read_text())
        parts = _figures(group / "memory.stat")
        cached = parts.get("inactive_file", 0) + parts.get("active_file", 0) + parts.get("slab_reclaimable", 0)
        if 0 < most < memory.total:
            memory = Memory(most, max(0, min(memory.free, most - used + cached)))
    return memory


def _figures(path: Path) -> dict[str, int]:
    """First word and first number of each line; empty when it cannot be read."""
    with suppress(OSError):
        lines = [line.split() for line in path.read_text().splitlines()]
        return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
    return {}


def disk_of(path: Path) -> Disk:
    """The disk under `path`."""
    with suppress(OSError):
        found = os.statvfs(path)
        size = found.f_frsize
        return Disk(found.f_blocks * size, found.f_bavail * size, found.f_files, found.f_favail)
    return Disk()
