"""From files before and after to a reply in the SEARCH/REPLACE format: how a diff that nobody wrote as one becomes a proposal.

What is written is checked by applying it, so that a reply either gives exactly the files that were meant or is not made. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.edits import apply, parse
from engine.reply import Refused
from engine.textdiff import changed_spans, split_lines
from engine.types import Category, Claim

Files = Mapping[str, bytes | None]
_MARKER = re.compile(r"(?:<{7} (?:SEARCH|DELETE)|={7}|>{7} (?:REPLACE|DELETE))[ \t]*$")


class Unwritable(ValueError):
    """These changes cannot be written as a reply; the message says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a proposal says of itself, each on one line."""

    hypothesis: str
    category: str = Category.SYSTEMS
    mechanism: str = "not given"
    prediction: str = "not given"
    predicted_effect: float | None = None
    claims: str = Claim.GAIN

    def lines(self) -> str:
        values = {"hypothesis": self.hypothesis, "category": self.category, "mechanism": self.mechanism}
        values["prediction"] = self.prediction
        out = [f"{name}: {' '.join(value.split())}" for name, value in values.items()]
        if self.predicted_effect is not None:
            out.append(f"predicted_effect: {self.predicted_effect!r}")
        if self.claims != Claim.GAIN:
            out.append(f"claims: {self.claims}")
        return "\n".join(out) + "\n"


def as_reply(header: Header, before: Files, after: Files) -> str:
    """A reply that turns `before` into `after`. Raises Unwritable, and Refused for a header that is none.

    A missing last newline stays as the parent's file has it; that is the one thing that may differ.
    """
    parts = [header.lines()]
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old != new:
            parts.append(_file(path, old, new))
    if len(parts) == 1:
        raise Unwritable("nothing is changed")
    text = "\n".join(parts)
    try:
        made = apply(parse(text), before.get, lambda _: True, lambda _: False)
    except Refused as refused:
        if refused.reason in ("no-header", "malformed", "too-large", "no-op"):
            raise
        raise Unwritable(f"the changes cannot be written as blocks: {refused.detail}") from None
    for path, data in made.items():
        if _bare(data) != _bare(after.get(path)):
            raise Unwritable(
                f"{path}: its lines end in different ways, or not at all, and that change cannot be written"
            )
    return text


def _bare(data: bytes | None) -> bytes | None:
    return None if data is None else data.removesuffix(b"\n").removesuffix(b"\r")


def _file(path: str, old: bytes | None, new: bytes | None) -> str:
    if new is None:
        return f"{path}\n<<<<<<< DELETE\n>>>>>>> DELETE\n"
    lines = _lines(path, new)
    if old is None:
        return f"{path}\n<<<<<<< SEARCH\n=======\n{''.join(lines)}>>>>>>> REPLACE\n"
    before = _lines(path, old)
    blocks = [
        f"<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n" for search, replace in _blocks(before, lines)
    ]
    return f"{path}\n" + "\n".join(blocks)


def _lines(path: str, data: bytes) -> list[str]:
    try:
        text = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise Unwritable(f"{path} is not UTF-8 text") from None
    lines = split_lines(text if text.endswith("\n") or not text else text + "\n")
    if any(_MARKER.match(line.rstrip("\n")) for line in lines):
        raise Unwritable(f"{path} holds lines that look like the marks of a block")
    return lines


def _blocks(old: list[str], new: list[str]) -> list[tuple[str, str]]:
    """(search, replace) for every changed region, with as many lines around it as make the search unique, none overlapping."""
    regions = [list(span) for span in changed_spans(old, new)]
    haystack = "\n" + "".join(old)
    at = 0
    while at < len(regions):
        if _is_unique(old, regions[at], haystack):
            at += 1
        elif not _grow(regions, at, len(old)):
            break
        else:
            at = max(0, at - 1)  # what it grew into may have been the region before
    return [("".join(old[i:j]), "".join(new[k:m])) for i, j, k, m in regions]


def _is_unique(old: list[str], region: list[int], haystack: str) -> bool:
    body = "".join(old[region[0] : region[1]])
    first = haystack.find("\n" + body)
    return bool(body.strip()) and haystack.find("\n" + body, first + 1) < 0


def _grow(regions: list[list[int]], at: int, end: int) -> bool:
    """Take one line more before and after a region, or the region that lies there already; False at both ends of the file."""
    region, grew = regions[at], False
    if at + 1 < len(regions) and regions[at + 1][0] == region[1]:
        _, region[1], _, region[3] = regions.pop(at + 1)
        grew = True
    elif region[1] < end:
        region[1], region[3], grew = region[1] + 1, region[3] + 1, True
    if at and regions[at - 1][1] == region[0]:
        region[0], _, region[2], _ = regions.pop(at - 1)
        grew = True
    elif region[0]:
        region[0], region[2], grew = region[0] - 1, region[2] - 1, True
    return grew
