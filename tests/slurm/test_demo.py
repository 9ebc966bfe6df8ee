"""The sample lab, really trained, on this machine and on a cluster: the same verdicts, and the same losses to the last bit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cockpit.attach import state_dir
from tests.slurm.cluster import Cluster

ROOT = Path(__file__).resolve().parent.parent.parent
TABLE = '\n[slurm]\nnodes = 2\ntasks = 1\nwalltime = "2h"\n'


def demo(place: Path, *words: str, env: dict[str, str] | None = None) -> str:
    argv = [
        sys.executable,
        "-m",
        "cockpit.cli",
        "demo",
        "--headless",
        "--approve-all",
        "--json",
        "--dir",
        str(place),
        *words,
    ]
    every = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    done = subprocess.run(argv, capture_output=True, text=True, env=every, timeout=1500)
    assert done.returncode == 0, done.stderr
    return done.stdout


def on_cluster(lab: Path) -> None:
    """Point the sample lab at a cluster, with as many shards at once as the nodes have been given room for."""
    config = lab / "cockpit.toml"
    text = re.sub(r"(?m)^slots = .*$", 'executor = "slurm"', config.read_text(), count=1)
    config.write_text(text + TABLE)
    git = ["git", "-C", str(lab), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run([*git, "commit", "-q", "-a", "-m", "Run on the cluster"], check=True)


def losses(lab: Path) -> dict[str, list[tuple[int, float]]]:
    """Shard to its (step, loss), of those that finished."""
    found = {}
    for path in sorted(state_dir(lab).runs.glob("*.s*.a*/metrics.jsonl")):
        record = json.loads((path.parent / "exit.json").read_text())
        if record["code"] == 0:
            lines = map(json.loads, path.read_text().splitlines())
            found[path.parent.name] = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    return found


def said(answer: str) -> dict[str, Any]:
    """Experiment to what was said of it, and the metric of each of its finished shards."""
    found = {}
    for each in json.loads(answer)["experiments"]:
        shards = {(row["seed"], row["rung"]): row["metric"] for row in each["shards"] if row["outcome"] == "finished"}
        found[each["id"]] = (each["verdict"], each["effect"], each["interval"], shards)
    return found


@pytest.mark.slow
def test_the_demo_says_the_same_here_and_on_a_cluster(slurm: Cluster, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    demo(there, "--until", "0")
    on_cluster(there)
    cluster = said(demo(there, "--until", "2", env={"SLURM_CONF": str(slurm.conf)}))
    local = said(demo(here, "--until", "2"))
    assert cluster == local
    mine, theirs = losses(here), losses(there)
    both = mine.keys() & theirs.keys()
    assert len(both) >= 6
    assert {id: mine[id] for id in both} == {id: theirs[id] for id in both}
