"""The last gate before a branch: what a commit changes, judged by its tree, since a diff's text can lie.

A header can name one file and edit another; symbolic links, submodules, `.gitattributes` and mode changes all look harmless
as text. So only the two trees are compared, and only regular UTF-8 files that the lab lets be edited may differ.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.edits import MAX_FILES, Refused, bad_path
from engine.plumbing import DIFF, REGULAR, Plumbing, text
from engine.types import FileChange, Refusal


def check(
    git: Plumbing, parent: str, child: str, lab_editable: Callable[[str], bool], max_bytes: int
) -> list[FileChange]:
    """The files in which commit `child` differs from `parent`. Raises Refused when one of them may not.

    Files may be added (mode 100644), changed (mode as it was) or deleted, where `lab_editable` allows the path.
    """
    _, out = git.objects("diff-tree", "-r", "-z", "--raw", "--numstat", "--text", *DIFF, parent, child, "--")
    changes: list[tuple[str, str, str, str]] = []  # path, old mode, new mode, status
    counts: dict[str, tuple[int, int]] = {}
    fields = iter(text(out).split("\0"))
    for field in fields:
        if field.startswith(":"):
            old_mode, new_mode, _, _, status = field[1:].split(" ")
            changes.append((next(fields), old_mode, new_mode, status))
        elif field:
            added, removed, path = field.split("\t", 2)
            counts[path] = (0, 0) if added == "-" else (int(added), int(removed))  # "-": binary, refused below
    if len(changes) > MAX_FILES:
        raise Refused(Refusal.TOO_LARGE, f"{len(changes)} files change; at most {MAX_FILES} may")
    for change in changes:
        _check_change(*change, lab_editable)
    _check_contents(git, child, [path for path, _, _, status in changes if status != "D"], max_bytes)
    return [_row(path, status, *counts[path]) for path, _, _, status in changes]


def _row(path: str, status: str, added: int, removed: int) -> FileChange:
    return FileChange(path, added, removed, "A" if status == "A" else "D" if status == "D" else "M")


def _check_change(path: str, old: str, new: str, status: str, lab_editable: Callable[[str], bool]) -> None:
    if wrong := bad_path(path):
        raise Refused(Refusal.OUTSIDE, f"the path {path[:80]!r} {wrong}")
    if any(part.casefold().startswith(".git") for part in path.split("/")):
        raise Refused(Refusal.PROTECTED, f"{path} steers git itself: no proposal may change it")
    if not lab_editable(path):
        raise Refused(Refusal.NOT_EDITABLE, f"{path} is not among the lab's editable files")
    fine = {"A": new == "100644", "M": old == new and new in REGULAR, "D": old in REGULAR}.get(status, False)
    if not fine:
        raise Refused(
            Refusal.MODE, f"{path} would go from mode {old} to {new}: only regular files may change, and no modes"
        )


def _check_contents(git: Plumbing, child: str, paths: list[str], max_bytes: int) -> None:
    entries = git.entries(child, paths)
    for path in paths:
        if entries[path].size > max_bytes:
            raise Refused(
                Refusal.TOO_LARGE, f"{path} has {entries[path].size} bytes; at most {max_bytes} may be written"
            )
    for path, data in zip(paths, git.blobs([entries[path].oid for path in paths]), strict=True):
        try:
            readable = "\0" not in data.decode("utf-8")
        except UnicodeDecodeError:
            readable = False
        if not readable:
            raise Refused(Refusal.BINARY, f"{path} is not UTF-8 text")
