"""What detectors found, in the order in which it matters, and as words: for the command line and the screen alike. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.text import clean
from engine.types import DetectorsRow, FindingRow, Severity, stands

from .listing import table

RANK = {severity.value: place for place, severity in enumerate(Severity)}
COLOURS = {"note": "dim", "warning": "warn", "asks": "warn", "bars a keep": "bad", "stop": "bad", "never kept": "bad"}
MEANS = {
    "note": "worth knowing; changes nothing",
    "warning": "look before you use the result",
    "asks": "the verdict stands; sign-off waits until you have acknowledged this",
    "bars a keep": "it is not solid, whatever its numbers say, unless you acknowledge this with a reason",
    "stop": "the run could not recover and was ended",
    "never kept": "the comparison was not a fair one: nobody can sign this off, propose the idea again without it",
}


IN_THE_CODE = "suspected in the trunk's own code, which every experiment starts from: it bars none of them"


def means(row: FindingRow) -> str:
    """What a finding of this severity comes to."""
    return IN_THE_CODE if row.get("mechanism") else MEANS.get(row["severity"], "")


def can_acknowledge(row: FindingRow) -> bool:
    return "acknowledged" not in row and row["severity"] != Severity.NEVER


def in_order(rows: Iterable[FindingRow]) -> list[FindingRow]:
    """Open ones first, the worst first, the latest first."""
    return sorted(rows, key=lambda row: (not stands(row), -RANK.get(row["severity"], 0), -row["at"], row["id"]))


def alike(row: FindingRow, rows: Iterable[FindingRow], experiment: Mapping[str, str]) -> list[FindingRow]:
    """Those that one acknowledgement can cover: the same rule's, of the same experiment; `row` among them, and first.
    `experiment` is of each shard."""
    of = experiment.get(row["about"], row["about"])
    found = (each for each in rows if experiment.get(each["about"], each["about"]) == of and can_acknowledge(each))
    return [row, *(each for each in found if each["rule"] == row["rule"] and each["id"] != row["id"])]


def before_signing(experiment: str, waits: Iterable[str], rows: Mapping[str, FindingRow]) -> str | None:
    """What is to be done about the findings `waits` of an experiment before it can be signed, in a line; None when nothing."""
    open_ones = [rows[each] for each in waits if each in rows]
    never = next((row for row in open_ones if row["severity"] == Severity.NEVER), None)
    if never is not None:
        return f"{experiment} can never be signed ({never['rule']}): f shows why"
    if not open_ones:
        return None
    rules = list(dict.fromkeys(row["rule"] for row in open_ones))
    more = f" and {len(rules) - 2} more" if len(rules) > 2 else ""
    return f"{experiment} waits for a word on {', '.join(rules[:2])}{more}: f, then i"


def evidence_words(row: FindingRow) -> str:
    """The numbers that the rule compared: "made 72 · declared 60"."""
    found = row.get("evidence", {})
    return " · ".join(f"{name.replace('_', ' ')} {value:.6g}" for name, value in found.items())


def acknowledged_words(row: FindingRow) -> str:
    """Who acknowledged it, and why; empty while nobody has."""
    word = row.get("acknowledged")
    return "" if word is None else f"acknowledged by {word['who'].get('name', '?')}: {word['why']}"


def detectors_words(found: DetectorsRow | None) -> str:
    """How many detectors work in this lab, in a sentence."""
    if found is None:
        return "which detectors work here is known once a run of the trunk has finished"
    active, asleep = len(found["active"]), len(found["asleep"])
    return f"{active} of {active + asleep} detectors are active" + ("" if asleep else "; none sleeps")


def asleep_words(found: DetectorsRow | None) -> list[str]:
    """What would wake the others, the signals that wake most first: "update_ratio would wake not-learning"."""
    wanted: dict[tuple[str, ...], list[str]] = {}
    for each in found["asleep"] if found else []:
        wanted.setdefault(tuple(each["missing"]), []).append(each["detector"])
    ranked = sorted(wanted.items(), key=lambda pair: (len(pair[0]), -len(pair[1])))
    return [f"{' and '.join(missing)} would wake {', '.join(names)}" for missing, names in ranked]


def listed(
    rows: Sequence[Mapping[str, Any]], about: str = "", *, everything: bool = False
) -> tuple[list[dict[str, Any]], DetectorsRow | None]:
    """(findings about an experiment, a shard, or all; each with its `experiment`, and which detectors work), of rows of the
    read model. Notes and what is acknowledged are left out unless `everything`, or the finding itself is asked for."""
    of = {row["id"]: row["experiment"] for row in rows if row["kind"] == "shard"}
    found: list[Any] = [row for row in rows if row["kind"] == "finding"]
    if about:
        found = [row for row in found if about in (row["id"], row["about"], of.get(row["about"]))]
    if not everything:
        shown = [row for row in found if stands(row) and row["severity"] != Severity.NOTE]
        found = shown + [row for row in found if row["id"] == about and row not in shown]
    lab = next((row for row in rows if row["kind"] == "lab"), None)
    known = lab.get("detectors") if lab else None
    return [{**row, "experiment": of.get(row["about"], row["about"])} for row in in_order(found)], known


def as_text(found: Sequence[dict[str, Any]], known: DetectorsRow | None, width: int = 0) -> str:
    """Findings as a table, or a single one whole; below it which detectors work."""
    if len(found) == 1:
        body = _whole(found[0])
    elif found:
        head = ("id", "severity", "about", "rule", "where", "finding")
        body = table(head, [_cells(each) for each in found], width)
    else:
        body = "nothing was found that waits for anybody"
    return "\n".join([body, "", detectors_words(known), *(f"  {each}" for each in asleep_words(known))])


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    word = f"{row['severity']}{', acknowledged' if row.get('acknowledged') else ''}"
    return row["id"], word, row["about"], row["rule"], row.get("place"), row["sentence"]


def _whole(row: Any) -> str:
    lines = [
        f"{row['id']}  {row['severity']}: {means(row)}",
        f"{row['rule']}, {row['about']}{', ' + row['place'] if row.get('place') else ''}",
        row["sentence"],
        *([row["mechanism"]] if row.get("mechanism") else []),
        *([evidence_words(row)] if row.get("evidence") else []),
        *([acknowledged_words(row)] if row.get("acknowledged") else []),
    ]
    return "\n".join(clean(each) for each in lines)
