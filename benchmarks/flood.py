"""Has one shard print as fast as it can, and measures what that does to the engine and to a person at the keyboard.

    python benchmarks/flood.py [--seconds 10] [--keys 60]

A real engine runs a tiny lab; a real cockpit is attached on a pseudo-terminal of 200x50. Letters are typed into its filter, and
the time until each stands on the screen is taken: first with nothing printed, then while an experiment writes `y` in lines
without end. The last line is p95 while it floods over p95 before.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.test_terminal import Terminal, environment
from tests.tinylab import TinyLab, decide, proposal, rows, wait_for, waiting

FLOOD = (
    "        end = time.time() + {seconds}\n        while step == 0 and time.time() < end:\n"
    '            os.write(1, b"y\\n" * 32768)'
)
PRINT = '        print("step", step, "loss", loss, flush=True)'
PAUSE_S = 0.1  # between keys: a fast typist


def echoes(terminal: Terminal, count: int) -> list[float]:
    """Seconds from each of `count` letters to its echo in the filter."""
    terminal.send("/")
    terminal.read_until("filter")
    took, typed = [], ""
    for letter in itertools.islice(itertools.cycle("qwertyuiop"), count):
        if len(typed) == 20:
            terminal.send("\x7f" * 20)
            terminal.send("\x1b")
            time.sleep(0.3)
            terminal.send("/")
            terminal.read_until("filter")
            typed = ""
        typed += letter
        began = time.perf_counter()
        terminal.send(letter)
        while not any(typed in line for line in terminal.screen.display):
            terminal.read_more()
        took.append(time.perf_counter() - began)
        time.sleep(PAUSE_S)
    terminal.send("\x1b")
    return took


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def resident(pid: int) -> int:
    """Bytes of main memory that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=10.0)
    words.add_argument("--keys", type=int, default=60)
    given = words.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ck-"))
    os.environ["XDG_RUNTIME_DIR"] = str(place / "run")
    flood = proposal("Say more", PRINT, FLOOD.format(seconds=given.seconds * 3))
    lab = TinyLab(place / "lab", [flood])
    env = environment(place, XDG_RUNTIME_DIR=str(place / "run"))
    try:
        with lab.session() as session:
            (row,) = wait_for(lambda: waiting(session))
            wait_for(lambda: sum(each["state"] == "ended" for each in rows(session, "shard").values()) == 3)
            assert lab.engine is not None
            code = f"import os; os.chdir({str(lab.root)!r}); from cockpit.cli import main; main([])"
            with Terminal("-c", code, env=env, size=(50, 200)) as terminal:
                terminal.read_until("to review")
                before, quiet = echoes(terminal, given.keys), resident(lab.engine.pid)
                decide(session, row)
                log = wait_for(
                    lambda: [each for each in lab.state.runs.glob("0001.*/output.log") if each.stat().st_size > 1 << 20]
                )
                during, loud = echoes(terminal, given.keys), resident(lab.engine.pid)
                size = sum(each.stat().st_size for each in log)
                still = [each["id"] for each in rows(session, "shard").values() if each["state"] == "running"]
        assert still, "the flood was over before the keys were: raise --seconds"
        print(
            f"log {size / 2**20:.0f} MiB; engine {quiet / 2**20:.0f} MiB before, {loud / 2**20:.0f} MiB while it floods"
        )
        print(f"echo before: median {1000 * statistics.median(before):.0f} ms, p95 {1000 * p95(before):.0f} ms")
        print(
            f"echo while it floods: median {1000 * statistics.median(during):.0f} ms, p95 {1000 * p95(during):.0f} ms"
        )
        print(f"{p95(during) / p95(before):.2f}x")
    finally:
        lab.end()


if __name__ == "__main__":
    main()
