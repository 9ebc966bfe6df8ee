"""A researcher at the terminal: watches runs, reads proposals, decides them, loses the line, and leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from cockpit.app import CockpitApp
from cockpit.screens.help import HelpScreen
from cockpit.screens.review import ReviewScreen
from cockpit.screens.runs import RunsScreen
from cockpit.widgets.lines import Lines
from cockpit.widgets.prompt import Prompt
from engine.rpc import RpcError
from tests.fakes import (
    NORM,
    STEPS,
    ScriptedEngine,
    advance,
    edit,
    hash_of,
    lab_in_progress,
    lab_row,
    loss_curve,
    proposal_row,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """The researcher's view of a running app: press, wait, read."""

    def __init__(self, app: CockpitApp, engine: ScriptedEngine, pilot: Pilot[Any], clock: Clock) -> None:
        self.app, self.engine, self.pilot, self.clock = app, engine, pilot, clock

    async def press(self, *keys: str, after: float = 1.0) -> None:
        """Press keys as a person does: with time enough between them to read."""
        for key in keys:
            self.clock.now += after
            await self.pilot.press(key)
            await self.pilot.pause()

    async def settle(self) -> None:
        for _ in range(3):
            await self.pilot.pause()
            self.app.tick()
        await self.pilot.pause()

    async def until(self, what: Callable[[], object]) -> None:
        for _ in range(200):
            if what():
                return
            await self.pilot.pause()
            self.app.tick()
        raise AssertionError(f"this never came about; the screen says:\n{self.text}")

    @property
    def text(self) -> str:
        """Everything on the screen."""
        width, _ = self.app.size
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text[:width] for strip in strips)

    @property
    def status(self) -> str:
        return self.app.screen.query_one("#status", Lines).lines[0].text

    @property
    def runs(self) -> RunsScreen:
        assert isinstance(self.app.screen, RunsScreen)
        return self.app.screen

    @property
    def review(self) -> ReviewScreen:
        assert isinstance(self.app.screen, ReviewScreen)
        return self.app.screen

    @property
    def asking(self) -> bool:
        return self.app.screen.query_one(Prompt).is_open

    async def read_proposal(self, id_: str) -> None:
        await self.press("2")
        await self.until(lambda: isinstance(self.app.screen, ReviewScreen))
        for _ in range(20):
            if self.review.queue.cursor == id_:
                break
            await self.press("J")
        await self.until(lambda: self.review.shown is not None and self.review.shown.proposal == id_)


@asynccontextmanager
async def sitting(engine: ScriptedEngine | None = None, size: tuple[int, int] = (160, 44)) -> AsyncIterator[Desk]:
    clock = Clock()
    engine = engine or lab_in_progress()
    app = CockpitApp(engine, theme="dusk", clock=clock)
    async with app.run_test(size=size) as pilot:
        desk = Desk(app, engine, pilot, clock)
        await desk.settle()
        yield desk


# --- watching


async def test_the_first_thing_to_see_is_where_the_lab_stands() -> None:
    async with sitting() as desk:
        await desk.until(lambda: "trunk-1" in desk.text)
        lines = desk.text.split("\n")
        assert "nanolm" in lines[0]
        assert "trunk-1" in lines[2], "the trunk stands first"
        assert "+.0714 ±.0066" in desk.text
        assert "2 running" in desk.status
        assert "3 to review" in desk.status
        assert "box 3" in desk.status


async def test_a_failed_shard_never_shows_a_metric() -> None:
    async with sitting() as desk:
        row = next(line for line in desk.text.split("\n") if " 0004 " in line)
        assert "broken" in row
        assert "·" in row
        assert "2." not in row[60:92]


async def test_points_of_a_running_shard_arrive_and_nothing_is_painted_when_nothing_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with sitting() as desk:
        await desk.press("j", "j", "j", "enter")
        await desk.until(lambda: "step 210 of 300" in desk.text)
        advance(desk.engine, "0007.screen.s1.a1", loss_curve(2.0, 1, 240)[-3:])
        await desk.until(lambda: "step 240 of 300" in desk.text)
        await desk.settle()
        desk.clock.now += 0.1
        painted: list[object] = []
        monkeypatch.setattr(Lines, "refresh", lambda self, *regions, **options: painted.append(self) or self)
        for _ in range(10):
            desk.app.tick()
            await desk.pilot.pause()
        assert painted == []


