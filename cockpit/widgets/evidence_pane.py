"""What the verdict on an experiment rests on, as a page: the line, the pairs as a plot and a table, what it means, and where
each figure comes from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.text import clean_line
from engine.types import ExperimentRow

from .. import format as f
from ..bars import bar_rows
from ..evidence import OnBasis, Source, explained, further_of, headline, on_bases, sources
from ..model import ReadModel
from ..sources import changes
from ..summary import glyph, word_of
from .forest import Mark, forest
from .lines import BLANK, Line, Lines, Span, rule
from .retuned import retuned

if TYPE_CHECKING:
    from engine.judge.further import Change

WIDEST = 110
"""Columns that a paragraph takes at most, and a plot."""


def page(model: ReadModel, row: ExperimentRow, width: int) -> list[Line]:
    """All of it as lines of at most `width` cells."""
    width = min(width, WIDEST)
    word = word_of(row)
    sign, colour = glyph(word)
    head = f.wrap(headline(model, row, word), width - 2)
    lines = [Line(((f"{sign} " if at == 0 else "  ", colour), (each, colour))) for at, each in enumerate(head)]
    lines += _prose(row["hypothesis"] or row["branch"], width, "strong")
    if row["verdict"]:
        lines += _prose(row["verdict"]["sentence"], width)
    plot = forest(_marks(row, colour), width)
    if plot:
        lines += [BLANK, *plot]
    lines += [BLANK, *_table(sources(model, row), width), BLANK]
    lines += _bases(on_bases(row))
    lines += _by_source(model, row, width)
    lines += _further(further_of(model, row))
    lines += [line for each in model.retunes_of(row["id"]) for line in retuned(each, width)]
    for each in explained(model, row):
        lines += _prose(each, width, "dim")
    return [*lines, BLANK, *_origin(model, row, width)]


def _prose(text: str, width: int, colour: str = "text") -> list[Line]:
    return [Line(((each, colour),)) for each in f.wrap(text, width)]


def _marks(row: ExperimentRow, colour: str) -> list[Mark]:
    pairs = [(pair["seed"], value) for pair in row["pairs"] if (value := pair["difference"]) is not None]
    marks = [Mark(f"seed {seed}", value, colour="good" if value > 0 else "bad") for seed, value in pairs]
    verdict = row["verdict"]
    if verdict and verdict["effect"] is not None:
        marks.append(Mark("mean", verdict["effect"], verdict["lo"], verdict["hi"], colour))
    return marks


def _table(found: list[Source], width: int) -> list[Line]:
    """Seed, both results, the difference, and the rows of `shards` that they are of, where there is room for those."""
    head = f"{'seed':>4}{'trunk':>10}{'this':>10}{'better by':>11}"
    rows = [f"{each.trunk or 'gone'} {each.candidate or 'gone'}" for each in found]
    long = bool(rows) and width >= len(head) + 2 + max(map(len, rows))
    lines = [Line(((head + ("  rows of shards" if long else ""), "faint"),))]
    for each, where in zip(found, rows, strict=True):
        pair, difference = each.pair, each.pair["difference"]
        colour = "faint" if difference is None else "good" if difference > 0 else "bad"
        spans: list[Span] = [
            (f"{pair['seed']:>4}{f.metric(pair['trunk']):>10}{f.metric(pair['candidate']):>10}", "text"),
            (f"{f.signed(difference):>11}", colour),
        ]
        lines.append(Line((*spans, (f"  {where}", "faint")) if long else tuple(spans)))
    return lines


def _bases(found: list[OnBasis]) -> list[Line]:
    """What it took of tokens, FLOPs and time, and what its effect is at equal amounts."""
    if not found:
        return []
    lines = [Line(((f"{'at equal':<10}{'it took':>10}{'better by':>11}", "faint"),))]
    for each in found:
        colour = "faint" if each.effect is None else "good" if each.effect > 0 else "bad"
        spans: list[Span] = [
            (f"{each.basis:<10}{f'{each.ratio:.3g}x':>10}", "text"),
            (f"{f.signed(each.effect):>11}", colour),
            ("  the verdict is on this" if each.judged else "", "faint"),
        ]
        lines.append(Line(tuple(spans)))
    return [*lines, BLANK]


def _by_source(model: ReadModel, row: ExperimentRow, width: int) -> list[Line]:
    """What the verdict comes to on each data source, the worst first, as bars around zero."""
    if not row["verdict"] or not row["baseline"] or model.lab is None:
        return []
    mine, theirs = model.shards_of(row["id"]), model.shards_of(row["baseline"])
    found = changes(mine, theirs, row["verdict"]["rung"], model.lab["direction"])
    items = [(clean_line(name), gain) for name, gain in found.items() if math.isfinite(gain)]
    if not items:
        return []
    items.sort(key=lambda pair: pair[1])
    # the scale reaches to both sides, so that a small loss and a small gain look alike
    widest = max(abs(gain) for _, gain in items)
    rows = bar_rows(items, min(width, 72), "better by", span=[-widest, widest])
    return [Line((("by source, better by", "faint"),)), *(Line(each) for each in rows), BLANK]


def _further(found: list[Change]) -> list[Line]:
    """The lab's further evaluations: by how much each got better, with its own noise."""
    if not found:
        return []
    wide = max(len("evaluation"), *(len(each.name) for each in found)) + 1
    lines = [Line(((f"{'evaluation':<{wide}}{'better by':>10}  95 % interval", "faint"),))]
    for each in found:
        colour = "bad" if each.worse else "good" if each.lo is not None and each.lo > 0 else "text"
        known = each.lo is not None
        between = f"  [{f.signed(each.lo)}, {f.signed(each.hi)}]" if known else "  its noise is not known"
        spans: list[Span] = [
            (f"{each.name:<{wide}}", "text"),
            (f"{f.signed(each.effect):>10}", colour),
            (f"{between}  {f.plural(each.n, 'seed')}", "faint"),
        ]
        lines.append(Line(tuple(spans)))
    return [*lines, BLANK]


