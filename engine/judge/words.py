"""How amounts and seeds are put into the sentences of a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """Amounts in `unit`, with `digits` after the point."""

    unit: str = ""
    digits: int = 4

    def signed(self, value: float) -> str:
        """`value` with its sign; a value that would round to zero keeps two significant digits, so that it has one."""
        text = f"{value:+.{self.digits}f}"
        return f"{value:+.2g}" if value and float(text) == 0 else text

    def amount(self, value: float) -> str:
        """`value` with its sign and its unit."""
        return f"{self.signed(value)} {self.unit}".rstrip()


def how_many(count: int, what: str = "seed") -> str:
    """ "1 seed", "3 seeds"."""
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def which(seeds: Sequence[int]) -> str:
    """ "seed 2", "seeds 0, 2"."""
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))


def span(seconds: float) -> str:
    """A stretch of time as a person says it: "40 s", "12 min", "3.2 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def ratio(value: float) -> str:
    """An evidence ratio as a person reads it: two digits below 10, whole below a million, else a power of ten."""
    if value < 10:
        return f"{value:.2g}"
    return f"{value:.0f}" if value < 1e6 else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
