"""The benchmark of steps says its figures, whatever they are here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.slurm.cluster import Cluster

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "slurm_steps.py"


def test_it_times_steps_of_a_pilot_beside_jobs_of_their_own(slurm: Cluster) -> None:
    words = [sys.executable, str(SCRIPT), "--shards", "5", "--seconds", "0.1", "--batch", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    pilot, alone, ratio = done.stdout.splitlines()
    assert re.fullmatch(
        r"pilot: 5 shards of 0\.1 s on 4 fake GPUs in .* s \(0\.2 ideal\), a shard .* s \(median\)", pilot
    )
    assert re.fullmatch(r"one sbatch a shard: 2 in .* s, a shard .* s \(median\)", alone)
    assert re.fullmatch(r"[0-9.]+x the ideal", ratio)
