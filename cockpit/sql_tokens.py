"""SQL cut into tokens, for colours, completion and parameters: small, tolerant of unfinished text, imports nothing.

It never refuses: an unterminated string or comment runs to the end, and what is no token is a token of one character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<comment>--[^\n]*|/\*(?:.*?\*/|.*))"
    r"|(?P<string>[eE]?'(?:''|[^'])*'?|\$\$(?:.*?\$\$|.*))"
    r'|(?P<quoted>"(?:""|[^"])*"?)'
    r"|(?P<param>\$[A-Za-z_]\w*)"
    r"|(?P<number>(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<other>.)",
    re.DOTALL,
)

_KEYWORDS = """
    all and any as asc between by case cast cross cube desc describe distinct else end escape except exclude exists
    explain false filter first following from full glob group grouping groups having ilike in inner intersect interval
    into is join last lateral left like limit materialized natural not null nulls offset on or order outer over
    partition pivot positional preceding qualify range recursive replace right rollup row rows sample select semi sets
    show similar some summarize table tablesample then ties to true unbounded union unpivot using values when where
    window with within
"""
KEYWORDS = frozenset(_KEYWORDS.split())
"""Words with a meaning of their own in a SELECT; the engine's list is used for completion where it has come."""


@dataclass(frozen=True, slots=True)
class Token:
    """`text` of one `kind`: space, comment, string, quoted, param, number, word or other; `start` in characters."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def is_keyword(self) -> bool:
        return self.kind == "word" and self.text.lower() in KEYWORDS

    @property
    def name(self) -> str:
        """The identifier that a word or a quoted name stands for; empty for anything else."""
        if self.kind == "quoted":
            return self.text[1:].removesuffix('"').replace('""', '"')
        return self.text if self.kind == "word" else ""


@lru_cache(maxsize=8)  # a key press asks several times
def tokens(text: str) -> tuple[Token, ...]:
    """All of `text` as tokens in order, spaces included: joined they are `text` again."""
    return tuple(Token(found.lastgroup or "other", found.group(), found.start()) for found in _TOKEN.finditer(text))


def params(text: str) -> list[str]:
    """Names of the `$parameters` in `text`, each once, in order; not those in strings and comments."""
    return list(dict.fromkeys(each.text[1:] for each in tokens(text) if each.kind == "param"))


def bare(name: str) -> bool:
    """Whether an identifier needs no quotes."""
    return re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) is not None and name.lower() not in KEYWORDS


def quote(name: str) -> str:
    """An identifier as it is written: in quotes where it needs them."""
    return name if bare(name) else '"' + name.replace('"', '""') + '"'


_COLOURS = {"comment": "comment", "string": "string", "quoted": "text", "param": "hunk", "number": "number"}


def colours(text: str) -> list[list[tuple[int, int, str]]]:
    """For each line of `text` its coloured stretches: start and end in characters of that line, and the colour's name."""
    starts = [0]
    for place, char in enumerate(text):
        if char == "\n":
            starts.append(place + 1)
    out: list[list[tuple[int, int, str]]] = [[] for _ in starts]
    found = tokens(text)
    row = 0
    for token, after in pairwise([*found, Token("space", "", len(text))]):
        colour = _colour(token, after)
        if colour is None:
            continue
        while row + 1 < len(starts) and starts[row + 1] <= token.start:
            row += 1
        at, here = token.start, row
        for part in token.text.split("\n"):
            if part:
                out[here].append((at - starts[here], at - starts[here] + len(part), colour))
            at += len(part) + 1
            here += 1
    return out


def _colour(token: Token, after: Token) -> str | None:
    if token.kind == "word":
        if token.is_keyword:
            return "keyword"
        return "name" if after.text == "(" else None
    return _COLOURS.get(token.kind)
