"""What *is*, folded from what *happened*: `reduce(state, event)`, one small reducer an event type, no I/O.

Rows are the very ones that clients pull (`engine/types.py`). A row is replaced, never changed in place, so that one that was
handed out stays as it was. `State.changed` keeps the rows in the order of their last change: pulling what is new since event n
is a walk from its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

import msgspec

from engine import advised, asked, bundled, decided, found, merged, moved, retuned, signed
from engine import events as e
from engine.decided import add_decision
from engine.field import Field
from engine.halfway import Measures
from engine.scales import scale_of
from engine.types import (
    FULL,
    UNLUCKY,
    Action,
    AuditRow,
    BriefRow,
    CallRow,
    ExperimentRow,
    ExperimentState,
    FindingRow,
    LabRow,
    Outcome,
    ProposalRow,
    ProposalState,
    ReadingRow,
    RetuneRow,
    RoundRow,
    Row,
    ShardRow,
    ShardState,
)

Key = tuple[str, str]
R = TypeVar("R", bound=Mapping[str, Any])
Source = Literal["jsonl", "summary", "regex"]

CANARY = "canary"
"""Rule of the finding that the trunk's first seed, run again, came out elsewhere."""


@dataclass
class State:
    """Everything that the engine knows, as of event `head`."""

    head: int = 0
    rows: dict[Key, Row] = field(default_factory=dict)
    changed: dict[Key, int] = field(default_factory=dict)
    lab: LabRow | None = None
    proposals: dict[str, ProposalRow] = field(default_factory=dict)
    experiments: dict[str, ExperimentRow] = field(default_factory=dict)
    shards: dict[str, ShardRow] = field(default_factory=dict)
    rounds: dict[str, RoundRow] = field(default_factory=dict)
    calls: dict[str, CallRow] = field(default_factory=dict)
    briefs: dict[str, BriefRow] = field(default_factory=dict)
    readings: dict[str, ReadingRow] = field(default_factory=dict)
    retunes: dict[str, RetuneRow] = field(default_factory=dict)
    retuning: dict[str, str] = field(default_factory=dict)  # experiment to its retuning, of those that have not ended
    sealed: dict[str, str] = field(default_factory=dict)  # blob that holds a prediction to the reading that made it
    bodies: set[str] = field(default_factory=set)  # blobs of briefs and predictions
    fingerprints: dict[str, str] = field(default_factory=dict)  # of a change to the first proposal that made it
    _race: Field = field(default_factory=Field, compare=False)
    _moved: dict[str, ExperimentRow] = field(default_factory=dict, compare=False)  # rows that `_race` has yet to take
    simplified: int = (
        0  # simplifications that were merged since the last audit: each has spent of the budget for margins
    )
    of_experiment: dict[str, dict[str, None]] = field(default_factory=dict)  # experiment to its shards, in order
    judged: dict[str, int] = field(
        default_factory=dict
    )  # experiment to the event of its last final verdict, in their order
    trunk_arm: str = ""
    allocations_over: set[str] = field(
        default_factory=set
    )  # ids of the cluster's allocations whose end is written down
    config: str = ""
    sources: dict[str, str] = field(default_factory=dict)  # proposal to the blob of the reply
    diffs: dict[str, str | None] = field(default_factory=dict)  # proposal to the blob of its diff
    seen: set[str] = field(default_factory=set)  # blobs of replies that were proposed
    branch_plans: dict[str, e.ExperimentIntended] = field(default_factory=dict)
    replays: dict[str, e.ExperimentReplayed] = field(default_factory=dict)
    signoffs: dict[str, e.SignIntended] = field(default_factory=dict)  # signed, and not merged, vetoed or withdrawn
    merges: dict[str, e.MergeIntended] = field(default_factory=dict)  # intended, not done
    stops: dict[str, e.StopIntended] = field(default_factory=dict)  # intended, not done
    unlaunched: dict[str, e.ShardIntended] = field(default_factory=dict)  # intended, not started
    setups: dict[str, str] = field(default_factory=dict)  # shard to how it was run and measured
    noted_setups: dict[tuple[str, str, str], e.SetupNoted] = field(
        default_factory=dict
    )  # by setup, rung and host: the last
    forgiven: set[str] = field(default_factory=set)  # shards whose bad luck no longer counts against another try
    stopped_by_person: set[str] = field(default_factory=set)  # shards
    live: dict[str, None] = field(default_factory=dict)  # shards that have not ended
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)  # request id to its answer
    counts: dict[str, int] = field(default_factory=lambda: {"decision": 0, "finding": 0, "trunk": 0, "experiment": 0})
    paused: str | None = None
    trunk_start: str | None = None  # the commit that the trunk was to be forked at
    pull: e.PullIntended | None = None  # intended, not done
    pull_error: str | None = None  # why the last one failed
    findings: dict[str, FindingRow] = field(default_factory=dict)
    held_up: dict[str, dict[str, None]] = field(default_factory=dict)  # experiment to findings that sign-off waits for
    noted: set[tuple[str, str, str]] = field(default_factory=set)  # findings so far: about, rule, sentence
    noted_at: set[tuple[str, str, str]] = field(default_factory=set)  # the same: about, rule, place
    suspected: dict[str, str] = field(default_factory=dict)  # key of what an audit suspects in the code to its finding
    condemned: dict[str, str] = field(default_factory=dict)  # shards that a detector ended, and why
    tampered: dict[str, str] = field(default_factory=dict)  # shards in whose run tree something was changed, and what
    set_aside: set[str] = field(
        default_factory=set
    )  # shards that stand in no pair: canaries, and what they have outdated
    measures: dict[str, Measures] = field(default_factory=dict)  # of shards, as far as judging is sequential
    measured: dict[str, tuple[Source, str | None]] = field(
        default_factory=dict
    )  # shard to the source of its metrics, pattern
    merged: list[tuple[str, str]] = field(
        default_factory=list
    )  # experiment, and the trunk's arm that it was merged onto
    audited: int = 0  # how many of `merged`, from the first, an audit has covered
    audits: dict[str, AuditRow] = field(default_factory=dict)
    audit_plans: dict[str, e.AuditIntended] = field(default_factory=dict)
    auditing: str = ""  # the audit that has not ended
    audit_from: int = 0  # how many shards there were when it began
    bundles: dict[str, e.BundleIntended] = field(default_factory=dict)
    imports: dict[str, e.HistoryImported] = field(default_factory=dict)  # histories made elsewhere, by id
    full_next: bool = False  # the trunk's next arm is to have a full-scale run
    full_runs: dict[str, None] = field(default_factory=dict)  # arms of the trunk that a person wants one of

    @property
    def race(self) -> Field:
        """Which experiments are open, and what the others showed; brought up to date when it is asked for, so that a ledger
        is read without looking at every verdict on the way."""
        for row in self._moved.values():
            self._race.take(row)
        self._moved.clear()
        return self._race

    def put(self, row: Row, n: int) -> None:
        """Replace a row; it becomes the last changed one."""
        row["seq"] = n
        key = (row["kind"], row["id"])
        self.rows[key] = row
        if row["kind"] == "experiment":
            self._moved[row["id"]] = row
        self.changed.pop(key, None)
        self.changed[key] = n

    def change(self, rows: dict[str, R], n: int, name: str, changes: Mapping[str, Any]) -> R:
        """Replace a row of one kind by one with these changes; returns it."""
        row = rows[name] = cast(R, {**rows[name], **changes})
        self.put(cast(Row, row), n)
        return row

    def since(self, n: int) -> Iterator[Row]:
        """Rows changed after event `n`, oldest change first."""
        keys: list[Key] = []
        for key in reversed(self.changed):
            if self.changed[key] <= n:
                break
            keys.append(key)
        return (self.rows[key] for key in reversed(keys))

    def shards_of(self, experiment: str) -> list[ShardRow]:
        return [self.shards[shard] for shard in self.of_experiment.get(experiment, ())]


