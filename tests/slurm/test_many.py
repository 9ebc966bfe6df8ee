"""One shard over two nodes: its ranks find one another, train as they would on one machine, and end as one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.doctor_cluster import cluster as doctor_cluster
from engine.lab import load
from engine.paths import StateDir
from engine.shards.network import shares_host
from engine.shards.outcome import Facts, classify
from engine.shards.sandbox import Box, lab_box, probe, with_ranks, wrap
from engine.shards.spec import ShardSpec
from engine.types import Outcome
from tests.slurm.cluster import NODES, Cluster, cluster
from tests.slurm.shards import endings, make, output, piloted, record, shard
from tests.slurm.test_campaign import SlurmLab, decided
from tests.tinylab import better, decide, rows, wait_for, waiting


@pytest.fixture
def slurm() -> Iterator[Cluster]:
    """A cluster of two nodes with two GPUs each, of this test alone."""
    with cluster(gpus=2) as made:
        yield made


def many(state: StateDir, id: str, code: str, nodes: int = 2, ranks: int = 4, **fields: Any) -> ShardSpec:
    """A shard of so many ranks on so many nodes."""
    plain = shard(state, id, code, ranks=ranks, nodes=nodes, **fields)
    return replace(plain, argv=with_ranks(ranks, plain.argv, nodes))


TELL = """
import os
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "CUDA_VISIBLE_DEVICES", "MASTER_ADDR")
print(os.environ["MASTER_PORT"], *[os.environ[name] for name in names])
"""


async def test_each_rank_knows_who_it_is_of_all_nodes(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, ranks=4, gpus=2) as executor:
        assert executor.words.endswith("1 shard at once, on 2 nodes")
        assert executor.capacity == 1
        handle = await executor.launch(many(state, "s", TELL))
        assert handle.node == "n1,n2"
        assert record((await endings(executor, 1))["s"]).code == 0
        said = [line.rpartition("]: ")[2].split(maxsplit=1) for line in lines(state, "s")]
        assert len({port for port, _ in said}) == 1
        assert sorted(rest for _, rest in said) == [
            "0 0 4 2 0 0,1 127.0.0.1",
            "1 1 4 2 0 0,1 127.0.0.1",
            "2 0 4 2 1 0,1 127.0.0.1",
            "3 1 4 2 1 0,1 127.0.0.1",
        ]


REDUCE = """
import json, os, sys, torch
import torch.distributed as dist
dist.init_process_group("gloo", init_method="env://")
rank = dist.get_rank()
torch.manual_seed(7 + rank)
model = torch.nn.Linear(16, 1, bias=False)
dist.broadcast(model.weight.data, 0)
for step in range(20):
    loss = (model(torch.randn(8, 16)) - 1).square().mean()
    model.weight.grad = None
    loss.backward()
    dist.all_reduce(model.weight.grad)
    model.weight.data -= 0.01 * model.weight.grad / dist.get_world_size()
    total = loss.detach().clone()
    dist.all_reduce(total)
    if rank == 0:
        with open(os.path.join(os.environ["OUT"], "metrics.jsonl"), "a") as file:
            print(json.dumps({"step": step, "loss": total.item().hex()}), file=file)
print("rank", rank, "of", dist.get_world_size(), "on node", os.environ["GROUP_RANK"])
dist.destroy_process_group()
"""


async def test_ranks_on_two_nodes_train_to_the_same_bits_as_on_one(slurm: Cluster, tmp_path: Path) -> None:
    """In their boxes, which the ones on two nodes leave by their nodes' network and the others not at all."""
    pytest.importorskip("torch")
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, ranks=4, gpus=2) as executor:
        losses = {}
        for id, nodes in (("one", 1), ("two", 2)):
            plain = many(state, id, REDUCE, nodes)
            plain = replace(plain, env={**plain.env, "OUT": plain.run_dir, "OMP_NUM_THREADS": "1"})
            await executor.launch(wrap(plain, box(tmp_path, state, plain)))
            ended = record((await endings(executor, 1))[id])
            assert ended.code == 0, "\n".join(lines(state, id))
            losses[id] = (state.runs / id / "metrics.jsonl").read_text()
            where = {line.rpartition(" ")[2] for line in lines(state, id) if " on node " in line}
            assert where == {str(node) for node in range(nodes)}
        assert losses["one"] == losses["two"]
        assert losses["one"].count("loss") == 20
        assert ended.cpu_s > 0


