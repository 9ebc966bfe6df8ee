"""The cockpit on a scripted engine whose round of asking never ends and always has more to say; for a pseudo-terminal.

`python -m tests.streaming` opens it. Each question for more brings 4,000 characters; `s` as an argument leaves the round out.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

from cockpit.app import open_cockpit
from engine.types import RoundRow
from tests.fakes import T0, ScriptedEngine, lab_in_progress

CHUNK = 4000


class Streaming(ScriptedEngine):
    """Says chunk after chunk, each with its number."""

    chunks = 0

    def _follow(self, round: str, after: int, wait_s: float) -> dict[str, Any]:
        self.chunks += 1
        words = f"chunk {self.chunks} weighs what was measured against what was believed; "
        text = (words * (CHUNK // len(words) + 1))[:CHUNK] + "\n"
        return {
            "said": [{"kind": "thinking", "text": text}],
            "next": after + 1,
            "ended": False,
            "usd": self.chunks / 100,
        }


def engine(*, asking: bool = True) -> ScriptedEngine:
    story = lab_in_progress()
    streaming = Streaming()
    streaming.__dict__.update(story.__dict__)
    if asking:
        row = RoundRow(
            kind="round", id="r0001", seq=0, proposer="claude", state="asking", detail="", category="", retry_at=None,
            wanted=3, added=[], note="", who={}, usd=0.0, began=T0, ended=None,
        )  # fmt: skip
        streaming.put(cast(Any, row))
    return streaming


if __name__ == "__main__":
    asyncio.run(open_cockpit(engine(asking=sys.argv[1:] != ["s"])))
