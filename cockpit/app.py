"""The cockpit's application: one read model, one tick that paints what changed, and the screens."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

from . import env  # isort: skip  (must come before textual)
from textual.app import App
from textual.binding import Binding, BindingType
from textual.driver import Driver

from engine.rpc import DISCONNECTED, RpcError
from engine.text import clean

from . import clipboard, themes
from .driver import cell_diffing
from .fetch import Fetcher
from .follow import OFFLINE, Follower
from .listen import Listener
from .model import Link, ReadModel
from .screens.base import CockpitScreen
from .screens.help import HelpScreen
from .screens.review import ReviewScreen
from .screens.runs import RunsScreen
from .summary import kept_text
from .widgets.lines import Span

TICK_S = 0.25
"""Everything that happened is painted together, at most four times a second; once a second while unfocused."""

SKIPPED_WHEN_SLOW = 3
"""Ticks that are left out between two when the line is slow."""

MOST_FRAMES_WAITING = 3

FIRST_PAINT_S = 0.4
"""How long the first paint waits for the first rows, so that it is not painted twice."""


class CockpitApp(App[str], inherit_bindings=False):
    """A client of the engine. It decides nothing by itself and may die at any time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "leave", "leave", show=False, priority=True),
        Binding("ctrl+c", "say_how_to_leave", show=False, system=True),
    ]
    TITLE = "cockpit"
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self,
        link: Link,
        *,
        theme: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        driver_class: type[Driver] | None = None,
    ) -> None:
        super().__init__(driver_class=driver_class or cell_diffing())
        self.link = link
        self.clock = clock
        self.wall = wall
        self.model = ReadModel()
        self.follower = Follower(link, self.model)
        self.fetcher = Fetcher(link, self.model, clock)
        self.listener = Listener(link, self.model)
        self.message: Span | None = None
        self.themes, self._theme_problems = themes.load_all()
        for each in self.themes.values():
            self.register_theme(each.textual())
        depth = {"standard": "16", "eight_bit": "256"}.get(
            str(self.console.color_system), str(self.console.color_system)
        )
        self.depth = depth
        self.theme = themes.choose(self.themes, theme, depth).name
        self.palette = themes.Palette(self.themes[self.theme], depth)
        self._painted: object = None
        self._link_state = link.state
        self._blurred = False
        self._skipped = 0
        self._following: asyncio.Task[None] | None = None

    # --- life

    async def on_load(self) -> None:
        """Begin to follow before the first paint, and give it a moment: a screen that is painted once does not flicker."""
        self._following = asyncio.create_task(self.follower.run())
        await asyncio.wait([asyncio.ensure_future(self.follower.attached.wait())], timeout=FIRST_PAINT_S)

    def on_mount(self) -> None:
        self.install_screen(RunsScreen(), "runs")
        self.install_screen(ReviewScreen(), "review")
        runs = cast(RunsScreen, self.get_screen("runs"))
        self.fetcher.on_log = runs.take_log
        self.push_screen("runs")
        if self._theme_problems:
            self.message = (self._theme_problems[0], "warn")
        self.set_interval(TICK_S, self.tick)

    async def on_unmount(self) -> None:
        await self.fetcher.close()
        await self.listener.close()
        if self._following is not None:
            self._following.cancel()

    # --- the tick

    def tick(self) -> None:
        """Paint what changed since the last one; nothing when nothing did, and less when the line is slow."""
        if self.link.state != self._link_state:
            if self.link.state == "connected":
                self.fetcher.forget()
                self.follower.reattach()
            self._link_state = self.link.state
        self.listener.look()
        if self.slow and self._skipped < SKIPPED_WHEN_SLOW:
            self._skipped += 1
            return
        self._skipped = 0
        model = self.model
        state = (
            model.version, model.live_version, self.fetcher.changed, self.link.state, tuple(self.troubles()),
            self.listener.version if self.slow else self.listener.milestone,
            self.wall() // 60 if model.cluster is not None else None,  # walltime is counted down in minutes
        )  # fmt: skip
        if not self.screen_stack:  # it is being taken down
            return
        screen = self.screen
        if state != self._painted and isinstance(screen, CockpitScreen) and screen.is_mounted:
            self._painted = state
            screen.sync()

    @property
    def slow(self) -> bool:
        """Whether to paint less: nobody looks, or the line does not keep up."""
        return self._blurred or self.backed_up

    @property
    def backed_up(self) -> bool:
        """Whether frames wait that the terminal has not taken."""
        return getattr(self._driver, "backlog", 0) > MOST_FRAMES_WAITING

    def paint_soon(self) -> None:
        """Paint at the next tick whatever has changed since: many keys, one frame."""
        self._painted = None
        self._skipped = SKIPPED_WHEN_SLOW

    def on_app_blur(self) -> None:
        self._blurred = True

    def on_app_focus(self) -> None:
        self._blurred = False
        self._skipped = SKIPPED_WHEN_SLOW

    def troubles(self) -> list[str]:
        """Sentences for the status line: what the engine refused, and a broken lab file."""
        lab = self.model.lab
        task = self._following
        broken = task.exception() if task is not None and task.done() and not task.cancelled() else None
        found = [
            self.link.problem if self.link.state != "connected" else None,
            f"a bug ended the updates, leave and open again: {broken!r}" if broken else None,
            self.follower.trouble,
            lab["config_error"] if lab else None,
        ]
        return [clean(each) for each in found if each]

    # --- what screens ask for

    def show_screen(self, name: str) -> None:
        """Switch to `runs`, `review` or `sql`; the last is imported when it is first asked for."""
        if name == "sql" and not self.is_screen_installed("sql"):
            from .screens.sql import SqlScreen

            self.install_screen(SqlScreen(), "sql")
        if self.screen is not self.get_screen(name):
            self.switch_screen(name)

    def show_help(self, about: CockpitScreen) -> None:
        self.push_screen(HelpScreen(about))

    def next_theme(self) -> None:
        """The next theme by name."""
        names = sorted(self.themes)
        self.theme = names[(names.index(self.theme) + 1) % len(names)]
        self.message = (f"theme {self.theme}", "dim")

    def watch_theme(self, name: str) -> None:
        """Take the palette of the theme and paint everything with it."""
        if name in getattr(self, "themes", {}):
            self.palette = themes.Palette(self.themes[name], self.depth)
            for screen in self.screen_stack if self.is_running else ():
                for widget in screen.walk_children():
                    widget.refresh()

    def repaint(self) -> None:
        """Forget what the terminal shows and paint all of it."""
        forget = getattr(self._driver, "forget", None)
        if forget is not None:
            forget()
        self.screen.refresh(layout=True)
        for widget in self.screen.walk_children():
            widget.refresh()

    def copy(self, what: str, text: str) -> None:
        """Copy to the clipboard and a file, and say how."""
        self.run_worker(self._copy(what, text), group="copy")

    async def _copy(self, what: str, text: str) -> None:
        raw = getattr(self._driver, "write_raw", None)
        how = await asyncio.to_thread(clipboard.copy, text, raw)
        self.message = (f"copied {what}: {how}", "good")
        if isinstance(self.screen, CockpitScreen):
            self.screen.show_status()

    async def ask_twice(self, method: str, **params: Any) -> Any:
        """A request that changes something, with an id of its own; sent again once when the line broke in the middle."""
        params.setdefault("request_id", secrets.token_hex(8))
        try:
            return await self.link.call(method, **params)
        except RpcError as error:
            if error.code != DISCONNECTED:
                raise
        except OFFLINE:
            pass
        try:
            return await self.link.call(method, **params)
        except OFFLINE as error:
            raise RpcError(DISCONNECTED, "the engine did not answer; look at what it says when it is back") from error

    def stop(self, target: str, why: str) -> None:
        """Stop an experiment or shard."""
        self.run_worker(self._stop(target, why), group="stop")

    async def _stop(self, target: str, why: str) -> None:
        try:
            answer = await self.ask_twice("stop", id=target, why=why)
            self.message = (f"{target}: {clean(str(answer.get('state', 'stopping')))}", "warn")
        except RpcError as error:
            self.message = (clean(error.message), "bad")
        if isinstance(self.screen, CockpitScreen):
            self.screen.sync()

    # --- leaving

    def leave(self) -> None:
        """Leave; the result says what keeps running."""
        self.exit(kept_text(self.model))

    def action_leave(self) -> None:
        self.leave()

    def action_say_how_to_leave(self) -> None:
        if isinstance(self.screen, CockpitScreen):
            self.screen.say("ctrl+q leaves the cockpit; runs keep going", "dim")


async def open_cockpit(link: Link, *, theme: str | None = None) -> int:
    """Run the application on this terminal until the reader leaves; then print what keeps going. Returns the exit code."""
    app = CockpitApp(link, theme=theme)
    said = await app.run_async(mouse=env.wants_mouse())
    if said:
        print(said)
    return app.return_code or 0


def run_app(root: Path, *, theme: str | None = None) -> int:
    """Open the cockpit on the lab at `root`; its engine is started when none runs. Returns the exit code."""
    from .client import Client

    async def run() -> int:
        client = Client(root)
        await client.open()
        try:
            return await open_cockpit(client, theme=theme)
        finally:
            await client.close()

    return asyncio.run(run())
