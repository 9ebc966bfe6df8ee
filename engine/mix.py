"""What a diff does to the data mix: the share of each source before and after, for a person to see. Pure; nothing is run.

Only settings files are read, TOML and JSON. A mix is a table of weights by source, under one of the usual names.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict

from engine.patch import PatchError, patched

NAMES = ("weights", "mix", "mixture", "proportions", "sampling", "sources")
SUFFIXES = (".toml", ".json")
DEEPEST = 4  # tables within tables
MOST = 64  # sources that are shown


class MixRow(TypedDict):
    """One table of weights that a diff changes; shares add up to 1. A side without the table is empty."""

    path: str
    table: str
    before: dict[str, float]
    after: dict[str, float]


def composition(diff: str, read: Callable[[str], bytes | None]) -> list[MixRow]:
    """The mixes that a unified diff changes; `read` gives a file of the tree that it applies to. Empty for a diff that does not
    apply, or whose files are none that can be read."""
    if not any(_named(diff)):
        return []
    try:
        before, after = patched(diff, read)
    except PatchError:
        return []
    found = []
    for path in sorted(set(before) | set(after)):
        if not path.endswith(SUFFIXES):
            continue
        old, new = (dict(_mixes(path, side.get(path))) for side in (before, after))
        for table in sorted(old.keys() | new.keys()):
            row = MixRow(path=path, table=table, before=old.get(table, {}), after=new.get(table, {}))
            if row["before"] != row["after"]:
                found.append(row)
    return found


def _named(diff: str) -> Iterator[str]:
    """The settings files that a diff writes to."""
    for line in diff.splitlines():
        name = line.removeprefix("+++ b/").split("\t")[0]
        if line.startswith("+++ b/") and name.endswith(SUFFIXES):
            yield name


def _mixes(path: str, body: bytes | None) -> Iterator[tuple[str, dict[str, float]]]:
    """(name of the table, share by source) of every mix in a file; none in one that cannot be read."""
    if body is None:
        return
    try:
        text = body.decode()
        whole = tomllib.loads(text) if path.endswith(".toml") else json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(whole, dict):
        yield from _tables(whole, "", 0)


def _tables(table: Mapping[str, Any], name: str, depth: int) -> Iterator[tuple[str, dict[str, float]]]:
    last = name.rpartition(".")[2]
    if last in NAMES and (shares := _shares(table)):
        yield name, shares
    for key, value in table.items() if depth < DEEPEST else ():
        if isinstance(value, dict):
            yield from _tables(value, f"{name}.{key}".lstrip("."), depth + 1)


def _shares(table: Mapping[str, Any]) -> dict[str, float]:
    """Weights as shares of their sum; empty where these are no weights of several sources."""
    values = list(table.values())
    weights = all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
    if not weights or not 2 <= len(values) <= MOST or not all(0 <= each < 1e300 for each in values):
        return {}
    total = math.fsum(values)
    return {str(source): each / total for source, each in table.items()} if total > 0 else {}
