"""The pilot: the one allocation that shards run in. A person confirms it; it is given back when nothing has run for a while.

salloc is left to itself, so that an engine which dies while the pilot waits finds it again: by the job's number in salloc's own
output, which lies in the state directory.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.shards.sandbox import Level, Probe
from engine.shards.slurm.commands import Controller, SlurmError, on_each_node, own, run, salloc
from engine.shards.slurm.parsing import Job, allocation, node_states
from engine.shards.slurm.settings import Settings, shown

log = logging.getLogger(__name__)
PROBE_S = 120.0


@dataclass(slots=True)
class Seen:
    """The pilot as it was last seen."""

    job: Job | None = None
    nodes: tuple[str, ...] = ()  # of the allocation, now: those it lost are not among them
    shortened: str = ""  # the same as Slurm abbreviates them
    states: dict[str, str] = field(default_factory=dict)
    probe: Probe | None = None
    program: str | None = None  # the bubblewrap that works on all its nodes
    at: float = 0.0  # monotonic; 0: never
    trouble: str = ""  # why the queue could not be asked


class Pilot:
    """One lab's pilot. `place` is where its files lie, on this machine."""

    def __init__(self, settings: Settings, controller: Controller, place: Path, ranks: int, threads: int) -> None:
        self.settings = settings
        self.controller = controller
        self.place = place
        self.ranks = ranks
        self.threads = threads
        self.seen = Seen()
        self.job_id: str | None = None
        self.ended = ""  # what became of the last one, in words
        self._salloc: subprocess.Popen[bytes] | None = None
        self._find()

    # --- what it is

    @property
    def asked(self) -> bool:
        """Whether there is one, or one is on its way."""
        return self._file.exists()

    @property
    def ready(self) -> bool:
        """Whether steps may be started in it."""
        job = self.seen.job
        return job is not None and job.state == "RUNNING" and self.seen.probe is not None

    @property
    def sentence(self) -> str:
        """What is to be said of it on the status line."""
        job = self.seen.job
        if not self.asked:
            again = f"{self.ended}; " if self.ended else ""
            return f"{again}`cockpit pilot --confirm` asks Slurm for {self.settings.words(self.ranks)}"
        if self.seen.trouble:
            return f"Slurm does not answer: {self.seen.trouble}"
        if job is None:
            return "the pilot is being asked for"
        if job.pending:
            return f"pilot {job.id} is {job.state.lower()}{f': {job.why}' if job.why else ''}"
        if not self.ready:
            return f"pilot {job.id} has its nodes, which are being looked at"
        left = f", {shown(self.left_s)} left" if self.left_s is not None else ""
        return f"pilot {job.id} on {job.nodes}{left}"

    @property
    def left_s(self) -> float | None:
        """Seconds of walltime that are left; None where there is no limit."""
        job = self.seen.job
        if job is None or job.left_s is None:
            return None
        return max(0.0, job.left_s - (time.monotonic() - self.seen.at))

    @property
    def _file(self) -> Path:
        return self.place / "pilot.json"

    @property
    def _said(self) -> Path:
        return self.place / "salloc.log"

    def _find(self) -> None:
        with suppress(OSError, ValueError, TypeError):
            found = json.loads(self._file.read_bytes())
            self.job_id = found.get("job") or allocation(self._said.read_text(errors="replace"))

    # --- what is done with it

    def confirm(self, name: str) -> None:
        """Ask Slurm for it. Raises SlurmError when there is one already, or salloc cannot be started."""
        if self.asked:
            raise SlurmError("there is a pilot already")
        argv = salloc(self.controller.programs, self.settings, name, self.ranks, self.threads)
        self._write({"job": None, "at": time.time()})
        self.seen, self.ended, self.job_id = Seen(), "", None
        try:
            with open(self._said, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                self._salloc = subprocess.Popen(
                    argv,
                    env=dict(self.controller.programs.env),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,  # it waits on when the engine is gone
                )
        except OSError as error:
            self._file.unlink(missing_ok=True)
            raise SlurmError(f"salloc: {error}") from error

    async def release(self, why: str) -> None:
        """Give it back, or call it off. Raises SlurmError when Slurm does not take it."""
        if self.job_id is not None:
            try:
                await self.controller.ask("scancel", self.job_id)
            except SlurmError as error:
                if "Invalid job id" not in str(error):
                    raise
        elif self._salloc is not None and self._salloc.poll() is None:
            self._salloc.terminate()  # that calls off what it waits for
        self._forget(why)

    def _forget(self, why: str) -> None:
        self.ended, self.seen, self.job_id = why, Seen(), None
        self._file.unlink(missing_ok=True)
        log.info("the pilot is gone: %s", why)

    def _write(self, body: dict[str, object]) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(body))
        os.replace(temporary, self._file)

    async def look(self) -> None:
        """Ask what has become of it: one question, and one more about its nodes."""
        if not self.asked:
            return
        said = self._said.read_text(errors="replace") if self._said.exists() else ""
        over = self._salloc is None or self._salloc.poll() is not None
        if self.job_id is None:
            self.job_id = allocation(said)
            if self.job_id is None:
                if over:
                    words = " ".join(said.replace("salloc: ", "").replace("error: ", "").split())
                    self._forget(f"Slurm refused the pilot: {words[:200] or 'salloc ended and said nothing'}")
                return
            self._write({"job": self.job_id, "at": time.time()})
        try:
            found = await self._ask()
        except SlurmError as error:
            self.seen.trouble = str(error)
            return
        if found is None or found.over:
            word = "is gone" if found is None else f"ended ({found.state.lower()})"
            self._forget(f"pilot {self.job_id} {word}")
            return
        self.seen.job, self.seen.at, self.seen.trouble = found, time.monotonic(), ""
        if found.state == "RUNNING":
            await self._look_at_nodes(found)

    async def _ask(self) -> Job | None:
        assert self.job_id is not None
        return (await self.controller.queue(self.job_id)).get(self.job_id)

    async def _look_at_nodes(self, job: Job) -> None:
        try:
            if self.seen.shortened != job.nodes:
                said = await run(
                    [self.controller.programs["scontrol"], "show", "hostnames", job.nodes],
                    self.controller.programs.env,
                    10.0,
                )
                self.seen.nodes, self.seen.shortened = tuple(said.split()), job.nodes
            words = ("--noheader", "--Node", f"--nodes={','.join(self.seen.nodes)}", "--format=%N %T")
            self.seen.states = node_states(await self.controller.ask("sinfo", *words))
            if self.seen.probe is None:
                self.seen.probe, self.seen.program = await self._probe(job.id)
        except SlurmError as error:
            self.seen.trouble = str(error)

    async def _probe(self, job: str) -> tuple[Probe, str | None]:
        """What all the pilot's nodes can do: a shard may come to run on any."""
        programs = self.controller.programs
        command = own("agent", "--probe", installed=True)
        said = await run(on_each_node(programs, job, self.seen.nodes, command), programs.env, PROBE_S)
        return together(said, len(self.seen.nodes))


def together(said: str, count: int) -> tuple[Probe, str | None]:
    """The level that all nodes reach, of what `count` of them said, and the bubblewrap that they share."""
    found = []
    for line in said.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            each = json.loads(line)
            found.append((int(each["level"]), str(each["node"]), tuple(each["reasons"]), each["program"]))
    if len(found) < count:
        return Probe(1, (f"only {len(found)} of {count} nodes said what boxes they can make",)), None
    level = min(each[0] for each in found)
    reasons = [f"on {node}: {why}" for at, node, whys, _ in found if at == level for why in whys]
    programs = {each[3] for each in found}
    if level == 3 and len(programs) != 1:
        level, reasons = 2, ["the nodes have their bubblewrap in different places"]
    levels: dict[int, Level] = {1: 1, 2: 2, 3: 3}
    return Probe(levels.get(level, 1), tuple(dict.fromkeys(reasons))), programs.pop() if level == 3 else None
