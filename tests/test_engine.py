"""A researcher's day with the engine: propose, approve, run, judge, sign, and ask; all through the real socket."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from cockpit.attach import Session
from cockpit.listing import experiments
from engine.rpc import NOT_NOW, STALE, RpcError
from engine.shards.sandbox import probe
from tests.tinylab import (
    CRASH,
    NO_MATCH,
    NONFINITE,
    PROTECTED,
    WIDER,
    WORSE,
    TinyLab,
    better,
    briefed,
    decide,
    proposal,
    rate,
    rows,
    wait_for,
    waiting,
)

Make = Callable[..., TinyLab]

SAID = '        print("step", step, "training loss", loss, flush=True)'


def judged(session: Session, count: int) -> dict[str, dict]:
    """Experiments by id, once `count` of them have been judged."""

    def ready() -> dict[str, dict] | None:
        found = rows(session, "experiment")
        return (
            found
            if sum(row["state"] == "judged" for row in found.values() if row["role"] == "experiment") >= count
            else None
        )

    return wait_for(ready)


def test_a_better_a_crashing_a_nonfinite_and_an_equal_idea_are_told_apart(tiny: Make) -> None:
    lab = tiny(better(1), CRASH, NONFINITE, WORSE, WIDER, queue=5)
    with lab.session() as session:
        for row in wait_for(lambda: len(found := waiting(session)) == 5 and found):
            assert decide(session, row)["first"]
        found = judged(session, 5)
        verdicts = {name: row["verdict"]["verdict"] for name, row in found.items() if row["verdict"]}
        assert verdicts["0001"] == "solid"
        assert verdicts["0002"] == "broken"
        assert verdicts["0003"] == "broken"
        assert verdicts["0004"] == "harmful"
        assert verdicts["0005"] in ("not-solid", "harmful", "solid")  # its true difference is luck of one hash
        shards = rows(session, "shard").values()
        outcomes = {row["experiment"]: row["outcome"] for row in shards if row["seed"] == 0}
        assert outcomes["0002"] == "crashed"
        assert outcomes["0003"] == "nonfinite"
        assert all(row["metric"] is None for row in shards if row["outcome"] != "finished")
        crashed = next(row for row in shards if row["outcome"] == "crashed")
        assert "TypeError" in crashed["detail"]
        assert found["0001"]["verdict"]["effect"] == pytest.approx(0.1 * 1.0986, abs=0.01)
        assert [pair["seed"] for pair in found["0001"]["pairs"]] == [0, 1, 2]
        checks = session.call("verify")["checks"]
        assert all(check["ok"] for check in checks), checks
        listing = experiments(session.rows()[0])
    assert [each["id"] for each in listing["experiments"]] == ["0001", "0002", "0003", "0004", "0005"]
    assert [each["id"] for each in listing["trunk"]] == ["trunk-1"]


def test_nothing_runs_before_somebody_approved_that_very_diff(tiny: Make) -> None:
    lab = tiny(better(1))
    with lab.session() as session:
        row = wait_for(lambda: waiting(session))[0]
        with pytest.raises(RpcError) as stale:
            session.call("decide", proposal=row["id"], diff_hash="0" * 64, action="approve", request_id="r1")
        assert stale.value.code == STALE
        assert stale.value.data["diff_hash"] == row["diff_hash"]
        wait_for(lambda: rows(session, "experiment")["trunk-1"]["state"] == "judged")
        assert {shard["experiment"] for shard in rows(session, "shard").values()} == {"trunk-1"}
        assert lab.git("branch", "--list", "exp/*") == ""


def test_what_cannot_be_applied_is_shown_with_its_reason_and_cannot_be_approved(tiny: Make) -> None:
    lab = tiny(NO_MATCH, PROTECTED, better(1))
    with lab.session() as session:
        wait_for(lambda: waiting(session))
        found = rows(session, "proposal")
        assert [found[name]["state"] for name in ("p0001", "p0002", "p0003")] == ["refused", "refused", "waiting"]
        assert found["p0001"]["refusal"] == "no-match"
        assert found["p0002"]["refusal"] == "protected"
        assert "score.py" in found["p0002"]["detail"]
        with pytest.raises(RpcError) as no:
            session.call("decide", proposal="p0002", diff_hash=None, action="approve", request_id="r1")
        assert no.value.code == NOT_NOW


def test_two_clients_one_decision(tiny: Make) -> None:
    lab = tiny(better(1))
    with lab.session() as first, lab.session() as second:
        row = wait_for(lambda: waiting(first))[0]
        ours = decide(first, row)
        theirs = second.call(
            "decide", proposal=row["id"], diff_hash=row["diff_hash"], action="decline", why="no", request_id="other"
        )
        assert ours["first"]
        assert not theirs["first"]
        assert theirs["state"] == "approved"
        assert "Ada" in theirs["by"]
        again = decide(first, row)  # the same request, sent again after a broken line
        assert again["first"]
        assert len(rows(first, "decision")) == 1


def test_a_decline_needs_a_reason_and_keeps_it(tiny: Make) -> None:
    lab = tiny(better(1))
    with lab.session() as session:
        row = wait_for(lambda: waiting(session))[0]
        with pytest.raises(RpcError, match="reason"):
            session.call(
                "decide", proposal=row["id"], diff_hash=row["diff_hash"], action="decline", why=" ", request_id="r1"
            )
        decide(session, row, "decline", "we tried this in March")
        found = rows(session, "proposal")[row["id"]]
        assert (found["state"], found["why"]) == ("declined", "we tried this in March")


def test_a_solid_experiment_is_signed_into_the_trunk_and_the_work_tree_stays_as_it_was(tiny: Make) -> None:
    lab = tiny(better(1), rate(0.9))
    (lab.root / "train.py").write_text((lab.root / "train.py").read_text() + "# being edited\n")
    (lab.root / "notes.txt").write_text("untracked")
    before = (lab.git("status", "--porcelain=v2", "--branch"), lab.git("rev-parse", "HEAD"))
    with lab.session() as session:
        one, two = wait_for(lambda: len(found := waiting(session)) == 2 and found)
        decide(session, one)
        row = judged(session, 1)["0001"]
        with pytest.raises(RpcError) as stale:
            session.call("sign", experiment="0001", diff_hash="f" * 64, request_id="s0")
        assert stale.value.code == STALE
        session.call("sign", experiment="0001", diff_hash=one["diff_hash"], why="clear", request_id="s1")
        wait_for(lambda: rows(session, "experiment")["0001"]["state"] == "merged")
        trunk = lab.git("rev-parse", "cockpit/trunk").strip()
        assert rows(session, "experiment")["trunk-2"]["commit"] == trunk
        assert "RATE = 3.0" in lab.git("show", "cockpit/trunk:train.py")
        message = lab.git("log", "-1", "--format=%B", "cockpit/trunk")
        assert "Cockpit-Verdict: solid" in message
        assert "Ada" in message
        assert row["commit"] in lab.git("rev-list", "cockpit/trunk").split()
        # the other proposal was drawn against the old trunk: there it no longer fits, and the person is told
        rebased = wait_for(lambda: (r := rows(session, "proposal")[two["id"]])["parent"] == trunk and r)
        assert rebased["state"] == "refused"
        assert rebased["refusal"] == "conflict"
        with pytest.raises(RpcError) as late:
            decide(session, two)
        assert late.value.code in (STALE, NOT_NOW)
    assert (lab.git("status", "--porcelain=v2", "--branch"), lab.git("rev-parse", "HEAD")) == before


def test_a_bug_fix_need_not_gain_anything_but_wants_a_reason(tiny: Make) -> None:
    printed = '        print("step", step, "loss", loss, flush=True)'
    lab = tiny(proposal("Say what the loss is called", printed, SAID, "bug fix"))
    with lab.session() as session:
        row = wait_for(lambda: waiting(session))[0]
        decide(session, row)
        assert judged(session, 1)["0001"]["verdict"]["verdict"] == "not-solid"
        with pytest.raises(RpcError, match="with a reason"):
            session.call("sign", experiment="0001", diff_hash=row["diff_hash"], request_id="s1")
        session.call("sign", experiment="0001", diff_hash=row["diff_hash"], why="the log misled me", request_id="s2")
        wait_for(lambda: rows(session, "experiment")["0001"]["state"] == "merged")
        message = lab.git("log", "-1", "--format=%B", "cockpit/trunk")
        assert "Cockpit-Verdict: not-solid" in message
        assert "the log misled me" in message


def test_what_changes_the_training_has_to_be_solid_whatever_the_reason(tiny: Make) -> None:
    lab = tiny(WORSE)
    with lab.session() as session:
        row = wait_for(lambda: waiting(session))[0]
        decide(session, row)
        judged(session, 1)
        with pytest.raises(RpcError, match="only a solid experiment"):
            session.call("sign", experiment="0001", diff_hash=row["diff_hash"], why="I like it", request_id="s1")


def test_a_person_stops_an_experiment_and_its_processes_end(tiny: Make) -> None:
    lab = tiny(better(1), slots=4)
    with lab.session() as session:
        row = wait_for(lambda: waiting(session))[0]
        wait_for(lambda: rows(session, "experiment")["trunk-1"]["state"] == "judged")
        lab.hold.touch()
        decide(session, row)
        wait_for(lambda: sum(s["state"] == "running" for s in rows(session, "shard").values()) == 3)
        session.call("stop", id="0001", why="I was wrong", request_id="x1")
        stopped = wait_for(
            lambda: (
                all(s["state"] == "ended" for s in rows(session, "shard").values())
                and rows(session, "experiment")["0001"]
            )
        )
        assert (stopped["state"], stopped["why"]) == ("stopped", "I was wrong")
        ours = [s for s in rows(session, "shard").values() if s["experiment"] == "0001"]
        assert {s["outcome"] for s in ours} == {"killed"}
    assert str(lab.root) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.replace(
        f"engine.daemon {lab.root}", ""
    ).replace(f"engine.shards.launcher {lab.root}", "")


def test_a_trunk_that_fails_is_said_and_costs_no_experiment(tiny: Make) -> None:
    lab = tiny(better(1))
    text = (lab.root / "train.py").read_text().replace("    loss = bottom\n", "    loss = nothing\n")
    (lab.root / "train.py").write_text(text)
    lab.git("commit", "-qam", "A bug of my own")
    with lab.session() as session:
        wait_for(lambda: "the trunk itself fails" in session.call("status")["phase"])
        assert "NameError" in session.call("status")["phase"]
        row = wait_for(lambda: waiting(session))[0]
        decide(session, row)
        wait_for(lambda: rows(session, "experiment")["0001"]["commit"])
        session.call("pull", since=0)
        assert all(shard["experiment"] == "trunk-1" for shard in rows(session, "shard").values())


def test_sql_and_ranking_see_what_happened(tiny: Make) -> None:
    lab = tiny(better(1))
    with lab.session() as session:
        decide(session, wait_for(lambda: waiting(session))[0])
        judged(session, 1)
        best = session.call("rank")["experiments"][0]
        assert (best["id"], best["verdict"]) == ("0001", "solid")
        answer = session.call("sql", text="SELECT count(*) FROM shards WHERE outcome = 'finished'")
        assert answer["rows"] == [[6]]
        curve = session.call("curve", shards=["0001.screen.s0.a1"], metric="loss")["0001.screen.s0.a1"]
        assert curve["steps"] == [0, 1, 2, 3, 4]
        assert session.call("log", shard="0001.screen.s0.a1")["text"].startswith("step 0 loss")
        with pytest.raises(RpcError, match="SELECT"):
            session.call("sql", text="DROP TABLE shards")


def test_a_rebuilt_index_equals_the_live_one(tiny: Make) -> None:
    lab = tiny(better(1), CRASH)
    question = {
        "text": "SELECT (SELECT count(*) FROM points), (SELECT sum(value) FROM points WHERE value = value), "
        "(SELECT count(*) FROM events), (SELECT string_agg(id || coalesce(outcome, ''), ',' ORDER BY id) FROM shards), "
        "(SELECT count(*) FROM verdicts), (SELECT count(*) FROM decisions), (SELECT count(*) FROM shard_facts)"
    }
    with lab.session() as session:
        for row in wait_for(lambda: len(found := waiting(session)) == 2 and found):
            decide(session, row)
        judged(session, 2)
        wait_for(lambda: session.call("status")["running"] == 0)
        wait_for(lambda: briefed(session))
        live = session.call("sql", **question)["rows"]
        session.call("rebuild")
        assert session.call("sql", **question)["rows"] == live
    lab.stop()
    lab.state.history.write_bytes(b"this is no database")
    with lab.session() as session:
        assert session.call("sql", **question)["rows"][0][0] == live[0][0]
        assert any("set aside" in each or "damaged" in each for each in session.call("status")["warnings"])


def test_after_resume_a_stopped_seed_of_the_trunk_runs_and_undecided_experiments_go_on(tiny: Make) -> None:
    lab = tiny(better(1), slots=3)
    lab.hold.touch()
    with lab.session() as session:
        wait_for(lambda: sum(s["state"] == "running" for s in rows(session, "shard").values()) == 3)
        session.call("stop", id="trunk-1.screen.s0.a1", why="to see what happens", request_id="x1")
        wait_for(lambda: rows(session, "shard")["trunk-1.screen.s0.a1"]["state"] == "ended")
        lab.hold.unlink()
        decide(session, wait_for(lambda: waiting(session))[0])
        row = judged(session, 1)["0001"]
        assert (row["verdict"]["verdict"], row["verdict"]["n"]) == ("undecided", 2)
        session.call("resume")
        decided = wait_for(
            lambda: (r := rows(session, "experiment")["0001"])["verdict"]["verdict"] != "undecided" and r
        )
        assert (decided["state"], decided["verdict"]["verdict"], decided["verdict"]["n"]) == ("judged", "solid", 3)


POLICY = '[gates]\nask = "never"\n'


def test_a_policy_approves_what_runs_in_a_box(tiny: Make) -> None:
    if probe().level == 1:
        pytest.skip("this machine can make no box")
    with tiny(better(1), extra=POLICY).session() as session:
        found = judged(session, 1)
        assert found["0001"]["verdict"]["verdict"] == "solid"
        (decision,) = [row for row in rows(session, "decision").values() if row["action"] == "approve"]
        assert decision["who"]["kind"] == "policy"


def test_no_policy_starts_what_would_run_without_a_box(tiny: Make) -> None:
    with tiny(better(1), isolation="limits", extra=POLICY).session() as session:
        idle = wait_for(
            lambda: [row for row in rows(session, "lab").values() if row["phase"] == "waiting for a decision"]
        )
        assert idle[0]["isolation"] == "limits only"
        (row,) = waiting(session)
        decide(session, row)
        assert judged(session, 1)["0001"]["verdict"]["verdict"] == "solid"
