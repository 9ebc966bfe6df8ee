"""Times a step's logging with the lines of docs/logging.md, beside other trackers, and kills the one that logs.

    python benchmarks/logging_cost.py [--steps 3000] [--repeat 5] [--kills 20] [--python VENV/bin/python]

Every logger runs in a process of its own and logs five numbers a step, `--repeat` times. They take turns, since the steps of a
fast one are over within the moment that a machine is slow for, and the medians of the turns are told. `--python` names an
interpreter that has wandb, and perhaps mlflow, trackio or tensorboard; what it cannot import is left out and said. The bars: a
median of 50 us a step; 15 times as fast as wandb offline, where that is there; and of `--kills` writers that get SIGKILL at a
random moment, no line is missing whose call had returned. Exits 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAR_US, TIMES, WARM = 50.0, 15.0, 200
PAGE = Path(__file__).resolve().parent.parent / "docs" / "logging.md"

# each defines `log(step)` for the numbers in `values`; `place` is a directory of its own
LOGGERS = {
    "these lines": "{lines}\nmetrics = Metrics(place + '/metrics.jsonl')\ndef log(step): metrics.log(step, **values)\n",
    "wandb offline": (
        "import wandb\nrun = wandb.init(project='p', mode='offline', dir=place, settings=wandb.Settings(silent=True))\n"
        "def log(step): run.log(values, step=step)\n"
    ),
    "tensorboard": (
        "from tensorboard.summary import Writer\nwriter = Writer(place)\n"
        "def log(step):\n    for name, value in values.items(): writer.add_scalar(name, value, step)\n"
    ),
    "trackio": (
        "import trackio\ntrackio.init(project='p', embed=False)\ndef log(step): trackio.log(values, step=step)\n"
    ),
    "mlflow": (
        "import mlflow\nmlflow.set_tracking_uri('sqlite:///' + place + '/m.db')\nmlflow.start_run()\n"
        "def log(step): mlflow.log_metrics(values, step=step)\n"
    ),
}
TIMED = """
import sys, os, time
place, steps, warm = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
values = {"loss": 2.3125, "grad_norm": 1.25, "lr": 0.001, "tokens_per_s": 51000.5, "ema": 2.25}
"""
LOOP = """
took = []
for step in range(warm + steps):
    began = time.perf_counter()
    log(step)
    took.append(time.perf_counter() - began)
took = sorted(took[warm:])
print("MEDIAN", 1e6 * took[len(took) // 2], 1e6 * took[len(took) * 95 // 100], flush=True)
os._exit(0)
"""
KILLED = """
import os, sys
metrics = Metrics(sys.argv[1])
step = 0
while True:
    metrics.log(step, loss=2.0 + step, lr=0.001)
    os.write(1, step.to_bytes(8, "big"))
    step += 1
"""


def lines() -> str:
    """The code on the page."""
    found = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert found is not None, f"{PAGE} shows no code"
    return found[1]


def timed(name: str, python: str, steps: int) -> tuple[float, float] | None:
    """Median and p95 of a logger's step in microseconds; None where it cannot be imported, which is printed."""
    code = TIMED + LOGGERS[name].replace("{lines}", lines()) + LOOP
    with tempfile.TemporaryDirectory(prefix="log-") as place:
        env = {**os.environ, "HOME": place, "TRACKIO_DIR": place, "MLFLOW_ENABLE_ASYNC_LOGGING": "false"}
        done = subprocess.run(
            [python, "-c", code, place, str(steps), str(WARM)],
            cwd=place,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )
    found = re.search(r"^MEDIAN (\S+) (\S+)$", done.stdout, re.M)
    if found is None:
        print(f"{name:14} is left out: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
        return None
    return float(found[1]), float(found[2])


def killed(luck: random.Random) -> tuple[int, int]:
    """Kill a writer at a random moment: how many calls had returned, and how many of their lines are not in the file."""
    with tempfile.TemporaryDirectory(prefix="log-") as place:
        path = Path(place) / "metrics.jsonl"
        with subprocess.Popen([sys.executable, "-c", lines() + KILLED, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            said = bytearray(os.read(writer.stdout.fileno(), 8))  # it has begun
            end = time.monotonic() + luck.uniform(0.0, 0.3)
            while time.monotonic() < end:
                said += os.read(writer.stdout.fileno(), 1 << 16)
            writer.send_signal(signal.SIGKILL)
            while more := os.read(writer.stdout.fileno(), 1 << 16):
                said += more
        steps = [
            json.loads(line)["step"] for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")
        ]
        returned = len(said) // 8
        return returned, len(set(range(returned)) - set(steps)) + len(steps) - len(set(steps))


def main() -> int:
    """Print every logger's median, and what the kills cost; 1 where a bar is missed."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--steps", type=int, default=3_000)
    words.add_argument("--repeat", type=int, default=5)
    words.add_argument("--kills", type=int, default=20)
    words.add_argument("--python", default=sys.executable)
    given = words.parse_args()
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in LOGGERS}
    for _ in range(given.repeat):
        for name in list(turns):
            steps = given.steps if name in ("these lines", "tensorboard") else given.steps // 5
            found = timed(name, given.python, steps)
            if found is None:
                del turns[name]
            else:
                turns[name].append(found)
    medians = {name: statistics.median(median for median, _ in found) for name, found in turns.items()}
    for name, found in turns.items():
        high = statistics.median(p95 for _, p95 in found)
        beside = f", {medians[name] / medians['these lines']:.0f}x these lines" if name != "these lines" else ""
        print(f"{name:14} median {medians[name]:8.1f} us a step, p95 {high:8.1f} us{beside}", flush=True)
    luck = random.Random(1)
    kills = [killed(luck) for _ in range(given.kills)]
    lost = sum(missing for _, missing in kills)
    print(
        f"{given.kills} kills after {sum(returned for returned, _ in kills):,} calls that had returned: {lost} lost or twice"
    )
    mine, wandb = medians["these lines"], medians.get("wandb offline")
    missed = [
        *([f"the median is to be {BAR_US:.0f} us"] if mine > BAR_US else []),
        *([f"wandb is to be {TIMES:.0f}x as slow"] if wandb is not None and wandb < TIMES * mine else []),
        *(["nothing is to be lost"] if lost else []),
    ]
    print("; ".join(missed) or "every bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
