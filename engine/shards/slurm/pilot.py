"""The pilot: the one allocation that shards run in. A person confirms it; it is given back when nothing has run for a while.

salloc is left to itself, so that an engine which dies while the pilot waits finds it again: by the job's number in salloc's own
output, which lies in the state directory. How each pilot ended is kept there until it is in the ledger, whoever saw it end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.files import last_line
from engine.shards.executor import Over
from engine.shards.sandbox import Level, Probe
from engine.shards.slurm import clocks, notes
from engine.shards.slurm.clocks import Offset
from engine.shards.slurm.commands import Controller, SlurmError, on_each_node, own, run, salloc
from engine.shards.slurm.parsing import Job, allocation, node_states
from engine.shards.slurm.settings import Settings, shown
from engine.text import clean

log = logging.getLogger(__name__)
PROBE_S = 120.0
CALLED_OFF_S = 10.0  # that salloc may take to end
SUBMITTED_S = 60.0  # from asking until the queue knows of it, at the worst
RULE = "[slurm] idle"
_ENDED = {
    "timeout": "ended with its walltime (timeout)",
    "preempted": "was preempted",
    "cancelled": "was cancelled",
    "node_fail": "was lost with its nodes (node_fail)",
    "gone": "is gone",
    "released": "was given back",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one node said when it was looked at."""

    node: str
    level: int
    reasons: tuple[str, ...]
    program: str | None
    gpus: tuple[str, ...]  # models
    clock: tuple[float, float] | None  # Unix seconds, when its program began and when it answered


@dataclass(slots=True)
class Seen:
    """The pilot as it was last seen."""

    job: Job | None = None
    nodes: tuple[str, ...] = ()  # of the allocation, now: those it lost are not among them
    shortened: str = ""  # the same as Slurm abbreviates them
    states: dict[str, str] = field(default_factory=dict)
    probe: Probe | None = None
    program: str | None = None  # the bubblewrap that works on all its nodes
    levels: dict[str, int] = field(default_factory=dict)  # of each node, what boxes it can make
    offsets: dict[str, Offset] = field(default_factory=dict)  # of each node's clock
    files: Offset | None = None  # of the clock of the shared file system
    at: float = 0.0  # monotonic; 0: never
    trouble: str = ""  # why the queue could not be asked
    unfit: str = ""  # why its nodes could not be looked at


