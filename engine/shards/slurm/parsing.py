"""What Slurm's commands say, as data. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

_GRANTED = re.compile(r"(?:Granted|Pending) job allocation (\d+)")
_LEFT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
_ID = re.compile(r"(\d+)(?:_(\d+|\[([\d,%:-]+)\]))?")
_CUT = re.compile(r"(\d+)_\[")
_JOB = re.compile(r"([0-9]+)(?:_(?:[0-9]+|\*))?")
_SPAN = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_MOST_TASKS = 10_000  # of one array that are told apart
_WHY = {
    "Priority": "others come first",
    "Resources": "waits for nodes to become free",
    "Dependency": "waits for another job",
    "QOSMaxJobsPerUserLimit": "your limit of jobs is reached",
    "QOSMaxCpuPerUserLimit": "your limit of cores is reached",
    "QOSMaxGRESPerUser": "your limit of GPUs is reached",
    "QOSMaxNodePerUserLimit": "your limit of nodes is reached",
    "QOSMaxSubmitJobPerUserLimit": "your limit of jobs in the queue is reached",
    "QOSGrpGRES": "the limit of GPUs of its quality of service is reached",
    "QOSGrpCpuLimit": "the limit of cores of its quality of service is reached",
    "QOSGrpNodeLimit": "the limit of nodes of its quality of service is reached",
    "QOSMaxWallDurationPerJobLimit": "it asks for more time than its quality of service gives",
    "QOSNotAllowed": "its quality of service may not be used there",
    "QOSUsageThreshold": "your share is used up for now",
    "AssocGrpCpuLimit": "the account's limit of cores is reached",
    "AssocGrpGRES": "the account's limit of GPUs is reached",
    "AssocGrpNodeLimit": "the account's limit of nodes is reached",
    "AssocGrpJobsLimit": "the account's limit of jobs is reached",
    "AssocGrpCPUMinutesLimit": "the account's core hours are used up",
    "AssocGrpGRESMinutes": "the account's GPU hours are used up",
    "AssocGrpBillingMinutes": "the account's budget is used up",
    "AssocMaxJobsLimit": "the account's limit of jobs is reached",
    "AssocMaxWallDurationPerJobLimit": "it asks for more time than the account may",
    "MaxGRESPerAccount": "the account's limit of GPUs is reached",
    "MaxCpuPerAccount": "the account's limit of cores is reached",
    "MaxJobsPerAccount": "the account's limit of jobs is reached",
    "ReqNodeNotAvail": "a node that it needs is down or reserved",
    "Reservation": "waits for its reservation",
    "ReservationDeleted": "its reservation is gone",
    "JobHeldUser": "it is held: `scontrol release` lets it go",
    "JobHeldAdmin": "an administrator holds it",
    "Licenses": "waits for a license",
    "PartitionDown": "the partition takes jobs and starts none now",
    "PartitionInactive": "the partition starts no jobs",
    "PartitionTimeLimit": "it asks for more time than the partition gives",
    "PartitionNodeLimit": "it asks for more nodes than the partition has",
    "NodeDown": "a node that it needs is down",
    "BadConstraints": "no node can ever do what it asks for",
    "JobArrayTaskLimit": "as many of its array run as may at once",
    "BeginTime": "requeued, waits a moment",
    "InvalidAccount": "its account is not known",
    "InvalidQOS": "its quality of service is not known",
    "launch failed requeued held": "its node could not start it, and it is held",
}
UNKNOWN = "Invalid job id"  # in what any command says of a job that Slurm does not have
GONE = frozenset(
    {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "DEADLINE", "BOOT_FAIL", "OUT_OF_MEMORY"}
)


@dataclass(frozen=True, slots=True)
class Job:
    """One job, or one task of an array (`123_4`), as squeue shows it; `nodes` as Slurm abbreviates them, `left_s` None where it
    has no limit or is not running, `start` when it began or is expected to, as squeue writes it (empty: not known)."""

    id: str
    state: str
    reason: str
    left_s: float | None
    nodes: str
    start: str = ""

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

    @property
    def waits(self) -> str:
        """That it waits and why, to come after its name."""
        word = {"CONFIGURING": "has its nodes made ready", "SUSPENDED": "is suspended"}.get(self.state, "waits")
        if word == "waits" and self.why.startswith("waits "):
            return self.why
        return f"{word}{f': {self.why}' if self.why else ''}"


def jobs(text: str) -> dict[str, Job]:
    """Job to what squeue printed of it with the format of `engine.shards.slurm.commands`; other lines are left out. The tasks
    of an array that wait are one line of squeue's, and one job each here; a line that is cut off, or cannot be read, is that of
    any task of its array that has none of its own: `123_*`."""
    found: dict[str, Job] = {}
    for line in text.splitlines():
        parts = line.strip().split("|")
        cut = None if _ID.fullmatch(parts[0]) else _CUT.match(parts[0])
        if len(parts) not in (5, 6) or not (cut or _ID.fullmatch(parts[0])):
            continue
        start = parts[5] if len(parts) == 6 and parts[5][:1].isdigit() else ""
        job = Job(parts[0], parts[1].upper(), parts[2], left(parts[3]), parts[4], start)
        ids = [f"{cut[1]}_*"] if cut else tasks(parts[0])
        found |= {id: replace(job, id=id) for id in ids}
    return found


def seen(listed: Mapping[str, Job], id: str) -> Job | None:
    """The job of that id in what `jobs` read."""
    return listed.get(id) or (listed.get(f"{number_of(id)}_*") if "_" in id else None)


def number_of(id: str) -> str:
    """The number of a job, or of the array that it is a task of; empty where the text names no job."""
    found = _JOB.fullmatch(id)
    return found[1] if found else ""


def tasks(id: str) -> Iterator[str]:
    """The single jobs that squeue means by an id: `12`, `12_3`, or `12_[0-3,7%2]`."""
    read = _ID.fullmatch(id)
    if read is None:
        return
    array, _, spans = read.groups()
    if spans is None:
        yield id
        return
    left_over = _MOST_TASKS
    for span in spans.partition("%")[0].split(","):
        if (ends := _SPAN.fullmatch(span)) is None:
            continue
        first, last, by = (int(each) if each else None for each in ends.groups())
        assert first is not None
        for number in range(first, (first if last is None else last) + 1, by or 1):
            if (left_over := left_over - 1) < 0:
                return
            yield f"{array}_{number}"


def accounted(text: str) -> dict[str, Job]:
    """Job to what sacct printed of it (`--parsable2 --format=JobID,State,ExitCode,Reason`); its steps are left out."""
    found: dict[str, Job] = {}
    for line in text.splitlines():
        parts = line.strip().split("|")
        if len(parts) == 4 and _ID.fullmatch(parts[0]) and (words := parts[1].split()):
            found |= {id: Job(id, words[0].upper().rstrip("+"), parts[3], None, "") for id in tasks(parts[0])}
    return found


def submitted(text: str) -> str | None:
    """The number of the job that `sbatch --parsable` made: `123`, or `123;cluster`."""
    for line in reversed(text.splitlines()):
        number = line.strip().partition(";")[0]
        if number.isdigit() and number.isascii():
            return number
    return None


_NEVER = re.compile(
    r"invalid partition|invalid account|invalid qos|invalid reservation|reservation .*invalid|time limit is invalid"
    r"|invalid time limit|--time|invalid feature|invalid gres|generic resource|node configuration is not available"
    r"|permission denied|access/permission|not permitted to use this partition|more processors requested"
    r"|node count specification|memory specification|cpu count|unrecognized option|invalid option|invalid argument"
    r"|invalid node name|invalid license|invalid constraint",
    re.IGNORECASE,
)


def never(said: str) -> bool:
    """Whether what sbatch said when it refused a job can only be mended by a person: it is not asked again. Limits that are
    reached and a controller that is away pass."""
    return _NEVER.search(said) is not None


def too_many(said: str) -> bool:
    """Whether sbatch refused an array since the site lets none be so large."""
    return "job array" in said.lower()


def expected(start: str, now: datetime | None = None) -> float | None:
    """Seconds until squeue expects a job to begin; None where it says nothing, or nothing nearer than a month."""
    try:
        wait_s = (datetime.fromisoformat(start) - (now or datetime.now())).total_seconds()
    except (ValueError, TypeError):
        return None
    return max(0.0, wait_s) if wait_s < 31 * 86400 else None


def starts(start: str, now: datetime | None = None) -> float | None:
    """The same as a moment, in unix seconds; one that has passed stays where it was."""
    now = now or datetime.now()
    if expected(start, now) is None:
        return None
    return now.timestamp() + (datetime.fromisoformat(start) - now).total_seconds()


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
