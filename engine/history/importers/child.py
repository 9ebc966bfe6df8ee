"""Reads one source in a process of its own: it has a limit on memory, nothing of the engine's environment, and may be killed.

Its answer on standard output is a line of JSON (all but the points), then the columns of the points as they lie in memory.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from engine.history.importers import ImportRefused, body_of, read
from engine.history.importers.base import Account, Curves, Problem, Reading, Run, Segment

MEMORY = 4 << 30
"""Most bytes of addresses that reading a source may take."""

_COLUMNS = ("run", "metric", "step", "t", "value")


def main(argv: list[str]) -> int:
    """`PATH NAME FORMAT MAPPING`: read the source, write the answer."""
    for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        with suppress(ValueError, OSError):  # macOS has no RLIMIT_AS; the deadline and the kill remain
            resource.setrlimit(kind, (most, most))
    os.nice(10)  # the cores belong to the shards
    path, name, format, mapping = argv
    out = sys.stdout.buffer
    try:
        body = body_of(Path(path))
        reading = read(name, Path(path), body, format, orjson.loads(mapping))
        head = {"hash": hashlib.sha256(body).hexdigest(), "size": len(body), **packed(reading)}
    except ImportRefused as error:
        head = {"refused": str(error)}
    except MemoryError:
        head = {"refused": f"reading it takes more than {MEMORY >> 30} GiB of memory: import it in smaller parts"}
    out.write(orjson.dumps(head) + b"\n")
    if "refused" not in head:
        for column in _COLUMNS:
            out.write(memoryview(getattr(reading.curves, column)).cast("B"))
    out.flush()
    return 0


def packed(reading: Reading) -> dict[str, Any]:
    """Everything of a reading but the points, as orjson writes it, dataclasses too."""
    return {
        "format": reading.format,
        "account": reading.account,
        "segments": reading.segments,
        "runs": reading.runs,
        "problems": reading.problems,
        "notes": reading.notes,
        "unlisted": reading.unlisted,
        "names": list(reading.curves.names),
        "points": len(reading.curves),
    }


def unpacked(head: dict[str, Any], columns: memoryview) -> Reading:
    """The reading that `packed` and the columns of its points tell. Raises ValueError when they do not fit."""
    curves, size = Curves(), 8 * int(head["points"])
    if len(columns) != size * len(_COLUMNS):
        raise ValueError("the points are cut off")
    curves.names = {name: n for n, name in enumerate(head["names"])}
    for n, column in enumerate(_COLUMNS):
        getattr(curves, column).frombytes(columns[n * size : (n + 1) * size])
    return Reading(
        head["format"],
        Account(**head["account"]),
        [Segment(**each) for each in head["segments"]],
        [Run(**each) for each in head["runs"]],
        [Problem(**each) for each in head["problems"]],
        curves,
        list(head["notes"]),
        int(head["unlisted"]),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
