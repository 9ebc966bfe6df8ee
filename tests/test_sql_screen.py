"""A researcher asks the history on screen 3: picks, writes, waits, reads, sorts, takes away, and loses the line."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cockpit import keys, sql_history
from cockpit.screens.runs import RunsScreen
from cockpit.screens.sql import SqlScreen
from engine.rpc import BAD_SQL, RpcError
from tests.sql_fakes import ScriptedConsole, console_in_progress
from tests.test_app import Desk, sitting


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def screen(desk: Desk) -> SqlScreen:
    assert isinstance(desk.app.screen, SqlScreen)
    return desk.app.screen


@asynccontextmanager
async def at_sql(engine: ScriptedConsole | None = None, size: tuple[int, int] = (160, 44)) -> AsyncIterator[Desk]:
    async with sitting(engine or console_in_progress(), size) as desk:
        await desk.press("3")
        await desk.until(lambda: "Leaderboard" in desk.text)
        yield desk


async def write(desk: Desk, text: str) -> None:
    """Type at the end of the editor, as a person does."""
    await desk.press("i")
    await desk.until(lambda: screen(desk).editor.has_focus)
    screen(desk).editor.move_cursor(screen(desk).editor.document.end)
    names = {" ": "space", "\n": "enter", ".": "full_stop", ",": "comma", "*": "asterisk", "$": "dollar_sign"}
    for char in text:
        await desk.pilot.press(names.get(char, char))
    await desk.pilot.pause()


async def ask(desk: Desk, text: str) -> None:
    await write(desk, text)
    await desk.press("ctrl+r")
    await desk.until(lambda: screen(desk).asking.running is None)


async def test_a_question_is_picked_its_parameters_filled_in_and_its_rows_read() -> None:
    engine = console_in_progress()
    async with at_sql(engine) as desk:
        assert "3 SQL" in desk.text.split("\n")[0]
        await desk.press("enter")
        assert "limit=50" in desk.text
        await desk.press("backspace", "backspace", "7", "enter")
        await desk.until(lambda: "12 ms" in desk.text)
        (asked,) = engine.asked("sql_open")
        assert asked["query"] == "leaderboard"
        assert asked["params"] == {"limit": 7}
        assert "FROM leaderboard" in desk.text, "the question's SQL stands in the editor, to go on from"
        assert "−0.5" in desk.text
        assert "NULL" in desk.text
        assert "NaN" in desk.text
        assert "\x1b" not in desk.text
        assert "data 0.4 s old at" in desk.text


async def test_a_question_that_was_changed_is_run_as_text_with_its_parameter() -> None:
    engine = console_in_progress()
    async with at_sql(engine) as desk:
        await desk.press("enter", "enter")
        await desk.until(lambda: engine.asked("sql_open"))
        await ask(desk, " * 2")
        asked = engine.asked("sql_open")[-1]
        assert "query" not in asked
        assert asked["text"] == "SELECT rank, experiment, effect\nFROM leaderboard\nORDER BY rank\nLIMIT $limit * 2"
        assert asked["params"] == {"limit": 50}
        assert "leaderboard, changed" in desk.text
        await desk.until(lambda: engine.closed)
        assert engine.closed == ["q1"], "the result before is let go of"
    assert engine.closed == ["q1", "q2"], "and the last one on leaving"


async def test_a_parameter_without_a_value_is_asked_for() -> None:
    engine = console_in_progress()
    async with at_sql(engine) as desk:
        await write(desk, "select $seed")
        await desk.press("ctrl+r")
        await desk.until(lambda: "Parameters of this SQL" in desk.text)
        await desk.press("3", "enter")
        await desk.until(lambda: engine.asked("sql_open"))
        assert engine.asked("sql_open")[0]["params"] == {"seed": 3}


async def test_a_wrong_parameter_is_said_and_asked_again() -> None:
    engine = console_in_progress()
    async with at_sql(engine) as desk:
        await desk.press("enter", "x", "enter")
        assert "give a whole number" in desk.status
        assert desk.asking
        assert not engine.asked("sql_open")


async def test_names_are_suggested_while_writing_and_tab_takes_one() -> None:
    async with at_sql() as desk:
        await write(desk, "select e. from experiments e")
        editor = screen(desk).editor
        editor.move_cursor((0, 9))
        await desk.press("h")
        await desk.until(lambda: screen(desk).popup.is_open)
        assert [each.label for each in screen(desk).popup.completion.items] == ["hypothesis"]
        await desk.press("tab")
        assert editor.text == "select e.hypothesis from experiments e"
        assert not screen(desk).popup.is_open
        await desk.press("ctrl+n")
        assert screen(desk).popup.is_open
        await desk.press("escape")
        assert not screen(desk).popup.is_open
        assert screen(desk).pane == "editor", "esc closed the suggestions alone"


async def test_an_error_is_said_where_it_is() -> None:
    engine = console_in_progress()
    engine.refuse["sql_open"] = RpcError(
        BAD_SQL, 'Binder Error: Referenced column "foo" not found in FROM clause!\nCandidate bindings: "id"\n\n'
        "LINE 1: select foo from experiments\n               ^^^",
    )  # fmt: skip
    async with at_sql(engine) as desk:
        await ask(desk, "select foo from experiments")
        await desk.until(lambda: "line 1, column 8" in desk.text)
        assert 'referenced column "foo" not found in FROM clause' in desk.text
        assert screen(desk).editor.cursor_location == (0, 7)
        await desk.press("x")
        assert "line 1, column 8" not in desk.text, "an edit takes the mark away"


async def test_esc_cancels_a_running_query_at_once() -> None:
    engine = console_in_progress()
    engine.hold = True
    async with at_sql(engine) as desk:
        await write(desk, "select 1")
        await desk.press("ctrl+r")
        await desk.until(lambda: "running" in desk.text and "esc cancels" in desk.text)
        await desk.press("escape")
        await desk.until(lambda: "cancelled after" in desk.text)
        assert engine.asked("sql_cancel") == [{"request": engine.asked("sql_open")[0]["request"]}]
        engine.hold = False
        await desk.press("ctrl+r")
        await desk.until(lambda: "1/3" in desk.text)
        assert "cancelled" not in desk.text


async def test_past_queries_come_back_and_are_kept_for_this_reader_alone() -> None:
    engine = console_in_progress()
    async with at_sql(engine) as desk:
        await ask(desk, "select 1")
        await desk.until(lambda: screen(desk).walk.past)
        await desk.press("i")
        await desk.until(lambda: screen(desk).editor.has_focus)
        screen(desk).editor.put("select 2")
        await desk.press("up")
        assert screen(desk).editor.text == "select 1"
        await desk.press("down")
        assert screen(desk).editor.text == "select 2"
        path = sql_history.place("/home/ada/nanolm")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with at_sql(console_in_progress()) as desk:
        await desk.until(lambda: "run before" in desk.text)
        assert "select 1" in desk.text


async def test_a_million_rows_scroll_and_only_what_is_seen_is_fetched() -> None:
    engine = console_in_progress(1_000_000)
    async with at_sql(engine) as desk:
        await ask(desk, "select 1")
        await desk.press("escape")
        await desk.until(lambda: screen(desk).pane == "grid")
        await desk.press("G")
        await desk.until(lambda: "row 999999" in desk.text)
        assert "1,000,000/1,000,000" in desk.text
        await desk.press("ctrl+u", "g")
        await desk.until(lambda: "row 3 " in desk.text)
        await desk.settle()
        assert sum(each["count"] for each in engine.asked("sql_rows")) <= 1200
        assert len(screen(desk).asking.result.pages.rows) < 2000  # type: ignore[union-attr]


async def test_sorting_and_filtering_are_asked_of_the_engine() -> None:
    engine = console_in_progress(40)
    async with at_sql(engine) as desk:
        await ask(desk, "select 1")
        await desk.press("escape")
        await desk.until(lambda: screen(desk).pane == "grid")
        await desk.press("l", "o")
        await desk.until(lambda: "effect▾" in desk.text)
        assert engine.asked("sql_arrange")[-1]["sort"] == [{"column": 1, "descending": True}]
        await desk.press("slash", "3", "9", "enter")
        await desk.until(lambda: "/ 39 (of 40)" in desk.text)
        assert "row 39" in desk.text
        assert "row 38" not in desk.text
        await desk.press("slash", "backspace", "backspace", "=", "enter")
        await desk.until(lambda: "write column = value" in desk.status)
        await desk.press("escape")
        await desk.until(lambda: "row 38" in desk.text)


async def test_two_columns_are_drawn() -> None:
    async with at_sql(console_in_progress(30)) as desk:
        await ask(desk, "select 1")
        await desk.press("escape")
        await desk.until(lambda: screen(desk).pane == "grid")
        await desk.press("l", "p")
        assert "effect" in screen(desk).prompt.text, "the column under the cursor is offered"
        await desk.press("ctrl+u", *"bars", "space", *"experiment", "space", *"effectx", "enter")
        assert "there is no column effectx" in desk.status
        await desk.press("backspace", "enter")
        await desk.until(lambda: screen(desk).pictured and "28 bars" in desk.text)
        assert "row 3 " not in desk.text
        await desk.press("escape")
        await desk.until(lambda: "row 3 " in desk.text)


async def test_a_cell_is_read_whole_and_harmless() -> None:
    async with at_sql() as desk:
        await ask(desk, "select 1")
        await desk.press("escape")
        await desk.until(lambda: screen(desk).pane == "grid")
        await desk.press("j", "j", "L", "v")
        assert "VARCHAR · row 3" in desk.text
        assert "␛]52;c;aGFja2Vk" in desk.text
        assert "\x1b" not in desk.text
        await desk.press("escape")
        assert "VARCHAR · row 3" not in desk.text


async def test_enter_opens_the_experiment_of_a_row_on_runs_and_the_screen_is_kept() -> None:
    async with at_sql(console_in_progress(9)) as desk:
        await ask(desk, "select 1")
        await desk.press("escape")
        await desk.until(lambda: screen(desk).pane == "grid")
        await desk.press("j", "j", "j", "j", "j", "enter")
        await desk.until(lambda: isinstance(desk.app.screen, RunsScreen))
        cursor = desk.runs.table.cursor
        assert cursor is not None
        assert cursor.experiment == "0005"
        await desk.press("3")
        await desk.until(lambda: isinstance(desk.app.screen, SqlScreen))
        assert "6/9" in desk.text
        assert screen(desk).editor.text == "select 1"


async def test_a_result_is_saved_to_a_file_and_never_over_another_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "result.csv").write_text("mine")
    async with at_sql() as desk:
        await ask(desk, "select 1")
        await desk.press("escape")
        await desk.until(lambda: screen(desk).pane == "grid")
        await desk.press("e", "enter")
        await desk.until(lambda: "exists already. Replace it?" in desk.text)
        await desk.press("escape")
        assert (tmp_path / "result.csv").read_text() == "mine"
        await desk.press("e", "enter")
        await desk.until(lambda: "exists already. Replace it?" in desk.text)
        await desk.press("enter")
        await desk.until(lambda: "saved 3 rows" in desk.status)
        assert (tmp_path / "result.csv").read_text() == "0,x\n1,x\n2,x\n"
        assert sorted(set(os.listdir(tmp_path)) - {"state"}) == ["result.csv"]


async def test_the_sql_is_kept_as_a_question_of_the_lab() -> None:
    engine = console_in_progress()
    async with at_sql(engine) as desk:
        await write(desk, "select 1")
        await desk.press("escape", "w", *"leaderboard", "enter", *"Mine", "enter", "enter")
        await desk.until(lambda: "Replace it?" in desk.text)
        await desk.press("enter")
        await desk.until(lambda: "kept as queries/leaderboard.sql" in desk.status)
        assert engine.saved == [
            {"name": "leaderboard", "title": "Mine", "description": "Mine", "text": "select 1", "overwrite": True}
        ]


async def test_a_dropped_line_and_another_engine_are_said_plainly() -> None:
    engine = console_in_progress(1000)
    async with at_sql(engine) as desk:
        await ask(desk, "select 1")
        await desk.press("escape")
        await desk.until(lambda: screen(desk).pane == "grid")
        engine.held.clear()
        await desk.press("G")
        await desk.until(lambda: "no longer held: run the query again (ctrl+r)" in desk.text)
        await desk.press("ctrl+r")
        await desk.until(lambda: "no longer held" not in desk.text)
        engine.drop()
        await desk.press("ctrl+r")
        await desk.until(lambda: "not connected to the engine" in desk.text)
        engine.restore()
        await desk.press("ctrl+r")
        await desk.until(lambda: "1/1,000" in desk.text)


async def test_at_80_columns_the_questions_lie_over_the_rest() -> None:
    async with at_sql(size=(80, 24)) as desk:
        assert "Experiments, best first" in desk.text
        await desk.press("enter", "enter")
        await desk.until(lambda: "1/3" in desk.text)
        assert "Leaderboard" not in desk.text
        assert all(len(line) <= 80 for line in desk.text.split("\n"))
        await desk.press("escape")
        await desk.until(lambda: "Leaderboard" in desk.text)
        await desk.press("escape")
        await desk.until(lambda: isinstance(desk.app.screen, RunsScreen))


@pytest.mark.parametrize("answered", [False, True])
async def test_every_key_does_something_or_says_why_not(answered: bool) -> None:
    async with at_sql() as desk:
        if answered:
            await ask(desk, "select 1")
            await desk.press("escape")
            await desk.until(lambda: screen(desk).pane == "grid")
        here = screen(desk)
        for row in keys.of(("sql", "all")):
            if row.action in ("leave", "runs", "review", "help", "palette", "back"):
                continue
            for pane in ("questions", "grid"):
                here.to_pane(pane)
                await desk.pilot.pause()
                await desk.press(row.keys[0])
                if desk.asking:
                    await desk.press("escape")
                if here.pane == "editor":
                    await desk.press("escape")
        await desk.settle()
        assert isinstance(desk.app.screen, SqlScreen)
