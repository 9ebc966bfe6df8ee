"""What the page is made of: answers to named questions, asked over the engine's own `sql` method, and curves.

Each answer keeps the SQL that it is of, so that every number on the page can be asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.rpc import RpcError

Call = Callable[..., Any]
"""One request to the engine: `call(method, **params)`; raises RpcError."""

HEADLINE = """\
SELECT
    (SELECT count(*) FROM experiments WHERE role = 'experiment' AND state <> 'moved') AS experiments,
    (SELECT count(*) FROM leaderboard WHERE verdict = 'solid') AS solid,
    (SELECT count(*) FROM events WHERE type = 'merge.done') AS merged,
    (SELECT max(effect) FROM leaderboard WHERE verdict = 'solid') AS best_effect,
    (SELECT count(*) FROM shards) AS shards,
    (SELECT sum(ended - started) / 3600 FROM shards) AS shard_hours,
    (SELECT count(*) FROM shards WHERE outcome NOT IN ('finished', 'ended-early')) AS failed_shards,
    (SELECT count(*) FROM proposals) AS proposals,
    (SELECT count(*) FROM decisions WHERE who_kind = 'person') AS decisions,
    (SELECT sum(coalesce(usd, most_usd)) FROM calls) AS usd,
    (SELECT make_timestamp((min(t) * 1e6)::BIGINT) FROM events) AS began,
    (SELECT make_timestamp((max(t) * 1e6)::BIGINT) FROM events) AS latest"""

ORIGIN = """\
SELECT
    e.id AS experiment, e.branch, e."commit", b.id AS trunk, b."commit" AS trunk_commit, f.rung, f.seed,
    f.shard, f.metric AS measured, t.shard AS trunk_shard, t.metric AS trunk_measured
FROM experiments e
JOIN finals f ON f.experiment = e.id AND f.rung = coalesce(e.verdict_rung, e.rung)
LEFT JOIN experiments b ON b.id = e.baseline
LEFT JOIN finals t ON t.experiment = e.baseline AND t.rung = f.rung AND t.seed = f.seed
WHERE e.role = 'experiment'
ORDER BY e.id, f.seed"""

QUESTIONS: Mapping[str, Mapping[str, object]] = {
    "leaderboard": {"limit": 200},
    "frontier": {},
    "audits": {},
    "predicted": {},
    "categories": {},
    "proposers": {},
    "money": {},
    "cycle_time": {"limit": 100},
    "failures": {},
    "findings": {"all": True, "limit": 300},
    "decisions": {"limit": 300},
}
"""Named questions of the page with what they are given; one that this history does not have is left out."""
LIMIT = 2000
POINTS = 240


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of one question; `problem` says why there are none. `sql` with `params` answers it again."""

    name: str
    title: str
    description: str
    sql: str
    params: Mapping[str, object] = field(default_factory=dict)
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    truncated: bool = False
    notes: Sequence[str] = ()
    problem: str = ""

    def dicts(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class ShardCurve:
    """The training loss of one shard; None where it was not finite. `arm` is an experiment or the trunk's arm; `resumed_at` the
    step at which it went on from an attempt that was cut off."""

    shard: str
    arm: str
    steps: Sequence[int]
    values: Sequence[float | None]
    resumed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One experiment with its curves beside those of the trunk that it was compared with, and its sources."""

    experiment: str
    hypothesis: str
    baseline: str
    own: Sequence[ShardCurve]
    trunk: Sequence[ShardCurve]
    sources: Answer


@dataclass(frozen=True, slots=True)
class Campaign:
    """All that the page shows. `lab` is the lab's row, `head` the last event that is in it, `made` when, ISO 8601 in UTC."""

    lab: Mapping[str, Any]
    head: int
    made: str
    version: str
    headline: Answer
    answers: Mapping[str, Answer]
    comparisons: Sequence[Comparison]
    origin: Answer


def gather(call: Call, queries: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], **about: Any) -> Campaign:
    """Ask everything. `queries` are the lab's named questions (`engine.history.queries`), `rows` those of the read model;
    `about` has `head`, `made`, `version` and `top`, how many experiments are shown with their curves."""
    lab: Mapping[str, Any] = next((row for row in rows if row["kind"] == "lab"), {})
    answers = {
        name: named(call, queries[name], **{key: value for key, value in given.items() if _takes(queries[name], key)})
        for name, given in QUESTIONS.items()
        if name in queries
    }
    best = answers["leaderboard"].dicts() if "leaderboard" in answers else []
    shown = [each for each in best if each.get("effect") is not None][: about["top"]]
    compared = [_comparison(call, queries, rows, each, str(lab.get("loss") or "loss")) for each in shown]
    return Campaign(
        lab=lab,
        head=about["head"],
        made=about["made"],
        version=about["version"],
        headline=asked(call, Answer("headline", "In numbers", "The campaign as a whole", HEADLINE)),
        answers=answers,
        comparisons=compared,
        origin=asked(
            call, Answer("origin", "Where the numbers come from", "Commit, seed and shard of each figure", ORIGIN)
        ),
    )


