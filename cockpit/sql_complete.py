"""What could stand at the cursor of unfinished SQL: tables, columns (after an alias too), functions and keywords; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .sql_tokens import KEYWORDS, Token, quote, tokens

MOST = 200
"""Suggestions at most; typing one more letter is quicker than reading further."""

_AFTER = "where group order limit having qualify window union except intersect select on using sample"
_AFTER_TABLES = frozenset(_AFTER.split())
_BEFORE_TABLE = frozenset({"from", "join", "describe", "summarize", "show", "pivot", "unpivot"})
_JOINS = "left right full inner cross outer natural semi positional join as tablesample"
_NO_ALIAS = frozenset(_JOINS.split())


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`text` goes in; `label` is shown, with what it is (`kind`: table, column, function, keyword) and a `note`."""

    text: str
    label: str
    kind: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """Suggestions that take the place of the text from `start` to the cursor (offsets in characters)."""

    start: int
    items: tuple[Suggestion, ...] = ()


@dataclass(frozen=True)
class Schema:
    """What can be named: columns (name, type) of each table, functions and keywords."""

    tables: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    functions: Sequence[str] = ()
    keywords: Sequence[str] = tuple(sorted(KEYWORDS))

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Schema:
        """From the engine's `sql_schema`."""
        tables = {
            str(table["name"]): [(str(column["name"]), str(column["type"])) for column in table["columns"]]
            for table in answer["tables"]
        }
        kinds = {str(table["name"]): str(table.get("kind", "table")) for table in answer["tables"]}
        words = [str(each).lower() for each in answer.get("keywords") or ()] or sorted(KEYWORDS)
        return cls(tables, kinds, [str(each) for each in answer.get("functions") or ()], words)

    def columns(self, table: str) -> Sequence[tuple[str, str]]:
        """Columns of a table, its name in any case; none when there is no such table."""
        low = table.lower()
        return next((found for name, found in self.tables.items() if name.lower() == low), ())


def complete(text: str, cursor: int, schema: Schema) -> Completion:
    """Suggestions for the place `cursor` (characters from the start) in `text`; none within strings and comments."""
    before = tokens(text[:cursor])
    last = before[-1] if before else None
    if last is not None and _open(last):
        return Completion(cursor)
    typed = last if last is not None and last.kind in ("word", "quoted") else None
    start = typed.start if typed else cursor
    prefix = typed.name if typed else ""
    solid = [each for each in (before[:-1] if typed else before) if each.kind not in ("space", "comment")]
    whole = tokens(text)
    sources = _sources(_statement(whole, cursor))
    if solid and solid[-1].text == "." and (typed is None or typed.start == solid[-1].end):
        owner = solid[-2].name if len(solid) > 1 else ""
        return Completion(start, _ranked(_columns_of(owner, sources, schema), prefix))
    if _wants_table(solid):
        made = [*_tables(schema), *(Suggestion(quote(name), name, "table", "with") for name in _ctes(whole))]
        return Completion(start, _ranked(made, prefix))
    if typed is None or not prefix:
        return Completion(start, _ranked(_all_columns(sources, schema), ""))
    lower = not prefix.isupper() or len(prefix) < 2
    pool = [
        *_all_columns(sources, schema),
        *(Suggestion(quote(name), name, "table", "alias") for name in sources if name not in schema.tables),
        *(
            Suggestion(word if lower else word.upper(), word if lower else word.upper(), "keyword")
            for word in schema.keywords
        ),
        *(Suggestion(f"{name}(", name, "function") for name in schema.functions),
        *_tables(schema),
    ]
    return Completion(start, _ranked(pool, prefix))


def _open(last: Token) -> bool:
    """Whether the cursor stands within this string, comment, number or parameter."""
    if last.kind == "string":
        return len(last.text) < 2 or not last.text.endswith("'") or last.text.count("'") % 2 == 1
    if last.kind == "comment":
        return last.text.startswith("--") or not last.text.endswith("*/")
    return last.kind in ("number", "param")


def _statement(whole: Sequence[Token], cursor: int) -> list[Token]:
    """The solid tokens of the statement that the cursor stands in."""
    begin, end = 0, len(whole)
    for place, each in enumerate(whole):
        if each.text == ";" and each.kind == "other":
            if each.start < cursor:
                begin = place + 1
            else:
                end = place
                break
    return [each for each in whole[begin:end] if each.kind not in ("space", "comment")]


