"""The trunk moves under what is in flight: it starts again there when it is the same patch, and else a person is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine import events as e
from engine.campaign import Cancel, Launch, plan, setup_of
from engine.moving import left_behind, next_name, normalised
from engine.repo import Conflict, EmptyDiff
from engine.shortlist import shortlist
from engine.types import ExperimentState
from tests.campaigns import Campaign
from tests.researcher import WHEN, Researcher, start
from tests.test_campaign import LAB, SOLID, TRUNK, settle
from tests.test_crash import anchored, assert_whole, gains
from tests.tinylab import TinyLab, better, decide, proposal, rows, wait_for, waiting

Make = Callable[..., TinyLab]
AUTHOR = ("Ada", "ada@example.org")


# --- the patch ---------------------------------------------------------------------------------------------------------


def test_line_numbers_and_hashes_are_no_part_of_a_patch_and_the_lines_around_it_are() -> None:
    one = "diff --git a/t b/t\nindex 1..2 100644\n@@ -1,3 +1,3 @@ def f():\n a\n-b\n+c\n d\n"
    moved = one.replace("index 1..2", "index 3..4").replace("@@ -1,3 +1,3 @@ def f():", "@@ -9,3 +11,3 @@ class G:")
    assert normalised(one) == normalised(moved)
    assert normalised(one) != normalised(one.replace(" d\n", " e\n"))
    assert [next_name("0004"), next_name("0004.r2"), next_name("exp/0004-more.r19")] == [
        "0004.r2", "0004.r3", "exp/0004-more.r20",
    ]  # fmt: skip


def test_a_commit_is_replayed_without_a_work_tree_and_the_same_twice(tmp_path: Path) -> None:
    ada: Researcher = start(tmp_path / "lab", tmp_path / "private")
    repo = ada.open()
    _, base = repo.head()
    lines = "".join(f"line_{n} = {n}\n" for n in range(30))
    trunk = repo.commit(base, {"long.py": lines.encode()}, "Long", WHEN, AUTHOR).commit
    idea = repo.commit(trunk, {"long.py": lines.replace("line_3 = 3", "line_3 = 33").encode()}, "Idea", WHEN, AUTHOR)
    far = repo.commit(trunk, {"long.py": lines.replace("line_25 = 25", "line_25 = 0").encode()}, "Far", WHEN, AUTHOR)
    near = repo.commit(trunk, {"long.py": lines.replace("line_3 = 3", "line_3 = 4").encode()}, "Near", WHEN, AUTHOR)
    before = ada.state()
    made = repo.replay(idea.commit, far.commit, "Again", WHEN, AUTHOR)
    assert not isinstance(made, Conflict)
    text = repo.read(made.commit, "long.py") or b""
    assert b"line_3 = 33" in text
    assert b"line_25 = 0" in text
    assert repo.replay(idea.commit, far.commit, "Again", WHEN, AUTHOR) == made
    assert normalised(repo.diff(far.commit, made.commit)) == normalised(repo.diff(trunk, idea.commit))
    assert repo.replay(idea.commit, near.commit, "Again", WHEN, AUTHOR) == Conflict(("long.py",))
    with pytest.raises(EmptyDiff, match="this change already"):
        repo.replay(idea.commit, idea.commit, "Again", WHEN, AUTHOR)
    assert ada.state() == before


# --- the plan ----------------------------------------------------------------------------------------------------------


def replayed(campaign: Campaign, name: str, *, retest: bool = False) -> str:
    again, arm = next_name(name), campaign.state.trunk_arm
    branch = f"exp/{again}"
    plan_of = e.ExperimentReplayed(
        again, name, campaign.trunk, arm, branch, 1.0, ["Ada", "a@b"], "Idea", "screen", retest
    )
    campaign.write(plan_of, e.ExperimentBranched(again, again.ljust(40, "0"), again.ljust(40, "1"), branch))
    return again


def test_what_was_solid_is_tested_again_first_with_no_evidence_of_the_old_trunk_and_keeps_its_place() -> None:
    campaign = Campaign(setup_of(LAB))
    campaign.run("trunk-1", TRUNK)
    running, solid, dropped = (campaign.approve() for _ in range(3))
    campaign.run(solid, SOLID)
    campaign.run(dropped, TRUNK)
    settle(campaign, LAB)
    shard = campaign.start(running, 0)
    assert left_behind(campaign.state) == []
    campaign.trunk_moves()
    assert [row["id"] for row in left_behind(campaign.state)] == [running, solid]
    replayed(campaign, running)
    again = replayed(campaign, solid, retest=True)
    assert left_behind(campaign.state) == []
    assert Cancel(shard) in plan(campaign.state, LAB, 2)
    campaign.run("trunk-2", TRUNK)
    found = [step.experiment for step in plan(campaign.state, LAB, 9) if isinstance(step, Launch)]
    assert found[0] == again
    rows_now = campaign.state.experiments
    assert (rows_now[again]["pairs"], rows_now[again]["verdict"]) == ([], None)
    assert rows_now[solid]["state"] == ExperimentState.MOVED
    assert len(rows_now[solid]["pairs"]) == 3
    listed = shortlist("trunk-2", rows_now.values(), campaign.state.shards.values())
    assert [(each["experiment"], each["state"]) for each in listed] == [(again, ExperimentState.QUEUED)]
    assert "was solid on trunk-1" in listed[0]["sentence"]
    campaign.run(again, TRUNK)
    settle(campaign, LAB)
    assert shortlist("trunk-2", campaign.state.experiments.values(), campaign.state.shards.values()) == []


# --- with a real engine ------------------------------------------------------------------------------------------------


def test_an_identical_patch_goes_on_as_r2_on_the_new_trunk(tiny: Make) -> None:
    lab = tiny(*gains(2))
    anchored(lab, 2)
    with lab.session() as session:
        one, two = wait_for(lambda: len(found := waiting(session)) == 2 and found)
        decide(session, one)
        decide(session, two)
        wait_for(lambda: [row["state"] for row in rows(session, "experiment").values()].count("judged") == 3)
        old = rows(session, "experiment")["0002"]
        session.call("sign", experiment="0001", diff_hash=one["diff_hash"], request_id="s1")
        new = wait_for(lambda: (row := rows(session, "experiment").get("0002.r2")) and row["state"] == "judged" and row)
        assert (new["baseline"], new["branch"]) == ("trunk-2", f"{old['branch']}.r2")
        trunk = lab.git("rev-parse", "cockpit/trunk").strip()
        assert lab.git("rev-parse", f"{new['branch']}^").strip() == trunk
        assert lab.git("rev-parse", old["branch"]).strip() == old["commit"]
        assert "Cockpit-Experiment: 0002.r2" in lab.git("log", "-1", "--format=%B", new["branch"])
        assert {shard["experiment"] for shard in rows(session, "shard").values()} >= {"0002", "0002.r2", "trunk-2"}
        moved = rows(session, "experiment")["0002"]
        assert (moved["state"], moved["moved_to"], moved["pairs"]) == ("moved", "0002.r2", old["pairs"])
        session.call("sign", experiment="0002.r2", diff_hash=two["diff_hash"], request_id="s2")
        wait_for(lambda: rows(session, "experiment")["0002.r2"]["state"] == "merged")
    assert_whole(lab)


def test_a_conflict_is_a_state_that_a_person_sees_with_the_file(tiny: Make) -> None:
    lab = tiny(better(1), better(2))
    with lab.session() as session:
        one, two = wait_for(lambda: len(found := waiting(session)) == 2 and found)
        decide(session, one)
        decide(session, two)
        wait_for(lambda: [row["state"] for row in rows(session, "experiment").values()].count("judged") == 3)
        session.call("sign", experiment="0001", diff_hash=one["diff_hash"], request_id="s1")
        row = wait_for(lambda: (row := rows(session, "experiment")["0002"]) and row["state"] == "conflicted" and row)
        assert "it conflicts with trunk-2 in train.py" in row["why"]
    assert_whole(lab)


def test_a_patch_that_reads_differently_there_goes_back_to_review(tiny: Make) -> None:
    quieter = proposal("Less noise", "SEED_NOISE = 0.01", "SEED_NOISE = 0.02")
    lab = tiny(better(1), quieter)
    with lab.session() as session:
        one, two = wait_for(lambda: len(found := waiting(session)) == 2 and found)
        decide(session, one)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        lab.hold.touch()
        decide(session, two)
        wait_for(lambda: any(row["experiment"] == "0002" for row in rows(session, "shard").values()))
        session.call("sign", experiment="0001", diff_hash=one["diff_hash"], request_id="s1")
        row = wait_for(lambda: (row := rows(session, "experiment")["0002"]) and row["state"] == "moved" and row)
        lab.hold.unlink()
        again = rows(session, "proposal")[row["moved_to"]]
        assert again["state"] == "waiting"
        assert "reads differently" in row["why"]
        shown = session.call("diff", proposal=again["id"])["diff"]
        assert "+SEED_NOISE = 0.02" in shown
        assert " RATE = 3.0" in shown
        assert not [row for row in rows(session, "experiment").values() if row.get("replay_of")]
        wait_for(lambda: session.call("status")["running"] == 0)
    assert_whole(lab)
