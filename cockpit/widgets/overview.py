"""What is known of the selected experiment or shard, in a few lines: verdict, pairs seed by seed, branch, failures."""

from __future__ import annotations

from engine.types import HALF, ExperimentRow, FindingRow, ShardRow, stands

from .. import format as f
from ..attempts import after, before
from ..cluster import left, span, standing, waits
from ..evidence import further_of
from ..findings import COLOURS, asleep_words, detectors_words, in_order
from ..listing import retune_words
from ..model import ReadModel
from ..shortlisting import place_of
from ..sources import changes, words
from ..summary import glyph, latest_attempts, shard_facts, word_of
from .lines import Line, Span, rule
from .retuned import colour_of


def overview(
    model: ReadModel,
    experiment: ExperimentRow | None,
    shard: ShardRow | None,
    width: int,
    height: int,
    now: float = 0.0,
) -> list[Line]:
    """Lines for the selected row, the most important ones first; at most `height`. `now` in unix seconds."""
    if experiment is None:
        return [rule("", width)]
    head = rule(f"{experiment['id']}{' · seed ' + str(shard['seed']) if shard else ''}", width, experiment["category"])
    body = _shard(model, shard, width, now) if shard is not None else _experiment(model, experiment, width)
    return [head, *body][:height]


def _experiment(model: ReadModel, row: ExperimentRow, width: int) -> list[Line]:
    word = word_of(row)
    sign, colour = glyph(word)
    lines = [Line(((each, "strong"),)) for each in f.wrap(row["hypothesis"] or row["branch"], width, 2)]
    sentence = row["verdict"]["sentence"] if row["verdict"] else _without_verdict(row, model.cluster is not None)
    for number, each in enumerate(f.wrap(f"{word}: {sentence}" if sentence else word, width - 2, 3)):
        lines.append(Line(((f"{sign} " if number == 0 else "  ", colour), (each, colour if number == 0 else "text"))))
    unit = model.lab["unit"] if model.lab else ""
    if place := place_of(model, row, unit):
        lines += [Line(((each, "dim"),)) for each in f.wrap(place, width, 1)]
    lines += _together(row, width, unit)
    lines += _signoff(row, width)
    lines += _retuned(model, row, width)
    lines += _against(row, width)
    lines += _troubles(model, row, width)
    lines += _pairs(row, width)
    lines += _by_source(model, row, width)
    lines += _further(model, row, width)
    commit = row["commit"][:10] if row["commit"] else f.NOTHING
    where: list[Span] = [(row["branch"], "dim"), (f"  {commit}", "faint"), (f"  rung {row['rung']}", "faint")]
    if row["baseline"]:
        where.append((f"  against {row['baseline']}", "faint"))
    lines.append(Line(tuple(where)))
    if row["role"] == "trunk" and model.lab is not None:
        known = model.lab.get("detectors")
        lines.append(Line(((detectors_words(known), "dim"),)))
        lines += [Line(((each, "faint"),)) for text in asleep_words(known) for each in f.wrap(text, width, 2)]
    return lines


def _together(row: ExperimentRow, width: int, unit: str) -> list[Line]:
    """What was expected of a bundle by its parts, beside what its fresh pairs measured."""
    bundle, off = row.get("bundle"), row.get("signoff")
    if bundle is None or off is None:
        return []
    parts = ", ".join(f"{name} {f.signed(gain)}" for name, gain in zip(bundle["parts"], bundle["shrunk"], strict=True))
    measured = f.interval(off["mean"], off["lo"], off["hi"]) if off["mean"] is not None else "nothing yet"
    text = f"expected {f.signed(bundle['promised'])} {unit} ({parts}); measured {measured}"
    return [Line(((each, "text"),)) for each in f.wrap(text, width, 2)]


def _signoff(row: ExperimentRow, width: int) -> list[Line]:
    """What the fresh pairs of a signature say: the headline, or why there is none."""
    off = row.get("signoff")
    if off is None:
        return []
    colour = {"confirmed": "good", "vetoed": "bad", "withdrawn": "warn"}.get(off["state"], "run")
    text = f"signed, {off['state']}: {off['sentence']}"
    return [Line(((each, colour),)) for each in f.wrap(text, width, 2)]


def _retuned(model: ReadModel, row: ExperimentRow, width: int) -> list[Line]:
    """What the last retuning says, or how far it is."""
    found = model.retunes_of(row["id"])[-1:]
    return [
        Line(((each, colour_of(last)),))
        for last in found
        for each in f.wrap(f"retuned: {retune_words(last)}", width, 3)
    ]


