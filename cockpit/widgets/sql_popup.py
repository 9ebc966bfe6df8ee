"""Suggestions under the cursor of the editor: a small opaque list that takes no focus."""

from __future__ import annotations

from .. import format as f
from ..sql_complete import Completion, Suggestion
from .lines import Line, Lines

ROWS = 8
WIDEST = 52
_SIGNS = {"table": "▤", "column": "│", "function": "ƒ", "keyword": "·"}


class Suggestions(Lines):
    """Open while it has items; the screen places it."""

    def __init__(self) -> None:
        super().__init__(id="suggestions")
        self.completion = Completion(0)
        self.at = 0

    @property
    def is_open(self) -> bool:
        return bool(self.completion.items)

    @property
    def chosen(self) -> Suggestion | None:
        return self.completion.items[self.at] if self.is_open else None

    def offer(self, completion: Completion) -> None:
        """Show these, the first one chosen."""
        self.completion = completion
        self.at = 0

    def close(self) -> None:
        self.completion = Completion(0)

    def move(self, by: int) -> None:
        """Choose another; round at the ends."""
        self.at = (self.at + by) % len(self.completion.items)

    def measure(self) -> tuple[int, int]:
        """Width and height that it needs now."""
        items = self.completion.items
        label = max((f.width_of(each.label) for each in items), default=0)
        note = max((f.width_of(each.note) for each in items), default=0)
        return min(label + note + 7, WIDEST), min(len(items), ROWS)

    def redraw(self) -> None:
        """Paint the window around the chosen one."""
        items = self.completion.items
        width, height = self.measure()
        top = min(max(self.at - height // 2, 0), max(len(items) - height, 0))
        note = min(max((f.width_of(each.note) for each in items), default=0), width // 2)
        lines: list[Line] = []
        for place, each in enumerate(items[top : top + height], top):
            here = place == self.at
            label = f.fit(each.label, max(width - note - 6, 4))
            spans = (
                (f" {_SIGNS.get(each.kind, ' ')} ", "accent" if here else "faint"),
                (label, "strong" if here else "text"),
                (f"  {f.fit(each.note, note, right=True)} ", "dim" if here else "faint"),
            )
            lines.append(Line(spans, "cursor" if here else "raised"))
        self.show(lines)
