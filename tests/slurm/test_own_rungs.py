"""A whole lab whose first rung is too large for its pilot: its shards wait in Slurm's queue, whatever becomes of the engine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cockpit.attach import Session
from tests.slurm.cluster import Cluster
from tests.slurm.test_campaign import SlurmLab, resuming
from tests.tinylab import rows, wait_for


def own(lab: SlurmLab) -> SlurmLab:
    """That lab with one node for its pilot, and a job of its own for each of its shards."""
    config = lab.root / "cockpit.toml"
    text = config.read_text().replace("nodes = 2\n", 'nodes = 1\nown = ["screen"]\nargs = ["--mem=500"]\n')
    config.write_text(text)
    lab.git("commit", "-q", "-a", "-m", "Give large runs jobs of their own")
    return lab


@pytest.fixture
def made(slurm: Cluster, tmp_path: Path) -> Iterator[Callable[..., SlurmLab]]:
    labs: list[SlurmLab] = []

    def build(make: Callable[[Path, Cluster], SlurmLab] | None = None, **options: Any) -> SlurmLab:
        root = tmp_path / f"own{len(labs)}"
        labs.append(own(SlurmLab(root, slurm, [], **options) if make is None else make(root, slurm)))
        return labs[-1]

    yield build
    for each in labs:
        each.end()


def jobs(slurm: Cluster) -> list[str]:
    """The jobs of our shards that Slurm has, or had."""
    listed = slurm.run("squeue", "--noheader", "--array", "--states=all", "--format=%j %i").splitlines()
    pairs = [line.split() for line in listed]
    return sorted(id for name, id in pairs if len(name.rpartition("-")[2]) == 12)  # the pilot's nonce is shorter


def shards(session: Session, state: str) -> list[dict[str, Any]]:
    return [row for row in rows(session, "shard").values() if row["state"] == state]


def test_a_killed_engine_finds_the_same_jobs_and_nothing_runs_twice(
    made: Callable[..., SlurmLab], slurm: Cluster
) -> None:
    words = ("--no-shell", "--nodelist=n2", "--gres=gpu:2", "--mem=100", "--job-name=somebody")
    slurm.run("salloc", *words)  # two GPUs are left beside the pilot
    lab = made(seeds=(0, 1, 2, 3, 4, 5), shared=True)
    lab.hold.touch()
    with lab.session() as session:
        assert (
            "up to 16 jobs of their own at once for rung screen (1 node with 1 GPU for"
            in session.call("pilot")["words"]
        )
        session.call("pilot", action="confirm")
        wait_for(lambda: len(shards(session, "running")) == 2 and len(shards(session, "queued")) == 4, 60)
        before = jobs(slurm)
        assert len(before) == 6
        assert len({id.partition("_")[0] for id in before}) == 1  # one array
        assert {row["started"] for row in shards(session, "queued")} == {None}
        ran = {row["id"] for row in shards(session, "running")}
    assert lab.engine is not None
    os.kill(lab.engine.pid, signal.SIGKILL)
    lab.engine.wait()
    with lab.session() as session:
        wait_for(lambda: session.call("pilot")["asked"] and "running" in session.call("status")["phase"])
        assert {row["id"] for row in shards(session, "running")} == ran
        assert len(shards(session, "queued")) == 4
        lab.hold.unlink()
        wait_for(lambda: len(shards(session, "ended")) == 6, 120)
        found = rows(session, "shard").values()
        assert {(row["outcome"], row["attempt"], row["node"]) for row in found} == {("finished", 1, "n2")}
        assert {row["gpus"] for row in found} <= {"0", "1", "2", "3"}
        assert all(row["metric"] is not None for row in found)  # scored, in the pilot
        began = {row["id"]: row["started"] for row in found}
        assert max(began[id] for id in ran) < min(at for id, at in began.items() if id not in ran)
        assert jobs(slurm) == before
        assert all(check["ok"] for check in session.call("verify")["checks"])


def test_an_engine_that_dies_before_it_knows_the_number_asks_for_nothing_twice(
    made: Callable[..., SlurmLab], slurm: Cluster
) -> None:
    lab = made(shared=True)
    engine = lab.start(COCKPIT_CRASH_AT="jobs.effect")

    def confirm(session: Session) -> None:
        if not session.call("pilot")["asked"]:
            session.call("pilot", action="confirm")

    wait_for(lambda: lab.dies(engine, confirm), 60)
    assert engine.wait(1) == -signal.SIGKILL
    (batch,) = (lab.runs.parent / "jobs").iterdir()
    assert not (batch / "number").exists()
    with lab.session() as session:
        wait_for(lambda: len(shards(session, "ended")) == 3, 90)
        found = rows(session, "shard").values()
        assert {(row["outcome"], row["attempt"]) for row in found} == {("finished", 1)}
        assert len(jobs(slurm)) == 3
        assert all(check["ok"] for check in session.call("verify")["checks"])


def test_a_preempted_job_of_its_own_goes_on_from_its_checkpoint(made: Callable[..., SlurmLab], slurm: Cluster) -> None:
    lab = made(make=resuming)
    with lab.session() as session:
        session.call("pilot", action="confirm")
        files = [lab.state.runs / f"trunk-1.screen.s{seed}.a1" / "metrics.jsonl" for seed in range(3)]
        wait_for(lambda: all(path.exists() and b'"step": 10' in path.read_bytes() for path in files), 60)
        words = ("--nodes=1", "--nodelist=n2", "--gres=gpu:4", "--cpus-per-task=16", "--mem=4000")
        slurm.run("srun", "--partition=high", *words, "/bin/true")
        lab.hold.unlink()
        wait_for(lambda: [row for row in rows(session, "shard").values() if row["metric"] is not None][2:], 90)
        found = rows(session, "shard")
        for seed in range(3):
            first, again = (found[f"trunk-1.screen.s{seed}.a{attempt}"] for attempt in (1, 2))
            assert first["outcome"] == "preempted"
            assert (again["outcome"], again["resumes"]) == ("finished", first["id"])
            lines = (lab.state.runs / again["id"] / "metrics.jsonl").read_text().splitlines()
            assert [line["step"] for line in map(json.loads, lines) if "step" in line] == list(range(20))
        assert session.call("pilot")["asked"]  # it was not the pilot's node
        assert all(check["ok"] for check in session.call("verify")["checks"])


def test_a_person_stops_what_waits_and_it_ends_as_stopped(made: Callable[..., SlurmLab], slurm: Cluster) -> None:
    words = ("--no-shell", "--nodelist=n2", "--gres=gpu:3", "--mem=100", "--job-name=somebody")
    slurm.run("salloc", *words)
    lab = made(shared=True)
    lab.hold.touch()
    with lab.session() as session:
        session.call("pilot", action="confirm")
        wait_for(lambda: len(shards(session, "running")) == 1 and len(shards(session, "queued")) == 2, 60)
        waits = shards(session, "queued")[0]["id"]
        session.call("stop", id=waits, request_id="stop-1", why="not needed")
        row = wait_for(lambda: [row for row in shards(session, "ended") if row["id"] == waits], 60)[0]
        assert (row["outcome"], row["started"]) == ("killed", None)
        assert "before it began" in row["detail"]
        assert len(shards(session, "queued")) == 1
        lab.hold.unlink()
        wait_for(lambda: len(shards(session, "ended")) == 3, 90)
        assert all(check["ok"] for check in session.call("verify")["checks"])
