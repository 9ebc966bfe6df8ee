"""The SQL screen on a real engine: names of its history, an error, a long result, a cancel, files, a kept question."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cockpit.app import CockpitApp
from cockpit.client import Client
from cockpit.screens.runs import RunsScreen
from cockpit.screens.sql import SqlScreen
from tests.test_app import Clock, Desk
from tests.tinylab import TinyLab, rows, wait_for

Make = Callable[..., TinyLab]


class Sitting(Desk):
    """Waits as long as a real engine may need."""

    async def until(self, what: Callable[[], object]) -> None:
        for _ in range(1500):
            if what():
                return
            await self.pilot.pause()
            self.app.tick()
            await asyncio.sleep(0.02)
        raise AssertionError(f"this never came about; the screen says:\n{self.text}")

    @property
    def sql(self) -> SqlScreen:
        assert isinstance(self.app.screen, SqlScreen)
        return self.app.screen

    async def ask(self, text: str) -> None:
        """Put SQL in the editor and run it until it is answered."""
        await self.start_asking(text)
        await self.until(lambda: self.sql.asking.running is None)

    async def start_asking(self, text: str) -> None:
        before = self.sql.asking.began
        await self.press("i")
        self.sql.editor.put(text)
        await self.press("ctrl+r")
        await self.until(lambda: self.sql.asking.began != before)


@asynccontextmanager
async def at_sql(lab: TinyLab) -> AsyncIterator[Sitting]:
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
    client, clock = Client(lab.root, start=False), Clock()
    await client.open()
    app = CockpitApp(client, theme="dusk", clock=clock)
    try:
        async with app.run_test(size=(160, 44)) as pilot:
            desk = Sitting(app, client, pilot, clock)  # type: ignore[arg-type]
            await desk.until(lambda: client.state == "connected" and app.model.lab is not None)
            await desk.press("3")
            await desk.until(lambda: "Leaderboard" in desk.text and desk.sql.schema.tables)
            yield desk
    finally:
        await client.close()


async def test_a_researcher_asks_reads_sorts_cancels_and_takes_away(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    lab = tiny()
    async with at_sql(lab) as desk:
        # names of the real history are suggested
        await desk.press("i")
        desk.sql.editor.put("select s.outc from shards s")
        desk.sql.editor.move_cursor((0, 13))
        await desk.press("o")
        await desk.press("backspace")
        await desk.until(lambda: desk.sql.popup.is_open)
        await desk.press("tab")
        assert desk.sql.editor.text == "select s.outcome from shards s"

        # an error is told where it is
        await desk.ask("select id,\n  nosuch from experiments")
        await desk.until(lambda: "line 2, column 3" in desk.text)

        # a result of many rows: its end is two keys away
        await desk.ask(
            "select i as n, i % 7 as seven, case when i = 2 then 'nan'::double else i / 3 end as third from range(100000) t(i)"
        )
        await desk.press("escape", "G")
        await desk.until(lambda: "99999" in desk.text)
        await desk.press("g", "l", "o")
        await desk.until(lambda: "seven▾" in desk.text)
        await desk.press("slash", *"n<10", "enter")
        await desk.until(lambda: "1/10" in desk.text)
        assert "NaN" in desk.text

        # into files, by parts, in the present order
        for name in ("a.csv", "a.json"):
            await desk.press("e", *["backspace"] * 10, *name, "enter")
            await desk.until(lambda name=name: (tmp_path / name).exists())
        written = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
        assert [row["seven"] for row in written][:3] == ["6", "5", "4"]
        assert len(json.loads((tmp_path / "a.json").read_text())) == 10

        # a query that would run long ends at once
        await desk.start_asking("select count(*) from range(100000000) a, range(100000000) b")
        await desk.press("escape")
        await desk.until(lambda: "cancelled after" in desk.text)
        await desk.ask("select id, state from experiments")
        await desk.until(lambda: "trunk-1" in desk.text)

        # kept as a question of the lab
        await desk.press("escape", "w", *"mine", "enter", *"Mine", "enter", "enter")
        await desk.until(lambda: (lab.root / "queries" / "mine.sql").exists())
        await desk.until(lambda: any(each["name"] == "mine" for each in desk.sql.questions))

        # a row of it opens its run
        await desk.press("enter")
        await desk.until(lambda: isinstance(desk.app.screen, RunsScreen))
        assert desk.runs.table.cursor is not None
        assert desk.runs.table.cursor.experiment == "trunk-1"
