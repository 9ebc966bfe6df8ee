"""What a person can do with a proposal besides yes and no, without a terminal: revise, edit, defer, undo."""

from __future__ import annotations

import argparse
import sys
import uuid
from typing import Any

from cockpit.attach import Session, attached, lab_here
from cockpit.commands import Failed, emit
from cockpit.editing import NotEdited, run_editor, scratch
from cockpit.proposing import ended, follow, hand_over_key
from engine.rpc import RpcError
from engine.text import clean


def decide(session: Session, proposal: str, diff_hash: str | None, action: str, why: str) -> dict[str, Any]:
    """Send one decision on a diff."""
    told = {"proposal": proposal, "diff_hash": diff_hash, "action": action, "why": why}
    return dict(session.call("decide", **told, request_id=uuid.uuid4().hex))


def defer(args: argparse.Namespace) -> int:
    """`cockpit defer ID`: to the end of the queue."""
    with attached(lab_here(args.lab)) as session:
        shown = session.call("diff", proposal=args.id)["hash"]
        answer = decide(session, args.id, shown, "defer", args.why)
    if not answer["first"]:
        emit(args, answer, f"{args.id} is {answer['state']} already: nothing was changed")
        return 1
    return emit(args, answer, f"{args.id} goes to the end of the queue")


def undo(args: argparse.Namespace) -> int:
    """`cockpit undo ID`: take back a decline, or an approval of which nothing has run."""
    with attached(lab_here(args.lab)) as session:
        answer = decide(session, args.id, session.call("diff", proposal=args.id)["hash"], "undo", args.why)
    return emit(args, answer, f"{args.id} waits again")


def revise(args: argparse.Namespace) -> int:
    """`cockpit revise ID --why …`: yes, but. Follows the round that writes what takes its place."""
    root = lab_here(args.lab)
    with attached(root) as session:
        hand_over_key(session)
        shown = args.diff or session.call("diff", proposal=args.id)["hash"]
        told = {"proposal": args.id, "diff_hash": shown, "why": args.why, "request_id": uuid.uuid4().hex}
        name = session.call("revise", **told, wait=False)["round"]["id"]
        try:
            row = follow(session, name, None if args.json else sys.stdout.write)
        except KeyboardInterrupt:
            with attached(root, start=False) as second:  # the first one is in the middle of an answer
                row = second.call("cancel", round=name)["round"]
    return ended(args, row)


def edit(args: argparse.Namespace) -> int:
    """`cockpit edit ID`: the proposal in $EDITOR; what is saved takes its place."""
    with attached(lab_here(args.lab)) as session:
        shown = session.call("diff", proposal=args.id)
        file = scratch(args.id, shown["hash"], shown["source"])
    try:
        text = run_editor(file)
    except NotEdited as error:
        raise Failed(str(error)) from None
    try:
        with attached(
            lab_here(args.lab)
        ) as session:  # an editor may be open for hours: the engine has let go of the first
            answer = session.call("edited", proposal=args.id, diff_hash=shown["hash"], text=text)
    except RpcError as error:
        raise Failed(f"{error.message}\nnothing was queued; your text is in {file.path}") from None
    if answer["refusal"]:
        raise Failed(f"{answer['proposal']} refused: {clean(answer['detail'])}\nyour text is in {file.path}")
    file.drop()
    does = "repairs" if answer.get("repairs") == args.id else "takes the place of"
    return emit(args, answer, f"{answer['proposal']} {does} {args.id}: it waits for review")
