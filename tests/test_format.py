"""Numbers read the same everywhere, columns stay straight, and nothing missing ever looks like a zero."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cockpit import format as f

ANY = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.01341, "2.0134"), (0.97123, "0.9712"), (12.3456, "12.346"), (345.67, "345.7"), (None, "·"), (3e-5, "3.00e-05")],
)
def test_metric(value: float | None, text: str) -> None:
    assert f.metric(value) == text


def test_a_failed_shard_shows_no_number_at_all() -> None:
    for show in (f.metric, f.signed, f.count, f.duration, f.eta):
        assert show(None) == f.NOTHING
    assert f.interval(None, None, None) == f.NOTHING


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "+.0123"), (-0.004, "−.0040"), (1.25, "+1.250"), (-12.5, "−12.50"), (0.0, "+.0000"), (1234.0, "+1234")],
)
def test_signed(value: float, text: str) -> None:
    assert f.signed(value) == text


def test_interval_long_and_short() -> None:
    assert f.interval(0.0123, 0.0082, 0.0164) == "+.0123 [+.0082, +.0164]"
    assert f.interval(0.0123, 0.0082, 0.0190, short=True) == "+.0123 ±.0067"
    assert f.interval(0.0123, None, None) == "+.0123"


@pytest.mark.parametrize(
    ("value", "text"),
    [(812, "812"), (51000, "51.0k"), (999_900, "1.00M"), (1_240_000, "1.24M"), (614_400, "614k"), (0, "0")],
)
def test_count(value: float, text: str) -> None:
    assert f.count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (42.4, "42s"),
        (59.7, "1m"),
        (61, "1m"),
        (150, "2m"),
        (3600, "1h00m"),
        (3900, "1h05m"),
        (273600, "3d04h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert f.duration(seconds) == text


@given(ANY)
@settings(max_examples=200)
def test_numbers_never_fail_and_stay_short(value: float) -> None:
    for show in (f.metric, f.signed, f.count, f.duration, f.eta):
        assert show(value)
    assert len(f.count(value % 1e12 if math.isfinite(value) else value)) <= 5


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Cs", "Mn", "Me", "Cn", "Co", "Zl", "Zp"]))


@given(TEXT, st.integers(0, 40), st.booleans())
@settings(max_examples=200)
def test_fit_is_exactly_as_wide_as_asked(text: str, width: int, right: bool) -> None:
    assert f.width_of(f.fit(text, width, right=right)) == width


@given(TEXT, st.integers(4, 40))
@settings(max_examples=200)
def test_wrap_keeps_every_word_and_no_line_is_too_wide(text: str, width: int) -> None:
    lines = f.wrap(text, width)
    assert all(f.width_of(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_wrap_says_that_it_cut() -> None:
    assert f.wrap("one two three four five six", 9, most=2) == ["one two", "three …"]


@given(st.lists(ANY, max_size=80), st.integers(0, 30))
@example([1.7976931348623157e308, -9.9792015476736e291], 1)
@settings(max_examples=100)
def test_sparkline_has_its_width(values: list[float], width: int) -> None:
    assert len(f.sparkline(values, width)) == width


def test_sparkline_falls_with_the_loss() -> None:
    first, last = f.sparkline([4.0, 3.0, 2.0, 1.0], 2)
    assert bin(ord(first) - 0x2800).count("1") > bin(ord(last) - 0x2800).count("1")
    assert f.sparkline([math.nan, math.nan], 2) == "  "


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(1, 8))
@settings(max_examples=100)
def test_ticks_lie_inside_and_are_few(low: float, span: float, most: int) -> None:
    found = f.ticks(low, low + span, most)
    assert len(found) <= most
    assert all(low - span * 1e-6 - 1e-6 <= tick <= low + span * 1.000001 + 1e-6 for tick in found)


def test_ticks_are_round() -> None:
    assert f.ticks(1.93, 3.07, 5) == (2.0, 2.25, 2.5, 2.75, 3.0)


@given(ANY, st.integers(0, 20))
@settings(max_examples=100)
def test_a_bar_is_as_wide_as_asked(done: float, width: int) -> None:
    full, rest = f.bar(done, width)
    assert len(full + rest) == width
