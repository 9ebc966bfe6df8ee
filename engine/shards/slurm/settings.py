"""What a lab asks of its cluster, as `[slurm]` in the lab file says it."""

from __future__ import annotations

import math
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
    ranks: int = 0  # of one shard, at most, on one node; 0: one a GPU, all where there are none
    tasks: int = 0  # shards at once on a node; 0: one for as many GPUs as it takes there
    idle_s: float = 600.0  # the pilot is released when nothing has run in it for so long
    args: tuple[str, ...] = ()  # further options of salloc
    own: tuple[str, ...] = ()  # rungs whose shards get jobs of their own
    own_s: tuple[float, ...] = ()  # how long a shard of each of these may run
    queue: int = 16  # so many of these jobs are in the queue at once
    shared: Path | None = None  # None: the state directory is on a shared file system
    name: str = "cockpit"

    def span(self, ranks: int) -> int:
        """How many nodes one shard of so many ranks takes."""
        return math.ceil(ranks / (self.ranks or self.gpus or ranks))

    def on_node(self, ranks: int) -> int:
        """How many of a shard's ranks run on each of its nodes."""
        return math.ceil(ranks / self.span(ranks))

    def per_node(self, ranks: int) -> int:
        """How many shards run at once on one node, each whole or in part."""
        return self.tasks or max(1, self.gpus // self.on_node(ranks))

    def at_once(self, ranks: int, nodes: int) -> int:
        """How many shards run at once on so many nodes."""
        return nodes // self.span(ranks) * self.per_node(ranks)

    def gpus_of_shard(self, ranks: int) -> int:
        """GPUs of one shard on each of its nodes: one a rank where there are so many."""
        return min(self.gpus, self.on_node(ranks))

    def words(self, ranks: int) -> str:
        """The allocation in words, as a person is asked about it."""
        size = f"{self.nodes} node{'s' * (self.nodes != 1)}"
        gpus = f" with {self.gpus} GPU{'s' * (self.gpus != 1)}{' each' * (self.nodes != 1)}" if self.gpus else ""
        where = f"partition {self.partition}" if self.partition else "the default partition"
        account = f", account {self.account}" if self.account else ""
        count, span = self.at_once(ranks, self.nodes), self.span(ranks)
        shards = f"{count} shard{'s' * (count != 1)} at once"
        spread = f", {'each ' * (count != 1)}on {span} nodes" if span > 1 else ""
        more = f", with {' '.join(self.args)}" if self.args else ""
        return f"{size}{gpus} for {shown(self.walltime_s)} on {where}{account}{more}: {shards}{spread}{self._own_words(ranks)}"

    def _own_words(self, ranks: int) -> str:
        """The jobs beside the allocation that are confirmed with it."""
        if not self.own:
            return ""
        gpus = self.gpus_of_shard(ranks)
        nodes = f"{self.span(ranks)} node{'s' * (self.span(ranks) != 1)}"
        each = " each" * (self.span(ranks) != 1)
        size = f"{nodes} with {gpus} GPU{'s' * (gpus != 1)}{each}" if gpus else nodes
        spans = [f" for {shown(seconds + OWN_JOB_S)}" for seconds in self.own_s] or [""] * len(self.own)
        rungs = ", ".join(f"{rung} ({size}{span} each)" for rung, span in zip(self.own, spans, strict=True))
        return f"; and up to {self.queue} jobs of their own at once for rung{'s' * (len(self.own) > 1)} {rungs}"


def slots_of(settings: Settings, ranks: int) -> tuple[Slot, ...]:
    """The slots of a whole pilot. Which node and GPUs one stands for is chosen when a shard starts."""
    gpus = (GPUS,) if settings.gpus else ()
    return tuple(Slot(n, (), gpus) for n in range(settings.at_once(ranks, settings.nodes)))


def shown(seconds: float) -> str:
    """A span of time as people say it: `3 h 40 m`, `12 m`, `40 s`."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} m" if minutes else f"{hours} h"
    return f"{minutes} m" if minutes else f"{whole} s"