MEET = """
import os, signal, socket, time
rank, where = int(os.environ["RANK"]), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    server = socket.create_server(where)
    peers = [server.accept()[0] for _ in range(3)]
    for peer in peers:
        peer.sendall(b"go")
else:
    while True:
        try:
            peer = socket.create_connection(where)
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    peers = [peer]
    assert peer.recv(2) == b"go"
print("up", flush=True)
"""
TALKS = (
    MEET
    + """
if rank == 3:
    {last}
for peer in peers[::-1]:
    if not peer.recv(1):
        raise ConnectionError("connection closed by peer")
"""
)


async def test_a_job_of_its_own_may_have_several_nodes(slurm: Cluster, tmp_path: Path) -> None:
    """A large rung's; which nodes these are is only known once it has them."""
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, ranks=2, gpus=1, own=("full",), args=("--mem=1000",)) as executor:
        handle = await executor.launch(many(state, "s", MEET.replace("range(3)", "range(1)"), ranks=2, rung="full"))
        assert (handle.where, handle.node) == ("a job of its own", "")
        assert record((await endings(executor, 1))["s"]).code == 0, lines(state, "s")
        assert sorted(lines(state, "s")) == ["[rank1]: up", "up"]


def box(tmp_path: Path, state: StateDir, spec: ShardSpec) -> Box:
    """The best box that this machine makes, as a lab with the allocation's network would give it."""
    level = probe().level
    return lab_box(
        level,
        interpreter=sys.executable,
        tree=tmp_path,
        run_dir=Path(spec.run_dir),
        data=(),
        mounts=(),
        gpus=(),
        private=(state.root,),
        lab_root=tmp_path / "lab",
        network=shares_host("allocation", level, spec.ranks, spec.nodes),
    )


HOLDS = "import time; print('up', flush=True); time.sleep(120)"


async def test_a_lost_node_ends_the_shard_on_all_its_nodes(slurm: Cluster, tmp_path: Path) -> None:
    """Whichever it is. The ranks on the other node fail first, for want of it: that is not what the shard is told to be."""
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, ranks=4, gpus=2) as executor:
        await executor.launch(many(state, "s", TALKS.format(last="signal.pause()")))
        await up(state, "s")
        slurm.kill_node("n2")
        ended = record((await endings(executor, 1))["s"])
        assert (ended.how, ended.code, ended.error) == ("node-lost", None, "its node n2 is silent")
        assert "closed by peer" in output(state, "s")
        await none_left(slurm)
        assert executor.capacity == 0
        assert executor.shortage is not None
        assert executor.shortage.startswith("one shard takes 2 nodes, and 1 of pilot")
        assert not list((state.root / "steps").iterdir())


async def test_so_does_the_one_that_leads(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, ranks=4, gpus=2) as executor:
        await executor.launch(many(state, "s", HOLDS))
        await up(state, "s")
        slurm.kill_node("n1")
        ended = record((await endings(executor, 1))["s"])
        assert (ended.how, ended.error) == ("node-lost", "its node n1 is silent")
        await none_left(slurm)