async def test_a_tick_that_comes_while_the_screen_is_taken_down_paints_nothing() -> None:
    async with sitting() as desk:
        for name in ("2", "1"):
            await desk.press(name)
            screen = desk.app.screen
            await screen.query("#header").remove()
            desk.app.paint_soon()
            desk.app.tick()
            screen.sync_soon()
            await desk.pilot.pause()
            assert screen.is_mounted


async def test_only_lines_that_changed_are_painted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sitting() as desk:
        await desk.settle()
        regions: list[Any] = []
        table = desk.runs.table
        monkeypatch.setattr(table, "refresh", lambda *given, **options: regions.extend(given))
        advance(desk.engine, "0007.screen.s1.a1", loss_curve(2.0, 1, STEPS)[-1:])
        await desk.until(lambda: regions)
        assert {region.height for region in regions} == {1}
        assert len(regions) == 1


async def test_the_cursor_stays_on_its_row_when_new_rows_come() -> None:
    async with sitting() as desk:
        await desk.press("j", "j", "j")
        cursor = desk.runs.table.cursor
        assert cursor is not None
        from tests.fakes import experiment_row

        desk.engine.put(experiment_row("0010", "A newcomer", state="queued"))
        await desk.until(lambda: "A newcomer" in desk.text)
        assert desk.runs.table.cursor == cursor


async def test_filter_finds_as_one_types_and_esc_clears_it() -> None:
    async with sitting() as desk:
        await desk.press("slash", *"solid", "enter")
        assert "Squared ReLU" in desk.text
        assert "Rotary" not in desk.text
        assert not desk.asking
        await desk.press("escape")
        assert "Rotary" in desk.text
        assert isinstance(desk.app.screen, RunsScreen)


async def test_at_80_by_24_everything_can_be_reached() -> None:
    async with sitting(size=(80, 24)) as desk:
        await desk.until(lambda: "trunk-1" in desk.text)
        assert not desk.runs.query_one("#side").display
        await desk.press("j", "j", "j", "enter")
        await desk.until(lambda: "evidence 0007" in desk.text)
        await desk.press("plus")
        await desk.until(lambda: "training loss" in desk.text and "log 0007" in desk.text)
        await desk.press("escape")
        await desk.until(lambda: "0001" in desk.text)
        await desk.read_proposal("p0010")
        await desk.until(lambda: "mechanism" in desk.text)
        await desk.press("pagedown", "pagedown", "pagedown")
        assert "self.norm0(" in desk.text
        await desk.press("question_mark")
        assert isinstance(desk.app.screen, HelpScreen)
        await desk.press("end")
        assert "next stock reason" in desk.text


async def test_curves_overlay_the_trunk_and_what_is_marked() -> None:
    async with sitting() as desk:
        await desk.press("j", "j", "j")
        await desk.until(lambda: "0007 s2" in desk.text and "trunk s2" in desk.text)
        await desk.press("j", "j", "space", "k", "k")
        await desk.until(lambda: "0005 mean of 3" in desk.text)


async def test_a_run_without_shards_does_not_show_the_log_of_another() -> None:
    async with sitting() as desk:
        await desk.until(lambda: "log trunk-1" in desk.text)
        await desk.press("j")
        await desk.until(lambda: "stopped by Ada" in desk.text)
        assert "log trunk-1" not in desk.text
        assert "referee: val_bpb" not in desk.text


async def test_stopping_takes_two_strokes_and_a_reason() -> None:
    async with sitting() as desk:
        await desk.press("j", "j", "j", "x")
        assert "Stop 0007?" in desk.text
        await desk.press("enter")
        assert "a reason is needed" in desk.text
        assert desk.engine.asked("stop") == []
        await desk.press("tab", "enter")
        await desk.until(lambda: desk.engine.asked("stop"))
        assert desk.engine.asked("stop")[0]["id"] == "0007"
        assert desk.engine.asked("stop")[0]["why"]


