"""The sample lab: made in a fresh git repository, opened in the cockpit, or run to its verdicts without a terminal."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cockpit import listing, unattended
from cockpit.attach import Session, attached, state_dir
from cockpit.commands import Failed, WrongUse, wait_down
from engine.paths import CONFIG
from engine.resources import shipped
from engine.rpc import RpcError

MARKER, POLICY = "demo.json", "demo --approve-all"


def demo(args: argparse.Namespace) -> int:
    """`cockpit demo`: 0 when it is done. Raises WrongUse and Failed."""
    wrong = _wrong_use(args)
    if wrong:
        raise WrongUse(wrong)
    root = args.dir.resolve()
    problem = set_up(root)
    if problem:
        raise Failed(problem)
    if args.until == 0:
        print(json.dumps({"experiments": [], "dir": str(root)}) if args.json else f"the sample lab is ready in {root}")
        return 0
    if not args.headless:
        from cockpit.open import open_lab

        return open_lab(root)
    with attached(root) as session:
        pilot = session.call("pilot")
        if pilot["words"] and not pilot["asked"]:  # the sample lab was pointed at a cluster
            session.call("pilot", action="confirm", policy=POLICY)
        done, rows = _drive(session, args.until or 4)
        session.call("shutdown")
    wait_down(root)
    result = listing.ranked(listing.experiments(rows))
    print(json.dumps(result, indent=2) if args.json else listing.experiment_lines(result))
    return 0 if done else 1


def _wrong_use(args: argparse.Namespace) -> str | None:
    if args.headless and not args.approve_all and args.until != 0:
        return "--headless needs --approve-all: nothing runs that nobody approved"
    if not args.headless and (args.approve_all or args.json or args.until):
        return "--approve-all, --until and --json go with --headless"
    if args.until is not None and args.until < 0:
        return "--until is a number of experiments, 0 or more"
    return None


def set_up(root: Path) -> str | None:
    """Make the sample lab at `root`, or find it there. Returns what is wrong, in a sentence, or None.

    Raises WrongUse when something else lies there.
    """
    if find_spec("torch") is None or find_spec("safetensors") is None:
        return "the sample lab trains with torch: install it with `pip install 'research-cockpit[lab]'`, or run `make demo`"
    if (state_dir(root).root / MARKER).is_file() and (root / CONFIG).is_file():
        return None
    if root.exists() and any(root.iterdir()):
        raise WrongUse(f"{root} is not empty and holds no sample lab: name another place with --dir")
    making = root.with_name(f".{root.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__", ".cockpit", "*.pyc")
        shutil.copytree(shipped("sample_runs") / "nanolm", making, ignore=ignored)
        _commit(making)
        state = state_dir(making)
        state.root.mkdir(mode=0o700, exist_ok=True)
        (state.root / MARKER).write_text(json.dumps({"sample": "nanolm", "made": time.time()}))
        making.rename(root)  # whole or not at all; an empty directory may be there already
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return f"the sample lab could not be made: {said.strip()}"
    return None


def _commit(root: Path) -> None:
    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q", "-b", "main")
    exclude = root / ".git" / "info" / "exclude"
    exclude.parent.mkdir(exist_ok=True)
    with exclude.open("a") as file:
        file.write("/.cockpit/\n")
    for key, value in (("user.name", "Demo Researcher"), ("user.email", "researcher@example.org")):
        if subprocess.run(["git", "-C", str(root), "config", key], capture_output=True).returncode:
            git("config", key, value)
    git("add", "-A")
    git(
        "-c",
        "commit.gpgSign=false",
        "-c",
        "core.hooksPath=/dev/null",
        "commit",
        "-q",
        "-m",
        "Start from the sample lab nanolm",
    )


def _drive(session: Session, until: int) -> tuple[bool, list[dict[str, Any]]]:
    """Approve proposals, as many as are still wanted, until `until` experiments are decided."""
    enough = False
    piloted = bool(session.call("pilot")["words"])

    def step(rows: list[dict[str, Any]], phase: str) -> tuple[str, bool]:
        nonlocal enough
        if piloted and not (pilot := session.call("pilot"))["asked"]:
            raise Failed(f"shards have nowhere to run: {pilot['sentence']}")
        experiments = unattended.experiments(rows)
        decided = [row for row in experiments if _is_decided(row)]
        shards = [row for row in rows if row["kind"] == "shard"]
        ended = unattended.shards_ended(rows)
        text = f"{len(decided)} of {until} decided, {ended} shards ended, {len(shards) - ended} running"
        enough = len(decided) >= until
        waiting = unattended.waiting(rows)
        unsettled = [row for row in experiments if not unattended.is_settled(row)]
        for row in waiting[: max(0, until - len(decided) - len(unsettled))]:
            try:
                unattended.approve(session, row, "asked for on the command line", POLICY)
            except RpcError as error:
                print(f"cockpit: {row['id']}: {error}", file=sys.stderr)
        return text, enough or (not waiting and phase == "idle" and not unsettled)

    try:
        rows = unattended.drive(session, step)
    except unattended.Stuck as stuck:
        print(f"cockpit: {stuck}", file=sys.stderr)
        return False, stuck.rows
    if not enough:
        decided = sum(map(_is_decided, unattended.experiments(rows)))
        print(f"cockpit: only {decided} of {until} experiments could be decided", file=sys.stderr)
    return enough, rows


def _is_decided(row: dict[str, Any]) -> bool:
    verdict = row["verdict"]
    return row["state"] == "failed" or (
        row["state"] in ("judged", "signed", "vetoed", "merged")
        and verdict is not None
        and verdict["verdict"] != "undecided"
    )
