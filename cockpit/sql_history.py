"""The queries that were run in a lab, newest last: kept for this reader alone, bounded, in their own state directory."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MOST = 500
"""Queries that are kept."""

LARGEST = 1 << 20
"""Bytes of the file; the oldest queries go first."""


def place(root: str, environ: Mapping[str, str] | None = None) -> Path:
    """The file of the lab at `root`: below `$XDG_STATE_HOME/cockpit`, else `~/.local/state/cockpit`."""
    env = os.environ if environ is None else environ
    base = Path(env.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "cockpit" / hashlib.sha256(root.encode("utf-8", "replace")).hexdigest()[:16] / "sql_history.jsonl"


def load(path: Path) -> list[str]:
    """The queries in the file, oldest first; none when it is missing or unreadable, and no line that is damaged."""
    try:
        with path.open("rb") as file:
            body = file.read(2 * LARGEST)
    except OSError:
        return []
    found: list[str] = []
    for line in body.decode("utf-8", "replace").splitlines():
        with suppress(ValueError):
            text = json.loads(line)
            if isinstance(text, str) and text.strip():
                found.append(text)
    return kept(found)


def kept(queries: Sequence[str]) -> list[str]:
    """At most MOST queries and LARGEST bytes of them, each once, at its latest place."""
    latest = list(dict.fromkeys(reversed(queries)))[:MOST]
    size = 0
    for count, text in enumerate(latest):
        size += len(json.dumps(text)) + 1
        if size > LARGEST:
            latest = latest[:count]
            break
    return list(reversed(latest))


def save(path: Path, queries: Sequence[str]) -> None:
    """Write the file anew, readable by this user alone; in one step. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".sql_history")  # 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(text) + "\n" for text in kept(queries))
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def add(path: Path, text: str) -> list[str]:
    """Add a query to the file, behind what other terminals added meanwhile; returns all of them. Raises OSError."""
    queries = kept([*load(path), text])
    save(path, queries)
    return queries


class Walk:
    """Going back and forth through the past queries; what was being written waits at the end."""

    def __init__(self) -> None:
        self.past: list[str] = []
        self._at: int | None = None
        self._draft = ""

    def set(self, past: Sequence[str]) -> None:
        """Take new past queries and stand at the end."""
        self.past = list(past)
        self._at = None

    def back(self, now: str) -> str | None:
        """The query before, given what is in the editor; None at the oldest."""
        at = len(self.past) if self._at is None else self._at
        if self._at is None:
            self._draft = now
        while at > 0:
            at -= 1
            if self.past[at] != now:
                self._at = at
                return self.past[at]
        return None

    def forth(self) -> str | None:
        """The query after, at the end what was being written; None when already there."""
        if self._at is None:
            return None
        if self._at + 1 < len(self.past):
            self._at += 1
            return self.past[self._at]
        self._at = None
        return self._draft
