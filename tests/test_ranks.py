"""A shard of several ranks: they find one another, train to the same bits each time, and end as one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.shards.local import LocalExecutor
from engine.shards.outcome import Facts, classify, last_words
from engine.shards.ranks import Lines, Meeting, environments
from engine.shards.sandbox import probe, with_ranks, wrap
from engine.shards.slots import detect
from engine.shards.spec import ShardSpec
from engine.types import Outcome
from tests import test_sandbox as boxing
from tests.test_launcher import Pipe, end_of, output
from tests.test_sandbox import Place, why_not
from tests.tinylab import TinyLab, rows, wait_for

state, executor, place = boxing.state, boxing.executor, boxing.place


@pytest.fixture(params=[1, 3, 2], ids=["limits", "box3", "box2 with the network"])
def level(request: pytest.FixtureRequest) -> int:
    reason = None if request.param == 1 else why_not(request.param)
    if reason is not None:
        pytest.skip(f"no box {request.param} here: {reason}")
    return int(request.param)


def ranked(place: Place, code: str, level: int, id: str = "0001.screen.s0.a1", count: int = 2) -> ShardSpec:
    """A boxed shard that runs the Python `code` as so many ranks."""
    plain = place.spec(code, 1, id=id)
    plain = replace(plain, argv=with_ranks(count, plain.argv), ranks=count)
    return wrap(plain, place.box(level, Path(plain.run_dir), network=level == 2))


REDUCE = """
import os, torch
import torch.distributed as dist
dist.init_process_group("gloo", init_method="env://")
torch.manual_seed(7 + dist.get_rank())
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
    if dist.get_rank() == 0:
        print(step, total.item().hex())
print("rank", dist.get_rank(), "of", dist.get_world_size(), "ends")
dist.destroy_process_group()
"""


async def test_two_ranks_train_together_to_the_same_bits_each_time(
    place: Place, executor: LocalExecutor, level: int
) -> None:
    pytest.importorskip("torch")
    said = []
    for id in ("first", "second"):
        shard = ranked(place, REDUCE, level, id)
        await executor.launch(shard)
        record = await end_of(executor)
        assert record.code == 0, output(shard)
        lines = output(shard).splitlines()
        assert "rank 0 of 2 ends" in lines
        assert "[rank1]: rank 1 of 2 ends" in lines
        said.append([line for line in lines if "0x" in line])
    assert said[0] == said[1]
    assert len(said[0]) == 20


TELL = """
import os
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "OMP_NUM_THREADS")
print(*[os.environ[name] for name in names])
assert os.environ["MASTER_PORT"].isdigit()
"""


async def test_each_rank_knows_who_it_is(place: Place, executor: LocalExecutor, level: int) -> None:
    shard = ranked(place, TELL, level, count=3)
    await executor.launch(shard)
    assert (await end_of(executor)).code == 0, output(shard)
    assert sorted(output(shard).splitlines()) == [
        "0 0 3 3 127.0.0.1 1",
        "[rank1]: 1 1 3 3 127.0.0.1 1",
        "[rank2]: 2 2 3 3 127.0.0.1 1",
    ]


@pytest.mark.parametrize(
    ("fails", "outcome", "says"),
    [
        ("sys.exit(3)", Outcome.NONFINITE, "not finite"),
        ("raise RuntimeError('shapes differ')", Outcome.CRASHED, "RuntimeError: shapes differ"),
        ("raise MemoryError('12 GiB')", Outcome.OOM, "MemoryError"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", Outcome.CRASHED, "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", Outcome.KILLED, "SIGKILL"),
    ],
)
async def test_a_shard_ends_as_its_first_rank_to_fail_did(
    place: Place, executor: LocalExecutor, level: int, fails: str, outcome: Outcome, says: str
) -> None:
    # rank 0 is deaf to anything gentle and would wait for ever
    code = f"""
