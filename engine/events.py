"""Every event that the ledger can hold, as a frozen struct; the name on disk is in `TYPES`.

msgspec reads a line straight into one of these and checks its types on the way, in a third of the time of a parser and a
dataclass: on a long ledger that is what a restart waits for. Fields are plain JSON. A field may be added with a default (old
lines still read); a changed meaning needs a new version and an upcaster in `UPCASTERS`, which turns the data of version v
into that of v + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import orjson

Json = dict[str, Any]


class EngineStarted(msgspec.Struct, frozen=True):
    pid: int
    host: str
    boot: str
    version: str


class ConfigLoaded(msgspec.Struct, frozen=True):
    """`lab` holds what clients see of the lab (the fields of `LabRow` that come from the file); `config` is a blob."""

    config: str
    lab: Json


class ConfigBroken(msgspec.Struct, frozen=True):
    """The lab file was changed and no longer reads, or reads again (then `error` is empty). Until the next start of an
    engine the lab is run as it was."""

    error: str


class TrunkIntended(msgspec.Struct, frozen=True):
    """The trunk is about to be created at `start`, when it does not exist."""

    start: str


class ArmAdded(msgspec.Struct, frozen=True):
    """The trunk stands at `commit`, as the arm `experiment` that experiments are compared with from now on."""

    experiment: str
    commit: str
    tree: str
    branch: str
    why: str


class ProposalAdded(msgspec.Struct, frozen=True):
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
    files: list[Json] = []
    risks: list[str] = []
    refusal: str | None = None
    detail: str | None = None
    predicted_effect: float | None = None
    claims: str = ""  # speed, simplification; a gain where it is empty
    origin: str = ""
    change: str = ""
    fingerprint: str = ""
    duplicate_of: str = ""
    round: str = ""
    replaces: str = ""  # the proposal that this one is a revision of
    co_author: str = ""  # the person who edited it
    repairs: str = ""  # the approved proposal that broke at its smoke, and that this one mends


class ProposalRebased(msgspec.Struct, frozen=True):
    """The trunk moved while a proposal waited: it was applied afresh, and a decision must be on the new diff."""

    proposal: str
    parent: str
    diff: str | None
    files: list[Json]
    refusal: str | None = None
    detail: str | None = None
    risks: list[str] | None = None


class Decided(msgspec.Struct, frozen=True):
    """A decision on a proposal (`action` is one of Action): `diff` is the hash of the diff that was on screen."""

    decision: str
    target: str
    action: str
    diff: str | None
    who: Json
    why: str
    request: str


class ExperimentIntended(msgspec.Struct, frozen=True):
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


class ExperimentBranched(msgspec.Struct, frozen=True):
    experiment: str
    commit: str
    tree: str
    branch: str


class ExperimentFailed(msgspec.Struct, frozen=True):
    experiment: str
    why: str


class ExperimentReplayed(msgspec.Struct, frozen=True):
    """The trunk moved: the experiment `of` goes on as `experiment`, with the same patch on the new trunk, and starts again.

    Everything that its commit hash depends on is here. `retest`: it was solid, so it is tested before the others.
    """

    experiment: str
    of: str
    parent: str
    baseline: str
    branch: str
    when: float
    author: list[str]
    message: str
    rung: str
    retest: bool = False


class ReplayEnded(msgspec.Struct, frozen=True):
    """The trunk moved, and an experiment cannot go on there as it was approved: it conflicts, or became another patch, which
    waits for review as `proposal`. `state` is the experiment's from now on."""

    experiment: str
    state: str
    why: str
    proposal: str = ""


class RungReached(msgspec.Struct, frozen=True):
    """An experiment goes on to a larger budget."""

    experiment: str
    rung: str


class ShardIntended(msgspec.Struct, frozen=True):
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
    smoke: bool = False  # the very short run before an arm's first full one: never evidence
    fresh: bool = False  # of a pair that a signature asked for: never in the verdict
    canary: bool = False  # the trunk's first seed once more, to see whether the machine has changed: never evidence
    retune: str = ""  # at a scaled learning rate, for this retuning; its rung says which: never evidence
    resumes: str = ""  # the attempt before it, which was cut off, and from whose checkpoint it goes on


class SetupNoted(msgspec.Struct, frozen=True):
    """Shards are about to be started at `rung` under a setup, or on a machine, that was not met like this before.

    `budget` is as the lab file writes it, `data` the key of what shards read, `evaluation` a hash of how they are scored; what
    is not known is empty, and so is `gpu` where none is leased.
    """

    setup: str
    rung: str
    budget: str
    metric: str
    direction: str
    data: str
    evaluation: str
    python: str
    torch: str
    gpu: str
    host: str


class ShardStarted(msgspec.Struct, frozen=True):
    """`where` is the executor's own name for the process: a pid, a node with its job; `node` is empty for this machine."""

    shard: str
    where: str = ""
    node: str = ""


