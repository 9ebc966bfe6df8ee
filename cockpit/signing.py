"""`cockpit shortlist` and `cockpit sign`: what deserves a signature, and giving one."""

from __future__ import annotations

import argparse
import sys
import uuid
from typing import Any

from engine.text import clean

from . import listing
from .attach import Session, attached, lab_here
from .commands import WrongUse, _ask, _find, _width, emit
from .format import duration


def shortlist(args: argparse.Namespace) -> int:
    """Solid experiments on the present trunk, best first."""
    with attached(lab_here(args.lab)) as session:
        answer = session.call("shortlist")
    rows = [
        (
            each["place"],
            each["experiment"],
            each["state"],
            listing.signed(each["shrunk"]),
            listing.signed(each["effect"]),
            duration(each["seconds"]),
            listing.signed(each["headline"]),
            listing.interval(each["interval"]),
            len(each["findings"]),
            each["hypothesis"],
        )
        for each in answer["experiments"]
    ]
    head = ("#", "id", "state", "shrunk", "effect", "shards", "headline", "interval", "findings", "hypothesis")
    empty = "nothing is solid on the present trunk yet"
    return emit(args, answer, listing.table(head, rows, _width()) if rows else empty)


def sign(args: argparse.Namespace) -> int:
    """Sign one experiment off, or several together, after saying what that runs, costs and starts again."""
    if args.diff and len(args.diff) != len(args.ids):
        raise WrongUse(f"{len(args.ids)} experiments and {len(args.diff)} --diff: name one for each, in the same order")
    if len(args.ids) > 1:
        return _together(args)
    (name,) = args.ids
    with attached(lab_here(args.lab)) as session:
        row = _experiment(session.rows()[0], name)
        if not args.diff:
            price = session.call("price", experiment=name)
            _say_first(row, price)
            _say_full(price, args)
        seen = args.diff[0] if args.diff else _ask(session, args, row["proposal"], "Sign it off?")
        if seen is None:
            print("not signed", file=sys.stderr)
            return 1
        told = {"why": args.why, "request_id": uuid.uuid4().hex, **_full(args)}
        answer = session.call("sign", experiment=name, diff_hash=seen, **told)
    return emit(args, answer, _said(name, answer))


def _together(args: argparse.Namespace) -> int:
    """Sign several off as one: each diff is shown, and one answer is for all of them."""
    with attached(lab_here(args.lab)) as session:
        known = session.rows()[0]
        rows = [_experiment(known, name) for name in args.ids]
        price = session.call("bundle_price", experiments=args.ids)
        if not args.diff:
            for row in rows:
                print(clean(f"{row['id']}: {row['verdict']['sentence']}"), file=sys.stderr)
            print(clean(f"Signing them {price['sentence']}."), file=sys.stderr)
            _say_full(price, args)
        seen = args.diff or _ask_all(session, args, [row["proposal"] for row in rows])
        if seen is None:
            print("not signed", file=sys.stderr)
            return 1
        told = {"experiments": args.ids, "diff_hashes": seen, "why": args.why, "request_id": uuid.uuid4().hex}
        told |= _full(args)
        answer = session.call("bundle", **told)
    answer |= {name: price[name] for name in ("parts", "shrunk", "promised")}
    seeds = ", ".join(map(str, answer["seeds"]))
    text = (
        f"signed {', '.join(args.ids)} as {answer['experiment']}, of which {price['promised']:+.4g} is expected: "
        f"fresh pairs run on seeds {seeds}; it is merged by itself if they bear it out"
    )
    return emit(args, answer, text)


def _ask_all(session: Session, args: argparse.Namespace, proposals: list[str]) -> list[str] | None:
    """Show every diff and ask once; the hashes of what was shown, or None for a no."""
    shown = [session.call("diff", proposal=proposal) for proposal in proposals]
    if args.json or not sys.stdin.isatty():
        words = " ".join(f"--diff {each['hash']}" for each in shown)
        raise WrongUse(f"name the diffs that you decide on: {words}")
    for proposal, each in zip(proposals, shown, strict=True):
        print(f"--- {proposal}\n{listing.since_approval(each)}{each['diff']}")
        if not each["whole"]:
            raise WrongUse(f"the diff of {proposal} is too long to be shown here: read it on the Review screen")
    try:
        yes = input("Sign them off together? [yes/no] ").strip().lower() == "yes"
    except EOFError:
        return None
    return [each["hash"] for each in shown] if yes else None


def _experiment(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    row = _find(rows, name)
    if row["kind"] != "experiment" or not (row.get("proposal") or row.get("bundle")):
        raise WrongUse(f"{name} is no experiment: only experiments can be signed off")
    if row.get("bundle"):
        raise WrongUse(
            f"{name} is a bundle: sign its parts together, `cockpit sign {' '.join(row['bundle']['parts'])}`"
        )
    if not row["verdict"]:
        raise WrongUse(f"{name} is {row['state']}: it has no verdict to sign on")
    return row


def _say_first(row: dict[str, Any], price: dict[str, Any]) -> None:
    verdict = row["verdict"]
    said = [verdict["sentence"]] if verdict else []
    for each in [*said, f"Signing it {price['sentence']}."]:
        print(clean(each), file=sys.stderr)


def _say_full(price: dict[str, Any], args: argparse.Namespace) -> None:
    """What a full-scale run would cost, and whether it was asked for."""
    if price.get("full"):
        asked = "you asked for it" if args.full else "--full asks for it"
        print(clean(f"If it is merged, {price['full']['sentence']} ({asked})."), file=sys.stderr)


def _full(args: argparse.Namespace) -> dict[str, bool]:
    return {"full": True} if args.full else {}


def _said(name: str, answer: dict[str, Any]) -> str:
    if answer["state"] == "confirming":
        seeds = ", ".join(map(str, answer["seeds"]))
        return f"signed {name}: fresh pairs run on seeds {seeds}; it is merged by itself if they bear it out"
    return f"signed {name}: it is in the trunk now"
