"""Every way that asking can fail, injected into a real engine through the real SDK: it ends in its own state, nothing is lost.

What llmock can break it breaks (limits, overload, dropped, stalled, truncated and damaged streams); what it has no words for
comes from the API in miniature. Either way the engine is told of it by the address that it is given with its key.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from llmock.scenarios import Behavior, Fail, Match, Reply, StreamFault
from llmock.testing import LLMockServer
from llmock.verdict import judge

from cockpit.advice import ADVICE, outcome
from cockpit.attach import Session
from engine.types import Failure
from tests.messages_server import Turn, serving
from tests.test_asking import KEY, WIDE, Make, answer, asking, heard, on_claude, propose
from tests.tinylab import NO_MATCH, TinyLab, rate, rows, wait_for

POST = Match(path="/anthropic/v1/messages")
WHOLE = answer(rate(2.0), WIDE)
INTO = 25
"""Chunks of a stream before it breaks: a good part of the first proposal has come by then."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One engine for all of these stories; whatever went wrong in one of them, the next is asked as if nothing had."""
    lab = on_claude(TinyLab(tmp_path_factory.mktemp("faults") / "lab", [], extra='timeout = "45s"\n'))
    try:
        with lab.session() as session:
            wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
            yield session
            assert all(check["ok"] for check in session.call("verify")["checks"])
    finally:
        lab.end()


@pytest.fixture(scope="module")
def mock() -> Iterator[LLMockServer]:
    with LLMockServer() as server:
        yield server


def posts(mock: LLMockServer) -> list[Any]:
    return [each for each in mock.state.journal.records() if each.path == POST.path]


@dataclass(frozen=True)
class Asked:
    """One round: how it ended, its calls, and what it put into the queue."""

    row: dict[str, Any]
    calls: list[dict[str, Any]]
    proposals: list[dict[str, Any]]
    texts: list[str]  # what each call wrote

    @property
    def states(self) -> list[str]:
        return [each["state"] for each in self.calls]


def ask(session: Session, url: str, key: str = KEY) -> Asked:
    """Ask once, and look at all that is left of it; that whatever was paid for is in the ledger holds for every fault."""
    before = set(rows(session, "proposal"))
    session.call("key", key=key, base_url=url)
    row = propose(session)["round"]
    return kept(session, row["id"], before)


def kept(session: Session, name: str, before: set[str]) -> Asked:
    row = rows(session, "round")[name]
    calls = [each for each in rows(session, "call").values() if each["round"] == name]
    fresh = [each for each in rows(session, "proposal").values() if each["id"] not in before]
    texts = [session.call("body", hash=each["reply"])["text"] if each["reply"] else "" for each in calls]
    for each, text in zip(calls, texts, strict=True):
        assert each["state"] != "running"
        assert each["ended"] >= each["began"]
        assert each["usd"] > 0 if text else each["usd"] is not None
        assert each["output"] >= len(text) // 4, "what was written is billed"
    assert row["usd"] == pytest.approx(sum(each["usd"] for each in calls))
    assert [each["id"] for each in fresh] == row["added"]
    return Asked(row, calls, fresh, texts)


def ended_as(asked: Asked, failure: Failure, *says: str) -> None:
    """The round failed in this way and says so, with what to do; nothing of it is in the queue."""
    assert asked.row["state"] == failure
    told, _ = outcome(asked.row)  # type: ignore[arg-type]
    for each in (*says, ADVICE[failure]):
        assert each in told
    assert not [each for each in asked.proposals if each["state"] == "waiting"]
    assert asked.row["ended"] is not None


# --- faults that pass --------------------------------------------------------------------------------------------------

PASSING: dict[str, Behavior] = {
    "429": Fail(429, retry_after=0.4, match=POST),
    "529": Fail(529, retry_after=1.5, match=POST),
    "500": Fail(500, match=POST),
    "dropped": StreamFault("disconnect", after_chunks=INTO),
    "ended early": StreamFault("truncate", after_chunks=INTO),
    "damaged": StreamFault("malformed", after_chunks=INTO),
}