def _without_verdict(row: ExperimentRow, clustered: bool) -> str:
    if row["why"]:
        return row["why"]
    if row["role"] == "trunk":
        return "every experiment is compared with these runs, seed by seed"
    place = "a place on the cluster" if clustered else "a free slot"
    return {"queued": f"waits for {place}", "running": "no verdict yet"}.get(row["state"], "")


def _troubles(model: ReadModel, row: ExperimentRow, width: int) -> list[Line]:
    """Failed shards, one line each, and findings, one a rule: the same on every seed is said once."""
    lines: list[Line] = []
    if row["why"] and row["verdict"] and "signoff" not in row:  # that of a signature stands above
        lines += [Line(((each, "warn"),)) for each in f.wrap(row["why"], width, 2)]
    shards = latest_attempts(model.shards_of(row["id"]))
    for shard in shards:
        if shard["outcome"] not in (None, "finished"):
            name = "smoke" if shard.get("smoke") else f"seed {shard['seed']}"
            name = f"{HALF} {name}" if shard["rung"] == HALF else name
            name += f" at rate {shard['scale']:g}x" if "retune" in shard else ""
            text = f"{name} {shard['outcome']}" + (f": {shard['detail']}" if shard["detail"] else "")
            lines.append(Line((("✗ ", "bad"), (f.fit(text, width - 2).rstrip(), "text"))))
            lines += printed(shard, width)
    by_rule: dict[str, list[FindingRow]] = {}
    for finding in in_order(model.findings_about(row["id"], *(shard["id"] for shard in shards))):
        by_rule.setdefault(finding["rule"], []).append(finding)
    for worst, *others in by_rule.values():
        name = COLOURS.get(worst["severity"], "warn") if stands(worst) else "dim"
        more = f" (and {f.plural(len(others), 'time')} more)" if others else ""
        lines += [Line(((each, name),)) for each in f.wrap(worst["sentence"] + more, width, 2)]
    return lines


def _against(row: ExperimentRow, width: int) -> list[Line]:
    """What stands between the experiment and the trunk besides its numbers."""
    barred, asks = row.get("barred", []), row.get("asks", [])
    text = f"barred by {', '.join(barred[:3])}{' and more' if len(barred) > 3 else ''}: f shows why" if barred else ""
    if asks and not barred:
        text = f"{', '.join(asks[:3])}{' and more' if len(asks) > 3 else ''} wants a word before sign-off: f, then i"
    return [Line(((each, "bad" if barred else "warn"),)) for each in f.wrap(text, width, 2)] if text else []


def _by_source(model: ReadModel, row: ExperimentRow, width: int) -> list[Line]:
    """What the verdict comes to on each data source, the worst first."""
    if not row["verdict"] or not row["baseline"] or model.lab is None:
        return []
    mine, theirs = model.shards_of(row["id"]), model.shards_of(row["baseline"])
    found = changes(mine, theirs, row["verdict"]["rung"], model.lab["direction"])
    colour = "warn" if any(value < 0 for value in found.values()) and row["verdict"]["verdict"] == "solid" else "dim"
    return [Line(((each, colour),)) for each in f.wrap(f"by source: {words(found)}", width, 2)] if found else []


def _further(model: ReadModel, row: ExperimentRow, width: int) -> list[Line]:
    """What it does to the lab's further evaluations, the worst first."""
    found = further_of(model, row)
    colour = "warn" if any(each.worse for each in found) else "dim"
    said = "   ".join(
        f"{each.name} {f.interval(each.effect, each.lo, each.hi)}"
        for each in sorted(found, key=lambda each: each.effect)
    )
    return [Line(((each, colour),)) for each in f.wrap(f"further: {said}", width, 2)] if found else []


def printed(shard: ShardRow, width: int) -> list[Line]:
    """What a smoke that failed printed last."""
    return [Line((("  " + f.fit(each, width - 2).rstrip(), "dim"),)) for each in shard.get("said", "").splitlines()]


