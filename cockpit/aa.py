"""What an A/A test says: how many changes that change nothing were kept, and whether their measured effects are zero. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

from cockpit.unattended import shards_ended

RATE = 0.003
"""Keeps that are to be expected at most, of each no-op: the bar of sequential judging (docs/statistics.md)."""

UNLIKELY = 0.01
"""More keeps than chance gives with this probability are a problem."""

Rows = Sequence[Mapping[str, Any]]


def decided(rows: Rows) -> list[Mapping[str, Any]]:
    """The experiments that want no more shards."""
    found = (row for row in rows if row["kind"] == "experiment" and row["role"] == "experiment")
    return [row for row in found if row["state"] not in ("queued", "running")]


def result(rows: Rows, wanted: int) -> dict[str, Any]:
    """`{wanted, ran, verdicts, keeps, expected, deterministic, pairs, nonzero, largest, shards, problems}`.

    `deterministic` is whether equal code and seed gave equal metrics; None when nothing ran twice that could tell. A verdict
    that is barred counts as a keep: its numbers said solid.
    """
    done = decided(rows)
    verdicts = Counter(row["verdict"]["verdict"] if row["verdict"] else row["state"] for row in done)
    keeps = verdicts["solid"] + verdicts["barred"]
    effects = [pair["difference"] for row in done for pair in row["pairs"] if pair["difference"] is not None]
    value = {
        "wanted": wanted,
        "ran": len(done),
        "verdicts": dict(sorted(verdicts.items())),
        "keeps": keeps,
        "expected": round(RATE * len(done), 4),
        "deterministic": deterministic(rows, {row["id"] for row in done}, effects),
        "pairs": len(effects),
        "nonzero": sum(each != 0 for each in effects),
        "largest": max(map(abs, effects), default=None),
        "shards": shards_ended(rows),
    }
    return {**value, "problems": _problems(value, done)}


def deterministic(rows: Rows, experiments: set[str], effects: Sequence[float]) -> bool | None:
    """Whether the no-ops agree among themselves, seed by seed: the trunk is left out, so that a machine that treats trunk and
    experiment differently cannot pass for a lab that is not deterministic."""
    values: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row["kind"] == "shard" and row["experiment"] in experiments and row["metric"] is not None:
            values.setdefault((row["rung"], row["seed"]), []).append(row["metric"])
    if any(len(set(each)) > 1 for each in values.values()):
        return False
    if any(len(each) > 1 for each in values.values()):
        return True
    return True if effects and not any(effects) else None


def _problems(value: Mapping[str, Any], done: Rows) -> list[str]:
    found = []
    chance = tail(value["keeps"], value["ran"], RATE)
    if chance < UNLIKELY:
        found.append(
            f"{value['keeps']} of {value['ran']} no-ops were kept, and {value['expected']:g} are to be expected at most: "
            f"chance gives so many with probability {chance:.2g}"
        )
    if value["deterministic"] and value["nonzero"]:
        found.append(
            f"{value['nonzero']} of {value['pairs']} effects are not zero (up to {value['largest']:.6g}) though no-ops agree "
            "to the last bit: trunk and experiment are not run or scored alike"
        )
    broken = [row["id"] for row in done if row["verdict"] is None or row["verdict"]["verdict"] == "broken"]
    if broken:
        found.append(f"{', '.join(broken[:5])} never came to a comparison: a no-op does not break by itself")
    if not value["pairs"]:
        found.append("no pair of runs was compared")
    return found


def tail(keeps: int, ran: int, rate: float) -> float:
    """Probability of at least `keeps` among `ran` independent tries."""
    return 1.0 - sum(comb(ran, k) * rate**k * (1 - rate) ** (ran - k) for k in range(keeps))


def as_text(value: Mapping[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"{value['ran']} of {value['wanted']} no-ops ran, {value['shards']} shards, {value['seconds']:.0f} s",
        "verdicts       " + ", ".join(f"{count} {name}" for name, count in value["verdicts"].items()),
        f"kept           {value['keeps']} (to be expected at most: {value['expected']:g})",
        f"deterministic  {_words(value['deterministic'])}",
        f"effects        {_effects(value)}",
        *(f"PROBLEM        {each}" for each in value["problems"]),
        *([f"the copy lies in {value['kept_at']}"] if value["kept_at"] else []),
    ]
    return "\n".join(lines)


def _words(known: bool | None) -> str:
    if known is None:
        return "not known: nothing ran twice that could tell; test more no-ops"
    return "yes, equal code and seed gave equal metrics" if known else "no, equal code and seed gave different metrics"


def _effects(value: Mapping[str, Any]) -> str:
    if not value["pairs"]:
        return "none was measured"
    if not value["nonzero"]:
        return f"all {value['pairs']} are exactly zero"
    return f"{value['nonzero']} of {value['pairs']} are not zero, the largest {value['largest']:.6g}"
