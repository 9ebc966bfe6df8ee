"""Times shards of the sample lab from launch to their first optimizer step, cold and forked from a warm parent.

    python benchmarks/launch.py [--shards 10] [--steps 20]

Both kinds run one after the other, by turns, through one launcher, as an engine starts them. CPU time is the shard's own
until that step, and what its warm parent spent on the fork; a shard ends after `--steps` steps, its own report on the
dev split included. The last line is how much sooner a warm shard's first step comes.
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
from engine.shards.spec import ShardSpec, shard_env

LAB = Path(__file__).resolve().parent.parent / "sample_runs" / "nanolm"
POLL_S = 0.001


def prepare(place: Path) -> tuple[Path, Path]:
    """The sample lab's tree and a small version of its data."""
    tree = place / "tree"
    tree.mkdir()
    for name in ("train.py", "data.py", "prepare.py", "mix.toml"):
        shutil.copy(LAB / name, tree)
    words = ("prepare.py", "--open", place / "open", "--held", place / "held", "--max-bytes", "400000")
    subprocess.run([sys.executable, *map(str, words)], cwd=tree, check=True, capture_output=True)
    return tree, place / "open"


def shard(state: StateDir, tree: Path, data: Path, id: str, steps: int, warm: bool) -> ShardSpec:
    """One training run."""
    run_dir = state.runs / id
    words = ("train.py", "--seed", 0, "--steps", steps, "--data", data, "--out", run_dir)
    argv = (sys.executable, *map(str, words), "--metrics", str(run_dir / "metrics.jsonl"))
    env = shard_env({}, (), threads=1, gpus=(), run_dir=run_dir, tree=tree, lab_root=tree.parent)
    imports = warm_imports(warm, sys.executable, argv, tree)
    return ShardSpec(
        id=id, argv=argv, cwd=str(tree), env=env, run_dir=str(run_dir), timeout_s=120.0, nice=5, warm=imports
    )


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


async def parent_of(state: StateDir) -> tuple[int, int] | None:
    """Process number and forks of the warm parent, once it is ready."""
    found = (await _ask(state, {"op": "list"}))["warm"]
    return next(((each["pid"], each["forks"]) for each in found if each["ready"]), None)


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


async def bench(place: Path, shards: int, steps: int) -> None:
    """Run and print."""
    tree, data = await asyncio.to_thread(prepare, place)
    state = StateDir(place / "state")
    state.make()
    executor = LocalExecutor(state)
    await measure(executor, shard(state, tree, data, "first", steps, True))
    while (parent := await parent_of(state)) is None:  # noqa: ASYNC110 (it is in another process)
        await asyncio.sleep(0.05)
    before = cpu_of(parent[0])
    print(f"warm parent: {before:.1f} CPU s to start, {private_mib(parent[0])[1]:.0f} MiB")
    found: dict[str, list[tuple[float, float, float]]] = {"cold": [], "warm": []}
    for n in range(shards):
        for kind, rows in found.items():
            rows.append(await measure(executor, shard(state, tree, data, f"{kind}{n}", steps, kind == "warm")))
    ended = await parent_of(state)
    assert ended is not None
    assert ended[1] - parent[1] == shards, f"not every warm shard was forked; see {state.launcher_log}"
    fork_s = (cpu_of(parent[0]) - before) / shards
    for kind, rows in found.items():
        step_s, cpu_s, whole_s = (statistics.median(row[n] for row in rows) for n in range(3))
        more = f" + {fork_s:.3f} in its parent" if kind == "warm" else ""
        worst = max(row[0] for row in rows)
        print(
            f"{kind}: first step after {1000 * step_s:.0f} ms (median of {shards}, worst {1000 * worst:.0f}), "
            f"CPU until then {cpu_s:.3f} s{more}, ended after {whole_s:.2f} s"
        )
    losses = {kind: (state.runs / f"{kind}0" / "final.safetensors").read_bytes() for kind in found}
    print(f"checkpoints {'are the same bits' if losses['cold'] == losses['warm'] else 'DIFFER'}")
    steps_s = {kind: statistics.median(row[0] for row in rows) for kind, rows in found.items()}
    cpu = {kind: statistics.median(row[1] for row in rows) for kind, rows in found.items()}
    print(f"CPU a shard: {cpu['cold'] / (cpu['warm'] + fork_s):.0f}x less")
    print(f"{steps_s['cold'] / steps_s['warm']:.0f}x")
    await executor.close()
    await _ask(state, {"op": "retire"})


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the launch of cold and warm shards.")
    parser.add_argument("--shards", type=int, default=10, help="of each kind")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ck-"))
    os.environ["XDG_RUNTIME_DIR"] = str(place)
    try:
        asyncio.run(bench(place, arguments.shards, arguments.steps))
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
