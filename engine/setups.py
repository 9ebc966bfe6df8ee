"""What a measurement depends on beside code and seed, for the rungs that are the engine's own."""

from __future__ import annotations

import hashlib

from engine.lab import Lab
from engine.scales import scale_of
from engine.types import HALF, SMOKE


def setup_for(setup: str, rung: str, lab: Lab) -> str:
    """The setup of shards at that rung: for a smoke, for the trunk at half its length, and at a scaled learning rate, one of
    its own, so that it is compared with nothing else."""
    if rung == HALF:
        text = f"{setup} {HALF} {lab.half_length().budget}"
    elif rung == SMOKE and lab.smoke is not None:
        text = f"{setup} {SMOKE} {lab.smoke.budget} {sorted(lab.smoke.params.items())}"
    elif scale_of(rung) is not None:
        text = f"{setup} {rung}"
    else:
        return setup
    return hashlib.sha256(text.encode()).hexdigest()[:16]
