"""Screen 3, writing: suggestions under the cursor, past queries at the edges of the text, the editor's height."""

from __future__ import annotations

from textual.widgets import TextArea

from ..sql_complete import complete
from ..widgets.sql_popup import Suggestions
from .sql_reading import SqlReading


class SqlWriting(SqlReading):
    """Adds the keys of the editor."""

    @property
    def popup(self) -> Suggestions:
        return self.query_one(Suggestions)

    def show_asked(self) -> None:
        """Paint the lines around the editor."""
        raise NotImplementedError

    def fit_editor(self) -> None:
        """The editor is as high as its text needs, at most a third of the screen."""
        editor = self.editor
        most = max((self.size.height - 2) // 3, 3)
        height = min(max(editor.wrapped_document.height, 3), most)
        if editor.styles.height is None or editor.styles.height.value != height:
            editor.styles.height = height

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        if not self.is_mounted:
            return
        self.fit_editor()
        if self.asking.error is not None and self.asking.error.line:
            self.asking.error = None
            self.editor.mark(None)
        if self.pane == "editor" and self.editor.has_focus:
            self._suggest(forced=False)
        self.show_asked()

    def on_text_area_selection_changed(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        popup = self.popup
        if popup.is_open and not popup.completion.start <= self.editor.cursor:
            self.close_popup()

    def on_descendant_focus(self) -> None:
        if self.focused is self.editor and self.pane != "editor":
            self.pane = "editor"

    def do_complete(self) -> None:
        self._suggest(forced=True)

    def do_indent(self) -> None:
        """Tab never leaves the editor: what is typed next is text."""
        row, column = self.editor.cursor_location
        if self.editor.document.get_line(row)[:column].strip():
            self._suggest(forced=True)
        else:
            self.editor.insert(" " * (4 - column % 4))

    def _suggest(self, *, forced: bool) -> None:
        """Offer what could stand here: once a letter or a dot was typed, or when asked."""
        editor, popup = self.editor, self.popup
        text, cursor = editor.text, editor.cursor
        found = complete(text, cursor, self.schema)
        typed = text[found.start : cursor]
        wanted = forced or bool(typed) or text[:cursor].endswith(".")
        done = not forced and len(found.items) == 1 and found.items[0].text.lower() == typed.lower()
        if not wanted or done or not found.items:
            self.close_popup()
            return
        popup.offer(found)
        width, height = popup.measure()
        place = editor.cursor_screen_offset
        below = place.y + 1
        if below + height > self.size.height - 1:
            below = max(place.y - height, 1)
        left = min(max(place.x - len(typed) - 3, 0), max(self.size.width - width, 0))
        popup.styles.offset = (left, below)
        popup.styles.width, popup.styles.height = width, height
        popup.display = True
        popup.redraw()
        popup.call_after_refresh(popup.redraw)

    def close_popup(self) -> None:
        if self.is_mounted and self.popup.is_open:
            self.popup.close()
            self.popup.display = False

    def popup_key(self, key: str) -> bool:
        """Whether the open suggestions took the key."""
        popup = self.popup
        chosen = popup.chosen
        if chosen is None:
            return False
        if key == "tab":
            start = popup.completion.start
            self.close_popup()
            self.editor.take(start, chosen.text)
            self.close_popup()
        elif key in ("down", "up"):
            popup.move(1 if key == "down" else -1)
            popup.redraw()
        elif key == "escape":
            self.close_popup()
        else:
            if key in ("left", "right", "home", "end", "enter"):
                self.close_popup()
            return False
        return True

    def at_edge(self, by: int) -> bool:
        """Go through past queries; whether there was one."""
        text = self.walk.back(self.editor.text) if by < 0 else self.walk.forth()
        if text is None:
            return False
        self.editor.put(text)
        self.close_popup()
        return True

    def do_earlier(self) -> None:
        self.editor.action_cursor_up()

    def do_newer(self) -> None:
        self.editor.action_cursor_down()
