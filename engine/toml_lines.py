"""Which line each key of a TOML text is on, so that an error about a value can name its line. Pure.

The standard library's parser gives values without positions. This scanner walks a text that the parser has accepted; it keeps
no values and checks nothing, and on a text that is not TOML it returns what it has found so far.
"""

from __future__ import annotations

import contextlib

Path = tuple[str | int, ...]


def key_lines(text: str) -> dict[Path, int]:
    """Line (from 1) of every key path and array element, e.g. `("lab", "command", 2)`; tables by their header."""
    scanner = _Scanner(text)
    with contextlib.suppress(IndexError, ValueError, RecursionError):  # not TOML: the parser has said so already
        scanner.document()
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """The line of `path`, or of the nearest thing around it, or None."""
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.line = 1
        self.lines: dict[Path, int] = {}
        self.tables: dict[Path, int] = {}  # how often a [[table]] has been opened

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def step(self, count: int = 1) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count

    def skip(self, chars: str) -> None:
        """Pass over `chars` and comments."""
        while (char := self.peek()) and (char in chars or char == "#"):
            if char == "#":
                end = self.text.find("\n", self.at)
                self.step((end if end != -1 else len(self.text)) - self.at)
            else:
                self.step()

    def document(self) -> None:
        prefix: Path = ()
        while True:
            self.skip(" \t\n")
            if not self.peek():
                return
            if self.peek() == "[":
                prefix = self.header()
            else:
                self.pair(prefix)

    def header(self) -> Path:
        repeated = self.text.startswith("[[", self.at)
        line = self.line
        self.step(2 if repeated else 1)
        path = self._inside_arrays(self.dotted("]"))
        self.step(2 if repeated else 1)
        if repeated:
            index = self.tables.get(path, -1) + 1
            self.tables[path] = index
            self.note(path, line)
            path = (*path, index)
        self.note(path, line)
        return path

    def _inside_arrays(self, names: Path) -> Path:
        """The path of a header, with the index of the array element that it is in."""
        path: Path = ()
        for at, name in enumerate(names):
            path = (*path, name)
            if at < len(names) - 1 and path in self.tables:
                path = (*path, self.tables[path])
        return path

    def note(self, path: Path, line: int) -> None:
        for end in range(1, len(path) + 1):
            self.lines.setdefault(path[:end], line)

    def pair(self, prefix: Path) -> None:
        line = self.line
        path = prefix + self.dotted("=")
        self.step()
        self.note(path, line)
        self.value(path)

    def dotted(self, end: str) -> Path:
        names: list[str] = []
        while True:
            self.skip(" \t")
            char = self.peek()
            if not char or char == "\n":
                raise ValueError("a key ends early")
            if char == end:
                return tuple(names)
            if char == ".":
                self.step()
            elif char in "\"'":
                names.append(self.string())
            else:
                start = self.at
                while self.peek() and self.peek() not in " \t.=]\n":
                    self.step()
                if self.at == start:
                    raise ValueError("a key is empty")
                names.append(self.text[start : self.at])

    def string(self) -> str:
        """Pass over a string; its text is exact for strings without escapes, which is enough for keys."""
        quote = self.peek()
        fence = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self.step(len(fence))
        start = self.at
        while not self.text.startswith(fence, self.at):
            if not self.peek():
                raise ValueError("a string does not end")
            self.step(2 if quote == '"' and self.peek() == "\\" else 1)
        while len(fence) == 3 and self.text.startswith(quote, self.at + 3):
            self.step()  # up to two quotes may stand before the closing three
        found = self.text[start : self.at]
        self.step(len(fence))
        return found

    def value(self, path: Path) -> None:
        self.skip(" \t")
        char = self.peek()
        if char and char in "\"'":
            self.string()
        elif char == "[":
            self.array(path)
        elif char == "{":
            self.inline_table(path)
        else:
            while self.peek() and self.peek() not in ",]}\n#":
                self.step()

    def array(self, path: Path) -> None:
        self.step()
        index = 0
        while True:
            self.skip(" \t\n,")
            if not self.peek() or self.peek() == "]":
                self.step()
                return
            self.note((*path, index), self.line)
            before = self.at
            self.value((*path, index))
            if self.at == before:
                raise ValueError("a value is missing")
            index += 1

    def inline_table(self, path: Path) -> None:
        self.step()
        while True:
            self.skip(" \t\n,")
            if not self.peek() or self.peek() == "}":
                self.step()
                return
            before = self.at
            self.pair(path)
            if self.at == before:
                raise ValueError("a key is missing")
