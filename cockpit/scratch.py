"""A copy of a lab that can be thrown away: a clone of its trunk with a state directory, an engine and runs of its own.

Nothing of it touches the researcher's repository, ledger or index: the clone has its own refs, and its lab file names no state
directory. What the lab reads beside its repository (interpreter, mounts) it reads from where it lies.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cockpit.attach import attached, is_running, state_dir
from cockpit.commands import Failed, wait_down
from engine.files import remove_tree
from engine.lab import TRUNK, Lab
from engine.paths import CONFIG, StateDir
from engine.toml_write import toml_text

END_S = 30.0
_ME = ("-c", "user.name=Cockpit self-test", "-c", "user.email=selftest@localhost")
_PLAIN = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false")


@contextmanager
def scratch(lab: Lab, marker: str, *, keep: bool = False) -> Iterator[Path]:
    """The root of a copy of the lab; its engine and runs are ended with it, and it is removed unless `keep`.

    `marker` is the file in its state directory that says what it is for. Raises Failed when no copy can be made.
    """
    place = Path(tempfile.mkdtemp(prefix="cockpit-selftest-"))
    try:
        root = _copied(lab, place / "lab", marker)
        try:
            yield root
        finally:
            end(root)
    finally:
        if not keep:
            remove_tree(place)


def _copied(lab: Lab, place: Path, marker: str) -> Path:
    try:
        root = _copy(lab, place)
        state = state_dir(root)
        state.root.mkdir(mode=0o700, exist_ok=True)
        (state.root / marker).write_text(json.dumps({"of": str(lab.root), "made": time.time()}))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise Failed(f"the lab could not be copied: {said.strip()}") from None
    return root


def _copy(lab: Lab, place: Path) -> Path:
    """Clone the repository at the trunk (at HEAD where there is none yet), with a lab file of its own; the lab in it."""
    prefix = _git(lab.root, "rev-parse", "--show-prefix")
    commit = ""
    for ref in (f"refs/heads/{TRUNK}", "HEAD"):
        with suppress(subprocess.CalledProcessError):
            commit = commit or _git(lab.root, "rev-parse", "--verify", "--quiet", ref + "^{commit}")
    top = _git(lab.root, "rev-parse", "--show-toplevel")
    _git(lab.root, *_PLAIN, "clone", "--quiet", "--no-checkout", "--no-tags", "--", top, str(place))
    _git(place, *_PLAIN, "checkout", "--quiet", "-B", "selftest", commit or "HEAD")
    root = place / prefix
    (root / CONFIG).write_text(config(tomllib.loads((lab.root / CONFIG).read_text("utf-8")), lab))
    _git(root, *_ME, *_PLAIN, "add", "-f", CONFIG)
    _git(root, *_ME, *_PLAIN, "commit", "--quiet", "--allow-empty", "-m", "Copy the lab for a self-test")
    return root


def config(file: Mapping[str, Any], lab: Lab) -> str:
    """The lab file of a copy: run and judged as the lab is, with nobody to propose or to review, no budget, and a state
    directory of its own. Pure."""
    tables = {name: value for name, value in file.items() if name not in ("store", "budget", "proposer", "gates")}
    tables["lab"] = {**tables["lab"], "mounts": [str(each) for each in lab.mounts]}
    if lab.python is not None:
        tables["lab"]["python"] = lab.python
    tables |= {"gates": {"ask": "always", "review": "off"}, "proposer": {"kind": "none"}}
    return "".join(f"{name} = {_toml(value)}\n" for name, value in tables.items())


def _toml(value: object) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_text(name)} = {_toml(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return toml_text(value) if isinstance(value, str) else str(value)


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def end(root: Path) -> None:
    """End the engine of a copy, and its launcher with all that runs."""
    state = state_dir(root)
    if is_running(state):
        with attached(root, start=False) as session:
            session.call("shutdown")
        wait_down(root)
    deadline = time.monotonic() + END_S
    while (pid := _launcher(state)) is not None and time.monotonic() < deadline:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
    shutil.rmtree(state.runtime, ignore_errors=True)


def _launcher(state: StateDir) -> int | None:
    """The process that holds the launcher's lock, if one does."""
    try:
        with state.launcher_lock.open() as handle:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            return int(json.loads(handle.read())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
