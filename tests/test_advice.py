"""Every way that asking can go wrong is one plain sentence that says what to do."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cockpit.advice import ADVICE, cannot_ask, outcome, who_is_asked
from engine.types import Failure, RoundRow
from tests.fakes import T0

WHO = {
    "proposer": "claude", "unasked": False, "model": "claude-opus-5-5", "effort": "high", "key": True,
    "left": ["$3.00 of $5.00 left for models today"], "stopped": None, "round": None,
}  # fmt: skip


def ended(state: str, **changes: Any) -> RoundRow:
    row = {"kind": "round", "id": "r0001", "seq": 1, "proposer": "claude", "state": state, "detail": "it went wrong."}
    row |= {"category": "", "retry_at": None, "wanted": 3, "added": ["p0001"], "note": "", "who": {}, "usd": 0.0312}
    return cast(RoundRow, {**row, "began": T0, "ended": T0 + 9, **changes})


@pytest.mark.parametrize("failure", list(Failure))
def test_each_failure_has_its_sentence(failure: Failure) -> None:
    text, colour = outcome(ended(failure))
    assert text == f"r0001 {failure}: it went wrong; {ADVICE[failure]} · 1 proposal, $0.0312"
    assert colour in ("bad", "warn")
    assert "\n" not in text


def test_a_limit_says_when_it_passes_and_a_newer_engine_is_not_a_riddle() -> None:
    assert "(until " in outcome(ended(Failure.RATE_LIMITED, retry_at=T0))[0]
    assert outcome(ended("something new"))[0].startswith("r0001 something new: it went wrong; see docs")
    assert outcome(ended("done", usd=None)) == ("r0001 done: 1 proposal", "good")


def test_who_is_asked_and_why_nobody_can_be() -> None:
    assert cannot_ask(WHO) is None
    assert who_is_asked(WHO) == [
        "claude-opus-5-5, effort high, with the key of your shell.",
        "Budget: $3.00 of $5.00 left for models today.",
    ]
    for change, says in (
        ({"key": False}, "export ANTHROPIC_API_KEY"),
        ({"stopped": "the budget of the day is reached"}, "raise it under [budget]"),
        ({"round": "r0007"}, "r0007 is asking already"),
        ({"proposer": "none", "unasked": True}, "come from people"),
    ):
        assert says in str(cannot_ask({**WHO, **change}))
    assert cannot_ask({**WHO, "proposer": "sweep", "unasked": True, "key": False}) is None
