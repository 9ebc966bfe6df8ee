"""`cockpit ledger`: the decisions of a lab as a lab book, read from the ledger itself; no engine is needed for it."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cockpit.attach import lab_here, state_dir
from cockpit.commands import Failed, WrongUse, emit
from engine.text import clean

_SPANS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def show(args: argparse.Namespace) -> int:
    """Print the decisions, oldest first: all, those since a time, or the last few. Raises WrongUse and Failed."""
    from engine.lab_book import entries
    from engine.ledger import LedgerError, read_lines

    after = since(args.since, time.time()) if args.since else None
    path = state_dir(lab_here(args.lab)).ledger
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raw = b""
    try:
        book = list(entries(event for event, _ in read_lines(raw[: raw.rfind(b"\n") + 1], str(path))))
    except LedgerError as error:
        raise Failed(str(error)) from None
    total = len(book)
    book = [each for each in book if after is None or each["t"] >= after]
    book = book[-args.last :] if args.last else book
    value = {"decisions": [{**each, "at": _utc(each["t"])} for each in book], "total": total}
    text = "\n\n".join(map(as_text, book)) or f"nothing was decided{' since then' if total else ' yet'}"
    if args.json or len(book) == total:
        return emit(args, value, text)
    print(f"{len(book)} of {total} decisions", file=sys.stderr)
    return emit(args, value, text)


def since(text: str, now: float) -> float:
    """Seconds since the epoch of "2026-11-20", "2026-11-20T14:30" (local time) or of a span before `now`, as "12h" or "7d".

    Raises WrongUse.
    """
    span = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if span:
        return now - float(span[1]) * _SPANS[span[2]]
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromisoformat(text.strip()).timestamp()
    raise WrongUse(
        f"--since {text!r}: give a day or a time (2026-11-20, 2026-11-20T14:30) or a span (90m, 12h, 7d, 2w)"
    )


def as_text(entry: Mapping[str, Any]) -> str:
    """One entry: a line that says who did what and when, and below it what it was about, what was on the screen and why."""
    who = entry["who"]
    name = f"policy {who['name']}" if who.get("kind") == "policy" else who["name"]
    head = [
        _local(entry["t"]),
        f"{entry['action']} {entry['target']}".strip(),
        f"{name} ({who['os_user']}@{who['host']})" if who["os_user"] else name,
    ]
    lines = ["  ".join([*head, *([entry["decision"]] if entry["decision"] else [])])]
    lines += [f"    {entry['about']}"] if entry["about"] else []
    lines += [f"    diff {entry['diff_hash'][:12]}"] if entry["diff_hash"] else []
    lines += [f"    shown: {each}" for each in shown_words(entry["shown"])]
    lines += [f"    why: {entry['why']}"] if entry["why"] else []
    return "\n".join(clean(each).replace("\n", " ") for each in lines)


def shown_words(shown: Mapping[str, Any]) -> Sequence[str]:
    """What was on the screen, in sentences."""
    words = []
    if shown.get("refusal"):
        words.append(f"refused by the machine: {shown['refusal']}")
    words += [f"flag: {each}" for each in shown.get("risks", ())]
    if "bundle" in shown:
        parts = [f"{each['experiment']} {each['shrunk']:+.4g}" for each in shown["bundle"]["parts"]]
        words.append(f"expected: {', '.join(parts)}, {shown['bundle']['promised']:+.4g} together")
        words += [f"{part['experiment']}: {each}" for part in shown["bundle"]["parts"] for each in shown_words(part)]
    elif "verdict" in shown:
        verdict = shown["verdict"]
        words.append(f"{verdict['verdict']}: {verdict['sentence']}" if verdict else f"{shown['state']}, no verdict yet")
    if "audit" in shown:
        by = [f"{each['experiment']} {each['claimed']:+.4g} ({each['by']})" for each in shown["audit"]["claims"]]
        words.append(f"claimed: {', '.join(by)}")
    words += [shown["retuned"]] if shown.get("retuned") else []
    for each in shown.get("findings", ()):
        word = each.get("acknowledged")
        said = f"acknowledged by {word['who']['name']}: {word['why']}" if word else "open"
        words.append(f"finding {each['id']}, {each['severity']}, {each['rule']}: {each['sentence']} ({said})")
    return words


def _local(t: float) -> str:
    return datetime.fromtimestamp(t).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _utc(t: float) -> str:
    return datetime.fromtimestamp(t, UTC).isoformat(timespec="seconds")
