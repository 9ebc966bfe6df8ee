"""Slurm's commands: their command lines, built pure, and the one place that runs them.

Absolute paths and an explicit environment: by default srun would export the engine's whole one, keys included, to the node.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.shards.sandbox import entering_python
from engine.shards.slurm.agent import WARNED
from engine.shards.slurm.parsing import UNKNOWN, Job, jobs, number_of
from engine.shards.slurm.settings import Settings

NEEDED = ("salloc", "srun", "squeue", "sinfo", "scancel", "scontrol", "sbatch")
PERHAPS = ("sacct",)  # a cluster without accounting does well without it
FORMAT = "%i|%T|%r|%L|%N|%S"  # of squeue: job, state, reason, time left, nodes, when it begins
ANSWER_S = 20.0
APART_S = 1.0  # between two questions to the controller: it serves everybody
_ROOT = str(Path(__file__).resolve().parents[3])
_OURS = {"SLURM_BITSTR_LEN": "0"}  # squeue would cut off the tasks of an array after 64 characters
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "SLURM_CONF", "KRB5CCNAME")


_BEFORE = re.compile(r"^(?:\S*\bs[a-z]+: )?(?:(?:error|fatal|allocation failure): )?(?:slurm_\w+(?: error)?: )?")


class SlurmError(RuntimeError):
    """A command of Slurm failed; the message is what it said."""

    @property
    def unknown(self) -> bool:
        """Whether it says that there is no such job."""
        return UNKNOWN in str(self)


@dataclass(frozen=True, slots=True)
class Programs:
    """Absolute paths of Slurm's commands, and the environment that they get."""

    paths: Mapping[str, str]
    env: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.paths[name]


def find(environ: Mapping[str, str] | None = None) -> Programs:
    """The commands of this machine. Raises SlurmError that names what is missing."""
    source = os.environ if environ is None else environ
    found = {name: shutil.which(name, path=source.get("PATH")) for name in (*NEEDED, *PERHAPS)}
    missing = [name for name in NEEDED if found[name] is None]
    if missing:
        raise SlurmError(f"{', '.join(missing)} not on PATH: is this a login node of the cluster?")
    env = {name: source[name] for name in _PASSED if name in source} | _OURS
    return Programs({name: os.path.realpath(path) for name, path in found.items() if path}, env)


