"""Rows of the read model as the command line shows them: the JSON of `ls` and `rank`, and plain tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from cockpit.cluster import standing
from cockpit.sources import changes, further
from engine.text import clean
from engine.types import ClusterRow, VerdictRow

from .weight import short_weight

Rows = Sequence[Mapping[str, Any]]


def experiments(rows: Rows, cluster: ClusterRow | None = None) -> dict[str, Any]:
    """`{"experiments": [...], "trunk": [...]}`: every experiment, oldest first, with its verdict and its shards; and the
    trunk's own arms in the same shape. A smoke that failed is among the shards, with `"smoke": true`; any other is none, and
    neither are runs at a scaled learning rate. On a cluster shards have `node` and `gpus`, and those that have not ended
    `standing`, how they stand in its queue; `resumes` is the attempt that one went on from."""
    shards: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        passed = row.get("smoke") and row["outcome"] in (None, "finished")
        if row["kind"] == "shard" and not passed and "retune" not in row:
            shards.setdefault(row["experiment"], []).append(row)
    found = sorted((row for row in rows if row["kind"] == "experiment"), key=lambda row: row["created"])
    lab: Mapping[str, Any] = next((row for row in rows if row["kind"] == "lab"), {})
    listed = {
        role: [
            _experiment(row, shards.get(row["id"], []), shards.get(row["baseline"], []), lab, cluster)
            for row in found
            if row["role"] == role
        ]
        for role in ("experiment", "trunk")
    }
    return {"experiments": listed["experiment"], "trunk": listed["trunk"]}


def ranked(listing: Mapping[str, Any]) -> dict[str, Any]:
    """The listing, best first: solid by effect, then what is not, then what is harmful or broken."""
    place = {"solid": 0, "undecided": 1, None: 1, "barred": 2, "not-solid": 3, "harmful": 4, "broken": 5}

    def key(each: Mapping[str, Any]) -> tuple[int, float]:
        return place.get(each["verdict"], 6), float("inf") if each["effect"] is None else -each["effect"]

    return {**listing, "experiments": sorted(listing["experiments"], key=key)}


def _experiment(
    row: Mapping[str, Any], shards: Rows, baseline: Rows, lab: Mapping[str, Any], cluster: ClusterRow | None
) -> dict[str, Any]:
    verdict = row["verdict"] or {}
    rung = verdict.get("rung", row["rung"])
    interval = None if verdict.get("lo") is None else [verdict["lo"], verdict["hi"]]
    ordered = sorted(shards, key=lambda shard: (shard["rung"], shard["seed"], shard["attempt"]))
    names = ("seed", "rung", "outcome", "metric", "state", "attempt", "id", "detail")
    return {
        "id": row["id"],
        "hypothesis": row["hypothesis"],
        "verdict": verdict.get("verdict"),
        "effect": verdict.get("effect"),
        "interval": interval,
        "n": verdict.get("n", 0),
        "evidence": verdict.get("evidence"),
        "bar": verdict.get("bar"),
        "sigma": verdict.get("sigma"),
        "mode": verdict.get("mode"),
        "shrunk": verdict.get("shrunk"),
        "bases": verdict.get("bases"),
        "minutes": _minutes(shards),
        "state": row["state"],
        "role": row["role"],
        "branch": row["branch"],
        "commit": row["commit"],
        "sentence": verdict.get("sentence"),
        "why": row["why"],
        "barred": row.get("barred", []),
        "asks": row.get("asks", []),
        "bundle": row.get("bundle"),
        "merged_with": row.get("merged_with"),
        "headline": (row.get("signoff") or {}).get("mean"),
        "retuned": row.get("retuned"),
        "sources": changes(shards, baseline, rung, lab.get("direction", "min")),
        "further": [
            asdict(each) for each in further(row["pairs"], shards, baseline, rung, lab.get("evaluations") or {})
        ],
        "shards": [{name: shard[name] for name in names} | _besides(shard, cluster) for shard in ordered],
    }


def _minutes(shards: Sequence[Mapping[str, Any]]) -> float:
    """What the shards took, in minutes."""
    spans = ((shard["started"], shard["ended"]) for shard in shards)
    return round(sum(float(b - a) for a, b in spans if a is not None and b is not None) / 60, 4)


def _besides(shard: Mapping[str, Any], cluster: ClusterRow | None) -> dict[str, Any]:
    """What only some shards have."""
    found: dict[str, Any] = {"smoke": True} if shard.get("smoke") else {}
    found |= {name: shard[name] for name in ("node", "gpus", "resumes") if shard.get(name)}
    stands = standing(cluster, shard)
    return found | ({"standing": stands} if stands is not None else {})


def since_approval(shown: Mapping[str, Any]) -> str:
    """How a repair differs from what had been approved, under a head of its own; empty for any other proposal."""
    since = shown.get("since")
    if since is None:
        return ""
    head = (
        f"the difference to {since['proposal']} as approved (experiment {since['experiment']}, {since['commit'][:10]})"
    )
    return f"--- {head}\n{since['diff']}--- the whole diff against the trunk\n"


def table(head: Sequence[str], rows: Sequence[Sequence[object]], width: int = 0) -> str:
    """Columns aligned by what is in them, numbers to the right; lines are cut to `width` (0: not at all)."""
    body = [[_cell(cell) for cell in row] for row in rows]
    right = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(head))]
    sizes = [max(len(line[at]) for line in [list(head), *body]) for at in range(len(head))]
    lines = []
    for line in [list(head), *body]:
        text = "  ".join(
            cell.rjust(size) if flush else cell.ljust(size)
            for cell, size, flush in zip(line, sizes, right, strict=True)
        ).rstrip()
        lines.append(text if not width or len(text) <= width else text[: width - 1] + "…")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    return clean(str(value)).replace("\n", " ")


def experiment_lines(listing: Mapping[str, Any], width: int = 0) -> str:
    """The listing as a table: id, state, verdict, effect with interval, evidence, seeds, minutes, hypothesis."""
    rows = [
        (
            each["id"],
            each["state"],
            _verdict(each),
            signed(each["effect"]),
            interval(each["interval"]),
            weight(each),
            outcomes(each["shards"]),
            each["minutes"],
            each["hypothesis"],
        )
        for each in [*listing["trunk"], *listing["experiments"]]
    ]
    head = ("id", "state", "verdict", "effect", "interval", "E/bar", "shards", "minutes", "hypothesis")
    return table(head, rows, width)


def weight(each: Mapping[str, Any]) -> str | None:
    """E and its bar, where judging is by evidence."""
    return short_weight(cast(VerdictRow, each)) or None


def _verdict(each: Mapping[str, Any]) -> str | None:
    """The verdict, with what came of retuning it, and the findings that stand against it."""
    word = each["verdict"] or None
    if each["retuned"]:
        word = f"{word}, {each['retuned']}"
    against = [*each["barred"], *each["asks"]]
    if not against:
        return word
    more = f" and {len(against) - 1} more" if len(against) > 1 else ""
    return f"{word or 'none yet'} ({'' if each['barred'] else 'ack '}{against[0]}{more})"


def retune_words(row: Mapping[str, Any]) -> str:
    """How a retuning stands, or what it said, in a sentence."""
    if row["state"] == "ended":
        return clean(row["sentence"])
    if row["state"] == "withdrawn":
        return clean(f"withdrawn: {row['sentence']}")
    if row["state"] == "pairs":
        return clean(f"{row['wanted']} pairs run at each side's best rate: {row['sentence']}")
    rates = " ".join(f"{factor:g}x" for factor in row["factors"])
    return f"both sides run at {rates} of their learning rate on tuning seeds {', '.join(map(str, row['tuning']))}"


def signed(value: float | None) -> str | None:
    """A difference with its sign, four decimals; > 0 is better than the trunk."""
    return None if value is None else f"{value:+.4f}"


def interval(ends: Sequence[float] | None) -> str | None:
    """A 95 % interval."""
    return None if ends is None else f"[{ends[0]:+.4f}, {ends[1]:+.4f}]"


def outcomes(shards: Sequence[Mapping[str, Any]]) -> str:
    """How the shards stand, e.g. "3 finished" or "1 nonfinite, 1 killed"."""
    counts: dict[str, int] = {}
    for shard in shards:
        name = (shard["outcome"] or shard.get("state") or "running") + (" at smoke" if shard.get("smoke") else "")
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none yet"
