"""What a run has seen, as hashes: whole training rows, and a fixed choice of the passages in them.

The lab's probes write it (`seen.jsonl`, one line a probed step) with the same hash, so that training text can be compared
with held text by somebody who never hands the held text out. Which passages are chosen hangs on their hash alone: a passage
that stands in two texts is chosen in both or in neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PASSAGE = 32  # tokens; of 24, stock phrases of stories and code made the natural share of held rows twice as large
FACTOR = 0x9E3779B97F4A7C15
KEPT_OF = 8  # one passage in so many is kept
MAX_ROWS = 100_000
_BITS = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One training row: the step it was drawn for, its hash, and the hashes of its chosen passages."""

    step: int
    whole: int
    passages: frozenset[int]


def passages(tokens: Sequence[int], length: int = PASSAGE) -> frozenset[int]:
    """Hashes of the chosen passages of `length` tokens. Of all passages, about one in `KEPT_OF` is chosen."""
    out = FACTOR**length & _BITS
    value, found = 0, set()
    for at, token in enumerate(tokens):
        value = value * FACTOR + token + 1 & _BITS
        if at >= length:
            value = value - (tokens[at - length] + 1) * out & _BITS
        if at >= length - 1 and _chosen(value):
            found.add(value)
    return frozenset(found)


def _chosen(value: int) -> bool:
    return value >> 40 & KEPT_OF - 1 == 0  # the low bits hang on the last tokens alone


def read_rows(text: bytes) -> tuple[Row, ...]:
    """The rows of a `seen.jsonl`, which untrusted code wrote: lines that are none are passed over."""
    rows: list[Row] = []
    for line in text.splitlines():
        rows.extend(_line(line))
        if len(rows) >= MAX_ROWS:
            break
    return tuple(rows[:MAX_ROWS])


def _line(line: bytes) -> Iterator[Row]:
    try:
        read = json.loads(line)
        step, wholes, found = read["step"], read["rows"], read["passages"]
        made = [
            Row(int(step), int(whole) & _BITS, frozenset(int(each) & _BITS for each in inside))
            for whole, inside in zip(wholes, found, strict=True)
        ]
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return
    yield from made
