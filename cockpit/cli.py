"""The command line: every screen's headless twin, and the door to the screens. Exit codes: 0 done, 1 failed, 2 wrong use."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from cockpit.history_arguments import add_export, add_import, add_snapshot, add_sql


class Parser(argparse.ArgumentParser):
    """Says what is wrong as JSON too, where JSON was asked for. Wrong use ends with exit code 2."""

    as_json = False

    def error(self, message: str) -> NoReturn:
        if Parser.as_json:
            print(json.dumps({"error": message}))
        super().error(message)


def build() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = Parser(
        prog="cockpit",
        description="Steer AI-assisted pretraining research from a terminal. Without a command it opens the screens.",
    )
    parser.add_argument(
        "-C", "--lab", metavar="DIR", type=Path, default=Path(), help="the lab (default: here or above)"
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        return sub

    init = add("init", "make this repository a lab: write a commented cockpit.toml")
    init.add_argument("--yes", action="store_true", help="ask nothing, take the defaults")
    _demo_arguments(add("demo", "set up the sample lab and open it (or run its loop without a terminal)"))
    pilot = add(
        "pilot", "the allocation of a cluster that shards run in: how it stands; asks Slurm for it when confirmed"
    )
    pilot.add_argument("--confirm", action="store_true", help="ask for it, as it is shown")
    pilot.add_argument("--release", action="store_true", help="give it back; what runs in it runs again in the next")
    pilot.add_argument("--why", default="", metavar="TEXT", help="a reason for the record")
    add("up", "start the engine, if it is not running")
    add("down", "stop the engine; runs go on")
    add("status", "the engine at a glance")
    add("ls", "experiments with their verdicts and shards")
    show = add("show", "one proposal, experiment or shard, whole")
    show.add_argument("id")
    _decision_arguments(add)
    rank = add("rank", "experiments, best first")
    rank.add_argument("--limit", type=_count, default=20, help="most experiments (default: 20)")
    add("shortlist", "solid experiments on the present trunk, by gain after allowing for luck per hour of shards")
    _history_arguments(add)
    _propose_arguments(add("propose", "ask for proposals, or submit a diff of your own; submitting approves nothing"))
    brief = add("brief", "what came of the last batch: what held, what did not, what to try next, what worries")
    brief.add_argument("--ask", action="store_true", help="have Claude write one now, with the key of this shell")
    read = add("read", "what a second reader found in a proposal's diff; its predictions once you have decided")
    read.add_argument("id")
    read.add_argument("--ask", action="store_true", help="have Claude read it now, with the key of this shell")
    found = add("findings", "what detectors found in runs, the worst first, and which detectors work in this lab")
    found.add_argument("id", nargs="?", help="an experiment or a shard; or one finding, to see it whole")
    found.add_argument("--all", action="store_true", help="notes, and what is acknowledged, too")
    audit = add("audit", "read the trunk's code and runs for silent bugs; what is suspected becomes findings")
    audit.add_argument("--static", action="store_true", help="do not ask Claude, also where it is the lab's proposer")
    add("rebuild", "make the index anew from ledger, git and metrics files")
    add("verify", "check ledger, decisions, branches, shards and index against one another")
    ledger = add("ledger", "the lab book: every decision, by whom, when, on what, with what on the screen, and why")
    ledger.add_argument(
        "action", nargs="?", choices=("show", "verify"), default="show", help="verify: as `cockpit verify`"
    )
    ledger.add_argument("--since", default="", metavar="WHEN", help="a day, a time, or a span before now: 12h, 7d")
    ledger.add_argument("--last", type=_count, metavar="N", help="only the last N decisions")
    selftest = add("selftest", "run changes that change nothing through the whole machine, in a copy of the lab")
    selftest.add_argument("--aa", type=_count, metavar="N", help="how many no-ops; 0.3 of 100 may be kept by chance")
    selftest.add_argument("--keep", action="store_true", help="leave the copy where it is, to look into it")
    gc = add("gc", "remove what can be made again or is not to be kept")
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")
    trunk = add("trunk", "the trunk beside your branch; pull your branch into it, or push it to your branch")
    trunk.add_argument("action", nargs="?", choices=("show", "pull", "push"), default="show")
    pause = add("pause", "launch nothing until resumed; what runs goes on")
    pause.add_argument("--why", default="")
    add("resume", "launch again")
    add("doctor", "what is missing on this machine and in this lab, and how to get it")
    return parser


def _count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _demo_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--dir", type=Path, default=Path("demo-lab"), help="where the sample lab is made (default: demo-lab)"
    )
    sub.add_argument("--headless", action="store_true", help="no terminal: run the loop and print the ranking")
    sub.add_argument("--approve-all", action="store_true", help="approve every proposal (the shipped sample only)")
    sub.add_argument(
        "--until", type=int, metavar="N", help="stop when N experiments are decided; 0 only sets the lab up"
    )


def _propose_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("-n", type=_count, default=1, dest="count", help="how many (default: 1)")
    sub.add_argument("--by", default="", metavar="PROPOSER", help="another than the lab's: claude, sweep or recording")
    sub.add_argument("--note", default="", help="what you want to tell it")
    sub.add_argument("--show-request", action="store_true", help="print what would go out to Claude; nothing is sent")
    what = sub.add_mutually_exclusive_group()
    what.add_argument("--diff", type=Path, metavar="FILE", help="submit a unified diff (- for standard input)")
    what.add_argument("--from-branch", metavar="BRANCH", help="submit what a branch changes since it left the trunk")
    what.add_argument("--again", metavar="ID", help="queue a proposal again, on the present trunk")
    what.add_argument("--edit", action="store_true", help="write one yourself: the trunk's files in $VISUAL or $EDITOR")
    sub.add_argument(
        "--in",
        type=Path,
        dest="place",
        metavar="DIR",
        help="a scratch copy of the trunk's files: made where there is none, handed in as it is, opened first with --edit",
    )
    sub.add_argument("--hypothesis", default="", help="for a diff or a branch: one sentence that can be wrong")
    sub.add_argument("--category", default="systems", help="architecture, optimizer, schedule … (default: systems)")
    sub.add_argument("--mechanism", default="", help="why it should work")
    sub.add_argument("--prediction", default="", help="what will be measured if it does")
    sub.add_argument(
        "--claims", default="gain", choices=("gain", "speed", "simplification"), help="what it is judged by"
    )
    sub.add_argument("--effect", type=float, help="by how much the metric gets better")


def _decision_arguments(add: object) -> None:
    assert callable(add)
    approve = add("approve", "approve proposals: their branches are made and their shards run")
    approve.add_argument("ids", nargs="+", metavar="id")
    approve.add_argument(
        "--diff",
        metavar="HASH",
        action="append",
        help="hash of the diff you approve, once for each id; without it you are shown and asked",
    )
    approve.add_argument("--why", default="", help="a reason for the record")
    decline = add("decline", "decline a proposal, with a reason")
    decline.add_argument("id")
    decline.add_argument("--why", required=True, help="the reason; the proposer learns from it")
    revise = add("revise", 'say "yes, but": the proposer writes one that takes its place')
    revise.add_argument("id")
    revise.add_argument("--why", required=True, metavar="NOTE", help="what is to be different")
    revise.add_argument("--diff", metavar="HASH", help="hash of the diff you read (default: the present one)")
    add("edit", "edit a proposal in $EDITOR; what you save takes its place").add_argument("id")
    for name, text in (
        ("defer", "put a proposal to the end of the queue"),
        ("undo", "take back a decline, or an approval of which nothing has run yet"),
    ):
        sub = add(name, text)
        sub.add_argument("id")
        sub.add_argument("--why", default="", help="a reason for the record")
    stop = add("stop", "stop an experiment or one shard")
    stop.add_argument("id")
    stop.add_argument("--why", default="", help="a reason for the record")
    ack = add("ack", "acknowledge findings: the experiment may be kept all the same, and why")
    ack.add_argument("ids", nargs="+", metavar="finding")
    ack.add_argument("--why", required=True, metavar="REASON", help="why it may be kept; it stands in the ledger")
    sign = add(
        "sign",
        "sign a solid experiment (or, with a reason, a harmless bug fix) off: it is merged into the trunk, a gain once pairs "
        "on fresh seeds have borne it out; several are put together, and fresh pairs have to bear that out",
    )
    sign.add_argument("ids", nargs="+", metavar="id")
    sign.add_argument(
        "--diff",
        metavar="HASH",
        action="append",
        default=[],
        help="hash of the diff you sign, once for each id in their order; without it you are shown and asked",
    )
    sign.add_argument("--why", default="", help="a reason for the record")
    sign.add_argument("--full", action="store_true", help="after the merge, run the new trunk once at rung `full`")
    retune = add(
        "retune",
        "compare an experiment with the trunk at each side's own best learning rate: did the idea win, or the rate?",
    )
    retune.add_argument("id")
    retune.add_argument("--yes", action="store_true", help="do not ask once more after saying what it costs")
    retune.add_argument("--why", default="", help="a reason for the record")


def _history_arguments(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    add_sql(add("sql", "ask one SELECT, or a named query, over the whole history"), _count)
    add_snapshot(add("snapshot", "a copy of the history for other programs, as it is now"), _count)
    add_import(add("import", "import runs that other programs made; they are marked unverified"))
    add_export(add, _count)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    Parser.as_json = "--json" in words
    args = build().parse_args(words)
    if args.version:
        from importlib.metadata import version

        print(f"research-cockpit {version('research-cockpit')}")
        return 0
    if args.command is None:
        from cockpit.open import open_lab

        return open_lab(args.lab)
    from cockpit.commands import run

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
