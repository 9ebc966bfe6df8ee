"""Who belongs to which shard, and what they hold: one look over /proc for all shards of a launcher. Standard library only.

A process is a shard's when it is below its leader, in its session, or carries its launch's marker; once found to be, it stays,
whatever it does to hide. Inside boxes too: the launcher sees their processes under numbers of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from engine.shards import process

OPEN_FILES = 5000  # of a shard that one look goes through
_HELD = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
_FAIR = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")


class Process(NamedTuple):
    """One process as /proc shows it; with its number, `began` says who it is."""

    parent: int
    session: int
    threads: int
    began: int


def look() -> dict[int, Process]:
    """All processes of the machine that can be seen, by number."""
    found = {}
    for pid in process.processes():
        stat = process.stat_of(pid)
        if len(stat) > 19:
            found[pid] = Process(int(stat[1]), int(stat[3]), int(stat[17]), process.began(stat))
    return found


class Census:
    """Remembers from look to look who was found to be whose."""

    def __init__(self, launch_of: Callable[[int], str | None] = process.launch_of) -> None:
        self._launch_of = launch_of
        self._known: dict[tuple[int, int], str] = {}  # (number, began): the shard; "" for nobody's

    def sort(self, found: Mapping[int, Process], leaders: Mapping[int, str], launches: Mapping[str, str]) -> None:
        """Find out whose each process is. `leaders` are shards by the number of their leader, `launches` by marker."""
        owners: dict[int, str] = {}
        for pid in found:
            self._owner(pid, found, leaders, launches, owners)
        self._known = {(pid, found[pid].began): owner for pid, owner in owners.items()}

    def _owner(
        self,
        pid: int,
        found: Mapping[int, Process],
        leaders: Mapping[int, str],
        launches: Mapping[str, str],
        owners: dict[int, str],
    ) -> str:
        chain = []  # from a process up to one whose owner is known
        while pid in found and pid not in owners and pid not in chain:
            here = found[pid]
            owner = leaders.get(pid) or leaders.get(here.session) or self._known.get((pid, here.began))
            if owner:
                owners[pid] = owner
                break
            chain.append(pid)
            pid = here.parent
        above = owners.get(pid, "")
        for each in reversed(chain):
            if not above and (each, found[each].began) not in self._known:  # new, and nobody above it is a shard's
                above = launches.get(self._launch_of(each) or "", "")
            owners[each] = above
        return above

    def of(self, shard: str) -> dict[int, int]:
        """The processes of a shard at the last look: number and when each began."""
        return {pid: began for (pid, began), owner in self._known.items() if owner == shard}


def memory_of(pid: int) -> int:
    """Bytes that a process holds by itself or shares with its own forks; those of files do not count. 0 once it is gone."""
    return _sum(f"/proc/{pid}/status", _HELD) or 0


def fair_memory_of(pid: int) -> int:
    """As `memory_of`, with each shared page divided among those that share it; costs milliseconds a gigabyte."""
    found = _sum(f"/proc/{pid}/smaps_rollup", _FAIR)
    return memory_of(pid) if found is None else found  # it may not be looked into: then the whole is its own


def unlinked(pids: Iterable[int], directory: str) -> int:
    """Bytes of files below `directory` that have no name any more and that these processes hold open, each counted once."""
    below, found, left = os.path.join(os.path.realpath(directory), ""), {}, OPEN_FILES
    for pid in pids:
        try:
            names = os.listdir(f"/proc/{pid}/fd")[:left]
        except OSError:
            continue  # it may not be looked into, or is gone
        left -= len(names)
        for name in names:
            with suppress(OSError):
                path = os.readlink(f"/proc/{pid}/fd/{name}")
                if path.startswith(below) and path.endswith(
                    " (deleted)"
                ):  # no other is touched: it may lie on a dead network
                    info = os.stat(f"/proc/{pid}/fd/{name}")
                    found[info.st_dev, info.st_ino] = info.st_blocks * 512
    return sum(found.values())


def _sum(path: str, wanted: tuple[bytes, ...]) -> int | None:
    """The sum of some lines that say kB; None when there are none."""
    try:
        found = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(found, 65536)
    except OSError:
        return None
    finally:
        os.close(found)
    lines = [line.split() for line in text.splitlines() if line.startswith(wanted)]
    return sum(int(each[1]) for each in lines) * 1024 if lines else None
