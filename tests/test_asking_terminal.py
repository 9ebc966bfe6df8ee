"""On a real pseudo-terminal: keys are answered while a reply streams, and the screen is lent to an editor and comes back."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from tests.streaming import CHUNK
from tests.test_revising import scripted_editor, two_waiting
from tests.test_terminal import Terminal, environment
from tests.tinylab import TinyLab, better, rows

Make = Callable[..., TinyLab]


def chunk_on(terminal: Terminal) -> int:
    """The number of the latest chunk on the screen."""
    found = re.findall(r"chunk (\d+)", "\n".join(terminal.screen.display))
    return max((int(each) for each in found), default=0)


def press_until(terminal: Terminal, key: str, mark: str) -> None:
    """Press a key that is inert for a moment after what is shown has changed, until it has done what it is for."""
    for _ in range(8):
        terminal.send(key)
        try:
            terminal.read_until(mark, timeout=3)
        except AssertionError:
            continue
        return
    raise AssertionError(f"never saw {mark}; the screen:\n" + "\n".join(terminal.screen.display))


def test_every_key_is_answered_while_chunks_keep_arriving_and_a_fast_stream_paints_little(tmp_path: Path) -> None:
    with Terminal("-m", "tests.streaming", env=environment(tmp_path), size=(50, 200)) as terminal:
        terminal.read_until("trunk-1")
        terminal.send("2")
        terminal.read_until("asking, r0001", "norm0(")
        while not chunk_on(terminal):
            assert terminal.read_more()
        first, begun = chunk_on(terminal), len(terminal.data)
        for key, mark in (("J", "F.relu("), ("J", "Fewer parameters"), ("K", "F.relu("), ("K", "norm0(")):
            for _ in range(3):
                before = chunk_on(terminal)
                while chunk_on(terminal) == before:  # it goes on between any two keys
                    assert terminal.read_more()
            terminal.send(key)
            terminal.read_until(mark)
        chunks, painted = chunk_on(terminal) - first, len(terminal.data) - begun
        assert chunks >= 12
        assert painted < chunks * CHUNK, "less is painted than is said"
        terminal.send("\x11")
        terminal.read_until("re-attaches")


def test_the_screen_is_lent_to_the_editor_and_what_it_saves_takes_the_place_of_the_old_one(
    tiny: Make, tmp_path: Path
) -> None:
    lab = tiny(better(0), better(1))
    with lab.session() as session:
        first, _ = two_waiting(session)
        bad, good = scripted_editor(tmp_path / "bad.py", ("RATE = 1.0", "RATE = 7.0")), tmp_path / "good.py"
        better_editor = scripted_editor(good, ("RATE = 7.0", "RATE = 1.0"), ("RATE = 2.0", "RATE = 2.5"))
        once = tmp_path / "editor.sh"  # the first time it breaks the proposal, the second time it mends what was kept
        once.write_text(
            f'if [ -e {shlex.quote(str(tmp_path))}/been ]; then {better_editor} "$1"; '
            f'else touch {shlex.quote(str(tmp_path))}/been; {bad} "$1"; fi\n'
        )
        env = environment(tmp_path, EDITOR=f"sh {once}", XDG_RUNTIME_DIR=os.environ["XDG_RUNTIME_DIR"])
        with Terminal("-m", "cockpit.cli", "-C", str(lab.root), env=env) as terminal:
            terminal.read_until("trunk-1")
            terminal.send("2")
            terminal.read_until("RATE = 2.0", "mechanism")
            for mark in ("nothing was queued", "takes the place of"):
                press_until(terminal, "e", "Edit p0001 in sh?")
                press_until(terminal, "\r", mark)
            terminal.send("\x11")
            terminal.read_until("opens this lab again")
        found = rows(session, "proposal")
        new = found[found[first["id"]]["replaced_by"]]
        assert (new["state"], new["co_author"]) == ("waiting", "Ada <ada@example.org>")
        assert not list(tmp_path.glob("cockpit-p*")), "what is in the queue lies nowhere else"
