"""What broke at its smoke comes back mended, by Claude or by hand: to be read as a difference, and approved for itself."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cockpit import cli
from cockpit.attach import Session
from engine.rpc import NOT_NOW, RpcError
from engine.shards.sandbox import probe
from tests.messages_server import Turn, serving
from tests.test_asking import KEY, answer, asking, on_claude, propose
from tests.test_proposing_screen import at_review
from tests.test_revising import scripted_editor
from tests.tinylab import CRASH, TinyLab, decide, proposal, rate, rows, wait_for, waiting

Make = Callable[..., TinyLab]
MENDED = proposal("A wider model learns more", "    loss = bottom", "    loss = bottom + 0.0", "architecture")
WORSE = proposal("A wider model learns more", "    loss = bottom", "    loss = bottom.mean()", "architecture")
WORST = proposal("A wider model learns more", "    loss = bottom", "    loss = bottom.sum()", "architecture")


def broken(session: Session, name: str) -> dict[str, Any]:
    """The experiment of that name, once it has broken at its smoke."""

    def ended() -> dict[str, Any] | None:
        row = rows(session, "experiment").get(name)
        return row if row and row["verdict"] and row["verdict"]["rung"] == "smoke" else None

    return dict(wait_for(ended))


def repaired(session: Session, name: str) -> dict[str, Any]:
    """The proposal that repairs another, once it waits."""
    return dict(wait_for(lambda: next((row for row in waiting(session) if row.get("repairs") == name), None)))


def edited(session: Session, row: dict[str, Any], text: str) -> dict[str, Any]:
    told = {"proposal": row["id"], "diff_hash": row["diff_hash"], "text": text, "request_id": uuid.uuid4().hex}
    return dict(session.call("edited", **told))


def test_claude_mends_it_the_difference_is_shown_and_it_runs_only_when_it_was_approved_itself(tiny: Make) -> None:
    lab = on_claude(tiny(smoke=True))
    with asking(lab, Turn(answer(CRASH)), Turn(answer(MENDED))) as (session, server):
        propose(session)
        first = waiting(session)[0]
        decide(session, first)
        broken(session, "0001")
        new = repaired(session, first["id"])
        assert new["diff_hash"] != first["diff_hash"]
        assert rows(session, "proposal")[first["id"]]["state"] == "approved", "what was decided stays decided"
        shown = session.call("diff", proposal=new["id"])
        changed = [
            line for line in shown["since"]["diff"].splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
        ]
        assert changed == ["-    loss = bottom[0]", "+    loss = bottom + 0.0"]
        assert "-    loss = bottom\n+    loss = bottom + 0.0" in shown["diff"], "and all of it against the trunk"
        assert shown["since"]["commit"] == rows(session, "experiment")["0001"]["commit"]
        told = server.messages[1]["messages"][0]["content"][-1]["text"]
        assert "The researcher approved p0001, which was:" in told
        assert "TypeError" in told
        fenced = told[told.index("What it printed last:") : told.index("# Request")]
        assert "<data-" in fenced, "what a program printed is data"
        assert list(rows(session, "experiment")) == ["trunk-1", "0001"], "it does not run by itself"
        made = rows(session, "round")["r0002"]
        assert (made["repairs"], made["who"]["kind"]) == (first["id"], "policy")
        with pytest.raises(RpcError):
            session.call(
                "decide", proposal=new["id"], diff_hash=first["diff_hash"], action="approve", request_id="other diff"
            )
        decide(session, new)
        done = wait_for(lambda: (row := rows(session, "experiment").get("0002")) and row["state"] == "judged" and row)
        assert done["verdict"]["rung"] == "screen"
        sql = "SELECT id, repairs FROM proposals WHERE repairs IS NOT NULL"
        assert session.call("sql", text=sql)["rows"] == [[new["id"], first["id"]]]
        assert all(check["ok"] for check in session.call("verify")["checks"])


def test_it_is_asked_twice_at_most(tiny: Make) -> None:
    lab = on_claude(tiny(smoke=True))
    with asking(lab, *(Turn(answer(each)) for each in (CRASH, WORSE, WORST, MENDED))) as (session, server):
        propose(session)
        row = waiting(session)[0]
        for number in (1, 2, 3):
            decide(session, row)
            broken(session, f"000{number}")
            row = repaired(session, row["id"]) if number < 3 else row
        propose(session)  # the next round is one that was asked for: there was none in between
        assert [each.get("repairs") for each in rows(session, "round").values()] == [None, "p0001", "p0002", None]
        assert len(server.messages) == 4


def test_without_a_key_nobody_is_asked_and_a_person_mends_it_by_hand(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lab = tiny(CRASH, rate(2.0), smoke=True)
    with lab.session() as session:
        first = wait_for(lambda: waiting(session))[0]
        decide(session, first)
        broken(session, "0001")
        with pytest.raises(RpcError, match="as it was") as told:
            edited(session, first, CRASH)
        assert told.value.code == NOT_NOW
        monkeypatch.setenv("EDITOR", scripted_editor(tmp_path / "editor.py", ("bottom[0]", "bottom + 0.0")))
        assert cli.main(["-C", str(lab.root), "edit", first["id"]]) == 0
        assert "repairs p0001: it waits for review" in capsys.readouterr().out
        new = repaired(session, first["id"])
        assert (new["proposer"], new["co_author"]) == ("recording+human", "Ada <ada@example.org>")
        text = session.call("diff", proposal=new["id"])["source"]
        count = len(rows(session, "proposal"))
        assert edited(session, first, text)["proposal"] == new["id"], "sent again, queued once"
        assert len(rows(session, "proposal")) == count
        assert cli.main(["-C", str(lab.root), "show", new["id"]]) == 0
        shown = capsys.readouterr().out
        assert shown.index("the difference to p0001 as approved") < shown.index("the whole diff against the trunk")
        edited(session, new, text.replace("+ 0.0", "+ 0.01"))
        again = repaired(session, first["id"])
        assert again["replaces"] == new["id"], "an edit of a repair repairs the same"
        assert not rows(session, "round")
        decide(session, again)
        wait_for(lambda: rows(session, "experiment").get("0002", {}).get("state") == "judged")


@pytest.mark.skipif(probe().level < 2, reason="where there is no box, no policy approves anything")
def test_no_policy_approves_a_repair(tiny: Make) -> None:
    lab = on_claude(tiny(smoke=True, extra='[gates]\nask = "never"\n'))
    with asking(lab, Turn(answer(CRASH)), Turn(answer(MENDED))) as (session, _):
        propose(session)
        broken(session, "0001")
        new = repaired(session, "p0001")
        session.call("submit", diff=_diff(lab, "WIDTH = 8", "WIDTH = 9"), hypothesis="Width changes little")
        wait_for(lambda: rows(session, "experiment").get("0002", {}).get("state") == "judged")
        assert rows(session, "experiment")["0002"]["proposal"] == "p0003"
        assert rows(session, "proposal")[new["id"]]["state"] == "waiting"


def _diff(lab: TinyLab, old: str, new: str) -> str:
    """A change of the training script, as git shows it."""
    path = lab.root / "train.py"
    before = path.read_text()
    path.write_text(before.replace(old, new))
    text = lab.git("diff")
    path.write_text(before)
    return text


def test_the_budget_is_looked_at_before_anybody_is_asked(tiny: Make) -> None:
    lab = on_claude(tiny(smoke=True), budget="dollars = 0")
    with asking(lab) as (session, server):
        session.call(
            "submit", diff=_diff(lab, "    loss = bottom\n", "    loss = bottom[0]\n"), hypothesis="It is wider"
        )
        decide(session, waiting(session)[0])
        broken(session, "0001")
        row = wait_for(lambda: (found := rows(session, "round").get("r0001")) and found["ended"] and found)
        assert (row["state"], row["repairs"]) == ("budget", "p0001")
        assert server.messages == []


@pytest.mark.parametrize("point", ["verdict.done", "repair.done"])
def test_killed_around_the_asking_it_is_asked_once_at_most_and_forgotten_by_nobody(tiny: Make, point: str) -> None:
    lab = on_claude(tiny(smoke=True))
    with serving(Turn(answer(MENDED))) as server:
        engine = lab.start(COCKPIT_CRASH_AT=point)
        with lab.session() as session:
            session.call("key", key=KEY, base_url=server.url)
            wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
            diff = _diff(lab, "    loss = bottom\n", "    loss = bottom[0]\n")
            made = session.call("submit", diff=diff, hypothesis="Wider")["proposal"]
            decide(session, rows(session, "proposal")[made])
        assert engine.wait(60) == -signal.SIGKILL
        with lab.session() as session:
            broken(session, "0001")
            session.call("key", key=KEY, base_url=server.url)
            if point == "verdict.done":
                repaired(session, "p0001")
            else:
                assert [row["state"] for row in rows(session, "round").values()] == ["lost"]
                edited(session, rows(session, "proposal")["p0001"], MENDED)
                repaired(session, "p0001")
            assert len(rows(session, "round")) == 1
            assert all(check["ok"] for check in session.call("verify")["checks"])


@pytest.mark.parametrize(
    "point", ["launch.intent", "launch.effect", "launch.done", "end.intent", "end.effect", "end.done", "verdict.done"]
)
def test_killed_anywhere_in_a_smoke_it_ends_as_it_would_have(tiny: Make, point: str) -> None:
    lab = tiny(CRASH, smoke=True, seeds=(0,))
    lab.start()
    with lab.session() as session:
        wait_for(lambda: rows(session, "shard").get("trunk-1.screen.s0.a1", {}).get("state") == "ended")
        session.call("pause", why="until the engine is one that will die")
    lab.stop()
    engine = lab.start(COCKPIT_CRASH_AT=point)
    with lab.session() as session:
        decide(session, wait_for(lambda: waiting(session))[0])
        session.call("resume")
    assert engine.wait(60) == -signal.SIGKILL
    with lab.session() as session:
        broken(session, "0001")
        assert [name for name in rows(session, "shard") if name.startswith("0001")] == ["0001.smoke.s0.a1"]
        events = [each for each in session.rows()[0] if each["kind"] == "experiment" and each["id"] == "0001"]
        assert events[0]["state"] == "judged"
        assert session.call("sql", text="SELECT count(*) FROM verdicts")["rows"] == [[1]]
        assert all(check["ok"] for check in session.call("verify")["checks"])


async def test_the_screen_says_what_broke_and_shows_the_difference_before_the_whole(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = on_claude(tiny(smoke=True))
    async with at_review(lab, monkeypatch, Turn(answer(CRASH)), Turn(answer(MENDED)), size=(200, 70)) as (desk, _):
        await desk.press("p")
        await desk.until(lambda: desk.asking)
        await desk.press("enter")
        await desk.until(lambda: desk.states() == {"p0001": "waiting"})
        await desk.open("p0001")
        await desk.until(lambda: "loss = bottom[0]" in desk.text)
        await desk.press("a", "enter")
        await desk.until(lambda: desk.states().get("p0002") == "waiting")
        await desk.open("p0001")
        await desk.until(lambda: "crashed in its smoke run" in desk.text)
        assert "e edits it" in desk.text
        assert "TypeError" in desk.text
        await desk.open("p0002")
        await desk.until(lambda: "THE DIFFERENCE TO p0001 as approved (0001" in desk.text)
        assert "repairs p0001, which broke at its smoke" in desk.text
        assert desk.text.index("THE DIFFERENCE") < desk.text.index("THE WHOLE DIFF AGAINST THE TRUNK")
        assert desk.states()["p0002"] == "waiting"
