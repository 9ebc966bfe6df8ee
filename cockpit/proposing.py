"""`cockpit propose`: ask a proposer and watch it, see what would go out, or submit a diff of one's own."""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cockpit import owning
from cockpit.attach import EngineDown, Session, attached, lab_here, own_key
from cockpit.commands import Failed, WrongUse, emit
from cockpit.editing import NotEdited
from engine.rpc import RpcError
from engine.text import clean

PIECE = 256 * 1024


def propose(args: argparse.Namespace) -> int:
    """Carry out one `cockpit propose`."""
    root = lab_here(args.lab)
    if args.edit or args.place is not None:
        return _own(args, root)
    with attached(root) as session:
        if args.diff is not None or args.from_branch:
            return _submit(session, args)
        if args.again:
            return _added(args, session.call("again", proposal=args.again))
        if (args.by or session.hello["lab"]["proposer"]) == "claude" or args.show_request:
            hand_over_key(session)
        if args.show_request:
            return _show_request(session, args)
        asked = {"n": args.count, "by": args.by, "note": args.note, "request_id": uuid.uuid4().hex, "wait": False}
        answer = session.call("propose", **asked)
        if "round" not in answer:
            return _at_once(args, answer)
        try:
            row = follow(session, answer["round"]["id"], None if args.json else sys.stdout.write)
        except KeyboardInterrupt:
            with attached(root, start=False) as second:  # the first one is in the middle of an answer
                row = second.call("cancel", round=answer["round"]["id"])["round"]
    return ended(args, row)


def hand_over_key(session: Session) -> None:
    """Give the engine the key of this shell, if there is one; it keeps it in memory."""
    if key := own_key():
        session.call("key", **key)


def follow(session: Session, name: str, show: Any) -> dict[str, Any]:
    """Follow a round to its end, showing what it says; returns its row."""
    after, last = 0, ""
    while True:
        page = session.call("follow", round=name, after=after)
        for said in page["said"]:
            if show is not None:
                last = _show(said, last, show)
        if show is not None:
            sys.stdout.flush()
        after = page["next"]
        if page["ended"]:
            row: dict[str, Any] = page["round"]
            return row


def _show(said: dict[str, Any], last: str, show: Any) -> str:
    kind = said["kind"]
    if kind in ("thinking", "text"):
        head = "" if kind == last else f"\n--- {kind}\n" if last else f"--- {kind}\n"
        show(head + clean(said["text"]))
        return str(kind)
    lines: dict[str, Callable[[], str]] = {
        "afresh": lambda: f"once more in {said['wait_s']:.0f} s: {said['why']}",
        "note": lambda: said["text"],
        "proposal": lambda: f"{said['proposal']} {said['refusal'] or said['state']}: {said['hypothesis']}",
        "used": lambda: _cost(said),
    }
    line = lines.get(kind)
    if line is not None:
        show(clean(f"\n--- {line()}\n"))
    return "" if line is not None else last


def _cost(said: dict[str, Any]) -> str:
    usage = said["usage"]
    price = "no price is known" if said["usd"] is None else f"${said['usd']:.4f}"
    read = f"{usage['input']} tokens in, {usage['cache_read']} from the cache, {usage['cache_write']} into it"
    return f"{read}, {usage['output']} out: {price}"


def _at_once(args: argparse.Namespace, answer: dict[str, Any]) -> int:
    text = f"added {', '.join(answer['added'])}" if answer["added"] else "the proposer has nothing more to propose"
    if answer.get("stopped"):
        text = answer["stopped"]
    return emit(args, answer, clean(text))


def ended(args: argparse.Namespace, row: dict[str, Any]) -> int:
    """Say how a round ended; the exit code."""
    cost = "" if row["usd"] is None else f", ${row['usd']:.4f}"
    text = f"\n{row['id']} {row['state']}: added {', '.join(row['added']) or 'nothing'}{cost}"
    if row["state"] == "done":
        return emit(args, {"added": row["added"], "round": row}, clean(text))
    if args.json:
        print(json.dumps({"error": row["detail"], "added": row["added"], "round": row}, indent=2))
    else:
        print(clean(text))
    print(f"cockpit: {clean(row['state'])}: {clean(row['detail'])}", file=sys.stderr)
    return 1


