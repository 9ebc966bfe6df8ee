"""A researcher says "yes, but", edits a proposal, puts one off, and takes a decision back; nothing is lost on the way."""

from __future__ import annotations

import re
import shlex
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cockpit import cli
from cockpit.attach import Session
from engine.rpc import INVALID_PARAMS, NOT_NOW, STALE, RpcError
from tests.messages_server import Turn
from tests.test_asking import KEY, WIDE, answer, asking, on_claude, propose
from tests.tinylab import TinyLab, better, decide, proposal, rate, rows, wait_for, waiting

Make = Callable[..., TinyLab]
BROAD = proposal("A width of 12 is better", "WIDTH = 8", "WIDTH = 12", "architecture")


def revise(session: Session, row: dict[str, Any], why: str, **more: Any) -> dict[str, Any]:
    told = {"proposal": row["id"], "diff_hash": row["diff_hash"], "why": why, "request_id": uuid.uuid4().hex}
    return dict(session.call("revise", **(told | more)))


def edited(session: Session, row: dict[str, Any], text: str) -> dict[str, Any]:
    return dict(session.call("edited", proposal=row["id"], diff_hash=row["diff_hash"], text=text))


def two_waiting(session: Session) -> list[dict[str, Any]]:
    """The first two proposals, once the trunk has run."""
    wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
    return list(wait_for(lambda: waiting(session)[:2] if len(waiting(session)) >= 2 else None))


# --- yes, but -----------------------------------------------------------------------------------------------------------


def test_yes_but_closes_the_old_one_and_brings_one_that_takes_its_place(tiny: Make) -> None:
    lab = on_claude(tiny())
    turns = (Turn(answer(rate(2.0), WIDE)), Turn(answer(BROAD)), Turn(answer(rate(9.0))))
    with asking(lab, *turns) as (session, server):
        propose(session, 2)
        _, wide = waiting(session)
        request = uuid.uuid4().hex
        made = revise(session, wide, "16 does not fit: take 12", request_id=request)
        assert made["round"]["state"] == "done"
        assert made["round"]["revises"] == wide["id"]
        assert revise(session, wide, "16 does not fit: take 12", request_id=request) == made, "said twice, done once"
        found = rows(session, "proposal")
        new = found[made["added"][0]]
        assert (new["state"], new["replaces"]) == ("waiting", wide["id"])
        old = found[wide["id"]]
        assert (old["state"], old["replaced_by"], old["why"]) == ("revised", new["id"], "16 does not fit: take 12")
        (decision,) = rows(session, "decision").values()
        assert (decision["action"], decision["target"], decision["who"]["kind"]) == ("revise", wide["id"], "person")
        propose(session, 1)
        _, second, third = server.messages
        assert second["system"] == third["system"], "the cache's first blocks stay as they are"
        now = second["messages"][0]["content"][-1]["text"]
        fence = now[now.index("<data-") : now.index("\nThe researcher says: yes, but 16 does not fit: take 12")]
        assert WIDE.strip() in fence
        assert fence.rstrip().endswith(f"</{fence[1:22]}>"), "what a model wrote is data"
        assert now.rstrip().endswith("against the files as they are given above.")
        history = "\n".join(block["text"] for block in third["messages"][0]["content"])
        assert "sent back to be revised by the researcher: 16 does not fit: take 12" in history
        sql = "SELECT id, replaces FROM proposals WHERE replaces IS NOT NULL"
        assert session.call("sql", text=sql)["rows"] == [[new["id"], wide["id"]]]
        assert all(check["ok"] for check in session.call("verify")["checks"])


@pytest.mark.parametrize("turn", [Turn("", stop="refusal", category="cyber", explanation="no"), Turn(answer(WIDE))])
def test_when_nothing_comes_of_it_the_old_one_waits_again(tiny: Make, turn: Turn) -> None:
    lab = on_claude(tiny())
    with asking(lab, Turn(answer(rate(2.0), WIDE)), turn) as (session, _):
        propose(session, 2)
        _, wide = waiting(session)
        revise(session, wide, "make it 12")
        after = rows(session, "proposal")[wide["id"]]
        assert (after["state"], after["decided_by"]) == ("waiting", None)
        assert [row["why"] for row in rows(session, "decision").values()] == ["make it 12"], "what was said stays"
        decide(session, after)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")


