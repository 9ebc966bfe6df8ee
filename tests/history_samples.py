"""A small lab's history, made by hand: one trunk, four experiments, one declined and one refused proposal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.types import (
    DecisionRow,
    ExperimentRow,
    FindingRow,
    LabRow,
    ProposalRow,
    ReadingRow,
    Row,
    ShardRow,
    VerdictRow,
)

T0 = 1_764_000_000.0


@dataclass(frozen=True)
class Point:
    step: int
    t: float | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class Batch:
    shard: str
    points: list[Point] = field(default_factory=list)
    summary: Mapping[str, float | str] = field(default_factory=dict)
    start: int = 0
    offset: int = 0
    garbage: int = 0


def losses(shard: str, values: list[float], start: int = 0, first: int = 0, **extra: Any) -> Batch:
    """A batch with one `loss` a line, from step `first` on; each line counts ten bytes."""
    points = [Point(first + i, T0 + first + i, {"loss": value}) for i, value in enumerate(values)]
    return Batch(shard, points, start=start, offset=start + 10 * len(values), **extra)


def lab(direction: str = "min") -> LabRow:
    return LabRow(
        kind="lab", id="lab", seq=1, name="nanolm", root="/lab", metric="val_bpb", direction=direction,  # type: ignore[typeddict-item]
        unit="bits per byte", compare="tokens", scored_by="referee", trunk="c0ffee", trunk_arm="trunk-1",
        rungs=["screen"], seeds=[0, 1, 2], slots=2, isolation="limits only", ask="always", proposer="recording",
        phase="running", config_error=None,
    )  # fmt: skip


def proposal(number: int, state: str = "approved", **changes: Any) -> ProposalRow:
    row = ProposalRow(
        kind="proposal", id=f"p{number:04}", seq=number + 1, state=state, hypothesis=f"idea {number}",
        mechanism="because", prediction="-0.02", category="architecture", proposer="recording", parent="c0ffee",
        diff_hash=f"{number:064x}", files=[{"path": "train.py", "added": 2, "removed": 1, "status": "M"}], risks=[],
        refusal=None, detail=None, why=None, decided_by="ada", experiment=f"{number:04}", created=T0 + 60 * number,
    )  # fmt: skip
    return row | changes  # type: ignore[return-value, operator]


def verdict(kind: str, effect: float | None = None, lo: float | None = None, hi: float | None = None) -> VerdictRow:
    return VerdictRow(
        verdict=kind, rung="screen", effect=effect, lo=lo, hi=hi, se=None if effect is None else 0.01, n=3,
        sentence=f"it is {kind}",
    )  # fmt: skip


def experiment(number: int, judged: VerdictRow | None = None, seq: int = 50, **changes: Any) -> ExperimentRow:
    row = ExperimentRow(
        kind="experiment", id=f"{number:04}", seq=seq, role="experiment", state="judged", hypothesis=f"idea {number}",
        category="architecture", proposal=f"p{number:04}", branch=f"exp/{number:04}-idea", parent="c0ffee",
        baseline="trunk-1", commit=f"{number:040x}", tree="7ree", rung="screen", verdict=judged, pairs=[], why=None,
        created=T0 + 60 * number + 30,
    )  # fmt: skip
    return row | changes  # type: ignore[return-value, operator]


def trunk() -> ExperimentRow:
    return experiment(
        0, id="trunk-1", role="trunk", state="running", hypothesis="trunk", proposal=None, baseline=None,
        branch="cockpit/trunk", category="",
    )  # fmt: skip


def shard(
    arm: str, seed: int, metric: float | None, outcome: str = "finished", attempt: int = 1, **changes: Any
) -> ShardRow:
    row = ShardRow(
        kind="shard", id=f"{arm}.screen.s{seed}.a{attempt}", seq=60, experiment=arm, seed=seed, rung="screen",
        attempt=attempt, state="ended", outcome=outcome, metric=metric, reported=metric, sources={}, slot=0,
        started=T0 + 100, ended=T0 + 110, detail=None if outcome == "finished" else "exit status 1",
    )  # fmt: skip
    return row | changes  # type: ignore[return-value, operator]


def decision(number: int, action: str, target: str, why: str = "") -> DecisionRow:
    return DecisionRow(
        kind="decision", id=f"d{number}", seq=40 + number, action=action, target=target, diff_hash=f"{number:064x}",
        who={"kind": "person", "name": "ada", "os_user": "ada", "host": "lab1"}, why=why, at=T0 + 60 * number + 20,
    )  # fmt: skip


def finding(number: int, about: str) -> FindingRow:
    return FindingRow(
        kind="finding", id=f"f{number}", seq=70, about=about, rule="no-op", severity="note", sentence="same losses",
        at=T0,
    )  # fmt: skip


def reading(number: int, of: int, p_approve: float | None, p_solid: float | None, **changes: Any) -> ReadingRow:
    """A second reader on proposal `of`; without numbers it is closed still, or failed."""
    row = ReadingRow(
        kind="reading", id=f"v{number:04}", seq=80, proposal=f"p{of:04}", diff_hash=f"{of:064x}", reader="model",
        model="a model", state="done", detail="", category="", retry_at=None, p_approve=p_approve, p_solid=p_solid,
        flags=[{"kind": "bug", "path": "train.py", "sentence": "look here"}], sealed="5ea1", usd=0.1, began=T0, ended=T0,
        opened=None if p_approve is None else T0,
    )  # fmt: skip
    return row | changes  # type: ignore[return-value, operator]


def event(n: int, kind: str = "note", /, **data: Any) -> dict[str, Any]:
    return {"v": 1, "n": n, "t": T0 + n, "type": kind, "data": data, "prev": "", "hash": ""}


def verdict_event(n: int, arm: str, judged: VerdictRow, t: float | None = None) -> dict[str, Any]:
    made = event(n, "verdict.reached", experiment=arm, baseline="trunk-1", pairs=[], final=True, **judged)
    return made if t is None else made | {"t": t}


SOLID, FLAT = verdict("solid", 0.1, 0.08, 0.12), verdict("not-solid", 0.01, -0.02, 0.04)
HARMFUL, BROKEN = verdict("harmful", -0.2, -0.25, -0.15), verdict("broken")


def small_history() -> tuple[list[Row], list[dict[str, Any]]]:
    """Rows and events of the lab; shards' points are not among them."""
    rows: list[Row] = [lab(), trunk()]
    rows += [proposal(1), proposal(2, category="optimizer"), proposal(3), proposal(4, category="optimizer")]
    rows += [
        proposal(5, "declined", experiment=None, why="tried in March", category="schedule"),
        proposal(6, "refused", experiment=None, refusal="no-match", detail="block 1: not found", decided_by=None),
    ]
    rows += [experiment(1, SOLID), experiment(2, FLAT), experiment(3, BROKEN), experiment(4, HARMFUL)]
    for seed, base in enumerate((2.0, 2.1, 2.2)):
        rows.append(shard("trunk-1", seed, base, sources={"code": base - 0.5, "stories": base + 0.5}))
        rows.append(shard("0001", seed, base - 0.1, sources={"code": base - 0.7, "stories": base + 0.5}))
        rows.append(shard("0002", seed, base - 0.01))
        rows.append(shard("0004", seed, base + 0.2))
    rows.append(shard("0003", 0, 1.5))
    rows.append(shard("0003", 1, None, "nonfinite", detail="loss is NaN at step 40"))
    rows.append(shard("0003", 2, None, "lost", attempt=1))
    rows.append(shard("0003", 2, None, "crashed", attempt=2))
    rows += [decision(number, "approve", f"p{number:04}") for number in (1, 2, 3, 4)]
    rows += [decision(5, "decline", "p0005", "tried in March"), finding(1, "0002")]
    rows += [
        reading(1, 1, 0.9, 1.0),
        reading(2, 2, 0.4, 0.2),
        reading(3, 5, 0.3, 0.1),
        reading(4, 1, 0.5, 0.5, reader="rules", model=""),
        reading(5, 3, None, None, state="overloaded"),
        reading(6, 4, 0.9, 0.9, diff_hash="0" * 64),  # of a diff that nobody decided on
    ]
    events = [event(1, "lab.opened"), event(2, "proposal.made", id="p0001")]
    events += [
        verdict_event(3, "0001", verdict("undecided", 0.1)),
        verdict_event(4, "0001", SOLID, T0 + 660),
        verdict_event(5, "0002", FLAT, T0 + 720),
        verdict_event(6, "0003", BROKEN, T0 + 780),
        verdict_event(7, "0004", HARMFUL, T0 + 840),
    ]
    return rows, events
