"""Shards: started, watched to their end, scored by protected code, and written down. Every step can be repeated safely.

A launch is made safe by the launcher, which starts an id once: its directory is created exclusively. An end is made safe by the
exit record, which the launcher writes whole or not at all. So after a crash the engine looks at directories and records, and at
what the launcher says is running, and never guesses.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine import campaign, faults, further
from engine import events as e
from engine.core import Core
from engine.environment import noted
from engine.field import OPEN
from engine.files import below, last_line, read_regular, read_tail, remove_tree
from engine.found import TREE_CHANGED, next_finding
from engine.leftovers import defuse
from engine.live import Live
from engine.racing import RETRIES
from engine.repo import RepoError
from engine.scales import unscaled
from engine.scoring import read_score, scratch_of
from engine.setups import setup_for
from engine.shards.caches import Caches
from engine.shards.executor import Began, Executor
from engine.shards.outcome import Facts, classify
from engine.shards.records import read_exit
from engine.shards.resuming import left_something
from engine.shards.room import Disk, Memory, disk_of, memory_here, shortage
from engine.shards.slots import Slot
from engine.shards.spec import ExitRecord
from engine.specs import Specs
from engine.text import clean
from engine.types import HALF, UNLUCKY, ExperimentRow, ExperimentState, Outcome, Severity, ShardRow, ShardState, Verdict
from engine.watch.parse import Parsed, Parser, make_parser
from engine.watch.tail import Tailer

if TYPE_CHECKING:
    from engine.detecting import Detecting
    from engine.history.tables import Batch
    from engine.indexer import Indexer
    from engine.measuring import Measuring

log = logging.getLogger("engine")
CHECKPOINTS = frozenset({".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz"})
METRICS_LIMIT = 1 << 30
CHUNK = 1 << 20
GRACE_S = 5.0
ANSWER_S = 2.0  # that a network file system may take to say how full it is
CUT_OFF = ("preempted", "node-lost")  # how a process ends with its node or allocation
MOST_CUT_OFF = RETRIES[Outcome.PREEMPTED]
MOST_LINES, MOST_COLUMNS = 12, 200  # of the output of a smoke that failed: what its event holds


class Runs:
    """Carries out what the campaign plans for shards."""

    def __init__(self, core: Core, executor: Executor, tailer: Tailer, live: Live, slots: tuple[Slot, ...]) -> None:
        self.core = core
        self.executor = executor
        self.tailer = tailer
        self.live = live
        self.specs = Specs(core.lab, slots)
        self.shortage: str | None = None  # what the machine lacks for a further shard, in a sentence
        self.caches = Caches(core.dir.caches)
        self.setup = ""  # hash of how shards are run and measured now
        self._data_key = ""  # of the data that they read
        self._noted: set[tuple[str, str, tuple[str, ...] | None]] = set()  # setups, rungs, GPUs: what it has looked at
        self.indexer: Indexer | None = None
        self.detecting: Detecting | None = None
        self.measuring: Measuring | None = None
        self._cancelled: set[str] = set()
        self._asked_disk: asyncio.Future[Disk] | None = None
        self._queued: set[str] = set()  # handed over, and not begun
        self._unscored: set[str] = set()  # what is to be scored once the executor has room

    async def look_for_room(self) -> None:
        """Find out whether there is room for a further shard: of memory only where shards run on this machine."""
        root = self.core.dir.shared_root
        if self.executor.allocation is None:
            self.shortage = shortage(memory_here(), disk_of(root), root)
            return
        disk = await self._far_disk(root)
        silent = f"no shard is started: the file system of {root} does not answer"
        self.shortage = self.executor.shortage or (silent if disk is None else shortage(Memory(), disk, root))

    async def _far_disk(self, root: Path) -> Disk | None:
        """The disk under a directory of a network file system; None where that does not answer, on which one thread waits."""
        if self._asked_disk is None or self._asked_disk.done():
            self._asked_disk = asyncio.get_running_loop().run_in_executor(None, disk_of, root)
        await asyncio.wait({self._asked_disk}, timeout=ANSWER_S)
        return self._asked_disk.result() if self._asked_disk.done() else None

    @property
    def room(self) -> int:
        """How many shards may run at once now."""
        slots, capacity = len(self.specs.slots), self.executor.capacity
        return slots if capacity is None else min(slots, capacity)

    async def start_intended(self) -> None:
        """Start what was intended and is not known to have started."""
        for shard in [each for each in self.core.state.unlaunched if each not in self._queued]:
            await self.start(shard)
        unscored, self._unscored = self._unscored, set()
        for shard in unscored:
            if self.core.state.shards[shard]["state"] == ShardState.SCORING:
                await self.score(shard)

    def use(self, data: Path | None, key: str) -> None:
        """Run on the data that lie in `data` from now on; `key` says which these are."""
        self.specs.data = {} if data is None else {"data": data / "open", "held": data / "held"}
        self.setup, self._data_key = campaign.setup_of(self.core.lab, key), key

    # --- launching ---

    async def launch(self, step: campaign.Launch) -> None:
        """Intend and start one shard."""
        core = self.core
        arm = core.state.experiments[step.experiment]
        commit, tree = str(arm["commit"]), str(arm["tree"])
        setup = setup_for(self.setup, step.rung, core.lab)
        core.record(
            *self._news_of(setup, step.rung),
            e.ShardIntended(
                shard=step.shard,
                experiment=step.experiment,
                seed=step.seed,
                rung=step.rung,
                attempt=step.attempt,
                slot=step.slot,
                commit=commit,
                tree=tree,
                setup=setup,
                source=core.lab.metric.source,
                pattern=core.lab.metric.pattern,
                smoke=step.smoke,
                fresh=step.fresh,
                canary=step.canary,
                retune=step.retune,
                resumes=await asyncio.to_thread(self._cut_off, step),
            ),
        )
        faults.point("launch.intent")
        await self.start(step.shard)

    def _cut_off(self, step: campaign.Launch) -> str:
        """The attempt that it goes on from, in a lab whose runs can resume: the newest that saved anything, of those just
        before it that ended by no fault of their own. One that never began has saved nothing."""
        if not self.core.lab.resumable or step.canary:
            return ""
        setup = setup_for(self.setup, step.rung, self.core.lab)
        for attempt in range(step.attempt - 1, 0, -1):
            before = replace(step, attempt=attempt).shard
            row = self.core.state.shards.get(before)
            same = row is not None and bool(row.get("fresh")) == step.fresh and not row.get("canary")
            if row is None or not same or row["outcome"] not in UNLUCKY or self.core.state.setups[before] != setup:
                return ""
            if left_something(str(self.core.dir.runs / before)):
                return before
        return ""

    def _news_of(self, setup: str, rung: str) -> list[e.SetupNoted]:
        """What is to be written down of the conditions that a shard starts under, unless that stands in the ledger. Looked at
        once an engine: an interpreter does not change under a lab that runs."""
        host, probe = socket.gethostname(), self.executor.probe
        elsewhere = None if probe is None else probe.gpus
        if (setup, rung, elsewhere) in self._noted:
            return []
        self._noted.add((setup, rung, elsewhere))
        news = noted(self.core.lab, setup, rung, self._data_key, host, self.specs.slots, elsewhere=elsewhere)
        return [] if self.core.state.noted_setups.get((setup, rung, host)) == news else [news]

    async def start(self, shard: str) -> None:
        """Start an intended shard; the second time it is found to be known, and nothing is started."""
        core = self.core
        if self.specs.refusal is not None or self.shortage is not None:
            return  # it stays intended, for an engine that may, or for when there is room
        intent = core.state.unlaunched[shard]
        if intent.setup != setup_for(self.setup, intent.rung, core.lab):
            core.record(e.ShardEnded(shard, Outcome.KILLED, "never started: the lab's setup changed before it could"))
            return
        try:
            path = await self._tree(intent.commit, intent.tree)
        except RepoError as error:
            core.record(e.ShardEnded(shard, Outcome.LOST, clean(f"no run tree could be made: {error}")))
            return
        cache = await self._cache(intent)
        handle = await self.executor.launch(self.specs.training(intent, path, cache))
        faults.point("launch.effect")
        if handle.state == "queued":
            self._queued.add(shard)
            return
        core.record(e.ShardStarted(shard, handle.where, handle.node))
        faults.point("launch.done")
        if handle.state == "running":
            await self.watch(shard)
        else:
            await self.ended(shard)

    async def began(self, event: Began) -> None:
        """A shard that waited runs now, or it is known now what it runs on."""
        row = self.core.state.shards.get(event.id)
        if row is None or row["state"] not in (ShardState.QUEUED, ShardState.RUNNING):
            return
        if event.id in self.core.state.unlaunched:
            self.core.record(e.ShardStarted(event.id, event.where, event.node))
            await self.watch(event.id)
        self._queued.discard(event.id)
        row = self.core.state.shards[event.id]
        if (event.node, event.gpus) != (row.get("node", ""), row.get("gpus", "")):
            self.core.record(e.ShardPlaced(event.id, event.node, event.gpus))

    async def _tree(self, commit: str, tree: str) -> Path:
        """The run tree of a commit, whole. When somebody changed the pooled one, whoever runs in it is noted before it is
        made anew, so that the repair does not hide the change. Raises RepoError."""
        core = self.core
        path = core.dir.trees / tree
        if path.exists() and (wrong := await core.git(core.repo.verify, path, commit)):
            sentence = clean(f"its run tree was changed while it ran: {', '.join(wrong[:3])}")
            for shard in core.state.live:
                same = core.state.experiments[core.state.shards[shard]["experiment"]]["tree"] == tree
                if same and shard not in core.state.unlaunched and shard not in core.state.tampered:
                    core.record(e.FindingNoted(next_finding(core.state), shard, TREE_CHANGED, Severity.NEVER, sentence))
        return await core.git(core.repo.export, commit, core.dir.trees)

    async def _cache(self, intent: e.ShardIntended) -> Path | None:
        """The compile cache that the shard shares with its siblings; None where there can be none: it then has its own."""
        arms = self.core.state.experiments
        arm = arms[intent.experiment]
        trunks = [row for row in reversed(arms.values()) if row["role"] == "trunk" and row["id"] != arm["id"]]
        trunks.sort(key=lambda row: row["id"] != arm["baseline"])  # the one it is compared with, else the newest
        parents = [str(row["tree"]) for row in trunks]
        trunk = arm["role"] == "trunk"
        try:
            return await asyncio.to_thread(self.caches.ready, intent.tree, trunk=trunk, parents=parents)
        except OSError as error:
            log.warning("%s has no shared compile cache: %s", intent.shard, error)
            return None

    async def watch(self, shard: str) -> None:
        """Follow the shard's metrics, for the index and for whoever looks on."""
        row = self.core.state.shards[shard]
        self.live.start(shard, row["started"] or 0.0)
        offset = 0
        if self.indexer:
            await self.indexer.ready.wait()
            offset = self.indexer.offsets.get(shard, 0)
        self.tailer.add(shard, self.metrics_file(shard), self.parser(shard), offset)
        if self.indexer and offset:
            await self.indexer.seed_live(shard)

    def metrics_file(self, shard: str) -> Path:
        """The file that holds the shard's measurements: what it writes itself, or its output."""
        source, _ = self.core.state.measured[shard]
        return self.core.dir.runs / shard / ("metrics.jsonl" if source == "jsonl" else "output.log")

    def parser(self, shard: str) -> Parser:
        """A fresh parser of what the shard writes, as the lab file described it when the shard was intended."""
        source, pattern = self.core.state.measured[shard]
        return make_parser(source, pattern)

    # --- ending ---

    async def ended(self, name: str) -> None:
        """Something of ours ended: a shard's training, or its scoring. Reads the exit record and goes on from there."""
        shard, step = further.split(name)
        row = self.core.state.shards.get(shard)
        if row is None or row["state"] == ShardState.ENDED:
            return
        if step:
            if row["state"] == ShardState.SCORING:
                await self._scored(row, step)
        elif row["state"] != ShardState.SCORING:
            await self._trained(row)

    async def _trained(self, row: ShardRow) -> None:
        core, shard = self.core, row["id"]
        faults.point("end.intent")
        run_dir = core.dir.runs / shard
        await asyncio.to_thread(defuse, run_dir)
        record = await asyncio.to_thread(read_exit, run_dir, "exit.json")
        await self.tailer.remove(shard)
        if self.indexer:
            await self.indexer.ready.wait()
            await self.indexer.catch_up(shard)
        if shard in core.state.unlaunched and not _never_began(record):  # it started and ended while nobody looked
            core.record(e.ShardStarted(shard, f"pid {record.pid}" if record else ""))
        if record is None:
            detail = "it vanished without an exit record: the machine or the launcher went down"
            core.record(e.ShardEnded(shard, Outcome.LOST, detail))
            self._forget(shard)
            return
        if self.measuring:
            await self.measuring.ended(shard)
        facts, reported = await asyncio.to_thread(self._facts, shard)
        tail = await asyncio.to_thread(read_tail, run_dir / "output.log")
        outcome, detail = classify(record, tail, facts)
        if outcome is Outcome.KILLED and shard in core.state.condemned:  # by us, for a fault of its own
            outcome, detail = Outcome.DIVERGED, core.state.condemned[shard]
        if (
            outcome is Outcome.KILLED
            and campaign.pointless(core.state, shard)
            and shard not in core.state.stopped_by_person
        ):
            outcome, detail = Outcome.ENDED_EARLY, _decided(core.state.experiments[row["experiment"]], row)
        outcome, detail = await self._whole(row, outcome, detail)
        counts = outcome is Outcome.FINISHED and not row.get("smoke")  # a smoke only has to come to its end
        if counts and core.lab.score is None and reported is None:
            outcome, detail = Outcome.CRASHED, f"it ended well but never reported {core.lab.metric.name}"
        scores = counts and core.lab.score is not None
        said = last_lines(tail) if row.get("smoke") and outcome is not Outcome.FINISHED else ""
        faults.point("end.effect")
        core.record(
            e.ShardEnded(shard, outcome, clean(detail), reported, scores, _usage(record), said),
            *([e.ScoreIntended(shard)] if scores else []),
        )
        faults.point("end.done")
        self._forget(shard)
        if row.get("smoke") or (not scores and self._unwanted(row)):
            await asyncio.to_thread(_drop, run_dir)
        if scores:
            await self.score(shard)
        else:
            await self._examine(shard)

    def _forget(self, shard: str) -> None:
        self.live.end(shard)
        if self.detecting:
            self.detecting.forget(shard)
        self._cancelled.discard(shard)
        self._queued.discard(shard)

    async def detect(self, batch: Batch) -> None:
        """Show the detectors what a running shard wrote; a shard that cannot recover is ended."""
        if self.measuring:
            await self.measuring.feed(batch.shard)
        if self.detecting and not self._scaled(batch.shard) and await self.detecting.feed(batch):
            await self.cancel(batch.shard)

    async def _examine(self, shard: str) -> None:
        if self.detecting and not self._scaled(shard):
            await self.detecting.examine(shard)

    def _scaled(self, shard: str) -> bool:
        """Whether it runs for a retuning: what is found there is no fault of the experiment's, and nothing but its score is
        wanted."""
        return "retune" in self.core.state.shards[shard]

    def held_text(self) -> Path | None:
        """The file that describes the held text, where a referee scores it."""
        score = self.core.lab.score
        if score is None or score.referee is None or not self.specs.data:
            return None
        return Path(self.core.lab.fill((score.referee.text,), {"held": str(self.specs.data["held"])})[0])

    async def _whole(self, row: ShardRow, outcome: Outcome, detail: str) -> tuple[Outcome, str]:
        """A result counts only when the run tree is still what the commit says."""
        core = self.core
        arm = core.state.experiments[row["experiment"]]
        if outcome is not Outcome.FINISHED or arm["commit"] is None or arm["tree"] is None:
            return outcome, detail
        await self._tree(arm["commit"], arm["tree"])
        changed = core.state.tampered.get(row["id"])
        return (outcome, detail) if changed is None else (Outcome.WRONG_TREE, changed)

    def parsed(self, shard: str) -> Iterator[Parsed]:
        """All that the shard wrote, a piece at a time; the unfinished last line too."""
        parser, path = self.parser(shard), self.metrics_file(shard)
        for at in range(0, METRICS_LIMIT, CHUNK):
            piece = read_regular(path, CHUNK, at)
            if piece:
                yield parser.feed(piece)
            if len(piece) < CHUNK:
                break
        yield parser.finish()

    def _facts(self, shard: str) -> tuple[Facts, float | None]:
        """What the shard's own measurements say, read again from the file, so that it does not matter who watched."""
        metric = self.core.lab.metric
        nonfinite, reported, last = False, None, -1
        for parsed in self.parsed(shard):
            for point in parsed.points:
                last = max(last, point.step)
                loss = point.values.get(metric.loss)
                nonfinite = nonfinite or (loss is not None and not math.isfinite(loss))
                reported = point.values.get(metric.name, reported)
            value = parsed.summary.get(metric.name)
            if isinstance(value, int | float):
                reported = float(value)
        if reported is not None and not math.isfinite(reported):
            nonfinite, reported = True, None
        return Facts(nonfinite=nonfinite, last_step=last if last >= 0 else None), reported

    # --- scoring ---

    async def score(self, shard: str) -> None:
        """Start the lab's protected scoring code on the shard's checkpoint, or the evaluation that comes next; known and not
        started the second time."""
        core, lab = self.core, self.core.lab
        row = core.state.shards[shard]
        arm = core.state.experiments[row["experiment"]]
        if lab.score is None or unscaled(row["rung"]) not in {HALF, *(rung.name for rung in lab.rungs)}:
            detail = "not scored: cockpit.toml no longer has its rung or a [score] command"
            core.record(e.ShardScored(shard, Outcome.KILLED, detail, None))
            return
        if self.specs.refusal is not None:
            return  # as for `start`
        if self.executor.shortage is not None:
            self._unscored.add(shard)
            return
        faults.point("score.intent")
        path = await self._tree(str(arm["commit"]), str(arm["tree"]))
        cache = await asyncio.to_thread(self.caches.scoring, shard)  # empty: training's is no way into protected code
        step = further.at_step(lab, core.dir, row)
        await asyncio.to_thread(further.place_of(core.dir, shard, step).mkdir, mode=0o700, parents=True, exist_ok=True)
        handle = await self.executor.launch(self.specs.scoring(row, str(arm["tree"]), path, cache, step))
        faults.point("score.effect")
        if handle.state != "running":
            await self.ended(f"{shard}.{step}")

    async def _scored(self, row: ShardRow, step: str) -> None:
        core, shard = self.core, row["id"]
        run_dir = core.dir.runs / shard
        await asyncio.to_thread(defuse, run_dir)  # scoring runs the candidate's model code there
        record = await asyncio.to_thread(read_exit, further.place_of(core.dir, shard, step), f"{step}-exit.json")
        if record is not None and record.how in CUT_OFF:
            await self._score_elsewhere(row, step, record)
            return
        score = record if step == further.SCORE else await asyncio.to_thread(read_exit, run_dir, "score-exit.json")
        if record is None or score is None:
            await self._score_again(row)
            return
        said = await asyncio.to_thread(read_score, shard, run_dir, score)
        if said.outcome == Outcome.FINISHED and further.steps(core.lab, row) != [further.SCORE]:
            remain = not further.record_of(core.dir, shard, further.at_step(core.lab, core.dir, row)).exists()
            if remain and record.how != "stopped" and shard not in self._cancelled:
                await self.score(shard)
                return
            said = self._further(said, *await asyncio.to_thread(further.read, core.lab, core.dir, row))
        core.record(said)
        faults.point("score.done")
        await asyncio.to_thread(self._tidy, shard)
        if self._unwanted(row):
            await asyncio.to_thread(_drop, run_dir)
        await self._examine(shard)

    def _further(self, said: e.ShardScored, found: dict[str, float], failed: dict[str, str]) -> e.ShardScored:
        """The score with the further numbers that there are; of the others a finding says why there is none."""
        for name, why in failed.items():
            sentence = f"{name} was not measured: {why}"
            if (said.shard, further.NOT_MEASURED, sentence) not in self.core.state.noted:
                about = (next_finding(self.core.state), said.shard, further.NOT_MEASURED, Severity.WARNING, sentence)
                self.core.record(e.FindingNoted(*about))
        return msgspec.structs.replace(said, further=found)

    def _tidy(self, shard: str) -> None:
        """Let go of what only scoring needed; what cannot be removed now is left to `cockpit gc`."""
        self.caches.scored(shard)
        row = self.core.state.shards[shard]
        for scratch in [*scratch_of(self.core.dir.runs / shard), *further.done_with(self.core.lab, self.core.dir, row)]:
            with suppress(OSError):
                remove_tree(scratch)

    async def _score_elsewhere(self, row: ShardRow, step: str, record: ExitRecord) -> None:
        """Scoring was cut off by what it ran on, which says nothing of the shard: it is repeated once there is room."""
        place = further.place_of(self.core.dir, row["id"], step)
        tries = len(await asyncio.to_thread(lambda: list(place.glob(f"{step}-cut-off-*"))))
        if tries >= MOST_CUT_OFF:
            detail = clean(f"scoring was cut off {tries + 1} times, the last time since {record.error or record.how}")
            self.core.record(e.ShardScored(row["id"], Outcome.LOST, detail, None))
            return
        await asyncio.to_thread((place / f"{step}-exit.json").rename, place / f"{step}-cut-off-{tries + 1}.json")
        await self.score(row["id"])

    async def _score_again(self, row: ShardRow) -> None:
        """Scoring vanished with the launcher: it is repeated, since it changes nothing but its own files."""
        run_dir = self.core.dir.runs / row["id"]
        tries = len(list(run_dir.glob("score-lost-*")))
        if tries >= 2:
            detail = "scoring vanished three times: the machine or the launcher went down"
            self.core.record(e.ShardScored(row["id"], Outcome.LOST, detail, None))
            return
        with suppress(OSError):
            (run_dir / f"score-lost-{tries + 1}").touch()
        await self.score(row["id"])

    def drop_checkpoints(self, experiment: str) -> None:
        """Delete the checkpoints of an experiment whose shards were all scored, where `[retain]` does not keep them.
        Measurements, logs and records always stay."""
        core = self.core
        if keeps_checkpoints(core, experiment):
            return
        for shard in core.state.shards_of(experiment):
            if shard["state"] == ShardState.ENDED:
                _drop(core.dir.runs / shard["id"])

    def _unwanted(self, row: ShardRow) -> bool:
        """Whether a run was for a retuning that has ended before it: nobody is going to drop its checkpoints."""
        ended = "retune" in row and row["retune"] not in self.core.state.retuning.values()
        return ended and self.core.lab.retain.checkpoints != "all"

    def drop_retuned(self, retune: str) -> None:
        """Delete the checkpoints of a retuning's shards, unless `[retain]` keeps all: their results are all that is wanted."""
        if self.core.lab.retain.checkpoints != "all":
            for row in self.core.state.shards.values():
                if row.get("retune") == retune and row["state"] == ShardState.ENDED:
                    _drop(self.core.dir.runs / row["id"])

    def step_error(self, name: str) -> str | None:
        """Why a lab step (its data preparation) failed; None when it ended well."""
        run_dir = self.core.dir.runs / name
        record = read_exit(run_dir, "exit.json")
        if record is None:
            return "it vanished"
        if record.how == "exited" and record.code == 0:
            return None
        failed = f"it {record.error}" if record.how == "disk" else record.error
        return clean(failed or last_line(read_tail(run_dir / "output.log")))

    # --- stopping ---

    async def cancel(self, shard: str) -> None:
        """Stop a shard that can no longer change anything. Asked for once."""
        if shard in self._cancelled or (shard in self.core.state.unlaunched and shard not in self._queued):
            return
        await self.stop(shard)
        self._cancelled.add(shard)

    async def stop(self, shard: str) -> None:
        """TERM to the whole process group of a shard, KILL after the grace time; its scoring too."""
        scoring = self.core.state.shards[shard]["state"] == ShardState.SCORING
        step = further.at_step(self.core.lab, self.core.dir, self.core.state.shards[shard])
        await self.executor.stop(f"{shard}.{step}" if scoring else shard, GRACE_S)

    # --- after a restart ---

    async def recover(self) -> None:
        """Bring every shard that has not ended into line with what is there: running, ended, or gone."""
        running = await self.executor.reattach()
        for shard in list(self.core.state.live):
            row = self.core.state.shards[shard]
            scoring = row["state"] == ShardState.SCORING
            run_dir = self.core.dir.runs / shard
            step = further.at_step(self.core.lab, self.core.dir, row)
            name = f"{shard}.{step}" if scoring else shard
            if name in running:
                await self._take_up(shard, scoring)
            elif shard in self.core.state.unlaunched and not await asyncio.to_thread(run_dir.exists):
                await self.start(shard)
            elif scoring and not await asyncio.to_thread((run_dir / "score-exit.json").exists):
                await self.score(shard)
            elif scoring:
                await self.ended(f"{shard}.{further.SCORE}")  # and what follows of that
            else:
                await self.ended(name)
        busy = (*OPEN, ExperimentState.SIGNED)
        for arm in [row["id"] for row in self.core.state.experiments.values() if row["state"] in busy]:
            for row in self.core.state.shards_of(arm):  # an engine may have gone between an end and a look at it
                await self._examine(row["id"])

    async def _take_up(self, shard: str, scoring: bool) -> None:
        """Go on with a shard that was launched by an earlier engine, and has not ended."""
        intent = self.core.state.unlaunched.get(shard)
        stands = self.executor.standing.get(shard)
        if intent is not None and stands is not None and stands.state == "queued":
            self._queued.add(shard)
            if intent.setup != setup_for(self.setup, intent.rung, self.core.lab):
                await self.cancel(shard)  # nothing could be compared with what it would say
            return
        if intent is not None:
            self.core.record(e.ShardStarted(shard, "" if stands is None else stands.job, stands.node if stands else ""))
        if not scoring:
            await self.watch(shard)


