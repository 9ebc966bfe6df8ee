"""What a lab holds of a cluster is not lost sight of when its file is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.executors import make_executor
from engine.lab import Lab, load
from engine.paths import StateDir
from engine.shards.executor import ExecutorError
from engine.shards.local import LocalExecutor
from engine.shards.slurm import notes
from engine.shards.slurm.settings import Settings
from tests.tinylab import TinyLab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return load(TinyLab(tmp_path / "lab", []).root)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """Of a lab that holds a pilot, whose steps have their orders in the state directory."""
    state = StateDir(tmp_path / "state")
    state.make()
    notes.write(state.root / notes.PILOT, {"id": "a", "job": "7", "steps": str(state.root / "steps")})
    return state


def test_a_lab_that_holds_a_pilot_does_not_turn_to_this_machine(lab: Lab, state: StateDir) -> None:
    with pytest.raises(ExecutorError, match="still holds a pilot allocation"):
        make_executor(lab, state)
    notes.put_end(state.root, {"id": "a", "job": "7", "how": "idle"})  # its keeper gave it back
    assert isinstance(make_executor(lab, state)[0], LocalExecutor)


def test_nor_to_another_shared_directory(lab: Lab, state: StateDir, tmp_path: Path) -> None:
    moved = replace(lab, slurm=Settings(gpus=4, shared=tmp_path / "elsewhere"))
    with pytest.raises(ExecutorError, match=r"slurm\.shared has changed: change it back"):
        make_executor(moved, replace(state, shared=tmp_path / "elsewhere"))
