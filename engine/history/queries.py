"""Questions that can be asked by name: one `.sql` file each, with a header that says what it answers and what it takes.

    -- title: Leaderboard
    -- description: Experiments, best first
    -- param: limit integer = 20 How many rows
    -- picture: bars experiment effect
    SELECT … LIMIT $limit

A picture says how the answer is best drawn: `scatter X Y`, `lines X Y [SERIES]`, `steps X Y [SERIES]` or `bars LABEL VALUE`,
by columns of the answer. A parameter is `name type`, then `= default` where it has one, then what it means; types are
integer, number, text and boolean, and a text default that holds spaces is quoted. Values are bound by DuckDB, never pasted
into the SQL.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

Value = int | float | str | bool | None

_LINE = re.compile(r"--\s*(?P<key>[a-z]+):\s*(?P<value>.*?)\s*$")
_PARAM = re.compile(
    r"(?P<name>[a-z][a-z0-9_]*)\s+(?P<type>integer|number|text|boolean)"
    r"(?:\s*=\s*(?P<default>'[^']*'|\S+))?(?:\s+(?P<meaning>.*))?$"
)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*$")
_LARGEST = 64 * 1024
_PICTURES: Mapping[str, tuple[str, ...]] = {
    "scatter": ("x", "y"),
    "lines": ("x", "y", "series"),
    "steps": ("x", "y", "series"),
    "bars": ("label", "value"),
}


class QueryError(ValueError):
    """A query file, or a value for a query, is wrong; the message says where, what, and what to do."""


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a query; one without a default has to be given."""

    name: str
    type: str
    default: Value
    required: bool
    meaning: str

    def read(self, value: object) -> Value:
        """`value`, or its text, as this parameter's type. Raises QueryError when it is none."""
        try:
            return _READ[self.type](value)
        except (TypeError, ValueError, OverflowError):
            raise QueryError(f"{self.name} is {value!r:.80}: give {_WANTED[self.type]}") from None


@dataclass(frozen=True, slots=True)
class Query:
    """A question with its SQL. `problem` says why a file cannot be used; such a query is listed but cannot be asked.

    `picture` is `{"kind": "scatter" | "lines" | "steps" | "bars"}` with a column for each of its axes; `source` is "shipped"
    or "lab".
    """

    name: str
    title: str
    description: str
    params: tuple[Param, ...]
    sql: str
    problem: str | None = None
    picture: Mapping[str, str | None] | None = None
    source: str = "shipped"

    def bind(self, values: Mapping[str, object]) -> dict[str, Value]:
        """Values for all parameters, defaults filled in. Raises QueryError for a wrong, missing or unknown one."""
        if self.problem is not None:
            raise QueryError(self.problem)
        known = {param.name: param for param in self.params}
        if unknown := sorted(values.keys() - known.keys()):
            has = ", ".join(known) or "none"
            raise QueryError(f"{self.name} has no parameter {', '.join(unknown)}: it takes {has}")
        bound: dict[str, Value] = {}
        for name, param in known.items():
            if name in values:
                bound[name] = param.read(values[name])
            elif param.required:
                raise QueryError(
                    f"{self.name} needs {name} ({param.meaning or param.type}): give {_WANTED[param.type]}"
                )
            else:
                bound[name] = param.default
        return bound

    def to_json(self) -> dict[str, Any]:
        """What a client shows in a list of questions."""
        params = [
            {"name": each.name, "type": each.type, "default": each.default, "required": each.required}
            | {"meaning": each.meaning}
            for each in self.params
        ]
        about = {"name": self.name, "title": self.title, "description": self.description, "params": params}
        drawn = None if self.picture is None else dict(self.picture)
        return about | {"problem": self.problem, "picture": drawn, "source": self.source, "sql": self.sql}


def load_all(directories: Iterable[Path]) -> dict[str, Query]:
    """Every `*.sql` of the directories by name; a later directory overrides an earlier one, a missing one is empty.

    The first directory holds what is shipped, the others a lab's own. A file that cannot be used becomes a query with a
    `problem`, so that it is seen and the others still work.
    """
    queries: dict[str, Query] = {}
    for place, directory in enumerate(directories):
        for path in sorted(directory.glob("*.sql")):
            try:
                found = _known(path, _stamp(path))
            except QueryError as error:
                found = Query(path.stem, path.stem, "this file cannot be used", (), "", str(error))
            queries[path.stem] = replace(found, source="lab" if place else "shipped")
    return dict(sorted(queries.items()))


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when the file does: parsing all that are shipped costs far more than a look at each."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=1024)
def _known(path: Path, stamp: tuple[int, ...]) -> Query:
    """`load`, once for each state of a file; what went wrong is tried again."""
    return load(path)


