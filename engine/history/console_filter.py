"""What a person types to see fewer rows of a result: `effect > 0.01 verdict = solid adam`. Pure: text in, terms out.

    word                     rows in which any column holds `word`, small and capital letters alike
    column op value          op is one of = != < <= > >= ~ (the last: a regular expression)

Terms stand beside each other, and all have to hold. What holds spaces or signs is quoted: `"a b"`, `'x=1'`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "~")
HOW = "write words, or `column op value` with op one of = != < <= > >= ~, and quote what holds spaces"
_LENGTH = 4_000
_TOKEN = re.compile(
    r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<op>!=|<=|>=|[=<>~])|(?P<word>[^\s"'=<>~!]+|!))"""
)


class FilterError(ValueError):
    """A filter cannot be read; the message says what to write."""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. `column` is a place in the result, or None for text in any of them; then `op` is `~`."""

    column: int | None
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    is_op: bool
    quoted: bool


def parse(text: str, columns: Sequence[str]) -> tuple[Term, ...]:
    """The terms of a filter over these columns; none for blank text. Raises FilterError."""
    tokens = _tokens(text)
    terms: list[Term] = []
    at = 0
    while at < len(tokens):
        here = tokens[at]
        if here.is_op:
            raise FilterError(f"`{here.text}` has no column before it: {HOW}")
        if at + 1 < len(tokens) and tokens[at + 1].is_op:
            if at + 2 == len(tokens) or tokens[at + 2].is_op:
                raise FilterError(f"`{here.text} {tokens[at + 1].text}` has no value after it: {HOW}")
            terms.append(Term(_find(here.text, columns), tokens[at + 1].text, tokens[at + 2].text))
            at += 3
        else:
            terms.append(Term(None, "~", here.text))
            at += 1
    return tuple(terms)


def _tokens(text: str) -> list[_Token]:
    if len(text) > _LENGTH:
        raise FilterError(f"the filter has {len(text):,} characters and {_LENGTH:,} are allowed: shorten it")
    out: list[_Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            raise FilterError(f"a quotation mark is never closed in {text[at:].strip()[:40]!r}: {HOW}")
        kind = found.lastgroup or ""
        out.append(_Token(found[kind], kind == "op", kind in ("double", "single")))
        at = found.end()
    return out


def _find(name: str, columns: Sequence[str]) -> int:
    """The place of a column by its name, exact or but for capitals."""
    for wanted, names in ((name, list(columns)), (name.lower(), [each.lower() for each in columns])):
        if wanted in names:
            return names.index(wanted)
    shown = ", ".join(columns[:20]) + (" …" if len(columns) > 20 else "")
    raise FilterError(f"there is no column {name!r}; there are {shown}")
