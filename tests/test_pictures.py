"""A researcher draws what a query answered: predicted against measured, the frontier over time, bars for each source."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from cockpit.axes import axis, column, labels
from cockpit.bars import bar_rows
from cockpit.drawing import KINDS, NoPicture, picture, picture_text
from cockpit.format import width_of
from cockpit.plotting import Choice, choose, guess, plot_text, words_of
from cockpit.themes import Palette, load_all
from cockpit.widgets.picture import Picture

ROOT = Path(__file__).resolve().parent.parent
BRAILLE = {chr(0x2800 + bits) for bits in range(1, 256)}

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
CELLS = st.one_of(
    st.none(), FLOATS, st.integers(), st.booleans(), st.text(max_size=12), st.sampled_from(["NaN", "-Infinity", "1e400"]),
    st.datetimes().map(dt.datetime.isoformat), st.lists(st.integers(), max_size=2),
)  # fmt: skip
NUMBERS = st.one_of(st.none(), FLOATS, st.integers(-(2**70), 2**70))
SIZES = st.tuples(st.integers(0, 100), st.integers(0, 40))


def boxed(rows: list[tuple[tuple[str, str], ...]], width: int, height: int) -> None:
    assert len(rows) <= height
    for row in rows:
        text = "".join(text for text, _ in row)
        assert width_of(text) <= width
        assert not any(char in text for char in "\x1b\n\r\t")


# --- whatever the data, whatever the box


@given(st.sampled_from(KINDS), st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=30), SIZES, st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_answer_stays_in_any_box(
    kind: str, rows: list[tuple[object, ...]], size: tuple[int, int], by: bool
) -> None:
    drawn: list[tuple[tuple[str, str], ...]] = []
    with contextlib.suppress(NoPicture):  # names where numbers are needed
        drawn = picture(kind, ["x", "y", "z"], rows, 0, 1, 2 if by else None, *size)
    boxed(drawn, *size)


@given(st.sampled_from(KINDS), st.lists(st.tuples(NUMBERS, NUMBERS), max_size=40), SIZES)
@settings(max_examples=200, deadline=None)
def test_any_numbers_stay_in_any_box_and_what_is_none_is_counted(
    kind: str, rows: list[tuple[object, ...]], size: tuple[int, int]
) -> None:
    width, height = size
    drawn = picture(kind, ["x", "y"], rows, 0, 1, None, width, height)
    boxed(drawn, width, height)
    if kind == "bars" or width < 60 or height < 8:
        return
    good = sum(
        all(value is not None and math.isfinite(value) for value in cast("tuple[float, ...]", row)) for row in rows
    )
    text = "\n".join("".join(text for text, _ in row) for row in drawn)
    assert f"  {good} point" in text
    assert (f"{len(rows) - good} row" in text) == (good < len(rows))
    assert bool(set(text) & BRAILLE) == bool(good), "points are drawn where there are any"


@given(st.lists(FLOATS.filter(math.isfinite), min_size=1), st.integers(1, 200))
@settings(deadline=None)
def test_every_value_has_a_place_within_the_axis(values: list[float], cells: int) -> None:
    found = axis(values)
    assert found is not None
    places = [found.place(value, cells) for value in sorted(values)]
    assert all(0 <= place < cells for place in places)
    assert places == sorted(places), "larger is never left of smaller"
    marks = found.marks(8)
    assert len(marks) <= 8
    assert all(found.holds(at) for at, _ in marks)


@given(
    st.lists(st.tuples(st.text("abc", min_size=1, max_size=40), st.floats(-1e6, 1e6)), max_size=12), st.integers(1, 120)
)
@settings(deadline=None)
def test_bars_share_one_line_at_zero(items: list[tuple[str, float]], width: int) -> None:
    rows = bar_rows(items, width, "gain")
    assert len(rows) == len(items)
    if width < 60:
        return
    texts = ["".join(text for text, _ in row) for row in rows]
    zeros = {text.index("│") for text in texts}
    assert len(zeros) <= 1
    for text, (_, value) in zip(texts, items, strict=True):
        left, right = text.split("│")
        assert ("━" in left or "╺" in left) == (value < 0)
        assert ("━" in right or "╸" in right) == (value > 0)


# --- what a picture says


def test_predicted_against_measured_shows_where_both_are_equal_and_what_was_left_out() -> None:
    rows = [[0.002 * n, 0.0015 * n] for n in range(-3, 9)] + [[None, 0.01], [0.01, "NaN"]]
    text = picture_text("scatter", ["predicted", "measured"], rows, 0, 1, None, 70, 20)
    assert "↑ measured  → predicted  12 points, 2 rows without a number" in text
    assert "┄ equal" in text
    assert "-0.005┤" in text
    other = picture_text("scatter", ["lr", "effect"], [[300 + n, 0.001 * n] for n in range(9)], 0, 1, None, 70, 20)
    assert "equal" not in other, "columns of different units are not compared"


def test_a_frontier_is_a_step_line_with_audited_beside_claimed() -> None:
    rows = [
        ["2026-03-01T00:00:00", 1.0, "claimed"], ["2026-03-02T00:00:00", 0.9, "claimed"],
        ["2026-03-09T00:00:00", 0.8, "claimed"],
        ["2026-03-01T00:00:00", 1.0, "audited"], ["2026-03-05T00:00:00", 0.95, "audited"],
    ]  # fmt: skip
    drawn = picture("lines", ["at", "best", "kind"], rows, 0, 1, 2, 60, 16)
    text = "\n".join("".join(text for text, _ in row) for row in drawn)
    assert "claimed" in text
    assert "audited" in text
    assert "03-03" in text or "03-04" in text
    colours = {colour for row in drawn for text, colour in row if set(text) & BRAILLE}
    assert colours == {"curve0", "curve1"}
    steps = picture_text("steps", ["n", "v"], [[0, 0], [10, 1]], 0, 1, None, 40, 12)
    slope = picture_text("lines", ["n", "v"], [[0, 0], [10, 1]], 0, 1, None, 40, 12)
    rows_with_dots = [sum(bool(set(line) & BRAILLE) for line in text.split("\n")) for text in (steps, slope)]
    assert rows_with_dots[0] == rows_with_dots[1]
    assert max(len(set(line) & BRAILLE) and sum(c in BRAILLE for c in line) for line in steps.split("\n")) > 30


def test_what_was_audited_stands_beside_what_was_claimed() -> None:
    columns = ["merge", "claimed_so_far", "audited_so_far"]
    drawn = picture("lines", columns, [[1, 0.01, None], [2, 0.02, 0.012], [3, 0.05, None]], 0, 1, None, 60, 16)
    text = "\n".join("".join(text for text, _ in row) for row in drawn)
    assert "3 points" in text
    assert "claimed_so_far" in text
    assert "audited_so_far" in text
    assert {colour for row in drawn for text, colour in row if set(text) & BRAILLE} == {"curve0", "curve1"}


def test_sources_lose_to_the_left_and_gain_to_the_right() -> None:
    rows = [["web", 0.012], ["code", -0.004], ["maths", None]]
    drawn = picture("bars", ["source", "gain"], rows, 0, 1, None, 60, 10)
    assert [("good" in {c for _, c in row}, "bad" in {c for _, c in row}) for row in drawn[1:]] == [
        (True, False),
        (False, True),
    ]
    text = picture_text("bars", ["source", "gain"], rows, 0, 1, None, 60, 10)
    assert "1 row without a number" in text
    code = next(line for line in text.split("\n") if line.startswith("code"))
    assert "━" in code.split("│")[0]
    assert "−.0040" in code


def test_more_bars_than_rows_are_counted_not_dropped_silently() -> None:
    text = picture_text("bars", ["k", "n"], [[f"k{n}", n] for n in range(50)], 0, 1, None, 60, 10)
    assert len(text.split("\n")) == 10
    assert text.endswith("… and 42 more bars")


def test_of_a_million_rows_an_even_share_is_drawn_and_said() -> None:
    text = picture_text("scatter", ["a", "b"], [[n % 97, n % 89] for n in range(1_000_000)], 0, 1, None, 90, 20)
    assert text.split("\n")[0] == "↑ b  → a  10000 points, 1 in 100 of 1,000,000 rows"


def test_labels_from_a_query_reach_no_terminal_unclean() -> None:
    rows = [["\x1b]52;c;AAAA\x07\nnext", 1.0], ["\u202eevil", 2.0]]
    text = picture_text("bars", ["\x1b[31mk", "n\x1b"], rows, 0, 1, None, 70, 10)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text.split("\n")) == 3
    series = picture_text("lines", ["x", "y\x07", "s"], [[1, 2, "\x1b[2J"], [2, 3, None]], 0, 1, 2, 70, 14)
    assert "\x1b" not in series
    assert "\x07" not in series
    assert "(none)" in series


@pytest.mark.parametrize(
    ("kind", "x", "y", "says"),
    [
        ("pie", 0, 1, "choose scatter"),
        ("lines", 0, 7, "no column 7"),
        ("scatter", 1, 0, "name holds no numbers"),
        ("scatter", 0, 1, "name holds no numbers"),
    ],
)
def test_what_makes_no_picture_is_refused_with_what_to_choose(kind: str, x: int, y: int, says: str) -> None:
    with pytest.raises(NoPicture, match=says):
        picture(kind, ["name", "value"], [["a", 1.0], ["b", 2.0]], x, y)


def test_columns_are_numbers_times_or_names() -> None:
    assert column([1, None, "NaN", 2.5]).values == [1.0, None, None, 2.5]
    assert column(["2026-01-01", "2026-01-02T00:00:00+00:00"]).kind == "time"
    assert column(["a", "b"]).kind == "name"
    assert column([None, "NaN"]).known == []


def test_labels_of_an_axis_are_as_long_as_they_must_be() -> None:
    assert labels([0.0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"]
    assert labels([0.0, 0.0025, 0.005]) == ["0.0000", "0.0025", "0.0050"]
    assert labels([0.0, 50_000.0, 100_000.0]) == ["0", "50.0k", "100k"]
    assert labels([100_000.0, 100_010.0]) == ["100000", "100010"]


# --- on the screen


class Sheet(App[None]):
    def __init__(self, depth: str) -> None:
        super().__init__()
        themes, _ = load_all()
        self.palette = Palette(themes["ansi" if depth == "16" else "dusk"], depth)

    def compose(self) -> ComposeResult:
        yield Picture(id="picture")


@pytest.mark.parametrize("depth", ["truecolor", "256", "16"])
async def test_the_widget_draws_at_its_size_and_says_what_it_cannot_draw(depth: str) -> None:
    app = Sheet(depth)
    async with app.run_test(size=(70, 20)) as pilot:
        pane = app.query_one(Picture)
        pane.styles.height = "1fr"
        assert [line.text for line in pane.lines] == []
        rows = [[n / 10, n / 11] for n in range(12)]
        pane.show("scatter", ["predicted", "measured"], rows, 0, 1, None, "what Claude gets right")
        await pilot.pause()
        assert "what Claude gets right" in pane.lines[0].text
        assert len(pane.lines) == 20
        painted = "".join(segment.text for segment in pane.render_line(10))
        assert len(painted) == 70
        await pilot.resize_terminal(44, 12)
        await pilot.pause()
        assert len(pane.lines) <= 12
        assert all(width_of(line.text) <= 44 for line in pane.lines)
        pane.show("scatter", ["name", "n"], [["a", 1]], 0, 1, None, "names")
        await pilot.pause()
        assert "name holds no numbers" in pane.lines[1].text
        pane.clear()
        await pilot.pause()
        assert not pane.lines


def test_drawing_needs_no_terminal_library() -> None:
    code = "import sys, json, cockpit.drawing; print(json.dumps(sorted(m.partition('.')[0] for m in sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"textual", "duckdb", "numpy"} & set(json.loads(done.stdout))


# --- which picture


@pytest.mark.parametrize(
    ("words", "choice"),
    [
        ("scatter predicted measured", Choice("scatter", 1, 2)),
        ("lines 1 measured who", Choice("lines", 0, 2, 3)),
        ("bars who 3", Choice("bars", 3, 2)),
    ],
)
def test_a_picture_is_asked_for_by_names_or_numbers_of_columns(words: str, choice: Choice) -> None:
    assert choose(words.split(), ["at", "predicted", "measured", "who"]) == choice


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "write scatter X Y"),
        ("pie a b", "write scatter X Y"),
        ("scatter a", "two columns"),
        ("bars a b a", "takes two columns"),
        ("scatter a nothing", "no column nothing: there are a, b"),
        ("scatter a 3", "no column 3"),
        ("scatter a 0", "no column 0"),
    ],
)
def test_a_picture_that_cannot_be_is_refused_with_what_to_write(words: str, says: str) -> None:
    with pytest.raises(NoPicture, match=says):
        choose(words.split(), ["a", "b"])


def test_the_header_of_a_question_says_its_picture() -> None:
    assert words_of({"kind": "lines", "x": "at", "y": "n", "series": None}) == ["lines", "at", "n"]
    assert words_of({"kind": "bars", "label": "who", "value": "n"}) == ["bars", "who", "n"]
    assert words_of(None) == []


def test_an_answer_of_which_nothing_is_said_is_drawn_as_it_looks() -> None:
    assert guess(["at", "n"], [["2026-01-01", 1]]) == Choice("lines", 0, 1)
    assert guess(["loss", "step"], [[1.0, 1], [0.9, 2]]) == Choice("lines", 1, 0)
    assert guess(["who", "n"], [["ada", 1]]) == Choice("bars", 0, 1)
    assert guess(["a", "b"], [[1, 2]]) == Choice("scatter", 0, 1)
    assert guess(["a"], [["x"]]) is None
    assert guess(["a"], [[1]]) is None
    assert "ada" in plot_text([], ["who", "n"], [["ada", 1]])
    with pytest.raises(NoPicture, match="choose some"):
        plot_text([], ["who"], [["ada"]])
