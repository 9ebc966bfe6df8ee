"""`cockpit shortlist` and `cockpit sign`: what deserves a signature, and giving one."""

from __future__ import annotations

import argparse
import sys
import uuid
from typing import Any

from engine.text import clean

from . import listing
from .attach import attached, lab_here
from .commands import WrongUse, _ask, _find, _width, emit
from .format import duration


def shortlist(args: argparse.Namespace) -> int:
    """Solid experiments on the present trunk, best first."""
    with attached(lab_here(args.lab)) as session:
        answer = session.call("shortlist")
    rows = [
        (
            each["place"],
            each["experiment"],
            each["state"],
            listing.signed(each["shrunk"]),
            listing.signed(each["effect"]),
            duration(each["seconds"]),
            listing.signed(each["headline"]),
            listing.interval(each["interval"]),
            len(each["findings"]),
            each["hypothesis"],
        )
        for each in answer["experiments"]
    ]
    head = ("#", "id", "state", "shrunk", "effect", "shards", "headline", "interval", "findings", "hypothesis")
    empty = "nothing is solid on the present trunk yet"
    return emit(args, answer, listing.table(head, rows, _width()) if rows else empty)


def sign(args: argparse.Namespace) -> int:
    """Sign one experiment off, after saying what that runs, costs and starts again."""
    with attached(lab_here(args.lab)) as session:
        row = _find(session.rows()[0], args.id)
        if row["kind"] != "experiment" or not row.get("proposal"):
            raise WrongUse(f"{args.id} is no experiment: only experiments can be signed off")
        if not args.diff:
            _say_first(row, session.call("price", experiment=args.id))
        seen = args.diff or _ask(session, args, row["proposal"], "Sign it off?")
        if seen is None:
            print("not signed", file=sys.stderr)
            return 1
        answer = session.call("sign", experiment=args.id, diff_hash=seen, why=args.why, request_id=uuid.uuid4().hex)
    return emit(args, answer, _said(args.id, answer))


def _say_first(row: dict[str, Any], price: dict[str, Any]) -> None:
    verdict = row["verdict"]
    said = [verdict["sentence"]] if verdict else []
    for each in [*said, f"Signing it {price['sentence']}."]:
        print(clean(each), file=sys.stderr)


def _said(name: str, answer: dict[str, Any]) -> str:
    if answer["state"] == "confirming":
        seeds = ", ".join(map(str, answer["seeds"]))
        return f"signed {name}: fresh pairs run on seeds {seeds}; it is merged by itself if they bear it out"
    return f"signed {name}: it is in the trunk now"
