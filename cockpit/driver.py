"""The terminal driver of the cockpit: Textual's own, writing only the cells that changed. `COCKPIT_DIFF=0` turns that off."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from textual import events, messages
from textual.driver import Driver
from textual.message import Message

from .cells import CellDiff

if TYPE_CHECKING:
    from textual.app import App


def cell_diffing() -> type[Driver] | None:
    """The driver class to use, or None for Textual's choice: on Windows, without terminals, or when it is turned off."""
    if os.environ.get("COCKPIT_DIFF", "1") == "0" or sys.platform == "win32":
        return None
    return _make()


def _make() -> type[Driver]:
    from textual.drivers.linux_driver import LinuxDriver

    class CellDiffDriver(LinuxDriver):
        """Passes every write through a `CellDiff`; forgets what it knew whenever others may have changed the terminal."""

        def __init__(
            self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
        ) -> None:
            self.cells = CellDiff()
            super().__init__(app, debug=debug, mouse=mouse, size=size)

        @property
        def backlog(self) -> int:
            """Writes that the terminal has not taken yet: more than a few mean a slow line."""
            writer = self._writer_thread
            return writer._queue.qsize() if writer is not None else 0

        def write(self, data: str) -> None:
            if changed := self.cells.feed(data):
                super().write(changed)

        def write_raw(self, data: str) -> None:
            """Past the filter, for the one sequence that it would refuse and we mean: setting the clipboard."""
            super().write(data)

        def forget(self) -> None:
            """Paint everything anew, on a cleared screen."""
            self.cells.forget()
            super().write("\x1b[0m\x1b[2J")

        def process_message(self, message: Message) -> None:
            if isinstance(message, events.Resize | messages.InBandWindowResize):
                self.cells.forget()
            super().process_message(message)

        def start_application_mode(self) -> None:
            self.cells.forget()
            super().start_application_mode()  # type: ignore[no-untyped-call]

        def stop_application_mode(self) -> None:
            self.cells.forget()
            super().stop_application_mode()

    return CellDiffDriver
