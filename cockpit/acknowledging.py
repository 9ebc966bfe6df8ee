"""`cockpit findings` and `cockpit ack`: what detectors found, and a person's word on it."""

from __future__ import annotations

import argparse
import shutil
import sys
import uuid

from cockpit.attach import attached, lab_here
from cockpit.commands import WrongUse, emit
from cockpit.findings import as_text, listed
from engine.text import clean


def findings(args: argparse.Namespace) -> int:
    """List what was found, the worst first; with an id, of one experiment or shard, or one finding whole."""
    with attached(lab_here(args.lab)) as session:
        rows, _ = session.rows()
    if args.id and not any(args.id == row["id"] for row in rows):
        raise WrongUse(f"nothing is called {args.id!r}; `cockpit ls` lists what there is")
    found, known = listed(rows, args.id or "", everything=args.all)
    width = shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0
    return emit(args, {"findings": found, "detectors": known}, as_text(found, known, width))


def ack(args: argparse.Namespace) -> int:
    """Acknowledge findings: the experiment may be kept all the same, and why."""
    with attached(lab_here(args.lab)) as session:
        answer = session.call("ack", findings=args.ids, why=args.why, request_id=uuid.uuid4().hex)
    left = [f"{name} has open findings: {', '.join(ids)}" for name, ids in answer["open"].items() if ids]
    done = [f"nothing stands against {name} any more" for name, ids in answer["open"].items() if not ids]
    return emit(args, answer, clean("\n".join([f"acknowledged {', '.join(answer['acknowledged'])}", *done, *left])))
