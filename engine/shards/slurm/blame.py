"""How a shard over several nodes ended, of the ends of its nodes: as the rank did that failed first. Pure.

The others fail within moments for want of it, on its own node too, and clocks differ by as much. So what a rank says counts
before the time: one that complains of a lost connection did not fail first where another says something else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from engine.shards.ranks import FIRST
from engine.shards.spec import How

GENTLE: tuple[How, ...] = ("stopped", "timeout", "preempted")
"""Ends that the ranks are asked for, and may save before."""

_FIRST = re.compile(re.escape(FIRST).replace(re.escape("%d"), r"\d+").replace(re.escape("%.3f"), r"(\d{1,12}\.\d{3})"))
_WANT = re.compile(
    r"connection (?:was )?(?:closed|reset|refused|aborted|lost)|closed by peer|broken pipe|BrokenPipe|DistNetwork|DistStore"
    r"|DistBackend|NCCL|gloo|remote process|(?:socket|store|watchdog)\b.*time",
    re.IGNORECASE,
)
_MARK = re.compile(r"\[rank\d+\]: ")
_TRACEBACK = "Traceback (most recent call last):"
_ABORTED = (-6, 128 + 6)  # what torch's watchdog ends a rank with that waits in vain


@dataclass(frozen=True, slots=True)
class End:
    """How the ranks on one node ended; `at` is when the first of them did (seconds since the epoch, by its clock), `told` that
    they were told to, `tail` what they said last."""

    node: str
    how: How
    status: int | None
    at: float
    memory: int = 0
    cpu_s: float = 0.0
    error: str | None = None
    told: bool = False
    tail: str = ""

    @property
    def well(self) -> bool:
        return self.how == "exited" and self.status == 0

    @property
    def failed(self) -> bool:
        """Whether they failed by themselves."""
        return not self.well and not self.told

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> End:
        """What another agent said. Raises KeyError, TypeError, ValueError."""
        status = None if raw["status"] is None else int(raw["status"])
        if raw["how"] not in get_args(How):
            raise ValueError(f"no such end: {raw['how']!r}")
        error = None if raw["error"] is None else str(raw["error"])
        used, told = (int(raw["memory"]), float(raw["cpu_s"])), raw["told"] is True
        return cls(str(raw["node"]), raw["how"], status, float(raw["at"]), *used, error, told, str(raw["tail"]))


def verdict(own: End, others: Sequence[End], lost: Sequence[str]) -> End:
    """The end that is the shard's, of those of its nodes: `own` is the leading agent's; `lost` are those that fell silent."""
    if own.how in GENTLE:
        return own
    if lost:
        why = f"its node{'s' * (len(lost) > 1)} {', '.join(lost)} {'are' if len(lost) > 1 else 'is'} silent"
        return replace(own, how="node-lost", status=None, error=why)
    failed = [each for each in (own, *others) if each.failed]
    if len(failed) < 2:
        return failed[0] if failed else own
    return min(failed, key=lambda each: (for_want_of_others(each), each.how == "exited", each.at))


def for_want_of_others(end: End) -> bool:
    """Whether all ranks of a node that say why they failed say that others were gone."""
    if end.how != "exited" or accused(end.tail) is not None:
        return False
    return (_TRACEBACK in end.tail or end.status in _ABORTED) and _WANT.search(end.tail) is not None


def accused(tail: str) -> str | None:
    """What the first rank said that failed for a reason of its own; None where none did, as far as they say."""
    from engine.shards.outcome import last_words  # when there is something to explain, and not before

    for said in _by_rank(tail):
        if _TRACEBACK in said and not _WANT.search(last_words(said)):
            return said
    return None


def _by_rank(tail: str) -> list[str]:
    found: dict[str, list[str]] = {}
    for line in tail.splitlines():
        if not line.startswith("cockpit: "):
            mark = _MARK.match(line)
            found.setdefault(mark[0] if mark else "", []).append(line)
    return ["\n".join(lines) for lines in found.values()]


def failed_at(tail: str) -> float:
    """When the first rank of a node failed, as its last line says: the end of the others may take long. Now, if none says."""
    now, lines = time.time(), tail.splitlines()
    found = _FIRST.fullmatch(lines[-1]) if lines else None
    return min(now, float(found[1])) if found else now
