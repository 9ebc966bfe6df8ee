"""Dated copies of the history that the `duckdb` program or another tool opens while the engine writes its own file."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_NAME = re.compile(r"history-\d{8}T\d{6}(-\d+)?\.duckdb$")
LATEST = "latest.duckdb"
STALE_S = 6 * 3600.0
"""Age in seconds after which a copy for an export that nobody deleted is removed, when the next one is taken."""


async def take(place: Path, keep: int, copy: Callable[[Path], Awaitable[None]]) -> dict[str, Any]:
    """Make `history-<UTC time>.duckdb` in `place` with `copy`, point `latest.duckdb` at it, and remove older ones but for
    `keep` in all. Its path, its size in bytes, and the names removed. Raises what `copy` raises, and OSError."""
    path = _unused(place)
    await copy(path)
    return _announce(path, keep)


def _announce(path: Path, keep: int) -> dict[str, Any]:
    place = path.parent
    link = place / f".latest-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(path.name)
    os.replace(link, place / LATEST)
    removed = prune(place, keep)
    return {"path": str(path), "latest": str(place / LATEST), "bytes": path.stat().st_size, "removed": removed}


def prune(place: Path, keep: int) -> list[str]:
    """Remove all but the `keep` latest snapshots; the names of those that went. Other files are left alone."""
    found = sorted((each for each in place.iterdir() if _NAME.match(each.name)), key=_age, reverse=True)
    for each in found[keep:]:
        each.unlink(missing_ok=True)
    return [each.name for each in found[keep:]]


def _age(path: Path) -> tuple[str, int]:
    stamp, _, number = path.stem.removeprefix("history-").partition("-")
    return stamp, int(number or 1)


def _unused(place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    path, count = place / f"history-{stamp}.duckdb", 1
    while path.exists():
        count += 1
        path = place / f"history-{stamp}-{count}.duckdb"
    return path


def place_for_export(folder: Path) -> Path:
    """A new name in `folder`, made private, for a copy that its reader deletes; forgotten copies there are removed."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for each in folder.glob("export-*"):
        with suppress(OSError):
            if time.time() - each.stat().st_mtime > STALE_S:
                each.unlink()
    return folder / f"export-{secrets.token_hex(8)}.duckdb"
