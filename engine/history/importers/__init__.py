"""Histories made by other programs: read in Python, bounded, with an account of every line (`base.py` says how).

Nothing here writes, and nothing is handed to DuckDB unread. A new format is a new file and a line in `IMPORTERS`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.history.importers.autoresearch import Autoresearch
from engine.history.importers.base import DEADLINE_S, MAX_SOURCE, Importer, ImportRefused, Reading, Source, cut
from engine.history.importers.columns import check_mapping
from engine.history.importers.csv_table import CsvTable
from engine.history.importers.json_file import JsonFile
from engine.history.importers.jsonl import JsonLines
from engine.history.importers.mlflow import MLflow
from engine.history.importers.pi_autoresearch import PiAutoresearch
from engine.history.importers.tensorboard import TensorBoard
from engine.history.importers.wandb import Wandb

__all__ = ["IMPORTERS", "ImportRefused", "Reading", "beside", "body_of", "called", "guess", "read", "sources"]

IMPORTERS: dict[str, Importer] = {
    each.name: each
    for each in (
        Autoresearch(), PiAutoresearch(), JsonLines(), CsvTable(), JsonFile(), TensorBoard(), Wandb(), MLflow(),
    )
}  # fmt: skip
"""Every format by its name."""

_HEAD = 65536
_MAX_FILES = 1000
_BINARY = ("tensorboard", "wandb", "mlflow")


def guess(name: str, head: bytes) -> str:
    """The likeliest format of a source by its file name and first bytes. Raises ImportRefused when none suits."""
    likely = max(IMPORTERS.values(), key=lambda each: each.suits(name, head[:_HEAD]))
    if not likely.suits(name, head[:_HEAD]):
        known = "; ".join(f"{each.name} ({each.says})" for each in IMPORTERS.values())
        raise ImportRefused(f"{cut(name)} is of no known format: name one with --format. There are {known}")
    return likely.name


def body_of(path: Path) -> bytes:
    """All of a source. Raises ImportRefused for what is no plain file (a link, a device, a pipe), or too large."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "is a symbolic link: give the file itself" if path.is_symlink() else f"cannot be read ({error.strerror})"
        raise ImportRefused(f"{cut(str(path))} {why}") from None
    held = os.fstat(handle)
    if not stat.S_ISREG(held.st_mode) or held.st_size > MAX_SOURCE:
        os.close(handle)
        if not stat.S_ISREG(held.st_mode):
            raise ImportRefused(f"{cut(str(path))} is no plain file: give a file, or a directory of them")
        raise ImportRefused(
            f"{cut(str(path))} has {held.st_size >> 20} MiB, and {MAX_SOURCE >> 20} MiB are the most that one source may "
            "have: split it, or export from its program what you need"
        )
    with os.fdopen(handle, "rb") as file:
        body = file.read(MAX_SOURCE + 1)
    if len(body) > MAX_SOURCE:
        raise ImportRefused(f"{cut(str(path))} grows while it is read: import it when nothing writes it")
    return body


def called(path: Path) -> str:
    """What a source is called: its file name, and for an event file its directory too, which is what names the run."""
    return cut(f"{path.parent.name}/{path.name}" if "tfevents" in path.name and path.parent.name else path.name)


def sources(path: Path) -> list[Path]:
    """The files that an import of `path` reads: itself, or what a directory holds of known formats below it, sorted.

    Raises ImportRefused when there is nothing, or a link in the place of the path.
    """
    if path.is_symlink() or not path.is_dir():
        return [path]
    found = []
    for top, directories, names in os.walk(path):
        directories[:] = sorted(each for each in directories if not each.startswith("."))
        for name in sorted(names):
            if name.endswith(".wandb") or "tfevents" in name or name in _NAMES:
                found.append(Path(top) / name)
        if len(found) > _MAX_FILES:
            raise ImportRefused(f"{path} holds more than {_MAX_FILES} sources: import its directories one by one")
    if not found:
        raise ImportRefused(f"{path} holds no event file, .wandb file, mlflow.db, results.tsv or autoresearch.jsonl")
    return [each for each in found if not each.is_symlink()]


_NAMES = frozenset(("results.tsv", "autoresearch.jsonl", "mlflow.db"))


def read(name: str, path: Path, body: bytes, format: str = "", mapping: Mapping[str, str] | None = None) -> Reading:
    """Read a source; `path` is where `body` lies on disk. Raises ImportRefused, and nothing else for what the bytes hold."""
    mapping = dict(mapping or {})
    check_mapping(mapping)
    if format and format not in IMPORTERS:
        raise ImportRefused(f"there is no format {cut(format)!r}: one of {', '.join(IMPORTERS)}")
    chosen = IMPORTERS[format or guess(name, body[:_HEAD])]
    return chosen.read(Source(name, path, body, mapping, time.monotonic() + DEADLINE_S))


def beside(path: Path) -> list[str]:
    """What lies beside a source and is not seen by an import of it: changes that a database's own file has not."""
    side = path.with_name(path.name + "-wal")
    if side.is_file() and side.stat().st_size:
        return ["the database has a write-ahead log beside it, whose rows are not seen: stop its server, then import"]
    return []


def formats() -> Sequence[tuple[str, str]]:
    """(name, what it is) of every format."""
    return [(each.name, each.says) for each in IMPORTERS.values()]
