"""Read a SEARCH/REPLACE reply into a draft, or refuse it, so that what was meant is never guessed.

A reply is a header and then blocks; prose around them is let be:

    hypothesis: ReLU squared trains better than GELU at this size
    category: architecture
    mechanism: sparser activations …
      a value goes on in lines that are indented by two spaces
    prediction: val_bpb falls by at least 0.01
    predicted_effect: 0.02
    claims: gain

    train.py
    <<<<<<< SEARCH
    exact lines of the parent's file
    =======
    the lines that take their place
    >>>>>>> REPLACE

An empty SEARCH creates a file that does not exist; `<<<<<<< DELETE` and `>>>>>>> DELETE` after the path delete one. Markers
have seven signs and begin their line; the file's path is the last line before the first marker, bare or in backticks.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from engine.types import Category, Claim, Refusal

MAX_REPLY = 256 * 1024  # bytes
MAX_VALUE = 4000  # characters of one header value


class Refused(Exception):
    """A proposal that the machine will not apply: `reason`, a sentence of `detail`, and the `nearest` real text, if any."""

    def __init__(self, reason: Refusal, detail: str, nearest: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.nearest = nearest


@dataclass(frozen=True, slots=True)
class Edit:
    """One block: `search` and `replace` are whole lines, "" for none; `delete` removes the file and leaves both empty."""

    path: str
    search: str
    replace: str
    delete: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """What a reply says: the header's values, one line each, and its blocks in order. An effect above 0 is better."""

    hypothesis: str
    mechanism: str
    prediction: str
    category: Category
    predicted_effect: float | None
    edits: tuple[Edit, ...]
    claims: Claim = Claim.GAIN


_HEADER = re.compile(
    r"^\s?(?:\*\*)?(hypothesis|category|mechanism|prediction|predicted[_ ]effect|claims)(?:\*\*)?\s*:(?:\*\*)?[ \t]*(.*)$",
    re.I,
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.I)
_OPEN = re.compile(r"^<{7} (SEARCH|DELETE)[ \t]*$")
_CLOSE = re.compile(r"^>{7} (REPLACE|DELETE)[ \t]*$")
_DIVIDER = re.compile(r"^={7}[ \t]*$")
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_SPELLINGS = {"initialization": "initialisation", "regularization": "regularisation", "bugfix": "bug fix"}


def parse(reply: str) -> Draft:
    """Read a reply. Raises Refused: no-header, no-blocks, malformed or too-large, with a sentence of what to mend."""
    try:
        size = len(reply.encode("utf-8"))
    except UnicodeEncodeError:
        raise Refused(Refusal.MALFORMED, "the reply holds half a surrogate pair, which is not text") from None
    if size > MAX_REPLY:
        raise Refused(Refusal.TOO_LARGE, f"the reply has {size} bytes; at most {MAX_REPLY} are read")
    lines = reply.replace("\r\n", "\n").split("\n")
    first = next((n for n, line in enumerate(lines) if _OPEN.match(line)), len(lines))
    values = _header(lines[:first])
    category = _category(values["category"])
    effect = _effect(values.get("predicted_effect", ""))
    edits = _blocks(lines)
    if not edits:
        raise Refused(Refusal.NO_BLOCKS, "the reply holds no <<<<<<< SEARCH block, so it changes nothing")
    claims = _claims(values.get("claims", ""))
    return Draft(values["hypothesis"], values["mechanism"], values["prediction"], category, effect, edits, claims)


