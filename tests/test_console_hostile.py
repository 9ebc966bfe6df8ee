"""The heart of benchmarks/hostile_sql.py as a test: a real engine is attacked through its socket, and nothing comes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import hostile_sql
from tests.tinylab import TinyLab


def test_the_list_is_long_and_has_no_statement_twice() -> None:
    found = [each for kind in hostile_sql.statements().values() for each in kind]
    assert len(found) == len(set(found)) >= 90


@pytest.mark.parametrize("kind", ["files", "network", "changes"])
def test_nothing_is_touched_and_the_engine_lives(tiny: Callable[..., TinyLab], kind: str) -> None:
    lab = tiny()
    bait = lab.root.parent / "bait"
    hostile_sql.make_bait(bait)
    with lab.session():
        scores, watcher = hostile_sql.play(lab.root, bait, 60.0, kind)
    assert scores[kind].ran == 2 * len(hostile_sql.statements()[kind])
    assert scores[kind].refused >= scores[kind].ran - 4
    assert scores[kind].misses == []
    assert watcher.most < hostile_sql.MOST_BYTES