import os, signal, sys
if os.environ["RANK"] == "0":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
{fails}
"""
    shard = ranked(place, code, level)
    await executor.launch(shard)
    found, detail = classify(await end_of(executor), output(shard), Facts())
    assert found is outcome, output(shard)
    assert says in detail
    assert "rank" not in detail


SAVES = """
import os, signal, sys
rank = os.environ["RANK"]
def end(number, frame):
    print("saved", rank, flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
fifo = os.open({fifo!r}, os.O_WRONLY)
os.write(fifo, b"up" + rank.encode() + b"\\n")
while True:
    signal.pause()
"""


async def test_a_stop_reaches_each_rank_once_and_lets_it_save(
    place: Place, executor: LocalExecutor, level: int
) -> None:
    pipe = Pipe(place.talk / "fifo")
    shard = ranked(place, SAVES.format(fifo=str(pipe.path)), level)
    await executor.launch(shard)
    assert sorted(await pipe.hear(2)) == ["up0", "up1"]
    assert await executor.stop(shard.id, 60.0)
    record = await end_of(executor)
    assert (record.how, record.code) == ("stopped", 7)
    assert sorted(output(shard).splitlines()) == ["[rank1]: saved 1", "saved 0"]


async def test_a_kill_takes_all_ranks_and_what_they_left_behind(
    place: Place, executor: LocalExecutor, level: int
) -> None:
    pipe = Pipe(place.talk / "fifo")
    shard = ranked(place, boxing.GRANDCHILD.format(fifo=str(pipe.path), then="signal.pause()"), level)
    await executor.launch(shard)
    assert await pipe.hear(2) == ["grandchild", "grandchild"]
    assert await executor.kill(shard.id)
    assert (await end_of(executor)).how == "stopped"
    await pipe.closed()


async def test_ranks_that_end_well_do_not_wait_for_what_they_left_behind(place: Place, executor: LocalExecutor) -> None:
    pipe = Pipe(place.talk / "fifo")
    shard = ranked(place, boxing.GRANDCHILD.format(fifo=str(pipe.path), then="print('done')"), 1)
    await executor.launch(shard)
    assert (await end_of(executor)).code == 0, output(shard)
    assert sorted(output(shard).splitlines()) == ["[rank1]: done", "done"]
    await pipe.closed()


# --- the whole engine


def test_a_lab_of_two_ranks_is_judged_as_any_other(tiny: Callable[..., TinyLab]) -> None:
    if probe().level == 2:
        pytest.skip("box 2 has no ranks without the network")
    lab = tiny()
    config = (lab.root / "cockpit.toml").read_text()
    (lab.root / "cockpit.toml").write_text(config.replace("[run]\n", "[run]\nranks = 2\n"))
    script = (lab.root / "train.py").read_text()
    second = '    if os.environ["RANK"] != "0":\n        sys.exit(print("I am rank", os.environ["RANK"]))\n'
    (lab.root / "train.py").write_text(script.replace("    fd = os.open", f"{second}    fd = os.open"))
    lab.git("commit", "-qam", "Train as two")
    with lab.session() as session:

        def metrics() -> list[float] | None:
            found = [row["metric"] for row in rows(session, "shard").values() if row["state"] == "ended"]
            return found if len(found) == 3 else None

        assert None not in wait_for(metrics)
        for shard in rows(session, "shard"):
            said = (lab.state.runs / shard / "output.log").read_text()
            assert "[rank1]: I am rank 1\n" in said
            assert "\nstep 4 loss" in f"\n{said}"


def test_ranks_that_could_not_talk_are_not_started(tiny: Callable[..., TinyLab], tmp_path: Path) -> None:
    if why_not(2) is not None:
        pytest.skip(f"no box 2 here: {why_not(2)}")
    lab = tiny()
    config = (lab.root / "cockpit.toml").read_text()
    (lab.root / "cockpit.toml").write_text(config.replace("[run]\n", "[run]\nranks = 2\n"))
    path, none = (
        boxing.path_without_bubblewrap(tmp_path / "bin"),
        boxing.pythonpath_without_the_wheel(tmp_path / "none"),
    )
    lab.start(PATH=path, PYTHONPATH=none)
    with lab.session() as session:
        phase = wait_for(lambda: "ranks = 2" in (said := session.call("status")["phase"]) and said)
        assert 'ranks = 1 or network = "host"' in phase
        assert rows(session, "shard") == {}


# --- without a process


def test_one_rank_is_the_command_itself() -> None:
    assert with_ranks(1, ("python", "train.py")) == ("python", "train.py")


def test_the_lab_may_choose_the_interface_that_ranks_talk_over() -> None:
    first, second = environments(2, Meeting("127.0.0.1", 29500), {"GLOO_SOCKET_IFNAME": "eth0", "RANK": "7"})
    assert (first["RANK"], second["RANK"]) == ("0", "1")
    assert first["GLOO_SOCKET_IFNAME"] == "eth0"
    if sys.platform.startswith("linux"):
        assert first["NCCL_SOCKET_IFNAME"] == "lo"


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"step 1", b"\n", b"[rank3]: Traceback\n", b"\r 10%", b"x" * 70_000, b"\xff"])))
def test_output_is_passed_on_whole_and_only_marked(pieces: list[bytes]) -> None:
    for rank in (0, 3):
        out: list[bytes] = []
        lines = Lines(rank, out.append)
        for each in [*pieces, b""]:
            lines.feed(each)
        said = b"".join(out)
        if rank == 0:
            assert said == b"".join(pieces)
        else:
            assert all(line.startswith(b"[rank3]: ") for line in said.splitlines())
            assert said.replace(b"[rank3]: ", b"").replace(b"\n", b"") == b"".join(pieces).replace(
                b"[rank3]: ", b""
            ).replace(b"\n", b"")


def test_the_mark_is_one_that_the_classifier_takes_off() -> None:
    out: list[bytes] = []
    Lines(3, out.append).feed(b"Traceback (most recent call last):\n  File x\nValueError: no\n")
    assert last_words(out[0].decode()) == "ValueError: no"


def test_a_slot_has_a_gpu_and_cores_for_each_rank() -> None:
    slots = detect(0, list(range(8)), ["a", "b", "c", "d"], threads=1, ranks=2)
    assert [slot.gpus for slot in slots] == [("a", "b"), ("c", "d")]
    assert [slot.cores for slot in slots] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [slot.cores for slot in detect(0, list(range(8)), [], threads=2, ranks=2)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [slot.gpus for slot in detect(0, [0], ["a"], threads=1, ranks=4)] == [("a",)]
    assert [slot.gpus for slot in detect(2, [0], ["a", "b", "c"], threads=1, ranks=2)] == [("a", "b"), ("c", "a")]
    with pytest.raises(ValueError, match="ranks is 0"):
        detect(0, [0], [], threads=1, ranks=0)
