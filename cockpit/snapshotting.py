"""`cockpit snapshot`: a dated copy of the history that the `duckdb` program or harlequin can open while the engine writes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from cockpit.attach import attached, lab_here
from cockpit.commands import WrongUse, emit
from cockpit.querying import write_whole
from engine.text import clean


def snapshot(args: argparse.Namespace) -> int:
    """Carry out `cockpit snapshot`."""
    path: Path | None = args.path
    if path is not None and path.is_dir():
        raise WrongUse(f"{path} is a directory: name the file")
    if path is not None and path.exists() and not args.force:
        raise WrongUse(f"{path} is there already: choose another name, or --force")
    with attached(lab_here(args.lab)) as session:
        made = session.call("snapshot", keep=args.keep)
    if path is not None:
        write_whole(
            path, _pieces(Path(made["path"])), force=args.force
        )  # a copy of a copy: never of the history itself
        made = {**made, "path": str(path)}
    lines = [f"{clean(made['path'])}  {made['bytes'] / 1e6:.1f} MB", f"duckdb -readonly {clean(made['path'])}"]
    return emit(args, made, "\n".join(lines))


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            yield piece
