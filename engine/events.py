"""Every event that the ledger can hold, as a frozen dataclass; the name on disk is in `TYPES`.

Fields are plain JSON. A field may be added with a default (old lines still read); a changed meaning needs a new version and an
upcaster in `UPCASTERS`, which turns the data of version v into that of v + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EngineStarted:
    pid: int
    host: str
    boot: str
    version: str


@dataclass(frozen=True, slots=True)
class ConfigLoaded:
    """`lab` holds what clients see of the lab (the fields of `LabRow` that come from the file); `config` is a blob."""

    config: str
    lab: Json


@dataclass(frozen=True, slots=True)
class ConfigBroken:
    """The lab file was changed and no longer reads, or reads again (then `error` is empty). Until the next start of an
    engine the lab is run as it was."""

    error: str


@dataclass(frozen=True, slots=True)
class TrunkIntended:
    """The trunk is about to be created at `start`, when it does not exist."""

    start: str


@dataclass(frozen=True, slots=True)
class ArmAdded:
    """The trunk stands at `commit`, as the arm `experiment` that experiments are compared with from now on."""

    experiment: str
    commit: str
    tree: str
    branch: str
    why: str


@dataclass(frozen=True, slots=True)
class ProposalAdded:
    """`source` and `diff` are blobs (the reply; the unified diff); `refusal` says why nothing could be applied."""

    proposal: str
    hypothesis: str
    mechanism: str
    prediction: str
    category: str
    proposer: str
    parent: str
    source: str
    diff: str | None = None
    files: list[Json] = field(default_factory=list)
    risks: list[str] = field(default_factory=list)
    refusal: str | None = None
    detail: str | None = None
    predicted_effect: float | None = None
    origin: str = ""
    change: str = ""
    fingerprint: str = ""
    duplicate_of: str = ""
    round: str = ""
    replaces: str = ""  # the proposal that this one is a revision of
    co_author: str = ""  # the person who edited it


@dataclass(frozen=True, slots=True)
class ProposalRebased:
    """The trunk moved while a proposal waited: it was applied afresh, and a decision must be on the new diff."""

    proposal: str
    parent: str
    diff: str | None
    files: list[Json]
    refusal: str | None = None
    detail: str | None = None
    risks: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision on a proposal (`action` is one of Action): `diff` is the hash of the diff that was on screen."""

    decision: str
    target: str
    action: str
    diff: str | None
    who: Json
    why: str
    request: str


@dataclass(frozen=True, slots=True)
class ExperimentIntended:
    """The branch of an approved proposal is about to be made. Everything that its commit hash depends on is here."""

    experiment: str
    proposal: str
    parent: str
    baseline: str
    branch: str
    when: float
    author: list[str]
    message: str
    rung: str


@dataclass(frozen=True, slots=True)
class ExperimentBranched:
    experiment: str
    commit: str
    tree: str
    branch: str


@dataclass(frozen=True, slots=True)
class ExperimentFailed:
    experiment: str
    why: str


@dataclass(frozen=True, slots=True)
class RungReached:
    """An experiment goes on to a larger budget."""

    experiment: str
    rung: str


@dataclass(frozen=True, slots=True)
class ShardIntended:
    shard: str
    experiment: str
    seed: int
    rung: str
    attempt: int
    slot: int
    commit: str
    tree: str
    setup: str  # hash of how shards are run and measured; only shards of one setup are compared
    source: str = "jsonl"  # how its metrics are to be read, also long after the lab file has changed
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class ShardStarted:
    """`where` is the executor's own name for the process: a pid, later a job step."""

    shard: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class ShardEnded:
    """Training ended. `scoring` means that a score is wanted before the shard has ended for good."""

    shard: str
    outcome: str
    detail: str
    reported: float | None = None
    scoring: bool = False
    usage: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoreIntended:
    shard: str


@dataclass(frozen=True, slots=True)
class ShardScored:
    shard: str
    outcome: str
    detail: str
    metric: float | None
    sources: dict[str, float] = field(default_factory=dict)
    by: str = "referee"


@dataclass(frozen=True, slots=True)
class VerdictReached:
    experiment: str
    rung: str
    verdict: str
    effect: float | None
    lo: float | None
    hi: float | None
    se: float | None
    n: int
    sentence: str
    pairs: list[Json]
    baseline: str
    final: bool


@dataclass(frozen=True, slots=True)
class StopIntended:
    """A person stops an experiment (its running shards with it) or one shard."""

    decision: str
    target: str
    who: Json
    why: str
    request: str
    shards: list[str]


@dataclass(frozen=True, slots=True)
class StopDone:
    target: str


@dataclass(frozen=True, slots=True)
class FindingNoted:
    finding: str
    about: str
    rule: str
    severity: str
    sentence: str


@dataclass(frozen=True, slots=True)
class MergeIntended:
    """A person signed an experiment off. Everything that the merge commit's hash depends on is here."""

    experiment: str
    decision: str
    diff: str
    ours: str
    theirs: str
    when: float
    author: list[str]
    message: str
    who: Json
    why: str
    request: str


@dataclass(frozen=True, slots=True)
class MergeDone:
    experiment: str
    commit: str
    tree: str


@dataclass(frozen=True, slots=True)
class MergeFailed:
    experiment: str
    why: str


@dataclass(frozen=True, slots=True)
class PullIntended:
    """A person pulls their branch into the trunk. Everything that the merge commit's hash depends on is here."""

    decision: str
    ours: str
    theirs: str
    when: float
    author: list[str]
    message: str
    who: Json


