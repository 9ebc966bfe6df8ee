"""How a round of asking went, in a sentence that says what to do; and whom the lab asks. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from engine.types import Failure, RoundRow

from . import format as f

ADVICE: dict[Failure, str] = {
    Failure.REFUSAL: "it is never asked again in other words: ask for something else, or go on by hand",
    Failure.TRUNCATED: "raise proposer.max_tokens in cockpit.toml, or ask for fewer",
    Failure.MALFORMED: "the others are queued: read why it was refused, edit it (e), or ask again (p)",
    Failure.OVERLOADED: "nothing is wrong here: ask again in some minutes (p)",
    Failure.RATE_LIMITED: "ask again after that (p)",
    Failure.SPEND_LIMIT: "it is in the account of your key, not in this lab; what waits can be decided meanwhile",
    Failure.NO_CREDENTIALS: "leave, export ANTHROPIC_API_KEY=… in this shell, and open the cockpit again",
    Failure.NO_NETWORK: "mend the line of the machine that the engine runs on (or ANTHROPIC_BASE_URL), then ask again (p)",
    Failure.CUT_OFF: "ask again (p)",
    Failure.CANCELLED: "ask again when you like (p)",
    Failure.REJECTED: "mend what it says, most often under [proposer] in cockpit.toml",
    Failure.NOT_INSTALLED: "then ask again (p)",
    Failure.BUDGET: "raise it under [budget] in cockpit.toml, or go on with what waits",
    Failure.LOST: "what was queued before stays: ask again (p)",
}
"""What to do about each failure."""

KINDS = {
    "recording": "It replays recorded proposals: no model is asked, and nothing is sent.",
    "sweep": "It turns constants of the editable files: no model is asked, and nothing is sent.",
}


def outcome(row: RoundRow) -> tuple[str, str]:
    """How an ended round went, and the name of the colour to say it in."""
    usd = "" if not row["usd"] else f", ${row['usd']:.4f}"
    brought = f"{f.plural(len(row['added']), 'proposal')}{usd}"
    if row["state"] == "done":
        return f"{row['id']} done: {brought}", "good"
    try:
        advice = ADVICE[Failure(row["state"])]
    except ValueError:  # of a newer engine
        advice = "see docs/proposing.md"
    detail = row["detail"].rstrip(". ") or row["state"]
    at = row["retry_at"]
    until = f" (until {time.strftime('%H:%M:%S', time.localtime(at))})" if at and "go on at" not in detail else ""
    name = "warn" if row["state"] == Failure.CANCELLED else "bad"
    return f"{row['id']} {row['state']}: {detail}{until}; {advice} · {brought}", name


def cannot_ask(who: Mapping[str, Any]) -> str | None:
    """Why the lab's proposer cannot be asked now, from the engine's `proposer`; None when it can."""
    if who["round"]:
        return f"{who['round']} is asking already: x stops it"
    if who["stopped"]:
        return f"{who['stopped']}; {ADVICE[Failure.BUDGET]}"
    if who["proposer"] == "none":
        return 'proposer.kind is "none": proposals come from people (`cockpit propose --diff FILE`)'
    if not who["unasked"] and not who["key"]:
        return f"the proposer is {who['proposer']}, and there is no key: {ADVICE[Failure.NO_CREDENTIALS]}"
    return None


def who_is_asked(who: Mapping[str, Any]) -> list[str]:
    """What the strip says before the lab's proposer is asked: who, with which model, and what the budget has left."""
    if who["unasked"]:
        lines = [KINDS.get(who["proposer"], "No model is asked.")]
    else:
        lines = [f"{who['model'] or who['proposer']}, effort {who['effort'] or 'its own'}, with the key of your shell."]
    return [*lines, f"Budget: {'; '.join(who['left'])}."]


def in_use(who: Mapping[str, Any]) -> str:
    """The proposer in a few words, for the head of the queue."""
    if who["unasked"] or who["key"]:
        return f"by {who['proposer']}"
    return f"{who['proposer']} has no key"
