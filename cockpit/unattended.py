"""A lab that nobody sits at: rows pulled again and again, proposals approved by a policy, a line whenever something changed.

The demo without a terminal, the self-test and the benchmarks go on by this. The engine takes such a policy in labs alone that
were made for it.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cockpit.attach import Session
from engine.text import clean

Rows = list[dict[str, Any]]
Step = Callable[[Rows, str], tuple[str, bool]]
"""What is done with all rows so far and the engine's phase: gives how things stand, in a line, and whether this is the end."""

POLL_S = 0.3
_STUCK = ("stalled", "preparing data failed", "the trunk itself fails")


class Stuck(RuntimeError):
    """The lab cannot go on by itself; the message is the engine's, for a person. `rows` are all that there were."""

    def __init__(self, why: str, rows: Rows) -> None:
        super().__init__(why)
        self.rows = rows


def say(text: str) -> None:
    """A line of progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def drive(session: Session, step: Step, tell: Callable[[str], None] = say) -> Rows:
    """Take steps until one is the last; returns all rows. Raises Stuck when the engine says that it cannot go on."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    head, told = 0, ""
    while True:
        fresh, head = session.rows(head)
        rows.update({(row["kind"], row["id"]): row for row in fresh})
        everything = list(rows.values())
        phase = session.call("status")["phase"]
        text, done = step(everything, phase)
        if text != told:
            tell(text)
            told = text
        if done:
            return everything
        if phase.startswith(_STUCK):
            raise Stuck(clean(phase), everything)
        time.sleep(POLL_S)


def approve(session: Session, row: dict[str, Any], why: str, policy: str) -> None:
    """Approve a proposal as a policy does; the engine takes that in labs made for it alone. Raises RpcError."""
    session.call(
        "decide",
        proposal=row["id"],
        diff_hash=row["diff_hash"],
        action="approve",
        why=why,
        policy=policy,
        request_id=uuid.uuid4().hex,
    )


def experiments(rows: Iterable[dict[str, Any]]) -> Rows:
    """The rows of experiments, without the trunk's."""
    return [row for row in rows if row["kind"] == "experiment" and row["role"] == "experiment"]


def waiting(rows: Iterable[dict[str, Any]]) -> Rows:
    """The proposals that wait for review, in the order in which they came."""
    return [row for row in rows if row["kind"] == "proposal" and row["state"] == "waiting"]


def is_settled(row: dict[str, Any]) -> bool:
    """Whether an experiment neither runs nor waits to run."""
    return row["state"] not in ("queued", "running")


def shards_ended(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(row["kind"] == "shard" and row["state"] == "ended" for row in rows)