def reduce(state: State, n: int, t: float, event: Any) -> State:
    """Fold one event (number `n`, time `t`) into `state`, in place, and return it. Unknown events change nothing."""
    state.head = n
    reducer = _REDUCERS.get(type(event))
    if reducer is not None:
        reducer(state, n, t, event)
    return state


# --- lab ---------------------------------------------------------------------------------------------------------------


def _config_loaded(s: State, n: int, t: float, ev: e.ConfigLoaded) -> None:
    s.config = ev.config
    old: Mapping[str, Any] = s.lab or {}
    kept = {"trunk": old.get("trunk", ""), "trunk_arm": old.get("trunk_arm", ""), "phase": old.get("phase", "idle")}
    kept |= {"detectors": old["detectors"]} if "detectors" in old else {}
    _put_lab(s, n, {**kept, **ev.lab, "config_error": None})


def _config_broken(s: State, n: int, t: float, ev: e.ConfigBroken) -> None:
    if s.lab is not None:
        _put_lab(s, n, {**s.lab, "config_error": ev.error or None})


def _put_lab(s: State, n: int, fields: Mapping[str, Any]) -> None:
    s.lab = cast(LabRow, {**fields, "kind": "lab", "id": "lab"})
    s.put(s.lab, n)


def _trunk_intended(s: State, n: int, t: float, ev: e.TrunkIntended) -> None:
    s.trunk_start = ev.start


