"""The project's words as types, and the rows of the read model that clients see.

Only the standard library is imported here: the terminal reads this module before its first paint.
Values that cross a process border are plain JSON; enums are string enums, so that they are their own JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NotRequired, TypedDict

PROTOCOL = 1
"""Version of the socket protocol (docs/architecture.md). A client with another one is refused with both numbers."""

HALF = "half-length"
"""Rung of the trunk's runs at half the first rung's budget: see `engine.lengths`."""

FULL = "full"
"""Name of the rung at which full-scale runs of the trunk are made, where a lab has one."""

SMOKE = "smoke"
"""Name of the rung that `[smoke]` is, of its shards, and of the verdict of an experiment that ended there."""

Direction = Literal["min", "max"]
Compare = Literal["tokens", "flops", "time"]
Ask = Literal["always", "risky", "never"]
Review = Literal["off", "model", "rules"]


class Category(StrEnum):
    """What kind of change a proposal makes."""

    ARCHITECTURE = "architecture"
    OPTIMIZER = "optimizer"
    SCHEDULE = "schedule"
    INITIALISATION = "initialisation"
    DATA_MIX = "data mix"
    REGULARISATION = "regularisation"
    SYSTEMS = "systems"
    BUG_FIX = "bug fix"


class Claim(StrEnum):
    """What a proposal claims, declared before it runs: a lower loss, the same loss sooner, or no worse with less code."""

    GAIN = "gain"
    SPEED = "speed"
    SIMPLIFICATION = "simplification"


class ProposalState(StrEnum):
    """Where a proposal stands. `REFUSED` means that the machine could not apply it; `DECLINED` that a person said no;
    `REVISED` that a person said "yes, but", and another one takes its place."""

    WAITING = "waiting"
    REFUSED = "refused"
    DECLINED = "declined"
    APPROVED = "approved"
    REVISED = "revised"


class ExperimentState(StrEnum):
    """Where an experiment (or the trunk, as an arm of its own) stands."""

    QUEUED = "queued"  # approved; its branch is being made or its shards wait for slots
    RUNNING = "running"  # at least one shard was started and more evidence is wanted
    JUDGED = "judged"  # it has a verdict other than undecided and wants no more shards
    SIGNED = "signed"  # signed off; fresh pairs run before its branch is merged
    VETOED = "vetoed"  # signed off, and its gain did not hold on fresh seeds
    STOPPED = "stopped"  # a person stopped it
    FAILED = "failed"  # no branch could be made from it
    MOVED = "moved"  # the trunk moved, and it goes on as another arm, or as a proposal
    CONFLICTED = "conflicted"  # the trunk moved, and it cannot be replayed there
    MERGED = "merged"  # signed off; its branch is in the trunk


class ShardState(StrEnum):
    QUEUED = "queued"  # intended in the ledger, not yet known to run
    RUNNING = "running"
    SCORING = "scoring"  # training ended; protected code is scoring the checkpoint
    ENDED = "ended"


class Outcome(StrEnum):
    """How a shard ended. Only `FINISHED` has a metric; every other outcome has none (NULL, never 0 or 100)."""

    FINISHED = "finished"
    NONFINITE = "nonfinite"
    DIVERGED = "diverged"
    OOM = "oom"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    WRONG_TREE = "wrong-tree"
    KILLED = "killed"  # a person, or the machine, stopped it
    ENDED_EARLY = (
        "ended-early"  # by the policy: its experiment was decided while it ran, as when it was far behind half-way
    )
    LOST = "lost"  # it vanished without an exit record (reboot, launcher gone)
    PREEMPTED = "preempted"  # the cluster took its allocation back, or its walltime ended
    NODE_LOST = "node-lost"  # the node that it ran on is down, or silent

    @property
    def own_fault(self) -> bool:
        """True when the code under test is to blame, so that the experiment is broken rather than unlucky."""
        return self in _OWN_FAULT


_OWN_FAULT = frozenset(
    {Outcome.NONFINITE, Outcome.DIVERGED, Outcome.OOM, Outcome.TIMEOUT, Outcome.CRASHED, Outcome.WRONG_TREE}
)

UNLUCKY = frozenset({Outcome.LOST, Outcome.KILLED, Outcome.PREEMPTED, Outcome.NODE_LOST})
"""Outcomes that say nothing of the code under test: its seed runs again."""


class Verdict(StrEnum):
    SOLID = "solid"
    BARRED = "barred"  # the numbers say solid, and a finding that bars a keep stands against them
    HARMFUL = "harmful"
    NOT_SOLID = "not-solid"
    BROKEN = "broken"
    UNDECIDED = "undecided"


class AuditState(StrEnum):
    """Where an audit of past merges stands."""

    RUNNING = "running"
    HELD = "held"  # the sum of what was claimed does not lie above all that was measured
    OVERCLAIMED = "over-claimed"
    BROKE = "broke"  # the trunk of now fails on a seed on which that of then does not
    VOID = "void"  # it could not be carried out


class Retuned(StrEnum):
    """What came of comparing both sides at their own best learning rate, in the words that are shown."""

    EXPLAINED = "explained by learning rate"  # it was solid, and the retuned trunk matches it
    HOLDS = "holds at each side's best rate"
    HELD_BACK = "held back by learning rate"  # it was not solid, and is better than the retuned trunk
    NO_BETTER = "no better at its own best rate"
    OPEN = "open: the trunk's best rate may lie beyond the bracket"  # better than the trunk as far as that was tuned
    FAILED = "fails at its best rate"  # nothing can be said


class Severity(StrEnum):
    """How bad a finding is, in ascending order."""

    NOTE = "note"  # worth knowing; changes nothing
    WARNING = "warning"  # somebody should look before the result is used
    ASKS = "asks"  # the verdict stands, and sign-off waits until a person has acknowledged it
    BARS = "bars a keep"  # the result says nothing about the idea, unless a person overrides that with a reason
    STOP = "stop"  # the run cannot recover: end it now; bars a keep too
    NEVER = "never kept"  # the comparison was cheated, meant or not: nobody's word makes the result count

    @property
    def bars(self) -> bool:
        """True when the experiment is not solid, whatever its numbers say."""
        return self in (Severity.BARS, Severity.STOP, Severity.NEVER)

    @property
    def waits(self) -> bool:
        """True when sign-off waits for a person's acknowledgement."""
        return self.bars or self is Severity.ASKS


