"""Commands that need no engine: making a lab, checking the machine, and verifying a lab whose engine is down."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from cockpit.attach import state_dir
from cockpit.commands import Failed, emit
from engine.paths import find_lab
from engine.text import clean


def verify(root: Path) -> list[dict[str, Any]]:
    """What `cockpit verify` can check without an engine: the ledger, its decisions, shards, bodies and branches."""
    from engine.upkeep import verify_offline

    return verify_offline(root, state_dir(root))


def init(args: argparse.Namespace) -> int:
    """`cockpit init`: write a commented cockpit.toml for the repository at hand."""
    from engine import init as making

    root = args.lab.resolve()
    try:
        answers = {} if args.yes or not sys.stdin.isatty() else _answers(making.questions(root))
        plan = making.plan(root, answers)
        making.write(plan)
    except making.InitError as error:
        raise Failed(str(error)) from None
    value = {"root": str(plan.root), "findings": list(plan.findings), "inbox": [name for name, _ in plan.inbox]}
    lines = [f"wrote {plan.root / 'cockpit.toml'}", *(f"  {each}" for each in plan.findings)]
    if plan.inbox:
        lines.append(f"  {len(plan.inbox)} proposal waits for your review: `cockpit` opens it")
    return emit(args, value, clean("\n".join(lines)))


def _answers(questions: Any) -> dict[str, str]:
    """Ask what could not be detected; an empty answer takes the default."""
    answers = {}
    for question in questions:
        said = input(f"{question.text} [{question.default}] ").strip()
        if said:
            answers[question.key] = said
    return answers


def doctor(args: argparse.Namespace) -> int:
    """`cockpit doctor`: exit code 1 when something fails."""
    from engine.doctor import checks

    found = checks(find_lab(args.lab), os.environ)
    width = max(len(each.name) for each in found)
    lines = []
    for each in found:
        lines.append(f"{each.state:4} {each.name:{width}}  {each.detail}")
        if each.fix and each.state != "ok":
            lines.append(f"     {'':{width}}  {each.fix}")
    failed = any(each.state == "fail" for each in found)
    names = ("name", "state", "detail", "fix")
    value = {"ok": not failed, "checks": [{name: getattr(each, name) for name in names} for each in found]}
    emit(args, value, clean("\n".join(lines)))
    return 1 if failed else 0
