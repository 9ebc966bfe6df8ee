"""History as lines for a model, one an experiment, drawn from the ledger in its order, so that lines are only ever added. Pure.

A line is written when something is settled: a proposal refused or declined, an experiment judged, failed, stopped or signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import mean, stdev
from typing import Any

from engine.ledger import Event
from engine.proposers.context import Past
from engine.state import State
from engine.types import ExperimentState, Outcome, Verdict

Data = Mapping[str, Any]
_ENDED = (ExperimentState.JUDGED, ExperimentState.SIGNED, ExperimentState.VETOED, ExperimentState.MERGED)


def past_lines(events: Iterable[Event], state: State, speeds: Mapping[str, float]) -> tuple[Past, ...]:
    """Every settled thing. `speeds` gives tokens a second by shard, where they were measured."""
    writer = _Writer(state, speeds)
    return tuple(past for event in events if (past := writer.line(event)) is not None)


def five(value: float | None) -> str:
    """An effect or a metric with five decimals: two would hide every gain there is."""
    return "none" if value is None else f"{value:+.5f}"


class _Writer:
    def __init__(self, state: State, speeds: Mapping[str, float]) -> None:
        self.state = state
        self.speeds = speeds
        self.memory: dict[str, float] = {}  # shard to its peak, bytes
        self.by_type: dict[str, Callable[[Data], Past | None]] = {
            "proposal.added": self._added,
            "proposal.decided": self._decided,
            "shard.ended": self._ended,
            "experiment.failed": self._failed,
            "verdict.reached": self._verdict,
            "stop.intended": self._stopped,
            "merge.done": self._merged,
        }

    def line(self, event: Event) -> Past | None:
        write = self.by_type.get(event.type)
        return None if write is None else write(event.data)

    def _proposal(self, name: str | None) -> str:
        row = self.state.proposals.get(name or "")
        if row is None:
            return ""
        return (
            f"({row['id']} by {row['proposer']}, on {row['parent'][:7]}) {row['category']} | {row['hypothesis'][:400]}"
        )

    def _experiment(self, name: str) -> str:
        row = self.state.experiments[name]
        return f"{name} {self._proposal(row['proposal']) or row['hypothesis']}"

    def _added(self, data: Data) -> Past | None:
        if not data.get("refusal"):
            return None
        again = f", the same change as {data['duplicate_of']}" if data.get("duplicate_of") else ""
        return Past(f"{self._proposal(data['proposal'])} | refused by the machine: {data['refusal']}{again}")

    def _decided(self, data: Data) -> Past | None:
        did = {"decline": "declined", "revise": "sent back to be revised", "undo": "its last decision was taken back"}
        if data["action"] not in did:
            return None
        who = "the researcher" if data["who"].get("kind") == "person" else "a policy"
        why = f": {data['why']}" if data["why"] else ""
        return Past(f"{self._proposal(data['target'])} | {did[data['action']]} by {who}{why}")

    def _ended(self, data: Data) -> None:
        peak = (data.get("usage") or {}).get("max_rss")
        if isinstance(peak, int | float):
            self.memory[data["shard"]] = float(peak)

    def _failed(self, data: Data) -> Past:
        return Past(f"{self._experiment(data['experiment'])} | it could not be tried: {data['why']}")

    def _stopped(self, data: Data) -> Past | None:
        if data["target"] not in self.state.experiments:
            return None
        return Past(
            f"{self._experiment(data['target'])} | stopped by the researcher: {data['why'] or 'no reason given'}"
        )

    def _merged(self, data: Data) -> Past:
        return Past(f"{self._experiment(data['experiment'])} | signed off: it is in the trunk now")

    def _verdict(self, data: Data) -> Past | None:
        name = data["experiment"]
        if not data.get("final") or name not in self.state.experiments:
            return None
        seeds = [str(pair["seed"]) for pair in data["pairs"] if pair.get("difference") is not None]
        parts = [
            self._experiment(name),
            f"rung {data['rung']}, effect {five(data['effect'])} [{five(data['lo'])}, {five(data['hi'])}], "
            f"seeds {' '.join(seeds) or 'none'}",
            str(data["verdict"]),
            *self._cost(name),
        ]
        row = self.state.proposals.get(self.state.experiments[name]["proposal"] or "")
        if row is not None and row["why"]:
            parts.append(f"approved because: {row['why']}")
        return Past(" | ".join(parts), self._output(name) if data["verdict"] == Verdict.BROKEN else "")

    def _cost(self, name: str) -> list[str]:
        """Speed and memory beside the trunk's, as far as they were measured, at the rung of the verdict."""
        row = self.state.experiments[name]
        rung = row["verdict"]["rung"] if row["verdict"] else row["rung"]
        ran = [each for each in self.state.shards_of(name) if each["outcome"] == Outcome.FINISHED]
        shards = [each["id"] for each in ran if each["rung"] == rung]
        trunk = [each["id"] for each in self.state.shards_of(str(row["baseline"])) if each["rung"] == rung]
        out = []
        for what, found, form in (
            ("tokens/s", self.speeds, "{:.0f}"),
            ("peak MB", {shard: size / 1e6 for shard, size in self.memory.items()}, "{:.0f}"),
        ):
            mine = [found[shard] for shard in shards if shard in found]
            theirs = [found[shard] for shard in trunk if shard in found]
            if mine and theirs:
                out.append(f"{form.format(mean(mine))} {what} (trunk {form.format(mean(theirs))})")
        return out

    def _output(self, name: str) -> str:
        return _failures(self.state, name)


def _failures(state: State, experiment: str) -> str:
    """What the failed shards of an experiment said last: untrusted, to be fenced."""
    said = [
        f"{row['outcome']}: {row['detail']}" + (f"\n{row['said']}" if row.get("said") else "")
        for row in state.shards_of(experiment)
        if row["outcome"] not in (None, "finished") and "retune" not in row
    ]
    return "\n".join(dict.fromkeys(said))


def broke(state: State, proposal: str) -> str:
    """How a proposal failed at its smoke; as untrusted as what it printed."""
    return _failures(state, str(state.proposals[proposal]["experiment"]))


def noise_lines(state: State) -> tuple[str, ...]:
    """How far apart runs of the trunk lie that differ by their seed alone, at each rung."""
    values: dict[str, list[float]] = {}
    for row in state.shards_of(state.trunk_arm):
        if row["outcome"] == Outcome.FINISHED and row["metric"] is not None and "retune" not in row:
            values.setdefault(row["rung"], []).append(row["metric"])
    lines = []
    for rung, found in values.items():
        spread = f", standard deviation {stdev(found):.5f}" if len(found) > 1 else ""
        lines.append(f"{rung}: the trunk's metric is {mean(found):.5f} over {len(found)} seeds{spread}")
    return tuple(lines)


def without_gain(state: State) -> int:
    """How many experiments in a row, to the latest, were judged and are not solid."""
    judged = [row for row in state.experiments.values() if row["role"] == "experiment" and row["state"] in _ENDED]
    count = 0
    for row in sorted(judged, key=lambda row: row["id"], reverse=True):
        if row["verdict"] is not None and row["verdict"]["verdict"] == Verdict.SOLID:
            break
        count += 1
    return count