class Pilot:
    """One lab's pilot. `place` is where its files lie, on this machine; `shared` what its nodes see."""

    def __init__(
        self, settings: Settings, controller: Controller, place: Path, shared: Path, ranks: int, threads: int
    ) -> None:
        self.settings = settings
        self.controller = controller
        self.place = place
        self.shared = shared
        self.ranks = ranks
        self.threads = threads
        self.seen = Seen()
        self.job_id: str | None = None
        self.id = ""
        self.ended = ""  # what became of the last one, in words
        self.ends: list[Over] = []  # of those that ended, what is not in the ledger yet
        self.confirmed = ""  # what it is, in the words that a person confirmed
        self._name = ""  # of the job: no other has it
        self._asked_at = 0.0  # when it was confirmed (seconds since the epoch)
        self._salloc: subprocess.Popen[bytes] | None = None
        self._find()

    # --- what it is

    @property
    def asked(self) -> bool:
        """Whether there is one, or one is on its way."""
        return self._file.exists()

    @property
    def running(self) -> bool:
        """Whether it has its nodes, and is paid for."""
        return self.seen.job is not None and self.seen.job.state == "RUNNING"

    @property
    def ready(self) -> bool:
        """Whether steps may be started in it."""
        return self.running and self.seen.probe is not None

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
            return f"pilot {job.id} {job.waits}"
        if not self.ready and self.seen.unfit:
            return f"pilot {job.id} has its nodes, but {clean(self.seen.unfit)}"
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
        return self.place / notes.PILOT

    @property
    def _said(self) -> Path:
        return self.place / "salloc.log"

    def _find(self) -> None:
        """Take up the one that there is, and the ends that nobody has written down."""
        self.ends = [told(each) for each in notes.ends(self.place)]
        self.ended = last(self.ends[-1]) if self.ends else ""
        found = notes.pilot(self.place)
        if found is not None:
            self.id = str(found["id"])
            if notes.end_of(self.place, self.id) is not None:  # the keeper gave it back
                self._file.unlink(missing_ok=True)
                return
            with suppress(ValueError, TypeError):
                self._asked_at, self._name = float(found.get("at", 0.0)), str(found.get("name", ""))
                self.confirmed = str(found.get("words", ""))
            with suppress(OSError):
                self.job_id = found.get("job") or allocation(self._said.read_text(errors="replace"))
            with suppress(OSError):
                self._note(job=self.job_id)

    # --- what is done with it

    def confirm(self, name: str) -> None:
        """Ask Slurm for it. Raises SlurmError when there is one already, or salloc cannot be started."""
        if self.asked:
            raise SlurmError("there is a pilot already")
        self._name, self._asked_at = f"{name}-{secrets.token_hex(4)}", time.time()
        self.confirmed = self.settings.words(self.ranks)
        argv = salloc(self.controller.programs, self.settings, self._name, self.ranks, self.threads)
        self._said.unlink(missing_ok=True)  # what an earlier one said is not about this one
        self.seen, self.ended, self.job_id, self.id = Seen(), "", None, secrets.token_hex(8)
        self._note(job=None)
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
            self._end("refused", f"salloc: {error}")
            raise SlurmError(f"salloc: {error}") from error

    async def release(self, why: str, who: Mapping[str, Any] | None = None, how: str = "released") -> None:
        """Give it back, or call it off; `how` is "idle" where nobody wants that but the lab file. Raises SlurmError when Slurm
        does not take it."""
        wish, id = {"how": how, "why": why, "who": None if who is None else dict(who)}, self.id
        if self.job_id is None:
            await self._call_off()
            if self.id != id or not self.asked:
                return
        if self.job_id is not None:
            self._note(release=wish)  # should the engine die in the middle, the next one knows whose wish it was
            try:
                await self.controller.ask("scancel", self.job_id)
            except SlurmError as error:
                if not error.unknown:
                    self._note(release=None)
                    raise
            if self.id != id or not self.asked:
                return  # that it is gone was seen meanwhile
        self._note(release=wish)
        self._end(how, why)

    async def _call_off(self) -> None:
        """End what still asks for it; it may have been granted all the same, and have its number now."""
        if self._salloc is not None:
            with suppress(OSError):
                self._salloc.terminate()
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._salloc.wait, CALLED_OFF_S)
        said = self._said.read_text(errors="replace") if self._said.exists() else ""
        self.job_id = allocation(said) or await self._by_name()

    def written(self, id: str) -> None:
        """The end of that one is in the ledger."""
        notes.drop_end(self.place, id)
        self.ends = [each for each in self.ends if each.id != id]

    def _end(self, how: str, why: str) -> None:
        """It is over; where the keeper or an earlier engine has said how, that stands."""
        held = notes.pilot(self.place) or {}
        until = time.time()
        end = {"id": self.id, "job": self.job_id, "how": how, "why": why, "since": held.get("since"), "until": until}
        stands = told(notes.put_end(self.place, end | {"release": held.get("release")}))
        if stands.id not in {each.id for each in self.ends}:
            self.ends.append(stands)
        self.ended, self.seen, self.job_id = last(stands), Seen(), None
        self._file.unlink(missing_ok=True)
        log.info("the pilot is gone: %s", stands.why)

    def _note(self, **changed: object) -> None:
        """Write down what is known of it; the keeper reads that."""
        programs = self.controller.programs.paths
        body: dict[str, Any] = {"since": None, "release": None} | (notes.pilot(self.place) or {})
        body |= {
            "id": self.id,
            "at": self._asked_at,
            "name": self._name,
            "words": self.confirmed,
            "idle_s": self.settings.idle_s,
            "steps": str(self.shared / "steps"),
        }
        body |= {"programs": {name: programs[name] for name in ("squeue", "scancel") if name in programs}}
        notes.write(self._file, body | changed)

    async def look(self) -> None:
        """Ask what has become of it: one question, and one more about its nodes."""
        if not self.asked:
            return
        if notes.end_of(self.place, self.id) is not None:  # the keeper did so while this engine started
            self._end("gone", "")
            return
        if self.job_id is None:
            await self._look_for_it()
            if self.job_id is None:
                return
        id = self.id
        try:
            found = await self._ask()
        except SlurmError as error:
            self.seen.trouble = str(error)
            return
        if self.id != id or not self.asked:
            return  # it was given back meanwhile
        if found is None or found.over:
            self._end("gone" if found is None else found.state.lower(), "")
            return
        self.seen.job, self.seen.at, self.seen.trouble = found, time.monotonic(), ""
        if found.state == "RUNNING":
            if not (notes.pilot(self.place) or {}).get("since"):
                self._note(since=time.time())
            await self._look_at_nodes(found)

    async def _look_for_it(self) -> None:
        """Learn the number of what was asked for; forget it where Slurm refused."""
        over = self._salloc is None or self._salloc.poll() is not None  # and only then what it had said by its end
        said = self._said.read_text(errors="replace") if self._said.exists() else ""
        self.job_id = allocation(said)
        if self.job_id is None and over:
            try:
                self.job_id = await self._by_name()
            except SlurmError as error:
                self.seen.trouble = str(error)
                return
            if not self.asked:  # it was called off meanwhile
                self.job_id = None
                return
            if self.job_id is None and (self._salloc is not None or time.time() - self._asked_at > SUBMITTED_S):
                words = " ".join(said.replace("salloc: ", "").replace("error: ", "").split())
                self._end("refused", f"Slurm refused the pilot: {words[:200] or 'salloc ended and said nothing'}")
        if self.job_id is not None:
            self._note(job=self.job_id)

    async def _by_name(self) -> str | None:
        """The job of the name that this pilot has alone, which an engine that died at once asked for and never heard of."""
        found = await self.controller.named(self._name) if self._name else {}
        return next((id for id, job in found.items() if not job.over), None)

    async def _ask(self) -> Job | None:
        assert self.job_id is not None
        found = (await self.controller.queue(self.job_id)).get(self.job_id)
        if found is None and await self.controller.knows(self.job_id):
            raise SlurmError(f"squeue says nothing of job {self.job_id}, which there is")
        return found

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
        except SlurmError as error:
            self.seen.trouble = str(error)
            return
        if self.seen.probe is None:
            try:
                await self._probe(job.id)
                self.seen.unfit = ""
            except SlurmError as error:
                self.seen.unfit = str(error)

    async def _probe(self, job: str) -> None:
        """Find out what all the pilot's nodes can do, since a shard may come to run on any; and how far clocks are off."""
        programs = self.controller.programs
        command = own("agent", "--probe", installed=True)
        files = await asyncio.to_thread(clocks.of_files, self.shared)
        before = time.time()
        said = await run(on_each_node(programs, job, self.seen.nodes, command), programs.env, PROBE_S)
        after = time.time()
        found = answers(said)
        if missing := sorted(set(self.seen.nodes) - {each.node for each in found}):
            raise SlurmError(
                f"the engine's Python does not run on {', '.join(missing)}: {last_line(said) or 'no answer'}"
            )
        spans = {each.node: clocks.bracket(before, after, *each.clock) for each in found if each.clock is not None}
        self.seen.offsets = {node: span for node, span in spans.items() if span is not None}
        self.seen.levels = {each.node: each.level for each in found}
        self.seen.files = files
        self.seen.probe, self.seen.program = together(found)


