"""The runs table: one line an experiment or shard, painted one by one; only lines that changed go over the wire.

At an edge it moves by half a page, not by a line: a scroll repaints everything, a cursor move two lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import format as f
from ..model import ReadModel
from ..summary import Facts, RowKey, experiment_facts, full, glyph, shard_facts
from .lines import Line, Lines, Span


@dataclass(frozen=True, slots=True)
class Columns:
    """Widths of the columns, 0 for one that is not shown."""

    state: int
    what: int
    steps: int
    metric: int
    effect: int
    speed: int
    eta: int
    spark: int
    weight: int = 0
    cost: int = 0
    place: int = 0

    @property
    def long_interval(self) -> bool:
        return self.effect > 16


def columns(width: int, *, alone: bool = False, weighed: bool = False, place: int = 0) -> Columns:
    """Which columns fit: the hypothesis keeps 24 cells, the least needed go first. `alone`: no curves stand beside.
    `weighed`: experiments are judged by evidence, so verdict, evidence and cost stay, and the hypothesis makes room.
    `place`: cells that nodes and GPUs of a cluster take, 0 where no shard is in sight that runs on one."""
    spark = 10 if alone else 0
    state, steps, metric, effect, speed, eta = 10, 12, 8, 24, 7, 6
    weight, cost = (7, 6) if weighed else (0, 0)
    name = 3 + 8 + 1
    order = ("", "speed", "interval", "place", "eta", "state", "bar", "spark")
    if weighed:
        short = ("interval", "place", "eta") if place else ("eta", "interval")
        order = ("", "speed", "bar", "spark", *short, "metric")
    for drop in order:
        place = 0 if drop == "place" else place
        speed = 0 if drop == "speed" else speed
        effect = 14 if drop == "interval" else effect
        eta = 0 if drop == "eta" else eta
        state = 0 if drop == "state" else state
        steps = 5 if drop == "bar" else steps
        metric = 0 if drop == "metric" else metric
        spark = 0 if drop == "spark" else spark
        taken = name + sum(
            each + 1 for each in (state, steps, metric, effect, speed, eta, spark, weight, cost, place) if each
        )
        if width - taken >= 24:
            break
    return Columns(state, max(width - taken, 8), steps, metric, effect, speed, eta, spark, weight, cost, place)


def heading(cols: Columns, metric_name: str) -> Line:
    """Names of the columns."""
    cells = [f.fit("", 3), f.fit("id", 8), " "]
    if cols.state:
        cells.append(f.fit("state", cols.state) + " ")
    if cols.place:
        cells.append(f.fit("node:gpu", cols.place) + " ")
    cells.append(f.fit("hypothesis", cols.what))
    for width, name in (
        (cols.spark, "loss"),
        (cols.steps, "seeds"),
        (cols.metric, metric_name),
        (cols.effect, "better than trunk by" if cols.long_interval else "vs trunk"),
        (cols.weight, "E/bar"),
        (cols.cost, "cost"),
        (cols.speed, "tok/s"),
        (cols.eta, "left"),
    ):
        if width:
            cells.append(" " + f.fit(name, width, right=name not in ("seeds", "loss")))
    return Line((("".join(cells), "faint"),))


def row_line(facts: Facts, cols: Columns, *, depth: int = 0, spark: str = "", mark: int | None = None) -> Line:
    """One line of the table. `mark` is the number of its curve's colour."""
    sign, colour = glyph(facts.word)
    colour = "faint" if facts.past else colour
    body = "faint" if facts.past else "dim" if depth else "text"
    spans: list[Span] = [
        ("▌" if mark is not None else " ", f"curve{mark}" if mark is not None else body),
        (sign if not depth else " ", colour),
    ]
    if depth:
        spans += [(" └ ", "faint"), (sign + " ", colour), (f.fit(facts.name, 4), body), (" ", body)]
    else:
        spans += [(" " + f.fit(facts.name, 8), "accent" if facts.trunk else "strong"), (" ", body)]
    if cols.state:
        spans.append((f.fit(facts.word, cols.state) + " ", colour if facts.word != "finished" else "dim"))
    if cols.place:
        spans.append((_end_of(facts.place, cols.place) + " ", "faint" if facts.past else "dim"))
    spans.append((f.fit(facts.what, cols.what), body))
    if cols.spark:
        spans.append((" " + f.fit(spark, cols.spark), "run" if facts.word == "running" else "faint"))
    spans += _progress(facts, cols.steps)
    if cols.metric:
        spans.append((" " + f.fit(f.metric(facts.metric), cols.metric, right=True), body if facts.metric else "faint"))
    spans += _effect(facts, cols)
    if cols.weight:
        spans.append((" " + f.fit(facts.weight, cols.weight, right=True), "dim"))
        spans.append((" " + f.fit(f.duration(facts.cost_s), cols.cost, right=True), _faded(facts.cost_s)))
    if cols.speed:
        spans.append((" " + f.fit(f.count(facts.tokens_per_s), cols.speed, right=True), _faded(facts.tokens_per_s)))
    if cols.eta:
        spans.append((" " + f.fit(f.eta(facts.eta_s), cols.eta, right=True), _faded(facts.eta_s)))
    return Line(tuple(spans))


