"""From what is left of a shard to its typed outcome and one line that says why. Pure."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from engine.shards.spec import ExitRecord
from engine.types import Outcome

DETAIL = 300  # characters
NONFINITE_CODE = 3  # by convention: a trainer that sees a non-finite loss ends itself with this
WRONG_TREE_CODE = 97  # the import guard's, in guard/sitecustomize.py
WRONG_TREE_MARK = "cockpit: wrong tree:"

_OOM = re.compile(
    r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory|HIP out of memory|MPS backend out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|DefaultCPUAllocator: (?:can't|not enough)|RESOURCE_EXHAUSTED: Out of memory"
    r"|^(?:\[rank\d+\]: )?\s*(?:numpy\.\S*|)_?(?:Array)?MemoryError\b|std::bad_alloc|Cannot allocate memory",
    re.MULTILINE,
)
_NEAR_MEMORY = 0.8
_TOO_MUCH = {"memory": Outcome.OOM, "disk": Outcome.CRASHED, "processes": Outcome.CRASHED}
_CLUSTER = {"preempted": Outcome.PREEMPTED, "node-lost": Outcome.NODE_LOST}
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Interrupt|Exit|Fault|Failure)(?::.*)?")
_ANY_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?::.*)?")
_TRACEBACK = "Traceback (most recent call last):"
_RANK = re.compile(r"^(?:\[?rank\s?\d+\]?:\s?|\[\d+\]:\s?)")
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
_OWN = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGXFSZ, signal.SIGXCPU}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the measurements and the machine say. `memory` is what a shard may use, in bytes, where it is known."""

    nonfinite: bool = False  # a streamed loss was NaN or infinite
    last_step: int | None = None  # the last one that was reported
    memory: int | None = None


def classify(record: ExitRecord, log_tail: str, facts: Facts) -> tuple[Outcome, str]:
    """The outcome of a shard, and why in one line (empty when it finished).

    In this order: the wrong code ran, a loss was non-finite (whoever ended it then), it was stopped, ran out of time,
    lost its node or allocation, or took more than it is allowed, it ended well, it ran out of memory, it was killed, it
    crashed.
    """
    log = _plain(log_tail)
    if record.how == "start-failed":  # the machine's or the lab file's fault, never that of the code under test
        return Outcome.LOST, _line(f"could not be started: {record.error or 'no reason given'}")
    mark = _marked(log)
    if mark is not None or record.code == WRONG_TREE_CODE:
        return Outcome.WRONG_TREE, _line(mark or "the import guard ended it: a module came from outside its run tree")
    if facts.nonfinite or (record.code == NONFINITE_CODE and record.how == "exited"):
        return Outcome.NONFINITE, f"the loss was not finite{_reached(facts)}"
    ran = record.lasted_s
    if record.how == "stopped" and record.pid is None and record.started == record.ended:
        return Outcome.KILLED, "stopped before it began"
    if record.how == "stopped":
        return Outcome.KILLED, f"stopped after {ran:.0f} s{_reached(facts)}"
    if record.how == "timeout":
        return Outcome.TIMEOUT, f"did not end within its time; ended after {ran:.0f} s{_reached(facts)}"
    if record.how in _CLUSTER:
        return _CLUSTER[record.how], _line(f"{record.error or record.how}, after {ran:.0f} s{_reached(facts)}")
    if record.how in _TOO_MUCH:
        return _TOO_MUCH[record.how], _line(f"ended because it {record.error or 'took more than it is allowed'}")
    if record.code == 0:
        return Outcome.FINISHED, ""
    return _failed(record, log, facts)


def _reached(facts: Facts) -> str:
    return "" if facts.last_step is None else f", last step {facts.last_step}"


def _failed(record: ExitRecord, log: str, facts: Facts) -> tuple[Outcome, str]:
    number = _signal(record)
    oom = _OOM.search(log)
    if oom is not None:
        start = log.rfind("\n", 0, oom.start()) + 1
        return Outcome.OOM, _line(_RANK.sub("", log[start:].split("\n", 1)[0]))
    if number == signal.SIGKILL and facts.memory is not None and record.max_rss >= _NEAR_MEMORY * facts.memory:
        return Outcome.OOM, f"killed at {record.max_rss / 2**30:.1f} GiB of memory, of {facts.memory / 2**30:.1f}"
    if number in _OUTSIDE:
        return Outcome.KILLED, f"killed by {signal.Signals(number).name}, which the cockpit did not send"
    why = last_words(log)
    if number is not None:
        name = signal.Signals(number).name if number in _OWN else f"signal {number}"
        return Outcome.CRASHED, _line(f"ended by {name}" + (f"; its last line: {why}" if why else ""))
    return Outcome.CRASHED, _line(why or f"ended with exit code {record.code} and said nothing")


def _signal(record: ExitRecord) -> int | None:
    """The signal that ended it; also when a shell in between reported it as 128 + n."""
    if record.signal is not None:
        return record.signal
    if record.code is not None and record.code - 128 in _OUTSIDE | _OWN:
        return record.code - 128
    return None


def _marked(log: str) -> str | None:
    for line in log.splitlines():
        line = _RANK.sub("", line)
        if line.startswith(WRONG_TREE_MARK):
            return line.removeprefix(WRONG_TREE_MARK).strip()
    return None


def last_words(log: str) -> str:
    """The line that says most about a crash: the exception of the last traceback, else the last line that has any."""
    lines = [_RANK.sub("", line.rstrip()) for line in log.splitlines()]
    lines = [line for line in lines if line.strip()]
    starts = [n for n, line in enumerate(lines) if line.strip() == _TRACEBACK]
    for start in reversed(starts):
        for line in lines[start + 1 :]:
            if line[0].isspace():
                continue
            if _ANY_EXCEPTION.fullmatch(line) and "ChildFailedError" not in line:
                return line.strip()
            break
    for line in reversed(lines):
        if _EXCEPTION.fullmatch(line.strip()):
            return line.strip()
    return lines[-1].strip() if lines else ""


def _plain(text: str) -> str:
    """`text` without escape sequences and control characters; carriage returns end lines. Safe to show."""
    text = _ESCAPE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(each if each in "\n\t" or each.isprintable() else "\ufffd" for each in text)


def _line(text: str) -> str:
    line = " ".join(_plain(text).split())
    return line if len(line) <= DETAIL else line[: DETAIL - 1] + "…"