def _takes(query: Any, key: str) -> bool:
    return any(param.name == key for param in query.params)


def named(call: Call, query: Any, **params: object) -> Answer:
    """The answer to a named question. What it refuses is told in `problem`."""
    bare = Answer(query.name, query.title, query.description, query.sql, params)
    try:
        bound = query.bind(params)
    except ValueError as error:
        return Answer(query.name, query.title, query.description, query.sql, params, problem=str(error))
    return asked(call, bare, bound)


def asked(call: Call, bare: Answer, bound: Mapping[str, object] | None = None) -> Answer:
    """The same with its rows, asked over the history as it is now."""
    about = (bare.name, bare.title, bare.description, bare.sql, dict(bound or {}))
    try:
        found = call("sql", text=bare.sql, params=dict(bound or {}), limit=LIMIT)
    except RpcError as error:
        return Answer(*about, problem=str(error))
    return Answer(
        *about, columns=found["columns"], rows=found["rows"], truncated=found["truncated"], notes=found.get("notes", ())
    )


def _comparison(
    call: Call, queries: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any], loss: str
) -> Comparison:
    name = str(best["experiment"])
    row: Mapping[str, Any] = next((each for each in rows if each["kind"] == "experiment" and each["id"] == name), {})
    rung = (row.get("verdict") or {}).get("rung", row.get("rung"))
    baseline = str(row.get("baseline") or "")
    own, trunk = _shards(rows, name, rung), _shards(rows, baseline, rung)
    curves: Mapping[str, Any] = {}
    if own or trunk:
        curves = call("curve", shards=[*own, *trunk], metric=loss, points=POINTS)
    if "sources" in queries:
        sources = named(call, queries["sources"], experiment=name)
    else:
        sources = Answer("sources", "Per source", "", "")
    return Comparison(
        experiment=name,
        hypothesis=str(best.get("hypothesis") or ""),
        baseline=baseline,
        own=[ShardCurve(each, name, **curves[each]) for each in own if each in curves],
        trunk=[ShardCurve(each, baseline, **curves[each]) for each in trunk if each in curves],
        sources=sources,
    )


def _shards(rows: Sequence[Mapping[str, Any]], arm: str, rung: object) -> list[str]:
    """The last finished shard of each seed of an arm at a rung."""
    found: dict[int, tuple[int, str]] = {}
    for row in rows:
        if row["kind"] != "shard" or (row["experiment"], row["rung"], row["outcome"]) != (arm, rung, "finished"):
            continue
        if row.get("smoke") or row.get("canary") or row.get("fresh") or "retune" in row:
            continue
        found[row["seed"]] = max(found.get(row["seed"], (0, "")), (int(row["attempt"]), str(row["id"])))
    return [shard for _, (_, shard) in sorted(found.items())][:16]
