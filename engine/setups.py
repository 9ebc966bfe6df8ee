"""What a measurement depends on beside code and seed, for the rungs that are the engine's own."""

from __future__ import annotations

import hashlib

from engine.lab import Lab
from engine.types import HALF, SMOKE


def setup_for(setup: str, rung: str, lab: Lab) -> str:
    """The setup of shards at that rung: for a smoke, and for the trunk at half its length, one of its own, so that it is
    compared with nothing else."""
    if rung == HALF:
        text = f"{setup} {HALF} {lab.half_length().budget}"
    elif rung == SMOKE and lab.smoke is not None:
        text = f"{setup} {SMOKE} {lab.smoke.budget} {sorted(lab.smoke.params.items())}"
    else:
        return setup
    return hashlib.sha256(text.encode()).hexdigest()[:16]
