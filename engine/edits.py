"""Apply a draft to the parent's files, or refuse it, so that no diff is ever half or nearly applied.

Every SEARCH is whole lines and must be found exactly once in the parent's file, never in the result of another block; all
blocks apply or none does; nothing is matched approximately. Everything here is pure; the only exception is `Refused`.
"""

from __future__ import annotations

import ast
import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise

from engine.reply import Draft, Edit, Refused, parse, plain
from engine.textdiff import file_changes, split_lines, unified
from engine.types import Refusal

__all__ = ["Draft", "Edit", "Refused", "apply", "bad_path", "file_changes", "is_no_op", "parse", "unified"]

MAX_FILE = 1024 * 1024  # bytes, before and after
MAX_FILES = 20
MAX_PATH = 512  # bytes


def apply(
    draft: Draft,
    read: Callable[[str], bytes | None],
    editable: Callable[[str], bool],
    protected: Callable[[str], bool],
) -> dict[str, bytes | None]:
    """New contents of the files that change (None: deleted), all of the draft's blocks or none.

    `read` gives the parent's content of a path, None where there is no such file. Raises Refused.
    """
    groups: dict[str, list[tuple[int, Edit]]] = {}
    for number, edit in enumerate(draft.edits, 1):
        groups.setdefault(edit.path, []).append((number, edit))
    if len(groups) > MAX_FILES:
        raise Refused(Refusal.TOO_LARGE, f"the proposal touches {len(groups)} files; at most {MAX_FILES} are taken")
    for path in groups:
        _check_allowed(path, editable, protected)
        for above in _directories(path):
            if above in groups or read(above) is not None:
                raise Refused(Refusal.EXISTS, f"{path} cannot be made: {above} is a file, not a directory")
    before = {path: read(path) for path in groups}
    after = {path: _apply_to_file(path, before[path], numbered) for path, numbered in groups.items()}
    changed = {path: data for path, data in after.items() if data != before[path]}
    if is_no_op(before, changed):
        raise Refused(
            Refusal.NO_OP, "the program stays the same: only comments or white space change, or nothing at all"
        )
    return changed


def bad_path(path: str) -> str | None:
    """Why `path` is not a plain POSIX path below the lab, as the end of a sentence; None when it is one."""
    try:
        raw = path.encode("utf-8")
    except UnicodeEncodeError:
        return "is not text"
    if not path or len(raw) > MAX_PATH:
        return f"is empty or longer than {MAX_PATH} bytes"
    if any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in path):
        return "holds control or invisible characters"
    if "\\" in path:
        return "holds a backslash: write it with /"
    if path.startswith(("/", "~")) or re.match(r"[A-Za-z]:", path):
        return "is absolute: write it relative to the lab"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "has an empty, '.' or '..' part"
        if part.endswith((".", " ")) or part.startswith(" ") or len(part.encode("utf-8")) > 255:
            return "has a part that ends in a dot, begins or ends with a space, or is too long"
        folded = unicodedata.normalize("NFKC", part).casefold()
        if folded == ".git" or folded.startswith("git~"):
            return "lies in git's own directory"
    return None


def is_no_op(before: Mapping[str, bytes | None], after: Mapping[str, bytes | None]) -> bool:
    """True when no file differs, or only Python files do and each has the same syntax tree as before."""
    changed = {path: data for path, data in after.items() if data != before.get(path)}
    return all(path.endswith(".py") and _same_program(before.get(path), data) for path, data in changed.items())


def _same_program(old: bytes | None, new: bytes | None) -> bool:
    if old is None or new is None:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.dump(ast.parse(old)) == ast.dump(ast.parse(new))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _check_allowed(path: str, editable: Callable[[str], bool], protected: Callable[[str], bool]) -> None:
    wrong = bad_path(path)
    if wrong:
        raise Refused(Refusal.OUTSIDE, f"the path {plain(path)[:80]!r} {wrong}")
    if protected(path):
        raise Refused(Refusal.PROTECTED, f"{path} is protected: no proposal may change it")
    if not editable(path):
        raise Refused(Refusal.NOT_EDITABLE, f"{path} is not among the lab's editable files")


