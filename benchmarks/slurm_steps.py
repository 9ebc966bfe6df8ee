"""Times short shards on a real two-node Slurm on this machine: as steps of a pilot, and as one sbatch each.

    python benchmarks/slurm_steps.py [--shards 50] [--seconds 0.2] [--batch 10]

Two nodes with two fake GPUs each; a shard sleeps for `--seconds`. All shards go through the pilot, four at a time, as an engine
starts them; the ideal is what four at a time take with no overhead at all. Beside it `--batch` jobs of one sbatch each, all
handed in at once. A median is from the moment a shard is asked for until it has ended. The last line is how many times the
ideal the pilot took. Where no Slurm can be started it says so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.paths import StateDir
from engine.shards.executor import Began, Ended
from engine.shards.slurm.commands import find
from engine.shards.slurm.executor import SlurmExecutor
from engine.shards.slurm.order import GPUS
from engine.shards.slurm.settings import Settings
from engine.shards.spec import ShardSpec
from tests.slurm.cluster import NODES, Cluster, cluster, why_not

GPUS_A_NODE = 2


def shard(state: StateDir, id: str, seconds: float) -> ShardSpec:
    """One that sleeps."""
    env = {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": GPUS}
    words = ("/bin/sleep", str(seconds))
    place = str(state.runs / id)
    return ShardSpec(
        id=id, argv=words, cwd="/", env=env, run_dir=place, timeout_s=60.0, tree="t", rung="screen", gpus=(GPUS,)
    )


async def through_the_pilot(slurm: Cluster, place: Path, count: int, seconds: float) -> tuple[float, list[float]]:
    """Seconds for all, and for each."""
    state = StateDir(place / "state")
    state.make()
    executor = SlurmExecutor(state, Settings(nodes=2, gpus=GPUS_A_NODE), find(slurm.env), ranks=1, threads=1)
    await executor.reattach()
    changed = asyncio.Event()
    executor.changed = changed.set
    await executor.confirm()
    while executor.shortage is not None:
        await changed.wait()
        changed.clear()
    began = time.perf_counter()
    asked: dict[str, float] = {}
    took: list[float] = []
    events = executor.events()
    for n in range(count):
        if len(asked) >= executor.capacity:
            took.append(await ended(events, asked))
        asked[f"s{n}"] = time.perf_counter()
        await executor.launch(shard(state, f"s{n}", seconds))
    while asked:
        took.append(await ended(events, asked))
    whole = time.perf_counter() - began
    await executor.release("measured")
    await executor.close()
    await executor.retire()
    return whole, took


async def ended(events: object, asked: dict[str, float]) -> float:
    """Seconds that the next shard to end has taken."""
    while isinstance(event := await anext(events), Began):  # type: ignore[call-overload]
        pass
    assert isinstance(event, Ended), event
    assert event.exit is not None, event
    assert event.exit.code == 0, event
    return time.perf_counter() - asked.pop(event.id)


def one_job_each(slurm: Cluster, place: Path, count: int, seconds: float) -> tuple[float, list[float]]:
    """Seconds for all, and for each, of jobs that are handed in at once; a job's end is the time of the file it leaves."""
    ends = [place / f"end-{n}" for n in range(count)]
    began, at = time.perf_counter(), time.time()
    for end in ends:
        words = ("--gres=gpu:1", "--ntasks=1", "--mem=100", "--output=/dev/null", "--export=NIL")
        slurm.run("sbatch", *words, f"--wrap=/bin/sleep {seconds}; /bin/touch {end}")
    while not all(end.exists() for end in ends):
        time.sleep(0.02)
    return time.perf_counter() - began, [end.stat().st_mtime - at for end in ends]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time steps of a pilot beside jobs of their own.")
    parser.add_argument("--shards", type=int, default=50, help="through the pilot")
    parser.add_argument("--seconds", type=float, default=0.2, help="that a shard sleeps")
    parser.add_argument("--batch", type=int, default=10, help="jobs of their own")
    arguments = parser.parse_args()
    if (why := why_not()) is not None:
        print(f"no Slurm can be started here: {why}")
        return
    place = Path(tempfile.mkdtemp(prefix="ck-"))
    os.environ["XDG_RUNTIME_DIR"] = str(place)
    count, seconds = arguments.shards, arguments.seconds
    try:
        with cluster(gpus=GPUS_A_NODE) as slurm:
            whole, each = asyncio.run(through_the_pilot(slurm, place, count, seconds))
            slots = GPUS_A_NODE * len(NODES)
            ideal = -(-count // slots) * seconds
            print(
                f"pilot: {count} shards of {seconds} s on {slots} fake GPUs in {whole:.1f} s ({ideal:.1f} ideal), "
                f"a shard {statistics.median(each):.2f} s (median)"
            )
            alone, jobs = one_job_each(slurm, place, arguments.batch, seconds)
            print(
                f"one sbatch a shard: {arguments.batch} in {alone:.1f} s, a shard {statistics.median(jobs):.2f} s (median)"
            )
            print(f"{whole / ideal:.1f}x the ideal")
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
