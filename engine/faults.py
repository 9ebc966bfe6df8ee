"""Named points at which the engine can be made to die, so that tests can prove that nothing is lost there.

`COCKPIT_CRASH_AT=branch.effect` kills the process with SIGKILL when it gets there; `name:3` the third time. Without the
variable a point costs one dictionary look-up. Every act of the engine passes `<act>.intent`, `<act>.effect` and `<act>.done`:
right after its intent was made durable, after its effect, and after its completion was made durable.
"""

from __future__ import annotations

import os
import signal

ACTS = ("open", "propose", "decide", "branch", "launch", "end", "score", "verdict", "stop", "merge")
POINTS = tuple(f"{act}.{stage}" for act in ACTS for stage in ("intent", "effect", "done"))

_armed, _, _count = os.environ.get("COCKPIT_CRASH_AT", "").partition(":")
_left = int(_count) if _count.isdigit() else 1


def point(name: str) -> None:
    """Die here when this point is armed. `name` is one of `POINTS`."""
    global _left
    if name != _armed:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
