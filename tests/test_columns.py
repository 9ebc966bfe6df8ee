"""What a researcher's shards write reaches the columns as it was written, however the lines and batches are cut."""

from __future__ import annotations

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.history.columns import PointColumns, Tally, tally
from engine.history.tables import number
from engine.watch.parse import JsonLines
from tests.history_samples import Point

NUMBERS = st.floats() | st.integers(-(10**400), 10**400)
NAMES = st.sampled_from(["loss", "norm", "lr", "lo\ud800ss", "summary", "t"])
LINES = st.lists(st.tuples(st.integers(0, 50), st.dictionaries(NAMES, NUMBERS, max_size=4)), max_size=20)


def points(lines: list[tuple[int, dict[str, float]]]) -> list[Point]:
    return [Point(step, None if step % 3 else float(step), values) for step, values in lines]


def same(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))


@settings(deadline=None)
@given(LINES, st.integers(0, 20))
def test_columns_hold_every_value_in_the_order_it_was_written(
    lines: list[tuple[int, dict[str, float]]], cut: int
) -> None:
    columns = PointColumns()
    assert columns.add("a", points(lines[:cut])) + columns.add("a", points(lines[cut:])) == 0
    wanted = [
        (step, None if step % 3 else float(step), name.replace("\ud800", "?"), value)
        for step, values in lines
        for name, value in values.items()
    ]
    found = columns.table().to_pylist()
    assert [(row["step"], row["t"], row["metric"]) for row in found] == [row[:3] for row in wanted]
    for row, (*_, value) in zip(found, wanted, strict=True):
        assert same(row["value"], number(value))
        assert row["shard"] == "a"


@given(st.lists(st.floats(), min_size=1, max_size=30), st.integers(0, 30))
def test_a_tally_of_two_parts_is_that_of_the_whole(values: list[float], cut: int) -> None:
    cut = min(cut, len(values) - 1)
    whole = tally(values, 9)
    parts = tally(values[cut:], 9)
    parts = tally(values[:cut], 1).then(parts) if cut else parts
    finite = [value for value in values if math.isfinite(value)]
    assert (whole.step, whole.low, whole.count) == (9, min(finite, default=None), len(values))
    assert whole.nonfinite == len(values) - len(finite)
    assert same(whole.last, values[-1])
    assert (parts.step, parts.low, parts.count, parts.nonfinite) == (9, whole.low, whole.count, whole.nonfinite)
    assert same(parts.last, whole.last)


def test_a_shard_that_changes_its_names_from_line_to_line_loses_none() -> None:
    columns = PointColumns()
    lines = [(step, {"loss": 2.0, "val": 1.0} if step % 10 == 0 else {"loss": 2.0}) for step in range(100)]
    columns.add("a", points(lines))
    assert columns.tallies[("a", "loss")] == Tally(2.0, 99, 2.0, 100, 0)
    assert columns.tallies[("a", "val")] == Tally(1.0, 90, 1.0, 10, 0)


JSON = (
    st.floats() | st.integers() | st.booleans() | st.none() | st.text(max_size=3) | st.just({"a": 1.0}) | st.just([1])
)
ROWS = st.lists(st.fixed_dictionaries({"step": st.integers(-2, 2**54) | JSON, "loss": JSON}, optional={
    "t": JSON, "summary": JSON, "norm": st.floats() | JSON}), min_size=1, max_size=12)  # fmt: skip


@given(ROWS)
def test_names_that_were_seen_before_change_nothing_about_a_line(rows: list[dict[str, object]]) -> None:
    """One parser that knows the names by then, and a new one for every line."""
    good = [{"step": 1, "loss": 1.0}, {"step": 1, "loss": 1.0, "t": 5.0}, {"step": 1, "loss": 1.0, "norm": 1.0}]
    lines = [json.dumps(row).encode() + b"\n" for row in [*good, *rows]]
    known = JsonLines(["norm"])
    for line in lines:
        once, again = JsonLines(["norm"]).feed(line), known.feed(line)
        assert repr(once) == repr(again)
