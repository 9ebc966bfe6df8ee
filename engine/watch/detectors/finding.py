"""What a detector says: where, how bad, and in words that need no knowledge of the rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.types import Severity

__all__ = ["Finding", "Place", "Severity"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where it was seen: the steps from `first` to `last`, and the name of a tensor, a file or a data source."""

    first: int | None = None
    last: int | None = None
    what: str = ""

    def __str__(self) -> str:
        steps = "" if self.first is None else f"step {self.first}"
        if self.first is not None and self.last is not None and self.last != self.first:
            steps = f"steps {self.first} to {self.last}"
        return ", ".join(part for part in (steps, self.what) if part) or "the whole run"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a detector noticed; `evidence` holds the numbers that the rule compared, its thresholds among them."""

    detector: str
    severity: Severity
    place: Place
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)