class ShardPlaced(msgspec.Struct, frozen=True):
    """Of a shard that runs it is known now what it runs on: a node of a cluster, and the GPUs there as its program is told
    them."""

    shard: str
    node: str = ""
    gpus: str = ""


class ShardEnded(msgspec.Struct, frozen=True):
    """Training ended. `scoring` means that a score is wanted before the shard has ended for good."""

    shard: str
    outcome: str
    detail: str
    reported: float | None = None
    scoring: bool = False
    usage: Json = {}
    said: str = ""  # the last lines of its output, of a smoke that failed


class ScoreIntended(msgspec.Struct, frozen=True):
    shard: str


class ShardScored(msgspec.Struct, frozen=True):
    shard: str
    outcome: str
    detail: str
    metric: float | None
    sources: dict[str, float] = {}
    by: str = "referee"
    evaluated: float | None = None  # the referee's value for what the run reports of itself, on the same text
    further: dict[str, float] = {}  # further evaluations that the lab declares


class ShardMeasured(msgspec.Struct, frozen=True):
    """What judging needs of a shard beside its result (`engine.halfway.Measures`); written half-way, and again at its end."""

    shard: str
    steps: int | None
    half: float | None
    first_loss: float | None
    data_order: str
    tokens: float | None = None
    flops: float | None = None  # a token, forward and backward
    speed: float | None = None  # median tokens/s
    parameters: float | None = None
    source_tokens: dict[str, float] = {}  # that each source of the data has to draw from


class VerdictReached(msgspec.Struct, frozen=True):
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
    evidence: float | None = None
    bar: float | None = None
    sigma: float | None = None
    mode: str = "fixed"
    shrunk: float | None = None
    seconds: float | None = None  # that the experiment's shards ran by then
    pairing: str = ""  # measured class of its pairs: "tight" | "loose"
    bases: Json | None = None  # where the two sides cost different amounts: `engine.judge.bases`, `Basis.row`


class StopIntended(msgspec.Struct, frozen=True):
    """A person stops an experiment (its running shards with it) or one shard."""

    decision: str
    target: str
    who: Json
    why: str
    request: str
    shards: list[str]


class StopDone(msgspec.Struct, frozen=True):
    target: str


class FindingNoted(msgspec.Struct, frozen=True):
    finding: str
    about: str
    rule: str
    severity: str
    sentence: str
    place: str = ""
    evidence: dict[str, float] = {}
    mechanism: str = ""  # of what an audit suspects in the code: how it harms, and why no error shows it
    key: str = ""  # of the same: stays as it is while that code does, so that nothing is filed twice


class FindingAcknowledged(msgspec.Struct, frozen=True):
    """A person knows of a finding, and says why the experiment may be kept all the same. Never a policy's act."""

    finding: str
    decision: str
    who: Json
    why: str
    request: str


class DetectorsAwake(msgspec.Struct, frozen=True):
    """Which detectors work in this lab, by the signals of the trunk's runs, and what each of the others lacks."""

    active: list[str]
    asleep: list[Json]


class SignIntended(msgspec.Struct, frozen=True):
    """A person signed an experiment off, and fresh pairs have to bear it out before it is merged.

    `shown` is what they had on screen beside the diff `diff` (the verdict with its sentence and evidence), `findings` the
    findings that were there to be read. The pairs run on `seeds`, in their order, as many as are needed.
    """

    experiment: str
    decision: str
    diff: str
    shown: Json
    findings: list[str]
    ours: str
    theirs: str
    rung: str
    setup: str
    seeds: list[int]
    who: Json
    why: str
    request: str
    full: bool = False  # a full-scale run of the new trunk is to follow the merge


class HeadlineReached(msgspec.Struct, frozen=True):
    """What the fresh pairs of a signed experiment say so far: `action` is "more", "confirmed" or "vetoed"."""

    experiment: str
    action: str
    mean: float | None
    lo: float | None
    hi: float | None
    n: int
    sentence: str
    pairs: list[Json]


class SignWithdrawn(msgspec.Struct, frozen=True):
    """Fresh pairs can no longer say anything for a signature, for no fault of the experiment: it is to be signed again."""

    experiment: str
    why: str


class RetuneIntended(msgspec.Struct, frozen=True):
    """A person has both sides of an experiment compared at their own best learning rate: each of `factors` on the seeds
    `tuning`, then `wanted` pairs on the first of `seeds`."""

    retune: str
    experiment: str
    decision: str
    baseline: str
    rung: str
    setup: str
    factors: list[float]
    tuning: list[int]
    seeds: list[int]
    wanted: int
    who: Json
    why: str
    request: str


