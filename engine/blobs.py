"""Bodies by content: replies, diffs, requests, imported sources. Events carry their hashes, never the bodies."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path


class Blobs:
    """A directory of files named by the SHA-256 of what they hold: `ab/abcdef…`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, body: bytes) -> str:
        """Store `body`, durably, and return its hash. Storing the same body again does nothing."""
        name = hashlib.sha256(body).hexdigest()
        path = self.root / name[:2] / name
        if path.exists():
            return name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        return name

    def get(self, name: str) -> bytes:
        """The body of that hash. Raises KeyError when it is not there, ValueError when it was changed on disk."""
        if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise KeyError(name)
        try:
            body = (self.root / name[:2] / name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None
        if hashlib.sha256(body).hexdigest() != name:
            raise ValueError(f"blob {name} was changed on disk")
        return body
