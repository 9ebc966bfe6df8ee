"""Reads a unified diff, as `git diff` or `git format-patch` write it, and applies it to files: strictly, or not at all. Pure.

A hunk applies where it says, or at the one other place where its old lines are found; nothing is matched approximately.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.textdiff import split_lines

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
MAX_DIFF = 512 * 1024


class PatchError(ValueError):
    """The diff cannot be read, or does not apply; the message says where and why."""


@dataclass(slots=True)
class _Hunk:
    start: int  # line of the old file, from 0
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


@dataclass(slots=True)
class FilePatch:
    """What a diff does to one file; `source` and `target` are None for one that is made or deleted."""

    source: str | None
    target: str | None
    hunks: list[_Hunk] = field(default_factory=list)


def patched(diff: str, read: Callable[[str], bytes | None]) -> tuple[dict[str, bytes | None], dict[str, bytes | None]]:
    """Files before and after, of every path that the diff names. Raises PatchError."""
    before: dict[str, bytes | None] = {}
    after: dict[str, bytes | None] = {}
    for patch in read_diff(diff):
        for path in (patch.source, patch.target):
            if path is not None and path not in before:
                before[path] = read(path)
        old = before[patch.source] if patch.source is not None else b""
        if old is None:
            raise PatchError(f"{patch.source} is changed by the diff, and the trunk has no such file")
        if patch.source is None and before[str(patch.target)] is not None:
            raise PatchError(f"{patch.target} is made by the diff, and the trunk has it already")
        new = _apply(patch, old)
        if patch.source is not None and patch.source != patch.target:
            after[patch.source] = None
        if patch.target is not None:
            after[patch.target] = new
    if not after:
        raise PatchError("there is no unified diff in it: `git diff` and `git format-patch` write one")
    return before, after


def read_diff(diff: str) -> list[FilePatch]:
    """The files of a diff, in order. Raises PatchError."""
    if len(diff) > MAX_DIFF:
        raise PatchError(f"the diff is larger than {MAX_DIFF} characters")
    lines = split_lines(diff)
    patches: list[FilePatch] = []
    names: list[str | None] = []
    at = 0
    while at < len(lines):
        line = lines[at].rstrip("\r\n")
        if line.startswith(("Binary files ", "GIT binary patch")):
            raise PatchError("the diff changes a binary file")
        if line.startswith(("old mode ", "new mode ")):
            raise PatchError("the diff changes the mode of a file")
        if line.startswith(("rename from ", "rename to ")):
            names.append(line.split(" ", 2)[2])
            if len(names) == 2:
                patches.append(FilePatch(names[0], names[1]))
                names = []
        if line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            patch = FilePatch(_name(line[4:], "a/"), _name(lines[at + 1][4:].rstrip("\r\n"), "b/"))
            if (
                patches
                and not patches[-1].hunks
                and (patches[-1].source, patches[-1].target) == (patch.source, patch.target)
            ):
                patches.pop()  # a rename that has changes too
            patches.append(patch)
            at += 2
            while at < len(lines) and (found := _HUNK.match(lines[at])):
                at = _hunk(lines, at, found, patch)
            if not patch.hunks:
                raise PatchError(f"line {at}: a hunk is missing")
            continue
        at += 1
    return patches


def _name(text: str, prefix: str) -> str | None:
    name = text.split("\t", 1)[0].strip()
    if name.startswith('"') and name.endswith('"'):
        name = name[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return None if name == "/dev/null" else name.removeprefix(prefix)


def _hunk(lines: list[str], at: int, found: re.Match[str], patch: FilePatch) -> int:
    """Read one hunk into the patch; the number of the line after it."""
    start, old, new = int(found[1]), int(found[2] or 1), int(found[4] or 1)
    hunk = _Hunk(start - 1 if old else start)
    patch.hunks.append(hunk)
    at += 1
    while old > 0 or new > 0 or (at < len(lines) and lines[at].startswith("\\")):
        if at >= len(lines):
            raise PatchError("the diff ends in the middle of a hunk")
        line = lines[at] if lines[at] not in ("\n", "\r\n") else " " + lines[at]
        sign, text = line[0], line[1:]
        if sign == "\\":
            for side in (hunk.old, hunk.new):
                if side and lines[at - 1][0] in (" -" if side is hunk.old else " +"):
                    side[-1] = side[-1].removesuffix("\n")
        elif sign in " -+":
            if sign in " -":
                hunk.old.append(text)
                old -= 1
            if sign in " +":
                hunk.new.append(text)
                new -= 1
        else:
            raise PatchError(f"line {at + 1} of the diff is no line of a hunk: {line[:60]!r}")
        at += 1
    if old < 0 or new < 0:
        raise PatchError(f"line {at}: a hunk has more lines than it says")
    return at


def _apply(patch: FilePatch, data: bytes) -> bytes | None:
    if patch.target is None:
        return None
    try:
        lines = split_lines(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise PatchError(f"{patch.source} is not UTF-8 text") from None
    out: list[str] = []
    at = 0
    for number, hunk in enumerate(patch.hunks, 1):
        start = _place(lines, hunk, at)
        if start is None:
            raise PatchError(
                f"hunk {number} of {patch.target} does not apply to the trunk: its lines are not there, or not once"
            )
        out += [*lines[at:start], *hunk.new]
        at = start + len(hunk.old)
    return "".join([*out, *lines[at:]]).encode("utf-8")


def _place(lines: list[str], hunk: _Hunk, at: int) -> int | None:
    size = len(hunk.old)
    if hunk.start >= at and lines[hunk.start : hunk.start + size] == hunk.old:
        return hunk.start
    if not size:
        return None
    found = [n for n in range(at, len(lines) - size + 1) if lines[n] == hunk.old[0] and lines[n : n + size] == hunk.old]
    return found[0] if len(found) == 1 else None
