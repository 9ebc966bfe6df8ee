"""What came of comparing both sides of an experiment at their own best learning rate, as lines of a page."""

from __future__ import annotations

from engine.types import Retuned, RetuneRow

from .. import format as f
from ..listing import retune_words
from .lines import BLANK, Line, Span

_COLOURS = {
    Retuned.EXPLAINED: "warn", Retuned.HOLDS: "good", Retuned.HELD_BACK: "good", Retuned.OPEN: "warn", Retuned.FAILED: "warn",
}  # fmt: skip


def colour_of(row: RetuneRow) -> str:
    """The colour of what it says; of what still runs while it does."""
    if row["state"] in ("tuning", "pairs"):
        return "run"
    return _COLOURS.get(Retuned(row["label"]), "dim") if row["label"] else "warn"


def retuned(row: RetuneRow, width: int) -> list[Line]:
    """The sentence; then each rate with the mean of its tuning seeds on both sides, and the pairs at each side's best."""
    lines = [Line(((each, colour_of(row)),)) for each in f.wrap(f"{row['id']} {retune_words(row)}", width)]
    lines += _rates(row)
    if row["pairs"]:
        lines.append(
            Line(((f"{'seed':>4}{'trunk':>10}{'this':>10}{'better by':>11}  at each side's best rate", "faint"),))
        )
    for pair in row["pairs"]:
        difference = pair["difference"]
        colour = "faint" if difference is None else "good" if difference > 0 else "bad"
        spans: list[Span] = [
            (f"{pair['seed']:>4}{f.metric(pair['trunk']):>10}{f.metric(pair['candidate']):>10}", "text"),
            (f"{f.signed(difference):>11}", colour),
        ]
        lines.append(Line(tuple(spans)))
    return [*lines, BLANK]


def _rates(row: RetuneRow) -> list[Line]:
    """The bracket, a line a rate; a side's best is starred."""
    if not row["tried"]:
        return []
    means = {(each["side"], each["factor"]): each["mean"] for each in row["tried"]}
    lines = [
        Line(
            ((f"{'rate':>6}{'trunk':>11}{'this':>11}  mean of {f.plural(len(row['tuning']), 'tuning seed')}", "faint"),)
        )
    ]
    for factor in row["factors"]:
        cells = [
            f"{_cell(means.get((side, factor)))}{'*' if best == factor else ' '}"
            for side, best in (("trunk", row["trunk_best"]), ("experiment", row["best"]))
        ]
        lines.append(Line(((f"{f'{factor:g}x':>6}{''.join(f'{each:>11}' for each in cells)}", "text"),)))
    return lines


def _cell(mean: float | None) -> str:
    return "failed" if mean is None else f.metric(mean)
