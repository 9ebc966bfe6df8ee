"""What a shard may leave lying in wait in its run directory for whoever looks there later: git repositories.

Git obeys the configuration of the repository that it stands in: a prompt that shows the branch is enough, in a directory with a
`.git`, or with the files of a bare repository, for a file system monitor or a hook of somebody else's to run as the
researcher. The engine runs git in no run directory; this is for people and their shells.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from engine.files import below

MOST = 200_000
"""Entries that are looked at; a directory with more is left as it is, beyond them."""


def defuse(run_dir: Path) -> list[str]:
    """Rename what makes git take a place below `run_dir` for a repository, and say what: `.git` of any kind, in any case, and
    the HEAD of what looks like a bare one. Everything stays to be looked at, under its new name."""
    found = []
    for number, path in enumerate(below(run_dir)):
        if number >= MOST:
            break
        bare = path.name.casefold() == "head" and all(
            os.path.lexists(path.parent / name) for name in ("objects", "refs")
        )
        if path.name.casefold() == ".git" or bare:
            with suppress(OSError):
                path.rename(_free(path))
                found.append(str(path.relative_to(run_dir)))
    return found


def _free(path: Path) -> Path:
    """A name beside `path` that git gives no meaning to, and that nothing has."""
    n = 1
    while os.path.lexists(path.with_name(f"{path.name.lstrip('.')}.left-{n}")):
        n += 1
    return path.with_name(f"{path.name.lstrip('.')}.left-{n}")
