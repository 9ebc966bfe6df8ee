"""Jobs of their own, handed over to Slurm: shards that are alike go as one array, each batch exactly once.

    jobs/<nonce>/tasks.json     written first: for each task the directory of its order, and the order's nonce
    jobs/<nonce>/number         the job's number, once sbatch has said it
    jobs/<nonce>/<task>.out     what the task's agent printed

The job's name carries the nonce. So a batch of which nobody knows whether sbatch took it (the engine died there, or the
controller gave no answer) is found in the queue by its name before it is handed over again; and should both come to run, an
order is claimed once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import faults
from engine.shards.slurm.commands import Controller, SlurmError, batch, own, script
from engine.shards.slurm.order import put
from engine.shards.slurm.parsing import accounted, number_of, submitted
from engine.shards.slurm.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """One shard of a batch: where its order lies, and the nonce of that order."""

    place: Path
    nonce: str


@dataclass(slots=True)
class Batch:
    """Some shards that are one job, or the tasks of one array. `number` is Slurm's, empty while it is not known."""

    place: Path
    tasks: tuple[Task, ...]
    number: str = ""
    unsure: bool = False  # it may have been handed over already

    def job(self, task: int) -> str:
        """What Slurm calls that task: `123_4`, or `123` where it is alone; empty while that is not known."""
        if not self.number:
            return ""
        return f"{self.number}_{task}" if len(self.tasks) > 1 else self.number

    def output(self, task: int) -> Path:
        """What its agent printed."""
        return self.place / f"{task}.out"


class Batches:
    """The batches of one lab. `root` is a directory that the nodes see, out of every box's reach."""

    def __init__(self, controller: Controller, settings: Settings, root: Path) -> None:
        self.controller = controller
        self.settings = settings
        self.root = root

    def make(self, tasks: Sequence[Task]) -> Batch:
        """Write down what is to be handed over together. Raises OSError."""
        place = self.root / secrets.token_hex(6)
        place.mkdir(parents=True, mode=0o700)
        put(place, "tasks.json", [[os.fspath(each.place), each.nonce] for each in tasks])
        return Batch(place, tuple(tasks))

    def read(self) -> Iterator[Batch]:
        """All that are written down, each marked as unsure where its number is not known. Raises OSError where one cannot be
        read; one that is nonsense is left alone."""
        for place in sorted(self.root.glob("*")):
            try:
                rows = json.loads((place / "tasks.json").read_bytes())
                tasks = tuple(Task(Path(at), str(nonce)) for at, nonce in rows)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (ValueError, TypeError) as error:
                log.warning("%s cannot be read: %s", place / "tasks.json", error)
                continue
            number = ""
            with contextlib.suppress(OSError, ValueError):
                number = submitted((place / "number").read_text()) or ""
            yield Batch(place, tasks, number, unsure=not number)

    async def submit(
        self, made: Batch, size: Sequence[str], program: Callable[[Sequence[str]], list[str]]
    ) -> list[str]:
        """Hand it over, as jobs of that size each; `program` says what starts an agent on their nodes. Returns the jobs that
        Slurm has beside the one that it is from now on: nobody needs them. Raises SlurmError with what sbatch said; whether it
        took them is then not known."""
        if made.unsure and (surplus := await self._find(made)) is not None:
            return surplus
        made.unsure = True
        count, programs = len(made.tasks), self.controller.programs
        agent = own("task", os.fspath(made.place))
        argv = program(agent)
        place, steps = os.fspath(made.place), argv != agent
        words = batch(programs, self.settings, self.name(made), size, count, place, steps)
        said = await self.controller.ask("sbatch", *words[1:], stdin=script(argv))
        faults.point("jobs.effect")
        number = submitted(said)
        if number is None:
            raise SlurmError(f"sbatch: {' '.join(said.split())[:200] or 'it gave no job number'}")
        if made.number not in ("", number):  # an earlier one was taken after all, as a shard's claim has said meanwhile
            return [number]
        self.number(made, number)
        log.info("job %s: %d shards", number, count)
        return []

    async def _find(self, made: Batch) -> list[str] | None:
        """Look for it in the queue by its name, and in the accounting; None where it is not there. Returns what there is beside
        it, and waits: an answer may have come too late more than once. Raises SlurmError."""
        name = self.name(made)
        found = await self.controller.named(name)
        if not found:
            found = accounted(await self.controller.account(f"--name={name}", "--starttime=now-7days"))
        numbers = sorted({number_of(id) for id in found}, key=int)
        if not numbers:
            return None
        live = [number_of(id) for id, job in found.items() if not job.over]
        begun = [number_of(id) for id, job in found.items() if not job.over and not job.pending]
        if not made.number:
            self.number(made, min(begun or live or numbers, key=int))
        return [id for id, job in found.items() if job.pending and number_of(id) != made.number and "*" not in id]

    def name(self, made: Batch) -> str:
        """What Slurm calls its jobs."""
        return f"{self.settings.name}-{made.place.name}"

    def number(self, made: Batch, number: str) -> None:
        """Note what number Slurm has given it."""
        made.number, made.unsure = number, False
        with contextlib.suppress(OSError):  # else it is found by its name again
            temporary = made.place / "number.new"
            temporary.write_text(number)
            os.replace(temporary, made.place / "number")

    def forget(self, made: Batch) -> None:
        """Remove what is written down of it: all its shards have ended."""
        shutil.rmtree(made.place, ignore_errors=True)
