"""The lab: what `cockpit.toml` says, as frozen dataclasses that the rest of the engine reads.

`load` and `parse` are the border: they hand the text to `engine.lab_parse`, the only module that imports pydantic, so that a
client which needs no more than these types pays nothing for it. Times are seconds, paths absolute, globs POSIX.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from engine.globs import Globs, plain_path
from engine.money import Budget
from engine.paths import CONFIG, StateDir
from engine.proposers.base import Settings
from engine.scales import PLACEHOLDER, scale_of, shown, unscaled
from engine.shards.resuming import DIRECTORY as RESUME
from engine.shards.slurm.settings import Settings as SlurmSettings
from engine.templates import fill, names
from engine.types import HALF, Ask, Compare, Direction, Review

TRUNK = "cockpit/trunk"
MAX_CONFIG_BYTES = 1 << 20

ALWAYS_PROTECTED = (CONFIG, "program.md", "prices.toml", "**/.git*", ".cockpit")
"""Never editable, whatever the lab says: what steers the research and prices it, git's control files, the engine's state."""

Source = Literal["jsonl", "summary", "regex"]
Isolation = Literal["auto", "require-3", "require-2", "limits"]
Network = Literal["none", "loopback", "allocation", "host"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a lab file: the key, its line (None when it has none), what is wrong, what to do."""

    key: str
    line: int | None
    wrong: str
    fix: str

    def __str__(self) -> str:
        where = CONFIG if self.line is None else f"{CONFIG}:{self.line}"
        key = f" {self.key}:" if self.key else ""
        fix = f" Fix: {self.fix}" if self.fix else ""
        return f"{where}:{key} {self.wrong.rstrip('.')}.{fix}"


class LabError(ValueError):
    """The lab file cannot be used. `problems` has all that was found, in the order of their lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Metric:
    """What is judged. `loss` names the streamed training loss that curves show; `pattern` is set for source "regex"."""

    name: str
    direction: Direction
    unit: str
    source: Source
    pattern: str | None
    loss: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """The command that makes `{data}` and `{held}`; it runs once, before the first shard."""

    command: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Referee:
    """What the referee asks of a run: `model` is the file that defines load and log_probs, `checkpoint` and `half` are files of
    the run directory, `text` (a template) says which held windows are scored, `rows` of them at a time. What the model says
    twice must agree within `tolerance` nats. `report` (a template) says on which windows a run reports of itself; it changes
    no score, and so stays out of what makes runs comparable."""

    model: str
    checkpoint: str
    half: str | None
    text: str
    rows: int
    tolerance: float
    report: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Score:
    """How a checkpoint is scored: by the referee, or by a protected command of the lab (then not empty) that writes
    `{scores}`."""

    command: tuple[str, ...]
    timeout_s: float
    referee: Referee | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A further evaluation: a protected command of the lab that writes one number for a checkpoint to `{scores}`."""

    name: str
    command: tuple[str, ...]
    direction: Direction
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Rung:
    """A budget level. `params` are the lab's own parameters at this rung, by the name that commands use in braces."""

    name: str
    budget: int
    timeout_s: float
    params: Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Retuning:
    """The bracket in which both sides' learning rate is chosen: `factors` of the rate that each side's code has, on `seeds`
    tuning seeds; then as many `pairs` on other seeds. `before_sign`: what may have won by its rate is not signed without."""

    factors: tuple[float, ...]
    seeds: int
    pairs: int
    before_sign: bool