def _arm_added(s: State, n: int, t: float, ev: e.ArmAdded) -> None:
    s.counts["trunk"] += 1
    s.trunk_arm = ev.experiment
    if s.full_next:
        s.full_next, s.full_runs[ev.experiment] = False, None
    rung = s.lab["rungs"][0] if s.lab else ""
    s.experiments[ev.experiment] = ExperimentRow(
        kind="experiment",
        id=ev.experiment,
        seq=n,
        role="trunk",
        state=ExperimentState.RUNNING,
        hypothesis=ev.why,
        category="",
        proposal=None,
        branch=ev.branch,
        parent=None,
        baseline=None,
        commit=ev.commit,
        tree=ev.tree,
        rung=rung,
        verdict=None,
        pairs=[],
        why=None,
        created=t,
    )
    s.put(s.experiments[ev.experiment], n)
    if s.lab is not None:
        _put_lab(s, n, {**s.lab, "trunk": ev.commit, "trunk_arm": ev.experiment})


# --- proposals ---------------------------------------------------------------------------------------------------------


def _proposal_added(s: State, n: int, t: float, ev: e.ProposalAdded) -> None:
    s.sources[ev.proposal] = ev.source
    s.diffs[ev.proposal] = ev.diff
    s.seen.add(ev.source)
    row = ProposalRow(
        kind="proposal",
        id=ev.proposal,
        seq=n,
        state=ProposalState.REFUSED if ev.refusal else ProposalState.WAITING,
        hypothesis=ev.hypothesis,
        mechanism=ev.mechanism,
        prediction=ev.prediction,
        category=ev.category,
        proposer=ev.proposer,
        parent=ev.parent,
        diff_hash=ev.diff,
        files=cast(Any, ev.files),
        risks=list(ev.risks),
        refusal=ev.refusal,
        detail=ev.detail,
        why=None,
        decided_by=None,
        experiment=None,
        created=t,
    )
    for name in (
        "change",
        "fingerprint",
        "duplicate_of",
        "round",
        "replaces",
        "co_author",
        "predicted_effect",
        "repairs",
        "claims",
    ):
        if value := getattr(ev, name):
            row[name] = value
    if ev.fingerprint or ev.round:
        row["origin"] = ev.origin
    if ev.fingerprint:
        s.fingerprints.setdefault(ev.fingerprint, ev.proposal)
    s.proposals[ev.proposal] = row
    s.put(row, n)
    if ev.replaces and not ev.refusal:
        decided.replaced(s, n, ev.replaces, ev.proposal)


