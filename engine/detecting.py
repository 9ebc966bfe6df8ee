"""The failure detectors at work: over the stream of each running shard, and over each pair of runs that has ended.

What they find becomes `finding.noted` events, nothing twice. A finding of severity "stop" ends its shard,
whose outcome is then `diverged` (or `nonfinite`, by what it wrote), not `killed`: that is the code's own fault.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from engine import events as e
from engine.core import Core
from engine.files import read_regular
from engine.found import next_finding
from engine.history.tables import Batch
from engine.judge.noise import LEAST_CALIBRATION
from engine.judge.referee import ScoreError, read_text
from engine.live import Live
from engine.racing import first_seeds, latest
from engine.text import clean
from engine.types import HALF, SMOKE, ExperimentRow, Outcome, ShardRow
from engine.watch.detectors.evidence import Declared, Run, Seen, read_run
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.registry import LiveWatch, active, asleep, judge
from engine.watch.detectors.settings import configure
from engine.watch.detectors.signals import Signal
from engine.watch.detectors.sketch import passages, read_rows
from engine.watch.detectors.trunk import scored, source_spread, spread
from engine.watch.parse import Parsed, Point

log = logging.getLogger("engine")
ROWS_LIMIT = 64 << 20  # bytes of a file of hashes
POINTS_LIMIT = 1_000_000  # of one run that whole-run rules look at
RUNS_KEPT = 16


class Detecting:
    """Asks the detectors. `parsed(shard)` gives all that a shard wrote, a piece at a time; `held` the held text's manifest."""

    def __init__(
        self, core: Core, live: Live, parsed: Callable[[str], Iterator[Parsed]], held: Callable[[], Path | None]
    ) -> None:
        self.core = core
        self.live = live
        self._parsed = parsed
        self._held_text = held
        self._detectors = configure(core.lab.detectors)
        self._watches: dict[str, LiveWatch] = {}
        self._runs: dict[str, Run] = {}
        self._held: dict[Path, frozenset[int]] = {}

    # --- while a shard runs ---

    async def feed(self, batch: Batch) -> bool:
        """Take in what was read of a running shard. True when it is to be ended at once."""
        shard = batch.shard
        if shard not in self.live.shards:
            return False
        watch = self._watches.get(shard)
        if watch is None:
            watch = self._watches[shard] = LiveWatch(self._declared(shard), self._detectors.all)
            if batch.start:  # an engine before this one followed the beginning
                self._note(shard, await asyncio.to_thread(self._replayed, shard, watch, batch.start))
        self._note(shard, watch.feed(batch.points))
        return shard in self.core.state.condemned

    def forget(self, shard: str) -> None:
        """The shard has ended: its stream is over."""
        self._watches.pop(shard, None)

    async def look_again(self, arm: str) -> list[str]:
        """All rules that need no other arm, over the finished runs of the trunk, whatever was looked for while they ran. Notes
        what is new; returns the shards that were looked at."""
        rows = [
            row
            for row in self.core.state.shards_of(arm)
            if row["outcome"] == Outcome.FINISHED and not row.get("smoke") and "retune" not in row
        ]
        looked = []
        for row in rows:
            try:
                found = await asyncio.to_thread(self._alone, row, rows)
            except (OSError, ValueError) as error:
                log.warning("%s was not looked at again: %s", row["id"], error)
                continue
            self._note(row["id"], found, once=True)
            looked.append(row["id"])
        return looked

    def _alone(self, row: ShardRow, rows: Iterable[ShardRow]) -> list[Finding]:
        """What is found in one finished run beside its siblings. The trunk's own run can neither be stopped any more nor be
        kept from the trunk: what says so of others asks for somebody's word here."""
        run = self._run(row)
        others = tuple(self._run(each) for each in rows if each["seed"] != row["seed"] and each["rung"] == row["rung"])
        watch = LiveWatch(Declared(self._steps(row["rung"], run), self._detectors.names), self._detectors.all)
        found = [each for parsed in self._parsed(row["id"]) for each in watch.feed(parsed.points)]
        found += judge(Seen(run, siblings=others, held=self._held_passages(), changed=()), self._detectors.all)
        return [
            replace(each, severity=min(Severity(each.severity), Severity.BARS, key=list(Severity).index))
            for each in found
        ]

    def _declared(self, shard: str) -> Declared:
        return Declared(self.live.shards[shard].steps, self._detectors.names)

    def _replayed(self, shard: str, watch: LiveWatch, upto: int) -> list[Finding]:
        """What the watch says of the first `upto` bytes of a shard's measurements."""
        found: list[Finding] = []
        for parsed in self._parsed(shard):
            found += watch.feed(parsed.points)
            upto -= parsed.consumed
            if upto <= 0:
                break
        return found

    # --- after shards have ended ---

    async def examine(self, shard: str) -> None:
        """Look at the pairs that are complete now that this shard has finished; at none when it has not, or is a smoke, since a
        step or two say nothing, or a shorter run of the trunk, which stands in no pair."""
        row = self.core.state.shards[shard]
        if row["outcome"] != Outcome.FINISHED or row["rung"] in (SMOKE, HALF) or shard in self.core.state.set_aside:
            return
        arm = self.core.state.experiments[row["experiment"]]
        if arm["role"] == "experiment":
            trunk = self._finished(arm["baseline"], row)
            if trunk is not None:
                await self._examine_pair(arm, row, trunk)
            return
        against = [each for each in self.core.state.experiments.values() if each["baseline"] == arm["id"]]
        for other in against:
            mine = self._finished(other["id"], row)
            if mine is not None:
                await self._examine_pair(other, mine, row)
        self._look_at_scores(against, row)
        await self._say_who_is_awake(row)

    def _finished(self, arm: str | None, like: ShardRow) -> ShardRow | None:
        """The finished shard of an arm with the seed, rung and setup of another one."""
        found = self._all_finished(arm, like) if arm is not None else []
        return next((row for row in found if row["seed"] == like["seed"]), None)

    def _first(self, trunk: str, like: ShardRow) -> Run | None:
        """The scores of the campaign's first trunk on the seed of a shard, when the present trunk is another."""
        first = next((each["id"] for each in self.core.state.experiments.values() if each["role"] == "trunk"), trunk)
        row = self._finished(first, like) if first != trunk and self.core.lab.score else None
        return None if row is None else scored(row)

    def _look_at_scores(self, arms: Iterable[ExperimentRow], trunk: ShardRow) -> None:
        """One more run of the trunk has ended: how far scores move by the seed alone may be known only now."""
        if self.core.lab.score is None:
            return
        theirs = {row["seed"]: row for row in self._all_finished(trunk["experiment"], trunk)}
        known, by_source = spread(theirs.values()), source_spread(list(theirs.values()))
        by_score = [each for each in self._detectors.all if Signal.SPREAD in each.needs]
        runs = ((each["category"], row) for each in arms for row in self._all_finished(each["id"], trunk))
        for category, row in runs:
            if row["seed"] not in theirs:
                continue
            seen = Seen(
                scored(row),
                trunk=scored(theirs[row["seed"]]),
                lower_is_better=self.core.lab.metric.direction == "min",
                category=category,
                spread=known,
                source_spread=by_source,
                first=self._first(trunk["experiment"], row),
            )
            self._note(row["id"], judge(seen, by_score), once=True)

    async def _say_who_is_awake(self, trunk: ShardRow) -> None:
        """Record which detectors work in this lab, by what a run of the trunk has, when that is news."""
        core = self.core
        try:
            run = await asyncio.to_thread(self._run, trunk)
        except (OSError, ValueError) as error:
            log.warning("what %s reports is not known: %s", trunk["id"], error)
            return
        calibrated = core.lab.score is not None and len(first_seeds(core.lab)) >= LEAST_CALIBRATION
        has = {
            Signal.TRUNK: True,
            Signal.TREE: True,  # a shard whose tree was changed has not finished, but failed
            Signal.SIBLINGS: len(first_seeds(core.lab)) > 1,
            Signal.BUDGET: self._steps(trunk["rung"], run) is not None,
            Signal.SPREAD: calibrated,
            Signal.SOURCE_SPREAD: calibrated and bool(run.sources),
            Signal.HELD: self._held_text() is not None,
        }
        signals = run.signals | {signal for signal, there in has.items() if there}
        awake = [each.name for each in active(signals, self._detectors.all)]
        others = [
            {"detector": each.detector.name, "missing": [signal.value for signal in each.missing]}
            for each in asleep(signals, self._detectors.all)
        ]
        known = core.state.lab.get("detectors") if core.state.lab else None
        if not core.ledger.read_only and known != {"active": awake, "asleep": others}:
            core.record(e.DetectorsAwake(awake, others))

    async def _examine_pair(self, arm: ExperimentRow, row: ShardRow, trunk: ShardRow) -> None:
        mine = [each for each in self._all_finished(arm["id"], row) if each["id"] != row["id"]]
        theirs = self._all_finished(str(arm["baseline"]), row)
        wanted = {each["id"]: each for each in (row, trunk, *mine, *theirs)}
        try:
            runs = {name: await asyncio.to_thread(self._run, each) for name, each in wanted.items()}
            held = await asyncio.to_thread(self._held_passages)
        except (OSError, ValueError) as error:
            log.warning("%s was not examined: %s", row["id"], error)
            return
        seen = Seen(
            runs[row["id"]],
            trunk=runs[trunk["id"]],
            siblings=tuple(runs[each["id"]] for each in mine),
            trunk_siblings=tuple(runs[each["id"]] for each in theirs),
            steps=self._steps(row["rung"], runs[trunk["id"]]),
            lower_is_better=self.core.lab.metric.direction == "min",
            category=arm["category"],
            claims=arm.get("claims", ""),
            held=held,
            spread=spread(theirs) if self.core.lab.score else None,
            source_spread=source_spread(theirs),
            first=self._first(str(arm["baseline"]), row),
            changed=(),  # a shard whose tree was changed has not finished, but failed
        )
        self._note(row["id"], await asyncio.to_thread(judge, seen, self._detectors.all), once=True)

    def _all_finished(self, arm: str, like: ShardRow) -> list[ShardRow]:
        """The finished shards of an arm at the rung of another one, run and measured as that one was."""
        state = self.core.state
        found = latest(state, arm, like["rung"], state.setups[like["id"]])
        return [row for row in found.values() if row["outcome"] == Outcome.FINISHED]

    def _steps(self, rung: str, trunk: Run) -> int | None:
        """The declared number of steps, where the trunk's run shows that the rung's budget is one."""
        rungs = (*self.core.lab.rungs, self.core.lab.half_length())
        budget = next((each.budget for each in rungs if each.name == rung), None)
        made = trunk.series.get(Signal.LOSS)
        return budget if made is not None and made.last == budget else None

    def _run(self, row: ShardRow) -> Run:
        """A finished shard as the detectors see it; the last few are remembered."""
        known = self._runs.get(row["id"])
        if known is not None:
            return known
        points: list[Point] = []
        summary: dict[str, float | str] = {}
        for parsed in self._parsed(row["id"]):
            points += parsed.points[: POINTS_LIMIT - len(points)]
            summary |= parsed.summary
        names, lab = self._detectors.names, self.core.lab
        rows = read_rows(read_regular(self.core.dir.runs / row["id"] / "seen.jsonl", ROWS_LIMIT))
        base = read_run(row["seed"], points, summary, rows, names)
        run = Run(
            base.seed,
            base.series,
            base.facts,
            rows,
            row["metric"] if lab.score else None,
            row["sources"],
            row["reported"],
            row.get("evaluated"),
        )
        self._runs[row["id"]] = run
        while len(self._runs) > RUNS_KEPT:
            del self._runs[next(iter(self._runs))]
        return run

    def _held_passages(self) -> frozenset[int]:
        """Hashes of the text that is scored; empty where there is no referee. Read once."""
        manifest = self._held_text()
        if manifest is None:
            return frozenset()
        if manifest not in self._held:
            try:
                _, sources = read_text(str(manifest))
            except ScoreError as error:
                log.warning("held text is not compared with training text: %s", error)
                sources = []
            every = (passages(window) for source in sources for window in source.windows)
            self._held[manifest] = frozenset[int]().union(*every)
        return self._held[manifest]

    # --- writing it down ---

    def _note(self, shard: str, found: Iterable[Finding], *, once: bool = False) -> None:
        """Record what is new; with `once`, what is new at its place, since the same may be found again in other numbers. An end
        that was called for while nobody wrote it down is called for again."""
        core = self.core
        if core.ledger.read_only:
            return
        several = [(each, (shard, each.detector, clean(str(each.place)))) for each in found]
        before = {at for _, at in several if at in core.state.noted_at} if once else set()
        for finding, at in several:
            sentence, (_, _, place) = clean(finding.sentence), at
            if (shard, finding.detector, sentence) in core.state.noted or at in before:
                continue
            severity = Severity(finding.severity).value
            evidence = {clean(name): float(value) for name, value in finding.evidence.items() if math.isfinite(value)}
            core.record(
                e.FindingNoted(next_finding(core.state), shard, finding.detector, severity, sentence, place, evidence)
            )