def _pairs(row: ExperimentRow, width: int) -> list[Line]:
    """The paired seeds: trunk, candidate, difference, and a bar of it around zero."""
    pairs = row["pairs"] if row["role"] == "experiment" else []
    if not pairs:
        return []
    most = max((abs(pair["difference"]) for pair in pairs if pair["difference"] is not None), default=0.0) or 1.0
    room = min(max((width - 40) // 2, 0), 12)
    lines = [Line(((f"{'seed':>4}{'trunk':>10}{'this':>10}{'better by':>12}", "faint"),))]
    for pair in pairs[:8]:
        difference = pair["difference"]
        colour = "faint" if difference is None else "good" if difference > 0 else "bad"
        spans: list[Span] = [
            (f"{pair['seed']:>4}{f.metric(pair['trunk']):>10}{f.metric(pair['candidate']):>10}", "text"),
            (f"{f.signed(difference):>12}", colour),
        ]
        if difference is not None and room >= 4:
            size = round(abs(difference) / most * room)
            left = "━" * size if difference < 0 else ""
            right = "━" * size if difference >= 0 else ""
            spans += [("  " + f.fit(left, room, right=True), colour), ("│", "rule"), (right, colour)]
        lines.append(Line(tuple(spans)))
    if len(pairs) > 8:
        lines.append(Line(((f"     and {len(pairs) - 8} more pairs", "faint"),)))
    return lines


def _shard(model: ReadModel, row: ShardRow, width: int, now: float) -> list[Line]:
    word = shard_facts(model, row).word
    sign, colour = glyph(word)
    live = model.live.get(row["id"])
    lines = [Line(((f"{sign} {word}", colour), (f"   {row['id']}", "dim")))]
    if row["detail"]:
        lines += [Line(((each, "text"),)) for each in f.wrap(row["detail"], width, 3)]
    lines += _stands(model, row, width, now)
    lines += printed(row, width)
    if row.get("smoke"):
        lines.append(Line((("a smoke run: it shows that the code runs, and counts for nothing else", "dim"),)))
    if row["state"] in ("running", "scoring") and live is not None:
        step = f"step {live.step}" + (f" of {live.total}" if live.total else "")
        facts = [step, f"loss {f.metric(live.value)}"]
        facts += [f"{f.count(live.tokens_per_s)} tokens/s"] if live.tokens_per_s is not None else []
        facts += [f"{f.eta(live.eta_s)} left"] if live.eta_s is not None else []
        lines.append(Line(((" · ".join(facts), "text"),)))
        if live.dropped:
            lines.append(Line(((f"{f.plural(live.dropped, 'line')} of its metrics could not be read", "warn"),)))
    if row["metric"] is not None:
        said = f"   it said of itself {f.metric(row['reported'])}" if row["reported"] is not None else ""
        lines.append(Line(((f"scored {f.metric(row['metric'])}", "strong"), (said, "faint"))))
    if row["sources"]:
        text = "   ".join(f"{name} {f.metric(value)}" for name, value in row["sources"].items())
        lines += [Line(((each, "dim"),)) for each in f.wrap(text, width, 2)]
    if row.get("further"):
        text = "   ".join(f"{name} {f.metric(value)}" for name, value in row["further"].items())
        lines += [Line(((each, "dim"),)) for each in f.wrap(text, width, 2)]
    took = row["ended"] - row["started"] if row["ended"] and row["started"] else None
    tail = f"rung {row['rung']} · attempt {row['attempt']}"
    tail += f" · slot {row['slot']}" if row["slot"] is not None and model.cluster is None else ""
    tail += f" · took {f.duration(took)}" if took is not None else ""
    return [*lines, Line(((tail, "faint"),))]


def _stands(model: ReadModel, row: ShardRow, width: int, now: float) -> list[Line]:
    """Where it runs on a cluster or what it waits for there, and the attempts before and after it."""
    found, lines = standing(model.cluster, row), list[Line]()
    if found is not None and found["state"] == "queued":
        job = f" as job {found['job']}" if found.get("job") else ""
        why = waits(found, now)
        said = f"in the queue{job}{f': {why}' if why else ''}"
        lines += [Line(((each, "warn"),)) for each in f.wrap(said, width, 3)]
    elif row.get("node"):
        words = [f"node {row['node']}", f"GPU {row['gpus']}" if row.get("gpus") else ""]
        if found is not None:
            rest = left(found.get("until"), now)
            words += [
                f"job {found['job']}" if found.get("job") else "",
                f"{span(rest)} left" if rest is not None else "",
            ]
        lines.append(Line(((f.fit(" · ".join(filter(None, words)), width).rstrip(), "text"),)))
    for text, colour in ((before(model, row), "text"), (after(model, row), "dim")):
        lines += [Line(((each, colour),)) for each in f.wrap(text, width, 2)] if text else []
    return lines
