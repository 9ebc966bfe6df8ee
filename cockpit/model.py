"""What the terminal knows: rows pulled from the engine and the live points of running shards. It holds no truth of its own.

Every string is cleaned here, once, when it enters; what a widget reads from the model may be painted as it is.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from engine.text import clean_all, clean_line
from engine.types import (
    AuditRow,
    BriefRow,
    CallRow,
    ClusterRow,
    DecisionRow,
    ExperimentRow,
    FindingRow,
    LabRow,
    LiveRow,
    ProposalRow,
    ReadingRow,
    RetuneRow,
    RoundRow,
    Row,
    ShardRow,
)

KEEP_POINTS = 1200
"""Live points kept of one shard; beyond it every second one is dropped, since a screen is a few hundred columns wide."""


class Link(Protocol):
    """The connection to the engine, as the screens need it."""

    @property
    def state(self) -> str:
        """`connected`, `connecting` or `reconnecting`."""
        ...

    @property
    def problem(self) -> str | None:
        """Why there is no connection, in a sentence; None when there is one or the reason is not known."""
        ...

    async def call(self, method: str, **params: Any) -> Any:
        """Ask the engine; raises `engine.rpc.RpcError` when it says no or cannot be reached."""
        ...

    def notifications(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """What the engine says unasked: `head`, `live`, `resync`; and `connected` whenever the line comes up."""
        ...


@dataclass(slots=True)
class Live:
    """A shard's stream as far as it came: latest numbers and the training curve (NaN where it was not finite)."""

    step: int = 0
    total: int | None = None
    value: float | None = None
    tokens_per_s: float | None = None
    eta_s: float | None = None
    dropped: int = 0
    resumed_at: int | None = None
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def take(self, row: LiveRow) -> None:
        """Add the points of one push and keep its latest numbers; points that are already here are skipped."""
        self.step, self.total, self.value = row["step"], row["steps"], row["value"]
        self.tokens_per_s, self.eta_s = row["tokens_per_s"], row["eta_s"]
        self.dropped = row.get("dropped", self.dropped)
        self.resumed_at = row.get("resumed_at", self.resumed_at)
        last = self.steps[-1] if self.steps else -1
        for step, value in row["points"]:
            if step > last:
                self.steps.append(step)
                self.values.append(math.nan if value is None else value)
        if len(self.steps) > KEEP_POINTS:
            del self.steps[1:-1:2]
            del self.values[1:-1:2]


