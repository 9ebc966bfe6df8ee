"""A researcher asks Claude: the real SDK over a real socket, what comes back when all goes well, and each way it can fail."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from engine.edits import apply, parse
from engine.proposers.base import Settings
from engine.proposers.claude import Claude
from engine.proposers.replies import split
from engine.proposers.stream import Calling, Noted, Said, Text
from engine.proposers.talk import Deadlines
from engine.types import Failure
from tests.desks import KEY, TRAIN, FakeDesk, Heard, hear
from tests.messages_server import MessagesServer, Turn, serving
from tests.tinylab import proposal

RATE = proposal("A rate of 2 is better", "RATE = 1.0", "RATE = 2.0")
WIDE = proposal("A width of 16 is better", "WIDTH = 8", "WIDTH = 16", "architecture")
SQUARE = proposal("The square is better", "    return x * RATE", "    return x * x * RATE", "regularisation")
BOUNDS = Deadlines(whole_s=30.0, silence_s=0.5, wait_s=2.0, tries=3, first_wait_s=0.01)


def answer(*proposals: str) -> str:
    return "Three ideas.\n\n" + "\n\n".join(f"<proposal>\n{each}</proposal>" for each in proposals) + "\n"


def claude(bounds: Deadlines = BOUNDS, **settings: object) -> Claude:
    return Claude(Settings(**settings), bounds)  # type: ignore[arg-type]


async def ask(server: MessagesServer, bounds: Deadlines = BOUNDS, **settings: object) -> Heard:
    return await hear(claude(bounds, **settings), FakeDesk(server.url))


# --- when all goes well ------------------------------------------------------------------------------------------------


async def test_three_hypotheses_stream_in_and_each_applies_to_the_trunk() -> None:
    with serving(Turn(answer(RATE, WIDE, SQUARE), thinking="the rate was too low before")) as server:
        heard = await ask(server)
    assert heard.failed is None
    assert heard.thinking == "the rate was too low before"
    assert heard.text == answer(RATE, WIDE, SQUARE)
    assert len(heard.of(Text)) > 3
    assert [parse(text).hypothesis for text in heard.replies] == [
        parse(each).hypothesis for each in (RATE, WIDE, SQUARE)
    ]
    for text in heard.replies:
        apply(parse(text), {"train.py": TRAIN.encode()}.get, lambda _: True, lambda _: False)
    assert len({parse(text).category for text in heard.replies}) == 3


async def test_the_request_is_what_the_notes_of_the_api_ask_for() -> None:
    with serving(Turn(answer(RATE))) as server:
        await ask(server, model="claude-sonnet-5-5", effort="low", max_tokens=9000)
    sent = server.messages[0]
    assert (sent["model"], sent["max_tokens"], sent["stream"]) == ("claude-sonnet-5-5", 9000, True)
    assert sent["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert sent["output_config"] == {"effort": "low"}
    assert not sent.keys() & {"temperature", "top_p", "top_k", "tool_choice"}
    marks = [
        block["cache_control"]
        for block in [*sent["system"], *sent["messages"][0]["content"]]
        if "cache_control" in block
    ]
    assert [mark["ttl"] for mark in marks] == ["1h", "5m", "5m"]
    asked = next(each for each in server.asked if each.path == "/v1/messages")
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(sent)


async def test_the_second_request_reads_rules_code_and_old_history_from_the_cache() -> None:
    with serving(Turn(answer(RATE)), Turn(answer(WIDE))) as server:
        first, second = await ask(server), await ask(server)
    (one,), (two,) = first.calls, second.calls
    assert one.usage.cache_read == 0
    assert one.usage.cache_write > 500
    assert two.usage.cache_read == one.usage.cache_write
    assert two.usage.cache_write == 0
    assert two.usage.input == one.usage.input
    assert two.usage.output > 0


async def test_thinking_is_counted_apart_within_the_output() -> None:
    with serving(Turn(answer(RATE), thinking="hm " * 100)) as server:
        (call,) = (await ask(server)).calls
    assert call.usage.thinking == 75
    assert call.usage.output == 75 + len(answer(RATE)) // 4


async def test_limits_come_from_the_models_list_and_a_model_on_its_way_out_is_said() -> None:
    with serving(Turn(answer(RATE))) as server:
        heard = await ask(server, model="claude-old")
    assert server.messages[0]["max_tokens"] == 8192
    (note,) = heard.of(Noted)
    assert "deprecated" in note.sentence
    assert "2027-01-01" in note.sentence
    with serving() as server:
        heard = await ask(server, model="claude-gone")
    assert heard.failed is not None
    assert heard.failed.failure == Failure.REJECTED
    assert "claude-opus-5-5, claude-sonnet-5-5" in heard.failed.detail
    assert server.messages == []


async def test_a_gateway_that_knows_no_models_is_asked_all_the_same() -> None:
    with serving(Turn(answer(RATE))) as server:
        heard = await ask(server, model="claude-of-my-own")
    assert heard.failed is None
    assert len(heard.replies) == 1


# --- repair ------------------------------------------------------------------------------------------------------------

BROKEN = proposal("A rate of 3 is better", "RATE = 1.5", "RATE = 3.0")
BROKEN_AGAIN = proposal("A rate of 3 is better", "RATE  = 1.0", "RATE = 3.0")
MENDED = proposal("A rate of 3 is better", "RATE = 1.0", "RATE = 3.0")


async def test_only_the_block_that_failed_is_sent_back_with_the_nearest_real_text() -> None:
    nearly = proposal("Another loss", "def loss(x):\n    return x * RATIO", "def loss(x):\n    return x")
    mended = proposal("Another loss", "def loss(x):\n    return x * RATE", "def loss(x):\n    return x")
    with serving(Turn(answer(WIDE, nearly), thinking="hm"), Turn(answer(mended))) as server:
        heard = await ask(server)
    assert heard.failed is None
    assert [parse(text).hypothesis for text in heard.replies] == ["A width of 16 is better", "Another loss"]
    first, second = server.messages
    assert second["messages"][0] == first["messages"][0]
    assert second["system"] == first["system"]
    said = second["messages"][1]
    assert said["role"] == "assistant"
    assert [block["type"] for block in said["content"]] == ["thinking", "text"]
    asked = second["messages"][2]["content"][0]["text"]
    assert "return x * RATIO" in asked
    assert "    return x * RATE" in asked
    assert "WIDTH" not in asked
    assert [each.purpose for each in heard.of(Calling)] == ["propose", "repair"]


async def test_after_two_turns_of_repair_it_is_malformed_and_shown_as_refused() -> None:
    with serving(
        Turn(answer(BROKEN, WIDE)), Turn(answer(BROKEN_AGAIN)), Turn(answer(BROKEN)), Turn(answer(MENDED))
    ) as server:
        heard = await ask(server)
        assert len(server.turns) == 1, "a third repair was asked for"
    assert heard.failed is not None
    assert heard.failed.failure == Failure.MALFORMED
    assert "no-match" in heard.failed.detail
    assert [parse(text).hypothesis for text in heard.replies] == ["A width of 16 is better", "A rate of 3 is better"]
    assert len(heard.calls) == 3


async def test_a_second_repair_may_still_mend_it() -> None:
    with serving(Turn(answer(BROKEN)), Turn(answer(BROKEN_AGAIN)), Turn(answer(MENDED))) as server:
        heard = await ask(server)
    assert heard.failed is None
    assert parse(heard.replies[0]).edits[0].replace == "RATE = 3.0\n"


async def test_an_answer_without_a_proposal_is_malformed() -> None:
    with serving(Turn("I would rather talk about the weather.")) as server:
        heard = await ask(server)
    assert heard.failed is not None
    assert heard.failed.failure == Failure.MALFORMED
    assert heard.replies == []


# --- each way of failing -----------------------------------------------------------------------------------------------


async def test_a_refusal_is_final_with_its_category_and_explanation() -> None:
    turn = Turn("", stop="refusal", category="frontier_llm", explanation="This may help to build a competing model.")
    with serving(turn, Turn(answer(RATE))) as server:
        heard = await ask(server)
    assert heard.failed is not None
    assert (heard.failed.failure, heard.failed.category) == (Failure.REFUSAL, "frontier_llm")
    assert "This may help to build a competing model." in heard.failed.detail
    assert len(server.messages) == 1, "a refusal was asked again"
    assert heard.replies == []


async def test_a_refusal_after_whole_proposals_were_written_uses_none_of_them() -> None:
    with serving(Turn(answer(RATE, WIDE), stop="refusal", category="cyber")) as server:
        heard = await ask(server)
    assert heard.replies == []
    assert heard.failed is not None
    assert heard.failed.failure == Failure.REFUSAL


@pytest.mark.parametrize(
    ("turn", "failure", "tries"),
    [
        (Turn(answer(RATE), stop="max_tokens"), Failure.TRUNCATED, 1),
        (Turn(answer(RATE), stop="pause_turn"), Failure.CUT_OFF, 1),
        (Turn(answer(RATE), fault="drop"), Failure.CUT_OFF, 3),
        (Turn(answer(RATE), fault="stall"), Failure.CUT_OFF, 3),
        (Turn(answer(RATE), fault="end early"), Failure.CUT_OFF, 3),
        (Turn(answer(RATE), stop=None), Failure.CUT_OFF, 3),
        (Turn(answer(RATE), fault="malformed chunk"), Failure.CUT_OFF, 3),
        (Turn(fault="overloaded event"), Failure.OVERLOADED, 3),
        (Turn(status=529, error="overloaded_error"), Failure.OVERLOADED, 3),
        (Turn(status=500, error="api_error"), Failure.OVERLOADED, 3),
        (Turn(status=429, error="rate_limit_error", code="enforced_spend_limit_reached"), Failure.SPEND_LIMIT, 1),
        (Turn(status=402, error="billing_error"), Failure.SPEND_LIMIT, 1),
        (Turn(status=401, error="authentication_error"), Failure.NO_CREDENTIALS, 1),
        (Turn(status=400, error="invalid_request_error"), Failure.REJECTED, 1),
        (Turn(status=413, error="request_too_large"), Failure.REJECTED, 1),
    ],
    ids=lambda value: f"{value.fault or value.stop} {value.status}" if isinstance(value, Turn) else str(value),
)
async def test_each_fault_ends_in_its_own_state_within_the_deadline_and_nothing_is_used(
    turn: Turn, failure: Failure, tries: int
) -> None:
    turns = [Turn(**{**turn.__dict__, "begun": threading.Event(), "gone": threading.Event()}) for _ in range(4)]
    began = time.monotonic()
    with serving(*turns) as server:
        heard = await ask(server)
    assert time.monotonic() - began < BOUNDS.whole_s
    assert heard.failed is not None
    assert heard.failed.failure == failure
    assert heard.failed.detail
    assert len(server.messages) == tries
    assert len(heard.again) == tries - 1
    assert heard.replies == []
    assert [call.failure for call in heard.calls] == [failure] * tries


@pytest.mark.parametrize("fault", ["drop", "stall", "end early", "malformed chunk"])
async def test_a_broken_stream_is_asked_for_again_as_a_whole(fault: str) -> None:
    with serving(Turn(answer(RATE, WIDE), fault=fault), Turn(answer(RATE, WIDE))) as server:
        heard = await ask(server)
    assert heard.failed is None
    assert len(heard.replies) == 2
    assert len(heard.again) == 1
    assert server.messages[0] == server.messages[1]
    assert heard.calls[0].usage.cache_write > 0, "what a broken call used is not lost"


async def test_a_short_limit_of_rate_is_waited_for_and_a_long_one_said_with_its_time() -> None:
    limited = Turn(status=429, error="rate_limit_error", retry_after="0.05")
    with serving(limited, Turn(answer(RATE))) as server:
        heard = await ask(server)
    assert heard.failed is None
    assert heard.again[0].wait_s == 0.05
    with serving(Turn(status=429, error="rate_limit_error", retry_after="3600"), Turn(answer(RATE))) as server:
        heard = await ask(server)
    assert heard.failed is not None
    assert heard.failed.failure == Failure.RATE_LIMITED
    assert heard.failed.retry_at == pytest.approx(time.time() + 3600, abs=30)
    assert time.strftime("%H:%M", time.localtime(heard.failed.retry_at)) in heard.failed.detail
    assert len(server.messages) == 1


async def test_an_answer_that_never_ends_is_cut_at_the_deadline_of_the_round() -> None:
    bounds = Deadlines(whole_s=1.5, silence_s=60.0, tries=3, first_wait_s=0.01)
    began = time.monotonic()
    with serving(Turn(answer(RATE), fault="stall")) as server:
        heard = await ask(server, bounds)
    assert time.monotonic() - began < 10
    assert heard.failed is not None
    assert heard.failed.failure == Failure.CUT_OFF
    assert "timeout" in heard.failed.detail


async def test_without_a_key_it_says_what_to_do_and_nothing_is_sent() -> None:
    heard = await hear(claude(), FakeDesk())
    assert heard.failed is not None
    assert heard.failed.failure == Failure.NO_CREDENTIALS
    assert "ANTHROPIC_API_KEY" in heard.failed.detail


async def test_without_a_network_it_says_so() -> None:
    with serving() as server:
        address = server.url
    heard = await hear(claude(), FakeDesk(address))
    assert heard.failed is not None
    assert heard.failed.failure == Failure.NO_NETWORK
    assert len(heard.calls) == 3


async def test_whoever_stops_listening_hangs_up() -> None:
    turn = Turn(answer(RATE), hold=threading.Event())
    with serving(turn) as server:

        async def listen() -> list[Said]:
            said = []
            async for each in claude(Deadlines(whole_s=60, silence_s=60)).propose(FakeDesk(server.url)):
                said.append(each)
            return said

        task = asyncio.create_task(listen())
        assert await asyncio.to_thread(turn.begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(turn.gone.wait, 30), "the connection was left open"


# --- several proposals in one answer -----------------------------------------------------------------------------------


def test_marks_inside_a_block_are_content() -> None:
    inside = proposal("Marks", "RATE = 1.0", "</proposal>\n<proposal>")
    assert split(answer(inside, WIDE)) == (inside, WIDE)


def test_one_that_was_begun_and_not_ended_is_kept_to_be_refused() -> None:
    found = split(f"<proposal>\n{RATE}</proposal>\n<proposal>\nhypothesis: h\n\ntrain.py\n<<<<<<< SEARCH\nRATE")
    assert len(found) == 2
    assert found[0] == RATE


def test_an_answer_that_is_one_proposal_without_marks_is_taken_whole() -> None:
    assert split(RATE) == (RATE,)
    assert split("no proposal in here") == ()