def _proposal_rebased(s: State, n: int, t: float, ev: e.ProposalRebased) -> None:
    s.diffs[ev.proposal] = ev.diff
    row = s.proposals[ev.proposal]
    if row["state"] != ProposalState.WAITING:
        return  # it was decided while it was applied afresh: the decision stands
    changes: dict[str, Any] = {
        "parent": ev.parent,
        "diff_hash": ev.diff,
        "files": ev.files,
        "refusal": ev.refusal,
        "detail": ev.detail,
        "state": ProposalState.REFUSED if ev.refusal else ProposalState.WAITING,
        "risks": row["risks"] if ev.risks is None else ev.risks,
    }
    s.change(s.proposals, n, ev.proposal, changes)


# --- experiments -------------------------------------------------------------------------------------------------------


def _experiment_intended(s: State, n: int, t: float, ev: e.ExperimentIntended) -> None:
    s.counts["experiment"] = max(s.counts["experiment"], int(ev.experiment))
    s.branch_plans[ev.experiment] = ev
    proposal = s.proposals[ev.proposal]
    row = moved.queued(ev, n, t, ev.proposal, proposal)
    s.experiments[ev.experiment] = row
    s.put(row, n)
    s.change(s.proposals, n, ev.proposal, {"experiment": ev.experiment})


def _update_experiment(s: State, n: int, name: str, **changes: Any) -> ExperimentRow:
    return s.change(s.experiments, n, name, changes)


def _branched(s: State, n: int, t: float, ev: e.ExperimentBranched) -> None:
    _update_experiment(s, n, ev.experiment, commit=ev.commit, tree=ev.tree, branch=ev.branch)


def _failed(s: State, n: int, t: float, ev: e.ExperimentFailed) -> None:
    if ev.experiment in s.signoffs:  # a bundle, which is signed before it has a branch
        signed.withdraw(s, n, ev.experiment, ev.why)
    _update_experiment(s, n, ev.experiment, state=ExperimentState.FAILED, why=ev.why)


def _rung_reached(s: State, n: int, t: float, ev: e.RungReached) -> None:
    if s.experiments[ev.experiment]["state"] in (ExperimentState.QUEUED, ExperimentState.RUNNING):
        _update_experiment(s, n, ev.experiment, rung=ev.rung, state=ExperimentState.RUNNING)


def _verdict(s: State, n: int, t: float, ev: e.VerdictReached) -> None:
    names = ["verdict", "rung", "effect", "lo", "hi", "se", "n", "sentence"]
    if ev.mode != "fixed":
        names += ["evidence", "bar", "sigma", "mode", "shrunk"]
    if ev.seconds is not None:
        names.append("seconds")
    names += [name for name in ("pairing", "bases") if getattr(ev, name)]
    verdict = {name: getattr(ev, name) for name in names}
    verdict["verdict"] = found.worded(ev.verdict, s.experiments[ev.experiment].get("barred"))
    changes: dict[str, Any] = {"verdict": verdict, "pairs": ev.pairs}
    if ev.final and s.experiments[ev.experiment]["state"] in (ExperimentState.QUEUED, ExperimentState.RUNNING):
        changes["state"] = ExperimentState.JUDGED
    if ev.final:
        s.judged.pop(ev.experiment, None)
        s.judged[ev.experiment] = n
    _update_experiment(s, n, ev.experiment, **changes)


def _stop_intended(s: State, n: int, t: float, ev: e.StopIntended) -> None:
    add_decision(s, n, t, ev.decision, ev.target, Action.STOP, None, ev.who, ev.why)
    s.stops[ev.target] = ev
    s.stopped_by_person.update(ev.shards)
    for row in map(s.shards.__getitem__, ev.shards):
        if row["rung"] == FULL:
            s.full_runs.pop(row["experiment"], None)  # asked for once, and called off: `resume` does not start it again
    if ev.target in s.signoffs:
        signed.withdraw(s, n, ev.target, f"{ev.who['name']} stopped its fresh pairs" + (ev.why and f": {ev.why}"))
    elif ev.target in s.retuning:
        retuned.withdraw(s, n, t, ev.target, f"{ev.who['name']} stopped it" + (ev.why and f": {ev.why}"))
    elif ev.target in s.experiments:
        _update_experiment(s, n, ev.target, state=ExperimentState.STOPPED, why=ev.why)
    s.requests[ev.request] = {"state": "stopping"}


