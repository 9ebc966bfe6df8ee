"""The strip at the bottom that asks: a confirmation, or a line of text. While it is open no other key does anything.

It answers nothing for a moment after it opened, and after a lone escape: a key pressed before the question was readable
is not an answer to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from textual import events

from engine.text import clean_line

from ..format import fit, width_of, wrap
from ..keys import GUARD_S
from .lines import Line, Lines, Span, line

Answer = Callable[[str], None]


@dataclass(frozen=True)
class Question:
    """What is asked. `text` None asks for a yes; else it is the text to begin with, and `label` stands before it.

    `answer` is called with the text (empty for a yes) once; `changed` with every edit, for a filter that works as one types.
    """

    title: str
    details: Sequence[str] = ()
    go: str = "go"
    text: str | None = None
    label: str = ""
    stock: Sequence[str] = ()
    required: bool = False
    answer: Answer = field(default=lambda _: None)
    changed: Answer | None = None
    cancelled: Callable[[], None] = field(default=lambda: None)
    guarded: bool = True
    alarm: bool = True
    switch: str = ""
    """What `ctrl+f` turns on and off, in a few words; `switched` is told of each turn."""
    switched: Callable[[bool], None] = field(default=lambda _: None)


class Prompt(Lines):
    """One question at a time; takes the focus while it is open."""

    can_focus = True

    def __init__(self, clock: Callable[[], float], *, id: str = "prompt") -> None:
        super().__init__(id=id)
        self._clock = clock
        self._inert_until = 0.0
        self.question: Question | None = None
        self.text = ""
        self._at = 0
        self._stock = -1
        self._note = ""
        self._on = False

    @property
    def is_open(self) -> bool:
        return self.question is not None

    def ask(self, question: Question) -> None:
        """Open with this question; what was open is dropped unanswered."""
        self.question = question
        self.text = question.text or ""
        self._at = len(self.text)
        self._stock = -1
        self._note = ""
        self._on = False
        self.guard()
        self._redraw()
        self.display = True
        self.focus(scroll_visible=False)

    def guard(self) -> None:
        """Answer nothing for a moment."""
        self._inert_until = self._clock() + GUARD_S

    def close(self) -> None:
        """Close without answering."""
        self.question = None
        self.display = False
        self.screen.set_focus(None)

    def on_key(self, event: events.Key) -> None:
        """Every key ends here while a question is open, but for the priority keys of the application."""
        question = self.question
        if question is None:
            return
        event.stop()
        event.prevent_default()
        if event.key == "escape":
            self.close()
            question.cancelled()
        elif event.key == "enter":
            self._answer(question)
        elif event.key == "ctrl+f" and question.switch:
            self._on = not self._on
            question.switched(self._on)
            self._redraw()
        elif question.text is not None:
            self._edit(event, question)
        elif event.key in ("q", "backspace", "n"):
            self.close()
            question.cancelled()

    def on_paste(self, event: events.Paste) -> None:
        event.stop()
        if self.question is not None and self.question.text is not None:
            self._insert(clean_line(event.text.strip()).replace("␊", " ")[:2000])

    def _answer(self, question: Question) -> None:
        if question.guarded and self._clock() < self._inert_until:
            self._note = "that enter came before this could be read: press it again"
            self._redraw()
            return
        text = self.text.strip()
        if question.required and not text:
            self._note = f"a {question.label or 'reason'} is needed: type one" + (
                ", or press tab" if question.stock else ""
            )
            self._redraw()
            return
        self.close()
        question.answer(text)

    def _edit(self, event: events.Key, question: Question) -> None:
        key = event.key
        self._note = ""
        if key == "tab" and question.stock:
            self._stock = (self._stock + 1) % len(question.stock)
            self.text = question.stock[self._stock]
            self._at = len(self.text)
        elif key == "backspace":
            if not self.text and not question.required:
                self.close()
                question.cancelled()
                return
            self.text = self.text[: max(self._at - 1, 0)] + self.text[self._at :]
            self._at = max(self._at - 1, 0)
        elif key == "delete":
            self.text = self.text[: self._at] + self.text[self._at + 1 :]
        elif key == "ctrl+u":
            self.text, self._at = self.text[self._at :], 0
        elif key == "ctrl+w":
            head = self.text[: self._at].rstrip()
            head = head[: head.rfind(" ") + 1]
            self.text, self._at = head + self.text[self._at :], len(head)
        elif key in ("left", "right", "home", "end"):
            ends = {"left": max(self._at - 1, 0), "right": min(self._at + 1, len(self.text)), "home": 0}
            self._at = ends.get(key, len(self.text))
        elif event.character and event.is_printable:
            self._insert(clean_line(event.character))
            return
        else:
            return
        self._edited()

    def _insert(self, text: str) -> None:
        self.text = self.text[: self._at] + text + self.text[self._at :]
        self._at += len(text)
        self._note = ""
        self._edited()

    def _edited(self) -> None:
        self._redraw()
        if self.question is not None and self.question.changed is not None:
            self.question.changed(self.text.strip())

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        question = self.question
        if question is None:
            return
        width = max((self.size.width or self.screen.size.width) - 2, 20)
        fill = "strip" if question.alarm else "raised"
        lines: list[Line] = [line((" " + question.title, "strong"), fill=fill)] if question.details else []
        for detail in question.details:
            lines += [line((" " + each, "text"), fill=fill) for each in wrap(detail, width, 3)]
        if question.switch:
            sign = "[x]" if self._on else "[ ]"
            lines += [
                line((f" {sign} ctrl+f: {each}", "text"), fill=fill) for each in wrap(question.switch, width - 13, 1)
            ]
        hint = self._note or self._hint(question)
        spans: list[Span] = []
        if question.text is not None:
            label = question.label or ("reason" if question.required else question.title)
            spans += [(f" {label}: ", "accent"), *self._field(width - len(label) - 4 - width_of(hint) - 2)]
        spans.append((f" {hint} " if spans else f" {hint}", "warn" if self._note else "dim"))
        lines.append(Line(tuple(spans), fill))
        self.styles.height = len(lines)
        self.show(lines)

    def _hint(self, question: Question) -> str:
        parts = [f"enter {question.go}", "esc cancel"]
        if question.stock:
            parts.insert(1, "tab stock reasons")
        return " · ".join(parts)

    def _field(self, width: int) -> list[Span]:
        """The text around the cursor, which is a block of its own."""
        width = max(width, 8)
        start = max(self._at - width + 1, 0)
        before, under, after = (
            self.text[start : self._at],
            self.text[self._at : self._at + 1] or " ",
            self.text[self._at + 1 :],
        )
        room = max(width - width_of(before) - width_of(under), 0)
        return [(before, "strong"), ("▏" if under == " " else under, "accent"), (fit(after, room), "strong")]
