"""`cockpit export`, `report` and `plot`: the history as files for notebooks, a campaign as one page, an answer as a picture."""

from __future__ import annotations

import argparse
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cockpit.attach import attached, lab_here
from cockpit.commands import Failed, WrongUse, emit
from cockpit.querying import asked_of, write_whole
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
    write_whole(target, [body], force=args.force)
    unanswered = [each.name for each in campaign.answers.values() if each.problem]
    value = {"file": str(target.absolute()), "bytes": len(body), "head": head, "unanswered": unanswered}
    said = f"wrote {clean(str(target))}, {len(body) / 1e3:.0f} kB, as of event {head}"
    return emit(args, value, said + (f"; not answered: {', '.join(unanswered)}" if unanswered else ""))


def plot(args: argparse.Namespace) -> int:
    """Draw an answer in characters."""
    from cockpit.drawing import NoPicture
    from cockpit.plotting import plot_text, words_of

    asked = asked_of(args.question, args.param)
    words = list(args.words)
    with attached(lab_here(args.lab)) as session:
        answer = session.call("sql", **asked, limit=args.limit)
        if "query" in asked and not words:
            listed = session.call("queries")["queries"]
            words = words_of(next((each["picture"] for each in listed if each["name"] == asked["query"]), None))
    size = shutil.get_terminal_size((100, 30))
    try:
        drawn = plot_text(words, answer["columns"], answer["rows"], size.columns, max(size.lines - 2, 8))
    except NoPicture as problem:
        raise WrongUse(str(problem)) from None
    note = f"\n({len(answer['rows'])} rows were drawn, more were cut)" if answer["truncated"] else ""
    return emit(args, {**answer, "picture": drawn}, drawn + note)