class RetuneTuned(msgspec.Struct, frozen=True):
    """The bracket has run: the best factor of each side, before any of the pairs; None for one that fails at all of them."""

    retune: str
    trunk: float | None
    experiment: float | None
    tried: list[Json]
    sentence: str


class RetuneEnded(msgspec.Struct, frozen=True):
    """`label` is one of Retuned; empty when it was withdrawn, for no fault of the experiment, as `sentence` says."""

    retune: str
    label: str
    sentence: str
    mean: float | None = None
    lo: float | None = None
    hi: float | None = None
    n: int = 0
    pairs: list[Json] = []


class MergeIntended(msgspec.Struct, frozen=True):
    """What a person signed off is about to be merged. Everything that the merge commit's hash depends on is here."""

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
    full: bool = False  # as in the signature


class MergeDone(msgspec.Struct, frozen=True):
    experiment: str
    commit: str
    tree: str


class MergeFailed(msgspec.Struct, frozen=True):
    experiment: str
    why: str


class PullIntended(msgspec.Struct, frozen=True):
    """A person pulls their branch into the trunk. Everything that the merge commit's hash depends on is here."""

    decision: str
    ours: str
    theirs: str
    when: float
    author: list[str]
    message: str
    who: Json


class PullDone(msgspec.Struct, frozen=True):
    commit: str


class PullFailed(msgspec.Struct, frozen=True):
    why: str


class Paused(msgspec.Struct, frozen=True):
    """No new shards are launched until `Resumed`."""

    who: Json
    why: str


class Resumed(msgspec.Struct, frozen=True):
    who: Json


class RoundBegan(msgspec.Struct, frozen=True):
    """A person asks a proposer for hypotheses, or to revise the proposal `revises` as the note says."""

    round: str
    proposer: str
    wanted: int
    note: str
    who: Json
    request: str
    revises: str = ""
    repairs: str = ""  # the proposal that is to be mended


class RoundEnded(msgspec.Struct, frozen=True):
    """`state` is "done" or a Failure; `added` names the proposals that came of it."""

    round: str
    state: str
    detail: str = ""
    category: str = ""
    retry_at: float | None = None
    added: list[str] = []


class CallIntended(msgspec.Struct, frozen=True):
    """A call of a model is about to be made: `request` is the blob of what goes out, `most` the tokens it can use at most.

    `round` names what it is made for: a round of asking, a brief, a reading or an audit."""

    call: str
    round: str
    proposer: str
    model: str
    effort: str
    purpose: str
    request: str
    most: Json
    most_usd: float | None


class CallEnded(msgspec.Struct, frozen=True):
    """`usage` counts tokens; `usd` is None where the model has no price; `reply` is the blob of all that was written."""

    call: str
    state: str
    usage: Json
    usd: float | None
    stop_reason: str | None = None
    detail: str = ""
    reply: str | None = None


class BriefBegan(msgspec.Struct, frozen=True):
    """A brief is about to be written on `experiments`; `upto` is the event that it looks back from."""

    brief: str
    writer: str  # "model" | "queries"
    model: str
    experiments: list[str]
    upto: int
    who: Json
    request: str


class BriefEnded(msgspec.Struct, frozen=True):
    """`state` is "done", or the Failure of the model that was asked: then `writer` says who filled it all the same."""

    brief: str
    state: str
    writer: str
    body: str | None = None
    claims: list[Json] = []
    dropped: int = 0
    detail: str = ""
    category: str = ""
    retry_at: float | None = None


class ReadingBegan(msgspec.Struct, frozen=True):
    """A second reader is about to read the diff `diff` of a proposal."""

    reading: str
    proposal: str
    diff: str
    reader: str  # "model" | "rules"
    model: str


class ReadingEnded(msgspec.Struct, frozen=True):
    """What was found. `sealed` is the blob of the predictions: its hash binds them before anybody has decided."""

    reading: str
    state: str
    flags: list[Json] = []
    sealed: str | None = None
    detail: str = ""
    category: str = ""
    retry_at: float | None = None


class ReadingOpened(msgspec.Struct, frozen=True):
    """The proposal is decided: what the reader had predicted may be seen. None where it made no prediction."""

    reading: str
    p_approve: float | None
    p_solid: float | None


class AllocationConfirmed(msgspec.Struct, frozen=True):
    """Somebody confirmed that the cluster is asked for an allocation; `words` is what they saw."""

    words: str
    who: Json
    why: str = ""


class AllocationReleased(msgspec.Struct, frozen=True):
    """A person gave the allocation back, or the lab's rule did, since nothing ran in it. `allocation` is its own id, `name` the
    cluster's for it; it was held from `since` until `until` (Unix seconds; unknown where None)."""

    who: Json
    why: str = ""
    allocation: str = ""
    name: str = ""
    since: float | None = None
    until: float | None = None


