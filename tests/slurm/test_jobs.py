"""Shards of large rungs, each in a job of its own, on a real cluster: they wait in its queue, run there, and end as others do,
whatever becomes of the engine and the launcher."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.paths import StateDir
from engine.shards.executor import Began, Event
from engine.shards.slurm.executor import SlurmExecutor
from engine.shards.spec import ShardSpec
from tests.slurm.cluster import Cluster
from tests.slurm.shards import end, make, output, piloted, record, shard, until
from tests.slurm.test_executor import environment_of, written

HOLD = "import os, time\nprint('up', flush=True)\nwhile not os.path.exists({go!r}): time.sleep(0.05)"
"""A shard that runs until somebody lets it go."""


class Told:
    """What an executor says of its shards, taken in as it comes."""

    def __init__(self) -> None:
        self.began: dict[str, Began] = {}
        self.ended: dict[str, Event] = {}
        self._more = asyncio.Event()

    async def listen(self, executor: SlurmExecutor) -> None:
        async for event in executor.events():
            if isinstance(event, Began):
                self.began[event.id] = event
            else:
                assert event.id not in self.ended, f"{event.id} ended twice"
                self.ended[event.id] = event
            self._more.set()

    async def until(self, began: int = 0, ended: int = 0, seconds: float = 90.0) -> None:
        async with asyncio.timeout(seconds):
            while len(self.began) < began or len(self.ended) < ended:
                await self._more.wait()
                self._more.clear()


@asynccontextmanager
async def listening(executor: SlurmExecutor) -> AsyncIterator[Told]:
    told = Told()
    task = asyncio.create_task(told.listen(executor))
    try:
        yield told
    finally:
        task.cancel()


@asynccontextmanager
async def owning(slurm: Cluster, state: StateDir, **settings: Any) -> AsyncIterator[tuple[SlurmExecutor, Told]]:
    """An executor whose pilot has the first node, and whose large shards take half of the other one each."""
    values: dict[str, Any] = {"nodes": 1, "gpus": 4, "ranks": 2, "own": ("full",), "args": ("--mem=1000",)} | settings
    async with piloted(slurm, state, **values) as executor, listening(executor) as told:
        yield executor, told


def large(state: StateDir, id: str, go: Path, **fields: Any) -> ShardSpec:
    return shard(state, id, HOLD.format(go=str(go)), rung="full", **fields)


def queue(slurm: Cluster, *words: str) -> list[str]:
    """Every job that Slurm has of ours but the pilot, which comes first, as `id state`."""
    listed = slurm.run("squeue", "--noheader", "--array", "--states=all", "--format=%j %i %T", *words).splitlines()
    rows = [line.split(None, 1) for line in listed]
    return [rest for name, rest in rows if name.startswith("cockpit-") and rest.split()[0] != "1"]


async def test_six_large_shards_are_one_array_that_says_why_it_waits(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        for n in range(6):
            handle = await executor.launch(large(state, f"s{n}", go))
            assert (handle.state, handle.known) == ("queued", False)
        again = await executor.launch(large(state, "s0", go))
        assert (again.state, again.known) == ("queued", True)
        await told.until(began=2)
        assert {each.node for each in told.began.values()} == {"n2"}
        assert told.ended == {}
        assert sorted(each.gpus for each in told.began.values()) == ["0,1", "2,3"]
        await until(executor, lambda: sum("(Resources)" in each.why for each in executor.standing.values()) == 4)
        jobs = {each.job for each in executor.standing.values()}
        assert len({job.partition("_")[0] for job in jobs}) == 1
        assert jobs == {f"{next(iter(jobs)).partition('_')[0]}_{n}" for n in range(6)}
        running = [each for each in executor.standing.values() if each.state == "running"]
        assert {(each.node, each.why) for each in running} == {("n2", "")}
        await until(
            executor, lambda: all(each.left_s for each in executor.standing.values() if each.state == "running")
        )
        assert executor.capacity == 2  # of the pilot, which none of them is in
        go.touch()
        await told.until(began=6, ended=6)
        assert {(record(each).how, record(each).code) for each in told.ended.values()} == {("exited", 0)}
        assert len(queue(slurm)) == 6
        assert not list((state.root / "jobs").iterdir())
        assert executor.standing == {}


async def test_large_shards_go_on_without_engine_and_launcher_and_are_found_again(
    slurm: Cluster, tmp_path: Path
) -> None:
    state, go = StateDir(tmp_path / "state", tmp_path / "shared"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        for n in range(4):
            await executor.launch(large(state, f"s{n}", go))
        await told.until(began=2)
        before = {id: each.job for id, each in executor.standing.items()}
        await executor.close()
        os.kill(int(json.loads(state.launcher_lock.read_bytes())["pid"]), signal.SIGKILL)
        second = make(slurm, state, nodes=1, gpus=4, ranks=2, own=("full",))
        async with listening(second) as told:
            assert await second.reattach() == frozenset(before)
            assert {id: each.job for id, each in second.standing.items()} == before
            assert sorted(each.state for each in second.standing.values()) == ["queued"] * 2 + ["running"] * 2
            go.touch()
            await told.until(began=4, ended=4)
            assert {record(each).code for each in told.ended.values()} == {0}
            assert len(queue(slurm)) == 4
            await second.close()
            await end(state)


async def test_a_large_shard_can_be_stopped_while_it_waits_and_while_it_runs(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        saves = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('saved') or 5)); "
        saves += "print('up', flush=True); time.sleep(60)"
        await executor.launch(shard(state, "saves", saves, rung="full"))
        await executor.launch(large(state, "killed", go))
        await executor.launch(large(state, "waits", go))
        await executor.launch(large(state, "goes-on", go))
        await told.until(began=2)
        await until(executor, lambda: executor.standing["goes-on"].why != "")
        assert await executor.stop("waits", 5.0)
        await told.until(ended=1)
        assert record(told.ended["waits"]).how == "stopped"
        assert record(told.ended["waits"]).pid is None
        assert not await executor.stop("waits", 5.0)
        assert "saves" in told.began, told.began
        await written(state, "saves", "up")
        assert await executor.stop("saves", 5.0)
        await told.until(ended=2)
        assert (record(told.ended["saves"]).how, record(told.ended["saves"]).code) == ("stopped", 5)
        assert "saved" in output(state, "saves")
        assert await executor.kill("killed")
        await told.until(ended=3)
        assert record(told.ended["killed"]).how == "stopped"
        go.touch()
        await told.until(ended=4)
        assert record(told.ended["goes-on"]).code == 0
        assert set(told.began) == {"saves", "killed", "goes-on"}


async def test_one_that_is_stopped_at_once_is_never_asked_for_and_ends_once(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        await executor.launch(large(state, "s", go))
        assert await executor.stop("s", 5.0)
        await told.until(ended=1)
        assert record(told.ended["s"]).how == "stopped"
        await executor.launch(shard(state, "t", "print('up')", rung="full"))
        await told.until(ended=2)
        assert record(told.ended["t"]).code == 0
        assert len(queue(slurm)) == 1


async def test_what_takes_a_large_shards_job_away_is_told_as_what_it_was(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        for id in ("preempted", "cancelled", "waits"):
            await executor.launch(large(state, id, go))
        await told.until(began=2)
        job = executor.standing["cancelled"].job
        with pytest.raises(Exception, match="non-zero exit"):
            slurm.run("scontrol", "requeue", job)  # it was said that it never is
        await until(executor, lambda: executor.standing["waits"].why != "")
        slurm.run("scancel", executor.standing["waits"].job)
        await told.until(ended=1)
        assert (record(told.ended["waits"]).how, record(told.ended["waits"]).pid) == ("preempted", None)
        slurm.run("scancel", job)
        await told.until(ended=2)
        assert record(told.ended["cancelled"]).how == "preempted"
        words = ("--nodes=1", "--nodelist=n2", "--gres=gpu:4", "--cpus-per-task=16", "--mem=4000")
        slurm.run("srun", "--partition=high", *words, "/bin/true")
        await told.until(ended=3)
        assert record(told.ended["preempted"]).how == "preempted"


async def test_a_large_shards_lost_node_and_a_killed_agent_are_told(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        await executor.launch(large(state, "lost", go))
        await told.until(began=1)
        slurm.kill_node("n2")
        await told.until(ended=1, seconds=120)
        assert record(told.ended["lost"]).how == "node-lost"


async def test_a_large_shard_over_its_walltime_is_told_as_timeout(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        await executor.launch(large(state, "long", go, timeout_s=1.0))  # its agent ends it
        await told.until(ended=1)
        assert record(told.ended["long"]).how == "timeout"
        await executor.launch(large(state, "cut", go, timeout_s=600.0))
        await told.until(began=2)
        slurm.run("scontrol", "update", f"JobId={executor.standing['cut'].job}", "TimeLimit=1")  # less than the rung's
        await told.until(ended=2, seconds=150)
        assert record(told.ended["cut"]).how == "timeout"


async def test_a_job_that_slurm_will_never_take_is_told_in_its_words(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        for n, (words, says) in enumerate(
            {
                ("--partition=nowhere",): "invalid partition specified: nowhere",
                ("--constraint=nowhere",): "invalid feature",
            }.items()
        ):
            executor.jobs.settings = make(slurm, state, args=words)._settings
            await executor.launch(large(state, f"s{n}", go))
            await told.until(ended=n + 1)
            found = record(told.ended[f"s{n}"])
            assert found.how == "start-failed"
            assert says in found.error.lower()
        assert [each for each in queue(slurm) if "FAILED" not in each] == []


async def test_while_the_controller_is_away_jobs_wait_and_say_so_and_are_handed_over_once(
    slurm: Cluster, tmp_path: Path
) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    go.touch()
    async with owning(slurm, state) as (executor, told):
        slurm.kill_controller()
        for n in range(2):
            await executor.launch(large(state, f"s{n}", go))
        await until(executor, lambda: all("not taken by Slurm yet" in each.why for each in executor.standing.values()))
        slurm.start_controller()
        await told.until(ended=2)
        assert {record(each).code for each in told.ended.values()} == {0}
        assert len(queue(slurm)) == 2


async def test_who_gives_the_pilot_back_takes_back_what_still_waits(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        assert "up to 16 jobs of their own at once for rung full (1 node with 2 GPUs each)" in executor.words
        for n in range(3):
            await executor.launch(large(state, f"s{n}", go))
        await told.until(began=2)
        await executor.release("done for today")
        await told.until(ended=1)
        assert record(next(iter(told.ended.values()))).how == "preempted"
        go.touch()
        await told.until(ended=3)
        assert sorted(record(each).how for each in told.ended.values()) == ["exited", "exited", "preempted"]


async def test_no_secret_of_the_engine_reaches_a_job_of_its_own(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "WANDB_API_KEY", "COCKPIT_TOKEN", "SLURM_SECRET", "SBATCH_EXPORT"):
        monkeypatch.setenv(name, "sesame-open")
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        await executor.launch(large(state, "s", go))
        await told.until(began=1)
        await written(state, "s", "up")
        processes = slurm.processes("n2")
        assert len(processes) >= 3  # the daemon of its batch step, its agent, and the shard
        for pid in processes:
            assert b"sesame-open" not in environment_of(pid)
        go.touch()
        await told.until(ended=1)