def _stop_done(s: State, n: int, t: float, ev: e.StopDone) -> None:
    s.stops.pop(ev.target, None)


def _merge_intended(s: State, n: int, t: float, ev: e.MergeIntended) -> None:
    if ("decision", ev.decision) not in s.rows:  # signed just now, or before its fresh pairs ran
        add_decision(s, n, t, ev.decision, ev.experiment, Action.SIGN, ev.diff, ev.who, ev.why)
    s.merges[ev.experiment] = ev
    s.requests[ev.request] = {"state": "merging"}


def _merge_done(s: State, n: int, t: float, ev: e.MergeDone) -> None:
    plan = s.merges.pop(ev.experiment, None)
    s.full_next = plan is not None and plan.full
    s.signoffs.pop(ev.experiment, None)
    _update_experiment(s, n, ev.experiment, state=ExperimentState.MERGED)
    merged.add(s, ev.experiment)
    bundled.merged(s, n, ev.experiment)


def _merge_failed(s: State, n: int, t: float, ev: e.MergeFailed) -> None:
    s.merges.pop(ev.experiment, None)
    if ev.experiment in s.signoffs:
        signed.withdraw(s, n, ev.experiment, ev.why)
    _update_experiment(s, n, ev.experiment, why=ev.why)


def _pull_intended(s: State, n: int, t: float, ev: e.PullIntended) -> None:
    add_decision(s, n, t, ev.decision, "trunk", Action.PULL, None, ev.who, ev.message.partition("\n")[0])
    s.pull = ev


def _pull_ended(s: State, n: int, t: float, ev: e.PullDone | e.PullFailed) -> None:
    s.pull, s.pull_error = None, ev.why if isinstance(ev, e.PullFailed) else None


# --- shards ------------------------------------------------------------------------------------------------------------


def _setup_noted(s: State, n: int, t: float, ev: e.SetupNoted) -> None:
    s.noted_setups[ev.setup, ev.rung, ev.host] = ev


def _shard_intended(s: State, n: int, t: float, ev: e.ShardIntended) -> None:
    s.unlaunched[ev.shard] = ev
    s.setups[ev.shard] = ev.setup
    s.measured[ev.shard] = (cast(Source, ev.source), ev.pattern)
    s.live[ev.shard] = None
    s.of_experiment.setdefault(ev.experiment, {})[ev.shard] = None
    s.shards[ev.shard] = ShardRow(
        kind="shard",
        id=ev.shard,
        seq=n,
        experiment=ev.experiment,
        seed=ev.seed,
        rung=ev.rung,
        attempt=ev.attempt,
        state=ShardState.QUEUED,
        outcome=None,
        metric=None,
        reported=None,
        sources={},
        slot=ev.slot,
        started=None,
        ended=None,
        detail=None,
    )
    if ev.smoke:
        s.shards[ev.shard]["smoke"] = True
    if ev.fresh:
        s.shards[ev.shard]["fresh"] = True
    if ev.canary:
        s.shards[ev.shard]["canary"] = True
        s.set_aside.add(ev.shard)
    if ev.resumes:
        s.shards[ev.shard]["resumes"] = ev.resumes
    if ev.retune:
        s.shards[ev.shard]["retune"] = ev.retune
        s.shards[ev.shard]["scale"] = scale_of(ev.rung) or 1.0
    s.put(s.shards[ev.shard], n)
    arm = s.experiments[ev.experiment]
    if ev.retune and arm["role"] == "experiment":
        return  # what is decided stays so
    if arm["state"] in (ExperimentState.QUEUED, ExperimentState.JUDGED):
        _update_experiment(s, n, ev.experiment, state=ExperimentState.RUNNING)


