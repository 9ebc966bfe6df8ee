"""The cell-diffing driver shows exactly what Textual's own would, in fewer bytes, and lets no foreign sequence through."""

from __future__ import annotations

import re

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.cells import CellDiff

WIDTH, HEIGHT = 24, 6
CHARS = "ab  ─━●⠓xyz"
WIDE = "学習漢字"
STYLES = ["", "1", "38;2;200;10;30", "38;5;14;48;5;22", "7", "48;2;20;22;27"]

Run = tuple[str, str]
Row = tuple[int, list[Run]]


def cells_of(text: str) -> int:
    return sum(2 if char in WIDE else 1 for char in text)


@st.composite
def rows(draw: st.DrawFn, wide: bool) -> Row:
    """Part of a row as Textual writes one: from some column, runs of text in their styles."""
    column = draw(st.integers(0, WIDTH - 1))
    runs: list[Run] = []
    left = WIDTH - column
    for _ in range(draw(st.integers(1, 4))):
        if not left:
            break
        text = draw(st.text(CHARS + (WIDE if wide else ""), min_size=1, max_size=left))
        while cells_of(text) > left:
            text = text[:-1]
        if not text:
            break
        runs.append((draw(st.sampled_from(STYLES)), text))
        left -= cells_of(text)
    return column, runs


@st.composite
def frames(draw: st.DrawFn, wide: bool = False) -> str:
    """One frame: rows at their places, each span with its style and a reset after it, then the cursor's place."""
    out: list[str] = []
    for y in draw(st.lists(st.integers(0, HEIGHT - 1), min_size=1, max_size=HEIGHT, unique=True)):
        column, runs = draw(rows(wide))
        if wide:  # rows with wide characters are written whole, so that none is cut in half
            column = 0
            used = sum(cells_of(text) for _, text in runs)
            runs = [*runs, ("", " " * (WIDTH - used))] if used < WIDTH else runs
        out.append(f"\x1b[{y + 1};{column + 1}H")
        out += [f"\x1b[{style}m{text}\x1b[0m" if style else text for style, text in runs]
        if y < HEIGHT - 1 and draw(st.booleans()):
            out.append("\n")
    out.append(f"\x1b[{draw(st.integers(1, HEIGHT))};{draw(st.integers(1, WIDTH))}H")
    return "".join(out)


class Terminal:
    def __init__(self) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self.screen.reset_mode(pyte.modes.DECAWM >> 5, private=True)  # no wrap, as Textual asks for
        self.stream = pyte.Stream(self.screen)

    def take(self, data: str) -> None:
        self.stream.feed(data)

    def cells(self) -> list[list[object]]:
        return [[self.screen.buffer[y][x] for x in range(WIDTH)] for y in range(HEIGHT)]

    def cursor(self) -> tuple[int, int]:
        return self.screen.cursor.x, self.screen.cursor.y


def show_both(drawn: list[str], breaks: set[int]) -> tuple[Terminal, Terminal, CellDiff]:
    stock, thin, diff = Terminal(), Terminal(), CellDiff()
    for number, frame in enumerate(drawn):
        if number in breaks:
            diff.forget()
        stock.take(frame)
        thin.take(diff.feed(frame))
        assert thin.cells() == stock.cells()
    return stock, thin, diff


@given(st.lists(frames(), min_size=1, max_size=8), st.sets(st.integers(0, 7), max_size=2))
@settings(max_examples=150, deadline=None)
def test_every_frame_looks_as_textual_meant_it(drawn: list[str], breaks: set[int]) -> None:
    _, _, diff = show_both(drawn, breaks)
    assert diff.surprises == 0


@given(st.lists(frames(wide=True), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_wide_characters_stay_whole(drawn: list[str]) -> None:
    show_both(drawn, set())


@given(st.lists(frames(), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_the_same_frame_twice_costs_nothing(drawn: list[str]) -> None:
    diff = CellDiff()
    for frame in drawn:
        diff.feed(frame)
    assert diff.feed(drawn[-1]) == ""


@given(
    st.lists(
        st.one_of(frames(), st.sampled_from(["\x1b[3L", "\x1b[J", "stray text", "\x1b[2;3r", "\t", "\x1b[1;31m"])),
        max_size=8,
    )
)
@settings(max_examples=100, deadline=None)
def test_a_surprise_is_passed_on_and_the_next_full_frame_is_right(drawn: list[str]) -> None:
    stock, thin, diff = Terminal(), Terminal(), CellDiff()
    full = "".join(f"\x1b[{y + 1};1H\x1b[1mrow {y}{' ' * (WIDTH - 5)}\x1b[0m" for y in range(HEIGHT))
    for frame in [*drawn, "\x1b[r\x1b[0m", full]:
        stock.take(frame)
        thin.take(diff.feed(frame))
    assert thin.cells() == stock.cells()


def test_only_the_cells_that_differ_are_written() -> None:
    diff = CellDiff()
    diff.feed("\x1b[1;1H\x1b[1mstep 100 of 300      \x1b[0m\x1b[1;1H")
    written = diff.feed("\x1b[1;1H\x1b[1mstep 103 of 300      \x1b[0m\x1b[1;1H")
    assert re.findall(r"[^\x1b\[;\d]", re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", written)) == []
    assert "3" in written
    assert len(written) < 30


def test_an_update_that_changes_nothing_is_not_announced() -> None:
    diff = CellDiff()
    frame = "\x1b[1;1Hhello\x1b[1;1H"
    assert diff.feed("\x1b[?2026h") + diff.feed(frame) + diff.feed("\x1b[?2026l") != ""
    assert diff.feed("\x1b[?2026h") + diff.feed(frame) + diff.feed("\x1b[?2026l") == ""


def test_synchronised_updates_are_closed() -> None:
    diff = CellDiff()
    written = diff.feed("\x1b[?2026h") + diff.feed("\x1b[1;1Hhello\x1b[1;1H") + diff.feed("\x1b[?2026l")
    assert written.startswith("\x1b[?2026h")
    assert written.endswith("\x1b[?2026l")


@pytest.mark.parametrize(
    "evil",
    ["\x1b]52;c;ZXZpbA==\x07", "\x1b]52;c;ZXZpbA==\x1b\\", "\x1b]0;title\x07", "\x1bP+q544e\x1b\\", "\x1b_Gf=24\x1b\\"],
)
def test_sequences_that_no_frame_of_ours_has_are_refused(evil: str) -> None:
    diff = CellDiff()
    written = diff.feed(f"\x1b[1;1Hbefore{evil}after\x1b[1;1H")
    assert "52;c" not in written
    assert "\x1b]" not in written
    assert "\x1bP" not in written
    assert "\x1b_" not in written
    assert diff.refused


def test_modes_pass_and_the_alternate_screen_starts_afresh() -> None:
    diff = CellDiff()
    frame = "\x1b[1;1Hhello\x1b[1;1H"
    diff.feed(frame)
    assert diff.feed("\x1b[?25l") == "\x1b[?25l"
    assert diff.feed(frame) == ""
    assert diff.feed("\x1b[?1049h") == "\x1b[?1049h"
    assert "hello" in diff.feed(frame)
