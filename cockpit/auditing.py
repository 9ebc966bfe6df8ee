"""`cockpit audit`: what may be wrong with the trunk's code though it raises no error, where, and what its runs show."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from cockpit.attach import attached, lab_here, own_key
from cockpit.commands import emit
from cockpit.findings import in_order
from engine.text import clean


def audit(args: argparse.Namespace) -> int:
    """Audit the trunk now. Exit code 0 whatever is found: a suspicion is no failure."""
    with attached(lab_here(args.lab)) as session:
        if not args.static and (key := own_key()):
            session.call("key", **key)
        answer = session.call("audit", model=not args.static)
    return emit(args, answer, as_text(answer))


def as_text(answer: Mapping[str, Any]) -> str:
    """What was read, each suspicion with its place and how it would harm, what the detectors say of the trunk's own runs."""
    suspected = answer["suspected"]
    lines = [f"{answer['arm']} at {answer['commit'][:10]}: {_count(answer['read'], 'file')} read, {_found(answer)}"]
    lines += [f"not read: {path}, {why}" for path, why in answer["left_out"].items()]
    for each in suspected:
        state = "new" if each["new"] else "acknowledged" if each.get("acknowledged") else "known"
        lines += [
            "",
            f"{each['place']}  {each['severity']}  {each['rule']}  ({each['id']}, {state})",
            f"    {each['sentence']}",
            f"    {each['mechanism']}",
            *([f"    mended by {each['proposal']}, which waits for your review"] if each.get("proposal") else []),
        ]
    lines += ["", _asked(answer["model"])] if answer["model"] else []
    found = in_order(answer["found"])
    lines += ["", f"{_count(answer['runs'], 'run')} of the trunk looked at, {_count(found, 'finding')} there"]
    lines += [f"    {row['id']}  {row['severity']}  {row['about']}  {row['rule']}: {row['sentence']}" for row in found]
    if suspected or found:
        lines += ["", "`cockpit findings` lists them; `cockpit ack ID --why REASON` puts one aside"]
    return "\n".join(clean(each) for each in lines)


def _found(answer: Mapping[str, Any]) -> str:
    """How many things are suspected, and whether that is news."""
    suspected, new = answer["suspected"], answer["new"]
    if not suspected:
        return "nothing is suspected"
    return f"{_count(suspected, 'suspicion')}, " + (f"{new} of them new" if new else "nothing new since the last audit")


def _asked(told: Mapping[str, Any]) -> str:
    """How asking Claude went."""
    if told["state"] != "done":
        return f"Claude: {told['state']}, {told['detail']}"
    dropped = f", {told['dropped']} dropped that quote no line of the code" if told["dropped"] else ""
    return f"Claude read it for ${told['usd']:.4f}{dropped}"


def _count(things: Any, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
