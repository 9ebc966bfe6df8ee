"""A proposal of one's own: the trunk's editable files in a scratch directory, a hypothesis on top, and one's own editor.

What differs from the trunk's files when it is handed in becomes the diff. The directory stays until its change is in the queue,
so that nothing that was written is lost to a refusal, a crash or a closed terminal. Handing in approves nothing.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from cockpit.editing import NotEdited, editor
from engine.types import Category, Claim

CLAIM = "HYPOTHESIS.txt"
OWN = ".cockpit-scratch"  # in it: the files as the trunk has them, and what this directory is about
MOST_OPENED = 12
LEFT_BEHIND = ("*.pyc", "*~", ".*.sw?", "#*#", ".#*", "4913", ".DS_Store", "*.orig", "*.rej")
SKIPPED = frozenset({OWN, "__pycache__", ".git", ".vscode", ".idea"})
TEMPLATE = """\
# A proposal of your own. Say in one sentence, which can be wrong, what your change is to show. Lines with a # are left out.
# The files beside this one are the trunk's ({parent}), those that may be changed: change them, add some, delete some.
# When you close your editor, what differs becomes a proposal, which waits for review like any other and does not run before.

hypothesis: {hypothesis}
category: {category}
mechanism:
prediction:
predicted_effect:
claims: gain

# category is one of: {categories}
# claims is one of: {claims}; what it is judged by
# predicted_effect is a number in the metric's unit, above 0 is better; it may be left out, as may mechanism and prediction.
"""


class TrunkCopy:
    """The trunk's editable files as the engine sends them, a page at a time: ask for `wanted` until it is None."""

    def __init__(self) -> None:
        self.parent = ""
        self.files: dict[str, bytes] = {}
        self.left_out: list[str] = []
        self.wanted: dict[str, Any] | None = {"parent": "", "after": 0}

    def take(self, page: Mapping[str, Any]) -> None:
        """Take one answer of the engine's method `tree`."""
        self.parent = str(page["parent"])
        self.files |= {path: base64.b64decode(data) for path, data in page["files"]}
        self.left_out = list(page["left_out"])
        self.wanted = None if page["next"] is None else {"parent": self.parent, "after": page["next"]}


@dataclass(frozen=True, slots=True)
class ScratchTree:
    """A directory with the files to be changed. `ours`: it was made in a temporary place, and goes when it is handed in."""

    path: Path
    root: Path
    parent: str
    ours: bool

    @property
    def resume(self) -> str:
        """How to go on with it, as a sentence."""
        again = f"`cockpit propose --edit --in {self.path}`"
        return f"it is kept in {self.path}: {again} opens it again, and without --edit hands it in"

    def claim(self) -> dict[str, str]:
        """What the person says of their change, by the names of a reply's header. Raises NotEdited."""
        from engine.reply import Refused, header_values  # not before the first paint

        lines = self._read(self.path / CLAIM).decode("utf-8", "replace").splitlines()
        try:
            values = header_values([line for line in lines if not line.startswith("#")])
        except Refused as refused:
            raise NotEdited(f"{CLAIM}: {refused.detail}; {self.resume}") from None
        if not values.get("hypothesis"):
            raise NotEdited(f"{CLAIM} holds no hypothesis: one sentence that can be wrong; {self.resume}")
        return values

    def diff(self) -> str:
        """What differs from the trunk's files. Raises NotEdited where nothing does, or where something is no plain file."""
        from engine.textdiff import unified

        base = self.path / OWN / "base"
        before: dict[str, bytes | None] = {path: self._read(base / path) for path in _files(base)}
        after: dict[str, bytes | None] = dict.fromkeys(before)
        for path in _files(self.path):
            if path != CLAIM:
                after[path] = self._read(self.path / path)
        changed = [path for path in after if after[path] != before.get(path)]
        if not changed:
            raise NotEdited(f"no file was changed, so nothing was queued; {self.resume}")
        return unified({path: before.get(path) for path in changed}, {path: after[path] for path in changed})

    def proposal(self) -> dict[str, Any]:
        """The parameters of the engine's method `submit`. Raises NotEdited."""
        diff, said = self.diff(), self.claim()
        told: dict[str, Any] = {name: said.get(name, "") for name in ("hypothesis", "mechanism", "prediction")}
        told |= {"diff": diff, "category": said.get("category") or "systems", "claims": said.get("claims") or "gain"}
        if effect := said.get("predicted_effect"):
            try:
                told["predicted_effect"] = float(effect)
            except ValueError:
                raise NotEdited(f"{CLAIM}: predicted_effect is {effect!r}, no number; {self.resume}") from None
        return told

    def edit(self) -> None:
        """Open it in the person's editor on this terminal, and wait for its end. Raises NotEdited."""
        files = sorted(path for path in _files(self.path) if path != CLAIM)
        command = [*editor(), CLAIM, *([f"./{path}" for path in files] if len(files) <= MOST_OPENED else [])]
        try:
            code = subprocess.run(command, check=False, cwd=self.path).returncode
        except OSError as error:
            raise NotEdited(f"{command[0]} cannot be run ({error.strerror}): set $EDITOR; {self.resume}") from None
        if code != 0:
            raise NotEdited(f"{command[0]} ended with code {code}: nothing was queued; {self.resume}")

    def drop(self) -> None:
        """Its change is in the queue. A directory that the person named is theirs and stays."""
        if self.ours:
            shutil.rmtree(self.path, ignore_errors=True)

    def _read(self, path: Path) -> bytes:
        try:
            if path.is_symlink() or not path.is_file():
                raise NotEdited(f"{path} is no plain file: a proposal is made of those alone; {self.resume}")
            return path.read_bytes()
        except OSError as error:
            raise NotEdited(f"{path} cannot be read ({error.strerror}); {self.resume}") from None