async def test_what_has_ended_cannot_be_stopped_and_the_key_says_so() -> None:
    async with sitting() as desk:
        await desk.press("x")
        assert "nothing to stop" in desk.status
        assert not desk.asking


# --- deciding


async def test_approving_names_the_diff_that_was_on_the_screen() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        await desk.press("a")
        assert "3 seeds at rung screen" in desk.text
        assert desk.engine.asked("decide") == []
        await desk.press("enter")
        await desk.until(lambda: desk.engine.asked("decide"))
        sent = desk.engine.asked("decide")[0]
        assert (sent["proposal"], sent["diff_hash"], sent["action"]) == ("p0010", hash_of(NORM), "approve")
        await desk.until(lambda: "approved as experiment 0010" in desk.status)
        assert desk.review.queue.cursor == "p0010", "the cursor stays on what was decided"
        assert desk.review.queue.index == 0, "and it does not move under the reader's eyes"
        await desk.press("a")
        assert "approved already" in desk.status
        assert not desk.asking
        await desk.until(lambda: desk.app.model.proposals["p0010"]["state"] == "approved")
        await desk.press("J")
        assert desk.review.queue.cursor == "p0011", "the next one is the next that waits"
        assert desk.review.queue.index == 0


async def test_declining_takes_a_reason() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0012")
        await desk.press("d", "enter")
        assert "a reason is needed" in desk.text
        await desk.press(*"tied", "space", *"hurts", "enter")
        await desk.until(lambda: desk.engine.asked("decide"))
        assert desk.engine.asked("decide")[0]["why"] == "tied hurts"


@pytest.mark.parametrize("second", ["a", "enter", "y"])
async def test_pressing_twice_at_once_approves_nothing(second: str) -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        await desk.press("a")
        await desk.press(second, second, after=0.05)
        assert desk.engine.asked("decide") == []


async def test_a_key_pressed_before_the_new_proposal_could_be_read_decides_nothing() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        await desk.press("J")
        await desk.until(lambda: desk.review.shown is not None and desk.review.shown.proposal == "p0011")
        await desk.press("a", after=0.1)
        assert not desk.asking
        assert "before this could be read" in desk.status
        await desk.press("a")
        assert desk.asking


async def test_a_torn_arrow_key_decides_nothing() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        for torn in (
            ("escape", "left_square_bracket", "A"),
            ("escape", "left_square_bracket", "B"),
            ("left_square_bracket", "a"),
        ):
            await desk.press(torn[0])
            await desk.press(*torn[1:], after=0.02)
            assert not desk.asking
            if not isinstance(desk.app.screen, ReviewScreen):
                await desk.read_proposal("p0010")
        assert desk.engine.asked("decide") == []


async def test_those_that_are_marked_are_approved_by_one_strip_that_lists_every_id() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        await desk.press("space")
        await desk.read_proposal("p0012")
        await desk.press("space", "a")
        assert "p0010, diff " in desk.text
        assert "p0012, diff " in desk.text
        await desk.press("enter", after=0.05)
        assert desk.engine.asked("decide") == [], "it came before the strip could be read"
        await desk.press("enter")
        await desk.until(lambda: len(desk.engine.asked("decide")) == 2)
        sent = [(each["proposal"], each["diff_hash"]) for each in desk.engine.asked("decide")]
        assert sent == [(id_, hash_of(desk.engine.diffs[id_])) for id_ in ("p0010", "p0012")]


async def test_what_is_put_off_goes_to_the_end_and_a_decline_can_be_undone() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        await desk.press("l", "enter")
        await desk.until(lambda: [row["id"] for row in desk.app.model.waiting()][-1] == "p0010")
        assert desk.review.queue.cursor == "p0011", "the next one is read"
        await desk.read_proposal("p0008")
        await desk.press("z")
        assert "Undo the decision on p0008?" in desk.text
        await desk.press("enter")
        await desk.until(lambda: desk.app.model.proposals["p0008"]["state"] == "waiting")


@pytest.mark.parametrize("key", ["r", "e", "l", "p", "a", "d"])
async def test_no_key_that_starts_something_does_so_right_after_a_torn_arrow(key: str) -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        await desk.press("left_square_bracket")
        await desk.press(key, after=0.02)
        assert not desk.asking
        assert {name for name, _ in desk.engine.calls} <= {
            "subscribe",
            "pull",
            "live",
            "curve",
            "log",
            "diff",
            "proposer",
        }