def _show_request(session: Session, args: argparse.Namespace) -> int:
    found = session.call("request", n=args.count, note=args.note)
    text = ""
    while len(text) < found["size"]:
        piece = session.call("body", hash=found["hash"], offset=len(text), length=PIECE)["text"]
        if not piece:
            raise Failed("the request cannot be read back; `cockpit verify` may say why")
        text += piece
    body = json.loads(text)
    return emit(args, body, clean(_request_text(body)))


def _request_text(body: dict[str, Any]) -> str:
    parts = [f"model {body['model']}, effort {body['output_config']['effort']}, at most {body['max_tokens']} tokens"]
    parts += [f"=== system\n{block['text']}" for block in body["system"]]
    for message in body["messages"]:
        parts += [f"=== {message['role']}\n{block['text']}" for block in message["content"]]
    return "\n\n".join(parts)


def _submit(session: Session, args: argparse.Namespace) -> int:
    diff = _diff_text(args.diff) if args.diff is not None else ""
    told = {
        "hypothesis": args.hypothesis or _subject(diff),
        "category": args.category,
        "mechanism": args.mechanism,
        "prediction": args.prediction,
        "predicted_effect": args.effect,
        "claims": args.claims,
    }
    if diff and not told["hypothesis"]:
        raise WrongUse("say what the diff is to show: --hypothesis 'one sentence that can be wrong'")
    return _added(args, session.call("submit", diff=diff, branch=args.from_branch or "", **told))


def _own(args: argparse.Namespace, root: Path) -> int:
    """`--edit` and `--in`: a scratch copy of the trunk's files, changed by hand. An editor may be open for hours, so no
    connection is held meanwhile."""
    if args.diff is not None or args.from_branch or args.again or args.show_request or args.by:
        raise WrongUse("--in and --edit write a proposal of your own: not with --diff, --from-branch, --again or --by")
    try:
        tree = owning.opened(args.place, root) if args.place is not None else None
        if tree is None:
            with attached(root) as session:
                copy = owning.TrunkCopy()
                while copy.wanted is not None:
                    copy.take(session.call("tree", **copy.wanted))
            tree = owning.make(copy, root, args.place, args.hypothesis, args.category)
            if not args.edit:
                return emit(args, {"dir": str(tree.path), "left_out": copy.left_out}, _laid_out(tree, copy))
        if args.edit:
            tree.edit()
        told = tree.proposal()
    except NotEdited as error:
        raise Failed(str(error)) from None
    try:
        with attached(root) as session:
            answer = session.call("submit", **told)
    except (RpcError, EngineDown) as error:
        raise Failed(f"{error}\n{tree.resume}") from None
    if answer["refusal"]:
        raise Failed(
            f"{answer['proposal']} refused ({answer['refusal']}): {clean(answer['detail'] or '')}\n{tree.resume}"
        )
    tree.drop()
    return _added(args, answer)


def _laid_out(tree: owning.ScratchTree, copy: owning.TrunkCopy) -> str:
    missing = f"\nleft out, as too large or no text: {', '.join(copy.left_out)}" if copy.left_out else ""
    return (
        f"{len(copy.files)} files of the trunk lie in {tree.path}: change them, fill in {owning.CLAIM}, then hand them in:\n"
        f"cockpit propose --in {tree.path}{clean(missing)}"
    )


def _diff_text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(f"{path} cannot be read: {error}") from None


def _subject(diff: str) -> str:
    """The subject of a patch as `git format-patch` writes it."""
    found = re.search(r"^Subject: (?:\[PATCH[^\]]*\] )?(.*(?:\n .*)*)", diff, re.M)
    return " ".join(found[1].split()) if found and found.start() < diff.find("\ndiff --git") else ""


def _added(args: argparse.Namespace, answer: dict[str, Any]) -> int:
    if answer["refusal"]:
        if args.json:
            print(json.dumps(answer, indent=2))
        print(
            f"cockpit: {answer['proposal']} refused ({answer['refusal']}): {clean(answer['detail'] or '')}",
            file=sys.stderr,
        )
        return 1
    return emit(args, answer, f"added {answer['proposal']}: it waits for review")
