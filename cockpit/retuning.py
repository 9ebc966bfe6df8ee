"""`cockpit retune`: both sides of an experiment at their own best learning rate, after saying what that runs."""

from __future__ import annotations

import argparse
import sys
import uuid
from typing import Any

from engine.text import clean

from .attach import attached, lab_here
from .commands import WrongUse, emit


def retune(args: argparse.Namespace) -> int:
    """Say what it runs and ask once more; then have it run."""
    with attached(lab_here(args.lab)) as session:
        cost = session.call("retune_cost", experiment=args.id)
        if not args.yes and not _asked(args, cost):
            print("not retuned", file=sys.stderr)
            return 1
        answer = session.call("retune", experiment=args.id, why=args.why, request_id=uuid.uuid4().hex)
    return emit(
        args, {**answer, "cost": cost}, clean(f"retuning {args.id} as {answer['retune']}: it {cost['sentence']}")
    )


def _asked(args: argparse.Namespace, cost: dict[str, Any]) -> bool:
    said = clean(f"Retuning {args.id} {cost['sentence']}.")
    if args.json or not sys.stdin.isatty():
        raise WrongUse(f"{said} Say --yes to start that")
    print(said)
    try:
        return input("Start that? [yes/no] ").strip().lower() == "yes"
    except EOFError:
        return False