def _end_of(text: str, width: int) -> str:
    """The text in so many cells; of a longer one the end, in which names of nodes differ."""
    return f.fit(text if f.width_of(text) <= width else "…" + text[-(width - 1) :], width)


def _faded(value: float | None) -> str:
    return "faint" if value is None else "dim"


def _progress(facts: Facts, width: int) -> list[Span]:
    label = facts.steps or (f"{facts.done:.0%}" if facts.done is not None and facts.done < 1 else "")
    spans: list[Span] = [(" " + f.fit(label, 5), "dim")]
    if width > 5:
        if (
            facts.done is None
            or (facts.done >= 1 and facts.word != "running")
            or facts.word not in ("running", "queued")
        ):
            spans.append((" " * (width - 5), "dim"))
        else:
            full, rest = f.bar(facts.done, width - 5)
            spans += [(full, "run"), (rest, "rule")]
    return spans


def _effect(facts: Facts, cols: Columns) -> list[Span]:
    if facts.trunk or facts.effect is None:
        return [(" " + f.fit("" if facts.trunk else f.NOTHING, cols.effect, right=True), "faint")]
    text = f.interval(facts.effect, facts.lo, facts.hi, short=not cols.long_interval)
    colour = {"solid": "good", "merged": "good", "harmful": "bad", "barred": "warn"}.get(
        facts.word, "text" if facts.lo is not None else "dim"
    )
    return [(" " + f.fit(text, cols.effect, right=True), colour)]


class RunsTable(Lines):
    """The list with its cursor. The screen gives it keys in order; it formats only what is visible."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.keys: list[RowKey] = []
        self.cursor: RowKey | None = None
        self.top = 0
        self.marks: dict[str, int] = {}
        self.alone = False
        self.weighed = False
        self.place = 0

    @property
    def index(self) -> int:
        """Where the cursor is; a row that went away leaves it at the nearest place."""
        if self.cursor in self.keys:
            return self.keys.index(self.cursor)
        if self.cursor is not None:
            parent = RowKey(self.cursor.experiment)
            if parent in self.keys:
                return self.keys.index(parent)
        return 0

    @property
    def rows_visible(self) -> int:
        return max(self.size.height - 1, 1)

    def set_keys(self, keys: Sequence[RowKey]) -> None:
        """Take a new order; the cursor stays on its row, not on its place."""
        where = self.index
        self.keys = list(keys)
        if self.cursor not in self.keys:
            parent = RowKey(self.cursor.experiment) if self.cursor else None
            if parent is not None and parent in self.keys:
                self.cursor = parent
            else:
                self.cursor = self.keys[min(where, len(self.keys) - 1)] if self.keys else None

    def move(self, by: int) -> None:
        """Move the cursor by so many rows."""
        if self.keys:
            self.cursor = self.keys[min(max(self.index + by, 0), len(self.keys) - 1)]

    def scrolled(self) -> int:
        """First visible row: half a page further when the cursor would leave the window."""
        page, where = self.rows_visible, self.index
        if where < self.top:
            self.top = max(where - page // 2, 0)
        elif where >= self.top + page:
            self.top = where - page // 2
        self.top = min(self.top, max(len(self.keys) - page, 0))
        return self.top

    def redraw(self, model: ReadModel, empty: Sequence[Line]) -> None:
        """Format what is visible and show it; `empty` is said when there is no row at all."""
        width = self.size.width
        cols = columns(width, alone=self.alone, weighed=self.weighed, place=0 if self.alone else self.place)
        lines = [heading(cols, model.lab["metric"] if model.lab else "metric")]
        top = self.scrolled()
        for key in self.keys[top : top + self.rows_visible]:
            made = self._line(model, key, cols)
            lines.append(made.on("cursor") if key == self.cursor else made)
        self.show(lines if self.keys else [*lines, *empty])

    def _line(self, model: ReadModel, key: RowKey, cols: Columns) -> Line:
        spark = ""
        if key.shard is not None and key.shard in model.shards:
            facts = shard_facts(model, model.shards[key.shard])
            if cols.spark:
                spark = _spark(model, key.shard, cols.spark)
            return row_line(facts, cols, depth=1, spark=spark)
        row = model.experiments[key.experiment]
        if cols.spark:
            shards = model.shards_of(key.experiment)
            spark = next((s for shard in reversed(full(shards)) if (s := _spark(model, shard["id"], cols.spark))), "")
        return row_line(experiment_facts(model, row), cols, spark=spark, mark=self.marks.get(key.experiment))


def _spark(model: ReadModel, shard: str, width: int) -> str:
    curve = model.curve_of(shard)
    return f.sparkline(curve[1], width) if curve else ""
