"""How far other clocks are from this machine's: those of the nodes, and of the shared file system. Nothing depends on it.

Another machine's clock can only be read some time after it was asked for, so what is known is a span: it said `first` and
`last` while this machine's clock went from `before` to `after`. Standard library only.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

APART_S = 2.0  # clocks that are certainly further apart than this are spoken of
ROUNDING_S = 1e-3  # of Unix seconds as floats, generously
TICK_S = 0.01  # files are dated by the kernel's last tick


@dataclass(frozen=True, slots=True)
class Offset:
    """How far a clock is ahead of this machine's: between `low` and `high` seconds."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def within(self) -> float:
        """At most how far the truth is from the middle, seconds."""
        return (self.high - self.low) / 2

    @property
    def apart(self) -> bool:
        """Whether it is certainly further away than is usual."""
        return self.low > APART_S or self.high < -APART_S

    @property
    def words(self) -> str:
        """`30 s ahead of`, `4 s behind`: what comes before the name of this machine's clock."""
        return f"{abs(self.middle):.3g} s {'ahead of' if self.middle > 0 else 'behind'}"


def bracket(before: float, after: float, first: float, last: float) -> Offset | None:
    """The offset of a clock that said `first` and, later, `last` (Unix seconds), between `before` and `after` of ours.
    None for what is no time, and where a clock was set meanwhile."""
    if not all(map(math.isfinite, (before, after, first, last))) or last < first:
        return None
    low, high = last - after, first - before
    return Offset(min(low, high), high) if low <= high + ROUNDING_S else None


def of_files(directory: Path) -> Offset | None:
    """The offset of the clock that dates the files of a directory; None where none can be made there."""
    with contextlib.suppress(OSError):
        before = time.time()
        handle, name = tempfile.mkstemp(prefix=".clock-", dir=directory)
        try:
            os.write(handle, b"?")
            os.fsync(handle)
            said = os.fstat(handle).st_mtime
        finally:
            os.close(handle)
            os.unlink(name)
        after = time.time()
        return bracket(before - TICK_S, after, said, said)
    return None
