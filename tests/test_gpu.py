"""Shards on a real GPU: each sees its own and no other, forks of a warm parent use it, and what goes wrong on it is typed.

For whoever has one: make test TEST_ARGS=tests/test_gpu.py. Elsewhere it is skipped; tests/test_devices.py fakes a driver.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.paths import StateDir
from engine.shards.devices import PROC, gpu_devices, models
from engine.shards.imports import warm_imports
from engine.shards.local import LocalExecutor
from engine.shards.outcome import Facts, classify
from engine.shards.sandbox import Level, choose, lab_box, probe, try_level, wrap
from engine.shards.slots import cpus_here, detect, gpus_here, slots_here
from engine.shards.spec import ShardSpec, shard_env
from engine.types import Outcome
from tests import test_warm as warming
from tests.test_launcher import LIMIT_S, LINUX, end_of, output
from tests.test_warm import losses, says, until, until_ready, venv, was_warm

state, executor, tree, nanolm = warming.state, warming.executor, warming.tree, warming.nanolm
LEVELS: tuple[Level, ...] = (1, 3)
BEST = choose("auto", probe(), gpus=True)[0]


@functools.cache
def why_not() -> str | None:
    """Why nothing here can be tested; None where it can."""
    if not gpus_here():
        return "no NVIDIA GPU here (or CUDA_VISIBLE_DEVICES hides it)"
    if importlib.util.find_spec("torch") is None:
        return "a GPU, but no torch"
    code = "import torch; torch.zeros(1, device='cuda')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    return f"torch cannot use the GPU: {done.stderr.splitlines()[-1]}" if done.returncode else None


@pytest.fixture(autouse=True, scope="module")
def a_gpu() -> None:
    if (why := why_not()) is not None:
        pytest.skip(why)


pytestmark = LINUX


@pytest.fixture(params=LEVELS, ids=lambda level: f"level-{level}")
def level(request: pytest.FixtureRequest) -> Level:
    """Each level of isolation that this machine can do and that shards with GPUs are given."""
    if request.param > 1 and (why := try_level(request.param)) is not None:
        pytest.skip(f"level {request.param} does not work here: {why}")
    found: Level = request.param
    return found


def shard(
    state: StateDir, tree: Path, id: str, argv: tuple[str, ...], gpus: tuple[str, ...], **fields: Any
) -> ShardSpec:
    """A shard on these GPUs, boxed as the engine boxes it: as well as this machine can with GPUs, or at `level`."""
    run_dir = state.runs / id
    level, data = fields.pop("level", BEST), fields.pop("data", ())
    env = shard_env({}, (), threads=1, gpus=gpus, run_dir=run_dir, tree=tree)
    given: dict[str, Any] = {"timeout_s": 120.0, "warm": ()} | fields
    spec = ShardSpec(id=id, argv=argv, cwd=str(tree), env=env, run_dir=str(run_dir), gpus=gpus, **given)
    box = lab_box(
        level,
        interpreter=argv[0],
        tree=tree,
        run_dir=run_dir,
        data=data,
        mounts=(),
        gpus=gpus,
        private=(state.root, state.runtime.parent),
        lab_root=state.root / "lab",
    )
    return wrap(spec, box)


def script(state: StateDir, tree: Path, id: str, code: str, **fields: Any) -> ShardSpec:
    """A shard on the first GPU (or on `gpus`) that runs `code`."""
    (tree / f"{id}.py").write_text(code)
    gpus = fields.pop("gpus", tuple(gpus_here()[:1]))
    return shard(state, tree, id, (fields.pop("python", sys.executable), f"{id}.py"), gpus, **fields)


def training(state: StateDir, lab: SimpleNamespace, id: str, **fields: Any) -> ShardSpec:
    """A run of four steps of the sample lab on the first GPU."""
    run_dir = state.runs / id
    words = ("--seed", 0, "--steps", 4, "--data", lab.data, "--out", run_dir, "--metrics", run_dir / "metrics.jsonl")
    argv = (sys.executable, "train.py", *map(str, words))
    warm = warm_imports(True, sys.executable, argv, lab.tree)
    return shard(state, lab.tree, id, argv, tuple(gpus_here()[:1]), warm=warm, data=(lab.data,), **fields)


async def ended_well(executor: LocalExecutor, asked: ShardSpec) -> str:
    """What it printed. An assertion when it failed."""
    await executor.launch(asked)
    record = await end_of(executor)
    assert (record.how, record.code) == ("exited", 0), output(asked)
    return output(asked)


# --- slots


def test_each_gpu_is_a_slot_and_has_nodes() -> None:
    gpus, slots = gpus_here(), slots_here("auto", 1)
    assert [slot.gpus for slot in slots] == [(each,) for each in gpus]
    assert len(set(gpus)) == len(gpus)
    for each in gpus:
        nodes = gpu_devices([each])
        assert any(node.name[6:].isdigit() and node.exists() for node in nodes), nodes
        assert any(node.name == "nvidiactl" and node.exists() for node in nodes), nodes
    assert models() or not PROC.is_dir()


# --- what a shard sees

LOOKS = """
import glob, json, torch
x = torch.ones(256, 256, device="cuda")
uuid = str(getattr(torch.cuda.get_device_properties(0), "uuid", ""))
seen = {"count": torch.cuda.device_count(), "sum": (x @ x).sum().item(), "uuid": uuid}
print(json.dumps(seen | {"nodes": sorted(glob.glob("/dev/nvidia[0-9]*"))}))
"""


async def test_a_shard_sees_the_gpu_of_its_slot_and_computes_on_it(
    state: StateDir, executor: LocalExecutor, tree: Path, level: Level
) -> None:
    gpu = gpus_here()[0]
    seen = json.loads((await ended_well(executor, script(state, tree, "looks", LOOKS, level=level))).splitlines()[-1])
    assert (seen["count"], seen["sum"]) == (1, 256.0**3)
    if gpu.startswith("GPU-") and seen["uuid"]:
        assert gpu.removeprefix("GPU-") == seen["uuid"].removeprefix("GPU-")
    if level == 3:
        assert seen["nodes"] == sorted(str(each) for each in gpu_devices([gpu]) if each.name[6:].isdigit())


async def test_cuda_does_not_start_in_a_box_of_level_2(state: StateDir, executor: LocalExecutor, tree: Path) -> None:
    if (why := try_level(2)) is not None:
        pytest.skip(f"no box 2 here: {why}")
    asked = script(state, tree, "looks", LOOKS, level=2)
    await executor.launch(asked)
    assert (await end_of(executor)).code == 1, "it starts here: engine.shards.sandbox.choose need not leave level 2 out"
    assert "Error 304" in output(asked)


# A shard is code that nobody trusts: it would take its leash off.
REACHES = """
import glob, os
if {unset}: del os.environ["CUDA_VISIBLE_DEVICES"]
opened = []
for each in sorted(glob.glob("/dev/nvidia*")) + ["/dev/nvidiactl", "/dev/nvidia0"]:
    try:
        os.close(os.open(each, os.O_RDWR))
    except OSError:
        continue
    opened.append(each)
