"""What a lab asks of its cluster, as `[slurm]` in the lab file says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.shards.slots import Slot
from engine.shards.slurm.order import GPUS

OWN_JOB_S = 300.0  # that a job of its own may last longer than its shard


@dataclass(frozen=True, slots=True)
class Settings:
    """The pilot allocation, and where the files lie that its nodes must see. Times are seconds."""

    partition: str = ""  # empty: the cluster's default, as for account
    account: str = ""
    walltime_s: float = 4 * 3600.0
    nodes: int = 1
    gpus: int = 0  # of one node
    tasks: int = 0  # shards at once on a node; 0: one for each `ranks` GPUs
    idle_s: float = 600.0  # the pilot is released when nothing has run in it for so long
    args: tuple[str, ...] = ()  # further options of salloc
    own: tuple[str, ...] = ()  # rungs whose shards get jobs of their own
    own_s: tuple[float, ...] = ()  # how long a shard of each of these may run
    queue: int = 16  # so many of these jobs are in the queue at once
    shared: Path | None = None  # None: the state directory is on a shared file system
    name: str = "cockpit"

    def per_node(self, ranks: int) -> int:
        """How many shards run at once on one node."""
        return self.tasks or max(1, self.gpus // ranks)

    def gpus_of_shard(self, ranks: int) -> int:
        """GPUs of one shard: one a rank where there are so many."""
        return min(self.gpus, ranks) if self.gpus else 0

    def words(self, ranks: int) -> str:
        """The allocation in words, as a person is asked about it."""
        size = f"{self.nodes} node{'s' * (self.nodes != 1)}"
        gpus = f" with {self.gpus} GPU{'s' * (self.gpus != 1)} each" if self.gpus else ""
        where = f"partition {self.partition}" if self.partition else "the default partition"
        account = f", account {self.account}" if self.account else ""
        shards = f"{self.nodes * self.per_node(ranks)} shards at once"
        return f"{size}{gpus} for {shown(self.walltime_s)} on {where}{account}: {shards}{self._own_words(ranks)}"

    def _own_words(self, ranks: int) -> str:
        """The jobs beside the allocation that are confirmed with it."""
        if not self.own:
            return ""
        gpus = self.gpus_of_shard(ranks)
        size = f"1 node with {gpus} GPU{'s' * (gpus != 1)}" if gpus else "1 node"
        spans = [f" for {shown(seconds + OWN_JOB_S)}" for seconds in self.own_s] or [""] * len(self.own)
        rungs = ", ".join(f"{rung} ({size}{span} each)" for rung, span in zip(self.own, spans, strict=True))
        return f"; and up to {self.queue} jobs of their own at once for rung{'s' * (len(self.own) > 1)} {rungs}"


def slots_of(settings: Settings, ranks: int) -> tuple[Slot, ...]:
    """The slots of a whole pilot. Which node and GPUs one stands for is chosen when a shard starts."""
    gpus = (GPUS,) if settings.gpus else ()
    return tuple(Slot(n, (), gpus) for n in range(settings.nodes * settings.per_node(ranks)))


def shown(seconds: float) -> str:
    """A span of time as people say it: `3 h 40 m`, `12 m`, `40 s`."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} m" if minutes else f"{hours} h"
    return f"{minutes} m" if minutes else f"{whole} s"
