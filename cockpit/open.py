"""Opening the screens on a lab: the one place where the terminal meets its connection."""

from __future__ import annotations

import sys
from pathlib import Path


def open_lab(start: Path) -> int:
    """Open the cockpit on the lab at or above `start`; the engine is started when it is not running."""
    from cockpit.attach import NotALab, lab_here

    try:
        root = lab_here(start)
    except NotALab as error:
        print(f"cockpit: {error}", file=sys.stderr)
        return 2
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        print("cockpit: the screens need a terminal; `cockpit --help` lists what works without one", file=sys.stderr)
        return 2
    from cockpit.app import run_app

    return run_app(root)