import torch
print(torch.cuda.is_available(), torch.cuda.device_count(), opened if {unset} else [])
"""


@pytest.mark.parametrize("level", [1, 2, 3])
async def test_a_shard_that_was_granted_none_has_none(
    state: StateDir, executor: LocalExecutor, tree: Path, level: Level
) -> None:
    if level > 1 and (why := try_level(level)) is not None:
        pytest.skip(f"level {level} does not work here: {why}")
    said = await ended_well(
        executor, script(state, tree, "none", REACHES.format(unset=level > 1), gpus=(), level=level)
    )
    assert said.splitlines()[-1] == "False 0 []"


async def test_a_box_keeps_a_shard_from_its_neighbours_gpu(
    state: StateDir, executor: LocalExecutor, tree: Path, level: Level
) -> None:
    gpus = gpus_here()
    if len(gpus) < 2 or not all(each.startswith("GPU-") for each in gpus):
        pytest.skip("needs two GPUs that are not partitioned")
    if level == 1:
        pytest.skip("limits keep nobody from a device")
    asked = script(state, tree, "reaches", REACHES.format(unset=True), gpus=(gpus[1],), level=level)
    said = (await ended_well(executor, asked)).splitlines()[-1]
    assert said.startswith("True 1 ")
    others = {str(node) for node in gpu_devices(gpus[:1]) if node.name[6:].isdigit()}
    assert not any(f"'{each}'" in said for each in others)


# --- warm


async def test_a_fork_trains_on_the_gpu_as_a_fresh_process_to_the_last_bit(
    state: StateDir, executor: LocalExecutor, nanolm: SimpleNamespace, level: Level
) -> None:
    first = training(state, nanolm, "cold", level=level)
    await ended_well(executor, first)
    assert '"device": "cuda"' in (state.runs / "cold" / "metrics.jsonl").read_text()
    assert not was_warm(state, "cold")
    await until_ready(state)
    for id in ("again", "third"):
        await ended_well(executor, training(state, nanolm, id, level=level))
        assert was_warm(state, id), says(state)
    assert losses(first) == losses(training(state, nanolm, "again")) == losses(training(state, nanolm, "third"))
    same = [(state.runs / id / "final.safetensors").read_bytes() for id in ("cold", "again", "third")]
    assert same[0] == same[1] == same[2]


USES = "import asks, torch; print(torch.ones(8, device='cuda').sum().item(), torch.cuda.device_count())"
IMPORTS = {  # what libraries do when they are imported, and what the launcher's log then says of the parent
    "counts the GPUs": (
        "import torch; torch.cuda.is_available(), torch.cuda.device_count()",
        "left files or sockets open, which forks would share: /dev/nvidia",
    ),
    "puts a tensor there": ("import torch; torch.zeros(1, device='cuda')", "an import initialised CUDA"),
    "starts the driver": (
        "import ctypes; ctypes.CDLL('libcuda.so.1').cuInit(0)",
        "which forks would share: /dev/nvidia",
    ),
}


@pytest.mark.parametrize("what", IMPORTS)
async def test_a_parent_whose_imports_touch_a_gpu_is_never_forked(
    state: StateDir, executor: LocalExecutor, tree: Path, tmp_path: Path, what: str
) -> None:
    code, why = IMPORTS[what]
    site = tmp_path / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (site / "asks").mkdir(parents=True)
    (site / "asks" / "__init__.py").write_text(code)
    torch = importlib.util.find_spec("torch")
    assert torch is not None
    assert torch.origin is not None
    (site / "installed.pth").write_text(f"{Path(torch.origin).parent.parent}\n")
    python = str(venv(tmp_path))
    for id in ("a", "b"):
        asked = script(state, tree, id, USES, python=python, warm=("asks", "torch"), level=1)
        assert (await ended_well(executor, asked)).splitlines()[-1] == "8.0 1"
        await until(state, lambda found: all(each["ready"] for each in found))
    assert not was_warm(state, "b"), says(state)
    assert why in says(state)


# --- what goes wrong

ALLOCATES = {
    "at once": "torch.empty(1 << 42, dtype=torch.uint8, device='cuda')",
    "piece by piece": "kept = []\nwhile True: kept.append(torch.empty(1 << 30, dtype=torch.uint8, device='cuda'))",
}


@pytest.mark.parametrize("how", ALLOCATES)
async def test_a_shard_that_the_gpu_has_no_memory_for_is_typed_as_such(
    state: StateDir, executor: LocalExecutor, tree: Path, how: str
) -> None:
    asked = script(state, tree, "large", f"import torch\n{ALLOCATES[how]}")
    await executor.launch(asked)
    outcome, why = classify(await end_of(executor), output(asked), Facts())
    assert outcome is Outcome.OOM, (why, output(asked))
    assert "out of memory" in why


HOLDS = """
import time, torch
free, _ = torch.cuda.mem_get_info()
kept = torch.ones(free // 2, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("holds", free, flush=True)
time.sleep(600)
"""


def used(gpu: str) -> int:
    """Bytes of the GPU that are in use."""
    argv = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    return int(said.split()[0]) << 20


async def becomes(condition: Callable[[], bool]) -> None:
    """Ask until it holds. Raises TimeoutError."""
    async with asyncio.timeout(2 * LIMIT_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 (it is the driver's to say)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_a_killed_shard_leaves_nothing_on_the_gpu(
    state: StateDir, executor: LocalExecutor, tree: Path, warm: bool
) -> None:
    gpu = gpus_here()[0]
    if shutil.which("nvidia-smi") is None or not gpu.startswith("GPU-"):
        pytest.skip("only nvidia-smi says how much of a whole GPU is in use")
    if warm:
        await ended_well(executor, script(state, tree, "first", "import torch", warm=("torch",)))
        await until_ready(state)
    before = used(gpu)
    asked = script(state, tree, "holds", HOLDS, warm=("torch",) if warm else ())
    await executor.launch(asked)
    log = Path(asked.run_dir) / asked.output
    await becomes(lambda: "holds" in log.read_text())
    assert was_warm(state, "holds") is warm, says(state)
    taken = int(output(asked).split()[1]) // 4
    assert used(gpu) > before + taken
    assert await executor.kill("holds")
    assert (await end_of(executor)).how == "stopped"
    await becomes(lambda: used(gpu) < before + taken)


async def test_two_shards_on_one_gpu_get_the_numbers_that_each_gets_alone(
    state: StateDir, executor: LocalExecutor, nanolm: SimpleNamespace
) -> None:
    slots = detect(2, cpus_here(), gpus_here()[:1], 1)
    assert [slot.gpus for slot in slots] == [tuple(gpus_here()[:1])] * 2
    await ended_well(executor, training(state, nanolm, "alone"))
    pair = [training(state, nanolm, id) for id in ("one", "two")]
    for each in pair:
        await executor.launch(each)
    assert [(await end_of(executor)).code for _ in pair] == [0, 0], [output(each) for each in pair]
    assert losses(pair[0]) == losses(pair[1]) == losses(training(state, nanolm, "alone"))
