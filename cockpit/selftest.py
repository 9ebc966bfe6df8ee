"""`cockpit selftest --aa N`: changes that change nothing, through the whole machine, to see whether it keeps any of them.

Each is a string that stands as a statement of its own: running it does nothing, while the machine sees a change that it has not
seen before (a comment it refuses as no change, and the second of two as a duplicate). They are proposed, approved, branched,
run, refereed and judged in a copy of the lab.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cockpit import aa, unattended
from cockpit.attach import Session, attached, lab_here
from cockpit.commands import Failed, WrongUse, emit
from cockpit.scratch import scratch
from engine.lab import Lab, LabError, load
from engine.text import clean

MARKER, POLICY = "selftest.json", "selftest --aa"
Say = Callable[[str], None]


def selftest(args: argparse.Namespace) -> int:
    """Run the test. Exit code 0 when the machine did as it should, 1 when not. Raises WrongUse and Failed."""
    if args.aa is None:
        raise WrongUse("say what is to be tested: `cockpit selftest --aa 10` runs ten changes that change nothing")
    root, began = lab_here(args.lab), time.monotonic()
    try:
        lab = load(root)
    except LabError as error:
        raise Failed(str(error)) from None
    with scratch(lab, MARKER, keep=args.keep) as copy:
        path = target(copy, lab)
        say("the lab is copied; its engine starts")
        with attached(copy) as session:
            rows = run(session, (copy / path).read_bytes().decode(), path, args.aa, say)
    found = aa.result(rows, args.aa)
    value = {**found, "seconds": round(time.monotonic() - began, 1), "kept_at": str(copy) if args.keep else None}
    emit(args, value, clean(aa.as_text(value)))
    return 1 if found["problems"] else 0


def say(text: str) -> None:
    """A line of progress, on standard error."""
    print(clean(text), file=sys.stderr, flush=True)


def target(root: Path, lab: Lab) -> str:
    """The editable Python file that takes the no-ops: the one that the command runs, if it can be. Raises Failed."""
    paths = sorted(str(each.relative_to(root).as_posix()) for each in root.rglob("*.py") if ".git" not in each.parts)
    for path in sorted(paths, key=lambda each: each not in lab.command):
        try:
            if lab.is_editable(path) and not (root / path).is_symlink():
                no_op((root / path).read_bytes().decode(), path, 0)
                return path
        except (ValueError, SyntaxError, OSError, RecursionError):
            continue
    raise Failed(
        "a self-test adds a line to an editable Python file, and this lab's [lab] editable names none that it could"
    )


def no_op(text: str, path: str, number: int) -> str:
    """The unified diff that adds the string "no-op NUMBER" before the last statement of a file. Pure.

    Raises ValueError or SyntaxError for a file in which that would not be a change without effect.
    """
    before = _parse(text)
    if len(before.body) < 2:
        raise ValueError("a file of one statement: the string would become its docstring")
    final = before.body[-1]
    first = min([final.lineno, *(each.lineno for each in getattr(final, "decorator_list", []))])
    old = [each for each in re.split(r"(?<=\n)", text) if each]
    added = f'"no-op {number}"' + ("\r\n" if "\r\n" in text else "\n")
    new = [*old[: first - 1], added, *old[first - 1 :]]
    after = _parse("".join(new))
    extra = after.body.pop(-2)
    if ast.dump(before) != ast.dump(after) or not isinstance(extra, ast.Expr):
        raise ValueError("the string would not stand alone")
    diff = difflib.unified_diff(old, new, f"a/{path}", f"b/{path}")
    return "".join(each if each.endswith("\n") else each + "\n\\ No newline at end of file\n" for each in diff)


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile(text, "no-op", "exec", dont_inherit=True)  # refuses what parses and is no program
        return ast.parse(text)


def run(session: Session, text: str, path: str, count: int, say: Say) -> list[dict[str, Any]]:
    """Propose and approve `count` no-ops and follow them to their verdicts; the rows of the read model then. Raises Failed."""
    for number in range(1, count + 1):
        answer = session.call(
            "submit",
            diff=no_op(text, path, number),
            hypothesis=f"No-op {number} changes nothing",
            category="optimizer",
            mechanism="it changes nothing",
            prediction="nothing changes",
            request_id=uuid.uuid4().hex,
        )
        if answer["refusal"]:
            raise Failed(f"a no-op was refused ({answer['refusal']}): {answer['detail']}")

    def step(rows: list[dict[str, Any]], phase: str) -> tuple[str, bool]:
        for row in unattended.waiting(rows):
            unattended.approve(session, row, "a self-test", POLICY)
        done = len(aa.decided(rows))
        return f"{done} of {count} no-ops decided, {unattended.shards_ended(rows)} shards ended; {phase}", done >= count

    try:
        return unattended.drive(session, step, say)
    except unattended.Stuck as stuck:
        raise Failed(f"the self-test cannot go on: {stuck}") from None
