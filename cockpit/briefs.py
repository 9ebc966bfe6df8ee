"""`cockpit brief` and `cockpit read`: what came of the last batch, and what a second reader said of a proposal."""

from __future__ import annotations

import argparse
import sys
import textwrap
import uuid
from collections.abc import Mapping
from typing import Any

from cockpit.attach import attached, lab_here
from cockpit.brief_text import headline, pieces
from cockpit.commands import Failed, emit
from cockpit.proposing import hand_over_key
from engine.text import clean

WIDTH = 110
INDENT = {"head": "", "note": "", "claim": "  ", "none": "  ", "record": "      ", "finding": "      "}


def brief(args: argparse.Namespace) -> int:
    """Show the latest brief, or with --ask have Claude write one now."""
    with attached(lab_here(args.lab)) as session:
        if args.ask:
            hand_over_key(session)
            found = session.call("ask_brief", request_id=uuid.uuid4().hex)
        else:
            found = session.call("brief")
    row = found["brief"]
    if row is None:
        raise Failed(
            "no brief yet: one is written when a batch is judged, or `cockpit brief --ask` has Claude write it now"
        )
    emit(args, found, clean(_text(found)))
    if args.ask and row["state"] != "done":
        print(f"cockpit: {clean(row['state'])}: {clean(row['detail'])}", file=sys.stderr)
        return 1
    return 0


def _text(found: Mapping[str, Any]) -> str:
    lines = [headline(found["brief"])]
    for piece in pieces(found["brief"], found["body"], len(found["newer"])):
        lines += [""] if piece.kind == "head" else []
        space = INDENT[piece.kind]
        lines += textwrap.wrap(piece.text, WIDTH, initial_indent=space, subsequent_indent=space)
    return "\n".join(lines)


def read(args: argparse.Namespace) -> int:
    """Show what second readers said of a proposal, or with --ask have Claude read it now."""
    with attached(lab_here(args.lab)) as session:
        if args.ask:
            hand_over_key(session)
            session.call("read", proposal=args.id)
        found = session.call("reading", proposal=args.id)
    if not found["readings"]:
        raise Failed(
            f"no second reader has read {args.id}: set gates.review, or `cockpit read {args.id} --ask` asks Claude"
        )
    emit(args, found, clean("\n\n".join(_reading(row) for row in found["readings"])))
    last = found["readings"][-1]
    return 1 if args.ask and last["state"] != "done" else 0


def _reading(row: Mapping[str, Any]) -> str:
    who = row["model"] or "static rules"
    lines = [f"{row['id']} by {who}, on diff {row['diff_hash'][:10]}: {row['state']}"]
    lines += [f"  {row['detail']}"] if row["detail"] else []
    lines += [
        f"  {each['kind']}: {each['path']}{' ' if each['path'] else ''}{each['sentence']}" for each in row["flags"]
    ]
    if row["state"] == "done" and not row["flags"]:
        lines.append("  nothing was found")
    if row["p_approve"] is not None and row["p_solid"] is not None:
        lines.append(f"  it predicted: approved {row['p_approve']:.0%}, solid {row['p_solid']:.0%}")
    elif row["state"] == "done" and row["opened"] is None:
        lines.append("  its predictions are shown once the proposal is decided")
    return "\n".join(lines)
