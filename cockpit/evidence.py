"""What a verdict rests on, in words and numbers: pure, from the read model. The table's line, the page behind `enter`, and `ls`
say the same things with these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.judge.words import ratio
from engine.types import ExperimentRow, PairRow, ShardRow, VerdictRow

from . import format as f
from .model import ReadModel
from .sources import further
from .weight import short_weight as short_weight

if TYPE_CHECKING:
    from engine.judge.further import Change

_RISING = "20:1 evidence on the same seeds, three seeds at least; the bar rises while nothing works."
MODES = {
    "fast": f"{_RISING} It is dropped when E is 1 or less.",
    "careful": f"{_RISING} It is dropped when E is 1/2 or less.",
    "strict": "The bar keeps false discoveries below 10 % for certain (e-LOND); it is dropped when E is 1/2 or less.",
    "fixed": "All of the lab's seeds on both sides, then Student's t interval of the differences, 95 %.",
}
"""How a lab judges, in the words of docs/statistics.md."""


NAMES = {"tokens": "tokens", "flops": "FLOPs", "time": "time"}
"""What may be held equal between two runs."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a pair's two figures come from: rows of `shards`, None where they are gone."""

    pair: PairRow
    trunk: str | None
    candidate: str | None


def weight(verdict: VerdictRow | None) -> str:
    """`E 31 of 20 needed`; empty where a fixed number of seeds is judged, or nothing could be weighed yet."""
    if verdict is None or (evidence := verdict.get("evidence")) is None:
        return ""
    bar = verdict.get("bar")
    return f"E {ratio(evidence)}" + (f" of {ratio(bar)} needed" if bar is not None else ", and no bar is left")


def seconds(shards: list[ShardRow]) -> float | None:
    """How long these shards ran, added up; None before the first has ended."""
    spans = [row["ended"] - row["started"] for row in shards if row["started"] is not None and row["ended"] is not None]
    return sum(spans) if spans else None


def cost(shards: list[ShardRow]) -> str:
    """`4.2 shard minutes`: what an experiment cost so far."""
    spent = seconds(shards)
    if spent is None:
        return "no shard has ended yet"
    minutes = spent / 60
    return f"{minutes:.0f} shard minutes" if minutes >= 99.5 else f"{minutes:.2g} shard minutes"


def headline(model: ReadModel, row: ExperimentRow, word: str) -> str:
    """One line, cut by dots: verdict, effect in the metric's unit with its interval, evidence, seeds, what came of retuning it,
    cost."""
    verdict = row["verdict"]
    unit = model.lab["unit"] if model.lab else ""
    parts = [word]
    if verdict and verdict["effect"] is not None:
        parts.append(" ".join((f.interval(verdict["effect"], verdict["lo"], verdict["hi"]), unit)).rstrip())
    parts += [each for each in (weight(verdict),) if each]
    if verdict:
        parts.append(f.plural(verdict["n"], "seed"))
    if label := row.get("retuned"):
        parts.append(label)
    own = [each for each in model.shards_of(row["id"]) if "retune" not in each]
    return " · ".join([*parts, cost(own)])


def sources(model: ReadModel, row: ExperimentRow) -> list[Source]:
    """Of every pair the two shards that its figures are of."""
    verdict = row["verdict"]
    rung = verdict["rung"] if verdict else row["rung"]

    def shard(arm: str | None, seed: int, metric: float | None) -> str | None:
        found = [
            each["id"]
            for each in (model.shards_of(arm) if arm else [])
            if (each["rung"], each["seed"], each["metric"]) == (rung, seed, metric)
        ]
        return found[-1] if found else None

    return [
        Source(
            pair, shard(row["baseline"], pair["seed"], pair["trunk"]), shard(row["id"], pair["seed"], pair["candidate"])
        )
        for pair in row["pairs"]
    ]


@dataclass(frozen=True, slots=True)
class OnBasis:
    """What an experiment took of one thing over what the trunk did, its effect at equal amounts, whether it is judged by it."""

    basis: str
    ratio: float
    effect: float | None
    judged: bool


def on_bases(row: ExperimentRow) -> list[OnBasis]:
    """The bases on which both sides say their cost; none when they cost the same."""
    found = row["verdict"].get("bases") if row["verdict"] else None
    if not found:
        return []
    named = {"tokens": found.get("tokens"), "flops": found.get("flops"), "time": found.get("time")}
    return [
        OnBasis(NAMES[basis], on["ratio"], on["effect"], basis == found["compare"])
        for basis, on in named.items()
        if on is not None
    ]


def further_of(model: ReadModel, row: ExperimentRow) -> list[Change]:
    """What an experiment does to the lab's further evaluations, over the pairs of its verdict."""
    declared = model.lab.get("evaluations") if model.lab else None
    if not declared or not row["verdict"] or not row["baseline"]:
        return []
    mine, theirs = model.shards_of(row["id"]), model.shards_of(row["baseline"])
    return further(row["pairs"], mine, theirs, row["verdict"]["rung"], declared)


def explained(model: ReadModel, row: ExperimentRow) -> list[str]:
    """What the numbers mean, in a few sentences."""
    verdict = row["verdict"]
    if verdict is None:
        return []
    unit = model.lab["unit"] if model.lab else ""
    mode = verdict.get("mode", "fixed")
    said = [MODES.get(mode, mode)]
    if verdict.get("evidence") is not None:
        said.append(
            "E: how much better a gain explains these pairs than none does. The interval holds with 95 % on each side whenever "
            "one looks."
        )
    sigma = verdict.get("sigma")
    if sigma is not None:
        said.append(
            f"Sigma, how far the trunk moves by its seed alone: {f.metric(sigma)} {unit}, from {row['baseline']}."
        )
    bases = verdict.get("bases")
    if bases and (kappa := bases["kappa"]) is not None:
        said.append(
            f"It costs other than the trunk: an effect at equal cost is the one measured less kappa ln(cost ratio), with kappa "
            f"{f.metric(kappa)} {unit}, from the trunk at two lengths."
        )
    shrunk = verdict.get("shrunk")
    if shrunk is not None:
        said.append(f"To be expected of it, after allowing for luck: {f.signed(shrunk)} {unit}".rstrip() + ".")
    return said


def weighed(model: ReadModel) -> bool:
    """Whether any experiment here was judged by evidence, so that a column for it is of use."""
    return any(
        row["verdict"] is not None and row["verdict"].get("evidence") is not None for row in model.experiments.values()
    )
