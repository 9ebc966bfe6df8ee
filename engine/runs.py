"""Shards: started, watched to their end, scored by protected code, and written down. Every step can be repeated safely.

A launch is made safe by the launcher, which starts an id once: its directory is created exclusively. An end is made safe by the
exit record, which the launcher writes whole or not at all. So after a crash the engine looks at directories and records, and at
what the launcher says is running, and never guesses.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import campaign, faults, scoring
from engine import events as e
from engine.core import Core
from engine.files import below, last_line, read_regular, read_tail
from engine.lab import LabError
from engine.leftovers import defuse
from engine.live import Live
from engine.repo import RepoError
from engine.scoring import Place, read_score
from engine.shards import network
from engine.shards.caches import Caches
from engine.shards.executor import Executor
from engine.shards.imports import warm_imports
from engine.shards.local import read_exit
from engine.shards.outcome import Facts, classify
from engine.shards.room import disk_of, memory_here, shortage
from engine.shards.sandbox import SHOWN, BoxError, choose, lab_box, probe, with_ranks, wrap
from engine.shards.slots import Slot
from engine.shards.spec import ExitRecord, ShardSpec, shard_env
from engine.state import TREE_CHANGED
from engine.text import clean
from engine.types import Outcome, ShardRow, ShardState, Verdict
from engine.watch.parse import Parsed, Parser, make_parser
from engine.watch.tail import Tailer

if TYPE_CHECKING:
    from engine.indexer import Indexer

log = logging.getLogger("engine")
CHECKPOINTS = frozenset({".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz"})
METRICS_LIMIT = 1 << 30
CHUNK = 1 << 20
GRACE_S = 5.0


class Runs:
    """Carries out what the campaign plans for shards."""

    def __init__(self, core: Core, executor: Executor, tailer: Tailer, live: Live, slots: tuple[Slot, ...]) -> None:
        self.core = core
        self.executor = executor
        self.tailer = tailer
        self.live = live
        self.slots = slots
        self.shortage: str | None = None  # what the machine lacks for a further shard, in a sentence
        self.caches = Caches(core.dir.caches)
        self.setup = ""  # hash of how shards are run and measured now
        self._data: dict[str, Path] = {}
        self.indexer: Indexer | None = None
        self._cancelled: set[str] = set()
        self.level, self.refusal = choose(core.lab.isolation, probe())  # `refusal`: why nothing is started
        self._try_box()

    def _try_box(self) -> None:
        """Find out before the first launch whether the lab's box can be made; a box that cannot is no shard's fault."""
        nowhere = self.core.dir.runs / "none"
        spec = ShardSpec(id="none", argv=("none",), cwd="/", env={}, run_dir=str(nowhere), timeout_s=1.0)
        training = replace(spec, ranks=self.core.lab.ranks)
        with suppress(LabError):  # a lab without an interpreter says so when it launches
            try:
                self._boxed(spec, nowhere, held=True)
                self._boxed(training, nowhere, held=False)
            except BoxError as error:
                self.refusal = self.refusal or clean(f"nothing is started: {error}")

    @property
    def isolation(self) -> str:
        """How well shards are boxed, as the status line shows it."""
        if self.refusal:
            return "no box"
        shares = self.level > 1 and self.core.lab.network == "host"
        return SHOWN[self.level] + (network.SHOWN if shares else "")

    def look_for_room(self) -> None:
        """Find out whether the machine has room for a further shard."""
        root = self.core.dir.root
        self.shortage = shortage(memory_here(), disk_of(root), root)

    async def start_intended(self) -> None:
        """Start what was intended and is not known to have started."""
        for shard in list(self.core.state.unlaunched):
            await self.start(shard)

    def use(self, data: Path | None, key: str) -> None:
        """Run on the data that lie in `data` from now on; `key` says which these are."""
        self._data = {} if data is None else {"data": data / "open", "held": data / "held"}
        self.setup = campaign.setup_of(self.core.lab, key)

    # --- launching ---

    async def launch(self, step: campaign.Launch) -> None:
        """Intend and start one shard."""
        core = self.core
        arm = core.state.experiments[step.experiment]
        commit, tree = str(arm["commit"]), str(arm["tree"])
        core.record(
            e.ShardIntended(
                shard=step.shard,
                experiment=step.experiment,
                seed=step.seed,
                rung=step.rung,
                attempt=step.attempt,
                slot=step.slot,
                commit=commit,
                tree=tree,
                setup=self.setup,
                source=core.lab.metric.source,
                pattern=core.lab.metric.pattern,
            )
        )
        faults.point("launch.intent")
        await self.start(step.shard)

    async def start(self, shard: str) -> None:
        """Start an intended shard; the second time it is found to be known, and nothing is started."""
        core = self.core
        if self.refusal is not None or self.shortage is not None:
            return  # it stays intended, for an engine that may, or for when there is room
        intent = core.state.unlaunched[shard]
        if intent.setup != self.setup:
            core.record(e.ShardEnded(shard, Outcome.KILLED, "never started: the lab's setup changed before it could"))
            return
        try:
            path = await self._tree(intent.commit, intent.tree)
        except RepoError as error:
            core.record(e.ShardEnded(shard, Outcome.LOST, clean(f"no run tree could be made: {error}")))
            return
        cache = await self._cache(intent)
        handle = await self.executor.launch(self._spec(intent, path, cache))
        faults.point("launch.effect")
        core.record(e.ShardStarted(shard, handle.where))
        faults.point("launch.done")
        if handle.state == "running":
            await self.watch(shard)
        else:
            await self.ended(shard)

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
                    number = f"f{core.state.counts['finding'] + 1:05d}"
                    core.record(e.FindingNoted(number, shard, TREE_CHANGED, "bars a keep", sentence))
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

    def _spec(self, intent: e.ShardIntended, tree: Path, cache: Path | None) -> ShardSpec:
        lab = self.core.lab
        run_dir = self.core.dir.runs / intent.shard
        rung = lab.rung(intent.rung)
        values = lab.values(rung, intent.seed, run_dir, **self._data)
        slot = self.slots[intent.slot % len(self.slots)]
        command = lab.fill(lab.command, values)
        spec = ShardSpec(
            id=intent.shard,
            argv=with_ranks(lab.ranks, command),
            cwd=str(tree),
            env=self.environment(tree, run_dir, slot, lab.fill_env(values), cache),
            run_dir=str(run_dir),
            fresh=True,
            timeout_s=rung.timeout_s,
            cores=slot.cores,
            gpus=slot.gpus,
            threads=lab.threads,
            nice=lab.nice,
            tree=intent.tree,
            seed=intent.seed,
            rung=intent.rung,
            attempt=intent.attempt,
            ranks=lab.ranks,
            warm=warm_imports(lab.warm and lab.ranks == 1, values["python"], command, tree),
        )
        return self._boxed(self._limited(spec), tree, held=False, cache=cache)

    def _limited(self, spec: ShardSpec) -> ShardSpec:
        """The spec within the lab's limits."""
        limits = self.core.lab.limits
        memory = limits.memory_of(memory_here().total, len(self.slots))
        return replace(spec, memory=memory, disk=limits.disk, processes=limits.processes, log_bytes=limits.log)

    def _boxed(
        self, spec: ShardSpec, tree: Path, *, held: bool, cache: Path | None = None, seen: tuple[Path, ...] = ()
    ) -> ShardSpec:
        """The spec in its box: with `held`, of a protected step that may read what is held out; with `seen`, of one that
        reads these besides. Neither is ever granted the network. Raises BoxError."""
        core, lab = self.core, self.core.lab
        box = lab_box(
            self.level,
            interpreter=lab.interpreter(),
            tree=tree,
            run_dir=Path(spec.run_dir),
            data=[path for name, path in self._data.items() if held or name != "held"] + list(seen),
            mounts=lab.mounts,
            gpus=spec.gpus,
            private=(core.dir.root, core.dir.runtime.parent),
            lab_root=lab.root,
            network=not held and not seen and network.shares_host(lab.network, self.level, spec.ranks),
            cache=cache,
        )
        return wrap(spec, box)

    def environment(
        self, tree: Path, run_dir: Path, slot: Slot, filled: dict[str, str], cache: Path | None = None
    ) -> dict[str, str]:
        """The complete environment of a process in that slot."""
        lab = self.core.lab
        return shard_env(
            lab_env=filled,
            passed=lab.env_pass,
            threads=lab.threads,
            gpus=slot.gpus,
            run_dir=run_dir,
            tree=tree,
            lab_root=lab.root,
            cache=cache,
        )

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
        shard = name.removesuffix(".score")
        row = self.core.state.shards.get(shard)
        if row is None or row["state"] == ShardState.ENDED:
            return
        if name.endswith(".score"):
            if row["state"] == ShardState.SCORING:
                await self._scored(row)
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
        if shard in core.state.unlaunched:  # it started and ended while nobody looked
            core.record(e.ShardStarted(shard, f"pid {record.pid}" if record else ""))
        if record is None:
            detail = "it vanished without an exit record: the machine or the launcher went down"
            core.record(e.ShardEnded(shard, Outcome.LOST, detail))
            self._forget(shard)
            return
        facts, reported = await asyncio.to_thread(self._facts, shard)
        tail = await asyncio.to_thread(read_tail, run_dir / "output.log")
        outcome, detail = classify(record, tail, facts)
        outcome, detail = await self._whole(row, outcome, detail)
        finished = outcome is Outcome.FINISHED
        if finished and core.lab.score is None and reported is None:
            outcome, detail = Outcome.CRASHED, f"it ended well but never reported {core.lab.metric.name}"
        scores = outcome is Outcome.FINISHED and core.lab.score is not None
        faults.point("end.effect")
        core.record(
            e.ShardEnded(shard, outcome, clean(detail), reported, scores, _usage(record)),
            *([e.ScoreIntended(shard)] if scores else []),
        )
        faults.point("end.done")
        self._forget(shard)
        if scores:
            await self.score(shard)

    def _forget(self, shard: str) -> None:
        self.live.end(shard)
        self._cancelled.discard(shard)

    async def _whole(self, row: ShardRow, outcome: Outcome, detail: str) -> tuple[Outcome, str]:
        """A result counts only when the run tree is still what the commit says."""
        core = self.core
        arm = core.state.experiments[row["experiment"]]
        if outcome is not Outcome.FINISHED or arm["commit"] is None or arm["tree"] is None:
            return outcome, detail
        await self._tree(arm["commit"], arm["tree"])
        changed = core.state.tampered.get(row["id"])
        return (outcome, detail) if changed is None else (Outcome.WRONG_TREE, changed)

    def _parse(self, shard: str) -> Iterator[Parsed]:
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
        for parsed in self._parse(shard):
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
        """Start the lab's protected scoring code on the shard's checkpoint; known and not started the second time."""
        core, lab = self.core, self.core.lab
        row = core.state.shards[shard]
        arm = core.state.experiments[row["experiment"]]
        if lab.score is None or row["rung"] not in {rung.name for rung in lab.rungs}:
            detail = "not scored: cockpit.toml no longer has its rung or a [score] command"
            core.record(e.ShardScored(shard, Outcome.KILLED, detail, None))
            return
        if self.refusal is not None:
            return  # as for `start`
        faults.point("score.intent")
        run_dir = core.dir.runs / shard
        path = await self._tree(str(arm["commit"]), str(arm["tree"]))
        rung = lab.rung(row["rung"])
        cache = await asyncio.to_thread(self.caches.scoring, shard)  # empty: training's is no way into protected code
        values = lab.values(rung, row["seed"], run_dir, **self._data)
        slot = self.slots[(row["slot"] or 0) % len(self.slots)]
        place = Place(
            lab,
            tree=path,
            run_dir=run_dir,
            slot=slot,
            values=values,
            environment=lambda where: self.environment(
                path, where, slot, lab.fill_env(values), cache if where == run_dir else None
            ),
            boxed=lambda spec, seen: self._boxed(spec, path, held=False, seen=seen),
            boxed_with_held=lambda spec: self._boxed(spec, path, held=True, cache=cache),
        )
        handle = await self.executor.launch(self._limited(scoring.spec(row, str(arm["tree"]), lab.score, place)))
        faults.point("score.effect")
        if handle.state != "running":
            await self.ended(f"{shard}.score")

    async def _scored(self, row: ShardRow) -> None:
        core, shard = self.core, row["id"]
        run_dir = core.dir.runs / shard
        await asyncio.to_thread(defuse, run_dir)  # scoring runs the candidate's model code there
        record = await asyncio.to_thread(read_exit, run_dir, "score-exit.json")
        if record is None:
            await self._score_again(row)
            return
        core.record(await asyncio.to_thread(read_score, shard, run_dir, record))
        faults.point("score.done")
        await asyncio.to_thread(self.caches.scored, shard)

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
            if shard["state"] != ShardState.ENDED:
                continue
            for file in checkpoints(core.dir.runs / shard["id"]):
                file.unlink(missing_ok=True)

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
        if shard in self._cancelled or shard in self.core.state.unlaunched:
            return
        await self.stop(shard)
        self._cancelled.add(shard)

    async def stop(self, shard: str) -> None:
        """TERM to the whole process group of a shard, KILL after the grace time; its scoring too."""
        scoring = self.core.state.shards[shard]["state"] == ShardState.SCORING
        await self.executor.stop(f"{shard}.score" if scoring else shard, GRACE_S)

    # --- after a restart ---

    async def recover(self) -> None:
        """Bring every shard that has not ended into line with what is there: running, ended, or gone."""
        running = await self.executor.reattach()
        for shard in list(self.core.state.live):
            row = self.core.state.shards[shard]
            scoring = row["state"] == ShardState.SCORING
            name = f"{shard}.score" if scoring else shard
            run_dir = self.core.dir.runs / shard
            if name in running:
                if shard in self.core.state.unlaunched:
                    self.core.record(e.ShardStarted(shard))
                if not scoring:
                    await self.watch(shard)
            elif shard in self.core.state.unlaunched and not run_dir.exists():
                await self.start(shard)
            elif scoring and not (run_dir / "score-exit.json").exists():
                await self.score(shard)
            else:
                await self.ended(name)


def keeps_checkpoints(core: Core, experiment: str) -> bool:
    """Whether `[retain]` keeps the checkpoints of an arm's shards once they were scored: until its verdict always, then
    when it is solid. The trunk's stay: experiments are compared with them."""
    keep, row = core.lab.retain.checkpoints, core.state.experiments[experiment]
    if keep != "unless-refereed":
        return keep == "all"
    solid = row["verdict"] is not None and row["verdict"]["verdict"] == Verdict.SOLID
    return solid or core.lab.score is None or row["role"] == "trunk" or row["state"] in campaign.OPEN


def checkpoints(run_dir: Path) -> list[Path]:
    """The files of a run directory that look like checkpoints; links are listed too, and are unlinked as such."""
    return [each for each in below(run_dir) if each.suffix in CHECKPOINTS and (each.is_symlink() or each.is_file())]


def _usage(record: ExitRecord) -> dict[str, Any]:
    return {"cpu_s": record.cpu_s, "max_rss": record.max_rss, "wall_s": round(record.ended - record.started, 3)}
