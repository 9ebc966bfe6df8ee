"""Settings that Textual reads from the environment when it is imported. Import this before anything of textual.

Calm over a slow line: no animations, no smooth scrolling. Frames are not held back by Textual's own limit, which makes
a key that comes after a frame wait for up to two more: what moves by itself has its own pace here, and keys that a slow
line does not keep up with share a frame. Over SSH an arrow key may arrive in pieces, so the wait for the rest of an
escape sequence is longer there: pieces must never be taken for keys.
"""

from __future__ import annotations

import os

SSH = bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"))
"""True at the far end of an SSH line."""

_KNOBS = {
    "TEXTUAL_ANIMATIONS": "none",
    "TEXTUAL_FPS": "120",
    "TEXTUAL_SMOOTH_SCROLL": "0",
    "ESCDELAY": "500" if SSH else "150",
}

for _name, _value in _KNOBS.items():
    os.environ.setdefault(_name, _value)


def wants_mouse() -> bool:
    """Off unless COCKPIT_MOUSE=1: the mouse costs bytes on every motion and takes the terminal's own selection away."""
    return os.environ.get("COCKPIT_MOUSE", "0") == "1"
