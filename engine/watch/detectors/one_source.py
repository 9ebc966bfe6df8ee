"""A source of text that pays for the gain of the others, hidden by the total: at once, or a little with every merge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from engine.watch.detectors.base import AfterDetector
from engine.watch.detectors.evidence import Run, Seen
from engine.watch.detectors.finding import Finding, Place, Severity
from engine.watch.detectors.signals import Signal


@dataclass(frozen=True)
class OneSource(AfterDetector):
    """A source is worse than the trunk's by many of its own standard deviations, while the total is not. The campaign's first
    trunk counts as much as the present one, so that many small losses on one source cannot pass unseen."""

    name: ClassVar = "one-source"
    needs: ClassVar = frozenset({Signal.SCORE, Signal.SOURCES, Signal.SOURCE_SPREAD, Signal.SPREAD, Signal.TRUNK})

    sigmas: float = 8.0  # of that source
    total: float = 8.0  # of the overall score: beyond this the total hides nothing

    def judge(self, seen: Seen) -> list[Finding]:
        found = list(self._against(seen, seen.trunk, ""))
        told = {each.place.what for each in found}
        since = self._against(seen, seen.first, " since the campaign's first trunk")
        return found + [each for each in since if each.place.what.partition(" since ")[0] not in told]

    def _against(self, seen: Seen, trunk: Run | None, since: str) -> Iterator[Finding]:
        run, sign = seen.run, 1 if seen.lower_is_better else -1
        if trunk is None or trunk.score is None or run.score is None or not seen.spread:
            return
        if sign * (run.score - trunk.score) > self.total * seen.spread:
            return
        for source, change in harm(trunk.sources, run.sources, sign).items():
            spread = seen.source_spread.get(source)
            if not spread or change / spread <= self.sigmas:
                continue
            other, value = trunk.sources[source], run.sources[source]
            sentence = f"{source} got worse{since}, from {other:.3f} to {value:.3f}, and the total does not show it"
            evidence = {"sigmas": change / spread, "limit": self.sigmas, "value": value, "trunk": other}
            yield self.found(Severity.ASKS, sentence, Place(what=f"{source}{since}"), **evidence)


def harm(before: Mapping[str, float], after: Mapping[str, float], sign: int) -> dict[str, float]:
    """By how much each source that both know got worse, in the metric's unit; below 0 it got better. `sign` is 1 where lower
    is better, else -1. Pure."""
    return {source: sign * (after[source] - before[source]) for source in sorted(before.keys() & after.keys())}
