"""All keys, from the one table: type to filter; a key that does nothing now says why."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from .. import format as f
from .. import keys
from ..widgets.lines import BLANK, Line, Lines, rule
from .base import CockpitScreen


def help_lines(screen: CockpitScreen, typed: str, width: int) -> list[Line]:
    """The table for one screen as lines, only rows in which every typed word is found."""
    lines: list[Line] = []
    for scope in (screen.scope, "all"):
        rows: list[Line] = []
        for key in keys.of((scope,)):
            names = " ".join(keys.shown(each) for each in key.keys)
            reason = screen.why_not(key.action)
            text = f"{names} {key.title} {key.does} {reason or ''}".lower()
            if not all(word in text for word in typed.lower().split()):
                continue
            rows.append(
                Line(
                    (
                        (f"  {f.fit(names, 18)}", "faint" if reason else "accent"),
                        (key.does, "dim" if reason else "text"),
                    )
                )
            )
            if reason:
                rows += [Line(((f"{'':20}not now: {part}", "warn"),)) for part in f.wrap(reason, width - 30, 2)]
        if rows:
            lines += [Line((("  " + keys.SCOPES[scope], "strong"),)), *rows, BLANK]
    if not typed:
        lines.append(Line((("  " + keys.SCOPES["prompt"], "strong"),)))
        lines += [Line(((f"  {f.fit(name, 18)}", "accent"), (does, "text"))) for name, does in keys.PROMPT]
    return lines or [Line((("  no key matches", "dim"),))]


class HelpScreen(Screen[None], inherit_bindings=False):
    """Opaque, over the screen it explains."""

    CSS_PATH: ClassVar[list[str]] = ["base.tcss", "help.tcss"]  # type: ignore[assignment]
    BINDINGS: ClassVar[list[BindingType]] = []
    AUTO_FOCUS = ""

    def __init__(self, about: CockpitScreen) -> None:
        super().__init__()
        self.about = about
        self.typed = ""
        self.top = 0

    def compose(self) -> ComposeResult:
        yield Lines(id="help")

    def on_resize(self) -> None:
        self.call_after_refresh(self.redraw)

    def on_key(self, event: events.Key) -> None:
        """Letters filter; arrows and paging keys scroll; esc first empties the filter, then closes."""
        event.stop()
        page = max(self.size.height - 4, 1)
        moves = {
            "down": 1, "up": -1, "pagedown": page, "pageup": -page,
            "ctrl+d": page // 2, "ctrl+u": -page // 2, "home": -9999, "end": 9999,
        }  # fmt: skip
        if event.key in ("escape", "enter", "question_mark"):
            if self.typed and event.key == "escape":
                self.typed = ""
            else:
                self.dismiss()
                return
        elif event.key in moves:
            self.top += moves[event.key]
        elif event.key == "backspace":
            self.typed = self.typed[:-1]
        elif event.character and event.is_printable:
            if event.character == "q" and not self.typed:
                self.dismiss()
                return
            self.typed += event.character
            self.top = 0
        self.redraw()

    def redraw(self) -> None:
        """Show the window on the filtered table."""
        width, height = self.size
        lines = help_lines(self.about, self.typed, width)
        page = max(height - 3, 1)
        self.top = min(max(self.top, 0), max(len(lines) - page, 0))
        more = f"{self.top + 1}–{min(self.top + page, len(lines))} of {len(lines)}" if len(lines) > page else ""
        window = lines[self.top : self.top + page]
        foot = Line(
            (
                (f" find: {self.typed}▏" if self.typed else " type to find a key", "accent"),
                ("   ↑↓ scroll · esc close", "faint"),
            )
        )
        pad = [BLANK] * (page - len(window))
        self.query_one("#help", Lines).show([rule(" keys", width, more + " "), *window, *pad, BLANK, foot])
