"""Several proposals in one answer: where each begins and ends, and what is sent back about those that cannot be applied. Pure.

Each proposal lies between `<proposal>` and `</proposal>`, on lines of their own; inside a SEARCH/REPLACE block such lines are
content. An answer without any is one proposal, or none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.reply import Refused
from engine.types import Refusal

_BEGIN = re.compile(r"^\s*<proposal(?:\s[^>]*)?>\s*$")
_END = re.compile(r"^\s*</proposal>\s*$")
_OPEN = re.compile(r"^<{7} (?:SEARCH|DELETE)[ \t]*$")
_CLOSE = re.compile(r"^>{7} (?:REPLACE|DELETE)[ \t]*$")
MAX_NEAREST = 4000

MENDABLE = frozenset(Refusal) - {Refusal.DUPLICATE}


def split(text: str) -> tuple[str, ...]:
    """The proposals of an answer, in order. One that was begun and not ended is kept, to be refused for what it lacks."""
    found: list[list[str]] = []
    inside = in_block = False
    for line in text.replace("\r\n", "\n").split("\n"):
        if inside and not in_block and _END.match(line):
            inside = False
        elif not inside and _BEGIN.match(line):
            inside, in_block = True, False
            found.append([])
        elif inside:
            in_block = not _CLOSE.match(line) if in_block else bool(_OPEN.match(line))
            found[-1].append(line)
    if not found and re.search(r"^\s?(?:\*\*)?hypothesis(?:\*\*)?\s*:", text, re.I | re.M):
        return (text,)
    return tuple("\n".join(lines).strip("\n") + "\n" for lines in found)


def repair(failed: Sequence[tuple[str, Refused]]) -> str:
    """What is asked about replies that were refused: only the blocks that failed, why, and the nearest real text."""
    parts = [
        f"{len(failed)} of your proposals cannot be applied. Send each of them again, whole, between <proposal> and "
        "</proposal>, in the same order, with the blocks mended. Change nothing else, and add no new proposal."
    ]
    for number, (text, refused) in enumerate(failed, 1):
        parts.append(f'{number}. "{_title(text)}" was refused ({refused.reason}): {refused.detail}')
        block = failing_block(text, refused)
        if block:
            parts.append(f"The block:\n{block}")
        if refused.nearest:
            parts.append(f"The nearest text in the file, exactly as it stands there:\n{refused.nearest[:MAX_NEAREST]}")
    return "\n\n".join(parts)


def failing_block(text: str, refused: Refused) -> str:
    """The block that a refusal names by its number, with its path; "" when it names none."""
    named = re.search(r"\bblocks? (\d+)", refused.detail)
    if named is None:
        return ""
    lines = text.replace("\r\n", "\n").split("\n")
    starts = [n for n, line in enumerate(lines) if _OPEN.match(line)]
    if not 1 <= int(named[1]) <= len(starts):
        return ""
    start = starts[int(named[1]) - 1]
    end = next((n for n in range(start, len(lines)) if _CLOSE.match(lines[n])), len(lines) - 1)
    path = next((line for line in reversed(lines[:start]) if line.strip() and not line.startswith("```")), "")
    return "\n".join([path.strip(), *lines[start : end + 1]])[: 2 * MAX_NEAREST]


def _title(text: str) -> str:
    found = re.search(r"^\s?(?:\*\*)?hypothesis(?:\*\*)?\s*:(?:\*\*)?[ \t]*(.*)$", text, re.I | re.M)
    return found[1].strip()[:120] if found else "without a hypothesis"