def _sources(solid: Sequence[Token]) -> dict[str, str]:
    """What can stand before a dot: alias or table to the table's name, from every FROM and JOIN of the statement."""
    out: dict[str, str] = {}
    place = 0
    listing = False
    depth = 0
    while place < len(solid):
        each = solid[place]
        low = each.text.lower() if each.kind == "word" else each.text
        if low == "(":
            depth += 1
        elif low == ")":
            depth -= 1
        if low in ("from", "join"):
            listing = True
        elif low in _AFTER_TABLES:
            listing = False
        takes = low in ("from", "join") or (low == "," and listing)
        if takes and place + 1 < len(solid) and solid[place + 1].name and not solid[place + 1].is_keyword:
            place, table = _table_name(solid, place + 1)
            place, alias = _alias(solid, place, table)
            out[alias] = table
            continue
        place += 1
    return out


def _table_name(solid: Sequence[Token], place: int) -> tuple[int, str]:
    """The table written at `place`, schema and catalog before it skipped, and where it ends."""
    table = solid[place].name
    place += 1
    while place + 1 < len(solid) and solid[place].text == "." and solid[place + 1].name:
        table = solid[place + 1].name
        place += 2
    return place, table


def _alias(solid: Sequence[Token], place: int, table: str) -> tuple[int, str]:
    if place < len(solid) and solid[place].text.lower() == "as":
        place += 1
    if place < len(solid) and solid[place].name:
        word = solid[place]
        free = word.kind == "quoted" or not (word.is_keyword or word.text.lower() in _NO_ALIAS)
        if free:
            return place + 1, word.name
    return place, table


def _ctes(whole: Sequence[Token]) -> list[str]:
    """Names that WITH gives: `name AS (` anywhere."""
    solid = [each for each in whole if each.kind not in ("space", "comment")]
    return [
        first.name
        for first, second, third in zip(solid, solid[1:], solid[2:], strict=False)
        if first.name and not first.is_keyword and second.text.lower() == "as" and third.text == "("
    ]


def _wants_table(solid: Sequence[Token]) -> bool:
    """Whether a table is named next: after FROM or JOIN, or a comma in the list that follows FROM."""
    if not solid:
        return False
    if solid[-1].text.lower() in _BEFORE_TABLE and solid[-1].kind == "word":
        return True
    if solid[-1].text != ",":
        return False
    depth = 0
    for each in reversed(solid[:-1]):
        depth += (each.text == ")") - (each.text == "(")
        if depth < 0:
            return False
        if depth == 0 and each.kind == "word":
            if each.text.lower() == "from":
                return True
            if each.text.lower() in _AFTER_TABLES | {"by", "values"}:
                return False
    return False


def _tables(schema: Schema) -> list[Suggestion]:
    return [Suggestion(quote(name), name, "table", schema.kinds.get(name, "table")) for name in schema.tables]


def _columns_of(owner: str, sources: Mapping[str, str], schema: Schema) -> list[Suggestion]:
    table = next((table for alias, table in sources.items() if alias.lower() == owner.lower()), owner)
    if not sources and not schema.columns(table):
        return _all_columns({}, schema)  # FROM is often written last
    return [Suggestion(quote(name), name, "column", kind) for name, kind in schema.columns(table)]


def _all_columns(sources: Mapping[str, str], schema: Schema) -> list[Suggestion]:
    """Columns of the tables that are named, each name once; of all tables while none is named."""
    found: dict[str, Suggestion] = {}
    for table in dict.fromkeys(sources.values()) or schema.tables:
        for name, kind in schema.columns(table):
            found.setdefault(name, Suggestion(quote(name), name, "column", kind))
    return list(found.values())


def _ranked(pool: Iterable[Suggestion], prefix: str) -> tuple[Suggestion, ...]:
    """Those that begin with `prefix` first, then those that hold it; within that in the order given, each label once."""
    low = prefix.lower()
    begin: dict[str, Suggestion] = {}
    within: dict[str, Suggestion] = {}
    for each in pool:
        label = each.label.lower()
        if label.startswith(low):
            begin.setdefault(each.label, each)
        elif len(low) > 1 and low in label:
            within.setdefault(each.label, each)
    found = [*begin.values(), *(each for label, each in within.items() if label not in begin)]
    return tuple(found[:MOST])
