"""The engine dies at the worst moments; nothing is lost, nothing is done twice, and what runs is taken up again."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cockpit.attach import Session
from engine import faults
from engine.ledger import read_lines
from engine.rpc import RpcError
from engine.shards.process import launch_of, processes
from engine.upkeep import verify_offline
from tests.tinylab import TinyLab, better, decide, proposal, read_json, rows, wait_for, waiting

Make = Callable[..., TinyLab]

OPENING = tuple(point for point in faults.POINTS if point.startswith(("open.", "prepare.")))
ELSEWHERE = (
    *("repair.done", "sign.done", "headline.done"),  # tests/test_repairs.py, tests/test_confirming.py
    "bundle.done",  # tests/test_bundles.py
    "jobs.effect",  # tests/slurm/test_jobs.py
    *("audit.intent", "audit.done"),  # tests/test_past_merges.py
    *("retune.done", "tuned.done", "retuned.done"),  # tests/test_retuning.py
)
LATER = tuple(point for point in faults.POINTS if point not in (*OPENING, *ELSEWHERE))


def assert_whole(lab: TinyLab) -> None:
    """Ledger, decisions, branches, shards and index agree, and no shard that ran was lost."""
    with lab.session() as session:
        checks = session.call("verify")["checks"]
        assert [check for check in checks if not check["ok"]] == []
        assert not [row["id"] for row in rows(session, "shard").values() if row["outcome"] == "lost"]
    assert all(check["ok"] for check in verify_offline(lab.root, lab.state))


@pytest.mark.parametrize("point", OPENING)
def test_killed_while_the_campaign_opens(tiny: Make, point: str) -> None:
    lab = tiny(better(1), prepare=True)
    assert lab.start(COCKPIT_CRASH_AT=point).wait(30) == -signal.SIGKILL
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment"))
        assert list(rows(session, "experiment")) == ["trunk-1"]
        wait_for(lambda: rows(session, "experiment")["trunk-1"]["state"] == "judged")
        assert {row["outcome"] for row in rows(session, "shard").values()} == {"finished"}
        assert rows(session, "lab")["lab"]["trunk"] == lab.git("rev-parse", "cockpit/trunk").strip()
    assert_whole(lab)


def provoke(lab: TinyLab, session: Session, *, pull: bool) -> None:
    """One more of everything that a researcher does: approve, decline now and then, stop, sign, pull."""
    if pull and session.call("trunk")["trunk_behind"] == 0:
        (lab.root / "notes.md").write_text(f"{lab.git('rev-parse', 'HEAD')}")
        lab.git("add", "notes.md")
        lab.git("commit", "-qm", "Take a note")
    if pull:
        _quietly(session, "trunk", action="pull")
    experiments = rows(session, "experiment")
    busy = sum(row["state"] in ("queued", "running") for row in experiments.values() if row["role"] == "experiment")
    for row in waiting(session)[: max(0, 2 - busy)]:
        with suppress(RpcError):  # the trunk moved under it: it comes again
            decide(session, row, "decline", "not now") if row["id"].endswith("5") else decide(session, row)
    for row in experiments.values():
        name, verdict = row["id"], row["verdict"]
        if row["state"] == "running" and row["role"] == "experiment" and name.endswith("3"):
            _quietly(session, "stop", id=name, why="enough", request_id=f"stop-{name}")
        if row["state"] == "judged" and verdict and verdict["verdict"] == "solid":
            proposal = rows(session, "proposal")[row["proposal"]]
            _quietly(session, "sign", experiment=name, diff_hash=proposal["diff_hash"], request_id=f"sign-{name}")


def _quietly(session: Session, method: str, **params: str) -> None:
    with suppress(RpcError):  # the trunk moved, or it ended by itself: no is a good answer here
        session.call(method, **params)


def gains(count: int) -> list[str]:
    """Proposals that each still apply after others were merged: every one adds a line of its own."""
    return [
        proposal(
            f"Step {n} lowers the floor", f"# anchor {n}", f"    bottom -= 0.1 + 0.01 * noise(seed, {n})", "schedule"
        )
        for n in range(count)
    ]


def anchored(lab: TinyLab, count: int) -> None:
    """Give the training script an anchor line for each of the `gains`, far enough apart to merge."""
    anchors = "".join(
        f"    pad_{n} = 0\n# anchor {n}\n    pad_{n} = 1\n    pad_{n} = 2\n    pad_{n} = 3\n" for n in range(count)
    )
    text = (lab.root / "train.py").read_text().replace("    loss = bottom\n", f"{anchors}    loss = bottom\n", 1)
    (lab.root / "train.py").write_text(text)
    lab.git("commit", "-qam", "Room for ideas")


def test_killed_at_every_named_point_between_intent_effect_and_done(tiny: Make) -> None:
    lab = tiny(*gains(80), queue=2, slots=2)
    anchored(lab, 80)
    for point in LATER:
        engine = lab.start(COCKPIT_CRASH_AT=point)

        def prod(session: Session, point: str = point) -> None:
            provoke(lab, session, pull=point.startswith(("pull.", "rebase.")))

        # a solid verdict and what follows it, on a machine that may be busy
        wait_for(lambda engine=engine, prod=prod: lab.dies(engine, prod), 240)
        assert engine.wait(1) == -signal.SIGKILL, point
    with lab.session() as session:
        wait_for(lambda: session.call("status")["running"] == 0 or session.call("pause"))
    assert_whole(lab)
    events = [event.type for event, _ in read_lines(lab.state.ledger.read_bytes())]
    assert events.count("merge.done") == events.count("merge.intended") - events.count("merge.failed") > 0
    assert "stop.done" in events
    assert "pull.done" in events


def test_killed_ten_times_at_random_while_shards_run(tiny: Make) -> None:
    lab = tiny(*gains(6), queue=6, slots=2, steps=40, smoke=True)
    anchored(lab, 6)
    luck = random.Random(7)
    for _ in range(10):
        with lab.session() as session:
            want = lab.state.ledger.read_bytes().count(b"\n") + luck.randrange(3, 14)
            wait_for(lambda want=want, session=session: _settled(session) or session.call("status")["events"] >= want)
            os.kill(session.hello["pid"], signal.SIGKILL)
        assert lab.engine is not None
        lab.engine.wait(10)
    with lab.session() as session:
        wait_for(lambda: _settled(session))
        experiments = rows(session, "experiment")
        assert len(experiments) == 7
        assert all(row["verdict"]["verdict"] == "solid" for row in experiments.values() if row["role"] == "experiment")
        sql = "SELECT s.smoke, count(*) FROM points p JOIN shards s ON s.id = p.shard WHERE p.metric = 'loss' GROUP BY s.id, 1"
        counts = session.call("sql", text=sql)["rows"]
        assert sorted({tuple(row) for row in counts}) == [(False, 40), (True, 1)]
    assert_whole(lab)


def _settled(session: Session) -> bool:
    """All that was approved has its verdict, and nothing more waits for a decision; approves what does."""
    for row in waiting(session):
        decide(session, row)
    found = [row for row in rows(session, "experiment").values() if row["role"] == "experiment"]
    return len(found) == 6 and all(row["state"] == "judged" for row in found)


def test_running_shards_outlive_the_engine_and_are_taken_up_again(tiny: Make) -> None:
    lab = tiny(better(1), slots=4, seeds=(0, 1, 2, 3))
    lab.hold.touch()
    with lab.session() as session:
        wait_for(lambda: sum(row["state"] == "running" for row in rows(session, "shard").values()) == 4)
        before = {row["id"]: row["started"] for row in rows(session, "shard").values()}
        os.kill(session.hello["pid"], signal.SIGKILL)
    assert lab.engine is not None
    lab.engine.wait(10)
    with lab.session() as session:
        found = rows(session, "shard")
        assert {name: row["started"] for name, row in found.items()} == before
        assert {row["state"] for row in found.values()} == {"running"}
        lab.hold.unlink()
        wait_for(lambda: rows(session, "experiment")["trunk-1"]["state"] == "judged")
        assert {row["outcome"] for row in rows(session, "shard").values()} == {"finished"}
        assert set(rows(session, "shard")) == set(before)
    assert_whole(lab)


def test_shards_that_vanish_with_the_launcher_are_lost_and_run_again_once(tiny: Make) -> None:
    lab = tiny(better(1), slots=4, seeds=(0, 1, 2, 3))
    lab.hold.touch()
    with lab.session() as session:
        wait_for(lambda: sum(row["state"] == "running" for row in rows(session, "shard").values()) == 4)
        launcher = int(read_json(lab.state.launcher_lock)["pid"])
        os.kill(launcher, signal.SIGKILL)
        wait_for(lambda: not [each for each in processes() if str(lab.state.runs) in (launch_of(each) or "")])
        lab.hold.unlink()

        def finished() -> set[int]:
            return {row["seed"] for row in rows(session, "shard").values() if row["outcome"] == "finished"}

        wait_for(lambda: finished() == {0, 1, 2, 3})
        shards = rows(session, "shard")
        lost = [row for row in shards.values() if row["outcome"] == "lost"]
        assert len(lost) == 4
        assert all(row["metric"] is None for row in lost)
        assert all(row["attempt"] <= 2 for row in shards.values())


def test_a_torn_last_line_is_set_aside_and_said(tiny: Make) -> None:
    lab = tiny(better(1))
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
    lab.stop()
    with lab.state.ledger.open("ab") as file:
        file.write(b'{"v":1,"n":99,"t":1.0,"type":"proposal.dec')
    with lab.session() as session:
        assert any("torn" in warning for warning in session.call("status")["warnings"])
    assert [path.read_bytes() for path in lab.state.root.glob("ledger.torn-*")] == [
        b'{"v":1,"n":99,"t":1.0,"type":"proposal.dec'
    ]


def test_a_changed_line_refuses_to_start_and_says_where(tiny: Make) -> None:
    lab = tiny(better(1))
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
    lab.stop()
    lines = lab.state.ledger.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"type":"', b'"type":"x', 1)
    lab.state.ledger.write_bytes(b"".join(lines))
    assert lab.start().wait(30) == 1
    said = Path(lab.state.root / "engine.start").read_text()
    assert "ledger.jsonl:4" in said
    assert "Traceback" not in said


def test_a_second_engine_is_refused(tiny: Make) -> None:
    lab = tiny(better(1))
    with lab.session() as session:
        first, pid = lab.engine, session.hello["pid"]
        assert lab.start().wait(30) == 1
        assert f"pid {pid}" in (lab.state.root / "engine.start").read_text()
        lab.engine = first