class Refusal(StrEnum):
    """Why the machine would not apply a proposal. Each is shown to the person as it is, with a sentence of detail."""

    NO_HEADER = "no-header"
    NO_BLOCKS = "no-blocks"
    MALFORMED = "malformed"
    NO_MATCH = "no-match"
    AMBIGUOUS = "ambiguous"
    OVERLAP = "overlap"
    EMPTY_SEARCH = "empty-search"
    NO_OP = "no-op"
    PROTECTED = "protected"
    OUTSIDE = "outside"
    NOT_EDITABLE = "not-editable"
    BINARY = "binary"
    TOO_LARGE = "too-large"
    MODE = "mode"
    MISSING_FILE = "missing-file"
    EXISTS = "exists"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"


class Change(StrEnum):
    """How deep a diff goes, by its syntax trees; in ascending order."""

    CONSTANTS = "constant-only"  # only literals and values differ: tuning
    LOCAL = "local"  # statements of one function, or keys of a settings file
    STRUCTURAL = "structural"  # definitions, signatures, imports, control flow, several functions, whole files


class Failure(StrEnum):
    """How asking a model went wrong. Each is the end of that round, and a person sees it with a sentence of detail."""

    REFUSAL = "refusal"  # the model declined; with category and explanation; never asked again in other words
    TRUNCATED = "truncated"  # the reply reached its largest size
    MALFORMED = "malformed"  # some proposal could not be applied, after two turns of repair
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate-limited"  # with the time at which the limit passes
    SPEND_LIMIT = "spend-limit"  # of the account
    NO_CREDENTIALS = "no-credentials"
    NO_NETWORK = "no-network"
    CUT_OFF = "cut-off"  # a stream broke, stalled, or ended without a stop reason
    CANCELLED = "cancelled"
    REJECTED = "rejected"  # the API took the request for wrong
    NOT_INSTALLED = "not-installed"  # the SDK is missing
    BUDGET = "budget"  # the lab's own
    LOST = "lost"  # the engine ended meanwhile


class Action(StrEnum):
    """What a person, or a policy that a person set, decided."""

    APPROVE = "approve"
    DECLINE = "decline"
    REVISE = "revise"  # another proposal is to take its place, or took it
    DEFER = "defer"  # to the end of the queue
    UNDO = "undo"  # an approval of which nothing has run yet, or a decline
    STOP = "stop"
    SIGN = "sign"
    PULL = "pull"
    ACKNOWLEDGE = "acknowledge"  # a finding: it is known, and the experiment may be kept all the same
    RETUNE = "retune"  # both sides of an experiment are to be compared at their own best learning rate


