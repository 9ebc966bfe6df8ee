"""How often a lab may submit jobs: a token bucket, so that a shared controller is never flooded. Pure: the clock comes in."""

from __future__ import annotations


class Bucket:
    """`most` submissions at once, and then `a_minute` of them a minute. `now` is seconds of a clock that never goes back."""

    def __init__(self, a_minute: float, most: int) -> None:
        self._a_second = a_minute / 60.0
        self._most = float(most)
        self._tokens = float(most)
        self._at: float | None = None

    def wait_s(self, now: float) -> float:
        """Seconds until one may be taken; 0 where it may be now."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._a_second)

    def take(self, now: float) -> bool:
        """Take one; False where there is none."""
        self._fill(now)
        if self._tokens < 1.0 - 1e-9:
            return False
        self._tokens = max(0.0, self._tokens - 1.0)
        return True

    def _fill(self, now: float) -> None:
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now if self._at is None else max(self._at, now)
        self._tokens = min(self._most, self._tokens + passed * self._a_second)
