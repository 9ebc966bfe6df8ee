"""Copies text so that it lands: through tmux where there is one, else by the terminal, and always into a file."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from engine.paths import private_directory, runtime_base

LONGEST = 74_000
"""Bytes that common terminals accept in one clipboard sequence."""


def copy(text: str, raw: Callable[[str], None] | None, environ: dict[str, str] | None = None) -> str:
    """Copy `text`; returns how, in words, with the path of the file. `raw` writes to the terminal past all filters.

    Blocks for up to two seconds when tmux does not answer: call it in a thread.
    """
    env = dict(os.environ) if environ is None else environ
    how = _tmux(text, env) or _sequence(text, raw)
    path = _file(text)
    ways = [each for each in (how, f"file {path}" if path else None) if each]
    return " and ".join(ways) if ways else "nowhere: neither the terminal nor a file took it"


def osc52(text: str) -> str:
    """The terminal sequence that sets the clipboard."""
    return f"\x1b]52;c;{base64.b64encode(text.encode('utf-8', 'replace')).decode('ascii')}\x07"


def _tmux(text: str, env: dict[str, str]) -> str | None:
    if not env.get("TMUX"):
        return None
    try:
        subprocess.run(
            ["tmux", "load-buffer", "-w", "-"],
            input=text.encode("utf-8", "replace"),
            check=True,
            timeout=2,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return "tmux's buffer and clipboard"


def _sequence(text: str, raw: Callable[[str], None] | None) -> str | None:
    if raw is None or len(text.encode("utf-8", "replace")) > LONGEST:
        return None
    raw(osc52(text))
    return "the terminal's clipboard, if it takes OSC 52"


def _file(text: str) -> Path | None:
    folder = runtime_base() / "copied"
    try:
        private_directory(folder)
        path = folder / "last.txt"
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError:
        return None
    return path
