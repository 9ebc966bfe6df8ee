"""Large shards on a real cluster whose queue, controller or files say nothing, or too late: none that runs is ended for that,
and no job is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.paths import StateDir
from engine.shards.executor import ExecutorError
from engine.shards.slurm import jobs
from engine.shards.slurm.commands import Controller, SlurmError, find
from engine.shards.slurm.executor import SlurmExecutor
from tests.slurm.cluster import Cluster
from tests.slurm.shards import make, output, piloted, record, shard, until
from tests.slurm.test_executor import written
from tests.slurm.test_jobs import large, listening, owning, queue

SAVES = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('saved', flush=True) or 5)); "
    "print('up', flush=True); time.sleep(100)"
)
LATE = "sbatch does not answer within 20 s"
Ask = Callable[..., Awaitable[str]]


def between(executor: SlurmExecutor, ask: Callable[..., Awaitable[str]]) -> Ask:
    """Have `ask` answer for Slurm; returns what asks Slurm itself."""
    real: Ask = executor._controller.ask
    executor._controller.ask = ask  # type: ignore[method-assign]
    return real


async def none_but(slurm: Cluster, count: int) -> None:
    """Return when only so many jobs of ours are not over, beside the pilot."""
    async with asyncio.timeout(60):
        while sum(row.split()[1] in ("PENDING", "RUNNING") for row in queue(slurm)) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.3)


async def test_a_queue_that_says_nothing_ends_neither_what_runs_nor_what_waits(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        for n in range(3):
            await executor.launch(large(state, f"s{n}", go))
        await told.until(began=2)
        silences, often = 0, asyncio.Event()

        async def ask(name: str, *words: str, stdin: bytes = b"") -> str:
            nonlocal silences
            if name != "squeue":
                return await real(name, *words, stdin=stdin)
            silences += 1
            executor.jobs._expect()
            if silences == 4:
                often.set()
            return ""

        real = between(executor, ask)
        executor.jobs._expect()
        async with asyncio.timeout(60):
            await often.wait()
        assert told.ended == {}
        assert sorted(each.state for each in executor.standing.values()) == ["queued", "running", "running"]
        executor._controller.ask = real  # type: ignore[method-assign]
        go.touch()
        await told.until(began=3, ended=3)
        assert {(record(each).how, record(each).code) for each in told.ended.values()} == {("exited", 0)}


@pytest.mark.parametrize("claims_first", [True, False])
async def test_a_job_that_was_taken_after_all_is_the_one_and_its_twin_goes(
    slurm: Cluster, tmp_path: Path, claims_first: bool
) -> None:
    """sbatch gave no answer, the queue did not show the job yet, and it was submitted again."""
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        kept: list[Any] = []

        async def ask(name: str, *words: str, stdin: bytes = b"") -> str:
            if name == "sbatch" and not kept:
                kept.append((words, stdin))
                raise SlurmError(LATE)
            if name == "sbatch" and len(kept) == 1:
                kept.append(await real(name, *kept[0][0], stdin=kept[0][1]))
                if claims_first:
                    await told.until(began=1)
            return await real(name, *words, stdin=stdin)

        real = between(executor, ask)
        await executor.launch(large(state, "x", go))
        await told.until(began=1)
        assert executor.standing["x"].job == kept[1].strip()
        await none_but(slurm, 1)
        assert told.ended == {}
        go.touch()
        await told.until(ended=1)
        assert (record(told.ended["x"]).how, record(told.ended["x"]).code) == ("exited", 0)
        assert len(queue(slurm)) == 2


async def test_a_large_shard_on_two_nodes_can_be_stopped_and_killed(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    values: dict[str, Any] = {"ranks": 2, "gpus": 1, "own": ("full",), "args": ("--mem=1000",)}
    async with piloted(slurm, state, **values) as executor, listening(executor) as told:
        for id in ("stopped", "killed"):
            await executor.launch(shard(state, id, SAVES, rung="full", nodes=2, timeout_s=100.0))
            await told.until(began=1)
            await written(state, id, "up")
            assert await (executor.stop(id, 60.0) if id == "stopped" else executor.kill(id))
            await told.until(ended=1, seconds=50)  # less than the grace: they were told, and not only killed at its end
            found = record(told.ended[id])
            assert found.how == "stopped"
            if id == "stopped":
                assert found.code == 5
                assert "saved" in output(state, id)
            await none_but(slurm, 0)
            told.began.clear()
            told.ended.clear()


async def test_a_job_that_outlives_its_shard_is_cancelled(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of several nodes does, of which one hangs: it would hold its GPUs for as long as it may last."""
    monkeypatch.setattr(jobs, "LINGER_S", 1.0)
    state = StateDir(tmp_path / "state")
    async with owning(slurm, state) as (executor, told):
        hangs = lambda made, words: ["/bin/sh", "-c", '"$@"; exec sleep 900', "sh", *words]  # noqa: E731
        executor.jobs.handover.program = hangs
        await executor.launch(shard(state, "x", "print('up')", rung="full"))
        await told.until(ended=1)
        assert record(told.ended["x"]).code == 0
        await none_but(slurm, 0)
        assert [row.split()[1] for row in queue(slurm)] == ["CANCELLED"]


