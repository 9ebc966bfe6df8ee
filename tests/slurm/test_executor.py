"""A researcher's shards on a real cluster of two nodes: they start as steps of the pilot, and end as on one machine."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.paths import StateDir
from engine.shards.executor import ExecutorError, Vanished
from engine.shards.local import _ask
from engine.shards.sandbox import with_ranks
from engine.shards.slurm.jobs import OwnJobs
from tests.slurm.cluster import NODES, Cluster
from tests.slurm.shards import end, endings, make, output, piloted, record, shard, until


async def test_shards_run_on_both_nodes_each_with_a_gpu_of_its_own(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state) as executor:
        assert executor.capacity == 8
        places = {}
        for n in range(8):
            code = "import os, sys, time; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(1)"
            places[f"s{n}"] = (await executor.launch(shard(state, f"s{n}", code))).where
        ended = await endings(executor, 8)
        assert {record(each).how for each in ended.values()} == {"exited"}
        assert {record(each).code for each in ended.values()} == {0}
        assert sorted(where.split()[0] for where in places.values()) == ["n1"] * 4 + ["n2"] * 4
        for node in ("n1", "n2"):
            gpus = [output(state, id).strip() for id, where in places.items() if where.startswith(node)]
            assert sorted(gpus) == ["0", "1", "2", "3"]


async def test_one_shard_may_have_several_ranks_on_all_gpus_of_a_node(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, ranks=4) as executor:
        assert executor.capacity == 2
        code = "import os; print(os.environ['RANK'], os.environ['WORLD_SIZE'], os.environ['CUDA_VISIBLE_DEVICES'])"
        for n in range(2):
            ranked = shard(state, f"s{n}", code, ranks=4)
            await executor.launch(replace(ranked, argv=with_ranks(4, ranked.argv)))
        ended = await endings(executor, 2)
        assert {record(each).code for each in ended.values()} == {0}
        for n in range(2):
            said = sorted(line.rpartition("]: ")[2] for line in output(state, f"s{n}").splitlines())
            assert said == [f"{rank} 4 0,1,2,3" for rank in range(4)]  # each takes the one of its number


async def test_a_large_rung_gets_a_job_of_its_own_that_outlives_the_pilot(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, own=("full",), nodes=1) as executor:
        code = f"import os, time\nprint('up', flush=True)\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.05)"
        assert (await executor.launch(shard(state, "large", code, rung="full"))).where == "a job of its own"
        await executor.launch(shard(state, "small", code))
        await written(state, "large", "up")
        await written(state, "small", "up")
        names = slurm.run("squeue", "--noheader", "--states=running", "--format=%j").split()
        assert [name.partition("-")[0] for name in names] == ["cockpit"] * 2
        await executor.release("done")
        assert record((await endings(executor, 1))["small"]).how == "preempted"
        (tmp_path / "go").touch()
        assert record((await endings(executor, 1))["large"]).code == 0


async def test_what_a_shard_is_asked_and_how_it_ends_is_typed(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state) as executor:
        fails = shard(state, "fails", "raise SystemExit(7)")
        long = shard(state, "long", "import time; time.sleep(60)", timeout_s=1.0)
        absent = shard(state, "absent", argv=("/nonexistent/python",))
        held = shard(state, "held", "print('up', flush=True); import time; time.sleep(60)")
        saves = (
            "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('saved') or 5)); "
            "print('up', flush=True); time.sleep(60)"
        )
        for each in (fails, long, absent, held, shard(state, "saves", saves)):
            await executor.launch(each)
        ended = await endings(executor, 3)
        assert (record(ended["fails"]).how, record(ended["fails"]).code) == ("exited", 7)
        assert record(ended["long"]).how == "timeout"
        assert record(ended["absent"]).how == "start-failed"
        await written(state, "held", "up")
        await written(state, "saves", "up")
        assert await executor.stop("saves", 10.0)
        assert await executor.kill("held")
        ended = await endings(executor, 2)
        assert (record(ended["saves"]).how, record(ended["saves"]).code) == ("stopped", 5)
        assert record(ended["held"]).how == "stopped"
        assert "saved" in output(state, "saves")
        again = await executor.launch(fails)
        assert (again.state, again.known) == ("ended", True)


async def test_no_secret_of_the_engine_reaches_a_step(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "WANDB_API_KEY", "COCKPIT_TOKEN", "SLURM_SECRET"):
        monkeypatch.setenv(name, "sesame-open")
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state) as executor:
        for n in range(4):
            await executor.launch(shard(state, f"s{n}", "print('up', flush=True); import time; time.sleep(60)"))
        for n in range(4):
            await written(state, f"s{n}", "up")
        processes = [pid for node in NODES for pid in slurm.processes(node)]
        assert len(processes) >= 3 * 4  # a step's daemon, an agent and a shard each
        clients = children_of(int(json.loads(state.launcher_lock.read_bytes())["pid"]))
        assert len(clients) >= 2 * 4
        for pid in (*processes, *clients):
            assert b"sesame-open" not in environment_of(pid)
        for n in range(4):
            await executor.kill(f"s{n}")
        await endings(executor, 4)


async def test_eight_shards_outlive_a_lost_node_and_a_new_controller(slurm: Cluster, tmp_path: Path) -> None:
    """What ran on the lost node is told as lost with its node, once, and can run on the other one."""
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state) as executor:
        code = f"import os, time\nprint('up', flush=True)\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.05)"
        where = {f"s{n}": (await executor.launch(shard(state, f"s{n}", code))).where.split()[0] for n in range(8)}
        for id in where:
            await written(state, id, "up")
        slurm.kill_node("n1")
        slurm.kill_controller()
        slurm.start_controller()
        lost = await endings(executor, 4)
        assert {id for id, node in where.items() if node == "n1"} == set(lost)
        assert {record(each).how for each in lost.values()} == {"node-lost"}
        assert executor.capacity == 4
        again = [f"{id}.again" for id in lost]
        (tmp_path / "go").touch()
        rest = await endings(executor, 4)
        assert {record(each).code for each in rest.values()} == {0}
        for id in again:
            assert (await executor.launch(shard(state, id, code))).where.startswith("n2")
        assert {record(each).code for each in (await endings(executor, 4)).values()} == {0}


async def test_a_shard_whose_order_was_taken_away_ends_and_writes_nothing(slurm: Cluster, tmp_path: Path) -> None:
    """As on a node that was cut off, was given up, and comes back: its shard runs again elsewhere by then."""
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state) as executor:
        await executor.launch(shard(state, "s", "print('up', flush=True); import time; time.sleep(60)"))
        await written(state, "s", "up")
        (state.root / "steps" / "s" / "order.json").unlink()
        event = (await endings(executor, 1))["s"]
        assert isinstance(event, Vanished)
        assert not (state.runs / "s" / "exit.json").exists()
        async with asyncio.timeout(30):
            while any(slurm.processes(node) for node in NODES):  # noqa: ASYNC110 (a step's daemon takes a moment to end)
                await asyncio.sleep(0.02)


async def test_a_new_engine_takes_up_what_runs_and_what_ended_meanwhile(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state) as executor:
        code = f"import os, time\nprint('up', flush=True)\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.05)"
        await executor.launch(shard(state, "held", code))
        await executor.launch(shard(state, "short", code.replace(str(tmp_path / "go"), str(tmp_path / "end"))))
        await written(state, "held", "up")
        await written(state, "short", "up")
        await executor.close()  # it dies before either ends
        (tmp_path / "end").touch()
        await appears(state.runs / "short" / "exit.json")
        await listed_without(state, "short")
        second = make(slurm, state)
        assert {"held"} <= await second.reattach() <= {"held", "short"}  # how the other one ended may yet be found out
        assert second.shortage is None
        assert record((await endings(second, 1))["short"]).code == 0
        (tmp_path / "go").touch()
        assert record((await endings(second, 1))["held"]).code == 0
        await second.close()


async def test_a_pilot_that_is_taken_away_is_told_as_preempted(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state) as executor:
        await executor.launch(shard(state, "s", "print('up', flush=True); import time; time.sleep(60)"))
        await written(state, "s", "up")
        slurm.run(
            "srun", "--partition=high", "--nodes=2", "--gres=gpu:4", "--cpus-per-task=16", "--mem=4000", "/bin/true"
        )
        ended = record((await endings(executor, 1))["s"])
        assert ended.how == "preempted"
        await until(executor, lambda: not executor.pilot.asked)
        assert "preempted" in str(executor.shortage)
        assert "--confirm" in str(executor.shortage)
        assert executor.capacity == 0
        (over,) = executor.ends
        assert (over.how, over.who, over.rule) == ("preempted", None, "")


async def test_an_idle_pilot_is_released_and_a_waiting_one_says_why(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, idle_s=1.0) as executor:
        await until(executor, lambda: not executor.pilot.asked)
        assert "idle" in str(executor.shortage)
        assert slurm.run("squeue", "--noheader", "--states=running") == ""
        slurm.run("salloc", "--no-shell", "--nodes=2", "--exclusive", "--job-name=somebody")
        await executor.confirm()
        await until(executor, lambda: "Resources" in str(executor.shortage) or "Priority" in str(executor.shortage))
        await executor.release("called off")
        assert "somebody" in slurm.run("squeue", "--noheader", "--format=%j")
        assert executor.pilot.sentence.startswith("pilot 3 was given back (called off)")


async def test_a_pilot_that_cannot_be_had_is_told_in_slurms_words(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    executor = make(slurm, state, nodes=3)
    await executor.reattach()
    await executor.confirm()
    words = ("more nodes than the partition has", "node configuration is not available")  # the latter by newer releases
    await until(executor, lambda: any(each in str(executor.shortage) for each in words))
    await executor.release("called off")
    await executor.close()
    executor = make(slurm, state, gpus=9)
    await executor.reattach()
    await executor.confirm()
    await until(executor, lambda: "refused" in str(executor.shortage))
    assert "node configuration is not available" in str(executor.shortage)
    await executor.close()
    await end(state)


# ---


async def written(state: StateDir, id: str, text: str) -> None:
    """Return when a shard has printed something."""
    path = state.runs / id / "output.log"
    async with asyncio.timeout(60):
        while not (path.exists() and text in path.read_text()):  # noqa: ASYNC110 (other processes write it)
            await asyncio.sleep(0.02)


async def appears(path: Path) -> None:
    async with asyncio.timeout(60):
        while not path.exists():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)


async def listed_without(state: StateDir, id: str) -> None:
    """Return when the launcher no longer runs the client of that shard."""
    async with asyncio.timeout(60):
        while id in {each["id"] for each in (await _ask(state, {"op": "list"}))["running"]}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def children_of(pid: int) -> list[int]:
    """All that descends from a process."""
    found = [int(each) for path in Path(f"/proc/{pid}/task").glob("*/children") for each in path.read_text().split()]
    return [*found, *(each for child in found for each in children_of(child))]


async def test_a_pilot_that_was_asked_for_and_never_heard_of_is_found_by_its_name(
    slurm: Cluster, tmp_path: Path
) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state) as executor:
        known = executor.pilot.job_id
    asked = json.loads((state.root / "pilot.json").read_bytes())
    (state.root / "pilot.json").write_text(json.dumps(asked | {"job": None}))
    (state.root / "salloc.log").unlink()  # as if the engine and salloc had gone before a word was written
    executor = make(slurm, state)
    try:
        await executor.reattach()
        await until(executor, lambda: executor.shortage is None)
        assert executor.pilot.job_id == known
        assert len(slurm.run("squeue", "--noheader", "--format=%i").split()) == 1
    finally:
        await executor.close()
        await end(state)


async def test_a_second_engine_leaves_the_shared_directory_of_another_alone(slurm: Cluster, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    first, second = StateDir(tmp_path / "first", shared), StateDir(tmp_path / "second", shared)
    async with piloted(slurm, first, shared=shared) as executor:
        await executor.launch(shard(first, "held", "print('up', flush=True); import time; time.sleep(600)"))
        await written(first, "held", "up")
        other = make(slurm, second, shared=shared)
        with pytest.raises(ExecutorError, match="used by the engine on"):
            await other.reattach()
        await other.close()
        assert (shared / "steps" / "held" / "order.json").exists()
        assert await executor.kill("held")
        assert record((await endings(executor, 1))["held"]).how == "stopped"


async def test_a_pilot_that_is_released_the_moment_it_was_granted_is_given_back(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.make()
    pilot = make(slurm, state).pilot
    pilot.confirm("cockpit-now")
    assert pilot._salloc is not None
    await asyncio.to_thread(pilot._salloc.wait)  # it was granted, and nobody has looked since
    assert slurm.run("squeue", "--noheader", "--states=running", "--format=%i").split()
    await pilot.release("not after all")
    assert slurm.run("squeue", "--noheader", "--states=running", "--format=%i").split() == []
    pilot.confirm("cockpit-again")
    await pilot.release("nor now")  # while it is being asked for
    assert slurm.run("squeue", "--noheader", "--states=running,pending", "--format=%i").split() == []


async def test_a_pilot_on_whose_nodes_nothing_can_run_says_so_and_is_given_back(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.shards.slurm.pilot.own", lambda *words, **_: ["/nonexistent/python"])
    state = StateDir(tmp_path / "state")
    executor = make(slurm, state, idle_s=2.0)
    try:
        await executor.reattach()
        await executor.confirm()
        await until(executor, lambda: "has its nodes, but" in str(executor.shortage))
        await until(executor, lambda: not executor.asked)
        assert "released after 2 idle seconds" in executor.sentence
    finally:
        await executor.close()
        await end(state)


async def test_a_pilot_is_leave_for_what_was_confirmed_and_no_more(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, nodes=1, gpus=1) as executor:
        await executor.close()
        other = make(slurm, state, nodes=1, gpus=4, own=("full",))  # the lab file was changed meanwhile
        try:
            await other.reattach()
            await until(other, lambda: other.pilot.ready)
            assert "was confirmed as 1 node with 1 GPU for 1 h" in str(other.shortage)
            assert "confirm it anew" in str(other.shortage)
            with pytest.raises(ExecutorError, match="confirm it anew"):
                await other.launch(shard(state, "large", rung="full"))
            await other.release("to ask for more")
            await other.confirm()
            await until(other, lambda: other.shortage is None)
        finally:
            await other.close()


async def test_nothing_is_started_while_the_pilot_is_given_back(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, own=("full",)) as executor:
        called_off = OwnJobs.call_off
        refused: list[str] = []

        async def and_again(jobs: OwnJobs, why: str) -> None:
            """What was called off is planned anew at once."""
            await called_off(jobs, why)
            for rung in ("full", "screen"):
                with pytest.raises(ExecutorError, match="being given back"):
                    await executor.launch(shard(state, f"again-{rung}", rung=rung))
                refused.append(rung)

        monkeypatch.setattr(OwnJobs, "call_off", and_again)
        await executor.release("enough")
        assert refused == ["full", "screen"]
        assert slurm.run("squeue", "--noheader", "--states=running,pending", "--format=%i").split() == []


async def test_a_node_on_which_nothing_can_be_started_does_not_take_every_shard(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state) as executor:
        first = shard(state, "s0", argv=("/nonexistent/python",))  # as if it were missing on that node alone
        node = (await executor.launch(first)).node
        assert record((await endings(executor, 1))["s0"]).how == "start-failed"
        assert executor.capacity == 4
        for n in range(1, 5):
            assert (await executor.launch(shard(state, f"s{n}"))).node != node
        await endings(executor, 4)
        other = shard(state, "s5", argv=("/nonexistent/python",))
        await executor.launch(other)
        await endings(executor, 1)
        assert executor.capacity == 8  # it was neither node's fault
