"""The page itself: a campaign in, one HTML document out. Pure; nothing in it is fetched, and nothing in it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cockpit.report import pictures
from cockpit.report.gather import Answer, Campaign, Comparison
from cockpit.report.markup import code, details, number, plural, table, text
from cockpit.report.style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser may do with the page: take its own style, and nothing else."""

_HIDDEN: Mapping[str, tuple[str, ...]] = {
    "leaderboard": ("mode", "sigma", "sd"),
    "failures": ("share",),
}
"""Columns that the page leaves to the SQL below the table."""

_TILES = (
    ("experiments", "experiments"), ("solid", "solid gains"), ("merged", "merged"), ("best_effect", "largest solid effect"),
    ("shards", "shards"), ("shard_hours", "shard-hours"), ("failed_shards", "shards failed"), ("proposals", "proposals"),
    ("decisions", "decisions by people"), ("usd", "US dollars for models"),
)  # fmt: skip

_SECTIONS = (
    ("leaderboard", "Leaderboard"), ("frontier", "Frontier"), ("curves", "The best against the trunk"),
    ("predicted", "Predicted against measured"), ("audits", "Audits"), ("findings", "Findings"), ("failures", "Failures"),
    ("categories", "What kind of idea works"), ("proposers", "Who proposes well"), ("money", "What it cost"),
    ("cycle_time", "From proposal to verdict"), ("decisions", "Decisions"), ("origin", "Where the numbers come from"),
)  # fmt: skip


def page(campaign: Campaign) -> str:
    """The whole document."""
    name = text(campaign.lab.get("name") or "campaign")
    parts = [(key, title, _section(campaign, key)) for key, title in _SECTIONS]
    shown = [each for each in parts if each[2]]
    links = "".join(f'<a href="#{key}">{text(title)}</a>' for key, title, _ in shown)
    body = "\n".join(f'<section id="{key}">\n<h2>{text(title)}</h2>\n{html}\n</section>' for key, title, html in shown)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: campaign report</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{name}</h1>
<p class="dim">{_about(campaign)}</p>
{_tiles(campaign.headline)}
<nav>{links}</nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _about(campaign: Campaign) -> str:
    lab = campaign.lab
    way = {"min": "lower is better", "max": "higher is better"}.get(str(lab.get("direction")), "")
    unit = f" in {lab['unit']}" if lab.get("unit") else ""
    first = campaign.headline.dicts()[:1]
    span = ""
    if first and first[0].get("began") and first[0].get("latest"):
        span = f"{_day(first[0]['began'])} to {_day(first[0]['latest'])} UTC. "
    said = (
        f"{span}The metric is {lab.get('metric', 'not known')}{unit}, {way or 'of a direction that is not known'}; every "
        f"effect is a difference from the trunk on the same seeds, and above 0 is better. Made {_day(campaign.made)} UTC as of "
        f"event {campaign.head} of the ledger by research-cockpit {campaign.version}."
    )
    return text(said)


def _day(moment: object) -> str:
    return str(moment)[:16].replace("T", " ")


def _tiles(headline: Answer) -> str:
    found = headline.dicts()
    if not found:
        return _problem(headline)
    tiles = []
    for name, label in _TILES:
        value = found[0].get(name)
        if value is None:
            continue
        shown = (
            f"{value:,.2f}" if name in ("usd", "shard_hours") else number(float(value), signed=name == "best_effect")
        )
        tiles.append(f'<div class="tile"><dd>{text(shown)}</dd><dt>{text(label)}</dt></div>')
    return f'<dl class="tiles">{"".join(tiles)}</dl>\n{_trace(headline)}'


def _section(campaign: Campaign, key: str) -> str:
    """The body of one section; "" where the history has no such question."""
    if key == "curves":
        return "\n".join(_compared(each, campaign.lab) for each in campaign.comparisons)
    answer = campaign.origin if key == "origin" else campaign.answers.get(key)
    if answer is None:
        return ""
    draw: Callable[[Answer, Mapping[str, object]], str] | None = pictures.OF.get(key)
    picture = draw(answer, campaign.lab) if draw is not None and answer.rows else ""
    shown = _rows(answer)
    if key == "origin":  # long, and wanted for one figure at a time
        shown = details(f"every pair: {plural(len(answer.rows), 'row')}", shown)
    return f'<p class="note">{text(answer.description)}</p>\n{picture}\n{shown}'


def _rows(answer: Answer) -> str:
    if answer.problem:
        return _problem(answer)
    if not answer.rows:
        return f'<p class="dim">nothing yet</p>\n{_trace(answer)}'
    return table(answer.columns, answer.rows, hidden=_HIDDEN.get(answer.name, ())) + "\n" + _trace(answer)


def _problem(answer: Answer) -> str:
    return f'<p class="bad">not answered: {text(answer.problem)}</p>\n{_trace(answer)}'


def _trace(answer: Answer) -> str:
    """How these rows are had again: the SQL with what it was given."""
    given = ", ".join(f"${name} = {value!r}" for name, value in answer.params.items())
    said = [f"{plural(len(answer.rows), 'row')}{', more were cut' if answer.truncated else ''}", *answer.notes]
    if given:
        said.append(f"with {given}")
    asked = f"<p>{text('; '.join(said))}. Ask it again with <code>cockpit sql</code>:</p>"
    return details("how this is had: the SQL", asked + code(answer.sql))


def _compared(each: Comparison, lab: Mapping[str, object]) -> str:
    head = f"<h3>{text(each.experiment)} {text(each.hypothesis)}</h3>"
    shards = ", ".join(curve.shard for curve in (*each.own, *each.trunk))
    loss = lab.get("loss") or "loss"
    trace = details("which shards these are", f"<p>{text(loss)} of {text(shards)}</p>") if shards else ""
    bars = pictures.sources(each.sources)
    if bars:
        bars = f'<p class="note">by source, against the trunk on the same seeds</p>{bars}{_trace(each.sources)}'
    drawn = pictures.curves(each, str(loss)) or '<p class="dim">no curve was written</p>'
    return f"{head}\n{drawn}\n{trace}\n{bars}"