def make(
    copy: TrunkCopy, root: Path, where: Path | None, hypothesis: str = "", category: str = "systems"
) -> ScratchTree:
    """Lay the trunk's files out in a new directory, for this person's eyes only. Raises NotEdited."""
    if CLAIM in copy.files:
        raise NotEdited(
            f"the lab has an editable file called {CLAIM}: submit a diff instead (`cockpit propose --diff`)"
        )
    path = where if where is not None else Path(tempfile.mkdtemp(prefix="cockpit-own-"))
    tree = ScratchTree(path.absolute(), root, copy.parent, where is None)
    try:
        for top in (path, path / OWN / "base"):
            for name, data in copy.files.items():
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).write_bytes(data)
        (path / OWN / "base").mkdir(parents=True, exist_ok=True)
        filled = {"parent": copy.parent[:10], "hypothesis": hypothesis, "category": category}
        (path / CLAIM).write_text(
            TEMPLATE.format(**filled, categories=", ".join(Category), claims=", ".join(Claim)), "utf-8"
        )
        about = {"root": str(root), "parent": copy.parent, "ours": where is None}
        (path / OWN / "about.json").write_text(json.dumps(about))
    except OSError as error:
        raise NotEdited(f"{error.filename or path} cannot be written ({error.strerror})") from None
    return tree


def opened(path: Path, root: Path) -> ScratchTree | None:
    """The scratch tree in a directory; None for one that is empty or not there. Raises NotEdited for anything else."""
    try:
        about = json.loads((path / OWN / "about.json").read_text("utf-8"))
        tree = ScratchTree(path.absolute(), Path(about["root"]), str(about["parent"]), bool(about["ours"]))
    except (OSError, ValueError, KeyError, TypeError):
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return None
        raise NotEdited(f"{path} is no scratch tree, and not empty: name a new directory") from None
    if tree.root.resolve() != root.resolve():
        raise NotEdited(f"{path} is a scratch tree of another lab, {tree.root}: run this there")
    return tree


def _files(top: Path) -> Iterator[str]:
    """Paths below a directory, with `/`; without what editors and interpreters leave behind."""
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if name not in SKIPPED]
        for name in files:
            if not any(fnmatch(name, pattern) for pattern in LEFT_BEHIND):
                yield PurePosixPath(Path(directory, name).relative_to(top)).as_posix()
