"""`cockpit pilot`: the cluster's allocation that shards run in. Its size is shown first; nothing is asked for unconfirmed."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from cockpit.attach import attached, lab_here
from cockpit.cluster import foretold
from cockpit.commands import WrongUse, emit
from engine.text import clean


def pilot(args: argparse.Namespace) -> int:
    """Show it, ask for it or give it back. Raises WrongUse and RpcError."""
    if args.confirm and args.release:
        raise WrongUse("--confirm asks for it and --release gives it back: one of the two")
    if args.why and not (args.confirm or args.release):
        raise WrongUse("--why is the reason for --confirm or --release")
    with attached(lab_here(args.lab)) as session:
        answer = session.call("pilot")
        if args.release:
            answer = session.call("pilot", action="release", why=args.why)
        elif args.confirm or (answer["words"] and not answer["asked"] and _agreed(args, answer["words"])):
            answer = session.call("pilot", action="confirm", why=args.why)
    return emit(args, answer, clean(text(answer)))


def _agreed(args: argparse.Namespace, words: str) -> bool:
    """Whether somebody at a terminal says yes to that allocation."""
    if args.json or not sys.stdin.isatty():
        return False
    print(f"ask Slurm for {clean(words)}? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def text(answer: dict[str, Any]) -> str:
    """How it stands, and its nodes one a line."""
    soon = foretold(answer.get("starts"), time.time())
    lines = [f"{answer['sentence']}{f', {soon}' if soon else ''}"]
    if answer["idle_release_s"] is not None:
        lines.append(f"nothing runs in it: it is given back in {_span(answer['idle_release_s'])} unless something does")
    if answer["nodes"]:
        head = ("node", "state", "box", "GPUs", "clock")
        lines += _aligned([head, *(_cells(node) for node in answer["nodes"])])
    if answer["files_offset_s"] is not None and abs(answer["files_offset_s"]) > 2.0:
        lines.append(f"the shared file system's clock is {answer['files_offset_s']:+.1f} s from this machine's")
    return "\n".join(lines)


def _cells(node: dict[str, Any]) -> tuple[str, ...]:
    offset = node["offset_s"]
    clock = "?" if offset is None else f"{offset:+.1f} s ± {node['within_s']:.1f}{'  apart' if node['apart'] else ''}"
    level = "?" if node["level"] is None else str(node["level"])
    return node["node"], node["state"] or "?", level, str(node["gpus"]), clock


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
