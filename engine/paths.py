"""Where a lab keeps its state, and where its sockets lie. Pure names: nothing is created here but on request.

    <lab>/.cockpit/            or `state_dir`, on a local disk when the lab lies on NFS
        ledger.jsonl           what happened (truth)
        blobs/ab/<sha256>      bodies (truth)
        runs/<shard id>/       spec.json, output.log, metrics.jsonl, exit.json, score.json, checkpoints (truth)
        further/<shard id>.*/  what further evaluations write, in no box that anything before them ran in; gone once it is read
        trees/<tree hash>/     run trees: exported, read-only, can be made again
        caches/<tree hash>/    what compilers keep, for shards of that tree alone; can be made again
        data/open data/held    what `prepare` made: for shards, and for the referee alone
        history.duckdb         the index; can be rebuilt
        engine.lock engine.log launcher.lock launcher.log launcher.key
        steps/ clients/ pilot.json   on a cluster: orders to its nodes, the clients of its steps, its allocation
        pilot-ends/ keeper.lock      how allocations ended, until the ledger has it; who gives one back while no engine runs

On a cluster `[slurm] shared` may name another directory for runs, further, trees, caches, data and steps.

Sockets and the attach token lie in a private runtime directory, since a Unix socket's path may hold 108 bytes only.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

CONFIG = "cockpit.toml"


@dataclass(frozen=True, slots=True)
class StateDir:
    """The state directory of one lab, `root`, and the runtime directory that belongs to it."""

    root: Path
    shared: Path | None = None  # on a cluster: where runs, run trees, caches and data lie, for its nodes to see

    @property
    def shared_root(self) -> Path:
        """The directory of what shards read and write."""
        return self.shared or self.root

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def runs(self) -> Path:
        return self.shared_root / "runs"

    @property
    def further(self) -> Path:
        return self.shared_root / "further"

    @property
    def trees(self) -> Path:
        return self.shared_root / "trees"

    @property
    def caches(self) -> Path:
        return self.shared_root / "caches"

    @property
    def data(self) -> Path:
        return self.shared_root / "data"

    @property
    def history(self) -> Path:
        return self.root / "history.duckdb"

    @property
    def engine_lock(self) -> Path:
        return self.root / "engine.lock"

    @property
    def engine_log(self) -> Path:
        return self.root / "engine.log"

    @property
    def launcher_lock(self) -> Path:
        return self.root / "launcher.lock"

    @property
    def launcher_key(self) -> Path:
        return self.root / "launcher.key"

    @property
    def launcher_log(self) -> Path:
        return self.root / "launcher.log"

    @property
    def runtime(self) -> Path:
        """Private directory (0700) of this lab's sockets and token; its name depends on the state directory alone."""
        key = hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:16]
        return runtime_base() / key

    @property
    def socket(self) -> Path:
        return self.runtime / "engine.sock"

    @property
    def launcher_socket(self) -> Path:
        return self.runtime / "launcher.sock"

    @property
    def token(self) -> Path:
        return self.runtime / "token"

    def make(self) -> None:
        """Create the directories that the engine writes into, private to their owner."""
        for path in (self.root, self.shared_root, self.blobs, self.runs, self.further, self.trees, self.caches):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        private_directory(self.runtime)


def runtime_base() -> Path:
    """`$XDG_RUNTIME_DIR/cockpit`, else `cockpit-<uid>` in the temporary directory."""
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    if xdg and len(xdg) < 60 and Path(xdg).is_dir():
        return Path(xdg) / "cockpit"
    return Path(tempfile.gettempdir()) / f"cockpit-{os.getuid()}"


def private_directory(path: Path) -> None:
    """Create `path` (and its parent) for this user alone; refuse one that somebody else could write into.

    Raises PermissionError when the directory exists and belongs to somebody else or is open to others.
    """
    for each in (path.parent, path):
        each.mkdir(mode=0o700, exist_ok=True, parents=True)
        info = os.lstat(each)
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
            raise PermissionError(f"{each} is not a private directory of yours: remove it, or set XDG_RUNTIME_DIR")
    os.chmod(path, 0o700)


def find_lab(start: Path) -> Path | None:
    """The nearest directory at or above `start` that holds a `cockpit.toml`, or None."""
    here = start.resolve()
    for each in (here, *here.parents):
        if (each / CONFIG).is_file():
            return each
    return None
