"""Path globs of the lab file: which files a proposal may touch. Pure; POSIX paths relative to the lab.

`*` and `?` stay within one directory, `**` spans any number of them, `[ab]` is a set. A glob that names a directory without
wildcards (`src`, `data/val/`) takes in everything below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WILD = frozenset("*?[")


def plain_path(path: str) -> bool:
    """Whether `path` is relative and free of `.`, `..`, empty parts, backslashes and control characters."""
    if not path or "\\" in path or any(ord(char) < 32 or ord(char) == 127 for char in path):
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))


def glob_problem(glob: str) -> str | None:
    """What is wrong with `glob`, or None."""
    if not glob:
        return "is empty"
    if glob.startswith(("/", "~")):
        return f'is an absolute path: "{glob}"'
    if "\\" in glob:
        return f'has a backslash: "{glob}"'
    if not plain_path(glob.removesuffix("/")):
        return f'leaves the lab or is not a plain path: "{glob}"'
    return None


class Globs:
    """A compiled list of globs.

    `below` makes every glob take in what lies below a match, wildcards or not; `any_case` ignores case. Both err on the safe
    side and are for protected paths: `.GIT` is `.git` on some file systems.
    """

    def __init__(self, globs: Iterable[str], *, below: bool = False, any_case: bool = False) -> None:
        parts = [_regex(glob.removesuffix("/"), below or not _WILD & set(glob)) for glob in globs]
        flags = re.DOTALL | (re.IGNORECASE if any_case else 0)
        self._pattern = re.compile("|".join(f"(?:{part})" for part in parts), flags) if parts else None

    def match(self, path: str) -> bool:
        """Whether any glob matches the whole of `path`."""
        return self._pattern is not None and self._pattern.fullmatch(path) is not None


def _regex(glob: str, below: bool) -> str:
    parts = glob.split("/")
    out = ""
    for at, part in enumerate(parts):
        last = at == len(parts) - 1
        if part == "**":
            out += ".*" if last else "(?:[^/]+/)*"
        else:
            out += _part_regex(part) + ("" if last else "/")
    return out + ("(?:/.*)?" if below else "")


def _part_regex(part: str) -> str:
    out, at = "", 0
    while at < len(part):
        char = part[at]
        at += 1
        if char == "*":
            out += "" if out.endswith("[^/]*") else "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and (end := part.find("]", at + 1)) != -1:
            inside = part[at:end]
            negated = inside[:1] in ("!", "^")
            members = _set_members(inside[1:] if negated else inside)
            out += f"(?!/)[{'^' if negated else ''}{members}]" if members else re.escape("[")
            at = end + 1 if members else at
        else:
            out += re.escape(char)
    return out


def _set_members(text: str) -> str:
    """The inside of a character set, escaped; ranges are kept when they ascend, else their characters are taken as such."""
    out, at = "", 0
    while at < len(text):
        if at + 2 < len(text) and text[at + 1] == "-" and text[at] <= text[at + 2]:
            out += f"{re.escape(text[at])}-{re.escape(text[at + 2])}"
            at += 3
        else:
            out += re.escape(text[at])
            at += 1
    return out