def told(end: Mapping[str, Any]) -> Over:
    """An end as it was noted, with its words."""
    job, how = str(end.get("job") or ""), str(end.get("how"))
    wish = end.get("release") if isinstance(end.get("release"), dict) else None
    if wish is not None and how in ("cancelled", "gone"):  # whoever wished it died before it was done
        how = str(wish["how"])
    why = str(end.get("why") or (wish or {}).get("why") or "")
    if how == "idle" and not why:
        why = f"{idle_words(float(end.get('idle_s') or 0.0))}, while no engine ran"
    who = wish.get("who") if wish is not None and how == "released" else None
    if not why:
        why = f"pilot {job} {_ENDED.get(how, f'ended ({how})')}".replace("  ", " ")
    rule = RULE if how == "idle" else ""
    return Over(str(end["id"]), job, how, why, who, rule, end.get("since"), end.get("until"))


def last(end: Over) -> str:
    """What is said of the last one where there is none now: the reason that somebody wrote is no sentence of its own."""
    plain = f"pilot {end.name} {_ENDED['released']}".replace("  ", " ")
    return end.why if end.how != "released" or end.why == plain else f"{plain} ({end.why})"


def idle_words(seconds: float) -> str:
    """What is said of a pilot that was given back after so long with nothing in it."""
    whole = seconds / 60
    return (
        f"released after {whole:.0f} idle minutes" if seconds >= 120 else f"released after {seconds:.0f} idle seconds"
    )


def answers(said: str) -> list[Answer]:
    """What the nodes said, one line each; other lines are left out."""
    found = []
    for line in said.splitlines():
        with suppress(ValueError, KeyError, TypeError, OverflowError):
            each = json.loads(line)
            if not isinstance(each, dict):
                continue
            clock = each.get("clock")
            span = (float(clock[0]), float(clock[1])) if isinstance(clock, list) and len(clock) == 2 else None
            level, reasons = int(each["level"]), tuple(map(str, each["reasons"]))
            gpus = tuple(map(clean, each.get("gpus", ())))
            found.append(Answer(str(each["node"]), level, reasons, each["program"], gpus, span))
    return found


def together(found: Sequence[Answer]) -> tuple[Probe, str | None]:
    """The level that all nodes reach, of what each of them said, and the bubblewrap that they share."""
    level = min(each.level for each in found)
    reasons = [f"on {each.node}: {why}" for each in found if each.level == level for why in each.reasons]
    programs = {each.program for each in found}
    if level == 3 and len(programs) != 1:
        level, reasons = 2, ["the nodes have their bubblewrap in different places"]
    levels: dict[int, Level] = {1: 1, 2: 2, 3: 3}
    gpus = tuple(dict.fromkeys(gpu for each in found for gpu in each.gpus))
    return Probe(levels.get(level, 1), tuple(dict.fromkeys(reasons)), gpus), programs.pop() if level == 3 else None
