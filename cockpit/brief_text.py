"""A brief as lines for a person, the same on the screen and on the command line: claims, with the record's numbers. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .format import plural

TITLES: Mapping[str, str] = {
    "held": "What held",
    "failed": "What did not",
    "promising": "What looks promising",
    "next": "What to try next",
    "worry": "What worries",
}
ABSENT = {
    "held": "nothing in this batch",
    "promising": "nothing stands out",
    "worry": "nothing was noticed",
}
"""What is said of a section without claims; the others are left out then."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One paragraph: what it is (head, claim, record, finding, none, note) and its words."""

    kind: str
    text: str


def writer_of(brief: Mapping[str, Any]) -> str:
    """Who filled a brief, in a few words."""
    return f"by {brief['model']}" if brief["writer"] == "model" else "from queries, no model"


def headline(brief: Mapping[str, Any]) -> str:
    """Its id, who wrote it, about how much, when, and what it cost."""
    cost = f", ${brief['usd']:.4f}" if brief["usd"] else ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(brief["began"]))
    about = plural(len(brief["experiments"]), "experiment")
    return f"{brief['id']} · {writer_of(brief)} · on {about} · {when}{cost}"


def pieces(brief: Mapping[str, Any], body: Mapping[str, Any] | None, newer: int = 0) -> Iterator[Piece]:
    """The brief from top to bottom."""
    if brief["state"] == "writing":
        yield Piece("note", f"{brief['model'] or 'the history'} is being asked …")
    elif brief["state"] != "done":
        at = brief["retry_at"]
        until = f" (until {time.strftime('%H:%M:%S', time.localtime(at))})" if at else ""
        yield Piece("note", f"{brief['model']} wrote nothing, {brief['state']}: {brief['detail']}{until}".strip())
    if newer:
        yield Piece("note", f"{plural(newer, 'experiment')} judged since")
    if body is None:
        return
    for section, title in TITLES.items():
        claims = [each for each in body["claims"] if each["section"] == section]
        if not claims and section not in ABSENT:
            continue
        yield Piece("head", title)
        if not claims:
            yield Piece("none", ABSENT[section])
        for claim in claims:
            yield Piece("claim", claim["text"])
            for name in claim["findings"]:
                found = body["findings"].get(name)
                if found is not None and found["sentence"] != claim["text"]:
                    yield Piece("finding", f"{name} {found['severity']}: {found['sentence']}")
            for name in claim["experiments"]:
                yield Piece("record", record_line(name, body["record"].get(name)))
    if body["dropped"]:
        yield Piece("head", "Left out")
        count = len(body["dropped"])
        yield Piece("note", f"{plural(count, 'claim')} {'was' if count == 1 else 'were'} dropped:")
        for each in body["dropped"]:
            yield Piece("none", f"{each['why']}: {each['text']}")


def record_line(name: str, found: Mapping[str, Any] | None) -> str:
    """An experiment's own numbers, from the record and not from whoever wrote the brief."""
    if found is None:
        return name
    parts = [name, found["verdict"] or found["state"]]
    if found["effect"] is not None:
        interval = "" if found["lo"] is None else f" [{found['lo']:+.4f}, {found['hi']:+.4f}]"
        parts.append(f"{found['effect']:+.4f}{interval}")
    parts.append(plural(found["n"] or 0, "pair"))
    return f"{'  '.join(parts)}  {found['hypothesis']}"
