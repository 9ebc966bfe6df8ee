"""Times shards of the sample lab from launch to their first optimizer step: cold, warm, and warm in a box.

    python benchmarks/launch.py [--shards 10] [--steps 20] [--gpu]

All kinds run one after the other, by turns, through one launcher, as an engine starts them; the box is the best that this
machine can make. CPU time is the shard's own until that step, and what its warm parent and, at level 3, bubblewrap spent on
its start. A shard ends after `--steps` steps, its own report on the dev split included. The last line is how much sooner the
first step of a warm and boxed shard comes than that of a cold one without a box. With `--gpu` all train on the first GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.paths import StateDir
from engine.shards.executor import Ended
from engine.shards.imports import warm_imports
from engine.shards.local import LocalExecutor, _ask
from engine.shards.records import read_exit
from engine.shards.sandbox import SHOWN, Level, choose, lab_box, probe, wrap
from engine.shards.slots import gpus_here
from engine.shards.spec import ShardSpec, shard_env

LAB = Path(__file__).resolve().parent.parent / "sample_runs" / "nanolm"
POLL_S = 0.001
READY_S = 120.0  # most that warm parents may take to import


def prepare(place: Path) -> tuple[Path, Path]:
    """The sample lab's tree and a small version of its data."""
    tree = place / "tree"
    tree.mkdir()
    for name in ("train.py", "data.py", "probes.py", "prepare.py", "mix.toml"):
        shutil.copy(LAB / name, tree)
    words = ("prepare.py", "--open", place / "open", "--held", place / "held", "--max-bytes", "400000")
    subprocess.run([sys.executable, *map(str, words)], cwd=tree, check=True, capture_output=True)
    return tree, place / "open"


def shard(
    state: StateDir, tree: Path, data: Path, id: str, steps: int, gpus: tuple[str, ...], warm: bool, level: Level
) -> ShardSpec:
    """One training run on these GPUs, in a box of that level."""
    run_dir = state.runs / id
    words = ("train.py", "--seed", 0, "--steps", steps, "--data", data, "--out", run_dir)
    argv = (sys.executable, *map(str, words), "--metrics", str(run_dir / "metrics.jsonl"))
    cache = state.caches / "tree"
    cache.mkdir(parents=True, exist_ok=True)
    env = shard_env({}, (), threads=1, gpus=gpus, run_dir=run_dir, tree=tree, lab_root=tree.parent, cache=cache)
    imports = warm_imports(warm, sys.executable, argv, tree)
    spec = ShardSpec(
        id=id, argv=argv, cwd=str(tree), env=env, run_dir=str(run_dir), gpus=gpus, timeout_s=120.0, nice=5, warm=imports
    )
    box = lab_box(
        level,
        interpreter=sys.executable,
        tree=tree,
        run_dir=run_dir,
        data=(data,),
        mounts=(),
        gpus=gpus,
        private=(state.root,),
        lab_root=tree.parent / "lab",
        cache=cache,
    )
    return wrap(spec, box)


async def first_step(asked: ShardSpec) -> None:
    """Return when the first line with a step is in the metrics file."""
    path = Path(asked.run_dir) / "metrics.jsonl"
    while True:
        if path.exists() and b'"step":' in path.read_bytes():
            return
        await asyncio.sleep(POLL_S)


async def measure(executor: LocalExecutor, asked: ShardSpec) -> tuple[float, float, float]:
    """Seconds to the first step, CPU seconds until then, and seconds to the end."""
    before = time.perf_counter()
    handle = await executor.launch(asked)
    async with asyncio.timeout(120):
        await first_step(asked)
        step_s = time.perf_counter() - before
        cpu_s = cpu_so_far(handle.where.removeprefix("pid "))
        async with aclosing(executor.events()) as events:  # type: ignore[type-var]
            ended = await anext(events)
    assert isinstance(ended, Ended)
    assert ended.exit is not None
    assert ended.exit.code == 0, (Path(asked.run_dir) / "output.log").read_text()
    return step_s, cpu_s, ended.exit.ended - ended.exit.started


async def parents_of(state: StateDir) -> list[tuple[int, int]]:
    """Process number and forks of each warm parent that is ready."""
    return [(each["pid"], each["forks"]) for each in (await _ask(state, {"op": "list"}))["warm"] if each["ready"]]


