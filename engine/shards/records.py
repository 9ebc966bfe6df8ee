"""Exit records as they lie in run directories: sealed by the launcher, since whoever trains may write there too.

The key lies in the state directory, out of reach of every box. So what a shard leaves under that name before its launcher
dies is not taken for the launcher's word. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import stat
from pathlib import Path

from engine.shards.spec import ExitRecord

KEY_BYTES = 32
RECORD_BYTES = 64 * 1024


def make_key(path: Path) -> bytes:
    """The key in that file, which is made when there is none. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)
        finally:
            os.unlink(partial)
    return path.read_bytes()


def sealed(record: ExitRecord, key: bytes) -> bytes:
    """The record as it is written."""
    return json.dumps(record.to_json() | {"seal": _seal(record, key)}).encode()


def _seal(record: ExitRecord, key: bytes) -> str:
    body = json.dumps(record.to_json(), sort_keys=True).encode()
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def read_exit(run_dir: Path, record: str = "exit.json") -> ExitRecord | None:
    """The exit record in a directory that untrusted code wrote into; None when there is none that the launcher wrote.

    Where no launcher has made a key yet, nothing can have been launched, and any record is taken as it is.
    """
    raw = _read(run_dir / record)
    if raw is None:
        return None
    try:
        found = json.loads(raw)
        read = ExitRecord.from_json(found)
        key = _key_for(run_dir)
        if key is None or hmac.compare_digest(str(found.get("seal")).encode(), _seal(read, key).encode()):
            return read
    except (ValueError, RecursionError):
        pass
    return None


def _key_for(run_dir: Path) -> bytes | None:
    """The launcher's key of the state directory that this run directory lies in."""
    try:
        return (run_dir.parent.parent / "launcher.key").read_bytes()
    except OSError:
        return None


def _read(path: Path) -> bytes | None:
    try:
        found = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        info = os.fstat(found)
        if not stat.S_ISREG(info.st_mode) or info.st_size > RECORD_BYTES:
            return None
        return os.read(found, RECORD_BYTES)
    except OSError:
        return None
    finally:
        os.close(found)
