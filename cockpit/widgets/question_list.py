"""The list to pick from: ranked questions of the lab and what ships, then the queries that were run before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.text import clean_line

from .. import format as f
from .lines import BLANK, Line, Lines, rule

RECENT = 50
"""Past queries that are listed, latest first."""


@dataclass(frozen=True)
class Entry:
    """A question (`question`), or a past query (`text`)."""

    title: str
    question: dict[str, Any] | None = None
    text: str = ""

    @property
    def about(self) -> str:
        """What is searched by the filter."""
        more = self.question or {}
        return f"{self.title} {more.get('name', '')} {more.get('description', '')} {self.text}".lower()


def entries(questions: Sequence[dict[str, Any]], past: Sequence[str], terms: str) -> list[Entry]:
    """Questions in order, then past queries, latest first; those in which every word of `terms` is found."""
    found = [Entry(clean_line(str(each["title"])), each) for each in questions]
    found += [
        Entry(" ".join(clean_line(each.replace("\n", " ")).split()), None, each) for each in past[: -RECENT - 1 : -1]
    ]
    words = terms.lower().split()
    return [each for each in found if all(word in each.about for word in words)]


class QuestionList(Lines):
    """The list with its cursor; what the question under it answers stands below."""

    def __init__(self, sized: Callable[[], None] = lambda: None) -> None:
        super().__init__(id="questions")
        self._sized = sized  # told when there is another size to fill
        self.entries: list[Entry] = []
        self.at = 0
        self.top = 0

    def on_resize(self) -> None:
        self._sized()

    @property
    def entry(self) -> Entry | None:
        return self.entries[self.at] if self.entries else None

    def set(self, found: Sequence[Entry]) -> None:
        """Take another list; the cursor stays on its entry where that is still there."""
        before = self.entry
        self.entries = list(found)
        where = next((place for place, each in enumerate(found) if each == before), None)
        self.at = min(self.at, max(len(found) - 1, 0)) if where is None else where

    def move(self, by: int) -> None:
        self.at = min(max(self.at + by, 0), max(len(self.entries) - 1, 0))

    def redraw(self, *, focused: bool, terms: str, empty: str) -> None:
        """Paint the list, and the description of what is under the cursor at its foot."""
        width, height = self.size
        foot = self._foot(width, max(height // 3, 3))
        room = max(height - 1 - len(foot), 1)
        rows: list[tuple[int | None, Line]] = []
        for place, each in enumerate(self.entries):
            if each.question is None and (place == 0 or self.entries[place - 1].question is not None):
                rows += [(None, BLANK)] if place else []
                rows.append((None, Line(((" run before", "dim"),))))
            rows.append((place, self._line(place, each, width, focused)))
        here = next((index for index, (place, _) in enumerate(rows) if place == self.at), 0)
        if here < self.top:
            self.top = max(here - room // 2, 0)
        elif here >= self.top + room:
            self.top = here - room // 2
        self.top = min(self.top, max(len(rows) - room, 0)) if here >= room else 0
        note = f"/ {terms}" if terms else ""
        lines = [
            rule("questions", width, note, focused=focused),
            *(made for _, made in rows[self.top : self.top + room]),
        ]
        if not rows:
            lines += [Line(((f" {part}", "dim"),)) for part in f.wrap(empty, width - 2)]
        lines += [BLANK] * (height - len(foot) - len(lines))
        self.show([*lines[: height - len(foot)], *foot])

    def _line(self, place: int, each: Entry, width: int, focused: bool) -> Line:
        broken = each.question is not None and each.question.get("problem")
        own = each.question is not None and each.question.get("source") == "lab"
        colour = "bad" if broken else "dim" if each.question is None else "strong" if place == self.at else "text"
        mark = " ✎" if own else "  "
        made = Line(((" ", "text"), (f.fit(each.title, max(width - 4, 4)), colour), (mark, "faint"), (" ", "text")))
        return made.on("cursor" if focused else "raised") if place == self.at else made

    def _foot(self, width: int, most: int) -> list[Line]:
        entry = self.entry
        if entry is None or entry.question is None:
            return []
        said = clean_line(str(entry.question.get("problem") or entry.question["description"]))
        takes = ", ".join(str(each["name"]) for each in entry.question.get("params", ()))
        rows = [Line(((f" {part}", "dim"),)) for part in f.wrap(said, width - 2, most)]
        if takes:
            rows += [Line(((f" takes {part}" if not index else f"  {part}", "faint"),)) for index, part in
                     enumerate(f.wrap(clean_line(takes), width - 9, 2))]  # fmt: skip
        return [Line((("─" * width, "rule"),)), *rows]