@dataclass(frozen=True, slots=True)
class Who:
    """Who decided: `kind` is "person" or "policy"; `name` the git identity or the policy's setting; `os_user@host`."""

    kind: Literal["person", "policy"]
    name: str
    os_user: str
    host: str

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "name": self.name, "os_user": self.os_user, "host": self.host}


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a diff: path in the lab, lines added and removed, status A, M or D."""

    path: str
    added: int
    removed: int
    status: Literal["A", "M", "D"]

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "added": self.added, "removed": self.removed, "status": self.status}


# --- rows of the read model: what `pull` returns, one TypedDict a kind. Every row carries `kind`, `id` and `seq`,
# --- the number of the ledger event that last changed it. Times are seconds since the epoch.


class FileRow(TypedDict):
    path: str
    added: int
    removed: int
    status: str


class AsleepRow(TypedDict):
    """A detector that cannot work in this lab, and the signals that would wake it."""

    detector: str
    missing: list[str]


class DetectorsRow(TypedDict):
    active: list[str]
    asleep: list[AsleepRow]


class LabRow(TypedDict):
    """The lab itself; one row, id "lab"."""

    kind: Literal["lab"]
    id: str
    seq: int
    name: str
    root: str
    metric: str
    direction: Direction
    unit: str
    compare: Compare
    scored_by: str  # "referee" | "self-reported"
    trunk: str  # commit
    trunk_arm: str  # id of the experiment row that stands for the present trunk, e.g. "trunk-1"
    rungs: list[str]
    seeds: list[int]
    slots: int
    isolation: str  # shown on the status line, e.g. "limits only"
    ask: Ask
    proposer: str
    phase: str  # "preparing data" | "running" | "idle" | "paused: …": one short sentence
    config_error: str | None
    evaluations: NotRequired[dict[str, str]]  # further ones that the lab declares, by name: "min" or "max"
    loss: NotRequired[str]  # name of the streamed training loss that curves show
    detectors: NotRequired[DetectorsRow]  # which of them work here; not there before a run of the trunk has finished


class ProposalRow(TypedDict):
    kind: Literal["proposal"]
    id: str  # "p0001"
    seq: int
    state: str  # ProposalState
    hypothesis: str
    mechanism: str
    prediction: str
    category: str
    proposer: str
    parent: str  # commit the diff applies to
    diff_hash: str | None  # sha256 hex of the unified diff; None when nothing could be applied
    files: list[FileRow]
    risks: list[str]  # sentences; empty when no static rule spoke up
    refusal: str | None  # Refusal
    detail: str | None  # sentence of the refusal
    why: str | None  # reason of the decision
    decided_by: str | None
    experiment: str | None
    created: float
    change: NotRequired[str]  # Change
    fingerprint: NotRequired[str]  # of the change in its normal form; see engine/novelty.py
    duplicate_of: NotRequired[str]  # the earliest proposal with the same fingerprint
    origin: NotRequired[str]  # a file, a branch, a model
    round: NotRequired[str]  # of asking a model
    predicted_effect: NotRequired[float]  # in the metric's unit; > 0 is better
    claims: NotRequired[str]  # Claim; a gain where it is left out
    replaces: NotRequired[str]  # the proposal that this one is a revision of
    replaced_by: NotRequired[str]
    co_author: NotRequired[str]  # the person who edited it
    repairs: NotRequired[str]  # the approved proposal that broke at its smoke, and that this one mends
    deferred: NotRequired[float]  # when it was last put to the end of the queue


class OnBasis(TypedDict):
    """`ratio` is the experiment's cost over the trunk's, `effect` the mean difference at equal cost; None when not known."""

    ratio: float
    effect: float | None


class BasesRow(TypedDict):
    """The effect of an experiment on each basis on which both sides say their cost; `compare` is the one it is judged on."""

    compare: Compare
    kappa: float | None  # what ln(cost) is worth, in units of the metric
    tokens: NotRequired[OnBasis]
    flops: NotRequired[OnBasis]
    time: NotRequired[OnBasis]


class VerdictRow(TypedDict):
    verdict: str  # Verdict
    rung: str
    effect: float | None  # > 0 is better than the trunk, in units of the metric
    lo: float | None
    hi: float | None
    se: float | None
    n: int  # pairs
    sentence: str  # in words, for the screen
    evidence: NotRequired[float | None]  # E, of sequential judging
    bar: NotRequired[float | None]  # what E has to reach
    sigma: NotRequired[float | None]  # the trunk's seed-to-seed standard deviation, in units of the metric
    mode: NotRequired[str]  # "fixed" | "fast" | "careful" | "strict"
    shrunk: NotRequired[float | None]  # the gain to expect of it: its posterior mean, in units of the metric
    seconds: NotRequired[float]  # that its shards had run by then
    bases: NotRequired[BasesRow]  # where it costs other than the trunk in tokens, FLOPs or time
    pairing: NotRequired[str]  # "tight" | "loose": whether both sides share the seed's luck, as measured


class PairRow(TypedDict):
    seed: int
    trunk: float | None
    candidate: float | None
    difference: float | None  # > 0 is better


class SignOffRow(TypedDict):
    """What came of a signature that fresh pairs have to bear out; `mean` with its interval is the headline."""

    state: str  # "confirming" | "confirmed" | "vetoed" | "withdrawn"
    sentence: str
    by: str
    mean: float | None  # > 0 is better than the trunk, in units of the metric; over fresh pairs alone
    lo: float | None
    hi: float | None
    n: int  # fresh pairs
    pairs: list[PairRow]


class BundleRow(TypedDict):
    """The experiments that were put together into one, with what was expected of each, and of all."""

    parts: list[str]
    shrunk: list[float]
    promised: float


class ExperimentRow(TypedDict):
    """An experiment, or (role "trunk") the trunk at one commit as the arm that experiments are compared with."""

    kind: Literal["experiment"]
    id: str  # "0001" | "trunk-1"
    seq: int
    role: Literal["trunk", "experiment"]
    state: str  # ExperimentState
    hypothesis: str
    category: str
    proposal: str | None
    branch: str
    parent: str | None
    baseline: str | None  # id of the trunk arm it is compared with
    commit: str | None
    tree: str | None
    rung: str  # rung it is at
    verdict: VerdictRow | None
    pairs: list[PairRow]
    why: str | None  # reason it failed or was stopped
    created: float
    signoff: NotRequired[SignOffRow]  # the last one
    replay_of: NotRequired[str]  # the experiment that it was on the trunk before
    moved_to: NotRequired[str]  # the experiment, or the proposal, that it is on the trunk after
    retest: NotRequired[bool]  # it was solid before the trunk moved, so it is tested before the others
    barred: NotRequired[list[str]]  # findings that bar a keep, and that nobody has acknowledged (or may)
    asks: NotRequired[list[str]]  # findings that are to be acknowledged before sign-off, and bar nothing
    claims: NotRequired[str]  # Claim; a gain where it is left out
    bundle: NotRequired[
        BundleRow
    ]  # of several experiments that were signed together; it has no proposal and no verdict
    merged_with: NotRequired[str]  # the bundle that it went into the trunk with
    retuned: NotRequired[str]  # Retuned, of the last time that both sides were compared at their own best learning rate


class ShardRow(TypedDict):
    kind: Literal["shard"]
    id: str  # "0001.screen.s0.a1"
    seq: int
    experiment: str
    seed: int
    rung: str
    attempt: int
    state: str  # ShardState
    outcome: str | None  # Outcome
    metric: float | None
    reported: float | None  # what the shard said of itself
    evaluated: NotRequired[float]  # what the referee finds on the text that `reported` is about
    sources: dict[str, float]  # the metric per data source, where the referee gives it
    further: NotRequired[dict[str, float]]  # further evaluations that the lab declares
    slot: int | None
    started: float | None
    ended: float | None
    detail: str | None  # why it failed: one line
    smoke: NotRequired[bool]  # the very short run before an arm's first full one: never evidence, never with a metric
    fresh: NotRequired[bool]  # of a pair that a signature asked for: in the headline, never in the verdict
    canary: NotRequired[bool]  # the trunk's first seed once more, beside its runs; false for one that took their place
    said: NotRequired[str]  # what a smoke that failed printed last, a few lines
    retune: NotRequired[str]  # the retuning that it was run for: in no verdict, baseline or headline
    resumes: NotRequired[str]  # the attempt before it, which was cut off, and from whose checkpoint it goes on
    node: NotRequired[str]  # of a cluster, that it runs or ran on
    gpus: NotRequired[str]  # of that node, as its program is told them: "0,1"
    scale: NotRequired[float]  # of such a one: what its learning rate was multiplied by


class TriedRow(TypedDict):
    """One side at one factor of a bracket: the mean metric of its tuning seeds, None where it failed on one."""

    side: str  # "trunk" | "experiment"
    factor: float
    mean: float | None


class RetuneRow(TypedDict):
    """Both sides of an experiment at the same bracket of learning rates, and pairs at each side's best."""

    kind: Literal["retune"]
    id: str  # "t0001"
    seq: int
    experiment: str
    baseline: str
    rung: str
    setup: str
    state: str  # "tuning" | "pairs" | "ended" | "withdrawn"
    factors: list[float]
    tuning: list[int]  # seeds that each side's best factor is chosen on
    seeds: list[int]  # set aside for the pairs, in order: more than are wanted, since the trunk may fail on some
    wanted: int  # pairs
    tried: list[TriedRow]
    trunk_best: float | None
    best: float | None  # the experiment's
    label: str  # Retuned; empty until it has ended
    sentence: str
    mean: float | None  # > 0 is better than the retuned trunk, in units of the metric
    lo: float | None
    hi: float | None
    n: int
    pairs: list[PairRow]
    who: dict[str, str]
    why: str
    began: float
    ended: float | None


