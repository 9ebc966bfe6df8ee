"""The orders of one lab's shards: where they lie, what they say, and what is left of those of earlier engines."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from engine.paths import StateDir
from engine.shards.records import make_key
from engine.shards.slurm.commands import Programs, lasting, on_all_its_nodes, own, size_of, step
from engine.shards.slurm.order import Order
from engine.shards.slurm.settings import OWN_JOB_S, Settings
from engine.shards.spec import ShardSpec

YEARS_S = 366 * 86400.0


class Orders:
    """Where the orders of one lab lie. Every shard is of `ranks` processes of `threads` threads."""

    def __init__(self, state: StateDir, settings: Settings, programs: Programs, ranks: int, threads: int) -> None:
        self._state = state
        self._programs = programs
        self._gpus = settings.gpus_of_shard(ranks)
        self._cores = settings.on_node(ranks) * threads

    @property
    def root(self) -> Path:
        """The directory that has one of each order, where the nodes see it."""
        return self._state.shared_root / "steps"

    @property
    def key(self) -> Path:
        """What agents seal their records with."""
        return self._state.shared_root / self._state.launcher_key.name

    def place(self, id: str) -> Path:
        """Where the order of that shard lies, and what its agent says."""
        return self.root / id

    def client(self, id: str) -> Path:
        """The run directory of the login node's side of that shard's step."""
        return self._state.root / "clients" / id

    def write(self, spec: ShardSpec, job: str = "", node: str = "") -> Order:
        """Write the order of a shard that is to run as a step of `job` on `node`, or on several with commas between; without
        these, in a job of its own. Raises OSError."""
        place, programs = self.place(spec.id), self._programs
        shutil.rmtree(place, ignore_errors=True)
        words = step(programs, job, node, self._gpus, self._cores, own("agent", str(place))) if job else []
        nonce = secrets.token_hex(16)
        made = Order(spec, tuple(words), programs["scancel"], programs.env, job, node, str(self.key), nonce)
        made.write(place)
        self.client(spec.id).parent.mkdir(mode=0o700, exist_ok=True)
        return made

    def client_spec(self, id: str) -> ShardSpec:
        """The process on the login node that starts a step and listens for its heartbeat."""
        words, place = own("step", str(self.place(id))), str(self.client(id))
        return ShardSpec(id=id, argv=tuple(words), cwd="/", env={"PATH": os.defpath}, run_dir=place, timeout_s=YEARS_S)

    def size(self, made: Order) -> list[str]:
        """What sbatch is told of the size of a shard in a job of its own, and of how long it may run."""
        return [*size_of(made.spec.nodes, self._gpus, self._cores), lasting(made.spec.timeout_s + OWN_JOB_S)]

    def program(self, made: Order, words: Sequence[str]) -> list[str]:
        """What a shard in a job of its own runs, whose agent `words` starts: on each of its nodes."""
        nodes = made.spec.nodes
        return list(words) if nodes == 1 else on_all_its_nodes(self._programs, nodes, self._gpus, self._cores, words)

    def remove(self, id: str) -> None:
        """Remove what is only needed while a shard runs."""
        shutil.rmtree(self.place(id), ignore_errors=True)
        shutil.rmtree(self.client(id), ignore_errors=True)

    def share_key(self) -> None:
        """Put the launcher's key where the agents find it: whoever writes a record, it is read with the same one."""
        body, shared = make_key(self._state.launcher_key), self.key
        if shared == self._state.launcher_key or (shared.exists() and shared.read_bytes() == body):
            return
        temporary = shared.with_suffix(".new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(body)
        os.replace(temporary, shared)


def left_by(spec: ShardSpec) -> Literal["ended", "lost"] | None:
    """What an earlier launch of it left: its record, or at least the directory that is made once."""
    if os.path.lexists(os.path.join(spec.run_dir, spec.record)):
        return "ended"
    return "lost" if spec.fresh and os.path.lexists(spec.run_dir) else None
