"""One shard in a job of its own: what is known of it, from its order, its files and the queue."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.shards.executor import Standing
from engine.shards.records import read_exit
from engine.shards.slurm import order
from engine.shards.slurm.batches import Batch
from engine.shards.slurm.ends import Lost
from engine.shards.slurm.order import Order
from engine.shards.slurm.parsing import Job, number_of, starts
from engine.text import clean


@dataclass(slots=True, eq=False)
class OwnJob:
    """One shard, from its order to its end. Times are monotonic."""

    order: Order
    place: Path
    batch: Batch | None = None  # None: not handed over yet
    task: int = 0
    seen: Job | None = None  # as the queue last showed it
    missing: int = 0  # times in a row that the queue did not know it
    claim: Mapping[str, Any] | None = None
    beat: bytes = b""
    beat_at: float = 0.0
    stop_by: float | None = None  # it was asked to end: when it is ended for good
    why: str = ""  # it is not handed over yet
    ends: Lost | None = None  # that is how it ends, where no record says otherwise
    gone: bool = False

    @property
    def id(self) -> str:
        return self.order.spec.id

    @property
    def many(self) -> bool:
        """Whether it runs on several nodes: its agents are then a step of its job, and not its script."""
        return self.order.spec.nodes > 1

    @property
    def job(self) -> str:
        """Slurm's name of it; empty while that is not known. What has claimed it is what runs it, whatever else of its batch is
        in the queue."""
        claimed = str((self.claim or {}).get("step", "")).partition(".")[0]
        return claimed if number_of(claimed) else self.handed

    @property
    def handed(self) -> str:
        """Slurm's name of its task of the batch in which it was handed over; empty while that is not known."""
        return self.batch.job(self.task) if self.batch else ""

    @property
    def node(self) -> str:
        return clean(str((self.claim or {}).get("node", "")))

    @property
    def gpus(self) -> str:
        return clean(str((self.claim or {}).get("gpus", "")))

    @property
    def output(self) -> Path:
        """What its agent, or Slurm in its name, printed."""
        return self.batch.output(self.task) if self.batch else self.place / "none.out"

    def standing(self, listed_at: float) -> Standing:
        """How it stands, as the queue said at that time."""
        if self.claim is not None:
            left = self.seen.left_s if self.seen and self.seen.state == "RUNNING" else None
            left_s = None if left is None else max(0.0, left - (time.monotonic() - listed_at))
            return Standing("running", self.job, left_s=left_s, node=self.node, gpus=self.gpus)
        if self.seen is None:
            return Standing("queued", self.job, self.why or "it is being handed over")
        if not self.seen.pending:
            return Standing("queued", self.job, f"it is {self.seen.state.lower()}, and its shard begins")
        return Standing("queued", self.job, clean(self.seen.why) or "it waits", starts=starts(self.seen.start))


@dataclass(slots=True)
class Sight:
    """What the files of one shard say; `beat` None where it cannot be read now."""

    claim: Mapping[str, Any] | None
    beat: bytes | None
    ended: bool


def sights(owns: Mapping[str, OwnJob]) -> dict[str, Sight]:
    """What the files of these shards say now."""
    found = {}
    for id, own in owns.items():
        claim = own.claim or order.claimed(own.place)
        beat: bytes | None
        try:
            beat = (own.place / "beat").read_bytes()[:4096]
        except FileNotFoundError:
            beat = b""
        except OSError:
            beat = None
        spec = own.order.spec
        found[id] = Sight(claim, beat, bool(claim) and read_exit(Path(spec.run_dir), spec.record) is not None)
    return found
