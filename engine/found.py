"""The part of the fold that is about findings: what was found, what of it stands against an experiment, what is acknowledged.

The numbers of a verdict are never touched by a finding. Only its word is: "solid" reads "barred" as long as a finding that bars
a keep is open, and is "solid" again once a person has acknowledged all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from engine import events as e
from engine.decided import add_decision
from engine.types import AcknowledgedRow, Action, DetectorsRow, FindingRow, Severity, Verdict, stands

if TYPE_CHECKING:
    from engine.state import State

TREE_CHANGED = "run tree changed"
"""Rule of the finding that a shard's code was changed on disk while it ran."""


def noted(s: State, n: int, t: float, ev: e.FindingNoted) -> None:
    """Something was found about a shard, or about an experiment as a whole."""
    s.counts["finding"] += 1
    s.noted.add((ev.about, ev.rule, ev.sentence))
    s.noted_at.add((ev.about, ev.rule, ev.place))
    if ev.severity == Severity.STOP:
        s.condemned.setdefault(ev.about, ev.sentence)
    if ev.rule == TREE_CHANGED:
        s.tampered[ev.about] = ev.sentence
    row = FindingRow(
        kind="finding", id=ev.finding, seq=n, about=ev.about, rule=ev.rule, severity=ev.severity, sentence=ev.sentence, at=t
    )  # fmt: skip
    if ev.place:
        row["place"] = ev.place
    if ev.evidence:
        row["evidence"] = dict(ev.evidence)
    if ev.mechanism:
        row["mechanism"] = ev.mechanism
    if ev.key:
        s.suspected[ev.key] = ev.finding
    s.findings[ev.finding] = row
    s.put(row, n)
    experiment = experiment_of(s, ev.about)
    if experiment and Severity(ev.severity).waits:
        s.held_up.setdefault(experiment, {})[ev.finding] = None
        _weigh(s, n, experiment)


def acknowledged(s: State, n: int, t: float, ev: e.FindingAcknowledged) -> None:
    """A person's word on a finding."""
    add_decision(s, n, t, ev.decision, ev.finding, Action.ACKNOWLEDGE, None, ev.who, ev.why)
    row = s.findings.get(ev.finding)
    if row is None:
        return
    word = AcknowledgedRow(who=ev.who, why=ev.why, at=t)
    s.change(s.findings, n, ev.finding, {"acknowledged": word})
    s.requests[ev.request] = {"acknowledged": [*s.requests.get(ev.request, {}).get("acknowledged", []), ev.finding]}
    experiment = experiment_of(s, row["about"])
    if experiment in s.held_up:
        _weigh(s, n, experiment)


def awake(s: State, n: int, t: float, ev: e.DetectorsAwake) -> None:
    """Which detectors work in the lab."""
    if s.lab is not None:
        s.lab = {**s.lab, "detectors": DetectorsRow(active=list(ev.active), asleep=cast(Any, list(ev.asleep)))}
        s.put(s.lab, n)


def next_finding(s: State) -> str:
    """The id of the finding that is noted next."""
    return f"f{s.counts['finding'] + 1:05d}"


def experiment_of(s: State, about: str) -> str:
    """The experiment that a finding is about; empty for one about the trunk, which is nothing that could be kept."""
    name = s.shards[about]["experiment"] if about in s.shards else about
    row = s.experiments.get(name)
    return name if row is not None and row["role"] == "experiment" else ""


def open_findings(s: State, experiment: str) -> list[FindingRow]:
    """The findings that stand between an experiment and the trunk, oldest first."""
    rows = (s.findings[name] for name in s.held_up.get(experiment, ()))
    return [row for row in rows if stands(row)]


def worded(said: str, barred: object) -> str:
    """The word of a verdict whose numbers said `said`, or that was worded before: no solid one is barred."""
    if barred:
        return Verdict.BARRED if said == Verdict.SOLID else said
    return Verdict.SOLID if said == Verdict.BARRED else said


def _weigh(s: State, n: int, experiment: str) -> None:
    """Bring an experiment's row into line with its open findings."""
    row, left = s.experiments[experiment], open_findings(s, experiment)
    barred = [each["id"] for each in left if Severity(each["severity"]).bars]
    asks = [each["id"] for each in left if not Severity(each["severity"]).bars]
    changes: dict[str, Any] = {"barred": barred, "asks": asks}
    if row["verdict"] is not None:
        changes["verdict"] = {**row["verdict"], "verdict": worded(row["verdict"]["verdict"], barred)}
    s.change(s.experiments, n, experiment, changes)
