"""Fixtures for the whole suite: no test sees the researcher's own sockets, keys or git settings."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tinylab import TinyLab


@pytest.fixture(autouse=True, scope="session")
def _private_runtime() -> Iterator[None]:
    """Sockets lie in a directory of this run, with a short path; keys and git settings of the machine are out of sight."""
    place = tempfile.mkdtemp(prefix="ck-")
    old = dict(os.environ)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # what a shell starts in its background ignores it, and so would all
    os.environ["XDG_RUNTIME_DIR"] = place
    os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
    for name in ("ANTHROPIC_API_KEY", "COCKPIT_CRASH_AT"):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(old)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Callable[..., TinyLab]]:
    """Make tiny labs; their engines and launchers are stopped at the end."""
    made: list[TinyLab] = []

    def make(*proposals: str, **options: int) -> TinyLab:
        made.append(TinyLab(tmp_path / f"lab{len(made)}", list(proposals), **options))
        return made[-1]

    yield make
    for each in made:
        each.end()