async def test_while_a_reason_is_typed_letters_are_letters() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        await desk.press("d", *"aqx2jJ")
        assert desk.asking
        assert desk.review.prompt.text == "aqx2jJ"
        await desk.press("escape")
        assert not desk.asking
        assert desk.engine.asked("decide") == []


async def test_a_diff_that_changed_is_not_approved_but_read_again() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        await desk.press("a")
        other = edit(("width: int = 128", "width: int = 160"))
        desk.engine.diffs["p0010"] = other
        desk.engine.change("proposal", "p0010", diff_hash=hash_of(other))
        await desk.until(lambda: not desk.asking)
        assert "nothing was sent" in desk.status
        await desk.until(lambda: desk.review.shown is not None and desk.review.shown.hash == hash_of(other))
        await desk.until(lambda: "width: int = 160" in desk.text)
        assert desk.engine.asked("decide") == []


async def test_the_engine_says_stale_and_the_screen_reads_it_again() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        desk.engine.refuse["decide"] = RpcError(21, "p0010 has changed since it was shown: read it again")
        before = len(desk.engine.asked("diff"))
        await desk.press("a", "enter")
        await desk.until(lambda: "has changed since it was shown" in desk.status)
        await desk.until(lambda: len(desk.engine.asked("diff")) > before)


async def test_who_was_first_is_named() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        desk.engine.answers["decide"] = {"state": "declined", "first": False, "by": "Grace", "experiment": None}
        await desk.press("a", "enter")
        await desk.until(lambda: "Grace was first" in desk.status)


async def test_a_refused_proposal_shows_its_type_and_why() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        for _ in range(4):
            await desk.press("J")
        await desk.until(lambda: "refused, no-match" in desk.text)
        assert "the text to be replaced is not in the file" in desk.text
        await desk.press("a")
        assert "nothing to decide" in desk.status


# --- the line breaks


async def test_the_screen_stays_when_the_line_breaks_and_recovers_by_itself() -> None:
    async with sitting() as desk:
        await desk.read_proposal("p0010")
        desk.engine.drop()
        await desk.until(lambda: "reconnecting" in desk.status)
        assert "Normalise the embedding" in desk.text
        await desk.press("a")
        assert not desk.asking
        assert "cannot be reached" in desk.status
        desk.engine.problem = "no engine runs for this lab: `cockpit up` starts it"
        await desk.press("j")
        await desk.until(lambda: "`cockpit up` starts it" in desk.status)
        desk.engine.problem = None
        desk.engine.change("lab", "lab", phase="idle")
        desk.engine.restore()
        await desk.press("j")
        await desk.until(lambda: "reconnecting" not in desk.status and "idle" in desk.status)


async def test_a_row_that_cannot_be_read_is_said_and_the_screen_stays() -> None:
    async with sitting() as desk:
        desk.engine.put({"kind": "shard", "id": "broken"})  # type: ignore[typeddict-item, misc]
        await desk.until(lambda: "a bug ended the updates" in desk.status)
        assert "trunk-1" in desk.text


async def test_a_resync_reads_everything_again() -> None:
    async with sitting() as desk:
        before = len(desk.engine.asked("live"))
        desk.engine.notify("resync")
        await desk.until(lambda: len(desk.engine.asked("live")) > before)


async def test_ten_thousand_rows_come_in_pages() -> None:
    engine = ScriptedEngine()
    engine.put(lab_row())
    engine.page = 40
    for number in range(1, 200):
        engine.put(
            proposal_row(
                f"p{number:04d}", f"Idea {number}", None, state="refused", refusal="no-op", detail="nothing changes"
            )
        )
    async with sitting(engine) as desk:
        await desk.until(lambda: desk.app.model.next == engine.head)
        assert len(desk.app.model.proposals) == 199
        assert len(engine.asked("pull")) >= 5


