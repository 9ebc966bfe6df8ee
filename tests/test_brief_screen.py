"""A researcher reads the brief beside the table, asks for one, and sees on the Review screen who says what of a diff."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from cockpit.format import width_of
from engine.rpc import RpcError
from engine.types import BriefRow, ReadingRow
from tests.fakes import T0, ScriptedEngine, lab_in_progress
from tests.messages_server import Turn
from tests.test_app import Desk, sitting
from tests.test_proposing_screen import at_review
from tests.test_reader import FLAGGED, P_APPROVE, P_SOLID, lab_with
from tests.tinylab import TinyLab, rate

Make = Callable[..., TinyLab]
SIZES = pytest.mark.parametrize("size", [(200, 50), (80, 24)], ids=["200x50", "80x24"])


def brief_row(**changes: Any) -> BriefRow:
    row = BriefRow(
        kind="brief", id="b0001", seq=0, state="done", writer="queries", model="", detail="", category="", retry_at=None,
        experiments=["0005", "0004"], upto=9, body="b" * 64, claims=[], dropped=0, who={}, usd=0.0, began=T0, ended=T0,
    )  # fmt: skip
    return cast(BriefRow, {**row, **changes})


def body(*claims: tuple[str, str, list[str]], dropped: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    names = ("hypothesis", "category", "state", "verdict", "rung", "effect", "lo", "hi", "n", "sentence")
    record = {
        "0005": ("Squared ReLU", "architecture", "judged", "solid", "screen", 0.0126, 0.0084, 0.0169, 3, ""),
        "0004": ("A warmer start", "schedule", "judged", "broken", "screen", None, None, None, 0, ""),
    }
    return {
        "writer": "queries",
        "experiments": ["0005", "0004"],
        "claims": [{"section": s, "text": t, "experiments": e, "findings": []} for s, t, e in claims],
        "dropped": [{"text": text, "why": why} for text, why in dropped],
        "record": {id_: dict(zip(names, values, strict=True)) for id_, values in record.items()},
        "findings": {},
    }


def briefed(row: BriefRow, told: dict[str, Any] | None) -> ScriptedEngine:
    engine = lab_in_progress()
    engine.put(row)
    engine.answers["brief"] = {"brief": row, "body": told, "newer": []}
    engine.answers["proposer"] = {
        "proposer": "claude", "unasked": False, "model": "m", "effort": "high", "claude": "claude-opus-5-5", "key": True,
        "left": ["$1.00 of $2.00 left for models today"], "stopped": None, "round": None,
    }  # fmt: skip
    return engine


CLAIMS = (
    ("held", "Squared ReLU in the feed-forward network", ["0005"]),
    ("failed", "A warmer start", ["0004"]),
    ("next", "solid and not signed off: read it again, and sign it into the trunk", ["0005"]),
)


@SIZES
async def test_a_brief_is_announced_opens_on_b_and_closes_on_esc(size: tuple[int, int]) -> None:
    async with sitting(briefed(brief_row(), body(*CLAIMS)), size) as desk:
        await desk.until(lambda: "b reads b0001: what came of" in desk.status)
        assert desk.engine.asked("brief") == [], "nothing is read before it is wanted"
        await desk.press("b")
        await desk.until(lambda: "What held" in desk.text)
        assert "from queries, no model" in desk.text
        assert "0005  solid  +0.0126 [+0.0084, +0.0169]  3 pairs" in desk.text
        assert "0004  broken  0 pairs" in desk.text
        assert "nothing was noticed" in desk.text
        assert ("trunk-1" in desk.text) == (size[0] == 200), "where there is room the table stays beside it"
        assert all(width_of(line) <= size[0] for line in desk.text.split("\n"))
        await desk.press("escape")
        await desk.until(lambda: "What held" not in desk.text)
        assert "trunk-1" in desk.text


@SIZES
async def test_a_long_brief_is_scrolled_by_the_moving_keys(size: tuple[int, int]) -> None:
    many = [("held", f"Claim number {number} stands here. " * 4, ["0005"]) for number in range(30)]
    async with sitting(briefed(brief_row(), body(*many)), size) as desk:
        await desk.press("b")
        await desk.until(lambda: "Claim number 0" in desk.text)
        assert " of " in desk.text
        await desk.press("G")
        await desk.until(lambda: "Claim number 29" in desk.text)
        assert "Claim number 0 " not in desk.text
        await desk.press("g")
        await desk.until(lambda: "Claim number 0 " in desk.text)


async def test_what_was_dropped_and_why_a_model_wrote_nothing_is_on_the_page() -> None:
    told = body(*CLAIMS, dropped=(("held: [0099] great", "it cites 0099, which does not exist"),))
    row = brief_row(state="refusal", model="claude-opus-5-5", detail="Claude declined (cyber): no", dropped=1)
    async with sitting(briefed(row, told), (200, 50)) as desk:
        await desk.press("b")
        await desk.until(lambda: "What held" in desk.text)
        assert "claude-opus-5-5 wrote nothing, refusal: Claude declined (cyber): no" in desk.text
        assert "1 claim was dropped" in desk.text
        assert "it cites 0099, which does not exist" in desk.text


async def test_asking_for_a_brief_takes_two_strokes_and_says_what_is_left() -> None:
    engine = briefed(brief_row(), body(*CLAIMS))
    engine.answers["ask_brief"] = {"brief": {"id": "b0002"}, "body": None, "newer": []}
    async with sitting(engine, (160, 44)) as desk:
        await desk.press("a")
        await desk.until(lambda: desk.asking)
        assert "Ask claude-opus-5-5 for a brief on the last batch?" in desk.text
        assert "$1.00 of $2.00 left" in desk.text
        assert engine.asked("ask_brief") == []
        await desk.press("enter")
        await desk.until(lambda: len(engine.asked("ask_brief")) == 1)
        engine.put(brief_row(id="b0002", state="writing", model="claude-opus-5-5", body=None, ended=None))
        await desk.until(lambda: "b0002: claude-opus-5-5 is being asked" in desk.text)
        await desk.until(lambda: "What held" in desk.text), "the one before can be read meanwhile"
        await desk.press("a")
        assert "b0002 is being written already" in desk.status


@pytest.mark.parametrize(
    ("who", "says"),
    [({"key": False}, "there is no key"), ({"stopped": "$2.00 of $2.00 are spent"}, "$2.00 of $2.00 are spent")],
    ids=["no key", "budget"],
)
async def test_where_nobody_can_be_asked_it_says_why(who: dict[str, Any], says: str) -> None:
    engine = briefed(brief_row(), body(*CLAIMS))
    engine.answers["proposer"] |= who
    async with sitting(engine, (200, 50)) as desk:
        await desk.press("a")
        await desk.until(lambda: says in desk.status)
        assert not desk.asking


async def test_a_brief_that_cannot_be_read_says_so_and_an_evil_one_is_harmless() -> None:
    engine = briefed(brief_row(), None)
    engine.refuse["brief"] = RpcError(22, "its words are gone")
    async with sitting(engine, (160, 44)) as desk:
        await desk.press("b")
        await desk.until(lambda: "its words are gone" in desk.status)
    evil = briefed(brief_row(), body(("held", "\x1b]52;c;aGk=\x07 [bold]", ["0005"])))
    async with sitting(evil, (160, 44)) as desk:
        await desk.press("b")
        await desk.until(lambda: "[bold]" in desk.text)
        assert "\x1b" not in desk.text


# --- the second reader


def reading_row(**changes: Any) -> ReadingRow:
    row = ReadingRow(
        kind="reading", id="v0001", seq=0, proposal="p0011", diff_hash="", reader="model", model="claude-opus-5-5",
        state="done", detail="", category="", retry_at=None, p_approve=None, p_solid=None, sealed="s" * 64, usd=0.1,
        began=T0, ended=T0, opened=None,
        flags=[{"kind": "source", "path": "model.py", "sentence": "stories may pay for code"}],
    )  # fmt: skip
    return cast(ReadingRow, {**row, **changes})


async def at_p0011(desk: Desk, **changes: Any) -> None:
    engine = desk.engine
    hashed = cast(Any, engine.rows["proposal", "p0011"])["diff_hash"]
    engine.put(reading_row(**{"diff_hash": hashed, **changes}))
    await desk.read_proposal("p0011")
    await desk.settle()


@SIZES
async def test_flags_say_who_raised_them(size: tuple[int, int]) -> None:
    async with sitting(size=size) as desk:
        await at_p0011(desk)
        await desk.until(lambda: "source: model.py: stories may pay for code" in desk.text)
        assert "risk, model" in desk.text
        assert size[0] == 80 or "risk, rules changes two things at once" in desk.text.replace("  ", " ")
        assert "predicted" not in desk.text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"state": "reading", "flags": [], "ended": None}, "claude-opus-5-5 is reading it; you need not wait"),
        (
            {"state": "overloaded", "flags": [], "detail": "the API has too much to do"},
            "overloaded: the API has too much",
        ),
        ({"flags": []}, "found nothing to stop at"),
        ({"diff_hash": "0" * 64}, "of an earlier diff: source"),
        ({"p_approve": 0.8, "p_solid": 0.3}, "approved 80%, solid 30%"),
    ],
    ids=["being read", "failed", "nothing found", "earlier diff", "opened"],
)
async def test_how_the_second_reader_stands(changes: dict[str, Any], says: str) -> None:
    async with sitting(size=(200, 50)) as desk:
        await at_p0011(desk, **changes)
        await desk.until(lambda: says in desk.text)
        await desk.press("a")
        await desk.until(lambda: desk.asking), "it stands in nobody's way"


async def test_at_the_terminal_a_diff_is_read_flagged_and_decided_and_then_the_prediction_is_shown(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Turn(FLAGGED, hold=threading.Event())
    async with at_review(lab_with(tiny, rate(2.0)), monkeypatch, held) as (desk, _):
        await desk.open("p0001")
        await desk.until(lambda: "claude-opus-5-5 is reading it" in desk.text)
        held.hold.set()  # type: ignore[union-attr]
        await desk.until(lambda: "gaming: train.py: the loss depends on the rate directly" in desk.text)
        assert "predicted" not in desk.text.replace("nats predicted", "")
        await desk.press("a", "enter")
        await desk.until(lambda: desk.states()["p0001"] == "approved")
        await desk.until(lambda: f"approved {P_APPROVE:.0%}, solid {P_SOLID:.0%}" in desk.text)
