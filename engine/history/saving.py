"""Keeps a SELECT that a person wrote as a named question: a file with a header, in the form that `queries` reads."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from engine.history.queries import QueryError, parse

_HEADER = re.compile(r"--\s*(title|description|param|picture):")
_PARAM = re.compile(r"--\s*param:\s*([a-z][a-z0-9_]*)")


def save(place: Path, name: str, title: str, description: str, text: str, *, overwrite: bool = False) -> Path:
    """Write `place`/NAME.sql, which appears whole or not at all; its path. Parameters and the picture that the text's own
    header declares are kept, other `$names` are declared as text. Raises QueryError, and OSError."""
    path = place / f"{name}.sql"
    body = document(name, title, description, text)
    place.mkdir(exist_ok=True)
    partial = place / f".{name}.{secrets.token_hex(4)}"
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(partial, path)
        else:
            os.link(partial, path)
    except FileExistsError:
        raise QueryError(
            f"there is a query {name!r} in {place} already: choose another name, or overwrite it"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def document(name: str, title: str, description: str, text: str) -> str:
    """The text of the file. Raises QueryError when it would not be a question that can be asked."""
    path = Path(f"{name}.sql")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise QueryError(f"{name!r} is no name for a query: small letters, digits, - and _, at most 64 of them")
    said = {"title": " ".join(title.split()), "description": " ".join(description.split())}
    said["title"] = said["title"] or name
    said["description"] = said["description"] or said["title"]
    lines = text.strip().splitlines()
    kept = []
    while lines and lines[0].startswith("--"):
        line = lines.pop(0)
        found = _HEADER.match(line)
        if found is None or found[1] in ("param", "picture"):
            kept.append(line)
    declared = {found[1] for line in kept if (found := _PARAM.match(line))}
    new = [f"-- param: {each} text" for each in _used("\n".join(lines)) if each not in declared]
    head = [f"-- {key}: {value}" for key, value in said.items()]
    body = "\n".join([*head, *kept, *new, *lines]) + "\n"
    parse(body, path)
    return body


def _used(sql: str) -> list[str]:
    """Names of the parameters of a statement that parses; none for one that does not, of which `parse` will complain."""
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error:
        return []
    return sorted({str(name) for each in statements for name in each.named_parameters})