@pytest.mark.parametrize("name", list(PASSING))
def test_a_fault_that_passes_is_got_over_once_and_both_calls_are_paid_for(
    session: Session, mock: LLMockServer, name: str
) -> None:
    number = 10.0 + list(PASSING).index(name)
    mock.state.scenarios.clear()
    mock.state.journal.clear()
    text = answer(rate(number))
    mock.state.scenarios.add(PASSING[name], Reply(text, match=POST, times=None))
    asked = ask(session, mock.base_url("anthropic"))
    assert asked.row["state"] == "done"
    assert [each["hypothesis"] for each in asked.proposals] == [f"A rate of {number} is better"]
    assert [each["state"] for each in asked.proposals] == ["waiting"]
    assert len(asked.calls) == 2
    assert asked.states[1] == "done"
    assert asked.texts[1] == text
    if isinstance(PASSING[name], StreamFault):
        assert asked.texts[0]
        assert text.startswith(asked.texts[0])
        assert asked.calls[0]["input"] > 0
    first, second = posts(mock)
    assert first.fingerprint == second.fingerprint, "a stream that broke is asked for again as a whole"
    # a damaged stream was sent to its end, so llmock does not know the second request for a repetition of the first
    judge(posts(mock)).assert_ok(strict=name != "damaged")


# --- faults that stay --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """What llmock does to every request, how the round ends, after how many calls, and what a person is told."""

    behaviors: Sequence[Behavior]
    failure: Failure
    tries: int
    says: str
    wrote: str = "nothing"  # "nothing" | "some of it" | "all of it"


STAYING: dict[str, Story] = {
    "429": Story([Fail(429, retry_after=0.2, times=None, match=POST)], Failure.RATE_LIMITED, 3, "tried 3 times"),
    "429 for half an hour": Story(
        [Fail(429, retry_after=1800, times=None, match=POST)], Failure.RATE_LIMITED, 1, "it may go on at"
    ),
    "529": Story([Fail(529, retry_after=0.2, times=None, match=POST)], Failure.OVERLOADED, 3, "too much to do"),
    "529 for half an hour": Story(
        [Fail(529, retry_after=1800, times=None, match=POST)], Failure.OVERLOADED, 1, "(until "
    ),
    "401": Story([Fail(401, times=None, match=POST)], Failure.NO_CREDENTIALS, 1, "does not take the key"),
    "400": Story([Fail(400, times=None, match=POST)], Failure.REJECTED, 1, "took the request for wrong"),
    "dropped": Story(
        [StreamFault("disconnect", after_chunks=INTO, times=None)], Failure.CUT_OFF, 3, "broke", "some of it"
    ),
    "ended early": Story(
        [StreamFault("truncate", after_chunks=INTO, times=None)], Failure.CUT_OFF, 3, "ended early", "some of it"
    ),
    "damaged": Story(
        [StreamFault("malformed", after_chunks=INTO, times=None)], Failure.CUT_OFF, 3, "damaged", "some of it"
    ),
    "truncated": Story(
        [Reply(WHOLE, finish_reason="length", times=None)], Failure.TRUNCATED, 1, "max_tokens", "all of it"
    ),
    "refused without a word": Story(
        [Reply("", finish_reason="content_filter", times=None)], Failure.REFUSAL, 1, "(no category): it gave no"
    ),
}