async def test_the_first_node_waits_for_the_others(slurm: Cluster, tmp_path: Path) -> None:
    """However long its own ranks have ended: its heartbeat goes on, and the shard is well once all are."""
    state = StateDir(tmp_path / "state")
    code = f"""
import os, time
print("up", flush=True)
while int(os.environ["RANK"]) > 1 and not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.05)
"""
    async with piloted(slurm, state, ranks=4, gpus=2) as executor:
        await executor.launch(many(state, "s", code))
        await up(state, "s")
        async with asyncio.timeout(60):
            while json.loads((state.root / "steps" / "s" / "beat").read_bytes())["beat"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        (tmp_path / "go").touch()
        ended = record((await endings(executor, 1))["s"])
        assert (ended.how, ended.code) == ("exited", 0)
        await executor.launch(many(state, "late", code.replace("go'", "never'"), timeout_s=4.0))
        assert record((await endings(executor, 1))["late"]).how == "timeout"
        await executor.launch(many(state, "stopped", code.replace("go'", "never'")))
        await up(state, "stopped")
        assert await executor.stop("stopped", 30.0)
        assert record((await endings(executor, 1))["stopped"]).how == "stopped"
        await none_left(slurm)


async def test_a_rank_that_fails_elsewhere_is_what_the_shard_says(slurm: Cluster, tmp_path: Path) -> None:
    """One rank of the second node raises; those of the first wait for it for ever, or fail a moment later for want of it."""
    state = StateDir(tmp_path / "state")
    waits = "import os, time\nif os.environ['RANK'] == '3':\n    raise ValueError('shapes differ')\ntime.sleep(120)"
    talks = TALKS.format(last="raise ValueError('shapes differ')")
    async with piloted(slurm, state, ranks=4, gpus=2) as executor:
        for id, code in (("waits", waits), ("talks", talks)):
            await executor.launch(many(state, id, code))
            ended = record((await endings(executor, 1))[id])
            assert (ended.how, ended.code) == ("exited", 1)
            assert classify(ended, output(state, id), Facts()) == (Outcome.CRASHED, "ValueError: shapes differ")
            assert "Traceback" in (state.runs / id / "output.node1.log").read_text()
            assert "the ranks on n2 failed first" in output(state, id)
            await none_left(slurm)


MEETS = """\
    import socket
    where = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if os.environ["RANK"] == "0":
        with socket.create_server(where) as server:
            server.accept()[0].close()
    else:
        while True:
            try:
                socket.create_connection(where).close()
                sys.exit(print("I am rank", os.environ["RANK"], "of node", os.environ["GROUP_RANK"]))
            except ConnectionRefusedError:
                time.sleep(0.01)
"""


def test_a_lab_whose_shards_span_nodes_is_judged_as_any_other(slurm: Cluster, tmp_path: Path) -> None:
    ours = SlurmLab(tmp_path / "lab", slurm, [better(1)], network="allocation")
    config = (ours.root / "cockpit.toml").read_text().replace("gpus = 4\n", "gpus = 1\n")
    (ours.root / "cockpit.toml").write_text(config.replace("[run]\n", "[run]\nranks = 2\n"))
    script = (ours.root / "train.py").read_text()
    (ours.root / "train.py").write_text(script.replace("    fd = os.open", f"{MEETS}    fd = os.open", 1))
    ours.git("commit", "-qam", "Train on two nodes")
    checks = {each.name: each for each in doctor_cluster(load(ours.root), slurm.env)}
    assert "trains on 2 nodes and shares their network" in checks["network"].detail
    try:
        with ours.session() as session:
            assert session.call("pilot")["words"].endswith(": 1 shard at once, on 2 nodes")
            session.call("pilot", action="confirm")
            decide(session, wait_for(lambda: waiting(session))[0])
            assert decided(session, 1)[0]["verdict"]["verdict"] == "solid"
            if probe().level > 1:
                assert session.call("status")["isolation"].endswith(", nodes' network")
            shards = rows(session, "shard")
            assert {row["node"] for row in shards.values()} == {"n1,n2"}
            for id in shards:
                assert "[rank1]: I am rank 1 of node 1\n" in (ours.runs / id / "output.node1.log").read_text()
                training, scoring = (
                    json.loads((ours.runs / id / name).read_text()) for name in ("spec.json", "score-spec.json")
                )
                assert (training["nodes"], scoring["nodes"]) == (2, 1)
                if training["isolation"] == "box-3":  # the network is that of training alone
                    assert "--unshare-net" not in training["walls"]
                    assert "--unshare-net" in scoring["walls"]
    finally:
        ours.end()


SAVES = """
import os, signal, sys, time
def end(number, frame):
    if os.environ["GROUP_RANK"] == "0":
        time.sleep(3)  # it has more to save than the other node's ranks, which end meanwhile
    print("saved", os.environ["RANK"], flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(120)
"""


async def test_a_stop_and_the_time_end_the_ranks_on_all_nodes_and_let_them_save(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, ranks=4, gpus=2) as executor:
        await executor.launch(many(state, "stopped", SAVES))
        await up(state, "stopped")
        assert await executor.stop("stopped", 30.0)
        ended = record((await endings(executor, 1))["stopped"])
        assert (ended.how, ended.code) == ("stopped", 7)
        await executor.launch(many(state, "timeout", SAVES, timeout_s=2.0))
        ended = record((await endings(executor, 1))["timeout"])
        assert ended.how == "timeout"
        for id in ("stopped", "timeout"):
            saved = sorted(line.rpartition(" ")[2] for line in lines(state, id) if "saved" in line)
            assert saved == ["0", "1", "2", "3"]
        await executor.launch(many(state, "killed", HOLDS))
        await up(state, "killed")
        assert await executor.kill("killed")
        assert record((await endings(executor, 1))["killed"]).how == "stopped"
        await none_left(slurm)


async def test_a_new_engine_finds_it_again_and_it_goes_with_its_pilot(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, ranks=4, gpus=2) as executor:
        await executor.launch(many(state, "s", SAVES))
        await up(state, "s")
        await executor.close()  # it dies
        second = make(slurm, state, ranks=4, gpus=2)
        assert await second.reattach() == frozenset({"s"})
        assert (await second.launch(many(state, "s", SAVES))).where == "n1,n2"
        await second.release("done for today")
        assert record((await endings(second, 1))["s"]).how == "preempted"
        await none_left(slurm)
        await second.close()


async def test_what_cannot_be_started_and_what_takes_too_much_is_told_from_any_node(
    slurm: Cluster, tmp_path: Path
) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, ranks=4, gpus=2) as executor:
        absent = many(state, "absent", HOLDS)
        await executor.launch(replace(absent, argv=("/nonexistent/python",)))
        ended = record((await endings(executor, 1))["absent"])
        assert ended.how == "start-failed"
        assert str(ended.error).startswith("on n")
        forks = (
            "import os, subprocess, sys, time\nif os.environ['RANK'] == '2':\n"
            "    all = [subprocess.Popen(['sleep', '120']) for _ in range(30)]\ntime.sleep(120)"
        )
        await executor.launch(many(state, "forks", forks, processes=20))
        ended = record((await endings(executor, 1))["forks"])
        assert ended.how == "processes"
        assert "20 are allowed" in str(ended.error)
        await none_left(slurm)


# ---


def lines(state: StateDir, id: str) -> list[str]:
    """What all ranks printed."""
    files = [state.runs / id / name for name in ("output.log", "output.node1.log")]
    return [line for file in files if file.exists() for line in file.read_text().splitlines()]


async def up(state: StateDir, id: str, ranks: int = 4) -> None:
    """Return when all ranks say so."""
    async with asyncio.timeout(60):
        while sum(line.endswith("up") for line in lines(state, id)) < ranks:  # noqa: ASYNC110 (other processes write it)
            await asyncio.sleep(0.02)


async def none_left(slurm: Cluster) -> None:
    """Return when no step, nor anything that one has started, is left on any node."""
    async with asyncio.timeout(30):
        while any(slurm.processes(node) for node in NODES):  # noqa: ASYNC110 (a step's daemon takes a moment to end)
            await asyncio.sleep(0.02)
