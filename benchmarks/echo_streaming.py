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
WINDOW_S = 0.6
"""How long a key is waited for; a key that is answered later is a failure."""


def arrivals(terminal: Terminal, seconds: float) -> list[tuple[float, bytes]]:
    """What comes for so long, each piece with the time at which it came; nothing is drawn meanwhile."""
    until = time.perf_counter() + seconds
    found = []
    while (left := until - time.perf_counter()) > 0:
        if select.select([terminal.fd], [], [], left)[0]:
            piece = os.read(terminal.fd, 65536)
            found.append((time.perf_counter(), piece))
    return found


def echo(terminal: Terminal, key: str, mark: str) -> float:
    """Milliseconds from a key to the bytes that put `mark` on the screen.

    The pieces are drawn only after all have come: a terminal emulator written in Python takes longer to draw a frame
    than the cockpit to make it, and what a stream paints would be counted twice.
    """
    began = time.perf_counter()
    terminal.send(key)
    seen: float | None = None
    for came, piece in arrivals(terminal, WINDOW_S):
        terminal.feed(piece)
        if seen is None and terminal.shows(mark):
            seen = came
    if seen is None:
        raise AssertionError(f"no {mark} within {WINDOW_S} s of {key}")
    return 1000 * (seen - began)


def echoes(presses: int, *words: str) -> list[float]:
    """Sorted milliseconds from a key to the diff that it asks for, at any phase of the stream."""
    found = []
    with (
        tempfile.TemporaryDirectory() as place,
        Terminal("-m", "tests.streaming", *words, env=environment(Path(place)), size=(50, 200)) as terminal,
    ):
        terminal.read_until("trunk-1")
        terminal.send("2")
        terminal.read_until("norm0(", *([] if words else ["asking, r0001"]))
        for number in range(presses):
            for _, piece in arrivals(terminal, 0.1 + 0.037 * (number % 5)):
                terminal.feed(piece)
            found.append(echo(terminal, *MARKS[number % len(MARKS)]))
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