@dataclass(frozen=True, slots=True)
class PullDone:
    commit: str


@dataclass(frozen=True, slots=True)
class PullFailed:
    why: str


@dataclass(frozen=True, slots=True)
class Paused:
    """No new shards are launched until `Resumed`."""

    who: Json
    why: str


@dataclass(frozen=True, slots=True)
class Resumed:
    who: Json


@dataclass(frozen=True, slots=True)
class RoundBegan:
    """A person asks a proposer for hypotheses, or to revise the proposal `revises` as the note says."""

    round: str
    proposer: str
    wanted: int
    note: str
    who: Json
    request: str
    revises: str = ""


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """`state` is "done" or a Failure; `added` names the proposals that came of it."""

    round: str
    state: str
    detail: str = ""
    category: str = ""
    retry_at: float | None = None
    added: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CallIntended:
    """A call of a model is about to be made: `request` is the blob of what goes out, `most` the tokens it can use at most.

    `round` names what it is made for: a round of asking, a brief or a reading."""

    call: str
    round: str
    proposer: str
    model: str
    effort: str
    purpose: str
    request: str
    most: Json
    most_usd: float | None


@dataclass(frozen=True, slots=True)
class CallEnded:
    """`usage` counts tokens; `usd` is None where the model has no price; `reply` is the blob of all that was written."""

    call: str
    state: str
    usage: Json
    usd: float | None
    stop_reason: str | None = None
    detail: str = ""
    reply: str | None = None


@dataclass(frozen=True, slots=True)
class BriefBegan:
    """A brief is about to be written on `experiments`; `upto` is the event that it looks back from."""

    brief: str
    writer: str  # "model" | "queries"
    model: str
    experiments: list[str]
    upto: int
    who: Json
    request: str


@dataclass(frozen=True, slots=True)
class BriefEnded:
    """`state` is "done", or the Failure of the model that was asked: then `writer` says who filled it all the same."""

    brief: str
    state: str
    writer: str
    body: str | None = None
    claims: list[Json] = field(default_factory=list)
    dropped: int = 0
    detail: str = ""
    category: str = ""
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class ReadingBegan:
    """A second reader is about to read the diff `diff` of a proposal."""

    reading: str
    proposal: str
    diff: str
    reader: str  # "model" | "rules"
    model: str


@dataclass(frozen=True, slots=True)
class ReadingEnded:
    """What was found. `sealed` is the blob of the predictions: its hash binds them before anybody has decided."""

    reading: str
    state: str
    flags: list[Json] = field(default_factory=list)
    sealed: str | None = None
    detail: str = ""
    category: str = ""
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class ReadingOpened:
    """The proposal is decided: what the reader had predicted may be seen. None where it made no prediction."""

    reading: str
    p_approve: float | None
    p_solid: float | None


TYPES: dict[str, type] = {
    "engine.started": EngineStarted,
    "config.loaded": ConfigLoaded,
    "config.broken": ConfigBroken,
    "trunk.intended": TrunkIntended,
    "arm.added": ArmAdded,
    "proposal.added": ProposalAdded,
    "proposal.rebased": ProposalRebased,
    "proposal.decided": Decided,
    "experiment.intended": ExperimentIntended,
    "experiment.branched": ExperimentBranched,
    "experiment.failed": ExperimentFailed,
    "experiment.rung": RungReached,
    "shard.intended": ShardIntended,
    "shard.started": ShardStarted,
    "shard.ended": ShardEnded,
    "score.intended": ScoreIntended,
    "shard.scored": ShardScored,
    "verdict.reached": VerdictReached,
    "stop.intended": StopIntended,
    "stop.done": StopDone,
    "finding.noted": FindingNoted,
    "merge.intended": MergeIntended,
    "merge.done": MergeDone,
    "merge.failed": MergeFailed,
    "pull.intended": PullIntended,
    "pull.done": PullDone,
    "pull.failed": PullFailed,
    "round.began": RoundBegan,
    "round.ended": RoundEnded,
    "call.intended": CallIntended,
    "call.ended": CallEnded,
    "brief.began": BriefBegan,
    "brief.ended": BriefEnded,
    "reading.began": ReadingBegan,
    "reading.ended": ReadingEnded,
    "reading.opened": ReadingOpened,
    "engine.paused": Paused,
    "engine.resumed": Resumed,
}
NAMES: dict[type, str] = {cls: name for name, cls in TYPES.items()}
_FIELDS: dict[str, frozenset[str]] = {name: frozenset(f.name for f in fields(cls)) for name, cls in TYPES.items()}

UPCASTERS: dict[tuple[str, int], Callable[[Json], Json]] = {}
"""(type, version) to a function from that version's data to the next one's."""


def dump(event: Any) -> tuple[str, Json]:
    """(type, data) of an event, as the ledger takes them."""
    kind = type(event)
    return NAMES[kind], {f.name: getattr(event, f.name) for f in fields(kind)}


def load(kind: str, version: int, data: Mapping[str, Any]) -> Any | None:
    """The event, upcast to the present version; None for a type that this program does not know (a newer one wrote it)."""
    cls = TYPES.get(kind)
    if cls is None:
        return None
    if (kind, version) in UPCASTERS:
        data = dict(data)
        while (upcast := UPCASTERS.get((kind, version))) is not None:
            data, version = upcast(dict(data)), version + 1
    known = _FIELDS[kind]
    return cls(**data) if data.keys() <= known else cls(**{k: v for k, v in data.items() if k in known})
