"""Keeps the lab's state directory out of git, without touching a file that git tracks."""

from __future__ import annotations

from pathlib import Path

PATTERN = "/.cockpit/"


def exclude(common: Path) -> Path:
    """Add the state directory to `info/exclude` of a repository's common git directory, once. Returns the file."""
    path = common / "info" / "exclude"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    if PATTERN.encode() not in before.splitlines():
        gap = b"" if not before or before.endswith(b"\n") else b"\n"
        with path.open("ab") as file:
            file.write(gap + PATTERN.encode() + b"\n")
    return path
