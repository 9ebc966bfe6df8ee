"""What the login node and a step's node tell one another, by files of the shared file system. Standard library only.

    steps/<id>/order.json   the shard's spec, srun's command line, where the key for the record lies
    steps/<id>/claim        written once, by the agent that runs the shard: which node, step and GPUs
    steps/<id>/beat         written anew every 5 s while it runs

Of a shard over several nodes the agent of the first one leads, and the agents tell one another by further files, which
`engine.shards.slurm.group` describes.

The directory is out of reach of every box. An order's nonce is its own: an agent whose order was replaced or taken away ends
its shard and writes nothing, so that one which was cut off and comes back changes nothing any more.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.shards import process
from engine.shards.spec import ExitRecord, ShardSpec

GPUS = "gpus-of-the-step"
"""Stands for the GPUs of a shard until its step runs: Slurm chooses them then, and the agent writes them in here."""

BEAT_S = 5.0  # from one heartbeat to the next


class OrderError(ValueError):
    """An order that cannot be read."""


@dataclass(frozen=True, slots=True)
class Order:
    """One step: `srun` is its command line with `env` as environment, in `job` on `node` (several with commas between);
    `scancel` the program that signals it; `key` the file that seals its record. `srun`, `job` and `node` are empty of a shard
    in a job of its own: its batch and its claim say which job that is, and where."""

    spec: ShardSpec
    srun: tuple[str, ...]
    scancel: str
    env: Mapping[str, str]
    job: str
    node: str
    key: str
    nonce: str

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its nodes; none of a job of its own."""
        return tuple(filter(None, self.node.split(",")))

    @property
    def apart(self) -> bool:
        """Whether it runs in a job of its own, and not as a step of the pilot."""
        return not self.srun

    def write(self, place: Path) -> None:
        """Write it as `place`/order.json, whole. Raises OSError."""
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in shared_names(self.spec.nodes):
            (place / name).touch(mode=0o600)
        body = {"spec": self.spec.to_json(), "srun": list(self.srun), "scancel": self.scancel, "env": dict(self.env)}
        body |= {"job": self.job, "node": self.node, "key": self.key, "nonce": self.nonce}
        put(place, "order.json", body)


def shared_names(nodes: int) -> list[str]:
    """The files by which the agents of so many nodes tell one another; none for one.

    They are there before any agent is, and are written over in place: a network file system may deny a new file for a minute,
    but not what a file says that is opened."""
    others = range(1, nodes)
    return ["meet", "ask", "lost", *(f"{kind}.{n}" for n in others for kind in ("beat", "end"))] if nodes > 1 else []


def tell(place: Path, name: str, nonce: str, body: Mapping[str, Any]) -> None:
    """Write over one of the shared files. Raises OSError, also where it is gone with its order."""
    with open(os.open(place / name, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(json.dumps({"nonce": nonce, **body}).encode())


def told(place: Path, name: str, nonce: str) -> dict[str, Any] | None:
    """What a shared file says; None where that is nothing yet, or half, or of another order."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((place / name).read_bytes())
        if isinstance(found, dict) and found.get("nonce") == nonce:
            return found
    return None


def lost_nodes(place: Path, order: Order) -> list[str]:
    """The nodes that the leading agent has taken for lost."""
    found = (told(place, "lost", order.nonce) or {}).get("nodes")
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def put(place: Path, name: str, body: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a file there, whole; after a power cut it may be gone, as is then what it is about. Raises OSError."""
    temporary = place / f".{name}.{os.getpid()}"
    temporary.write_text(json.dumps(body))
    os.replace(temporary, place / name)


def read(place: Path) -> Order:
    """The order in that directory. Raises OrderError where there is none, or it is none; OSError where that cannot be told."""
    try:
        raw = json.loads((place / "order.json").read_bytes())
        spec = ShardSpec.from_json(raw["spec"])
        srun, job = tuple(raw["srun"]), raw["job"]
        return Order(spec, srun, raw["scancel"], raw["env"], job, raw["node"], raw["key"], raw["nonce"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise OrderError(f"the order in {place} cannot be read: {error}") from None


def stands(place: Path, nonce: str) -> bool:
    """Whether the order is still the one of that nonce, as far as can be told: one that cannot be read now may be readable
    again when the file system is."""
    try:
        body = (place / "order.json").read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return bool(json.loads(body)["nonce"] == nonce)
    return True


def claim(place: Path, body: Mapping[str, Any]) -> bool:
    """Take the shard for this agent; False when another has. Raises OSError."""
    try:
        found = os.open(place / "claim", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with open(found, "wb") as file:
        file.write(json.dumps(body).encode())
    return True


def withdraw(place: Path, *, claimed_too: bool = False) -> bool:
    """Take an order away, so that no agent can claim its shard any more, unless one has; says whether one has. With
    `claimed_too` it is taken away from that one as well, which ends its shard at its next heartbeat."""
    taken = (place / "claim").exists()
    if claimed_too or not taken:
        (place / "order.json").unlink(missing_ok=True)
    return taken


def claimed(place: Path) -> dict[str, Any] | None:
    """Who claimed it; None when nobody has. Empty while the file is being written."""
    try:
        body = (place / "claim").read_bytes()
    except OSError:
        return None
    with contextlib.suppress(ValueError):
        found = json.loads(body)
        if isinstance(found, dict):
            return found
    return {}


def record_end(run_dir: Path, record: ExitRecord, name: str, key: bytes) -> ExitRecord:
    """Write an exit record unless there is one already: the first word stands. Returns the one that does. Raises OSError."""
    from engine.shards.records import (  # not before a shard has been started: that is what is waited for
        read_exit,
        sealed,
    )

    found = read_exit(run_dir, name)
    if found is not None:
        return found
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory = process.open_directory(str(run_dir))
    try:
        with contextlib.suppress(OSError):
            os.fchmod(directory, 0o700)
        process.write_durably(directory, name, sealed(record, key))
    finally:
        os.close(directory)
    return record
