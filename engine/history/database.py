"""Opens the history's DuckDB file, tells damage from bad luck, and sets a damaged file aside."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from engine.history.migrations import migrate

SCHEMA = 12
"""Version of schema.sql. A file with an older one is brought up to it (`engine.history.migrations`); one of a newer schema is
set aside and made anew, since everything in it can be rebuilt."""

SCRIPTS = ("schema.sql", "imported.sql")
"""What makes the tables and views, in this order, at every opening; those that are not there are left out."""

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "storage_compatibility_version": "v1.5.0",  # so that tools of the last year can open a copy
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "threads": 1,  # the cores belong to the shards
    "memory_limit": "1GiB",
}
_DAMAGE = ("corrupt", "checksum", "not a valid duckdb", "could not read enough bytes", "could not read all bytes")
_SIDE_FILES = ("", ".wal", ".wal.checkpoint", ".wal.recovery")


class StoreError(Exception):
    """The store cannot be used; the message says why and what to do."""


class StoreDamaged(StoreError):
    """DuckDB met damaged bytes after opening: close, `set_aside`, open again and rebuild."""


class StoreClosed(StoreError):
    """DuckDB gave up for another reason, such as a full disk at a checkpoint: close and open again, nothing is lost."""


def open_database(path: Path) -> tuple[duckdb.DuckDBPyConnection, str | None]:
    """A connection to the history at `path`, made if missing, and why an empty one took its place, or None.

    Raises StoreError when another process has it open, or its directory cannot be written.
    """
    try:
        con = _connect(path)
    except duckdb.Error as error:
        recovered = _recover(path, error)
        return _made(path), recovered
    if con is not None:
        return con, None
    aside = set_aside(path)
    recovered = f"the history was written by another version and moved to {aside.name}; it is made anew"
    return _made(path), recovered


def make_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Make the tables and views that are missing, and the row of `meta` that says how far the ledger is indexed."""
    for script in map(Path(__file__).with_name, SCRIPTS):
        if script.exists():
            con.execute(script.read_text(encoding="utf-8"))
    con.execute(
        "INSERT INTO meta SELECT * FROM (VALUES ('schema', ?), ('indexed', 0)) v(key, number) "
        "WHERE NOT EXISTS (FROM meta)",
        [SCHEMA],
    )


def set_aside(path: Path) -> Path:
    """Rename a history that nobody has open, with its write-ahead log, to `<name>.damaged-<time>`; returns that path."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    aside, count = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while any(Path(f"{aside}{side}").exists() for side in _SIDE_FILES):
        count += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{count}")
    for side in _SIDE_FILES:
        old = Path(f"{path}{side}")
        if old.exists():
            old.rename(f"{aside}{side}")
    return aside


@contextmanager
def told() -> Iterator[None]:
    """Turn DuckDB's errors about the file into StoreError; errors in our own SQL pass as they are."""
    try:
        yield
    except duckdb.Error as error:
        text = _first_line(error)
        if _is_damage(error):
            raise StoreDamaged(f"the history file is damaged ({text}): it has to be rebuilt") from error
        if isinstance(error, duckdb.FatalException):
            raise StoreClosed(f"the history file cannot be written ({text}): is the disk full?") from error
        if isinstance(error, duckdb.IOException):
            raise StoreError(f"the history file cannot be used ({text}): is the disk full or read-only?") from error
        raise


def _connect(path: Path) -> duckdb.DuckDBPyConnection | None:
    """The open history, brought up to the present schema; None, and closed, where it is of one that cannot be."""
    con = duckdb.connect(str(path), config=_CONFIG)
    try:
        found = _schema_of(con)
        if found is not None and not migrate(con, found, SCHEMA):
            con.close()
            return None
        con.execute("BEGIN")
        make_tables(con)
        con.execute("COMMIT")
        for table in ("meta", "offsets", "summaries"):  # what is read first, so that damage in it shows now
            con.execute(f"SELECT hash({table}) FROM {table}").fetchall()
        con.execute("SET lock_configuration = true")
    except duckdb.Error:
        con.close()
        raise
    return con


def _made(path: Path) -> duckdb.DuckDBPyConnection:
    """A new history, where there is none."""
    con = _connect(path)
    assert con is not None, "a new history is of the present schema"
    return con


def _schema_of(con: duckdb.DuckDBPyConnection) -> int | None:
    """The schema that a history was written with; None for an empty one. Raises duckdb.Error where it says none."""
    if con.execute("SELECT 1 FROM duckdb_tables() WHERE NOT internal LIMIT 1").fetchone() is None:
        return None
    found = con.execute("SELECT max(number) FROM meta WHERE key = 'schema'").fetchone()
    return 0 if found is None or found[0] is None else int(found[0])


def _recover(path: Path, error: duckdb.Error) -> str:
    """Set a damaged file aside and say so; what is no damage is raised as StoreError."""
    text = _first_line(error)
    if "could not set lock" in text.lower():
        raise StoreError(f"another process has {path} open ({text}): stop it, or read a copy of the file") from error
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise StoreError(f"{path.parent} is not a directory that can be written: make it, or set state_dir") from error
    if path.is_dir() or (path.exists() and not os.access(path, os.R_OK | os.W_OK)):
        raise StoreError(f"{path} is not a file that can be read and written: move it away") from error
    if not _is_damage(error) and "No space" in text:
        raise StoreError(f"the disk of {path} is full ({text}): make room") from error
    aside = set_aside(path)
    return f"the history could not be opened ({text}); it was moved to {aside.name} and is made anew"


def _is_damage(error: duckdb.Error) -> bool:
    """Whether an error speaks of the file's bytes: those that DuckDB gives up on, and checksums that do not match."""
    if isinstance(error, duckdb.InternalException | duckdb.SerializationException):
        return True
    about_file = isinstance(error, duckdb.IOException | duckdb.FatalException) or type(error) is duckdb.Error
    return about_file and speaks_of_damage(str(error))


def speaks_of_damage(text: str) -> bool:
    """Whether an error of DuckDB, here or in a process that reads a copy, may be about the file's bytes."""
    return any(words in text.lower() for words in _DAMAGE)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