@pytest.mark.parametrize("name", list(STAYING))
def test_a_fault_that_stays_ends_in_its_own_state_and_leaves_nothing_half_applied(
    session: Session, mock: LLMockServer, name: str
) -> None:
    story = STAYING[name]
    mock.state.scenarios.clear()
    mock.state.journal.clear()
    mock.state.scenarios.add(*story.behaviors, Reply(WHOLE, match=POST, times=None))
    asked = ask(session, mock.base_url("anthropic"))
    ended_as(asked, story.failure, story.says)
    assert asked.proposals == []
    assert asked.states == [story.failure] * story.tries
    assert len(posts(mock)) == story.tries
    for call, text in zip(asked.calls, asked.texts, strict=True):
        assert WHOLE.startswith(text)
        assert {"nothing": text == "", "some of it": 0 < len(text) < len(WHOLE), "all of it": text == WHOLE}[
            story.wrote
        ]
        assert (call["input"] > 0) == (story.wrote != "nothing" or story.failure == Failure.REFUSAL)
    if "half an hour" in name:
        assert asked.row["retry_at"] == pytest.approx(asked.row["ended"] + 1800, abs=20)


SCRIPTED: dict[str, tuple[Turn, Failure, int, str]] = {
    "429 that does not say how long": (
        Turn(status=429, error="rate_limit_error"), Failure.RATE_LIMITED, 3, "limits the rate"),
    "an error inside the stream": (Turn(fault="overloaded event"), Failure.OVERLOADED, 3, "too much to do"),
    "the account's spend limit": (
        Turn(status=429, error="rate_limit_error", code="enforced_spend_limit_reached", retry_after="1"),
        Failure.SPEND_LIMIT, 1, "raise it, or wait"),
    "a refusal": (
        Turn("", stop="refusal", category="frontier_llm", explanation="This may help a competing model."),
        Failure.REFUSAL, 1, "Claude declined (frontier_llm): This may help a competing model"),
    "a refusal after whole proposals": (
        Turn(WHOLE, stop="refusal", category="cyber", explanation="No."), Failure.REFUSAL, 1, "(cyber): No"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SCRIPTED))
def test_what_llmock_has_no_words_for_ends_in_its_own_state_too(session: Session, name: str) -> None:
    turn, failure, tries, says = SCRIPTED[name]
    again = [Turn(**{**turn.__dict__, "begun": threading.Event(), "gone": threading.Event()}) for _ in range(4)]
    with serving(*again) as server:
        asked = ask(session, server.url)
        assert len(server.messages) == tries
    ended_as(asked, failure, says)
    assert asked.proposals == []
    assert asked.states == [failure] * tries
    assert asked.texts == [turn.text if turn.status == 200 else ""] * tries
    if failure == Failure.REFUSAL:
        assert asked.row["category"] == turn.category


def test_what_stays_malformed_after_two_repairs_is_refused_and_the_rest_waits(session: Session) -> None:
    good = rate(30.0)
    with serving(Turn(answer(NO_MATCH, good)), *(Turn(answer(NO_MATCH)) for _ in range(3))) as server:
        asked = ask(session, server.url)
        assert len(server.messages) == 3
    assert asked.row["state"] == Failure.MALFORMED
    assert "after 2 turns of repair: no-match" in asked.row["detail"]
    assert [(each["state"], each["refusal"]) for each in asked.proposals] == [
        ("waiting", None),
        ("refused", "no-match"),
    ]
    assert [each["purpose"] for each in asked.calls] == ["propose", "repair", "repair"]


def test_without_network_or_key_it_says_so_and_asks_nobody(session: Session) -> None:
    with serving() as server:
        address = server.url  # nobody listens there any more
    ended_as(asked := ask(session, address), Failure.NO_NETWORK, "cannot be reached", "ANTHROPIC_BASE_URL")
    assert asked.states == [Failure.NO_NETWORK] * 3
    ended_as(asked := ask(session, "", key=""), Failure.NO_CREDENTIALS, "export ANTHROPIC_API_KEY")
    assert asked.calls == []


