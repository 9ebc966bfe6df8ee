"""`cockpit export` and `cockpit report`: the history as files for notebooks, and a campaign as one page for a browser."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cockpit.attach import attached, lab_here
from cockpit.commands import Failed, WrongUse, emit
from engine.text import clean


def export(args: argparse.Namespace) -> int:
    """Write the tables, then the manifest that says what they are."""
    from engine.history.export_files import ExportError, head_of, prepare, write_manifest, write_tables

    wanted = [name for name in args.tables.replace(" ", "").split(",") if name]
    folder = Path(args.dir)
    try:
        prepare(folder, force=args.force)
    except ExportError as error:
        raise WrongUse(str(error)) from None
    with attached(lab_here(args.lab)) as session:
        taken = session.call("history_copy")
    copy = Path(taken["path"])
    try:
        tables = write_tables(copy, folder, args.format, wanted)
        manifest = {
            "lab": taken["lab"],
            "head": head_of(copy),
            "format": args.format,
            "exported": datetime.now(UTC).isoformat(timespec="seconds"),
            "tables": tables,
        }
        write_manifest(folder, manifest)
    except ExportError as error:
        raise Failed(str(error)) from None
    except OSError as error:
        raise Failed(f"{folder} cannot be written to ({error.strerror})") from None
    finally:
        with suppress(OSError):
            copy.unlink()
    lines = [f"{each['rows']:>12,} rows  {each['bytes'] / 1e6:>9.2f} MB  {clean(each['file'])}" for each in tables]
    total = sum(each["rows"] for each in tables)
    end = f"{len(tables)} tables, {total:,} rows, as of event {manifest['head']}, in {clean(str(folder))}"
    return emit(args, manifest, "\n".join([*lines, end]))


def report(args: argparse.Namespace) -> int:
    """Write the campaign as one page."""
    from cockpit.report.gather import gather
    from cockpit.report.page import page
    from engine.history.queries import load_all
    from engine.resources import shipped

    target = Path(args.file)
    if target.exists() and not args.force:
        raise WrongUse(f"{target} is there already: name another file, or write over it with --force")
    if not target.parent.is_dir():
        raise WrongUse(f"{target.parent} is no folder: make it first")
    root = lab_here(args.lab)
    queries = load_all([shipped("queries"), root / "queries"])
    with attached(root) as session:
        rows, head = session.rows()
        campaign = gather(
            session.call,
            queries,
            rows,
            head=head,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            version=session.hello["engine"],
            top=args.top,
        )
    body = page(campaign).encode("utf-8", "replace")
    try:
        write_whole(target, body)
    except OSError as error:
        raise Failed(f"{target} cannot be written ({error.strerror}): name another file") from None
    unanswered = [each.name for each in campaign.answers.values() if each.problem]
    value = {"file": str(target.absolute()), "bytes": len(body), "head": head, "unanswered": unanswered}
    said = f"wrote {clean(str(target))}, {len(body) / 1e3:.0f} kB, as of event {head}"
    return emit(args, value, said + (f"; not answered: {', '.join(unanswered)}" if unanswered else ""))


def write_whole(target: Path, body: bytes) -> None:
    """Have `body` in the file, all of it or none. Raises OSError."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
