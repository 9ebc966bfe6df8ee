"""How many shards run at once, and which cores or GPU each of them gets. Asks the machine without touching CUDA."""

from __future__ import annotations

import contextlib
import math
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.shards.devices import DEV, PROC, by_uuid, cards

_SMI_S = 10.0


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one shard: the cores it is pinned to (none: not pinned) and what it sees as CUDA_VISIBLE_DEVICES: one a rank."""

    index: int
    cores: tuple[int, ...]
    gpus: tuple[str, ...]


def detect(
    requested: int | Literal["auto"], cpu_ids: Sequence[int], gpu_ids: Sequence[str], threads: int, ranks: int = 1
) -> tuple[Slot, ...]:
    """The slots of a machine with these cores and GPUs, `ranks` processes of `threads` threads per shard.

    "auto" (or 0): one for each `ranks` GPUs where there are any, else as many as have cores of their own, at least one.
    Where a number is asked for that the cores do not suffice for, nobody is pinned and the kernel shares them out; GPUs are
    then given out in turn. Cores of GPU slots are split evenly, for the loading of data. Raises ValueError below 0, 1 thread
    or 1 rank.
    """
    if threads < 1 or ranks < 1:
        raise ValueError(f"threads is {threads}, ranks is {ranks}: at least 1")
    count = 0 if requested == "auto" else requested
    if count < 0:
        raise ValueError(f"slots is {count}: at least 1, or 0 for as many as the machine has room for")
    needs = threads * ranks
    if count == 0:
        count = max(1, (len(gpu_ids) or len(cpu_ids) // threads) // ranks)
    share = max(needs, len(cpu_ids) // count) if gpu_ids else needs
    pinned = share * count <= len(cpu_ids)
    slots = []
    for n in range(count):
        cores = tuple(cpu_ids[n * share : (n + 1) * share]) if pinned else ()
        gpus = dict.fromkeys(gpu_ids[(n * ranks + rank) % len(gpu_ids)] for rank in range(ranks)) if gpu_ids else ()
        slots.append(Slot(n, cores, tuple(gpus)))
    return tuple(slots)


def cpus_here() -> list[int]:
    """Numbers of the cores that this process may use, no more than its container's quota."""
    try:
        ids = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        ids = list(range(os.cpu_count() or 1))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return ids[: max(1, math.floor(int(quota) / int(period)))]
    return ids


def gpus_here(environ: Mapping[str, str] | None = None) -> list[str]:
    """Names of the GPUs as CUDA_VISIBLE_DEVICES takes them; none without a GPU or a driver. Never raises for lack of one.

    What CUDA_VISIBLE_DEVICES allows in `environ` is kept to. UUIDs where they are known: numbers mean something else in a box.
    """
    allowed = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return by_uuid(_allowed(allowed))
    if not PROC.is_dir() and not (DEV / "nvidiactl").exists():
        return []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        shown = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_SMI_S, check=True)
        return parse_list(shown.stdout)
    count = len(cards()) or len(list(DEV.glob("nvidia[0-9]*")))  # not every container shows what the driver says
    return by_uuid(str(n) for n in range(count))


def _allowed(text: str) -> list[str]:
    """Devices of a CUDA_VISIBLE_DEVICES: as CUDA reads it, the first name that cannot be one ends the list."""
    names: list[str] = []
    for each in (part.strip() for part in text.split(",")):
        if not re.fullmatch(r"\d+|(GPU|MIG)-[A-Za-z0-9./-]+", each) or each in names:
            break
        names.append(each)
    return names


def parse_list(text: str) -> list[str]:
    """GPUs in the output of `nvidia-smi -L`: UUIDs; the parts, where a GPU is partitioned (MIG)."""
    names: list[str] = []
    for line in text.splitlines():
        found = re.match(r"(GPU|\s+MIG)\b.*\(UUID: ((?:GPU|MIG)-[A-Za-z0-9./-]+)\)", line)
        if found is None:
            continue
        if found[1] != "GPU" and names and names[-1].startswith("GPU-"):
            names.pop()  # the whole of a partitioned GPU cannot be used
        names.append(found[2])
    return names


def slots_here(requested: int | Literal["auto"], threads: int, ranks: int = 1) -> tuple[Slot, ...]:
    """The slots of this machine; see `detect`. May take seconds where a GPU driver has to be woken."""
    return detect(requested, cpus_here(), gpus_here(), threads, ranks)
