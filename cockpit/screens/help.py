"""All keys, from the one table: type to filter; a key that does nothing now says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from .. import format as f
from .. import keys
from ..widgets.lines import BLANK, Line, Lines, rule
from .base import CockpitScreen


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the help, and the action that it stands for."""

    line: Line
    action: str | None = None


def entries(screen: CockpitScreen, typed: str, width: int) -> list[Entry]:
    """The table for one screen as lines, only rows in which every typed word is found."""
    found: list[Entry] = []
    for scope in (screen.scope, *screen.within, "all"):
        rows: list[Entry] = []
        for key in keys.of((scope,)):
            names = " ".join(keys.shown(each) for each in key.keys)
            reason = screen.why_not(key.action)
            text = f"{names} {key.title} {key.does} {reason or ''}".lower()
            if not all(word in text for word in typed.lower().split()):
                continue
            shown = Line(
                ((f"  {f.fit(names, 18)}", "faint" if reason else "accent"), (key.does, "dim" if reason else "text"))
            )
            rows.append(Entry(shown, key.action))
            if reason:
                parts = f.wrap(reason, width - 30, 2)
                rows += [Entry(Line(((f"{'':20}not now: {part}", "warn"),))) for part in parts]
        if rows:
            found += [Entry(Line((("  " + keys.SCOPES[scope], "strong"),))), *rows, Entry(BLANK)]
    if not typed:
        found.append(Entry(Line((("  " + keys.SCOPES["prompt"], "strong"),))))
        found += [Entry(Line(((f"  {f.fit(name, 18)}", "accent"), (does, "text")))) for name, does in keys.PROMPT]
    return found or [Entry(Line((("  no key matches", "dim"),)))]


class HelpScreen(Screen[None], inherit_bindings=False):
    """Opaque, over the screen it explains; also the palette: enter does the first action that matches what was typed."""

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
        if event.key in ("escape", "enter", "question_mark", "ctrl+p"):
            if self.typed and event.key == "escape":
                self.typed = ""
            else:
                self._close(self._first() if event.key == "enter" else None)
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

    def _first(self) -> str | None:
        """The action that enter would do: the first match, once something was typed."""
        if not self.typed:
            return None
        return next((each.action for each in entries(self.about, self.typed, self.size.width) if each.action), None)

    def _close(self, action: str | None) -> None:
        about = self.about
        self.dismiss()
        if action is not None:
            self.app.call_later(about.action_do, action)

    def redraw(self) -> None:
        """Show the window on the filtered table."""
        width, height = self.size
        first = self._first()
        lines: list[Line] = []
        for each in entries(self.about, self.typed, width):
            chosen = first is not None and each.action == first
            lines.append(each.line.on("cursor") if chosen else each.line)
        page = max(height - 3, 1)
        self.top = min(max(self.top, 0), max(len(lines) - page, 0))
        more = f"{self.top + 1}–{min(self.top + page, len(lines))} of {len(lines)}" if len(lines) > page else ""
        window = lines[self.top : self.top + page]
        find = f" find: {self.typed}▏" if self.typed else " type to find an action"
        does = "enter does it · esc clears" if self.typed else "↑↓ scroll · esc close"
        foot = Line(((find, "accent"), (f"   {does}", "faint")))
        pad = [BLANK] * (page - len(window))
        self.query_one("#help", Lines).show([rule(" keys", width, more + " "), *window, *pad, BLANK, foot])
