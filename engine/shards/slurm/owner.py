"""Whose a shared directory is: one state directory's, on one machine.

Orders, keys and run directories of a second engine there would undo those of the first: it would take the other's shards for
what was never asked for. Login nodes often come in pairs, so this is an easy mistake to make.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from engine.shards.executor import ExecutorError

NAME = "owner.json"


def take(shared: Path, state_dir: Path, host: str | None = None) -> None:
    """Make `shared` the directory of that state directory on this machine, or find that it is. Raises ExecutorError where it is
    another's, OSError where it cannot be written."""
    mine = _mine(state_dir, host)
    path = shared / NAME
    temporary = shared / f".{NAME}.{os.getpid()}"
    temporary.write_text(json.dumps(mine))
    try:
        os.link(temporary, path)  # made once, also between two machines
    except FileExistsError:
        _check(path, mine)
    finally:
        temporary.unlink(missing_ok=True)


def look(shared: Path, state_dir: Path, host: str | None = None) -> None:
    """Raises ExecutorError where `shared` is the directory of another state directory, or of another machine's."""
    if (shared / NAME).exists():
        _check(shared / NAME, _mine(state_dir, host))


def _mine(state_dir: Path, host: str | None) -> dict[str, str]:
    return {"host": host or socket.gethostname(), "state_dir": str(state_dir)}


def _check(path: Path, mine: dict[str, str]) -> None:
    try:
        found = json.loads(path.read_bytes())
        host, state_dir = str(found["host"]), str(found["state_dir"])
    except (ValueError, KeyError, TypeError) as error:
        said = f"{path}, which says whose {path.parent} is, cannot be read: {error}; remove it if this lab's runs lie there"
        raise ExecutorError(said) from None
    if {"host": host, "state_dir": state_dir} != mine:
        raise ExecutorError(
            f"{path.parent} is used by the engine on {host} whose state_dir is {state_dir}: run the cockpit there, or give "
            f"this lab a slurm.shared of its own; if that one is gone for good, remove {path}"
        )
