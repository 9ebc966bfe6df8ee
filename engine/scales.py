"""Names of the rungs at which the learning rate is scaled: `screen@0.5` is the rung `screen` at half the rate. Pure.

A rung of its own, with a setup of its own (`engine.setups`), keeps what runs there out of every pair, baseline and headline. No
rung of a lab file can have such a name.
"""

from __future__ import annotations

MARK = "@"
PLACEHOLDER = "rate_scale"
"""What a lab's command names in braces to take the scale: its training code multiplies its learning rate by it."""


def shown(factor: float) -> str:
    """A factor as names, commands and sentences have it; six digits are enough for a learning rate."""
    return f"{factor:g}"


def scaled(rung: str, factor: float) -> str:
    """The name of a rung at which the rate is `factor` times what the code says."""
    return f"{rung}{MARK}{shown(factor)}"


def unscaled(rung: str) -> str:
    """The lab's own rung behind a name."""
    return rung.partition(MARK)[0]


def scale_of(rung: str) -> float | None:
    """The factor of a rung's name; None for a rung of the lab."""
    _, mark, factor = rung.partition(MARK)
    return float(factor) if mark else None
