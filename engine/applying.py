"""A draft applied to the lab's files at a commit: what they were, and what they would be."""

from __future__ import annotations

from engine.core import Core
from engine.edits import Draft, apply

Files = dict[str, bytes | None]


def applied(core: Core, parsed: Draft, parent: str) -> tuple[Files, Files]:
    """Files before and after, for every path that the edits name, at commit `parent`. Runs on git's thread. Raises Refused."""
    before: Files = {}

    def read(path: str) -> bytes | None:
        if path not in before:
            before[path] = core.repo.read(parent, path)
        return before[path]

    after = apply(parsed, read, core.lab.is_editable, core.lab.is_protected)
    return {path: read(path) for path in after}, after
