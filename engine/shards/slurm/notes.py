"""What engine and keeper leave for one another about the pilot, in the state directory. Standard library only.

pilot.json          there is one, or it is on its way: its id, its job, and what the keeper needs to give it back
pilot-ends/<id>     how it ended, by whoever saw that first; gone once it is in the ledger
pilot.gate          held by the keeper while it acts: an engine that starts waits for it
keeper.lock         held by the keeper as long as it lives
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.shards.alone import is_held

PILOT, ENDS, GATE, KEEPER, ENGINE = "pilot.json", "pilot-ends", "pilot.gate", "keeper.lock", "engine.lock"
Note = dict[str, Any]


def read(path: Path) -> Note | None:
    """The JSON object in a file; None where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    return None


def write(path: Path, body: Note) -> None:
    """Write a note whole, and so that it survives a power cut. Raises OSError."""
    temporary = _beside(path, body)
    os.replace(temporary, path)


def _beside(path: Path, body: Note) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(json.dumps(body).encode())
        file.flush()
        os.fsync(file.fileno())
    return temporary


def pilot(place: Path) -> Note | None:
    """The pilot that is held or on its way. One without an id was asked for by an older engine: its job names it."""
    found = read(place / PILOT)
    if found is not None:
        found.setdefault("id", f"job-{found.get('job')}")
    return found


def held(place: Path) -> Note | None:
    """The pilot of that state directory that is not known to have ended."""
    found = pilot(place)
    return None if found is None or end_of(place, str(found["id"])) is not None else found


def end_of(place: Path, id: str) -> Note | None:
    """How the pilot of that id ended; None while nobody saw it end."""
    return read(place / ENDS / id)


def put_end(place: Path, end: Note) -> Note:
    """Write down how a pilot ended, and return what stands: the first word does. Raises OSError."""
    path = place / ENDS / str(end["id"])
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = _beside(path, end)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return read(path) or end
    finally:
        temporary.unlink(missing_ok=True)
    return end


def ends(place: Path) -> list[Note]:
    """All ends that are not in the ledger yet, oldest first."""
    with contextlib.suppress(OSError):
        found = [read(each) for each in (place / ENDS).iterdir() if not each.name.startswith(".")]
        return sorted(
            (each for each in found if each and "id" in each), key=lambda each: float(each.get("until") or 0.0)
        )
    return []


def drop_end(place: Path, id: str) -> None:
    """It is in the ledger."""
    (place / ENDS / id).unlink(missing_ok=True)


@contextlib.contextmanager
def gate(place: Path) -> Iterator[None]:
    """Wait until no one else is inside. Raises OSError."""
    handle = os.open(place / GATE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def pass_gate(place: Path) -> None:
    """Return once no keeper acts. Whoever holds the engine's lock by then is let be by every keeper. Raises OSError."""
    with gate(place):
        pass


def engine_runs(place: Path) -> bool:
    """Whether an engine holds the lab: its lock on this machine, or its name in the lock's file for another one."""
    holder = read(place / ENGINE) or {}
    elsewhere = holder.get("host") not in (None, socket.gethostname())
    return is_held(place / ENGINE) or elsewhere
