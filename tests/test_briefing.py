"""A researcher comes back to a batch that was judged and reads what came of it: by queries, by Claude, or when that fails."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cockpit import cli
from cockpit.attach import Session
from engine.rpc import NOT_NOW, RpcError
from engine.types import Failure
from tests.messages_server import Turn, serving
from tests.test_asking import KEY, asking, everything
from tests.tinylab import CRASH, WIDER, TinyLab, decide, rate, rows, wait_for, waiting

Make = Callable[..., TinyLab]
BRIEF = """\
Three results, two of them clear.

<brief>
held: [0001] The higher rate trains faster; at this budget nothing punishes it yet.
failed: [0002] The wider model indexes a number: the idea itself was never tried.
promising: [0001 0099] A still higher rate.
next: Raise the rate again, and stop where it turns.
worry: [0001] One seed could carry this; see whether the others agree.
</brief>
"""


def lab_with(tiny: Make, *proposals: str, **keys: str) -> TinyLab:
    """A lab with these recorded proposals, and more keys under [proposer]."""
    return tiny(*proposals, extra="".join(f'{name} = "{value}"\n' for name, value in keys.items()))


def judged(session: Session, *experiments: str) -> None:
    wait_for(lambda: all(rows(session, "experiment").get(n, {}).get("state") == "judged" for n in experiments))


def approve_all(session: Session, count: int) -> None:
    for row in wait_for(lambda: found if len(found := waiting(session)) == count else None):
        decide(session, row)


def ended(session: Session, name: str) -> dict[str, Any]:
    """A brief that was written, with its words."""
    wait_for(lambda: rows(session, "brief").get(name, {}).get("ended"))
    return dict(session.call("brief", brief=name))


def ask_brief(session: Session) -> dict[str, Any]:
    return dict(session.call("ask_brief", request_id=uuid.uuid4().hex))


def by_section(body: dict[str, Any]) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for claim in body["claims"]:
        found.setdefault(claim["section"], []).append(claim["experiments"])
    return found


def test_when_a_batch_is_judged_a_brief_comes_from_queries_and_costs_nothing(tiny: Make) -> None:
    lab = lab_with(tiny, rate(2.0), CRASH, WIDER)
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
        assert session.call("brief") == {"brief": None, "body": None, "newer": []}
        approve_all(session, 3)
        found = ended(session, "b0001")
        row, body = found["brief"], found["body"]
        assert (row["state"], row["writer"], row["usd"], row["model"]) == ("done", "queries", 0.0, "")
        assert sorted(row["experiments"]) == ["0001", "0002", "0003"]
        sections = by_section(body)
        assert sections["held"] == [["0001"]]
        assert sorted(sections["failed"]) == [["0002"], ["0003"]]
        assert ["0001"] in sections["next"]
        record = rows(session, "experiment")["0001"]["verdict"]
        assert body["record"]["0001"]["effect"] == record["effect"]
        assert body["record"]["0002"]["verdict"] == "broken"
        assert found["newer"] == []
        sql = "SELECT id, writer, dropped, len(claims) > 3, body = $b FROM briefs"
        assert session.call("sql", text=sql, params={"b": row["body"]})["rows"] == [["b0001", "queries", 0, True, True]]
        assert rows(session, "call") == {}
        assert all(check["ok"] for check in session.call("verify")["checks"])


def test_a_batch_is_whole_only_when_nothing_runs_or_waits_any_more(tiny: Make) -> None:
    lab = lab_with(tiny, rate(2.0), WIDER)
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
        first, second = wait_for(lambda: found if len(found := waiting(session)) == 2 else None)
        decide(session, first)
        judged(session, "0001")
        assert ended(session, "b0001")["brief"]["experiments"] == ["0001"]
        lab.hold.touch()
        decide(session, second)
        wait_for(lambda: rows(session, "experiment").get("0002", {}).get("state") == "running")
        assert set(rows(session, "brief")) == {"b0001"}
        lab.hold.unlink()
        assert ended(session, "b0002")["brief"]["experiments"] == ["0002"], "what was told before is not told again"


def test_claude_writes_it_on_request_and_claims_that_cite_nothing_real_are_dropped_and_counted(tiny: Make) -> None:
    with asking(lab_with(tiny, rate(2.0), CRASH), Turn(BRIEF, thinking="hm")) as (session, server):
        approve_all(session, 2)
        ended(session, "b0001")
        assert server.messages == [], "nothing is spent that nobody asked for"
        found = ask_brief(session)
        row, body = found["brief"], found["body"]
        assert (row["id"], row["state"], row["writer"]) == ("b0002", "done", "model")
        assert by_section(body) == {"held": [["0001"]], "failed": [["0002"]], "worry": [["0001"]]}
        assert row["dropped"] == 2
        assert [each["why"] for each in body["dropped"]] == [
            "it cites 0099, which does not exist",
            "it cites no experiment",
        ]
        (call,) = rows(session, "call").values()
        assert (call["purpose"], call["round"], call["state"]) == ("brief", "b0002", "done")
        assert row["usd"] == call["usd"] > 0
        assert session.call("money")["spent"]["dollars"] == pytest.approx(call["usd"], abs=1e-6)
        cited = "SELECT DISTINCT unnest(c.experiments) AS x FROM (SELECT unnest(claims) AS c FROM briefs WHERE id = 'b0002')"
        assert session.call("sql", text=f"{cited} ORDER BY x")["rows"] == [["0001"], ["0002"]]
        proposers = session.call("sql", query="proposers")
        assert "claude" not in {each[0] for each in proposers["rows"]}, "a brief proposes nothing"
        (body_sent,) = server.messages
    told = json.dumps(body_sent)
    assert "A rate of 2.0 is better" in told
    assert "TypeError" in told, "what a broken run printed is there, as data"
    assert "what it printed last" in told
    assert KEY not in told
    assert "messages" in body_sent
    assert len(body_sent["messages"]) == 1, "no conversation goes on"


@pytest.mark.parametrize(
    ("turn", "state"),
    [
        (Turn(stop="refusal", category="frontier_llm", explanation="not this"), Failure.REFUSAL),
        (Turn(BRIEF, stop="max_tokens"), Failure.TRUNCATED),
        (Turn("It went well."), Failure.MALFORMED),
        (Turn("<brief>\nheld: [0042] Everything is better.\n</brief>"), Failure.MALFORMED),
        (Turn(status=401, error="authentication_error"), Failure.NO_CREDENTIALS),
    ],
    ids=["refusal", "truncated", "no brief", "no claim counts", "wrong key"],
)
def test_a_failure_has_its_name_and_the_queries_fill_the_brief(tiny: Make, turn: Turn, state: Failure) -> None:
    with asking(lab_with(tiny, rate(2.0)), turn) as (session, _):
        approve_all(session, 1)
        ended(session, "b0001")
        found = ask_brief(session)
        assert (found["brief"]["state"], found["brief"]["writer"]) == (state, "queries")
        assert found["brief"]["detail"]
        assert by_section(found["body"])["held"] == [["0001"]]
        assert found["brief"]["experiments"] == ["0001"], "with nothing new it is about the last batch again"


def test_where_the_lab_says_so_claude_is_asked_by_itself_once_a_batch(tiny: Make) -> None:
    lab = lab_with(tiny, rate(2.0), brief="model")
    with asking(lab, Turn(BRIEF.replace("failed: [0002]", "failed: [0001]"))) as (session, server):
        approve_all(session, 1)
        found = ended(session, "b0001")
        assert (found["brief"]["state"], found["brief"]["writer"]) == ("done", "model")
        assert found["brief"]["who"]["kind"] == "policy"
        assert len(server.messages) == 1


def test_without_a_key_or_money_it_is_filled_from_queries_and_says_why(tiny: Make) -> None:
    lab = tiny(rate(2.0), WIDER, extra='brief = "model"\n\n[budget]\ndollars = 0.0001\n')
    with serving(Turn(BRIEF)) as server, lab.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
        first, second = wait_for(lambda: found if len(found := waiting(session)) == 2 else None)
        decide(session, first)
        found = ended(session, "b0001")["brief"]
        assert (found["state"], found["writer"]) == (Failure.NO_CREDENTIALS, "queries")
        session.call("key", key=KEY, base_url=server.url)
        decide(session, second)
        found = ended(session, "b0002")["brief"]
        assert (found["state"], found["writer"]) == (Failure.BUDGET, "queries")
        assert "budget.dollars stops" in found["detail"]
        assert server.messages == []


def test_an_engine_that_ends_in_the_middle_leaves_a_brief_that_was_cancelled_and_one_can_be_asked_for_again(
    tiny: Make,
) -> None:
    lab = lab_with(tiny, rate(2.0))
    held = Turn(BRIEF, hold=threading.Event())
    with asking(lab, held) as (session, _):
        approve_all(session, 1)
        ended(session, "b0001")
        session.call("ask_brief", request_id="once", wait=False)
        assert held.begun.wait(60)
        with pytest.raises(RpcError) as error:
            session.call("ask_brief", request_id="twice", wait=False)
        assert error.value.code == NOT_NOW
        assert session.call("ask_brief", request_id="once", wait=False)["brief"]["id"] == "b0002"
        lab.stop()
    with lab.session() as session:
        found = session.call("brief")
        assert found["brief"]["state"] == Failure.CANCELLED
        (call,) = rows(session, "call").values()
        assert (call["state"], call["usd"] is not None) == ("cancelled", True), "what was used is in the record"
    assert KEY.encode() not in everything(lab)


def test_an_engine_that_is_killed_in_the_middle_tells_of_the_batch_again(tiny: Make) -> None:
    lab = lab_with(tiny, rate(2.0), brief="model")
    held = Turn(BRIEF, hold=threading.Event())
    with asking(lab, held) as (session, _):
        approve_all(session, 1)
        assert held.begun.wait(60)
        assert lab.engine is not None
        lab.engine.kill()
        lab.engine.wait(20)
    with lab.session() as session:
        assert rows(session, "brief")["b0001"]["state"] == Failure.LOST
        found = ended(session, "b0002")
        assert (found["brief"]["state"], found["brief"]["experiments"]) == (Failure.NO_CREDENTIALS, ["0001"])
        assert found["body"]["claims"]


def test_the_brief_without_a_terminal(
    tiny: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = lab_with(tiny, rate(2.0), CRASH)
    there = ["-C", str(lab.root), "brief"]
    with asking(lab, Turn(BRIEF)) as (session, server):
        assert cli.main(there) == 1
        assert "no brief yet" in capsys.readouterr().err
        approve_all(session, 2)
        ended(session, "b0001")
        assert cli.main(there) == 0
        said = capsys.readouterr().out
        assert "from queries, no model" in said
        assert "What held" in said
        effect = rows(session, "experiment")["0001"]["verdict"]["effect"]
        assert f"{effect:+.4f}" in said
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert cli.main([*there, "--ask"]) == 0
        said = capsys.readouterr().out
        assert "by claude-opus-5-5" in said
        assert "2 claims were dropped" in said
        assert cli.main([*there, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["brief"]["id"] == "b0002"
        assert len(found["body"]["claims"]) == 3
        assert cli.main([*there, "--ask", "--json"]) == 1, "no turn is left: the failure is in the exit code"
        failed = json.loads(capsys.readouterr().out)
        assert failed["brief"]["state"] == Failure.OVERLOADED
        assert failed["body"]["writer"] == "queries"


def test_the_lab_file_says_who_writes(tmp_path: Path) -> None:
    from engine.lab import LabError, parse
    from tests.test_lab import SMALL

    assert parse(SMALL, tmp_path).proposer.brief == "queries"
    with pytest.raises(LabError, match="brief"):
        parse(SMALL + '\n[proposer]\nbrief = "always"\n', tmp_path)
