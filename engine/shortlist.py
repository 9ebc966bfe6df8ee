"""Which solid experiments to sign first: those whose gain, once luck is allowed for, cost least to have. Pure; quick to import.

A list by measured gains is headed by whatever was measured with luck, so gains are shrunk (`engine.judge.shrinking`). Where
fresh pairs have measured a headline, that stands beside it; and so does everything that was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from engine.judge.evidence import sample
from engine.judge.noise import Noise
from engine.judge.shrinking import shrunk
from engine.types import ExperimentRow, ExperimentState, FindingRow, ShardRow, Verdict, VerdictRow

LISTED = (ExperimentState.JUDGED, ExperimentState.SIGNED, ExperimentState.VETOED)


class Listed(TypedDict):
    """One line of the shortlist; gains in the metric's unit, > 0 is better than the trunk."""

    place: int
    experiment: str
    hypothesis: str
    state: str
    effect: float | None
    shrunk: float | None
    seconds: float  # of its shards, which is what it cost
    per_hour: float | None  # shrunk gain an hour of shards
    headline: float | None
    interval: list[float] | None  # of the headline
    signoff: str | None
    sentence: str
    findings: list[str]


def noise_of(verdict: VerdictRow) -> Noise:
    """The noise that a verdict with three pairs or more was weighed against: its standard error is scale / sqrt(n)."""
    scale = (verdict["se"] or 0.0) * math.sqrt(verdict["n"])
    return Noise(verdict.get("sigma") or scale / math.sqrt(2), scale)


def shrunk_gain(row: Mapping[str, Any]) -> float | None:
    """The posterior mean of an experiment's gain, in the metric's unit; None where it has no verdict that measured noise."""
    verdict = row["verdict"]
    if verdict is None or not verdict["se"] or not verdict["n"]:
        return None
    said: float | None = verdict.get("shrunk")
    if said is not None:
        return said
    found = [pair["difference"] for pair in row["pairs"] if pair["difference"] is not None]
    return shrunk(sample(found), noise_of(verdict))


def expected_gain(row: Mapping[str, Any]) -> float | None:
    """What may be claimed for an experiment by its verdict: its shrunk gain, but never more than was measured. The grid of the
    posterior is coarse, so that a gain that is sure comes out up to a fifth above or below its mean."""
    gain = shrunk_gain(row)
    effect = row["verdict"]["effect"] if row["verdict"] else None
    return gain if gain is None or effect is None else min(gain, effect)


def shortlist(
    trunk: str,
    experiments: Iterable[ExperimentRow],
    shards: Iterable[ShardRow],
    findings: Iterable[FindingRow] = (),
) -> list[Listed]:
    """Solid experiments on the present trunk (the arm `trunk`), best first: by shrunk gain an hour of shards; what fresh pairs
    vetoed comes last. What was solid on the trunk before keeps its place by what it showed there, until it is tested again."""
    known = {row["id"]: row for row in experiments}
    rows = {name: row for name, row in known.items() if _is_solid(row) and row["baseline"] == trunk}
    again = {name: row for name, row in known.items() if _is_tested_again(known, row, trunk)}
    rows |= again
    mine: dict[str, list[ShardRow]] = {name: [] for name in rows}
    for shard in shards:
        if shard["experiment"] in mine and not shard.get("smoke") and "retune" not in shard:
            mine[shard["experiment"]].append(shard)
    said: dict[str, list[str]] = {name: [] for name in rows}
    owner = {shard["id"]: name for name, those in mine.items() for shard in those} | {name: name for name in rows}
    for each in findings:
        if each["about"] in owner:
            said[owner[each["about"]]].append(f"{each['severity']}: {each['sentence']}")
    found = [_listed(row, mine[name], said[name]) for name, row in rows.items()]
    found = [_tested_again(known, each) if each["experiment"] in again else each for each in found]
    found.sort(key=_rank)
    return [{**each, "place": place} for place, each in enumerate(found, 1)]


def _is_solid(row: ExperimentRow) -> bool:
    verdict = row["verdict"]
    return row["state"] in LISTED and verdict is not None and verdict["verdict"] == Verdict.SOLID


def _latest(known: Mapping[str, ExperimentRow], row: ExperimentRow) -> ExperimentRow:
    """What an experiment goes on as, after the trunk has moved, however often."""
    while (later := known.get(row.get("moved_to", ""))) is not None:
        row = later
    return row


def _is_tested_again(known: Mapping[str, ExperimentRow], row: ExperimentRow, trunk: str) -> bool:
    """Whether it was solid on a trunk before, and is on its way to a verdict on the present one: it keeps its place."""
    verdict = row["verdict"]
    if row["state"] != ExperimentState.MOVED or verdict is None or verdict["verdict"] != Verdict.SOLID:
        return False
    later = _latest(known, row)
    return later["baseline"] == trunk and later["state"] in (ExperimentState.QUEUED, ExperimentState.RUNNING)


def _tested_again(known: Mapping[str, ExperimentRow], each: Listed) -> Listed:
    row = known[each["experiment"]]
    later = _latest(known, row)
    sentence = f"was solid on {row['baseline']}, and is tested again on {later['baseline']}"
    return {**each, "experiment": later["id"], "state": later["state"], "sentence": sentence}


def _rank(each: Listed) -> tuple[bool, float, str]:
    return each["state"] == ExperimentState.VETOED, -(each["per_hour"] or 0.0), each["experiment"]


def _listed(row: ExperimentRow, shards: Iterable[ShardRow], findings: list[str]) -> Listed:
    verdict, off = row["verdict"], row.get("signoff")
    assert verdict is not None
    gain, seconds = shrunk_gain(row), spent(shards)
    return Listed(
        place=0,
        experiment=row["id"],
        hypothesis=row["hypothesis"],
        state=row["state"],
        effect=verdict["effect"],
        shrunk=gain,
        seconds=round(seconds, 3),
        per_hour=None if gain is None or not seconds else gain / seconds * 3600,
        headline=off["mean"] if off else None,
        interval=None if off is None or off["lo"] is None or off["hi"] is None else [off["lo"], off["hi"]],
        signoff=off["state"] if off else None,
        sentence=off["sentence"] if off else verdict["sentence"],
        findings=findings,
    )


def spent(shards: Iterable[ShardRow]) -> float:
    """Seconds that these shards took, all together."""
    spans = [(row["started"], row["ended"]) for row in shards]
    return sum(ended - started for started, ended in spans if started is not None and ended is not None)