def _update_shard(s: State, n: int, name: str, **changes: Any) -> None:
    row = s.change(s.shards, n, name, changes)
    if row["state"] == ShardState.ENDED:
        s.live.pop(name, None)
        if not (row.get("smoke") and row["outcome"] == Outcome.FINISHED):  # its full shards come next
            _rest_trunk(s, n, row["experiment"])


def _rest_trunk(s: State, n: int, arm: str) -> None:
    """The trunk's arm has no verdict; it is at rest when none of its shards is left to wait for."""
    if s.experiments[arm]["role"] == "trunk" and not any(s.shards[each]["experiment"] == arm for each in s.live):
        _update_experiment(s, n, arm, state=ExperimentState.JUDGED)


def _shard_started(s: State, n: int, t: float, ev: e.ShardStarted) -> None:
    s.unlaunched.pop(ev.shard, None)
    node = {"node": ev.node} if ev.node else {}
    _update_shard(s, n, ev.shard, state=ShardState.RUNNING, started=t, **node)


def _shard_placed(s: State, n: int, t: float, ev: e.ShardPlaced) -> None:
    said = {name: value for name, value in (("node", ev.node), ("gpus", ev.gpus)) if value}
    _update_shard(s, n, ev.shard, **said)


def _shard_ended(s: State, n: int, t: float, ev: e.ShardEnded) -> None:
    s.unlaunched.pop(ev.shard, None)
    state = ShardState.SCORING if ev.scoring else ShardState.ENDED
    outcome = None if ev.scoring else ev.outcome
    counts = not ev.scoring and ev.outcome == Outcome.FINISHED and not s.shards[ev.shard].get("smoke")
    ended = max(t, s.shards[ev.shard]["started"] or t)  # by the engine's clock, which may have been set back meanwhile
    changes: dict[str, Any] = {"state": state, "outcome": outcome, "ended": ended, "detail": ev.detail}
    changes |= {"said": ev.said} if ev.said else {}
    _update_shard(s, n, ev.shard, reported=ev.reported, metric=ev.reported if counts else None, **changes)


def _shard_scored(s: State, n: int, t: float, ev: e.ShardScored) -> None:
    _update_shard(
        s,
        n,
        ev.shard,
        state=ShardState.ENDED,
        outcome=ev.outcome,
        detail=ev.detail,
        metric=ev.metric if ev.outcome == Outcome.FINISHED else None,
        sources=dict(ev.sources),
        **({} if ev.evaluated is None else {"evaluated": ev.evaluated}),
        **({"further": dict(ev.further)} if ev.further else {}),
    )


def _shard_measured(s: State, n: int, t: float, ev: e.ShardMeasured) -> None:
    s.measures[ev.shard] = Measures(
        **{each: value for each, value in msgspec.structs.asdict(ev).items() if each != "shard"}
    )


# --- findings and the engine itself ------------------------------------------------------------------------------------


def _finding(s: State, n: int, t: float, ev: e.FindingNoted) -> None:
    found.noted(s, n, t, ev)
    if ev.rule == CANARY and ev.about in s.shards:
        _set_aside(s, n, ev.about)


def _set_aside(s: State, n: int, canary: str) -> None:
    """What the trunk and the experiments that race against it, are signed or retuned, had run by now is compared with nothing
    new; the canary, where it has a result, takes the place of the run that it repeated."""
    arm = s.shards[canary]["experiment"]
    racing = [name for name in (*s.race.racing(), *s.signoffs, *s.retuning) if s.experiments[name]["baseline"] == arm]
    audited = [s.audit_plans[s.auditing].then] if s.auditing and s.audit_plans[s.auditing].now == arm else []
    for row in [row for name in (arm, *racing, *audited) for row in s.shards_of(name)]:
        if row["state"] == ShardState.ENDED and not row.get("smoke"):
            s.set_aside.add(row["id"])
            if row.get("canary"):
                s.change(s.shards, n, row["id"], {"canary": False})
    if s.shards[canary]["metric"] is not None:
        s.set_aside.discard(canary)


