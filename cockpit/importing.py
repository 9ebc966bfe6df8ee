"""`cockpit import`: histories that other programs made, read by the engine, or here alone with `--dry-run`; and the report."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cockpit.attach import attached, lab_here
from cockpit.commands import Failed, WrongUse, emit
from engine.rpc import RpcError
from engine.text import clean, clean_line

SHOWN = 20
"""Lines that were not understood that the report shows; `--json` has the others."""

Report = Mapping[str, Any]


def import_history(args: argparse.Namespace) -> int:
    """Import, or only read, each source at a path. Exit code 1 when one of several could not be imported."""
    from engine.history.importers import ImportRefused, sources

    mapping = mapping_of(args.map)
    path = Path(args.path).expanduser().absolute()
    try:
        places = sources(path)
    except ImportRefused as error:
        raise Failed(str(error)) from None
    reports = [dict(each) for each in (_dry(args, places, mapping) if args.dry_run else _sent(args, places, mapping))]
    failed = [each for each in reports if "refused" in each]
    if len(places) == 1 and failed:
        raise Failed(failed[0]["refused"])
    value = reports[0] if len(places) == 1 else {"sources": reports}
    text = "\n\n".join(as_text(each) for each in reports)
    emit(args, value, text if args.dry_run or len(failed) == len(reports) else f"{text}\n\n{NEXT}")
    return 1 if failed else 0


NEXT = (
    "ask on with `cockpit sql imported`, or in SQL: tables imports, imported_runs, imported_points, imported_problems"
)


def mapping_of(words: Sequence[str]) -> dict[str, str]:
    """`role=column` words as a mapping. Raises WrongUse."""
    pairs = [word.partition("=") for word in words]
    for role, equals, column in pairs:
        if not (role and equals and column):
            raise WrongUse(f"--map takes role=column, as in --map metric=val_bpb, not {role + equals + column!r}")
    return {role: column for role, _, column in pairs}


def _dry(args: argparse.Namespace, places: Sequence[Path], mapping: Mapping[str, str]) -> Iterator[Report]:
    """Read here, change nothing, ask no engine."""
    from engine.history.imported import report
    from engine.history.importers import ImportRefused, beside, body_of, called, read

    for place in places:
        try:
            reading = read(called(place), place, body_of(place), args.format, mapping)
        except ImportRefused as error:
            yield {"source": str(place), "refused": str(error)}
        else:
            told = report(reading)
            yield {"source": str(place), "dry_run": True, **told, "notes": [*told["notes"], *beside(place)]}


def _sent(args: argparse.Namespace, places: Sequence[Path], mapping: Mapping[str, str]) -> Iterator[Report]:
    """Have the engine read them; it runs as the same person on the same machine, so only paths travel."""
    repo = str(Path(args.repo).expanduser().absolute()) if args.repo else ""
    with attached(lab_here(args.lab)) as session:
        for place in places:
            asked = {"path": str(place), "format": args.format, "mapping": dict(mapping), "repo": repo}
            try:
                yield {"source": str(place), **session.call("import", **asked, request_id=uuid.uuid4().hex)}
            except RpcError as error:
                yield {"source": str(place), "refused": str(error)}


def as_text(report: Report) -> str:
    """The report of one source for a reader: what came of it, where each line went, what was not understood."""
    name = clean_line(Path(report["source"]).name)
    if "refused" in report:
        return f"{name}: not imported: {clean(report['refused'])}"
    unit = report["unit"]
    lines = [
        f"{name}  {_head(report)}",
        f"runs      {report['runs']}: "
        + (", ".join(f"{n} {word}" for word, n in report["outcomes"].items()) or "none"),
        f"{unit:9} {report['total']} = " + " + ".join(f"{report[key]} {word}" for key, word in _PARTS if report[key]),
        *([f"points    {report['points']}"] if report["points"] else []),
        *[f"metric    {_segment(each)}" for each in report["segments"][:SHOWN]],
        *([f"commits   {_commits(report['commits'])}"] if report.get("commits", {}).get("named") else []),
        *[f"note      {each}" for each in report["notes"]],
        *_problems(report),
    ]
    return "\n".join(clean(each) for each in lines)


_PARTS = (
    ("run", "of runs"),
    ("measured", "with points"),
    ("header", "header"),
    ("comments", "comments and blanks"),
    ("left_out", "left out"),
    ("not_understood", "not understood"),
)


def _head(report: Report) -> str:
    if report.get("dry_run"):
        return f"{report['format']}, only read: nothing was changed"
    return f"{report['format']}, " + (
        f"imported as {report['import']}, unverified"
        if report["first"]
        else f"was imported before as {report['import']}: nothing changed"
    )


def _segment(segment: Mapping[str, Any]) -> str:
    way = "higher" if segment["direction"] == "max" else "lower"
    unit = f" ({segment['unit']})" if segment["unit"] else ""
    name = f", segment {segment['segment']}: {segment['name']}" if segment["name"] else ""
    return f"{segment['metric'] or 'not known'}{unit}, {way} is better{name}"


def _commits(found: Mapping[str, int]) -> str:
    linked = found["branch"] + found["dangling"] + found["missing"]
    if not linked:
        return f"{found['named']} named; no repository at hand (--repo DIR)"
    return (
        f"{found['branch']} on branches, {found['dangling']} unreachable, {found['missing']} not in the repository; "
        f"{found['diffs']} diffs stored"
    )


def _problems(report: Report) -> list[str]:
    """The first stretches that were not understood, with their numbers."""
    found = report["problems"]
    one = {"lines": "line", "records": "record", "values": "value", "rows": "row"}[report["unit"]]
    lines = []
    for each in found[:SHOWN]:
        where = f"{one} {each['line']}" if each["line"] == each["last"] else f"{one}s {each['line']}-{each['last']}"
        lines.append(f"? {where}: {each['why']}" + (f": {clean_line(each['text'])}" if each["text"] else ""))
    if len(found) > SHOWN:
        lines.append(f"? and {len(found) - SHOWN} more places: --json lists them")
    return lines
