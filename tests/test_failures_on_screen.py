"""Each way that asking can fail, as the researcher sees it on the Review screen: in words, with what to do, at any size.

Real cockpit, real engine, real SDK. `COCKPIT_SHOTS=DIR` keeps a picture of every failure, to be looked at.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cockpit.advice import ADVICE
from engine.types import Failure
from tests.messages_server import MessagesServer, Turn
from tests.test_asking import KEY, WIDE, answer, on_claude
from tests.test_proposing_screen import Sitting, at_review
from tests.test_screenshot import as_svg
from tests.tinylab import NO_MATCH, TinyLab, rate

Make = Callable[..., TinyLab]
SIZES = [(80, 24), (200, 50)]
LONG = (
    "The request asks for changes to a training recipe of a language model. Such help may be used to build a model that "
    "competes with ours, so this one is declined; questions about evaluation, data hygiene and reading of results are welcome."
)
"""As long as an explanation gets: all of it has to be readable at 80x24."""


def failing(*, whole: str) -> dict[Failure, tuple[list[Turn], list[str]]]:
    """What the API does, and what has to be on the screen beside the advice."""
    bad = answer(NO_MATCH)
    return {
        Failure.REFUSAL: (
            [Turn("", stop="refusal", category="frontier_llm", explanation=LONG, thinking="hm " * 300)],
            ["Claude declined (frontier_llm)", LONG.rstrip(".")],
        ),
        Failure.TRUNCATED: ([Turn(whole, stop="max_tokens")], ["nothing of it is used"]),
        Failure.MALFORMED: (
            [Turn(answer(NO_MATCH, WIDE)), Turn(bad), Turn(bad)],
            ["no-match", "1 could not be applied"],
        ),
        Failure.OVERLOADED: (
            [Turn(status=529, error="overloaded_error", retry_after="1800", message="Overloaded")],
            ["(529: Overloaded)", "(until "],
        ),
        Failure.RATE_LIMITED: (
            [Turn(status=429, error="rate_limit_error", retry_after="1800", message="40,000 tokens a minute")],
            ["40,000 tokens a minute", "it may go on at"],
        ),
        Failure.SPEND_LIMIT: (
            [Turn(status=429, error="rate_limit_error", code="enforced_spend_limit_reached")],
            ["spend limit is reached"],
        ),
        Failure.NO_CREDENTIALS: (
            [Turn(status=401, error="authentication_error", message="invalid x-api-key")],
            ["does not take the key"],
        ),
        Failure.REJECTED: (
            [Turn(status=400, error="invalid_request_error", message="effort: not supported by this model")],
            ["effort: not supported"],
        ),
        Failure.CUT_OFF: ([Turn(whole, fault="end early") for _ in range(3)], ["tried 3 times"]),
    }


def flat(desk: Sitting) -> str:
    """What the pane of the round says, its lines joined: wrapping is not the question."""
    pane = desk.review.asking_pane
    return " ".join(" ".join(line.text for line in pane.lines).split())


def shot(desk: Sitting, name: str) -> None:
    if place := os.environ.get("COCKPIT_SHOTS"):
        width, _ = desk.app.size
        (Path(place) / f"{name}-{width}.svg").write_text(as_svg(desk.app), "utf-8")


async def ask(desk: Sitting) -> None:
    await desk.press("p")
    await desk.until(lambda: desk.asking)
    await desk.press("enter")


async def shows(desk: Sitting, failure: Failure, says: list[str], rounds: int) -> None:
    """The latest round ended in this way; the pane says so, why and what to do, all of it within the screen."""
    await desk.until(lambda: len(desk.app.model.rounds) == rounds and desk.app.model.asking() is None)
    row = list(desk.app.model.rounds.values())[-1]
    assert row["state"] == failure
    for each in (f"{row['id']} {failure}", *says, ADVICE[failure], "esc closes this"):
        await desk.until(lambda each=each: each in flat(desk))
    pane = desk.review.asking_pane
    assert pane.region.bottom < desk.app.size.height, "the pane ends above the question and the status line"
    assert len(pane.lines) <= pane.size.height, "nothing of it is below its edge"
    assert "begun" not in desk.status
    assert "so far" not in desk.review.asking_pane.lines[0].text, "what has ended costs no more"
    shot(desk, failure)
    assert f"{failure}" in desk.text, "and it is painted"


async def close(desk: Sitting) -> None:
    await desk.press("escape")
    await desk.until(lambda: not desk.review.asking_shown)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_each_failure_of_the_api_is_on_the_screen_in_words_with_what_to_do(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    stories = failing(whole=answer(rate(2.0)))
    held = Turn(answer(rate(3.0)) * 3, thinking="Let me see.", hold=threading.Event())
    turns = [turn for turns, _ in stories.values() for turn in turns]
    queued: list[str] = []
    async with at_review(on_claude(tiny()), monkeypatch, *turns, held, size=size) as (desk, server):
        for number, (failure, (_, says)) in enumerate(stories.items(), 1):
            await ask(desk)
            await shows(desk, failure, says, number)
            queued += ["waiting", "refused"] if failure == Failure.MALFORMED else []
            assert sorted(desk.states().values(), reverse=True) == queued, "no other failure queues anything"
            await close(desk)
        await cancelled(desk, held, len(stories) + 1)
        await no_network(desk, server, len(stories) + 2)


async def cancelled(desk: Sitting, held: Turn, rounds: int) -> None:
    await ask(desk)
    await desk.until(held.begun.is_set)
    await desk.press("x")
    await desk.until(lambda: desk.asking)
    await desk.press("enter")
    await shows(desk, Failure.CANCELLED, ["what had been queued before stays"], rounds)
    await close(desk)


async def no_network(desk: Sitting, server: MessagesServer, rounds: int) -> None:
    asked = len(server.asked)
    await desk.app.link.call("key", key=KEY, base_url="http://127.0.0.1:1")
    await ask(desk)
    await shows(desk, Failure.NO_NETWORK, ["the API cannot be reached", "tried 3 times"], rounds)
    assert len(server.asked) == asked


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_an_engine_without_the_sdk_one_that_is_killed_and_a_budget_that_is_reached_say_so_too(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "anthropic.py").write_text("raise ImportError('not here')\n")
    lab = on_claude(tiny(), budget="dollars = 0.70")
    lab.start(PYTHONPATH=str(tmp_path / "without"))
    held = Turn(answer(rate(2.0)), hold=threading.Event())
    async with at_review(lab, monkeypatch, held, size=size) as (desk, _):
        await ask(desk)
        await shows(desk, Failure.NOT_INSTALLED, ["pip install 'research-cockpit[claude]'"], 1)
        await close(desk)
        lab.stop()
        lab.start()
        await desk.until(lambda: desk.app.link.state != "connected")
        await desk.until(lambda: desk.app.link.state == "connected")
        await ask(desk)
        await desk.until(held.begun.is_set)
        assert lab.engine is not None
        lab.engine.kill()
        lab.engine.wait(20)
        lab.start()
        await shows(desk, Failure.LOST, ["the engine ended in the middle"], 2)
        await close(desk)
        await ask(desk)
        await shows(desk, Failure.BUDGET, ["another call may cost $0.", "budget.dollars stops proposing"], 3)
        assert desk.states() == {}
