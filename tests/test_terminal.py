"""The real driver on a real pseudo-terminal: nothing that a log or a model says reaches the reader's terminal as a command."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
from pathlib import Path
from types import TracebackType
from typing import Any

import pyte
import pytest

EVIL = (
    "\x1b]52;c;RVZJTA==\x1b\\\x1b[31mRED\x1b[0m\x9b32m\x07\x1b[2J\x1bP0;0|evil\x1b\\ "
    "\u202etxet\u202c \u200b[@click=app.bell]link[/] "
)

OURS = re.compile(
    r"\x1b\[[0-9;]*m|\x1b\[\d+;\d+H|\x1b\[\d+C|\x1b\[\?(?:25|1000|1002|1003|1004|1006|1015|1016|1049|2004|2026|2048|7)[hl]"
    r"|\x1b\[>\d+u|\x1b\[<u|\x1b\[\?(?:2026|2048)\$p|\x1b\[2J"
    r"|\x1b\]22;default\x07"  # Textual sets the mouse pointer's shape
)
"""Everything that the cockpit itself may send."""


_QUESTIONS = re.compile(rb"\x1b\[[<>=][0-9]*u|\x1b\[\?\d+\$p")
"""Questions that pyte takes for text."""


FREE_TEXT = {
    "hypothesis", "mechanism", "prediction", "detail", "why", "branch", "category", "decided_by", "proposer", "phase",
    "isolation", "name", "refusal",
}  # fmt: skip


class Terminal:
    """A child process on a pseudo-terminal of a given size; read until something is on it, send keys."""

    def __init__(self, *argv: str, env: dict[str, str], size: tuple[int, int] = (44, 160)) -> None:
        self.data = b""
        self.screen = pyte.Screen(size[1], size[0])
        self._stream = pyte.ByteStream(self.screen)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, *argv], env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)

    def read_until(self, *wanted: str, timeout: float = 60) -> None:
        """Read until each of `wanted` stands on the screen; fails with what stands there instead."""
        while not self.shows(*wanted):
            ready, _, _ = select.select([self.fd], [], [], timeout)
            if not ready or not self.read_more():
                raise AssertionError(f"never saw {wanted}; the screen:\n" + "\n".join(self.screen.display))

    def shows(self, *wanted: str) -> bool:
        """Whether each of `wanted` stands on the screen now."""
        lines = self.screen.display
        return all(any(each in line for line in lines) for each in wanted)

    def feed(self, piece: bytes) -> None:
        """Draw what came."""
        self.data += piece
        self._stream.feed(_QUESTIONS.sub(b"", piece))

    def read_more(self) -> bool:
        """Take what is there; False when the other end is closed."""
        try:
            more = os.read(self.fd, 65536)
        except OSError:
            return False
        self.feed(more)
        return bool(more)

    def send(self, keys: str) -> None:
        os.write(self.fd, keys.encode())


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "VIRTUAL_ENV") if name in os.environ}
    root = str(Path(__file__).resolve().parent.parent)
    return (
        keep
        | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONPATH": root, "TMPDIR": str(tmp_path), "ESCDELAY": "50"}
        | more
    )


def evil_lab() -> Any:
    """A story in which every free text tries to take over the terminal."""
    from tests.fakes import edit, hash_of, lab_in_progress

    engine = lab_in_progress()
    diff = edit(("        for block in self.blocks:", f"        # {EVIL}\n        for block in self.blocks:"))
    for key, row in list(engine.rows.items()):
        changed: dict[str, Any] = {}
        for name, value in row.items():
            if isinstance(value, str) and name in FREE_TEXT:
                changed[name] = f"{value[:12]} {EVIL}"
        if key[0] == "proposal" and row.get("diff_hash"):
            changed |= {
                "diff_hash": hash_of(diff),
                "risks": [EVIL],
                "files": [{"path": EVIL, "added": 1, "removed": 0, "status": "M"}],
            }
            engine.diffs[key[1]] = diff
        engine.change(*key, **changed)
    for shard in engine.logs:
        engine.logs[shard] += f"last line {EVIL}\n"
    engine.rows[("experiment", "0007")]["verdict"]["sentence"] = EVIL  # type: ignore[typeddict-item]
    return engine


def show_evil() -> None:
    """Entry of the child process."""
    from cockpit.app import open_cockpit

    asyncio.run(open_cockpit(evil_lab(), theme="dusk"))


@pytest.mark.parametrize("diffing", ["0", "1"])
def test_no_screen_passes_on_a_foreign_sequence(tmp_path: Path, diffing: str) -> None:
    code = "from tests.test_terminal import show_evil; show_evil()"
    with Terminal("-c", code, env=environment(tmp_path, COCKPIT_DIFF=diffing)) as terminal:
        terminal.read_until("trunk-1", "last line")
        terminal.send("jjj")
        terminal.read_until("log 0007.screen")
        terminal.send("2")
        terminal.read_until("mechanism", "right-to-left", "␛]52")
        terminal.send("?")
        terminal.read_until("type to find an action")
        terminal.send("\x11")
        terminal.read_until("re-attaches")
        shown = terminal.data.decode("utf-8", "replace")
    rest = OURS.sub("", shown)
    assert "␛]52;c;RVZJTA==␛" in shown, "the attempt is there to be seen"
    assert "\x1b" not in rest, repr(rest[max(rest.find("\x1b") - 80, 0) :][:200])
    assert not set(rest) & (set(map(chr, range(0x80, 0xA0))) | set("\x07\x00\x08\u202e\u200b"))


def test_a_torn_arrow_key_on_the_wire_decides_nothing_and_leaves_the_proposal_alone(tmp_path: Path) -> None:
    code = (
        "import asyncio; from cockpit.app import open_cockpit; from tests.fakes import lab_in_progress\n"
        "engine = lab_in_progress(); asyncio.run(open_cockpit(engine)); print('decided', len(engine.asked('decide')))"
    )
    with Terminal("-c", code, env=environment(tmp_path)) as terminal:
        terminal.read_until("trunk-1")
        terminal.send("2")
        terminal.read_until("norm0")
        terminal.send("\x1b")
        terminal.read_until("vs trunk")  # the escape alone went back one layer
        terminal.send("[A")
        terminal.send("2")
        terminal.read_until("mechanism")
        terminal.send("\x11")
        terminal.read_until("decided 0")


def test_the_diffing_driver_sends_a_fraction_for_the_same_screen(tmp_path: Path) -> None:
    code = (
        "import asyncio; from cockpit.app import open_cockpit; from tests.fakes import lab_in_progress; "
        "asyncio.run(open_cockpit(lab_in_progress()))"
    )
    walk = (
        ("j", "stopped by Ada"),
        ("j", "waits for a free slot"),
        ("j", "0007 s2"),
        ("2", "norm0("),
        ("J", "F.relu("),
        ("1", "0007 s2"),
    )
    with (
        Terminal("-c", code, env=environment(tmp_path, COCKPIT_DIFF="0")) as stock,
        Terminal("-c", code, env=environment(tmp_path, COCKPIT_DIFF="1")) as diffing,
    ):
        for terminal in (stock, diffing):
            terminal.read_until("trunk-1", "referee: val_bpb")
        for key, mark in walk:
            for terminal in (stock, diffing):
                terminal.send(key)
                terminal.read_until(mark)
        while stock.screen.display != diffing.screen.display:  # both have settled when they are the same
            ready, _, _ = select.select([stock.fd, diffing.fd], [], [], 30)
            assert ready, "\n".join(diffing.screen.display)
            for terminal in (stock, diffing):
                if terminal.fd in ready:
                    terminal.read_more()
        assert len(diffing.data) * 1.5 < len(stock.data)