class DecisionRow(TypedDict):
    kind: Literal["decision"]
    id: str
    seq: int
    action: str
    target: str  # proposal or experiment id
    diff_hash: str | None
    who: dict[str, str]
    why: str
    at: float


class AcknowledgedRow(TypedDict):
    """A person's word that a finding is known, and why the experiment may be kept all the same."""

    who: dict[str, str]
    why: str
    at: float


class FindingRow(TypedDict):
    kind: Literal["finding"]
    id: str
    seq: int
    about: str  # experiment or shard id; of an audit, the trunk's arm
    rule: str
    severity: str  # Severity
    sentence: str
    at: float
    place: NotRequired[str]  # steps, tensor, file or source
    evidence: NotRequired[dict[str, float]]  # the numbers that the rule compared, its limits among them
    mechanism: NotRequired[str]  # how it harms and why no error shows it, where an audit of the code suspects something
    acknowledged: NotRequired[AcknowledgedRow]


class ClaimRow(TypedDict):
    """What one merge claimed: by its "headline", its verdict's "shrunk" gain, or "nothing"; `within` is half its interval."""

    experiment: str
    claimed: float
    within: float
    by: str


class AuditRow(TypedDict):
    """What several merges claimed beside what the trunk has gained by them, in the metric's unit; > 0 is better.

    `trunk` of a pair is the trunk of then, `candidate` the one of now.
    """

    kind: Literal["audit"]
    id: str  # "a0001"
    seq: int
    state: str  # AuditState
    then: str  # the trunk's arm before these merges
    now: str  # the one after them
    rung: str
    claims: list[ClaimRow]
    claimed: float  # their sum
    within: float  # half of the interval of that sum
    audited: float | None
    lo: float | None
    hi: float | None
    pairs: list[PairRow]
    sentence: str
    began: float
    ended: float | None