@pytest.mark.parametrize("name", ["steps/x/order.json", "jobs/*/tasks.json"])
async def test_what_cannot_be_read_just_now_cancels_nothing(slurm: Cluster, tmp_path: Path, name: str) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        await executor.launch(large(state, "x", go))
        await told.until(began=1)
        await executor.close()
        (path,) = state.root.glob(name)
        path.rename(path.with_suffix(".away"))
        path.mkdir()  # it is there, and cannot be read
        second = make(slurm, state, nodes=1, gpus=4, ranks=2, own=("full",), args=("--mem=1000",))
        async with listening(second) as again:
            with pytest.raises(ExecutorError, match="left alone"):
                await second.reattach()
            path.rmdir()
            path.with_suffix(".away").rename(path)
            assert await second.reattach() == {"x"}
            second.jobs.jobs["x"].gone = True  # its end is being found out
            handle = await second.launch(large(state, "x", go))
            assert (handle.state, handle.known) == ("running", True)
            second.jobs.jobs["x"].gone = False
            go.touch()
            await again.until(ended=1)
            assert (record(again.ended["x"]).how, record(again.ended["x"]).code) == ("exited", 0)
            await second.close()


async def test_an_order_that_is_nonsense_is_left_alone_with_its_job(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        await executor.launch(large(state, "x", go))
        await told.until(began=1)
        await executor.close()
        (state.root / "steps" / "x" / "order.json").write_text("{")
        second = make(slurm, state, nodes=1, gpus=4, ranks=2, own=("full",), args=("--mem=1000",))
        assert await second.reattach() == set()
        assert not second.jobs.unwanted
        assert [row.split()[1] for row in queue(slurm)] == ["RUNNING"]
        await second.close()


async def test_all_tasks_of_a_torn_array_are_seen(slurm: Cluster) -> None:
    slurm.run("sbatch", "--hold", "--array=0-99", "--mem=100", "--wrap=sleep 1")
    number = slurm.run("squeue", "--noheader", "--format=%i").split("_")[0]
    torn = {n for n in range(100) if n % 7 in (1, 3, 4)}  # what is left takes more than 64 characters to say
    slurm.run("scancel", *(f"{number}_{n}" for n in sorted(torn)))
    found = await Controller(find(slurm.env)).queue(number)
    assert {id for id, job in found.items() if job.pending} == {f"{number}_{n}" for n in range(100) if n not in torn}


async def test_an_array_that_is_too_large_for_the_site_is_split(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    slurm.kill_controller()
    slurm.conf.write_text(slurm.conf.read_text() + "MaxArraySize=3\n")
    slurm.start_controller()
    go.touch()
    async with owning(slurm, state) as (executor, told):
        for n in range(5):
            await executor.launch(large(state, f"s{n}", go))
        await told.until(ended=5, seconds=120)
        assert {record(each).code for each in told.ended.values()} == {0}
        assert len({row.split()[0].partition("_")[0] for row in queue(slurm)}) == 3


async def test_a_shape_that_is_refused_for_now_holds_up_no_other(slurm: Cluster, tmp_path: Path) -> None:
    """Nor does what nobody thought of."""
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        surprises = {"sbatch", "squeue"}

        async def ask(name: str, *words: str, stdin: bytes = b"") -> str:
            if name in surprises:
                surprises.remove(name)
                raise RuntimeError(name)
            if name == "sbatch" and "--time=21" in words:
                raise SlurmError("sbatch: error: lua: jobs over 20 minutes need an approval")
            return await real(name, *words, stdin=stdin)

        real = between(executor, ask)
        await executor.launch(large(state, "long", go, timeout_s=960.0))
        await until(executor, lambda: "need an approval" in executor.standing["long"].why)
        await executor.launch(large(state, "short", go))
        go.touch()
        await told.until(ended=1)
        assert record(told.ended["short"]).code == 0
        assert not surprises
        assert "need an approval" in executor.standing["long"].why
        assert await executor.stop("long", 5.0)
        await told.until(ended=2)
        assert record(told.ended["long"]).how == "stopped"
        assert len(queue(slurm)) == 1


async def test_a_shard_stopped_while_its_number_is_unknown_leaves_no_job(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        await executor.launch(large(state, "a", go))
        await executor.launch(large(state, "b", go))
        await told.until(began=2)  # there is no room for more
        refused = asyncio.Event()

        async def ask(name: str, *words: str, stdin: bytes = b"") -> str:
            said = await real(name, *words, stdin=stdin)
            if name == "sbatch":
                refused.set()
                raise SlurmError(LATE)
            return said

        real = between(executor, ask)
        await executor.launch(large(state, "x", go))
        async with asyncio.timeout(30):
            await refused.wait()
        assert await executor.stop("x", 5.0)
        await told.until(ended=1)
        assert record(told.ended["x"]).how == "stopped"
        await none_but(slurm, 2)
        assert len(queue(slurm)) == 3
        go.touch()
        await told.until(ended=3)


async def test_what_could_not_be_cancelled_is_cancelled_by_the_next_engine(slurm: Cluster, tmp_path: Path) -> None:
    state, go = StateDir(tmp_path / "state"), tmp_path / "go"
    async with owning(slurm, state) as (executor, told):
        for id in ("a", "b", "waits"):
            await executor.launch(large(state, id, go))
        await told.until(began=2)
        await until(executor, lambda: executor.standing["waits"].why.startswith("waits for nodes"))
        waits = executor.standing["waits"].job

        async def ask(name: str, *words: str, stdin: bytes = b"") -> str:
            if name == "scancel":
                raise SlurmError("scancel does not answer within 20 s")
            return await real(name, *words, stdin=stdin)

        real = between(executor, ask)
        assert await executor.stop("waits", 5.0)
        await told.until(ended=1)
        assert record(told.ended["waits"]).how == "stopped"
        await executor.close()
        assert waits in (state.root / "unwanted.json").read_text()
        await none_but(slurm, 3)
        second = make(slurm, state, nodes=1, gpus=4, ranks=2, own=("full",), args=("--mem=1000",))
        async with listening(second) as again:
            assert await second.reattach() == {"a", "b"}
            await none_but(slurm, 2)
            async with asyncio.timeout(60):
                while (state.root / "unwanted.json").exists():  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            go.touch()
            await again.until(ended=2)
            await second.close()
