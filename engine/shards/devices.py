"""Which device nodes belong to a GPU that a slot leases. Reads what the driver says in /proc; never touches CUDA."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DEV = Path("/dev")
PROC = Path("/proc/driver/nvidia/gpus")
_CONTROL = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
MOST = 16  # GPUs of one machine
_CAPS = "nvidia-caps"  # directory of the nodes that stand for parts of a partitioned GPU (MIG)
_PARENT = re.compile(r"MIG-(GPU-[^/]+)/")  # older drivers name a part by its GPU


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU as the driver knows it: its address on the bus, the N of /dev/nvidiaN, its UUID where that is known."""

    bus: str
    minor: int
    uuid: str | None


def cards(proc: Path = PROC) -> list[Card]:
    """The GPUs of this machine in the order of their bus addresses, which is how CUDA numbers them for shards."""
    found = []
    try:
        places = sorted(proc.iterdir())
    except OSError:
        return []
    for place in places:
        try:
            said = (place / "information").read_text(errors="replace")
        except OSError:
            continue
        minor = re.search(r"^Device Minor:\s*(\d+)\s*$", said, re.MULTILINE)
        uuid = re.search(r"^GPU UUID:\s*(GPU-[0-9A-Za-z-]+)\s*$", said, re.MULTILINE)  # not yet known: GPU-????????
        if minor is not None:
            found.append(Card(place.name, int(minor[1]), uuid[1] if uuid else None))
    return found


def models(proc: Path = PROC) -> list[str]:
    """The kinds of GPU that this machine has, each once, in the order of their bus addresses."""
    found = dict[str, None]()
    with suppress(OSError):
        for place in sorted(proc.iterdir()):
            said = (place / "information").read_text(errors="replace")
            model = re.search(r"^Model:\s*(\S.*?)\s*$", said, re.MULTILINE)
            found |= {model[1][:80]: None} if model else {}
    return list(found)


def by_uuid(names: Iterable[str], proc: Path = PROC) -> list[str]:
    """Numbers of GPUs as UUIDs, where the driver tells them: in a box that shows one GPU of several, it is number 0."""
    known = cards(proc)
    return [(known[int(name)].uuid or name) if name.isdigit() and int(name) < len(known) else name for name in names]


def gpu_devices(gpus: Iterable[str], dev: Path = DEV, proc: Path = PROC) -> tuple[Path, ...]:
    """Device nodes of the GPUs that a slot leases, named as CUDA_VISIBLE_DEVICES does, and the control nodes.

    A part of a partitioned GPU has nodes of its own in `nvidia-caps`. Where the driver does not say which node a name stands
    for, it is those of all GPUs: CUDA_VISIBLE_DEVICES then keeps slots apart, which a shard can change.
    """
    names = tuple(gpus)
    if not names:
        return ()
    known = cards(proc)
    minors: list[int] = []
    for name in names:
        minor = _minor(name, known)
        if minor is None or not (known or (dev / f"nvidia{minor}").exists()):  # in a container 0 may be /dev/nvidia3
            nodes = sorted(dev.glob("nvidia[0-9]*"))
            break
        minors.append(minor)
    else:
        nodes = [dev / f"nvidia{minor}" for minor in dict.fromkeys(minors)]
    caps = [dev / _CAPS] if any(name.startswith("MIG-") for name in names) else []
    return (*nodes, *(dev / name for name in _CONTROL), *caps)


def any_gpu(dev: Path = DEV) -> tuple[Path, ...]:
    """Device nodes of whatever GPU another machine may give: those that are not there are left out when the box is made."""
    return (*(dev / f"nvidia{n}" for n in range(MOST)), *(dev / name for name in _CONTROL), dev / _CAPS)


def driver_libraries(environ: Mapping[str, str]) -> list[Path]:
    """Directories of LD_LIBRARY_PATH that hold the driver's own library: where a container or a distribution mounts the driver
    beside the system (/usr/local/nvidia/lib64, /run/opengl-driver/lib), nothing else says where it lies."""
    places = filter(os.path.isabs, environ.get("LD_LIBRARY_PATH", "").split(":"))
    return [place for place in map(Path, dict.fromkeys(places)) if (place / "libcuda.so.1").exists()]


def _minor(name: str, known: Sequence[Card]) -> int | None:
    """The N of the /dev/nvidiaN that `name` stands for; None when the driver does not say."""
    if name.isdigit():
        return known[int(name)].minor if int(name) < len(known) else int(name)
    parent = _PARENT.match(name)
    wanted = parent[1] if parent else name  # as CUDA takes it, a UUID may be cut short
    found = [card.minor for card in known if card.uuid is not None and card.uuid.startswith(wanted)]
    return found[0] if len(found) == 1 else None