class ReadModel:
    """Rows by kind and id, folded in order of arrival.

    `version` grows with every row that changes, `live_version` with live points.
    """

    def __init__(self) -> None:
        self.version = 0
        self.live_version = 0
        self.clear()

    def clear(self) -> None:
        """Forget every row: another ledger answers at the other end."""
        self.lab: LabRow | None = None
        self.proposals: dict[str, ProposalRow] = {}
        self.experiments: dict[str, ExperimentRow] = {}
        self.shards: dict[str, ShardRow] = {}
        self.decisions: dict[str, DecisionRow] = {}
        self.findings: dict[str, FindingRow] = {}
        self.rounds: dict[str, RoundRow] = {}
        self.calls: dict[str, CallRow] = {}
        self.briefs: dict[str, BriefRow] = {}
        self.readings: dict[str, ReadingRow] = {}
        self.audits: dict[str, AuditRow] = {}
        self.retunes: dict[str, RetuneRow] = {}
        self.live: dict[str, Live] = {}
        self.curves: dict[str, tuple[list[int], list[float]]] = {}
        self.resumed: dict[str, int] = {}  # shard -> the step that it went on from, of those that have ended
        self.cluster: ClusterRow | None = None
        self.next = 0
        self.version += 1
        self._of: dict[str, list[str]] = {}

    def apply(self, rows: Iterable[Row], next_: int) -> None:
        """Fold one page of `pull`."""
        tables: dict[str, dict[str, Any]] = {
            "proposal": cast(dict[str, Any], self.proposals),
            "experiment": cast(dict[str, Any], self.experiments),
            "shard": cast(dict[str, Any], self.shards),
            "decision": cast(dict[str, Any], self.decisions),
            "finding": cast(dict[str, Any], self.findings),
            "round": cast(dict[str, Any], self.rounds),
            "call": cast(dict[str, Any], self.calls),
            "brief": cast(dict[str, Any], self.briefs),
            "reading": cast(dict[str, Any], self.readings),
            "audit": cast(dict[str, Any], self.audits),
            "retune": cast(dict[str, Any], self.retunes),
        }
        for raw in rows:
            row = cast(dict[str, Any], clean_all(raw))
            kind = row.get("kind")
            if kind == "lab":
                self.lab = cast(LabRow, row)
            elif kind in tables:
                if kind == "shard" and row["id"] not in self.shards:
                    self._of.setdefault(row["experiment"], []).append(row["id"])
                tables[kind][row["id"]] = row
            self.version += 1
        self.next = next_

    def take_phase(self, phase: str) -> None:
        """What the engine is doing just now; it comes beside the rows, since it is no event."""
        phase = clean_line(phase)
        if self.lab is not None and self.lab["phase"] != phase:
            self.lab = cast(LabRow, {**self.lab, "phase": phase})
            self.version += 1

    def take_live(self, shards: Mapping[str, LiveRow], *, whole: bool) -> None:
        """Merge live rows; `whole` when they hold every point since the shard began, as after a resync."""
        for name, row in shards.items():
            if whole or name not in self.live:
                self.live[name] = Live()
            self.live[name].take(row)
            self.live_version += 1

    def take_cluster(self, told: Mapping[str, Any], *, whole: bool) -> None:
        """Take what a cluster's queue says: `whole`, else what changed, with None for a shard that is not named any more."""
        new = cast(dict[str, Any], clean_all(dict(told)))
        if whole:
            self.cluster = cast(ClusterRow, new) if new else None
        elif self.cluster is not None:
            shards = {**self.cluster["shards"], **new.get("shards", {})}
            self.cluster = {
                "allocation": new.get("allocation", self.cluster["allocation"]),
                "shards": {name: row for name, row in shards.items() if row is not None},
            }
        self.version += 1

    def take_curve(
        self, shard: str, steps: list[int], values: list[float | None], resumed_at: int | None = None
    ) -> None:
        """Keep the curve of a shard that had ended before this client attached, and the step that it went on from."""
        if resumed_at is not None:
            self.resumed[shard] = resumed_at
        self.curves[shard] = (steps, [math.nan if value is None else value for value in values])
        self.live_version += 1

    def shards_of(self, experiment: str) -> list[ShardRow]:
        """Shards of an experiment in the order of rung (as first run), seed and attempt."""
        rows = [self.shards[name] for name in self._of.get(experiment, [])]
        first: dict[str, int] = {}
        for row in rows:
            first.setdefault(row["rung"], len(first))
        return sorted(rows, key=lambda row: (first[row["rung"]], row["seed"], row["attempt"]))

    def curve_of(self, shard: str) -> tuple[list[int], list[float]] | None:
        """Steps and training loss of one shard: its live stream, else what was fetched; None when neither is here."""
        live = self.live.get(shard)
        if live is not None and live.steps:
            return live.steps, live.values
        return self.curves.get(shard)

    def resumed_at(self, shard: str) -> list[int]:
        """The steps at which the attempts before this one, and itself, went on from one that was cut off; ascending."""
        found: list[int] = []
        seen: set[str] = set()
        name: str | None = shard
        while name and name in self.shards and name not in seen:
            seen.add(name)
            live = self.live.get(name)
            at = live.resumed_at if live is not None and live.resumed_at is not None else self.resumed.get(name)
            if at is not None:
                found.append(at)
            name = self.shards[name].get("resumes")
        return sorted(set(found))

    def trunk(self) -> ExperimentRow | None:
        """The arm that stands for the present trunk."""
        return self.experiments.get(self.lab["trunk_arm"]) if self.lab else None

    def findings_about(self, *ids: str) -> list[FindingRow]:
        return [row for row in self.findings.values() if row["about"] in ids]

    def findings_of(self, experiment: str) -> list[FindingRow]:
        """Findings about an experiment and all of its shards, of every attempt."""
        return self.findings_about(experiment, *self._of.get(experiment, ()))

    def retunes_of(self, experiment: str) -> list[RetuneRow]:
        """Every time that an experiment was compared with the trunk at each side's best learning rate, oldest first."""
        return [row for row in self.retunes.values() if row["experiment"] == experiment]

    def waiting(self) -> list[ProposalRow]:
        """Proposals that a person has to decide, oldest first, those that were put off last."""
        rows = (row for row in self.proposals.values() if row["state"] == "waiting")
        return sorted(rows, key=lambda row: (row.get("deferred", 0.0), row["id"]))

    def asking(self) -> RoundRow | None:
        """The round of asking that goes on, if one does."""
        return next((row for row in reversed(self.rounds.values()) if row["state"] == "asking"), None)

    def brief(self) -> BriefRow | None:
        """The latest brief that was written, or that failed to be."""
        return max(
            (row for row in self.briefs.values() if row["ended"] is not None), key=lambda row: row["id"], default=None
        )

    def writing(self) -> BriefRow | None:
        """The brief that is being written, if one is."""
        return next((row for row in self.briefs.values() if row["ended"] is None), None)

    def reading_of(self, proposal: str) -> ReadingRow | None:
        """The latest that a second reader said of a proposal."""
        rows = (row for row in self.readings.values() if row["proposal"] == proposal)
        return max(rows, key=lambda row: row["id"], default=None)

    def model_of(self, round_: str) -> str:
        """The model that a round asks; empty while no call was made."""
        return next((row["model"] for row in reversed(self.calls.values()) if row["round"] == round_), "")