class AllocationEnded(msgspec.Struct, frozen=True):
    """The cluster ended the allocation, or refused it: `how` is its word for that. The rest is as in AllocationReleased."""

    allocation: str
    name: str
    how: str
    why: str
    since: float | None = None
    until: float | None = None


class BundleIntended(msgspec.Struct, frozen=True):
    """A person signed several experiments together: their patches, one after the other, become the branch of the experiment
    `experiment`, and fresh pairs have to bear that out before it is merged. Everything that its commit depends on is here.

    `diffs`, `shown` and `shrunk` are of the parts in their order: what was on the screen, and the gain that was expected.
    """

    experiment: str
    parts: list[str]
    diffs: list[str]
    shrunk: list[float]
    decision: str
    shown: list[Json]
    findings: list[str]
    parent: str
    baseline: str
    branch: str
    when: float
    author: list[str]
    message: str
    rung: str
    setup: str
    seeds: list[int]
    who: Json
    why: str
    request: str
    full: bool = False  # as in a signature


class AuditIntended(msgspec.Struct, frozen=True):
    """The trunk's arm `then` is about to run beside `now` on fresh seeds, to see what the merges between them have gained.

    `claims` is what each of them claimed (`ClaimRow`), `upto` how many merges there were by now, and `moves` how often the
    trunk was moved otherwise between the two. The pairs run on `seeds`, in their order, as many as are needed.
    """

    audit: str
    then: str
    now: str
    rung: str
    setup: str
    seeds: list[int]
    claims: list[Json]
    upto: int
    moves: int = 0


class AuditEnded(msgspec.Struct, frozen=True):
    """What an audit of past merges said: `state` is an AuditState, the numbers are None where it measured nothing."""

    audit: str
    state: str
    claimed: float
    audited: float | None
    lo: float | None
    hi: float | None
    sentence: str
    pairs: list[Json]


class HistoryImported(msgspec.Struct, frozen=True):
    """A history that another program made was imported: `body` is the source, `links` what a repository said of its commits
    (both blobs; `links` may be ""). The same `id` again is the same source, read otherwise: it takes the place of the first.
    `account` says where each of its lines went."""

    id: str
    name: str
    body: str
    size: int
    format: str
    mapping: dict[str, str]
    links: str
    account: Json
    who: Json
    request: str


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
    "experiment.replayed": ExperimentReplayed,
    "replay.ended": ReplayEnded,
    "experiment.rung": RungReached,
    "setup.noted": SetupNoted,
    "shard.intended": ShardIntended,
    "shard.started": ShardStarted,
    "shard.placed": ShardPlaced,
    "shard.ended": ShardEnded,
    "score.intended": ScoreIntended,
    "shard.scored": ShardScored,
    "shard.measured": ShardMeasured,
    "verdict.reached": VerdictReached,
    "stop.intended": StopIntended,
    "stop.done": StopDone,
    "finding.noted": FindingNoted,
    "sign.intended": SignIntended,
    "headline.reached": HeadlineReached,
    "sign.withdrawn": SignWithdrawn,
    "finding.acknowledged": FindingAcknowledged,
    "detectors.awake": DetectorsAwake,
    "retune.intended": RetuneIntended,
    "retune.tuned": RetuneTuned,
    "retune.ended": RetuneEnded,
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
    "allocation.confirmed": AllocationConfirmed,
    "allocation.released": AllocationReleased,
    "allocation.ended": AllocationEnded,
    "bundle.intended": BundleIntended,
    "audit.intended": AuditIntended,
    "audit.ended": AuditEnded,
    "history.imported": HistoryImported,
}
NAMES: dict[type, str] = {cls: name for name, cls in TYPES.items()}
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(cls) for name, cls in TYPES.items()}

UPCASTERS: dict[tuple[str, int], Callable[[Json], Json]] = {}
"""(type, version) to a function from that version's data to the next one's."""


def dump(event: Any) -> tuple[str, Json]:
    """(type, data) of an event, as the ledger takes them. Raises ValueError for one that could not be read back."""
    kind, data = NAMES[type(event)], msgspec.structs.asdict(event)
    _decode(kind, orjson.dumps(data))
    return kind, data


def load(kind: str, version: int, raw: bytes | msgspec.Raw) -> Any | None:
    """The event with this JSON, upcast to the present version; None for a type that this program does not know (a newer one
    wrote it). Raises ValueError when a field is missing or of another type."""
    if kind not in TYPES:
        return None
    if (kind, version) in UPCASTERS:
        data = orjson.loads(bytes(raw))
        while (upcast := UPCASTERS.get((kind, version))) is not None:
            data, version = upcast(data), version + 1
        raw = orjson.dumps(data)
    return _decode(kind, raw)


def _decode(kind: str, raw: bytes | msgspec.Raw) -> Any:
    try:
        return _DECODERS[kind].decode(raw)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not an event {kind}: {error}") from None