def _origin(model: ReadModel, row: ExperimentRow, width: int) -> list[Line]:
    trunk = model.experiments.get(row["baseline"] or "")
    rung = row["verdict"]["rung"] if row["verdict"] else row["rung"]
    lines = [
        f"this   {row['id']} at commit {(row['commit'] or f.NOTHING)[:12]}, {row['branch']}",
        f"trunk  {row['baseline'] or f.NOTHING} at commit {((trunk['commit'] if trunk else None) or f.NOTHING)[:12]}",
        f"rung {rung}; `cockpit sql \"from verdicts where experiment = '{row['id']}'\"` has every verdict on the way",
    ]
    return [line for each in lines for line in _prose(each, width, "faint")]


class EvidencePane(Lines):
    """The page; `top` is the first line that is shown."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.top = 0
        self._page: list[Line] = []
        self._of = ""

    def scroll_by(self, lines: int) -> None:
        """Down is positive."""
        self.top = min(max(self.top + lines, 0), max(len(self._page) - self._height, 0))

    @property
    def _height(self) -> int:
        return max(self.size.height - 1, 1)

    def redraw(self, model: ReadModel, row: ExperimentRow, *, focused: bool) -> None:
        """Show the page of an experiment, from its top when it is another one than before."""
        width = max(self.size.width, 1)
        if row["id"] != self._of:
            self._of, self.top = row["id"], 0
        self._page = page(model, row, width)
        self.scroll_by(0)
        count = len(self._page)
        where = f"{self.top + 1}–{min(self.top + self._height, count)} of {count}" if count > self._height else ""
        head = rule(f"evidence {row['id']}", width, where or "esc closes this", focused=focused)
        self.show([head, *self._page[self.top : self.top + self._height]])
