"""A researcher asks Claude from the Review screen: real client, real engine, real SDK, and an API in miniature on loopback."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from cockpit.app import CockpitApp
from cockpit.client import Client
from engine.types import Failure
from tests.messages_server import MessagesServer, Turn, serving
from tests.test_app import Clock, Desk
from tests.test_asking import CALM, KEY, WIDE, answer, everything, on_claude
from tests.test_revising import BROAD
from tests.tinylab import TinyLab, better, rate, rows, wait_for

Make = Callable[..., TinyLab]


class Sitting(Desk):
    """A desk on a real engine, which takes its time."""

    async def until(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not what():
            assert time.monotonic() < deadline, f"this never came about; the screen says:\n{self.text}"
            await asyncio.sleep(0.02)
            await self.pilot.pause()
            self.app.tick()

    def states(self) -> dict[str, str]:
        return {row["id"]: row["state"] for row in self.app.model.proposals.values()}

    async def open(self, id_: str) -> None:
        """Move to a proposal and wait until its diff is there."""
        await self.press("g")
        for _ in range(20):
            if self.review.queue.cursor == id_:
                break
            await self.press("J")
        await self.until(lambda: self.review.shown is not None and self.review.shown.proposal == id_)


@asynccontextmanager
async def at_review(
    lab: TinyLab, monkeypatch: pytest.MonkeyPatch, *turns: Turn, key: str = KEY, size: tuple[int, int] = (200, 50)
) -> AsyncIterator[tuple[Sitting, MessagesServer]]:
    """The Review screen of a lab whose trunk has run; the key is in the environment of this cockpit alone."""
    with serving(*turns) as server:
        with lab.session() as session:
            wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        client, clock = Client(lab.root, start=False), Clock()
        await client.open()
        app = CockpitApp(client, theme="dusk", clock=clock)
        try:
            async with app.run_test(size=size) as pilot:
                desk = Sitting(app, client, pilot, clock)  # type: ignore[arg-type]
                await desk.until(lambda: client.state == "connected" and app.model.lab is not None)
                await desk.press("2")
                await desk.until(lambda: desk.review.who is not None)
                yield desk, server
        finally:
            await client.close()


async def test_proposals_stream_in_one_is_revised_one_declined_one_approved_and_its_branch_trains(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = on_claude(tiny())
    first = Turn(
        answer(rate(2.0), WIDE, CALM), thinking="The rate looks low.\nSo does the width.", hold=threading.Event()
    )
    async with at_review(lab, monkeypatch, first, Turn(answer(BROAD)), Turn(answer(rate(3.0)))) as (desk, server):
        assert "by claude" in desk.text
        await desk.press("p")
        await desk.until(lambda: desk.asking)
        assert "Ask claude for 3 proposals?" in desk.text
        assert "claude-opus-5-5, effort high" in desk.text
        assert "Budget: no limit is set" in desk.text
        assert server.messages == [], "one stroke asks nobody"
        await desk.press(*"be bold", "enter")
        await desk.until(lambda: "So does the width." in desk.text)
        await desk.until(lambda: "hypothesis: A rate of 2.0 is better" in desk.text)
        assert "so far" in desk.text
        assert desk.states() == {}, "half of an answer is nothing"
        assert "The researcher says: be bold" in server.messages[0]["messages"][0]["content"][-1]["text"]
        first.hold.set()  # type: ignore[union-attr]
        await desk.until(lambda: list(desk.states().values()) == ["waiting"] * 3)
        await desk.until(lambda: "r0001 done: 3 proposals, $0." in desk.text)
        await desk.open("p0001")
        for told in (
            "A rate of 2.0 is better",
            "optimizer",
            "constant-only",
            "+.0500 nats predicted",
            "for 3 proposals",
        ):
            await desk.until(lambda told=told: told in desk.text)
        await desk.press("escape")
        await desk.until(lambda: "r0001 done" not in desk.text)

        await desk.open("p0002")
        await desk.press("r", "enter")
        assert "a note is needed" in desk.text
        await desk.press(*"12 fits", "enter")
        await desk.until(lambda: desk.states().get("p0004") == "waiting")
        assert desk.states()["p0002"] == "revised"
        assert desk.app.model.proposals["p0002"]["replaced_by"] == "p0004"
        await desk.open("p0003")
        await desk.press("d", *"no luck", "enter")
        await desk.until(lambda: desk.states()["p0003"] == "declined")
        await desk.open("p0001")
        await desk.press("a", "enter")
        experiments = desk.app.model.experiments
        await desk.until(lambda: experiments.get("0001", {}).get("state") == "judged")
        verdict = experiments["0001"]["verdict"]
        assert verdict is not None
        assert verdict["verdict"] == "solid"
        (finished,) = {shard["outcome"] for shard in desk.app.model.shards.values() if shard["experiment"] == "0001"}
        assert finished == "finished"
        branch = str(experiments["0001"]["branch"])
        assert "RATE = 2.0" in lab.git("show", f"{branch}:train.py")

        revision = server.messages[1]["messages"][0]["content"][-1]["text"]
        assert "12 fits" in revision, "the note of the revision is an instruction"
        assert desk.states().get("p0005") is None
        await desk.press("p")
        await desk.until(lambda: desk.asking)
        await desk.press("enter")
        await desk.until(lambda: desk.states().get("p0005") == "waiting")
        told = "\n".join(block["text"] for block in server.messages[2]["messages"][0]["content"])
        for each in ("declined by the researcher: no luck", "12 fits", "A rate of 2.0 is better", "solid"):
            assert each in told
        assert len(server.messages) == 3
        assert KEY not in desk.text
    lab.stop()
    assert KEY.encode() not in everything(lab)


async def test_x_stops_the_asking_by_two_strokes_and_esc_closes_what_is_left(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Turn(answer(rate(2.0)), thinking="hm", hold=threading.Event())
    async with at_review(on_claude(tiny()), monkeypatch, turn, size=(80, 24)) as (desk, _):
        await desk.press("x")
        assert "nobody is being asked" in desk.status
        await desk.press("p")
        await desk.until(lambda: desk.asking)
        await desk.press("enter")
        await desk.until(lambda: "hypothesis:" in desk.text)
        await desk.press("p")
        assert "asking already" in desk.status
        await desk.press("x")
        assert "Stop r0001" in desk.text
        assert not turn.gone.is_set()
        await desk.press("enter")
        await desk.until(turn.gone.is_set)
        await desk.until(lambda: "r0001 cancelled" in desk.text)
        assert desk.states() == {}
        await desk.press("escape")
        await desk.until(lambda: "r0001 cancelled" not in desk.text)


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        (
            Turn("", stop="refusal", category="cyber", explanation="not this"),
            ("refusal", "(cyber): not this", "never asked"),
        ),
        (Turn(answer(rate(2.0)), stop="max_tokens"), ("truncated", "raise proposer.max_tokens")),
        (
            Turn(status=429, error="rate_limit_error", retry_after="1800"),
            ("rate-limited", "it may go on at", "ask again after"),
        ),
        (Turn(status=401, error="authentication_error"), ("no-credentials", "export ANTHROPIC_API_KEY")),
    ],
    ids=["refusal", "truncated", "rate-limited", "no-credentials"],
)
async def test_a_failed_round_says_what_happened_and_what_to_do(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, turn: Turn, says: tuple[str, ...]
) -> None:
    async with at_review(on_claude(tiny()), monkeypatch, turn) as (desk, _):
        await desk.press("p")
        await desk.until(lambda: desk.asking)
        await desk.press("enter")
        await desk.until(lambda: desk.app.model.rounds and desk.app.model.asking() is None)
        flat = lambda: " ".join(line[:68].strip() for line in desk.text.split("\n"))  # noqa: E731 (the left column)
        for each in says:
            await desk.until(lambda each=each: each in " ".join(flat().split()))
        assert Failure(desk.app.model.rounds["r0001"]["state"])
        assert "waiting" not in desk.states().values()


async def test_without_a_key_the_screen_says_which_proposer_is_in_use_and_how_to_give_it_one(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_review(on_claude(tiny()), monkeypatch, key="") as (desk, server):
        assert "claude has no key" in desk.text
        await desk.press("p")
        await desk.until(lambda: "there is no key" in desk.status)
        assert "export ANTHROPIC_API_KEY" in desk.status
        assert not desk.asking
        assert server.messages == []


async def test_a_recording_is_asked_without_any_key(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = tiny(*(better(number) for number in range(6)))
    async with at_review(lab, monkeypatch, key="") as (desk, _):
        assert "by recording" in desk.text
        await desk.until(lambda: len(desk.states()) == 3)
        await desk.press("p")
        await desk.until(lambda: desk.asking)
        assert "no model is asked, and nothing is sent" in desk.text
        await desk.press("enter")
        await desk.until(lambda: len(desk.states()) == 6)
        await desk.press("r")
        assert desk.asking
        await desk.press(*"smaller", "enter")
        await desk.until(lambda: "your note was: smaller" in desk.status or "nobody can be asked" in desk.status)
        assert set(desk.states().values()) == {"waiting"}