def _directories(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _apply_to_file(path: str, old: bytes | None, numbered: list[tuple[int, Edit]]) -> bytes | None:
    whole = [edit for _, edit in numbered if edit.delete or not edit.search.strip()]
    if whole and len(numbered) > 1:
        raise Refused(Refusal.OVERLAP, f"{path} is created or deleted by one block and touched by another")
    if whole and whole[0].delete:
        if old is None:
            raise Refused(Refusal.MISSING_FILE, f"{path} cannot be deleted: the parent has no such file")
        return None
    if whole:
        if old is not None:
            raise Refused(
                Refusal.EMPTY_SEARCH,
                f"{path} exists: an empty SEARCH only creates a new file, so quote the lines to change",
            )
        return _encode(path, whole[0].replace)
    if old is None:
        raise Refused(Refusal.MISSING_FILE, f"{path} does not exist in the parent; an empty SEARCH would create it")
    return _encode(path, _replace(path, _decode(path, old), numbered))


def _decode(path: str, data: bytes) -> str:
    if len(data) > MAX_FILE:
        raise Refused(Refusal.TOO_LARGE, f"{path} has {len(data)} bytes; files above {MAX_FILE} are not edited")
    try:
        if b"\0" not in data:
            return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise Refused(Refusal.BINARY, f"{path} is not UTF-8 text, so it cannot be edited")


def _encode(path: str, text: str) -> bytes:
    if "\0" in text:
        raise Refused(Refusal.BINARY, f"{path} would hold a NUL character")
    data = text.encode("utf-8")
    if len(data) > MAX_FILE:
        raise Refused(Refusal.TOO_LARGE, f"{path} would have {len(data)} bytes; at most {MAX_FILE} are taken")
    return data


def _ending(line: str) -> str:
    return "\r\n" if line.endswith("\r\n") else "\n" if line.endswith("\n") else ""


def _replace(path: str, text: str, numbered: list[tuple[int, Edit]]) -> str:
    """The file's text with every block done; line endings, byte-order mark and the missing last newline stay as they are."""
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    lines = split_lines(text.removeprefix(mark))
    bodies = [line.removesuffix(_ending(line)) for line in lines]
    haystack = "\n" + "\n".join(bodies) + "\n"
    crlf = sum(line.endswith("\r\n") for line in lines)
    usual = "\r\n" if crlf * 2 > len(lines) else "\n"
    spans: list[tuple[int, int, int, list[str]]] = []
    for number, edit in numbered:
        if edit.search == edit.replace:
            raise Refused(Refusal.NO_OP, f"block {number} puts back in {path} the very lines that it searches for")
        wanted = [line[:-1] for line in split_lines(edit.search)]
        start = _find_once(path, number, haystack, bodies, wanted)
        old = lines[start : start + len(wanted)]
        new = [
            line[:-1] + (_ending(old[min(n, len(old) - 1)]) or usual)
            for n, line in enumerate(split_lines(edit.replace))
        ]
        spans.append((start, start + len(wanted), number, new))
    spans.sort(key=lambda span: span[:2])
    for (_, end, one, _), (start, _, other, _) in pairwise(spans):
        if start < end:
            raise Refused(Refusal.OVERLAP, f"blocks {one} and {other} both change line {start + 1} of {path}")
    out: list[str] = []
    at = 0
    for start, end, _, new in spans:
        out += [*lines[at:start], *new]
        at = end
    out += lines[at:]
    if out and lines and not _ending(lines[-1]):
        out[-1] = out[-1].removesuffix(_ending(out[-1]))
    return mark + "".join(out)


def _find_once(path: str, number: int, haystack: str, bodies: list[str], wanted: list[str]) -> int:
    needle = "\n" + "\n".join(wanted) + "\n"
    hits: list[int] = []
    at = haystack.find(needle)
    while at >= 0 and len(hits) < 5:
        hits.append(haystack.count("\n", 0, at))
        at = haystack.find(needle, at + 1)
    if len(hits) == 1:
        return hits[0]
    if hits:
        where = ", ".join(str(hit + 1) for hit in hits) + (" …" if at >= 0 else "")
        raise Refused(
            Refusal.AMBIGUOUS,
            f"the SEARCH of block {number} is found in {path} at lines {where}; quote more lines around it",
        )
    detail, nearest = _nearest(bodies, wanted)
    raise Refused(Refusal.NO_MATCH, f"the SEARCH of block {number} is nowhere in {path}{detail}", nearest)


def _nearest(bodies: list[str], wanted: list[str]) -> tuple[str, str]:
    """Where the file comes closest to `wanted`: the end of a sentence, and the file's own lines there."""
    places: dict[str, list[int]] = {}
    for n, body in enumerate(bodies):
        if body.strip():
            places.setdefault("".join(body.split()), []).append(n)
    votes: dict[int, int] = {}
    for n, line in enumerate(wanted[:200]):
        for place in places.get("".join(line.split()), [])[:50]:
            votes[place - n] = votes.get(place - n, 0) + 1
    if not votes:
        return "; no line of it occurs there", ""
    start = max(votes, key=lambda place: (votes[place], -place))
    found = bodies[max(0, start) : start + len(wanted)]
    for n, line in enumerate(wanted):
        real = bodies[start + n] if 0 <= start + n < len(bodies) else None
        if real != line:
            reads = "the file ends" if real is None else f"the file reads {plain(real)[:120]!r}"
            if real is not None and real.split() == line.split():
                reads += " with other white space"
            at = f"line {start + n + 1}" if start + n >= 0 else "the top"
            return f"; nearest at {at}, where {reads} and the block {plain(line)[:120]!r}", "\n".join(found)
    return "", "\n".join(found)