def header_values(lines: Sequence[str]) -> dict[str, str]:
    """What a header says, each value on one line; some may be missing. Raises Refused where a name comes twice."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines:
        match = _HEADER.match(line)
        if match:
            name = match[1].lower().replace(" ", "_")
            if name in found:
                raise Refused(Refusal.MALFORMED, f"the header gives {name}: twice; give it once")
            current = found[name] = [match[2]]
        elif current is not None and line.startswith("  ") and line.strip():
            current.append(line)
        else:
            current = None
    return {name: plain(" ".join(parts)) for name, parts in found.items()}


def _header(lines: list[str]) -> dict[str, str]:
    values = header_values(lines)
    missing = [name for name in ("hypothesis", "category", "mechanism", "prediction") if not values.get(name)]
    if missing:
        raise Refused(
            Refusal.NO_HEADER, f"the reply lacks {', '.join(f'{name}:' for name in missing)} before its blocks"
        )
    for name, value in values.items():
        if len(value) > MAX_VALUE:
            raise Refused(Refusal.TOO_LARGE, f"{name}: has {len(value)} characters; at most {MAX_VALUE} are kept")
    return values


def plain(value: str) -> str:
    """One line without control, bidirectional or other invisible characters: it goes to terminals and commit messages."""
    visible = "".join(char if unicodedata.category(char) not in ("Cc", "Cf", "Zl", "Zp") else " " for char in value)
    return " ".join(visible.split())


def _category(value: str) -> Category:
    words = " ".join(re.split(r"[\s_-]+", value.strip(" `*.").lower()))
    try:
        return Category(_SPELLINGS.get(words, words))
    except ValueError:
        known = ", ".join(Category)
        raise Refused(Refusal.MALFORMED, f"category: {value[:60]!r} is not one of {known}") from None


def _claims(value: str) -> Claim:
    word = value.strip(" `*.").lower()
    try:
        return Claim(word or Claim.GAIN)
    except ValueError:
        raise Refused(Refusal.MALFORMED, f"claims: {value[:60]!r} is not one of {', '.join(Claim)}") from None


def _effect(value: str) -> float | None:
    if value.strip("`* ").lower() in ("", "none", "unknown", "n/a", "-"):
        return None
    match = _NUMBER.match(value.strip("`* "))
    number = float(match[0]) if match else math.nan
    if not math.isfinite(number):
        raise Refused(Refusal.MALFORMED, f"predicted_effect: {value[:60]!r} is not a number, such as 0.02")
    return number


def _blocks(lines: list[str]) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    before: str | None = None  # last line outside a block that is neither blank nor a fence
    path: str | None = None
    at = 0
    while at < len(lines):
        line = lines[at]
        opening = _OPEN.match(line)
        if opening is None:
            if _CLOSE.match(line):
                raise _malformed(len(edits) + 1, at, "ends with no <<<<<<< line before it")
            if line.strip() and not _FENCE.match(line):
                before = line
            at += 1
            continue
        number = len(edits) + 1
        if before is not None:
            path = None if _HEADER.match(before) else _path_in(before)
        if path is None:
            raise _malformed(number, at, "has no line with a file path before it")
        edit, at = _delete(lines, at, number, path) if opening[1] == "DELETE" else _search(lines, at, number, path)
        edits.append(edit)
        before = None  # a block right after this one, with no line between, is about the same file
    return tuple(edits)


def _path_in(line: str) -> str:
    text = line.strip().lstrip("#").strip().strip("*").strip()
    if text.lower().startswith("file:"):
        text = text[5:].strip()
    return text.removesuffix(":").strip("`").removesuffix(":")


def _search(lines: list[str], start: int, number: int, path: str) -> tuple[Edit, int]:
    divider = end = None
    for at in range(start + 1, len(lines)):
        if _OPEN.match(lines[at]):
            break
        if _CLOSE.match(lines[at]):
            end = at
            break
        if _DIVIDER.match(lines[at]):
            if divider is not None:
                raise _malformed(number, at, "has two ======= lines, so where SEARCH ends is unclear")
            divider = at
    if divider is None:
        raise _malformed(number, start, "has no ======= line")
    if end is None or "REPLACE" not in lines[end]:
        raise _malformed(number, start, "is not closed by >>>>>>> REPLACE")
    return Edit(path, _text(lines[start + 1 : divider]), _text(lines[divider + 1 : end])), end + 1


def _delete(lines: list[str], start: int, number: int, path: str) -> tuple[Edit, int]:
    for at in range(start + 1, len(lines)):
        closing = _CLOSE.match(lines[at])
        if closing and closing[1] == "DELETE":
            return Edit(path, "", "", delete=True), at + 1
        if lines[at].strip():
            break
    raise _malformed(number, start, "is not closed by >>>>>>> DELETE on the next line")


def _text(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _malformed(number: int, at: int, what: str) -> Refused:
    return Refused(Refusal.MALFORMED, f"block {number} (line {at + 1} of the reply) {what}")
