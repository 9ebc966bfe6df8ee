"""How long a key takes to be answered while a reply streams, beside an idle screen of the same run, over a pseudo-terminal.

Prints the p95 of both in milliseconds and their ratio. The bar is at most 2.

    python -m benchmarks.echo_streaming [PRESSES]
"""

from __future__ import annotations

import json
import os
import select
import sys
import tempfile
import time
from pathlib import Path

from tests.test_terminal import Terminal, environment

MARKS = (("J", "F.relu("), ("K", "norm0("))
PAUSE_S = 0.35


def rest(terminal: Terminal, seconds: float) -> None:
    """Read what comes for so long."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([terminal.fd], [], [], left)[0]:
            terminal.read_more()


def echoes(presses: int, *words: str) -> list[float]:
    """Milliseconds from a key to the first byte of the screen that it asks for."""
    found = []
    with (
        tempfile.TemporaryDirectory() as place,
        Terminal("-m", "tests.streaming", *words, env=environment(Path(place)), size=(50, 200)) as terminal,
    ):
        terminal.read_until("trunk-1")
        terminal.send("2")
        terminal.read_until("norm0(", *([] if words else ["asking, r0001"]))
        rest(terminal, 2.0)
        for number in range(presses):
            key, mark = MARKS[number % len(MARKS)]
            rest(terminal, PAUSE_S + 0.037 * (number % 5))  # at any phase of the stream
            began = time.perf_counter()
            terminal.send(key)
            terminal.read_until(mark)
            found.append(1000 * (time.perf_counter() - began))
    return sorted(found)


def at(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]


def main() -> None:
    presses = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    idle, streaming = echoes(presses, "s"), echoes(presses)
    row = {
        "presses": presses,
        "idle_p50_ms": round(at(idle, 0.5), 1),
        "idle_p95_ms": round(at(idle, 0.95), 1),
        "streaming_p50_ms": round(at(streaming, 0.5), 1),
        "streaming_p95_ms": round(at(streaming, 0.95), 1),
        "p95_ratio": round(at(streaming, 0.95) / at(idle, 0.95), 2),
        "cpus": os.cpu_count(),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
