"""What becomes of an allocation that nobody uses, when its engine is gone; and what the ledger says of each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cockpit import cli
from cockpit.attach import Session
from engine.daemon import lock, unlock
from engine.ledger import read_lines
from engine.paths import StateDir
from engine.shards.alone import is_held
from engine.shards.records import read_exit
from engine.shards.slurm import notes
from engine.shards.slurm.commands import find, own
from tests.slurm.cluster import Cluster
from tests.slurm.shards import end, make, shard, until
from tests.slurm.test_campaign import SlurmLab, lab, running  # noqa: F401 (a fixture)
from tests.tinylab import rows, wait_for

IDLE_S = 4
SKEW_S = -30.0


def idle_lab(root: Path, slurm: Cluster) -> SlurmLab:
    """A lab that gives its pilot back soon; its shards are held."""
    ours = SlurmLab(root, slurm, [])
    config = ours.root / "cockpit.toml"
    config.write_text(config.read_text().replace('walltime = "2h"', f'walltime = "2h"\nidle = "{IDLE_S}s"'))
    ours.git("commit", "-q", "-a", "-m", "Give it back soon")
    return ours


def kill(ours: SlurmLab) -> None:
    assert ours.engine is not None
    os.kill(ours.engine.pid, signal.SIGKILL)
    ours.engine.wait()


def held(slurm: Cluster) -> list[str]:
    """The jobs that have nodes now."""
    return slurm.run("squeue", "--noheader", "--states=running", "--format=%i").split()


def ended(state: StateDir, kind: str = "allocation.") -> list[tuple[str, dict[str, Any]]]:
    """What the ledger says of allocations."""
    found = [(each.type, each.data) for each, _ in read_lines(state.ledger.read_bytes())]
    return [(name, data) for name, data in found if name.startswith(kind)]


def get_pilot(session: Session, slurm: Cluster) -> str:
    """Confirm a pilot; its job, once it has its nodes."""
    session.call("pilot", action="confirm", why="for the screen")
    wait_for(lambda: len(session.call("pilot")["nodes"]) == 2 and session.call("pilot")["idle_release_s"] is not None)
    return held(slurm)[0]


def test_the_ledger_says_how_each_allocation_ended_whoever_saw_it(
    lab: Callable[..., SlurmLab],  # noqa: F811
    slurm: Cluster,
) -> None:
    ours = lab(make=idle_lab)
    with ours.session() as session:
        session.call("pilot", action="confirm", why="for the screen")
        wait_for(lambda: [row for row in rows(session, "shard").values() if row["metric"] is not None][2:], 90)
        wait_for(lambda: not session.call("pilot")["asked"])  # the engine gives it back itself
        assert session.call("pilot")["sentence"].startswith(f"released after {IDLE_S} idle seconds; ")
        second = get_pilot(session, slurm)
    kill(ours)
    wait_for(lambda: held(slurm) == [])  # no engine runs
    with ours.session() as session:
        wait_for(lambda: "while no engine ran" in session.call("status")["phase"])
        wait_for(lambda: len(ended(ours.state)) == 4)
        third = get_pilot(session, slurm)
    kill(ours)
    slurm.run("scancel", third)  # as whoever runs the cluster may
    wait_for(lambda: notes.ends(ours.state.root) or held(slurm) == [])
    for _ in range(2):
        with ours.session() as session:
            wait_for(lambda: not session.call("pilot")["asked"])
            wait_for(lambda: len(ended(ours.state)) >= 6)
            assert all(check["ok"] for check in session.call("verify")["checks"])
        kill(ours)
        first = ended(ours.state)[1][1]["allocation"]  # as if an engine had died between its event and the rest
        notes.put_end(ours.state.root, {"id": first, "job": "1", "how": "idle", "until": 1.0})
    told = ended(ours.state)
    assert [name for name, _ in told] == ["allocation.confirmed", "allocation.released"] * 2 + [
        "allocation.confirmed",
        "allocation.ended",
    ]
    confirmed, ends = [data for _, data in told[::2]], [data for _, data in told[1::2]]
    assert {(each["who"]["kind"], each["why"]) for each in confirmed} == {("person", "for the screen")}
    assert [each["who"]["kind"] for each in ends[:2]] == ["policy"] * 2
    assert {each["who"]["name"] for each in ends[:2]} == {"[slurm] idle"}
    assert ends[0]["why"] == f"released after {IDLE_S} idle seconds"
    assert (ends[1]["why"], ends[1]["name"]) == (f"{ends[0]['why']}, while no engine ran", second)
    assert (ends[2]["how"], ends[2]["name"]) == ("cancelled", third)
    assert all(each["since"] <= each["until"] for each in ends)
    assert ends[1]["until"] - ends[1]["since"] >= IDLE_S
    assert len({each["allocation"] for each in ends}) == 3


async def test_a_step_that_runs_on_keeps_the_pilot_until_it_has_been_over_for_a_while(
    slurm: Cluster, tmp_path: Path
) -> None:
    state = StateDir(tmp_path / "state")
    executor = make(slurm, state, idle_s=1.0)
    engine = lock(state)
    await executor.reattach()
    await executor.confirm()
    await until(executor, lambda: executor.shortage is None)
    long = "print('up', flush=True); import time; time.sleep(5)"  # five times as long as the pilot may be idle
    await executor.launch(shard(state, "s", long))
    job = executor.pilot.job_id
    await executor.close()
    unlock(engine)  # no engine runs from here on
    found = wait_for(lambda: notes.ends(state.root))
    assert [(each["job"], each["how"], each["engine"]) for each in found] == [(job, "idle", False)]
    record, client = read_exit(state.runs / "s"), read_exit(state.root / "clients" / "s")
    assert record is not None
    assert client is not None
    assert (record.how, record.code) == ("exited", 0)
    assert found[0]["until"] - client.ended >= 1.0
    wait_for(lambda: held(slurm) == [])
    wait_for(lambda: slurm.keepers() == [])  # it ends with what it kept
    second = make(slurm, state)
    engine = lock(state)
    assert await second.reattach() <= {"s"}  # how it ended may yet be found out
    assert "while no engine ran" in str(second.shortage)
    assert [each.rule for each in second.ends] == ["[slurm] idle"]
    await second.close()
    await end(state)
    unlock(engine)


async def test_there_is_one_keeper_and_a_new_engine_starts_it_again(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    executor = make(slurm, state)
    engine = lock(state)
    await executor.reattach()
    await executor.confirm()
    await until(executor, lambda: executor.shortage is None)
    first = slurm.keepers()
    assert len(first) == 1
    for _ in range(2):
        assert started_by_hand(slurm, state) == 0
    assert slurm.keepers() == first
    assert memory(first[0]) < 20_000
    await executor.close()
    os.kill(first[0], signal.SIGKILL)  # the login node was restarted
    wait_for(lambda: slurm.keepers() == [])
    second = make(slurm, state)
    await second.reattach()
    wait_for(lambda: not is_held(state.root / notes.KEEPER) or len(slurm.keepers()) == 1)
    await until(second, lambda: len(slurm.keepers()) == 1)
    assert second.pilot.job_id == held(slurm)[0]
    await second.release("done")
    await second.close()
    await end(state)
    unlock(engine)


def started_by_hand(slurm: Cluster, state: StateDir) -> int:
    """Exit code of a keeper that is started."""
    words = own("keeper", str(state.root))
    return subprocess.run(words, env=dict(find(slurm.env).env), check=False, cwd="/").returncode


def memory(pid: int) -> int:
    """Resident kilobytes of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def test_who_stops_the_engine_is_told_what_becomes_of_the_pilot(
    lab: Callable[..., SlurmLab],  # noqa: F811
    slurm: Cluster,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours = lab()
    with ours.session() as session:
        job = session.call("pilot", action="confirm") and wait_for(lambda: session.call("pilot")["job"])
        wait_for(lambda: [row for row in rows(session, "shard").values() if row["metric"] is not None][2:], 90)
        wait_for(lambda: session.call("pilot")["idle_release_s"] is not None)
        shown = session.call("pilot")
        assert (shown["job"], shown["state"], shown["why"]) == (job, "running", "")
        assert 0 < shown["left_s"] <= 7200
        assert [(each["node"], each["level"], each["gpus"]) for each in shown["nodes"]] == [("n1", 3, 4), ("n2", 3, 4)]
        assert not any(each["apart"] for each in shown["nodes"])
        assert all(abs(each["offset_s"]) <= each["within_s"] for each in shown["nodes"])  # it is the same clock
        assert cli.main(["-C", str(ours.root), "pilot"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"pilot {job} on n[1-2], ")
        assert "given back in 10 minutes" in lines[1]
        assert [line.split()[0] for line in lines[2:]] == ["node", "n1", "n2"]
    assert cli.main(["-C", str(ours.root), "down", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    stays = f"pilot {job} stays for 10 minutes more with nothing in it; `cockpit pilot --release` gives it back now"
    assert answer == {"stopped": True, "running": 0, "pilot": {"job": job, "sentence": stays}}
    assert held(slurm) == [job]
    ours.start().poll()
    with ours.session():
        assert cli.main(["-C", str(ours.root), "pilot", "--release", "--why", "home", "--json"]) == 0
        assert not json.loads(capsys.readouterr().out)["asked"]
    ends = [(data["who"]["kind"], data["why"], data["name"]) for _, data in ended(ours.state, "allocation.released")]
    assert ends == [("person", "home", job)]
    assert cli.main(["-C", str(ours.root), "pilot", "--why", "no reason"]) == 2


# --- clocks


FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@pytest.fixture
def skewed(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster on whose second node every program sees a clock that is behind."""
    prolog = tmp_path / "prolog"
    prolog.write_text(
        "#!/bin/sh\n[ $SLURMD_NODENAME = n2 ] || exit 0\n"
        f"echo export LD_PRELOAD={FAKETIME}\necho export FAKETIME={SKEW_S:.0f}\n"
        "echo export FAKETIME_DONT_FAKE_MONOTONIC=1\n"
    )
    prolog.chmod(0o755)
    made = Cluster(tmp_path / "slurm", gpus=4)
    with made.conf.open("a") as file:
        file.write(f"TaskProlog={prolog}\n")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is not installed (`make test-slurm` does so)")
def test_a_node_whose_clock_is_off_is_shown_and_changes_nothing(
    lab: Callable[..., SlurmLab],  # noqa: F811
    skewed: Cluster,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours = lab(make=lambda root, _: SlurmLab(root, skewed, [], seeds=(0, 1, 2, 3)))
    ours.hold.touch()
    with ours.session() as session:
        session.call("pilot", action="confirm")
        wait_for(lambda: len(running(session)) == 4, 90)
        found = {each["node"]: each for each in session.call("pilot")["nodes"]}
        assert not found["n1"]["apart"]
        assert found["n2"]["apart"]
        assert abs(found["n2"]["offset_s"] - SKEW_S) <= found["n2"]["within_s"] + 0.1
        warnings = wait_for(lambda: session.call("status")["warnings"])
        assert [each for each in warnings if "the clock of n2 is" in each and "s behind this machine's" in each]
        assert cli.main(["-C", str(ours.root), "pilot"]) == 0
        assert capsys.readouterr().out.rstrip().endswith("apart")
        there = [row["id"] for row in running(session) if row["node"] == "n2"]
        wait_for(lambda: all((ours.state.runs / id / "metrics.jsonl").exists() for id in there))
        skewed.kill_node("n2")
        wait_for(lambda: {rows(session, "shard")[id]["outcome"] for id in there} == {"node-lost"}, 90)
        for id in there:  # what its node and this machine say is not mixed
            record = read_exit(ours.runs / id)
            assert record is not None
            assert 0 <= record.ended - record.started < -SKEW_S
        ours.hold.unlink()
        wait_for(lambda: [row for row in rows(session, "shard").values() if row["metric"] is not None][3:], 120)
        for row in rows(session, "shard").values():
            assert row["ended"] >= row["started"]
        session.call("pilot", action="release")
        wait_for(lambda: not session.call("status")["warnings"])  # of nodes that it no longer has, nothing is said
        assert all(check["ok"] for check in session.call("verify")["checks"])