def cpu_so_far(pid: str) -> float:
    """CPU seconds of the one thread of a process, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def cpu_of(pid: int) -> float:
    """CPU seconds that the process and the children it waited for have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def private_mib(pid: int) -> tuple[float, float]:
    """Private and proportional memory of a process, MiB."""
    lines = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    private = sum(int(lines[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))
    return private / 1024, int(lines["Pss"].split()[0]) / 1024


async def bench(place: Path, shards: int, steps: int, gpus: tuple[str, ...]) -> None:
    """Run and print."""
    tree, data = await asyncio.to_thread(prepare, place)
    state = StateDir(place / "state")
    state.make()
    executor = LocalExecutor(state)
    level = choose("auto", probe(), bool(gpus))[0]
    kinds: dict[str, tuple[bool, Level]] = {
        "cold": (False, 1),
        "warm": (True, 1),
        f"warm, {SHOWN[level]}": (True, level),
    }

    async def one(kind: str, n: int) -> tuple[float, float, float]:
        id = f"{list(kinds).index(kind)}-{n}"
        return await measure(executor, shard(state, tree, data, id, steps, gpus, *kinds[kind]))

    for kind in list(kinds)[1:]:
        await one(kind, 999)
    wanted = len(set(kinds.values())) - 1
    async with asyncio.timeout(READY_S):
        while len(parents := await parents_of(state)) < wanted:
            if "is retired" in (said := state.launcher_log.read_text()):
                raise SystemExit(f"a warm parent cannot be forked:\n{said}")
            await asyncio.sleep(0.05)
    before = {pid: cpu_of(pid) for pid, _ in parents}
    print(f"a warm parent: {max(before.values()):.1f} CPU s to start, {private_mib(parents[0][0])[1]:.0f} MiB")
    launcher = (await _ask(state, {"op": "list"}))["pid"]
    found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in kinds}
    around: dict[str, float] = dict.fromkeys(kinds, 0.0)
    for n in range(shards):
        for kind, rows in found.items():
            spent = sum(cpu_of(pid) for pid, _ in parents) + cpu_of(launcher)
            rows.append(await one(kind, n))
            own = read_exit(state.runs / f"{list(kinds).index(kind)}-{n}").cpu_s
            around[kind] += sum(cpu_of(pid) for pid, _ in parents) + cpu_of(launcher) - spent - own
    ended = await parents_of(state)
    assert sum(each[1] for each in ended) - sum(each[1] for each in parents) == shards * wanted, (
        f"not every warm shard was forked; see {state.launcher_log}"
    )
    cpu = {}
    for kind, rows in found.items():
        step_s, own_s, whole_s = (statistics.median(row[n] for row in rows) for n in range(3))
        cpu[kind] = own_s + around[kind] / shards
        worst = max(row[0] for row in rows)
        print(
            f"{kind}: first step after {1000 * step_s:.0f} ms (median of {shards}, worst {1000 * worst:.0f}), "
            f"CPU until then {own_s:.3f} s + {around[kind] / shards:.3f} around it, ended after {whole_s:.2f} s"
        )
    finals = {(state.runs / f"{n}-0" / "final.safetensors").read_bytes() for n in range(len(kinds))}
    print(f"checkpoints {'are the same bits' if len(finals) == 1 else 'DIFFER'}")
    steps_s = {kind: statistics.median(row[0] for row in rows) for kind, rows in found.items()}
    boxed = list(kinds)[-1]
    print(f"CPU a shard until its first step: {cpu['cold'] / cpu[boxed]:.0f}x less")
    print(f"{steps_s['cold'] / steps_s[boxed]:.0f}x")
    await executor.close()
    await _ask(state, {"op": "retire"})


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the launch of cold and warm shards.")
    parser.add_argument("--shards", type=int, default=10, help="of each kind")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--gpu", action="store_true", help="train on the first GPU")
    arguments = parser.parse_args()
    gpus = tuple(gpus_here()[:1]) if arguments.gpu else ()
    if arguments.gpu and not gpus:
        parser.error("there is no GPU here")
    place = Path(tempfile.mkdtemp(prefix="ck-"))
    os.environ["XDG_RUNTIME_DIR"] = str(place)
    try:
        asyncio.run(bench(place, arguments.shards, arguments.steps, gpus))
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