def _never_began(record: ExitRecord | None) -> bool:
    """Whether a shard was ended while it waited."""
    return record is not None and record.pid is None and record.how in ("stopped", "preempted")


def _drop(run_dir: Path) -> None:
    for file in checkpoints(run_dir):
        file.unlink(missing_ok=True)


def _decided(row: ExperimentRow, shard: ShardRow) -> str:
    """Why a run of a decided experiment was ended."""
    if shard.get("retune"):
        return f"ended early, since nobody waits for it: {shard['retune']} has ended"
    verdict = row["verdict"]
    why = f"{verdict['verdict']}, {verdict['sentence']}" if verdict else row["state"]
    return clean(f"ended early, since {row['id']} is decided: {why}")


def last_lines(tail: str) -> str:
    """The last lines of a log that say anything, made harmless: what a person, or a model, reads of a smoke that failed."""
    lines = [line.rstrip() for line in clean(tail).splitlines() if line.strip()]
    return "\n".join(line[:MOST_COLUMNS] for line in lines[-MOST_LINES:])


def keeps_checkpoints(core: Core, experiment: str) -> bool:
    """Whether `[retain]` keeps the checkpoints of an arm's shards once they were scored: until its verdict always, then
    when it is solid. The trunk's stay: experiments are compared with them."""
    keep, row = core.lab.retain.checkpoints, core.state.experiments[experiment]
    if keep != "unless-refereed":
        return keep == "all"
    solid = row["verdict"] is not None and row["verdict"]["verdict"] in (Verdict.SOLID, Verdict.BARRED)
    return solid or core.lab.score is None or row["role"] == "trunk" or row["state"] in OPEN


def checkpoints(run_dir: Path) -> list[Path]:
    """The files of a run directory that look like checkpoints; links are listed too, and are unlinked as such."""
    return [each for each in below(run_dir) if each.suffix in CHECKPOINTS and (each.is_symlink() or each.is_file())]


def _usage(record: ExitRecord) -> dict[str, Any]:
    return {"cpu_s": record.cpu_s, "max_rss": record.max_rss, "wall_s": round(record.lasted_s, 3)}