def stands(row: FindingRow) -> bool:
    """Whether a finding still waits for somebody's word: what can never be kept always does."""
    return "acknowledged" not in row or row["severity"] == Severity.NEVER


class RoundRow(TypedDict):
    """One time that a proposer was asked: how it went, what it brought, what it cost."""

    kind: Literal["round"]
    id: str  # "r0001"
    seq: int
    proposer: str
    state: str  # "asking" | "done" | a Failure
    detail: str  # why it failed, in a sentence
    category: str  # of a refusal
    retry_at: float | None  # when a limit passes
    wanted: int
    added: list[str]  # proposals, those that the machine refused too
    note: str  # what the person said to it
    who: dict[str, str]
    usd: float | None  # of its calls so far; None when a price is not known
    began: float
    ended: float | None
    revises: NotRequired[str]  # the proposal that it is to revise
    repairs: NotRequired[str]  # the proposal that it is to mend


class CallRow(TypedDict):
    """One call of a model, failed ones too, with what it used in tokens and dollars."""

    kind: Literal["call"]
    id: str  # "c00001"
    seq: int
    round: str  # or the brief, reading or audit that it was made for
    proposer: str
    model: str
    effort: str
    purpose: str  # "propose" | "repair" | "brief" | "reading" | "audit"
    state: str  # "running" | "done" | a Failure
    detail: str
    stop_reason: str | None
    input: int
    cache_read: int
    cache_write: int
    output: int
    thinking: int  # part of output
    usd: float | None
    most_usd: float | None  # what it could cost at most: this counts while it runs, and when it was lost
    request: str  # blob
    reply: str | None  # blob
    began: float
    ended: float | None


