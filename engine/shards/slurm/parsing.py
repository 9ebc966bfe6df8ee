"""What Slurm's commands say, as data. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_GRANTED = re.compile(r"(?:Granted|Pending) job allocation (\d+)")
_LEFT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
_WHY = {
    "Priority": "others come first",
    "Resources": "waits for nodes to become free",
    "QOSMaxJobsPerUserLimit": "your limit of jobs is reached",
    "AssocGrpCpuLimit": "the account's limit of cores is reached",
    "AssocGrpGRES": "the account's limit of GPUs is reached",
    "ReqNodeNotAvail": "a node that it needs is down or reserved",
    "PartitionTimeLimit": "it asks for more time than the partition gives",
    "PartitionNodeLimit": "it asks for more nodes than the partition has",
    "BeginTime": "requeued, waits a moment",
}
GONE = frozenset(
    {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "DEADLINE", "BOOT_FAIL", "OUT_OF_MEMORY"}
)


@dataclass(frozen=True, slots=True)
class Job:
    """One job as squeue shows it; `nodes` as Slurm abbreviates them, `left_s` None where it has no limit or is not running."""

    id: str
    state: str
    reason: str
    left_s: float | None
    nodes: str

    @property
    def pending(self) -> bool:
        return self.state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED")

    @property
    def over(self) -> bool:
        return self.state in GONE

    @property
    def why(self) -> str:
        """Why it waits, in words; Slurm's own word in brackets."""
        said = self.reason if self.reason not in ("None", "") else ""
        known = _WHY.get(said.partition(",")[0])
        return f"{known} ({said})" if known else said


def jobs(text: str) -> dict[str, Job]:
    """Job number to job, of what squeue printed with the format of `engine.shards.slurm.commands`; other lines are left out."""
    found = {}
    for line in text.splitlines():
        parts = line.strip().split("|")
        if len(parts) == 5 and parts[0].isdigit():
            found[parts[0]] = Job(parts[0], parts[1].upper(), parts[2], left(parts[3]), parts[4])
    return found


def left(text: str) -> float | None:
    """Seconds of `D-HH:MM:SS`, `HH:MM:SS` or `MM:SS`; None for words like UNLIMITED."""
    found = _LEFT.fullmatch(text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(each or 0) for each in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def allocation(text: str) -> str | None:
    """The number of the job that salloc says it was granted, or waits for."""
    found = _GRANTED.findall(text)
    return found[-1] if found else None


def node_states(text: str) -> dict[str, str]:
    """Node to state, of `sinfo --Node --format='%N %T'`."""
    return {words[0]: words[1].lower() for words in map(str.split, text.splitlines()) if len(words) == 2}


def usable(state: str) -> bool:
    """Whether steps may be placed on a node in that state; a star says that it does not respond."""
    return state.rstrip("#~!%$@^-") in ("idle", "mixed", "allocated", "completing", "planned")