def test_a_revision_wants_a_note_the_diff_that_was_shown_and_somebody_who_can_be_asked(tiny: Make) -> None:
    lab = tiny(better(0), better(1))
    with lab.session() as session:
        first, _ = two_waiting(session)
        for more, code, says in (
            ({"why": "  "}, INVALID_PARAMS, "needs a note"),
            ({"diff_hash": "0" * 64}, STALE, "not the one that was shown"),
            ({}, NOT_NOW, "ANTHROPIC_API_KEY"),
        ):
            with pytest.raises(RpcError, match=says) as told:
                revise(session, first, **{"why": "smaller"} | more)
            assert told.value.code == code
        assert rows(session, "proposal")[first["id"]]["state"] == "waiting"
        assert not rows(session, "decision")


# --- edited by hand ------------------------------------------------------------------------------------------------------


def test_who_edits_a_proposal_is_its_co_author(tiny: Make) -> None:
    lab = tiny(better(0), better(1))
    with lab.session() as session:
        first, _ = two_waiting(session)
        text = session.call("diff", proposal=first["id"])["source"]
        made = edited(session, first, text.replace("RATE = 2.0", "RATE = 2.5"))
        found = rows(session, "proposal")
        new, old = found[made["proposal"]], found[first["id"]]
        assert (new["state"], new["proposer"], new["replaces"]) == ("waiting", "recording+human", first["id"])
        assert new["co_author"] == "Ada <ada@example.org>"
        assert (old["state"], old["replaced_by"], old["why"]) == ("revised", new["id"], f"edited as {new['id']}")
        decide(session, new)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("commit"))
        message = lab.git("log", "-1", "--format=%B", rows(session, "experiment")["0001"]["commit"])
        assert "Proposed by: recording+human" in message
        assert "Co-authored-by: Ada <ada@example.org>" in message
        assert all(check["ok"] for check in session.call("verify")["checks"])


def test_an_edit_that_cannot_be_applied_is_said_and_changes_nothing(tiny: Make) -> None:
    lab = tiny(better(0), better(1))
    with lab.session() as session:
        first, second = two_waiting(session)
        text = session.call("diff", proposal=first["id"])["source"]
        for bad, says in (
            (text.replace("RATE = 1.0", "RATE = 7.0"), "no-match"),
            (text.replace("hypothesis:", "idea:"), "no-header"),
            (text[: text.index("<<<<<<<")], "no-blocks"),
            (text, "as it was"),
        ):
            head = session.rows()[1]
            with pytest.raises(RpcError, match=says):
                edited(session, first, bad)
            assert session.rows(head)[0] == []
        decide(session, second, "decline", "no")
        with pytest.raises(RpcError, match="is declined by Ada"):
            edited(session, second, text)


# --- later, and back ------------------------------------------------------------------------------------------------------


def test_what_is_deferred_still_waits_and_says_when(tiny: Make) -> None:
    lab = tiny(better(0), better(1))
    with lab.session() as session:
        first, second = two_waiting(session)
        assert decide(session, first, "defer", "")["state"] == "waiting"
        found = rows(session, "proposal")
        assert found[first["id"]]["deferred"] > found[first["id"]]["created"]
        assert "deferred" not in found[second["id"]]
        assert decide(session, found[first["id"]])["state"] == "approved"


def test_an_approval_is_undone_while_nothing_of_it_has_run(tiny: Make) -> None:
    lab = tiny(better(0), better(1))
    with lab.session() as session:
        first, _ = two_waiting(session)
        session.call("pause", why="to think")
        decide(session, first)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("commit"))
        assert decide(session, first, "undo", "too soon")["state"] == "waiting"
        assert rows(session, "experiment")["0001"]["state"] == "stopped"
        session.call("decide", proposal=first["id"], diff_hash=first["diff_hash"], action="approve", request_id="again")
        session.call("resume")
        wait_for(lambda: rows(session, "experiment").get("0002", {}).get("state") == "judged")
        assert not [row for row in rows(session, "shard").values() if row["experiment"] == "0001"], "it never ran"
        with pytest.raises(RpcError, match="runs already, as 0002") as told:
            session.call(
                "decide", proposal=first["id"], diff_hash=first["diff_hash"], action="undo", request_id="too late"
            )
        assert told.value.code == NOT_NOW
        assert all(check["ok"] for check in session.call("verify")["checks"])