def _paused(s: State, n: int, t: float, ev: e.Paused) -> None:
    s.paused = ev.why or f"by {ev.who['name']}"


def _resumed(s: State, n: int, t: float, ev: e.Resumed) -> None:
    """Go on, and forget what stood in the way: seeds that a person stopped or the machine lost may run again, and so may a
    smoke of the trunk that failed, since that is the lab's fault and may have been mended."""
    s.paused = None
    s.stopped_by_person.clear()
    for row in s.shards.values():
        outcome = row["outcome"]
        lab_at_fault = row.get("smoke") and s.experiments[row["experiment"]]["role"] == "trunk"
        if outcome in UNLUCKY or (lab_at_fault and outcome not in (None, Outcome.FINISHED)):
            s.forgiven.add(row["id"])


def _allocation_over(s: State, n: int, t: float, ev: e.AllocationReleased | e.AllocationEnded) -> None:
    if ev.allocation:
        s.allocations_over.add(ev.allocation)


def _imported(s: State, n: int, t: float, ev: e.HistoryImported) -> None:
    """An imported history is no part of the lab's own: it is known, and its bodies are kept."""
    s.imports[ev.id] = ev
    s.bodies.update(name for name in (ev.body, ev.links) if name)


_REDUCERS: dict[type, Callable[[State, int, float, Any], None]] = {
    e.ConfigLoaded: _config_loaded,
    e.ConfigBroken: _config_broken,
    e.TrunkIntended: _trunk_intended,
    e.ArmAdded: _arm_added,
    e.ProposalAdded: _proposal_added,
    e.ProposalRebased: _proposal_rebased,
    e.Decided: decided.decided,
    e.ExperimentIntended: _experiment_intended,
    e.ExperimentBranched: _branched,
    e.ExperimentFailed: _failed,
    e.ExperimentReplayed: moved.replayed,
    e.ReplayEnded: moved.ended,
    e.RungReached: _rung_reached,
    e.SetupNoted: _setup_noted,
    e.ShardIntended: _shard_intended,
    e.ShardStarted: _shard_started,
    e.ShardPlaced: _shard_placed,
    e.ShardEnded: _shard_ended,
    e.ShardScored: _shard_scored,
    e.ShardMeasured: _shard_measured,
    e.VerdictReached: _verdict,
    e.StopIntended: _stop_intended,
    e.StopDone: _stop_done,
    e.FindingNoted: _finding,
    e.SignIntended: signed.sign_intended,
    e.HeadlineReached: signed.headline_reached,
    e.SignWithdrawn: signed.sign_withdrawn,
    e.RetuneIntended: retuned.intended,
    e.RetuneTuned: retuned.tuned,
    e.RetuneEnded: retuned.ended,
    e.FindingAcknowledged: found.acknowledged,
    e.DetectorsAwake: found.awake,
    e.MergeIntended: _merge_intended,
    e.MergeDone: _merge_done,
    e.MergeFailed: _merge_failed,
    e.PullIntended: _pull_intended,
    e.PullDone: _pull_ended,
    e.PullFailed: _pull_ended,
    e.RoundBegan: asked.round_began,
    e.RoundEnded: asked.round_ended,
    e.CallIntended: asked.call_intended,
    e.CallEnded: asked.call_ended,
    e.BriefBegan: advised.brief_began,
    e.BriefEnded: advised.brief_ended,
    e.ReadingBegan: advised.reading_began,
    e.ReadingEnded: advised.reading_ended,
    e.ReadingOpened: advised.reading_opened,
    e.Paused: _paused,
    e.Resumed: _resumed,
    e.BundleIntended: bundled.intended,
    e.AuditIntended: merged.audit_intended,
    e.AuditEnded: merged.audit_ended,
    e.HistoryImported: _imported,
    e.AllocationReleased: _allocation_over,
    e.AllocationEnded: _allocation_over,
}