def own(module: str, *words: str, installed: bool = False) -> list[str]:
    """The command line that runs `main` of a module of this package: not as a script, which would be compiled each time. With
    `installed` it finds the packages beside the engine too, and starts slower."""
    code = (
        f"import sys; sys.path.insert(0, {_ROOT!r}); from engine.shards.slurm.{module} import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    return [*([sys.executable, "-I"] if installed else [entering_python(), "-I", "-S"]), "-c", code, *words]


def salloc(programs: Programs, settings: Settings, name: str, ranks: int, threads: int) -> list[str]:
    """The pilot: one job for all shards, which outlives a lost node and whoever asked for it."""
    return [
        programs["salloc"],
        *settings.args,  # before all else: of an option that is said twice the last counts
        "--no-shell",
        "--no-kill",
        f"--job-name={name}",
        f"--nodes={settings.nodes}",
        f"--ntasks-per-node={settings.per_node(ranks)}",
        f"--cpus-per-task={threads * settings.on_node(ranks)}",
        *_gres(settings.gpus),
        f"--time={_minutes(settings.walltime_s)}",
        *_where(settings),
    ]


def trial(programs: Programs, settings: Settings, ranks: int, threads: int) -> list[str]:
    """Asks Slurm whether it could ever give the pilot; nothing is put into the queue."""
    words = salloc(programs, settings, "cockpit", ranks, threads)[1:]
    return [programs["sbatch"], *(each for each in words if each != "--no-shell"), "--test-only", "--wrap=true"]


def step(programs: Programs, job: str, node: str, gpus: int, cores: int, argv: Sequence[str]) -> list[str]:
    """One shard's step on one node of the pilot, or on several with commas between; one agent, so many GPUs and cores on each.
    `--gres` is always said: a step that says nothing gets every GPU of the job.
    With `--immediate` a refused step fails, rather than waiting in a queue that nobody sees."""
    return [*_srun(programs, job, gpus), *_spread(1 + node.count(","), cores), f"--nodelist={node}", *argv]


def _spread(nodes: int, cores: int) -> list[str]:
    """One task on each of so many nodes, none of which is ended for having to wait long for another to end."""
    more = ["--ntasks-per-node=1", "--wait=0"] if nodes > 1 else []
    return [f"--nodes={nodes}", f"--ntasks={nodes}", *more, f"--cpus-per-task={cores}"]


def batch(
    programs: Programs, settings: Settings, name: str, size: Sequence[str], count: int, output: str, steps: bool = False
) -> list[str]:
    """A job of its own for each of `count` shards, as one array; the script follows on standard input. `size` is what one asks
    for. It is never requeued: whether a shard runs again is the engine's business. Its agent is told half a minute before its
    time is over. It gets the environment that sbatch is given, which says a few names: without `--export=ALL` Slurm would put
    there what the user's shell sets up on login, keys included. With `steps` the agents are not the script
    itself but a step of it."""
    return [
        programs["sbatch"],
        *settings.args,
        "--parsable",
        "--no-requeue",
        "--export=ALL",
        f"--job-name={name}",
        f"--output={output.replace('%', '%%')}/{'%a' if count > 1 else '0'}.out",
        "--open-mode=append",
        "--chdir=/",
        f"--signal={'' if steps else 'B:'}{WARNED.value}@30",
        *([f"--array=0-{count - 1}"] if count > 1 else []),
        *size,
        *_where(settings),
    ]


def size_of(nodes: int, gpus: int, cores: int) -> list[str]:
    """What one shard in a job of its own asks for: GPUs and cores of each of its nodes."""
    return [f"--nodes={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={cores}", *(_gres(gpus) or ["--gres=none"])]


def lasting(seconds: float) -> str:
    """The option that says how long a job may last."""
    return f"--time={_minutes(seconds)}"


def script(argv: Sequence[str]) -> bytes:
    """What sbatch is given: it becomes `argv` with the number of its task (0 where it is no array)."""
    return f'#!/bin/sh\nexec {shlex.join(argv)} "${{SLURM_ARRAY_TASK_ID:-0}}"\n'.encode()


def on_all_its_nodes(programs: Programs, nodes: int, gpus: int, cores: int, argv: Sequence[str]) -> list[str]:
    """The step of a job of its own over several nodes, from within it: `argv` once on each."""
    plain = ["--mpi=none", "--unbuffered", "--export=NIL", "--kill-on-bad-exit=1", "--input=none", "--chdir=/"]
    return [programs["srun"], *_spread(nodes, cores), *(_gres(gpus) or ["--gres=none"]), *plain, *argv]


def _where(settings: Settings) -> list[str]:
    return [
        *([f"--partition={settings.partition}"] if settings.partition else []),
        *([f"--account={settings.account}"] if settings.account else []),
    ]


def on_each_node(programs: Programs, job: str, nodes: Sequence[str], argv: Sequence[str]) -> list[str]:
    """A step with one task on each of these nodes, beside the shards that run there."""
    size = [f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1", "--overlap"]
    return [*_srun(programs, job, 0), *size, f"--nodelist={','.join(nodes)}", *argv]


def _srun(programs: Programs, job: str, gpus: int) -> list[str]:
    own = ["--exact", "--mem=0", "--mpi=none", "--unbuffered", "--export=NIL", "--immediate=10", "--kill-on-bad-exit=1"]
    return [programs["srun"], f"--jobid={job}", *own, *(_gres(gpus) or ["--gres=none"]), "--input=none", "--chdir=/"]


def _gres(gpus: int) -> list[str]:
    return [f"--gres=gpu:{gpus}"] if gpus else []


def _minutes(seconds: float) -> int:
    return max(1, math.ceil(seconds / 60))


class Controller:
    """Asks Slurm, never two questions within a second. Raises SlurmError when it does not answer."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.also: Callable[[], Iterable[str]] = tuple  # the jobs that every question about the queue is about too
        self.asked: frozenset[str] = frozenset()  # the jobs that the last answer about the queue is about
        self.listed: Mapping[str, Job] = {}  # that answer
        self.listed_at = -math.inf  # when it came (monotonic)
        self.accounts = "sacct" in programs.paths
        self._lock = asyncio.Lock()
        self._last = -math.inf

    async def ask(self, name: str, *words: str, stdin: bytes = b"") -> str:
        """What the command `name` says."""
        async with self._lock:
            await asyncio.sleep(max(0.0, self._last + APART_S - time.monotonic()))
            try:
                return await run([self.programs[name], *words], self.programs.env, ANSWER_S, stdin)
            finally:
                self._last = time.monotonic()

    async def account(self, *words: str) -> str:
        """What sacct says of jobs, as `engine.shards.slurm.parsing.accounted` reads it; nothing where there is no accounting,
        which is asked for once."""
        if not self.accounts:
            return ""
        try:
            return await self.ask("sacct", "--noheader", "--parsable2", "--format=JobID,State,ExitCode,Reason", *words)
        except SlurmError as error:
            self.accounts = "disabled" not in str(error)
            return ""

    async def queue(self, *ids: str) -> Mapping[str, Job]:
        """How these jobs and those of `also` stand in the queue, by one question; those that it does not know are left out."""
        wanted = frozenset((*ids, *self.also()))
        if not wanted:
            return {}
        numbers = sorted({number_of(id) for id in wanted} - {""}, key=int)
        if not numbers:
            return {}
        words = ("--me", f"--jobs={','.join(numbers)}", "--states=all", "--noheader", f"--format={FORMAT}")
        try:
            self.listed = jobs(await self.ask("squeue", *words))
        except SlurmError as error:
            if not error.unknown:
                raise
            self.listed = {}
        self.asked, self.listed_at = wanted, time.monotonic()
        return self.listed

    async def named(self, name: str) -> Mapping[str, Job]:
        """The jobs of that name which the queue has, or had a while ago."""
        words = ("--me", f"--name={name}", "--states=all", "--noheader", f"--format={FORMAT}")
        return jobs(await self.ask("squeue", *words))

    async def knows(self, id: str) -> bool:
        """Whether Slurm has that job still: it has not where it says so in as many words. Silence of the queue is no news.
        Raises SlurmError."""
        try:
            await self.ask("scontrol", "show", "job", id)
        except SlurmError as error:
            if not error.unknown:
                raise
            return False
        return True


def plain(said: str) -> str:
    """What a command printed when it failed, on one line and without what it puts before each: a terminal has little room."""
    lines = (_BEFORE.sub("", line.strip()) for line in said.splitlines())
    return " ".join(" ".join(lines).split())[:300]


async def run(argv: Sequence[str], env: Mapping[str, str], seconds: float, stdin: bytes = b"") -> str:
    """Standard output of a command. Raises SlurmError with what it said when it fails or takes too long."""
    name = Path(argv[0]).name
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            cwd="/",
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SlurmError(f"{name}: {error}") from error
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(stdin or None)
    except TimeoutError:
        raise SlurmError(f"{name} does not answer within {seconds:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = plain(err.decode(errors="replace"))
        raise SlurmError(f"{name}: {said or f'exit code {process.returncode}'}")
    return out.decode(errors="replace")
