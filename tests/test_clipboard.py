"""Copying lands somewhere, and the reader is told where."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from cockpit import clipboard


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(clipboard, "runtime_base", lambda: tmp_path / "cockpit")
    return tmp_path


def tmux_that(tmp_path: Path, body: str) -> dict[str, str]:
    tool = tmp_path / "bin" / "tmux"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{body}\n")
    tool.chmod(0o755)
    return {"TMUX": "/tmp/tmux-0/default,1,0", "PATH": f"{tool.parent}:{os.environ['PATH']}"}


def test_inside_tmux_its_buffer_takes_it(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = tmux_that(private, f'echo "$@" > {private}/args; cat > {private}/buffer')
    monkeypatch.setenv("PATH", env["PATH"])
    raw: list[str] = []
    how = clipboard.copy("exp/0042-relu", raw.append, env)
    assert "tmux" in how
    assert (private / "args").read_text().strip() == "load-buffer -w -"
    assert (private / "buffer").read_text() == "exp/0042-relu"
    assert raw == []


def test_a_tmux_that_fails_is_not_believed(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = tmux_that(private, "exit 1")
    monkeypatch.setenv("PATH", env["PATH"])
    raw: list[str] = []
    how = clipboard.copy("text", raw.append, env)
    assert "OSC 52" in how
    assert raw == [f"\x1b]52;c;{base64.b64encode(b'text').decode()}\x07"]


def test_what_no_terminal_would_take_still_lands_in_a_private_file(private: Path) -> None:
    raw: list[str] = []
    how = clipboard.copy("x" * (clipboard.LONGEST + 1), raw.append, {})
    path = private / "cockpit" / "copied" / "last.txt"
    assert str(path) in how
    assert raw == []
    assert len(path.read_text()) == clipboard.LONGEST + 1
    assert path.parent.stat().st_mode & 0o077 == 0
