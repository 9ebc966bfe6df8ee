"""A grid over a result that is not here: cells as text, columns that fit, pages that come in time; and files of results."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cockpit import sql_export
from cockpit.format import width_of
from cockpit.sql_export import Exists, ExportError
from cockpit.sql_grid import HELD, PAGE, Column, Pages, cell, columns, exact, tsv, whole, widths, window

LEAF = st.one_of(st.none(), st.booleans(), st.integers(-(10**18), 10**18), st.floats(), st.text(max_size=20))
VALUE = st.one_of(LEAF, st.lists(LEAF, max_size=2), st.dictionaries(st.text(max_size=2), LEAF, max_size=2))
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- cells


@CALM
@given(VALUE, st.sampled_from(["VARCHAR", "DOUBLE", "BIGINT", "DECIMAL(18,3)", "STRUCT(a INTEGER)"]))
def test_no_value_can_reach_the_terminal_as_anything_but_one_line_of_text(value: Any, kind: str) -> None:
    (column,) = columns(["a"], [kind], [[value]])
    text, _ = cell(value, column)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in text)
    assert all("\x1b" not in line and "\n" not in line for line in whole(value, column))
    assert tsv([[value, value]]).count("\t") == 1
    if column.number and width_of(text) <= 60:
        assert width_of(text) <= column.width, "a number is never cut"


def test_missing_and_not_finite_values_are_told_apart() -> None:
    column = Column("a", "DOUBLE", 8)
    assert cell(None, column) == ("NULL", "faint")
    assert cell("NaN", column) == ("NaN", "warn")
    assert cell("-Infinity", column)[0] == "−∞"
    assert cell("NaN", Column("a", "VARCHAR", 8)) == ("NaN", "text"), "a text that says NaN is a text"


def test_decimal_points_of_a_column_stand_under_each_other() -> None:
    (column,) = columns(["effect"], ["DOUBLE"], [[0.0714], [2.0], [-0.125], [None]])
    assert [cell(value, column)[0] for value in (0.0714, 2.0, -0.125)] == ["0.0714", "2.0000", "−0.1250"]
    assert cell(0.0000031, column)[0] == "3.1e-06", "a small number is not shown as zero"
    assert exact(0.1 + 0.2) == "0.30000000000000004", "a copy has all its digits"


# --- columns


@CALM
@given(st.lists(st.integers(4, 60), min_size=1, max_size=30), st.data(), st.integers(20, 220))
def test_the_column_of_the_cursor_is_visible_and_the_first_one_stays(sizes: list[int], data: Any, width: int) -> None:
    cols = [Column(str(place), "VARCHAR", size) for place, size in enumerate(sizes)]
    shown_sizes = widths(cols, width)
    first = 1
    for cursor in data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=8)):
        first, shown = window(shown_sizes, cursor, first, width)
        assert shown[0] == 0
        assert cursor in shown
        assert shown[1:] == list(range(first, first + len(shown) - 1))


# --- pages


@CALM
@given(
    st.integers(0, 5000),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 60), st.booleans()), max_size=8),
    st.integers(10, 300),
)
def test_whatever_is_looked_at_comes_and_nothing_twice(
    total: int, looks: list[tuple[int, int, bool]], most: int
) -> None:
    pages = Pages(total)
    for top, height, down in looks:
        top = min(top, max(total - height, 0))
        for _ in range(2 * HELD):
            wanted = pages.wanted(top, height, down)
            if wanted is None:
                break
            start, count = wanted
            assert 0 < count <= PAGE
            assert 0 <= start < start + count <= total
            assert not any(start <= row < start + count for row in pages.rows), "asked for twice"
            pages.put(
                start, [[row] for row in range(start, start + min(count, most))], top
            )  # the engine may give fewer
        else:
            raise AssertionError("it never stops asking")
        for row in range(top, min(top + height, total)):
            assert pages.get(row) == [row]
        assert len(pages.rows) <= HELD


def test_what_is_visible_is_fetched_before_what_lies_ahead() -> None:
    pages = Pages(1_000_000, [[row] for row in range(200)])
    assert pages.wanted(0, 50) == (200, 200)
    start, count = pages.wanted(999_950, 50) or (0, 0)
    assert (start, count) == (999_950, 50)


# --- files


def parts(*bodies: bytes) -> Callable[[int], Any]:
    async def fetch(part: int) -> dict[str, Any]:
        return {"part": base64.b64encode(bodies[part]).decode(), "next": part + 1 if part + 1 < len(bodies) else None}

    return fetch


async def here(work: Callable[..., Any], *args: Any) -> Any:
    return work(*args)


async def test_a_result_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    sizes: list[int] = []
    assert await sql_export.write(target, False, parts(b"a\n", b"1\n"), here, sizes.append) == 4
    assert target.read_bytes() == b"a\n1\n"
    assert sizes == [2, 4]
    with pytest.raises(Exists):
        await sql_export.write(target, False, parts(b"other"), here, sizes.append)
    assert await sql_export.write(target, True, parts(b"new"), here, sizes.append) == 3
    assert target.read_bytes() == b"new"

    async def breaks(part: int) -> dict[str, Any]:
        if part:
            raise ConnectionError
        return {"part": base64.b64encode(b"half").decode(), "next": 1}

    with pytest.raises(ConnectionError):
        await sql_export.write(tmp_path / "b.csv", False, breaks, here, sizes.append)
    assert os.listdir(tmp_path) == ["a.csv"]


async def test_a_file_that_appears_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"

    async def fetch(part: int) -> dict[str, Any]:
        target.write_text("theirs")
        return {"part": "", "next": None}

    with pytest.raises(Exists):
        await sql_export.write(target, False, fetch, here, lambda _: None)
    assert target.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.parametrize(
    ("name", "said"), [("a.xlsx", "end the name in"), ("nosuch/a.csv", "no directory"), ("d.csv", "directory")]
)
def test_a_name_that_cannot_be_written_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(ExportError, match=said):
        sql_export.target(name)
