"""`cockpit pilot`: the cluster's allocation that shards run in. Its size is shown first; nothing is asked for unconfirmed."""

from __future__ import annotations

import argparse
import sys

from cockpit.attach import attached, lab_here
from cockpit.commands import WrongUse, emit
from engine.text import clean


def pilot(args: argparse.Namespace) -> int:
    """Show it, ask for it or give it back. Raises WrongUse and RpcError."""
    if args.confirm and args.release:
        raise WrongUse("--confirm asks for it and --release gives it back: one of the two")
    with attached(lab_here(args.lab)) as session:
        answer = session.call("pilot")
        if args.release:
            answer = session.call("pilot", action="release")
        elif args.confirm or (answer["words"] and not answer["asked"] and _agreed(args, answer["words"])):
            answer = session.call("pilot", action="confirm")
    return emit(args, answer, clean(answer["sentence"]))


def _agreed(args: argparse.Namespace, words: str) -> bool:
    """Whether somebody at a terminal says yes to that allocation."""
    if args.json or not sys.stdin.isatty():
        return False
    print(f"ask Slurm for {clean(words)}? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
