"""Named points at which the engine can be made to die, so that tests can prove that nothing is lost there.

`COCKPIT_CRASH_AT=branch.effect` kills the process with SIGKILL when it gets there; `name:3` the third time. Without the
variable a point costs one comparison. An act passes `<act>.intent` right after its intent was made durable, `<act>.effect`
after its effect, and `<act>.done` after its completion was made durable; those that are one event alone pass `done`. The intent
of an `end` is the exit record, of a `score` or a `stop` the event that asks for it.
"""

from __future__ import annotations

import os
import signal

ACTS = ("open", "prepare", "branch", "launch", "end", "score", "stop", "merge", "pull")
POINTS = (
    *(f"{act}.{stage}" for act in ACTS for stage in ("intent", "effect", "done")),
    "jobs.effect",  # a cluster has taken the job of a shard, whose number is not written down yet
    "propose.effect",  # its bodies are stored
    "propose.done",
    "rebase.done",
    "decide.done",
    "verdict.done",
    "sign.done",  # fresh pairs are to run
    "bundle.done",  # several are signed together
    "headline.done",  # what they say is on record
    "audit.intent",  # pairs of the trunk then and now are to run
    "audit.done",  # what they say is on record
    "retune.done",  # both sides are to be retuned
    "tuned.done",  # each side's best rate is on record
    "retuned.done",  # and what is left between the two
    "repair.done",  # a round for a proposal that broke at its smoke has begun
)

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