def test_a_decline_is_undone_and_an_undecided_one_has_nothing_to_undo(tiny: Make) -> None:
    lab = tiny(better(0), better(1))
    with lab.session() as session:
        first, second = two_waiting(session)
        decide(session, first, "decline", "no")
        assert decide(session, first, "undo")["state"] == "waiting"
        assert rows(session, "proposal")[first["id"]]["why"] is None
        with pytest.raises(RpcError, match="no decision to undo"):
            decide(session, second, "undo")


# --- without a terminal -----------------------------------------------------------------------------------------------------


def scripted_editor(path: Path, *changes: tuple[str, str]) -> str:
    """An editor that makes these changes, as a value for $EDITOR."""
    path.write_text(
        "import sys, pathlib\nfile = pathlib.Path(sys.argv[1])\ntext = file.read_text()\n"
        f"for old, new in {changes!r}:\n    assert old in text\n    text = text.replace(old, new)\nfile.write_text(text)\n"
    )
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


def test_cockpit_revise_follows_the_round_to_what_takes_its_place(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = on_claude(tiny())
    with asking(lab, Turn(answer(rate(2.0), WIDE)), Turn(answer(BROAD), thinking="twelve then")) as (session, server):
        propose(session, 2)
        _, wide = waiting(session)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert cli.main(["-C", str(lab.root), "revise", wide["id"], "--why", "12 will do"]) == 0
        shown = capsys.readouterr().out
        assert "twelve then" in shown
        assert "p0003 waiting: A width of 12 is better" in shown
        assert rows(session, "proposal")[wide["id"]]["replaced_by"] == "p0003"


def test_cockpit_edit_queues_what_the_editor_saved_and_keeps_what_could_not_be(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lab = tiny(better(0), better(1))
    with lab.session() as session:
        first, _ = two_waiting(session)
        where = ["-C", str(lab.root), "edit", first["id"]]
        for change, says in (
            ((("RATE = 1.0", "RATE = 7.0"),), "no-match"),
            ((), "left as it is"),
        ):
            monkeypatch.setenv("EDITOR", scripted_editor(tmp_path / "editor.py", *change))
            assert cli.main(where) == 1
            said = capsys.readouterr().err
            assert says in said
            if change:
                kept = Path(said.rsplit("your text is in ", 1)[1].strip())
                assert "RATE = 7.0" in kept.read_text()
        monkeypatch.setenv("EDITOR", "/nowhere/at/all")
        assert cli.main(where) == 1
        assert "set $EDITOR" in capsys.readouterr().err
        monkeypatch.setenv("EDITOR", scripted_editor(tmp_path / "editor.py", ("RATE = 2.0", "RATE = 2.5")))
        assert cli.main(where) == 0
        new = re.search(r"(p\d+) takes the place of", capsys.readouterr().out)
        assert new is not None
        assert rows(session, "proposal")[new[1]]["co_author"] == "Ada <ada@example.org>"
        assert rows(session, "proposal")[first["id"]]["state"] == "revised"


def test_several_are_approved_at_once_each_by_its_own_diff(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    lab = tiny(better(0), better(1))
    with lab.session() as session:
        first, second = two_waiting(session)
        where = ["-C", str(lab.root)]
        assert cli.main([*where, "approve", first["id"], second["id"], "--diff", first["diff_hash"]]) == 2
        hashes = ["--diff", first["diff_hash"], "--diff", second["diff_hash"]]
        assert cli.main([*where, "approve", first["id"], second["id"], *hashes]) == 0
        shown = capsys.readouterr().out
        assert f"{first['id']} approved as experiment 0001" in shown
        assert f"{second['id']} approved as experiment 0002" in shown


def test_defer_and_undo_from_the_command_line(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    lab = tiny(better(0), better(1))
    with lab.session() as session:
        first, _ = two_waiting(session)
        where = ["-C", str(lab.root)]
        assert cli.main([*where, "defer", first["id"]]) == 0
        assert cli.main([*where, "decline", first["id"], "--why", "no"]) == 0
        assert cli.main([*where, "undo", first["id"]]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"{first['id']} waits again"
        assert rows(session, "proposal")[first["id"]]["state"] == "waiting"
