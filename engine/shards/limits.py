"""Watches that no shard takes more than it is allowed: memory, processes, disk; and that the machine keeps some memory.

Looked at from the launcher's loop about twice a second, more seldom where a look is dear, never where no shard has a limit. It
decides and says why; the launcher kills. Standard library only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.shards.census import Census, fair_memory_of, look, memory_of, unlinked
from engine.shards.footprint import Footprint
from engine.shards.process import marker
from engine.shards.room import Memory, memory_here
from engine.shards.spec import How, ShardSpec
from engine.sizes import sized

TICK_S = 0.5
MOST_S = 5.0  # between two looks, however dear they are
SHARE = 0.05  # of a core, that looking may cost
ENTRIES = 5000  # of run directories that one look goes through
WALK_S = 1.0  # from one walk through a run directory to its next, at least
THREADS = 8  # that come with each process that is allowed


@dataclass(frozen=True, slots=True)
class Breach:
    """A shard that is to be ended, and why: `why` continues "it …"."""

    shard: str
    how: How
    why: str


class Watch:
    """What the launcher knows of what its shards take."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, machine: Callable[[], Memory] = memory_here
    ) -> None:
        self.census = Census()
        self._clock = clock
        self._machine = machine
        self._next = 0.0
        self._walks: dict[str, float] = {}  # when each shard's directory was last begun
        self._walk: tuple[str, Footprint] | None = None
        self._ending: set[str] = set()

    def wait_s(self, shards: Sequence[tuple[ShardSpec, int]]) -> float:
        """How long until the next look at these shards (spec and leader)."""
        return self._next - self._clock() if any(_limited(spec) for spec, _ in shards) else float("inf")

    def look(self, shards: Sequence[tuple[ShardSpec, int]]) -> list[Breach]:
        """Which of these shards are to be ended, each said once; none when it is not time to look yet."""
        if self.wait_s(shards) > 0:
            return []
        begun = time.process_time()  # not the clock's: a machine that is busy needs looking after all the more
        self._ending &= {spec.id for spec, _ in shards}
        found = self._processes(shards) + self._disk([spec for spec, _ in shards if spec.disk])
        new = {each.shard: each for each in reversed(found) if each.shard not in self._ending}
        self._ending |= new.keys()
        cost = time.process_time() - begun
        self._next = self._clock() + min(MOST_S, max(TICK_S, cost / SHARE))
        return list(new.values())

    def processes_of(self, shard: str) -> dict[int, int]:
        """The shard's processes at the last look: number and when each began."""
        return self.census.of(shard)

    def _processes(self, shards: Sequence[tuple[ShardSpec, int]]) -> list[Breach]:
        seen = look()
        self.census.sort(seen, {pid: spec.id for spec, pid in shards}, {marker(spec): spec.id for spec, _ in shards})
        breaches, held = [], {}
        for spec, _ in shards:
            own = list(self.census.of(spec.id))
            threads = sum(seen[pid].threads for pid in own)
            if spec.processes and len(own) > spec.processes:
                breaches.append(Breach(spec.id, "processes", f"had {len(own)} processes, {spec.processes} are allowed"))
            elif spec.processes and threads > spec.processes * THREADS:
                why = f"had {threads} threads, {spec.processes * THREADS} are allowed"
                breaches.append(Breach(spec.id, "processes", why))
            if spec.memory:
                held[spec.id] = sum(map(memory_of, own))
                if held[spec.id] > spec.memory:  # forks share what they have not written to: look closely
                    held[spec.id] = sum(map(fair_memory_of, own))
                if held[spec.id] > spec.memory:
                    why = f"held {sized(held[spec.id])} of memory, {sized(spec.memory)} are allowed"
                    breaches.append(Breach(spec.id, "memory", why))
        return breaches or largest(self._machine(), held, self._ending)

    def _disk(self, specs: Sequence[ShardSpec]) -> list[Breach]:
        """Go on walking through run directories, one after the other."""
        wanted = {spec.id: spec for spec in specs if spec.id not in self._ending}
        self._walks = {id: self._walks.get(id, 0.0) for id in wanted}
        if self._walk is not None and self._walk[0] not in wanted:
            self._walk[1].close()
            self._walk = None
        left, breaches, now = ENTRIES, [], self._clock()
        while left > 0 and self._begin_walk(wanted, now):
            assert self._walk is not None
            id, walk = self._walk
            left -= walk.step(left) + 1
            if walk.done:
                self._walk = None
            if walk.excess:
                breaches.append(Breach(id, "disk", walk.excess))
                del wanted[id], self._walks[id]
        return breaches

    def _begin_walk(self, wanted: Mapping[str, ShardSpec], now: float) -> bool:
        """Whether there is a directory to walk through: the one begun, else the one that has waited longest."""
        if self._walk is None and self._walks:
            id = min(self._walks, key=lambda each: self._walks[each])
            if now - self._walks[id] >= WALK_S:
                self._walks[id] = now
                run_dir = wanted[id].run_dir
                nameless = unlinked(self.census.of(id), run_dir)
                self._walk = (id, Footprint(run_dir, wanted[id].disk, nameless))
        return self._walk is not None


def _limited(spec: ShardSpec) -> bool:
    return bool(spec.memory or spec.disk or spec.processes)


def largest(machine: Memory, held: Mapping[str, int], ending: set[str]) -> list[Breach]:
    """The shard to end when the machine runs out of memory: the largest, one at a time, and only where that would help.

    `held` is what each shard holds, in bytes; `ending` are those that end already, whose memory is not free yet.
    """
    if not machine.total or machine.free >= machine.floor or ending or not held:
        return []
    shard = max(held, key=lambda each: held[each])
    if held[shard] < machine.floor // 4:
        return []  # it is somebody else's doing
    why = (
        f"held {sized(held[shard])} of memory, the most of all shards, when the machine had {sized(machine.free)} left; "
        f"{sized(machine.floor)} are kept free"
    )
    return [Breach(shard, "memory", why)]
