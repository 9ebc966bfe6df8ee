"""What is asked of the executor: from an intended shard, or one that is to be scored, to the spec of its process.

Everything about how a lab's processes are made is here: command, environment, limits, and the box they run in.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from engine import events as e
from engine import scoring
from engine.further import SCORE, evaluation, place_of
from engine.lab import Lab, LabError
from engine.paths import StateDir
from engine.scoring import Place
from engine.shards import network
from engine.shards.devices import any_gpu
from engine.shards.imports import warm_imports
from engine.shards.room import memory_here
from engine.shards.sandbox import SHOWN, SHOWN_NO_CUDA, BoxError, Level, Probe, choose, lab_box, probe, with_ranks, wrap
from engine.shards.slots import Slot
from engine.shards.spec import ShardSpec, shard_env
from engine.text import clean
from engine.types import ShardRow


class Specs:
    """Specs of one lab's processes. `data` are the directories that `[prepare]` made, by the placeholder they stand for."""

    def __init__(self, lab: Lab, slots: tuple[Slot, ...]) -> None:
        self.lab = lab
        self.state: StateDir = lab.state
        self.slots = slots
        self.data: Mapping[str, Path] = {}
        self.level: Level
        self.refusal: str | None  # why nothing is started
        self._choose(probe())
        self.program: str | None = None  # the bubblewrap of the nodes that shards run on; None: this machine's
        self._probed: Probe | None = None
        if lab.here:
            self._try_box()
        else:
            self.refusal = None  # what its nodes can do is not known yet

    def learn(self, found: Probe | None, program: str | None) -> bool:
        """Take note of what boxes can be made where shards run. True when that is news."""
        if found is None or (found, program) == (self._probed, self.program):
            return False
        self._probed, self.program = found, program
        self._choose(found)
        self._try_box()
        return True

    def _choose(self, found: Probe) -> None:
        gpus = any(slot.gpus for slot in self.slots)
        self.level, self.refusal = choose(self.lab.isolation, found, gpus)
        self._without = SHOWN_NO_CUDA if self.level < choose(self.lab.isolation, found)[0] else ""

    def _try_box(self) -> None:
        """Find out before the first launch whether the lab's box can be made; a box that cannot is no shard's fault."""
        nowhere = self.state.runs / "none"
        spec = ShardSpec(id="none", argv=("none",), cwd="/", env={}, run_dir=str(nowhere), timeout_s=1.0)
        training = replace(spec, ranks=self.lab.ranks, nodes=self.lab.nodes)
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
        if not self.lab.here and self._probed is None:
            return "box not known yet"
        return SHOWN[self.level] + self._without + network.shown(self.lab.network, self.level, self.lab.nodes)

    def training(self, intent: e.ShardIntended, tree: Path, cache: Path | None) -> ShardSpec:
        """The training process of an intended shard in its run tree. Raises BoxError, LabError."""
        lab = self.lab
        run_dir = self.state.runs / intent.shard
        rung = lab.rung(intent.rung)
        values = lab.values(rung, intent.seed, run_dir, **self.data)
        slot = self.slots[intent.slot % len(self.slots)]
        command = lab.fill(lab.command, values)
        spec = ShardSpec(
            id=intent.shard,
            argv=with_ranks(lab.ranks, command, lab.nodes),
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
            nodes=lab.nodes,
            resume_from=self._resume_from(intent),
            warm=warm_imports(lab.warm and lab.ranks == 1, values["python"], command, tree),
        )
        return self._boxed(self._limited(spec), tree, held=False, cache=cache)

    def _resume_from(self, intent: e.ShardIntended) -> str | None:
        if not self.lab.resumable:
            return None
        return str(self.state.runs / intent.resumes) if intent.resumes else ""

    def scoring(self, row: ShardRow, tree_hash: str, tree: Path, cache: Path | None, step: str = SCORE) -> ShardSpec:
        """The process that scores a finished shard, or that of a further evaluation (`step`); `cache` is for a command of the
        lab. Raises BoxError, LabError."""
        lab, run_dir = self.lab, self.state.runs / row["id"]
        assert lab.score is not None
        asked, where = evaluation(lab, step), place_of(self.state, row["id"], step)
        scores = None if asked is None else where / f"{step}.json"
        values = lab.values(row["rung"], row["seed"], run_dir, scores=scores, **self.data)
        slot = self.slots[(row["slot"] or 0) % len(self.slots)]

        def environment(inside: Path) -> dict[str, str]:
            own = cache if inside == run_dir else None
            return self.environment(tree, inside, slot, lab.fill_env(values), own)

        seen = () if asked is None else (run_dir,)
        place = Place(
            lab,
            tree=tree,
            run_dir=where,
            slot=slot,
            values=values,
            environment=environment,
            boxed=lambda spec, seen: self._boxed(spec, tree, held=False, seen=seen),
            boxed_with_held=lambda spec: self._boxed(spec, tree, held=True, cache=None if seen else cache, seen=seen),
        )
        if asked is not None:
            return self._limited(scoring.evaluating(row, tree_hash, step, asked, place))
        return self._limited(scoring.spec(row, tree_hash, lab.score, place))

    def _limited(self, spec: ShardSpec) -> ShardSpec:
        """The spec within the lab's limits."""
        limits = self.lab.limits
        memory = limits.memory_of(memory_here().total, len(self.slots))
        if not self.lab.here:  # the nodes' memory is the cluster's to share out
            memory = limits.memory
        return replace(spec, memory=memory, disk=limits.disk, processes=limits.processes, log_bytes=limits.log)

    def _boxed(
        self, spec: ShardSpec, tree: Path, *, held: bool, cache: Path | None = None, seen: tuple[Path, ...] = ()
    ) -> ShardSpec:
        """The spec in its box: with `held`, of a protected step that may read what is held out; with `seen`, of one that
        reads these besides. Neither is ever granted the network. Raises BoxError."""
        lab = self.lab
        box = lab_box(
            self.level,
            interpreter=lab.interpreter(),
            tree=tree,
            run_dir=Path(spec.run_dir),
            data=[path for name, path in self.data.items() if held or name != "held"] + list(seen),
            mounts=lab.mounts,
            gpus=spec.gpus,
            private=(self.state.root, self.state.shared_root, self.state.runtime.parent),
            lab_root=lab.root,
            network=not held and not seen and network.shares_host(lab.network, self.level, spec.ranks, spec.nodes),
            cache=cache,
        )
        if not lab.here and spec.gpus:  # which of them is the cluster's choice, and its cgroup keeps shards to theirs
            box = replace(box, devices=any_gpu())
        return wrap(spec, box, self.program)

    def environment(
        self, tree: Path, run_dir: Path, slot: Slot, filled: dict[str, str], cache: Path | None = None
    ) -> dict[str, str]:
        """The complete environment of a process in that slot."""
        lab = self.lab
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
