"""The line in which a question's parameters are filled in: `limit=50 metric='val bpb'`; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .sql_tokens import params

Value = int | float | str | bool | None
_PAIR = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>'(?:''|[^'])*'|[^\s']\S*|)(?=\s|$)")


class ParamError(ValueError):
    """The line of parameters cannot be read; the message says what to write."""


def written(values: Mapping[str, Value]) -> str:
    """Values as a person edits them; one without a value is left open."""
    return " ".join(f"{name}={_plain(value)}" for name, value in values.items())


def _plain(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and (not value or re.search(r"[\s']", value) or guessed(value) != value):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def read(text: str, declared: Mapping[str, str]) -> dict[str, Value]:
    """Values by name; `declared` gives each parameter's type (integer, number, text, boolean, or empty: guessed).

    An open value is left out, so that the default holds. Raises ParamError.
    """
    out: dict[str, Value] = {}
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _PAIR.match(text, at)
        if found is None:
            raise ParamError(f"{text[at:].strip()[:40]!r} is no parameter: write name=value, text with spaces in '…'")
        name, value = found["name"], found["value"]
        if name not in declared:
            raise ParamError(f"there is no parameter {name}: it takes {', '.join(declared) or 'none'}")
        at = found.end()
        if value:
            out[name] = _typed(name, value, declared[name])
    return out


def _typed(name: str, value: str, kind: str) -> Value:
    quoted = value.startswith("'")
    plain = value[1:-1].replace("''", "'") if quoted else value
    if kind == "text" or (quoted and not kind):
        return plain
    if not kind:
        return guessed(plain)
    try:
        if kind == "integer":
            return int(plain)
        if kind == "number":
            return float(plain)
        if kind == "boolean":
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[plain.lower()]
    except (ValueError, KeyError):
        wanted = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}[kind]
        raise ParamError(f"{name} is {plain[:40]!r}: give {wanted}") from None
    return plain


def guessed(text: str) -> Value:
    """A number, true or false where `text` reads as one, else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for make in (int, float):
        try:
            value = make(text)
        except ValueError:
            continue
        return value if value == value and abs(value) != float("inf") else text
    return text


def declared(question: Mapping[str, Any] | None, named: Iterable[str]) -> dict[str, str]:
    """Type of each parameter: as the question declares it, empty for one that only the SQL names."""
    known = {str(each["name"]): str(each["type"]) for each in (question or {}).get("params", ())}
    return {**known, **{name: known.get(name, "") for name in named}}


def body(sql: str) -> str:
    """A question's SQL without its header, which the list and the line of parameters show better."""
    lines = sql.strip("\n").split("\n")
    while lines and re.match(r"--\s*(title|description|param|picture):", lines[0]):
        del lines[0]
    return "\n".join(lines).strip()


def headed(text: str, question: Mapping[str, Any] | None, values: Mapping[str, Value]) -> str:
    """`text` with a line `-- param:` for each of its parameters, so that a kept query asks for them as this one did.

    What the question declares stays as it is; another gets the type of its present value, and that as its default.
    """
    known = {str(each["name"]): each for each in (question or {}).get("params", ())}
    lines: list[str] = []
    for name in params(text):
        if re.search(rf"^--\s*param:\s*{name}\b", text, re.MULTILINE):
            continue
        each = known.get(name)
        value = each.get("default") if each else values.get(name)
        kind = str(each["type"]) if each else _kind(value)
        plain = _plain(value) if value is not None and not (kind == "text" and "'" in str(value)) else ""
        default = f" = {plain}" if plain else ""
        meaning = " ".join(str(each.get("meaning") or "").split()) if each else ""
        lines.append(f"-- param: {name} {kind}{default} {meaning}".rstrip())
    return "\n".join([*lines, text])


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "integer" if isinstance(value, int) else "number" if isinstance(value, float) else "text"