def load(path: Path) -> Query:
    """The query in the file `path`. Raises QueryError with file and line."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not hold us up
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise QueryError(f"{path}: cannot be read: it is not a file, and a question is one .sql file")
        with os.fdopen(handle, "rb") as file:
            body = file.read(_LARGEST + 1)
    except OSError as error:
        raise QueryError(f"{path}: cannot be read ({error.strerror})") from None
    if len(body) > _LARGEST:
        raise QueryError(f"{path}: is larger than {_LARGEST} bytes: a question is shorter")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        raise QueryError(f"{path}:{line}: is not UTF-8: save it as UTF-8") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Query:
    """The query that `text` holds; `path` gives its name and is named in errors. Raises QueryError with file and line."""
    if not _NAME.match(path.stem):
        raise QueryError(f"{path}: the name may hold small letters, digits, - and _ only: rename it")
    said: dict[str, str] = {}
    params: dict[str, Param] = {}
    lines = text.splitlines()
    end = 0
    for end, line in enumerate(lines):
        if not line.startswith("--"):
            break  # the header has ended
        found = _LINE.match(line)
        if found is None:
            continue  # a plain comment
        key, value, where = found["key"], found["value"], f"{path}:{end + 1}"
        if key == "param":
            param = _param(value, where)
            if param.name in params:
                raise QueryError(f"{where}: parameter {param.name} comes twice: rename one")
            params[param.name] = param
        elif key not in ("title", "description", "picture"):
            raise QueryError(f"{where}: unknown key {key!r}: a header has title, description, param and picture")
        elif key in said or not value:
            raise QueryError(f"{where}: {key} {'comes twice' if key in said else 'is empty'}: give one")
        else:
            said[key] = value
    for key in ("title", "description"):
        if key not in said:
            raise QueryError(f"{path}:1: has no {key}: add a line `-- {key}: …` at the top")
    _check(text, path, end + 1, params)
    picture = _picture(said["picture"], path) if "picture" in said else None
    return Query(path.stem, said["title"], said["description"], tuple(params.values()), text.strip(), picture=picture)


def _picture(text: str, path: Path) -> dict[str, str | None]:
    kind, *columns = text.split()
    axes = _PICTURES.get(kind)
    if axes is None or not len(axes) - ("series" in axes) <= len(columns) <= len(axes):
        raise QueryError(
            f"{path}:1: {text!r} is no picture: write `scatter X Y`, `lines` or `steps X Y [SERIES]`, or `bars LABEL VALUE`"
        )
    return {"kind": kind} | dict.fromkeys(axes) | dict(zip(axes, columns, strict=False))


def _param(text: str, where: str) -> Param:
    found = _PARAM.match(text)
    if found is None:
        raise QueryError(
            f"{where}: {text!r} is no parameter: write `name type = default meaning`, type one of {_TYPES}"
        )
    bare = Param(found["name"], found["type"], None, found["default"] is None, found["meaning"] or "")
    if bare.required:
        return bare
    try:
        default = bare.read(found["default"].strip("'"))
    except QueryError as error:
        raise QueryError(f"{where}: the default of {error}") from None
    return Param(bare.name, bare.type, default, False, bare.meaning)


def _check(text: str, path: Path, line: int, params: Mapping[str, Param]) -> None:
    """One statement that parses, and uses the very parameters that the header declares."""
    import duckdb

    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error as error:
        at = re.search(r"LINE (\d+):", str(error))
        raise QueryError(f"{path}:{at[1] if at else line}: {str(error).splitlines()[0]}") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryError(f"{path}:{line}: holds {len(statements)} statements or no SELECT: write exactly one SELECT")
    used = set(statements[0].named_parameters)
    if undeclared := sorted(used - params.keys()):
        name = undeclared[0]
        place = next((n for n, each in enumerate(text.splitlines(), 1) if f"${name}" in each), line)
        raise QueryError(f"{path}:{place}: ${name} is not declared: add a line `-- param: {name} text …`")
    if unused := sorted(params.keys() - used):
        raise QueryError(f"{path}:1: the parameter {unused[0]} is never used: use ${unused[0]} or remove its line")


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise ValueError
    return value == "true"


_READ: Mapping[str, Callable[[object], Value]] = {
    "integer": _integer,
    "number": _number,
    "text": _text,
    "boolean": _boolean,
}
_WANTED = {"integer": "a whole number", "number": "a number", "text": "a text", "boolean": "true or false"}
_TYPES = ", ".join(_READ)
