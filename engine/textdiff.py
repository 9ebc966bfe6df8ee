"""Line diffs between two sets of files, so that what a person approves is text that the engine drew itself.

Pure: no git, no files. Lines end at "\\n" only (a form feed or U+2028 inside a line is content, as it is for git), so the
text can be fed to `git apply` and gives the same bytes back. Matching is by patience (lines that occur once in both sides
are anchors; Bram Cohen's rule) with a bounded exact search in the gaps, so that no input can make it slow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from engine.types import FileChange

Files = Mapping[str, bytes | None]
"""Contents by path; None, or a path that is missing, means that the file does not exist."""

Span = tuple[int, int, int, int]
"""A changed region: lines [i, j) of the old side became lines [k, l) of the new one."""

CONTEXT = 3
_GAP = 1_000_000  # old lines times new lines that the exact search may look at, between two anchors
_DEPTH = 12


def split_lines(text: str) -> list[str]:
    """The lines of `text` with their "\\n"; the last one lacks it when the text does."""
    parts = text.split("\n")
    lines = [part + "\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines


def unified(before: Files, after: Files) -> str:
    """Git-like unified diff of the files that differ, by path: `a/` and `b/` prefixes, 3 lines of context, no renames."""
    return "".join(_one_file(path, before.get(path), after.get(path)) for path in _differing(before, after))


def file_changes(before: Files, after: Files) -> tuple[FileChange, ...]:
    """What changed, one row a file, by path. Files that are not UTF-8 count no lines."""
    rows = []
    for path in _differing(before, after):
        old, new = before.get(path), after.get(path)
        spans = changed_spans(_lines(old) or [], _lines(new) or [])
        added = sum(span[3] - span[2] for span in spans)
        removed = sum(span[1] - span[0] for span in spans)
        rows.append(FileChange(path, added, removed, "A" if old is None else "D" if new is None else "M"))
    return tuple(rows)


def changed_lines(old: bytes | None, new: bytes | None) -> tuple[list[str], list[str]]:
    """The lines (removed, added) between two contents; both empty where a side is not UTF-8."""
    left, right = _lines(old), _lines(new)
    if left is None or right is None:
        return [], []
    spans = changed_spans(left, right)
    return [line for i, j, _, _ in spans for line in left[i:j]], [line for _, _, k, m in spans for line in right[k:m]]


def changed_spans(old: Sequence[str], new: Sequence[str]) -> list[Span]:
    """The regions that differ, in order, none empty on both sides and no two touching."""
    pairs: list[tuple[int, int]] = []
    _match(old, new, 0, len(old), 0, len(new), pairs, _DEPTH)
    spans: list[Span] = []
    i = k = 0
    for j, m in [*pairs, (len(old), len(new))]:
        if i < j or k < m:
            spans.append((i, j, k, m))
        i, k = j + 1, m + 1
    return spans


def _match(
    old: Sequence[str],
    new: Sequence[str],
    i: int,
    j: int,
    k: int,
    m: int,
    out: list[tuple[int, int]],
    depth: int,
) -> None:
    """Append to `out` the pairs of equal lines between old[i:j] and new[k:m], ascending on both sides."""
    while i < j and k < m and old[i] == new[k]:
        out.append((i, k))
        i, k = i + 1, k + 1
    tail = 0
    while i < j - tail and k < m - tail and old[j - tail - 1] == new[m - tail - 1]:
        tail += 1
    end_old, end_new = j - tail, m - tail
    if i < end_old and k < end_new:
        anchors = _anchors(old, new, i, end_old, k, end_new) if depth else []
        if anchors:
            for at_old, at_new in [*anchors, (end_old, end_new)]:
                _match(old, new, i, at_old, k, at_new, out, depth - 1)
                if at_old < end_old:
                    out.append((at_old, at_new))
                i, k = at_old + 1, at_new + 1
        elif (end_old - i) * (end_new - k) <= _GAP:
            matcher = SequenceMatcher(None, old[i:end_old], new[k:end_new], autojunk=False)
            for block in matcher.get_matching_blocks():
                out.extend((i + block.a + n, k + block.b + n) for n in range(block.size))
    out.extend((end_old + n, end_new + n) for n in range(tail))


def _anchors(old: Sequence[str], new: Sequence[str], i: int, j: int, k: int, m: int) -> list[tuple[int, int]]:
    """Lines that occur once on each side, thinned to the longest run that ascends on both."""
    count_old, count_new = Counter(old[i:j]), Counter(new[k:m])
    at_new = {line: n for n, line in enumerate(new[k:m], k) if count_new[line] == 1}
    pairs = [(n, at_new[line]) for n, line in enumerate(old[i:j], i) if count_old[line] == 1 and line in at_new]
    tops: list[int] = []  # smallest last new-index of an ascending run of each length
    owners: list[int] = []
    previous: list[int] = []
    for n, (_, position) in enumerate(pairs):
        length = bisect_left(tops, position)
        previous.append(owners[length - 1] if length else -1)
        tops[length : length + 1] = [position]
        owners[length : length + 1] = [n]
    chain: list[tuple[int, int]] = []
    n = owners[-1] if owners else -1
    while n >= 0:
        chain.append(pairs[n])
        n = previous[n]
    return chain[::-1]


def _differing(before: Files, after: Files) -> list[str]:
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))


def _lines(data: bytes | None) -> list[str] | None:
    """The lines of a text; [] for a file that does not exist; None for bytes that are not UTF-8 text."""
    if data is None:
        return []
    if b"\0" in data:
        return None
    try:
        return split_lines(data.decode("utf-8"))
    except UnicodeDecodeError:
        return None


def _one_file(path: str, old: bytes | None, new: bytes | None) -> str:
    head = [f"diff --git {_name('a/', path)} {_name('b/', path)}\n"]
    if old is None:
        head.append("new file mode 100644\n")
    if new is None:
        head.append("deleted file mode 100644\n")
    left, right = _lines(old), _lines(new)
    if left is None or right is None:
        return "".join([*head, f"Binary files {_name('a/', path)} and {_name('b/', path)} differ\n"])
    body = _hunks(left, right)
    if body:
        tab = "\t" if " " in path and '"' not in path else ""  # as git does, so that the name's end is clear
        head.append(f"--- {'/dev/null' if old is None else _name('a/', path) + tab}\n")
        head.append(f"+++ {'/dev/null' if new is None else _name('b/', path) + tab}\n")
    return "".join([*head, *body])


def _name(prefix: str, path: str) -> str:
    if '"' in path or "\\" in path:
        return '"' + prefix + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return prefix + path


def _hunks(old: list[str], new: list[str]) -> list[str]:
    groups: list[list[Span]] = []
    for span in changed_spans(old, new):
        if groups and span[0] - groups[-1][-1][1] <= 2 * CONTEXT:
            groups[-1].append(span)
        else:
            groups.append([span])
    out: list[str] = []
    for group in groups:
        start = max(0, group[0][0] - CONTEXT)
        end = min(len(old), group[-1][1] + CONTEXT)
        start_new = group[0][2] - (group[0][0] - start)
        end_new = group[-1][3] + (end - group[-1][1])
        out.append(f"@@ -{_range(start, end)} +{_range(start_new, end_new)} @@\n")
        at = start
        for i, j, k, m in group:
            out.extend(_line(" ", line) for line in old[at:i])
            out.extend(_line("-", line) for line in old[i:j])
            out.extend(_line("+", line) for line in new[k:m])
            at = j
        out.extend(_line(" ", line) for line in old[at:end])
    return out


def _line(sign: str, line: str) -> str:
    return sign + line if line.endswith("\n") else f"{sign}{line}\n\\ No newline at end of file\n"


def _range(start: int, end: int) -> str:
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"
