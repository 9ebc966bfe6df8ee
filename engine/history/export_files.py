"""The history's tables as files that notebooks read: Parquet, CSV or JSON lines, from a copy of the history, never from the
engine's own file.

A file appears under its name when it is whole, and `manifest.json` last of all: a folder that has one is a whole export.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FORMATS: Mapping[str, str] = {
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "csv": "FORMAT csv, HEADER true",
    "jsonl": "FORMAT json, ARRAY false",
}
"""How DuckDB is told to write each; JSON lines have NaN and Infinity as such, as Python writes them."""
MANIFEST = "manifest.json"
MEMORY = "1GB"
"""What DuckDB may use of memory while it writes; tables are streamed."""
_BOOKKEEPING = frozenset({"meta", "offsets"})


class ExportError(ValueError):
    """The export cannot be made; the message says why, and what to do."""


def prepare(folder: Path, *, force: bool) -> None:
    """Make the folder; with `force` take its manifest away, since what it says will not hold. Raises ExportError when there is
    something in it and not `force`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not force and next(folder.iterdir(), None) is not None:
            raise ExportError(f"{folder} is not empty: name another folder, or write over its files with --force")
        (folder / MANIFEST).unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written to ({error.strerror}): name another folder") from None


def write_tables(copy: Path, folder: Path, form: str, wanted: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Write tables of the history's copy to `folder/NAME.form`: those of `wanted` (views too), or every table but the index's
    own bookkeeping. One `{table, file, rows, bytes, sha256}` each. Raises ExportError."""
    import duckdb

    if form not in FORMATS:
        raise ExportError(f"{form!r} is no format: choose {', '.join(FORMATS)}")
    try:
        with contextlib.closing(duckdb.connect(str(copy), read_only=True)) as connection:
            connection.execute(f"SET memory_limit = '{MEMORY}'")
            found = _names(connection)
            if unknown := [name for name in wanted if name not in found]:
                raise ExportError(f"there is no table {', '.join(unknown)}: there are {', '.join(found)}")
            names = list(dict.fromkeys(wanted)) or [name for name, kind in found.items() if kind == "BASE TABLE"]
            names = [name for name in names if wanted or name not in _BOOKKEEPING]
            return [_write(connection, name, folder, form) for name in names]
    except duckdb.Error as error:
        raise ExportError(f"the history could not be written out: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise ExportError(
            f"{folder} cannot be written to ({error.strerror}): free some space, or name another"
        ) from None


def head_of(copy: Path) -> int:
    """The number of the last ledger event that the copy holds, 0 before the first."""
    import duckdb

    with contextlib.closing(duckdb.connect(str(copy), read_only=True)) as connection:
        (head,) = connection.execute("SELECT coalesce(max(n), 0) FROM events").fetchone() or (0,)
    return int(head)


def _names(connection: Any) -> dict[str, str]:
    """Tables, then views, by name with their kind."""
    rows = connection.execute(
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'main'"
        " ORDER BY table_type, table_name"
    ).fetchall()
    return {str(name): str(kind) for name, kind in rows}


def _write(connection: Any, name: str, folder: Path, form: str) -> dict[str, Any]:
    target = folder / f"{name}.{form}"
    partial = folder / f".{name}.{form}.partial"
    quoted = str(partial).replace("'", "''")
    table = name.replace('"', '""')
    partial.unlink(missing_ok=True)  # what a killed export left, or a link to somewhere else
    try:
        (rows,) = connection.execute(f"COPY (SELECT * FROM \"{table}\") TO '{quoted}' ({FORMATS[form]})").fetchone()
        digest = _settle(partial)
        size = partial.stat().st_size
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return {"table": name, "file": target.name, "rows": int(rows), "bytes": size, "sha256": digest}


def _settle(path: Path) -> str:
    """Have the file on the disk; its SHA-256."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Say what the folder holds, when all of it is there."""
    partial = folder / f".{MANIFEST}.partial"
    with partial.open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / MANIFEST)
