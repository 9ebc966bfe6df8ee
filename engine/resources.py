"""Where the files that ship beside the code lie: queries, themes, sample labs."""

from __future__ import annotations

import sys
from pathlib import Path


def shipped(name: str) -> Path:
    """Directory `name` ("queries", "themes", "sample_runs") of a checkout, else of an installation.

    Raises FileNotFoundError when neither has it.
    """
    checkout = Path(__file__).resolve().parent.parent / name
    installed = Path(sys.prefix) / "share" / "research-cockpit" / name
    for each in (checkout, installed):
        if each.is_dir():
            return each
    raise FileNotFoundError(f"{name}/ lies neither in {checkout} nor in {installed}: reinstall research-cockpit")