async def test_an_empty_lab_says_what_to_do_next() -> None:
    engine = ScriptedEngine()
    engine.put(lab_row(phase="preparing data"))
    engine.put(proposal_row("p0001", "An idea", NORM))
    engine.diffs["p0001"] = NORM
    async with sitting(engine) as desk:
        await desk.until(lambda: "No run yet" in desk.text)
        assert "Proposals wait on screen 2" in desk.text
        assert "preparing data" in desk.status


# --- around it


async def test_help_lists_every_key_says_why_not_and_filters() -> None:
    async with sitting() as desk:
        await desk.press("question_mark")
        await desk.until(lambda: "nothing to stop" in desk.text)
        await desk.press(*"smooth")
        assert "smooth the curves" in desk.text
        assert "approve" not in desk.text
        await desk.press("escape", "escape")
        assert isinstance(desk.app.screen, RunsScreen)


async def test_an_action_can_be_found_by_name_and_done() -> None:
    async with sitting() as desk:
        await desk.press("ctrl+p", *"smooth", "enter")
        await desk.until(lambda: "smoothing strong" in desk.text)
        await desk.press("j", "j", "j", "ctrl+p", *"stop", "enter")
        await desk.until(lambda: "Stop 0007?" in desk.text)
        assert desk.engine.asked("stop") == [], "it still asks"


async def test_q_and_esc_never_leave_and_ctrl_q_says_what_goes_on() -> None:
    async with sitting() as desk:
        await desk.press("q", "escape", "q", "escape")
        assert desk.app.is_running
        assert "ctrl+q leaves" in desk.status
        await desk.press("ctrl+q")
    assert desk.app.return_value == "2 runs keep going, 3 queued; `cockpit` re-attaches."


async def test_every_theme_paints_both_screens() -> None:
    async with sitting() as desk:
        seen = {desk.app.theme}
        for _ in range(len(desk.app.themes)):
            await desk.press("t", "2")
            await desk.until(lambda: isinstance(desk.app.screen, ReviewScreen))
            assert "Normalise" in desk.text
            await desk.press("1")
            await desk.until(lambda: isinstance(desk.app.screen, RunsScreen))
            seen.add(desk.app.theme)
        assert seen == {"ansi", "dusk", "paper", "signal"}


async def test_copying_says_where_it_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setattr("cockpit.clipboard.runtime_base", lambda: tmp_path / "cockpit")
    async with sitting() as desk:
        await desk.press("j", "y")
        await desk.until(lambda: "copied branch" in desk.status)
    assert (tmp_path / "cockpit" / "copied" / "last.txt").read_text() == "exp/0009-weight-decay-0.1"


def test_the_first_paint_imports_nothing_heavy() -> None:
    code = (
        "import sys, cockpit.app; "
        "heavy = {'torch', 'anthropic', 'duckdb', 'git', 'pyarrow', 'numpy', 'pydantic', 'scipy', 'watchfiles', 'orjson'}; "
        "print(sorted(heavy & set(sys.modules)), sorted(m for m in sys.modules if m.startswith('engine.')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("[] ")
    known = {"engine.paths", "engine.resources", "engine.rpc", "engine.text", "engine.types"}
    known |= {"engine.judge", "engine.judge.words"}  # ratios as a person reads them: no more than strings
    assert set(eval(out.split("] ", 1)[1])) <= known


async def test_a_line_that_does_not_keep_up_gets_one_frame_for_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sitting() as desk:
        await desk.press("2")
        await desk.until(lambda: isinstance(desk.app.screen, ReviewScreen) and desk.review.shown is not None)
        await desk.settle()
        at = desk.review.queue.cursor
        syncs: list[str] = []
        sync = ReviewScreen.sync
        monkeypatch.setattr(ReviewScreen, "sync", lambda screen: (syncs.append("sync"), sync(screen))[1])
        monkeypatch.setattr(CockpitApp, "backed_up", True)
        desk.app._skipped = -1000  # no tick paints between these keys
        owed: list[str] = []
        paint_soon = CockpitApp.paint_soon
        monkeypatch.setattr(CockpitApp, "paint_soon", lambda app: owed.append("a frame"))
        await desk.press("J", "J", "K")
        assert not syncs
        assert len(owed) == 3
        paint_soon(desk.app)
        desk.app.tick()
        assert len(syncs) == 1
        assert desk.review.queue.cursor != at
