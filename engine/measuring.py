"""Writes down what judging needs of a shard beside its result: how it stood half-way, how it began, in which order it saw data.

In the ledger, so that the planner needs no file and a restart comes to the same verdicts. Only where judging is sequential.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace

from engine import events as e
from engine.core import Core
from engine.halfway import Measures, measures
from engine.judge.stopping import ABORTABLE
from engine.live import MOST_STEPS, Live
from engine.mix import MOST
from engine.text import clean
from engine.types import ShardRow
from engine.watch.detectors.settings import configure
from engine.watch.detectors.signals import Signal
from engine.watch.parse import Parsed

SOURCE_TOKENS = "source_tokens."


class Measuring:
    """Measures shards. `parsed(shard)` gives all that a shard wrote so far, a piece at a time."""

    def __init__(self, core: Core, live: Live, parsed: Callable[[str], Iterator[Parsed]]) -> None:
        self.core = core
        self.live = live
        self._parsed = parsed
        self._names = configure(core.lab.detectors).names

    async def feed(self, shard: str) -> None:
        """A running shard wrote something: measure it once it is half-way, where that may end it."""
        live, row = self.live.shards.get(shard), self.core.state.shards[shard]
        if live is None or not live.steps or live.step < live.steps // 2 or shard in self.core.state.measures:
            return
        arm = self.core.state.experiments[row["experiment"]]
        if self._wanted(row) and arm["role"] == "experiment" and arm["category"] in ABORTABLE:
            await self._measure(shard)

    async def ended(self, shard: str) -> None:
        """A shard has written all that it will."""
        if self._wanted(self.core.state.shards[shard]):
            await self._measure(shard)

    def _wanted(self, row: ShardRow) -> bool:
        lab = self.core.lab
        judged = lab.judge.mode != "fixed" or lab.compare != "tokens"
        return judged and not row.get("smoke") and "retune" not in row and not self.core.ledger.read_only

    async def _measure(self, shard: str) -> None:
        found = await asyncio.to_thread(self._read, shard)
        if found.known and found != self.core.state.measures.get(shard):
            self.core.record(e.ShardMeasured(shard, **asdict(found)))

    def _read(self, shard: str) -> Measures:
        summary: dict[str, float | str] = {}
        points: list[tuple[int, float]] = []
        speeds: list[float] = []
        loss, speed = self.core.lab.metric.loss, self._names.of(Signal.SPEED)
        for parsed in self._parsed(shard):
            summary |= parsed.summary
            points += [(point.step, point.values[loss]) for point in parsed.points if loss in point.values]
            speeds += [point.values[speed] for point in parsed.points if speed in point.values]
        steps = _number(summary.get("steps"))
        found = measures(
            points,
            int(steps) if steps is not None and 0 < steps < MOST_STEPS else None,
            _number(summary.get(self._names.of(Signal.FIRST_LOSS))),
            clean(str(summary.get(self._names.of(Signal.DATA_ORDER), "")))[:200],
        )
        counted = summary.get(self._names.of(Signal.TOKENS), summary.get("tokens"))
        return replace(
            found,
            tokens=_amount(counted),
            flops=_amount(summary.get(self._names.of(Signal.FLOPS))),
            speed=_amount(statistics.median(speeds)) if speeds else None,
            parameters=_amount(summary.get(self._names.of(Signal.PARAMETERS))),
            source_tokens=_by_source(summary),
        )


def _by_source(summary: Mapping[str, object]) -> dict[str, float]:
    """Tokens of each source that the run can draw from: `source_tokens.NAME` of its summary."""
    found = ((name, _amount(value)) for name, value in summary.items() if name.startswith(SOURCE_TOKENS))
    known = [(clean(name.removeprefix(SOURCE_TOKENS))[:80], size) for name, size in found if size is not None]
    return dict(known[:MOST])


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _amount(value: object) -> float | None:
    """A number above zero that a cost can be reckoned with."""
    found = _number(value)
    return found if found is not None and math.isfinite(found) and found > 0 else None
