"""Times `python -c pass` boxed against unboxed, as the launcher would start it: what isolation costs a shard's start.

    python benchmarks/box.py [--repeat 20]

Medians of alternating runs, a level that the machine cannot do is left out; the last line is the ratio for the best level.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.shards.sandbox import lab_box, try_level, wrap
from engine.shards.spec import ShardSpec, shard_env


def once(spec: ShardSpec) -> float:
    """Seconds from the start of the process to its end. Raises CalledProcessError when the box does not work."""
    begin = time.perf_counter()
    subprocess.run(spec.argv, cwd=spec.cwd, env=dict(spec.env), stdin=subprocess.DEVNULL, check=True, process_group=0)
    return time.perf_counter() - begin


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--repeat", type=int, default=20)
    repeat = words.parse_args().repeat
    levels = [level for level in (1, 2, 3) if level == 1 or try_level(level) is None]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        tree, run_dir, state, lab = (root / each for each in ("state/trees/a", "state/runs/a", "state", "lab"))
        for each in (tree, run_dir / "tmp", lab):
            each.mkdir(parents=True)
        env = shard_env({}, (), threads=1, gpus=(), run_dir=run_dir, tree=tree, lab_root=lab)
        plain = ShardSpec("a", (sys.executable, "-c", "pass"), str(tree), env, str(run_dir), 60.0)
        given = {"interpreter": sys.executable, "tree": tree, "run_dir": run_dir, "lab_root": lab}
        specs = {
            level: wrap(plain, lab_box(level, data=(), mounts=(), gpus=(), private=(state,), **given))
            for level in levels
        }
        times: dict[int, list[float]] = {level: [] for level in levels}
        for turn in range(repeat + 1):
            for level, spec in specs.items():
                took = once(spec)
                if turn:  # the first reads the disk
                    times[level].append(took)
    medians = {level: statistics.median(each) for level, each in times.items()}
    for level, median in medians.items():
        print(f"level {level}: {1000 * median:.1f} ms, {1000 * (median - medians[1]):+.1f} ms to unboxed")
    print(f"{medians[levels[-1]] / medians[1]:.1f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
