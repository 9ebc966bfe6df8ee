"""The demo as it is shipped: the sample lab, really trained, from nothing to a ranking; and what it refuses."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cockpit.attach import is_running, state_dir
from engine.paths import StateDir

ROOT = Path(__file__).resolve().parent.parent


def demo(*words: str, place: Path, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `cockpit demo` there, with no terminal."""
    argv = [sys.executable, "-m", "cockpit.cli", "demo", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, capture_output=True, text=True, cwd=place, env=env, timeout=seconds)


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    """The state of the lab in `lab` below the test's directory; its engine is stopped at the end."""
    found = state_dir(tmp_path / "lab")
    yield found
    if is_running(found):
        subprocess.run([sys.executable, "-m", "cockpit.cli", "-C", str(tmp_path / "lab"), "down"], cwd=ROOT, check=True)


def test_until_0_only_sets_the_lab_up(tmp_path: Path, state: StateDir) -> None:
    done = demo("--until", "0", "--dir", "lab", place=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(tmp_path / "lab") in done.stdout
    lab = tmp_path / "lab"
    assert git(lab, "status", "--porcelain") == ""
    assert git(lab, "log", "--format=%s") == "Start from the sample lab nanolm\n"
    assert len(list((lab / "proposals").glob("*.md"))) >= 18
    assert not is_running(state)
    assert not state.ledger.exists()
    again = demo("--headless", "--until", "0", "--dir", "lab", "--json", place=tmp_path)
    assert again.returncode == 0
    assert json.loads(again.stdout)["experiments"] == []
    assert [each.name for each in tmp_path.iterdir()] == ["lab"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--headless",), "--approve-all"),
        (("--headless", "--until", "2"), "--approve-all"),
        (("--approve-all",), "--headless"),
        (("--until", "2"), "--headless"),
        (("--headless", "--approve-all", "--until", "-1"), "0 or more"),
        (("--headless", "--approve-all", "--until", "two"), "invalid int"),
        (("--headless", "--approve-all", "--dir"), "--dir"),
    ],
)
def test_wrong_use_is_told_and_makes_nothing(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = demo(*words, place=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if words[-1] != "--dir":
        assert says in json.loads(demo(*words, "--json", place=tmp_path).stdout)["error"]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "thesis.tex").write_text("precious")
    done = demo("--headless", "--approve-all", "--dir", "lab", "--json", place=tmp_path)
    assert done.returncode == 2
    assert "not empty" in json.loads(done.stdout)["error"]
    assert [each.name for each in (tmp_path / "lab").iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_the_demo_ends_with_a_ranking_of_real_runs(tmp_path: Path, state: StateDir) -> None:
    words = ("--headless", "--approve-all", "--until", "2", "--dir", "lab", "--json")
    done = demo(*words, place=tmp_path, seconds=900)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["experiments"]) == 2
    for each in found["experiments"]:
        assert_shape(each)
        assert each["verdict"] in ("solid", "harmful", "not-solid", "broken")
    crashed = found["experiments"][-1]  # one of the first two proposals crashes, so that a short demo shows that too
    assert crashed["verdict"] == "broken"
    assert {shard["outcome"] for shard in crashed["shards"]} <= {"crashed", "killed"}
    trunk = found["trunk"][0]["shards"]
    assert {shard["outcome"] for shard in trunk} == {"finished"}
    assert all(1.0 < shard["metric"] < 8.0 for shard in trunk)  # bits per byte: 8 is knowing nothing
    metrics = [shard["metric"] for shard in trunk]
    assert len(set(metrics)) == len(metrics)  # the seeds are wired
    assert "2 of 2 decided" in done.stderr
    assert not is_running(state)
    assert [each.name for each in state.runs.glob("*/*-*") if each.is_dir()] == []  # scoring cleared up behind itself
    lab = tmp_path / "lab"
    assert len(git(lab, "branch", "--list", "exp/*").splitlines()) == 2
    assert git(lab, "status", "--porcelain") == ""
    verified = subprocess.run([sys.executable, "-m", "cockpit.cli", "-C", str(lab), "verify"], cwd=ROOT)
    assert verified.returncode == 0


def assert_shape(experiment: dict[str, Any]) -> None:
    """The shape that scripts rely on."""
    assert {"id", "hypothesis", "verdict", "effect", "interval", "shards"} <= set(experiment)
    if experiment["verdict"] == "broken":
        assert (experiment["effect"], experiment["interval"]) == (None, None)
        assert any(shard["outcome"] not in ("finished", "killed", "lost") for shard in experiment["shards"])
    else:
        low, high = experiment["interval"]
        assert low <= experiment["effect"] <= high
    for shard in experiment["shards"]:
        assert {"seed", "rung", "outcome", "metric"} <= set(shard)
        finished = shard["outcome"] == "finished"
        assert math.isfinite(shard["metric"]) if finished else shard["metric"] is None