@dataclass(frozen=True, slots=True)
class Judging:
    """When an experiment is decided: on all of the lab's seeds ("fixed"), or seed by seed, with the trunk's noise measured on
    `calibration` seeds. `fresh`: what is signed is merged once pairs on never-used seeds have borne it out. `audit`: after so
    many merges the trunk is held to what they claimed; 0 for never. `retune`: None where the lab declares no bracket of
    learning rates."""

    mode: Literal["fixed", "fast", "careful", "strict"] = "fixed"
    calibration: int = 8
    fresh: bool = False
    audit: int = 0
    retune: Retuning | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one shard may take, in bytes and in processes, before it is ended; `log` is what is kept of its output."""

    memory: int  # 0: its share of the machine's
    disk: int
    processes: int
    log: int

    def memory_of(self, total: int, slots: int) -> int:
        """The bytes that a shard may hold on a machine with `total`, where `slots` run at once; 0 for no limit."""
        return self.memory or total * 9 // (10 * slots)


@dataclass(frozen=True, slots=True)
class ProposerConfig:
    """Where proposals come from; `queue` is how many are kept waiting for review. The rest is of `claude` and `sweep`."""

    kind: Literal["none", "recording", "sweep", "claude"]
    path: Path
    queue: int
    model: str = "claude-opus-5-5"
    effort: str = "high"
    max_tokens: int = 32_000
    timeout_s: float = 600.0
    seed: int = 0
    brief: Literal["queries", "model"] = "queries"
    search: Literal["random", "optuna"] = "random"

    def settings(self) -> Settings:
        """As the proposers take them."""
        asked = (self.model, self.effort, self.max_tokens, self.timeout_s)
        return Settings(str(self.path), *asked, self.seed, self.search)


@dataclass(frozen=True, slots=True)
class Retain:
    """What is kept of a shard beside its measurements, which always are."""

    checkpoints: Literal["unless-refereed", "all", "none"]


@dataclass(frozen=True)
class Lab:
    """One researcher's repository as the engine sees it."""

    root: Path
    name: str
    text_hash: str  # SHA-256 hex of the lab file
    command: tuple[str, ...]
    python: str | None  # absolute path, or a name looked up on PATH; None: the interpreter that runs the engine
    env: Mapping[str, str]  # set for shards; values may carry placeholders
    env_pass: tuple[str, ...]  # names let through from the engine's environment
    editable: tuple[str, ...]
    protected: tuple[str, ...]  # the lab's own, the scripts of [prepare], [score], [evaluate], and ALWAYS_PROTECTED
    mounts: tuple[Path, ...]
    metric: Metric
    compare: Compare
    score: Score | None
    prepare: Prepare | None
    smoke: Rung | None  # the budget of the run that comes before an arm's first full one; None: there is none
    rungs: tuple[Rung, ...]
    climb: tuple[str, ...]
    seeds: tuple[int, ...]
    slots: int  # 0: as many as there are CPU cores, or GPUs
    threads: int
    ranks: int  # processes of one shard
    nice: int
    warm: bool  # whether shards are forks of a process that has imported their libraries
    isolation: Isolation
    limits: Limits
    network: Network  # what of it a boxed shard is granted
    ask: Ask
    review: Review  # who reads a diff before the person does
    most_lines: int  # a diff that changes more is flagged
    proposer: ProposerConfig
    budget: Budget
    state_dir: Path
    retain: Retain
    branch: str = TRUNK
    detectors: Mapping[str, object] = field(
        default_factory=dict
    )  # as written; engine.watch.detectors.settings reads it
    judge: Judging = Judging()
    evaluations: tuple[Evaluation, ...] = ()
    slurm: SlurmSettings | None = None  # the cluster that shards run on; None: this machine

    @property
    def here(self) -> bool:
        """Whether shards run on this machine."""
        return self.slurm is None

    @property
    def state(self) -> StateDir:
        """The names of everything that lies in the lab's state directory."""
        return StateDir(self.state_dir, None if self.slurm is None else self.slurm.shared)

    def apart(self, rung: str) -> bool:
        """Whether shards of that rung run beside the slots, on what they ask for themselves."""
        return self.slurm is not None and unscaled(rung) in self.slurm.own

    @property
    def most_apart(self) -> int:
        """How many such shards may be on their way at once."""
        return 0 if self.slurm is None else self.slurm.queue

    @cached_property
    def nodes(self) -> int:
        """How many machines one of its shards trains on."""
        return 1 if self.slurm is None else self.slurm.span(self.ranks)

    @cached_property
    def _editable(self) -> Globs:
        return Globs(self.editable)

    @cached_property
    def _protected(self) -> Globs:
        return Globs(self.protected, below=True, any_case=True)

    def is_protected(self, path: str) -> bool:
        """Whether no proposal may touch `path` (POSIX, relative to the lab). A path that is not plain is protected."""
        return not plain_path(path) or self._protected.match(path)

    def is_editable(self, path: str) -> bool:
        """Whether a proposal may touch `path` (POSIX, relative to the lab). Protected wins over editable."""
        return not self.is_protected(path) and self._editable.match(path)

    def rung(self, name: str) -> Rung:
        """The rung of that name, the smoke and scaled ones among them. Raises KeyError with the names that exist."""
        if name == HALF:
            return self.half_length()
        if scale_of(name) is not None:
            return replace(self.rung(unscaled(name)), name=name)
        for rung in (*self.rungs, *([self.smoke] if self.smoke else [])):
            if rung.name == name:
                return rung
        raise KeyError(f"no rung {name!r}: the lab has {', '.join(each.name for each in self.rungs)}")

    def half_length(self) -> Rung:
        """The rung at which experiments start, with half its budget."""
        first = self.rung(self.climb[0])
        return replace(first, name=HALF, budget=max(1, first.budget // 2))

    @cached_property
    def resumable(self) -> bool:
        """Whether its runs save what a further attempt goes on from."""
        return any(RESUME in names(text) for text in (*self.command, *self.env.values()))

    def interpreter(self) -> str:
        """Absolute path of the lab's Python; symbolic links are kept, since a venv is found through its own link.

        Raises LabError when `lab.python` is a name that is not on PATH.
        """
        if self.python is None:
            return sys.executable
        if "/" in self.python:
            return self.python
        found = shutil.which(self.python)
        if found is None:
            fix = 'name an interpreter that exists, e.g. python = ".venv/bin/python", or leave the key out'
            raise LabError([Problem("lab.python", None, f'"{self.python}" is not on PATH', fix)])
        return found

    def values(
        self,
        rung: str | Rung,
        seed: int,
        run_dir: Path,
        *,
        data: Path | None = None,
        held: Path | None = None,
        scores: Path | None = None,
        metrics: Path | None = None,
    ) -> dict[str, str]:
        """What the placeholders stand for in one shard: its rung's parameters first, then the engine's own names."""
        at = self.rung(rung) if isinstance(rung, str) else rung
        return {
            **{name: str(value) for name, value in at.params.items()},
            "seed": str(seed),
            "budget": str(at.budget),
            "rung": self.climb[0] if at.name == HALF else unscaled(at.name),
            PLACEHOLDER: shown(scale_of(at.name) or 1.0),
            "run_dir": str(run_dir),
            "resume": str(run_dir / RESUME),
            "metrics": str(metrics or run_dir / "metrics.jsonl"),
            "scores": str(scores or run_dir / "score.json"),
            **self.prepare_values(data=data, held=held),
        }

    def prepare_values(self, *, data: Path | None = None, held: Path | None = None) -> dict[str, str]:
        """What the placeholders stand for in `[prepare]`: the interpreter and the two data directories."""
        return {
            "python": self.interpreter(),
            "data": str(data or self.state.data / "open"),
            "held": str(held or self.state.data / "held"),
        }

    def fill(self, template: Iterable[str], values: Mapping[str, str]) -> tuple[str, ...]:
        """`template` with `{name}` replaced and `{{` `}}` unescaped. Raises ValueError for a name without a value."""
        return tuple(fill(part, values) for part in template)

    def fill_env(self, values: Mapping[str, str]) -> dict[str, str]:
        """`env` filled; a variable whose placeholder has no value here (`{seed}` in `[prepare]`) is left out."""
        return {key: fill(text, values) for key, text in self.env.items() if set(names(text)) <= values.keys()}


def parse(text: str, root: Path) -> Lab:
    """The lab that `text` (TOML) describes, rooted at `root`. Raises LabError and nothing else."""
    from engine.lab_parse import parse as parse_text

    return parse_text(text, root)


def load(root: Path) -> Lab:
    """The lab in directory `root`. Raises LabError, also when the file is missing or cannot be read."""
    path = root / CONFIG
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        fix = "run `cockpit init` in your training repository"
        raise LabError([Problem("", None, f"there is no {CONFIG} in {root}", fix)]) from None
    except OSError as error:
        raise LabError([Problem("", None, f"cannot be read ({error.strerror})", f"look at {path}")]) from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise LabError([Problem("", None, "is larger than 1 MiB", "a lab file holds settings only")])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise LabError([Problem("", line, "is not UTF-8", "save the file as UTF-8")]) from None
    return parse(text, root)