class CitedRow(TypedDict):
    """One claim of a brief without its words: the section it stands in, and what it cites."""

    section: str  # "held" | "failed" | "promising" | "next" | "worry"
    experiments: list[str]


class BriefRow(TypedDict):
    """What was written after a batch was judged. Its words are a body; `state` is how asking the model went."""

    kind: Literal["brief"]
    id: str  # "b0001"
    seq: int
    state: str  # "writing" | "done" | a Failure; a failed one is filled from queries
    writer: str  # "model" | "queries": who filled it, or is to
    model: str  # that was asked; empty for none
    detail: str
    category: str  # of a refusal
    retry_at: float | None
    experiments: list[str]  # that were judged since the brief before
    upto: int  # the ledger event that it looks back from
    body: str | None  # blob
    claims: list[CitedRow]
    dropped: int  # claims that cited nothing, or what does not exist
    who: dict[str, str]
    usd: float | None
    began: float
    ended: float | None


class FlagRow(TypedDict):
    """One thing that a second reader found wrong with a diff."""

    kind: str
    path: str
    sentence: str


class ReadingRow(TypedDict):
    """A second reader's pass over one diff. Its predictions are None until the proposal is decided."""

    kind: Literal["reading"]
    id: str  # "v0001"
    seq: int
    proposal: str
    diff_hash: str
    reader: str  # "model" | "rules"
    model: str
    state: str  # "reading" | "done" | a Failure
    detail: str
    category: str
    retry_at: float | None
    flags: list[FlagRow]
    p_approve: float | None  # that the person approves
    p_solid: float | None  # that its verdict will be solid, if it runs
    sealed: str | None  # blob of the two, with a salt: written before the decision, opened after it
    usd: float | None
    began: float
    ended: float | None
    opened: float | None


Row = (
    LabRow
    | ProposalRow
    | ExperimentRow
    | ShardRow
    | DecisionRow
    | FindingRow
    | RoundRow
    | CallRow
    | BriefRow
    | ReadingRow
    | AuditRow
    | RetuneRow
)


class LiveRow(TypedDict):
    """Latest measurements of a running shard; not in the ledger, pushed at most four times a second."""

    step: int
    steps: int | None  # total, when the shard declared it
    value: float | None  # latest training loss (or the metric, when it is streamed)
    tokens_per_s: float | None
    eta_s: float | None
    points: list[tuple[int, float | None]]  # new (step, loss) since the last push; None is a non-finite value
    dropped: NotRequired[int]  # garbage lines so far
    resumed_at: NotRequired[int]  # the step at which it went on from an attempt that was cut off


class StandingRow(TypedDict):
    """How a shard stands in the cluster's queue: one that waits there, or runs in a job of its own."""

    state: str  # "queued" | "running"
    job: NotRequired[str]  # its name in the queue
    why: NotRequired[str]  # that it waits, in words
    starts: NotRequired[float]  # unix seconds, where the queue foretells it
    until: NotRequired[float]  # unix seconds at which its walltime ends
    node: NotRequired[str]
    gpus: NotRequired[str]


class AllocationRow(TypedDict):
    """The allocation that shards of a cluster run in."""

    state: str  # "none" | "asked" | "waiting" | "begun" | "ready"
    words: str  # how large it is, as a person is asked about it
    sentence: NotRequired[str]  # how it stands, where nothing can be started: the engine's phase may say the same
    gpu_hours: NotRequired[float]  # of its whole walltime; jobs beside it are not counted
    job: NotRequired[str]
    nodes: NotRequired[str]
    why: NotRequired[str]  # that it waits, or what became of the last one
    trouble: NotRequired[str]  # why the queue could not be asked
    until: NotRequired[float]  # unix seconds at which its walltime ends
    starts: NotRequired[float]  # unix seconds, where the queue foretells it
    places: NotRequired[int]  # shards that may run in it at once
    unwell: NotRequired[int]  # nodes that it has lost, or on which nothing is started now


class ClusterRow(TypedDict):
    """What a cluster's queue says; not in the ledger. A running shard that is not in `shards` runs in the allocation."""

    allocation: AllocationRow
    shards: dict[str, StandingRow]
