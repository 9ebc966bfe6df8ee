"""What is said of past merges: how the last audit of them came out, and how far the next one is off. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def audit_words(standing: Mapping[str, Any]) -> list[str]:
    """Sentences on audits of past merges, as `engine.past_merges.standing` has them; none where nothing was ever to be said."""
    last, every, since = standing["last"], standing["every"], standing["since"]
    words = []
    if last is not None and last["state"] == "running":
        words.append(f"{last['id']} runs: {last['then']} beside {last['now']}, {len(last['claims'])} merges apart")
    elif last is not None:
        words.append(f"{last['id']} {last['state']}: {last['sentence']}")
    if every and since and not (last is not None and last["state"] == "running"):
        words.append(f"{since} of {every} merges until the next one")
    return words