def test_a_cancelled_round_keeps_what_was_written_and_paid_for(session: Session) -> None:
    turn = Turn(WHOLE * 4, thinking="hm " * 40, hold=threading.Event())
    with serving(turn) as server:
        before = set(rows(session, "proposal"))
        session.call("key", key=KEY, base_url=server.url)
        name = propose(session, wait=False)["round"]["id"]
        half = turn.text[: len(turn.text) // 2]
        wait_for(lambda: heard(session, name) == half)
        session.call("cancel", round=name)
        assert turn.gone.wait(30), "the connection was left open"
        asked = kept(session, name, before)
    ended_as(asked, Failure.CANCELLED)
    assert asked.texts == [half]
    assert asked.calls[0]["output"] >= (len(half) + len(turn.thinking)) // 4
    assert asked.calls[0]["cache_write"] > 0


# --- faults that need an engine of their own ---------------------------------------------------------------------------


def test_a_stalled_stream_is_cut_at_the_deadline_that_the_lab_sets(tiny: Make, mock: LLMockServer) -> None:
    lab = on_claude(tiny(extra='timeout = "4s"\n'))
    mock.state.scenarios.clear()
    mock.state.scenarios.add(Reply(answer(rate(3.0)), times=None, match=POST))
    with asking(lab) as (session, _):
        ask(session, mock.base_url("anthropic"))  # importing the SDK may take all of the four seconds
        mock.state.scenarios.clear()
        mock.state.journal.clear()
        mock.state.scenarios.add(
            StreamFault("stall", after_chunks=INTO, stall_seconds=600, times=None),
            Reply(WHOLE, times=None, match=POST),
        )
        asked = ask(session, mock.base_url("anthropic"))
        ended_as(asked, Failure.CUT_OFF, "longer than proposer.timeout allows")
        assert asked.proposals == []
        assert asked.states == [Failure.CUT_OFF]
        assert asked.texts[0]
        assert WHOLE.startswith(asked.texts[0])
        (stalled,) = wait_for(lambda: posts(mock))
        assert stalled.stall_waited < 600, "it hung up, long before the stall would have passed"


def test_a_budget_that_is_reached_makes_no_call(tiny: Make) -> None:
    with asking(on_claude(tiny(), budget="dollars = 0.01"), Turn(WHOLE)) as (session, server):
        asked = ask(session, server.url)
        ended_as(asked, Failure.BUDGET, "budget.dollars stops proposing")
        assert (asked.calls, server.messages) == ([], [])


def test_without_the_sdk_it_says_how_to_install_it(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "anthropic.py").write_text("raise ImportError('not here')\n")
    lab = on_claude(tiny())
    lab.start(PYTHONPATH=str(tmp_path / "without"))
    with asking(lab, Turn(WHOLE)) as (session, server):
        asked = ask(session, server.url)
        ended_as(asked, Failure.NOT_INSTALLED, "pip install 'research-cockpit[claude]'")
        assert asked.calls == []


def test_an_engine_killed_in_the_middle_of_a_stream_says_that_the_round_is_lost_and_asks_anew(tiny: Make) -> None:
    lab = on_claude(tiny())
    turn = Turn(WHOLE, hold=threading.Event())
    with asking(lab, turn, Turn(WHOLE)) as (session, server):
        name = propose(session, wait=False)["round"]["id"]
        assert turn.begun.wait(60)
        wait_for(lambda: heard(session, name))
        assert lab.engine is not None
        lab.engine.kill()
        lab.engine.wait(20)
        with lab.session() as after:
            wait_for(lambda: rows(after, "round")[name]["state"] != "asking")
            (call,) = rows(after, "call").values()
            assert (call["state"], rows(after, "proposal")) == ("lost", {})
            assert '"max_tokens"' in after.call("body", hash=call["request"])["text"], "what was sent can be read"
            assert after.call("money")["spent"]["dollars"] == pytest.approx(call["most_usd"])
            told, _ = outcome(rows(after, "round")[name])  # type: ignore[arg-type]
            assert ADVICE[Failure.LOST] in told
            asked = ask(after, server.url)
            assert asked.row["state"] == "done"
            assert len(asked.proposals) == 2
            assert all(check["ok"] for check in after.call("verify")["checks"])
