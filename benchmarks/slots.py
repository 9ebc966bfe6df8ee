"""Runs 16 shards of the sample lab through 2 slots of a real engine, and says how much of the time was not training.

    python benchmarks/slots.py [--shards 16] [--slots 2] [--steps 300]

The trunk alone, with as many seeds as shards. A slot's time is the wall clock, from the first launch to the last result. Of
that the first figure counts as training what the training processes themselves took, from their start to their end; the
second the optimizer steps alone; and both leave out the referee's work, which is given beside. The last line is the first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cockpit.attach import Session, connect, state_dir
from engine.shards.records import read_exit
from tests.tinylab import wait_for

LAB = Path(__file__).resolve().parent.parent / "sample_runs" / "nanolm"


def make(root: Path, shards: int, slots: int, steps: int) -> None:
    """The sample lab as a repository, with one seed a shard and nothing proposed."""
    shutil.copytree(LAB, root)
    config = root / "cockpit.toml"
    text = config.read_text()
    for old, new in (
        ("seeds = [0, 1, 2]", f"seeds = {list(range(shards))}"),
        ('mode = "fast"', 'mode = "fixed"'),
        ('slots = "auto"', f"slots = {slots}"),
        ("budget = 300", f"budget = {steps}"),
        ('kind = "recording"', 'kind = "none"'),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    config.write_text(text)
    git = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-C", str(root))
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "Begin")):
        subprocess.run((*git, *words), check=True)


def ended(session: Session, shards: int) -> list[dict[str, Any]]:
    """The shards without the trunk's smoke, once all of them have ended."""
    rows = [row for row in session.rows()[0] if row["kind"] == "shard" and row["rung"] != "smoke"]
    return rows if len(rows) == shards and all(row["state"] == "ended" for row in rows) else []


def steps_of(run_dir: Path) -> float:
    """Seconds that a run spent in optimizer steps, by its own account."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    summary: dict[str, float] = {}
    for line in lines:
        summary |= line.get("summary", {})
    a_step = summary["tokens"] / summary["steps"]
    return sum(a_step / line["tokens_per_s"] for line in lines if "step" in line)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--shards", type=int, default=16)
    words.add_argument("--slots", type=int, default=2)
    words.add_argument("--steps", type=int, default=300)
    given = words.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ck-"))
    os.environ["XDG_RUNTIME_DIR"] = str(place / "run")
    root = place / "lab"
    make(root, given.shards, given.slots, given.steps)
    try:
        with closing(connect(root)) as session:
            rows = wait_for(lambda: ended(session, given.shards), 3600.0)
            box = next(row["isolation"] for row in session.rows()[0] if row["kind"] == "lab")
        runs = state_dir(root).runs
        training = [read_exit(runs / row["id"]) for row in rows]
        scoring = [read_exit(runs / row["id"], "score-exit.json") for row in rows]
        assert all(each is not None and each.code == 0 for each in (*training, *scoring))
        first = min(each.started for each in training if each)
        wall = max(each.ended for each in scoring if each) - first
        trained = sum(each.ended - each.started for each in training if each)
        scored = sum(each.ended - each.started for each in scoring if each)
        stepped = sum(steps_of(runs / row["id"]) for row in rows)
        room = wall * given.slots - scored
        print(f"{given.shards} shards, {given.slots} slots, {box or 'box unknown'}: {wall:.1f} s of wall clock")
        print(f"a slot's time: training {trained / given.slots:.1f} s, of that steps {stepped / given.slots:.1f} s")
        print(f"the referee {scored / given.slots:.1f} s, which is {scored / given.slots / wall:.1%} of the wall clock")
        print(f"neither training nor refereeing: {(room - trained) / given.slots / wall:.1%} of the wall clock")
        print(f"neither steps nor refereeing: {(room - stepped) / given.slots / wall:.1%}")
        print(f"overhead {(room - trained) / given.slots / wall:.1%}")
    finally:
        subprocess.run(
            [sys.executable, "-m", "cockpit.cli", "down"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(LAB.parents[1])},
        )
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
