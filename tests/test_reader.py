"""A second reader looks at each diff before the researcher does: its flags at once, its predictions only after the decision."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cockpit import cli
from cockpit.attach import Session
from engine.rpc import NOT_NOW, RpcError
from engine.types import Failure
from tests.messages_server import Turn, serving
from tests.test_asking import KEY, asking
from tests.tinylab import WIDER, TinyLab, decide, rate, rows, wait_for, waiting

Make = Callable[..., TinyLab]
P_APPROVE, P_SOLID = 0.8125, 0.34375  # numbers that stand nowhere else
FLAGGED = f"""\
The rate doubles.

<reading>
flag: budget | train.py | a higher rate is a longer schedule in disguise
flag: gaming | train.py | the loss depends on the rate directly
approve: {P_APPROVE}
solid: {P_SOLID}
</reading>
"""
CLEAN = "<reading>\napprove: 40%\nsolid: 0.1\n</reading>"


def lab_with(tiny: Make, *proposals: str, review: str = "model", **options: Any) -> TinyLab:
    return tiny(*proposals, extra=f'\n[gates]\nreview = "{review}"\n', **options)


def read(session: Session, proposal: str = "p0001", *, keyless: bool = False) -> dict[str, Any]:
    """The latest reading of a proposal, once it has ended; those before the key had come count only if `keyless`."""

    def last() -> dict[str, Any] | None:
        found = [row for row in rows(session, "reading").values() if row["proposal"] == proposal]
        here = bool(found) and found[-1]["ended"] is not None
        return found[-1] if here and (keyless or found[-1]["state"] != Failure.NO_CREDENTIALS) else None

    return dict(wait_for(last))


def proposed(session: Session, count: int) -> list[dict[str, Any]]:
    return list(wait_for(lambda: found if len(found := waiting(session)) == count else None))


def tables(session: Session) -> str:
    """Everything that SQL can reach."""
    names = [row[0] for row in session.call("sql", text="SHOW TABLES")["rows"]]
    return json.dumps([session.call("sql", text=f'SELECT * FROM "{name}"', limit=100_000)["rows"] for name in names])


def test_its_flags_stand_beside_the_rules_and_its_predictions_are_nowhere_until_the_decision(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = lab_with(tiny, rate(2.0))
    with asking(lab, Turn(FLAGGED)) as (session, server):
        row = read(session)
        assert (row["state"], row["reader"], row["model"]) == ("done", "model", "claude-opus-5-5")
        assert [(each["kind"], each["path"]) for each in row["flags"]] == [
            ("budget", "train.py"),
            ("gaming", "train.py"),
        ]
        (waits,) = waiting(session)
        assert row["diff_hash"] == waits["diff_hash"]

        secrets = (str(P_APPROVE), str(P_SOLID))
        call = rows(session, "call")[next(iter(rows(session, "call")))]
        assert call["purpose"] == "reading"
        assert row["usd"] == call["usd"] > 0
        assert cli.main(["-C", str(lab.root), "show", "p0001", "--json"]) == 0
        assert cli.main(["-C", str(lab.root), "read", "p0001"]) == 0
        shown = capsys.readouterr().out
        assert "a longer schedule in disguise" in shown
        everywhere = json.dumps(session.rows()[0]) + tables(session) + shown + lab.state.ledger.read_text()
        assert not any(secret in everywhere for secret in secrets)
        for body in (row["sealed"], call["reply"]):
            with pytest.raises(RpcError) as error:
                session.call("body", hash=body)
            assert error.value.code == NOT_NOW
            assert "decide it first" in error.value.message
        assert session.call("body", hash=call["request"])["text"]

        decide(session, waits)
        opened = wait_for(lambda: found if (found := read(session))["opened"] else None)
        assert (opened["p_approve"], opened["p_solid"]) == (P_APPROVE, P_SOLID)
        told = json.loads(session.call("body", hash=row["sealed"])["text"])
        assert (told["p_approve"], told["p_solid"]) == (P_APPROVE, P_SOLID), "the hash of before binds what is told now"
        assert "solid:" in session.call("body", hash=call["reply"])["text"]
        assert all(check["ok"] for check in session.call("verify")["checks"])
        (sent,) = server.messages
    text = json.dumps(sent)
    assert "A rate of 2.0 is better" in text
    assert "it moves further a step" in text, "the claim"
    assert "+RATE = 2.0" in text, "the diff"
    assert "SEED_NOISE = 0.01" in text, "the code around it"
    assert len(sent["messages"]) == 1


def test_agreement_with_people_and_calibration_against_results_are_questions(tiny: Make) -> None:
    lab = lab_with(tiny, rate(2.0), WIDER, queue=2)
    with asking(lab, Turn(FLAGGED), Turn(CLEAN)) as (session, _):
        first, second = proposed(session, 2)
        read(session, "p0001")
        read(session, "p0002")
        assert session.call("sql", query="reader_agreement")["rows"] == []
        decide(session, first)
        decide(session, second, "decline", "not this")
        wait_for(lambda: len([each for each in rows(session, "reading").values() if each["p_approve"]]) == 2)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        asked = session.call("sql", query="reader_agreement")
        (row,) = [dict(zip(asked["columns"], each, strict=True)) for each in asked["rows"]]
        assert (row["reader"], row["diffs"], row["approved"], row["agreement"]) == ("model", 2, 0.5, 1.0)
        assert row["brier"] == pytest.approx(((P_APPROVE - 1) ** 2 + 0.4**2) / 2)
        assert (row["flags_when_approved"], row["flags_when_not"]) == (2, 0)
        asked = session.call("sql", query="reader_calibration")
        (row,) = [dict(zip(asked["columns"], each, strict=True)) for each in asked["rows"]]
        assert (row["experiments"], row["predicted"], row["solid"]) == (1, P_SOLID, 1.0)
        assert row["from_p"] == pytest.approx(0.2)


def test_a_proposal_can_be_decided_while_it_is_read_and_the_next_one_is_read_then(tiny: Make) -> None:
    held = Turn(FLAGGED, hold=threading.Event())
    lab = lab_with(tiny, rate(2.0), WIDER, queue=2)
    with asking(lab, held, Turn(CLEAN)) as (session, _):
        first, _ = proposed(session, 2)
        assert held.begun.wait(60)
        assert [row["state"] for row in rows(session, "reading").values()].count("reading") == 1
        assert decide(session, first)["first"]
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        held.hold.set()  # type: ignore[union-attr]
        row = wait_for(lambda: found if (found := read(session))["opened"] else None)
        assert row["p_approve"] == P_APPROVE, "it did not know of the decision, so it counts"
        assert read(session, "p0002")["state"] == "done"


@pytest.mark.parametrize(
    ("turn", "state", "says"),
    [
        (Turn(stop="refusal", category="cyber", explanation="no"), Failure.REFUSAL, "declined"),
        (Turn(FLAGGED, stop="max_tokens"), Failure.TRUNCATED, "longer than"),
        (Turn("Looks fine to me."), Failure.MALFORMED, "holds no reading"),
        (Turn("<reading>\napprove: likely\nsolid: 0.1\n</reading>"), Failure.MALFORMED, "no probability"),
    ],
    ids=["refusal", "truncated", "no reading", "no number"],
)
def test_a_failed_reading_has_a_name_and_stands_in_nobodys_way(
    tiny: Make, turn: Turn, state: Failure, says: str
) -> None:
    with asking(lab_with(tiny, rate(2.0)), turn) as (session, server):
        row = read(session)
        assert row["state"] == state
        assert says in row["detail"]
        assert row["flags"] == []
        decide(session, waiting(session)[0])
        opened = wait_for(lambda: found if (found := read(session))["opened"] else None)
        assert (opened["p_approve"], opened["p_solid"]) == (None, None)
        assert len(server.messages) == 1, "what failed is not asked again by itself"


def test_without_a_key_it_says_so_and_reads_once_there_is_one(tiny: Make) -> None:
    with serving(Turn(CLEAN)) as server, lab_with(tiny, rate(2.0)).session() as session:
        assert read(session, keyless=True)["state"] == Failure.NO_CREDENTIALS
        session.call("key", key=KEY, base_url=server.url)
        row = read(session)
        assert (row["id"], row["state"], row["flags"]) == ("v0002", "done", [])


def test_the_budget_stops_it_and_the_rules_still_speak(tiny: Make) -> None:
    lab = tiny(rate(2.0), extra='\n[gates]\nreview = "model"\n\n[budget]\ndollars = 0.0001\n')
    with serving(Turn(CLEAN)) as server, lab.session() as session:
        session.call("key", key=KEY, base_url=server.url)
        row = read(session)
        assert row["state"] == Failure.BUDGET
        assert "budget.dollars stops" in row["detail"]
        assert server.messages == []
        assert waiting(session)[0]["id"] == "p0001"


def test_rules_alone_give_flags_without_a_model_and_predict_what_was_usual_so_far(tiny: Make) -> None:
    seeds = rate(2.0).replace("RATE = 1.0", "SEED_NOISE = 0.01").replace("RATE = 2.0", "SEED_NOISE = 0.02")
    lab = lab_with(tiny, seeds, WIDER, review="rules", queue=1)
    with lab.session() as session:
        row = read(session)
        assert (row["reader"], row["state"], row["usd"]) == ("rules", "done", 0.0)
        (waits,) = proposed(session, 1)
        assert [each["sentence"] for each in row["flags"]] == waits["risks"] != []
        assert row["p_approve"] is None
        decide(session, waits, "decline", "no")
        opened = wait_for(lambda: found if (found := read(session))["opened"] else None)
        assert (opened["p_approve"], opened["p_solid"]) == (0.5, 0.5)
        read(session, "p0002")
        decide(session, proposed(session, 1)[0])
        opened = wait_for(lambda: found if (found := read(session, "p0002"))["opened"] else None)
        assert opened["p_approve"] == pytest.approx(1 / 3), "one was declined of one"
        assert rows(session, "call") == {}


def test_off_reads_nothing_and_one_reading_can_be_asked_for(
    tiny: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = tiny(rate(2.0))
    there = ["-C", str(lab.root), "read", "p0001"]
    with asking(lab, Turn(FLAGGED)) as (session, server):
        proposed(session, 1)
        assert cli.main(there) == 1
        assert "no second reader" in capsys.readouterr().err
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert cli.main([*there, "--ask", "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)["readings"]
        assert (row["state"], row["p_approve"]) == ("done", None)
        decide(session, waiting(session)[0])
        wait_for(lambda: read(session)["opened"])
        assert cli.main(there) == 0
        assert "it predicted: approved 81%, solid 34%" in capsys.readouterr().out
        with pytest.raises(RpcError) as error:
            session.call("read", proposal="p0001")
        assert error.value.code == NOT_NOW


def test_a_reading_that_a_killed_engine_left_is_done_again(tiny: Make) -> None:
    held = Turn(FLAGGED, hold=threading.Event())
    lab = lab_with(tiny, rate(2.0))
    with asking(lab, held) as (session, _):
        assert held.begun.wait(60)
        assert lab.engine is not None
        lab.engine.kill()
        lab.engine.wait(20)
    with serving(Turn(CLEAN)) as server, lab.session() as session:
        session.call("key", key=KEY, base_url=server.url)
        assert Failure.LOST in {row["state"] for row in rows(session, "reading").values()}
        wait_for(lambda: read(session)["state"] == "done")
