"""Writes docs/questions.md from the questions that ship, so that the page cannot fall behind them.

python -m engine.history.questions_page > docs/questions.md
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.history.queries import Param, Query, load_all
from engine.resources import shipped

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "What holds": (
        *("leaderboard", "shortlist", "brief", "runs", "inside_noise", "fresh_pairs", "replays", "retunes"),
        *("equal_compute", "reopen"),
    ),
    "The trunk": ("frontier", "trunk_lineage", "audits", "harm"),
    "Who and what finds gains": (
        *("gets_right", "predicted", "categories", "proposers", "novelty", "files", "yield_over_time", "duplicates"),
        *("rounds", "refusals", "declined"),
    ),
    "What it costs": (
        *("cost_of_a_finding", "money", "model_failures", "spend_by_day", "pairs_to_verdict", "ended_early"),
        *("missed_gains",),
    ),
    "People and second readers": ("decisions", "people", "review_cost", "reader_agreement", "reader_calibration"),
    "Noise and comparability": ("noise", "environments", "lucky_seeds", "seed_spread", "canaries", "self_reported"),
    "Sources and further evaluations": ("sources", "source_tradeoffs", "further"),
    "Runs and machines": ("curves", "curves_by_tokens", "throughput", "by_hour", "queue_wait", "cycle_time"),
    "The cluster": ("nodes", "cluster_cost"),
    "What went wrong": ("failures", "repairs", "findings", "finding_rules"),
    "Histories made elsewhere": ("imported_sources", "imported", "imported_progress", "imported_noise"),
}
"""Heading to the questions below it, in the order of the page. What is in none of them comes last."""

HEAD = """# Questions

Made from the headers of `queries/*.sql` by `python -m engine.history.questions_page > docs/questions.md`.

`cockpit sql NAME` asks one, `cockpit sql NAME --param limit=5 --json` with values; on the SQL screen they are the list. A file
`queries/NAME.sql` in a lab adds a question, or takes the place of the one with that name.

What they have in common:

- An effect or a gain above zero is better than the trunk, whichever way the metric goes, in the metric's unit; `in_sigma` is in
  seed-to-seed deviations of the trunk, the only measure that different trunks and rungs are put side by side in.
- Runs are compared on the same seed, rung and setup. Smokes, canaries, fresh pairs and runs at a scaled learning rate are no
  results: they count where time, money and failures are added up, and in the questions that are about them.
- A run that failed has no metric, and a NaN or an infinity wins nothing. What is not known is NULL, never zero.
- A proposal that went on as another arm on a moved trunk counts by its first arm with a verdict; in `proposers` by its last.
"""


def page() -> str:
    """The page `docs/questions.md`."""
    questions = load_all([shipped("queries")])
    listed = {name for names in SECTIONS.values() for name in names}
    sections = {**SECTIONS, "Others": tuple(name for name in questions if name not in listed)}
    parts = [HEAD]
    for heading, names in sections.items():
        found = [questions[name] for name in names if name in questions]
        if found:
            rows = "\n".join(_row(query) for query in found)
            parts.append(f"\n## {heading}\n\n| question | answers | takes |\n|---|---|---|\n{rows}\n")
    return "".join(parts)


def _row(query: Query) -> str:
    takes = "; ".join(_takes(param) for param in query.params)
    return f"| `{query.name}`: {query.title} | {query.description} | {takes} |".replace(" |  |", " | |")


def _takes(param: Param) -> str:
    default = "" if param.required else f" = {param.default!r}".replace("True", "true").replace("False", "false")
    return f"`{param.name}{default}`"


if __name__ == "__main__":
    print(page(), end="")
