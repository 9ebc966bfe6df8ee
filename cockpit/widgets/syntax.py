"""Colours of code in a diff: a small tokenizer that works on single lines, since a hunk shows no more."""

from __future__ import annotations

import builtins
import keyword
import re

from .lines import Span

_PYTHON = re.compile(
    r"(?P<comment>\#.*)"
    r"|(?P<string>[rRbBfFuU]{0,2}(?:'''(?:.*?'''|.*)|\"\"\"(?:.*?\"\"\"|.*)|'(?:\\.|[^'\\])*'?|\"(?:\\.|[^\"\\])*\"?))"
    r"|(?P<number>\b(?:0[xXoObB][\da-fA-F_]+|\d[\d_]*\.?[\d_]*(?:[eE][+-]?\d+)?j?)\b)"
    r"|(?P<decorator>(?<=^)\s*@[\w.]+)"
    r"|(?P<word>[^\W\d]\w*)"
)
_TOML = re.compile(
    r"(?P<comment>\#.*)|(?P<string>\"(?:\\.|[^\"\\])*\"?|'[^']*'?)|(?P<number>\b\d[\d_.eE+-]*\b)|(?P<word>\btrue\b|\bfalse\b)"
    r"|(?P<decorator>^\s*\[\[?[^\]]+\]\]?)"
)
_KEYWORDS = frozenset(keyword.kwlist) | {"match", "case", "true", "false"}
_BUILTINS = frozenset(name for name in dir(builtins) if not name.startswith("_")) | {"self", "cls"}
_COLOURS = {"comment": "comment", "string": "string", "number": "number", "decorator": "name"}


def colour(text: str, path: str, plain: str = "text") -> list[Span]:
    """`text`, one line of the file `path`, as spans; what is nothing special gets the colour `plain`."""
    pattern = _PYTHON if path.endswith((".py", ".pyi")) else _TOML if path.endswith((".toml", ".cfg", ".ini")) else None
    if pattern is None or len(text) > 2000:
        return [(text, plain)]
    spans: list[Span] = []
    at = 0
    named = False
    for match in pattern.finditer(text):
        kind = match.lastgroup or ""
        word = match.group()
        if kind == "word":
            name = "name" if named else "keyword" if word in _KEYWORDS else "name" if word in _BUILTINS else plain
            named = word in ("def", "class")
        else:
            name = _COLOURS[kind]
        if name == plain:
            continue
        if match.start() > at:
            spans.append((text[at : match.start()], plain))
        spans.append((word, name))
        at = match.end()
    if at < len(text):
        spans.append((text[at:], plain))
    return spans
