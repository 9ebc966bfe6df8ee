"""The shape of `cockpit.toml` as pydantic models: keys, types, defaults, and the sentence that documents each.

Nothing beyond single values is checked here; what concerns several keys at once is in `engine.lab_parse`. pydantic stays in
these two modules: everybody else sees the dataclasses of `engine.lab`.
"""

from __future__ import annotations

import math
import re
import shlex
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from engine.globs import glob_problem, plain_path
from engine.shards.spec import is_secret
from engine.sizes import size_of
from engine.templates import has_stray_brace
from engine.toml_write import shown, toml_list

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL = re.compile(r"[|&;<>`$*?~\n]")
_SECRET = re.compile(r"ANTHROPIC_|COCKPIT_TOKEN", re.IGNORECASE)
MAX_TIMEOUT_S = 366 * 86400.0
LEAST_SIZE, MOST_SIZE = 1 << 20, 1 << 50
LEAST_FACTOR, MOST_FACTOR = 0.001, 1000.0
RUNG_KEYS = ("budget", "timeout")


def wrong(text: str, fix: str = "") -> PydanticCustomError:
    """An error that carries its own sentence and fix to `engine.lab_parse`."""
    return PydanticCustomError("lab", "{wrong}", {"wrong": text, "fix": fix})


def _duration(value: object) -> float:
    if isinstance(value, str):
        seconds = _seconds(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _finite(value)
    else:
        seconds = None
    if seconds is None:
        fix = 'seconds as a number, or a string with units (ms, s, m, h, d): timeout = "1h30m"'
        raise wrong(f"must be a duration; got {shown(value)}", fix)
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise wrong(f"must lie above 0 and below a year; got {shown(value)}")
    return seconds


def _finite(value: int | float) -> float | None:
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def _seconds(text: str) -> float | None:
    total, at = 0.0, 0
    for found in _DURATION.finditer(text.strip()):
        if found.start() != at:
            return None
        total, at = total + float(found[1]) * _UNITS[found[2]], found.end()
    return total if at == len(text.strip()) and at else None


def _command(value: object) -> object:
    if isinstance(value, str):
        try:
            argv = shlex.split(value)
        except ValueError:
            argv = value.split()
        argv = ["bash", "-c", value] if _SHELL.search(value) else argv
        hint = "" if argv[:1] != ["bash"] else " (better: a script of its own)"
        raise wrong("must be a list of arguments, never a shell string", f"command = {toml_list(argv)}{hint}")
    if isinstance(value, list):
        if not value or value[0] == "":
            raise wrong("must name a program", 'command = ["{python}", "train.py"]')
        for part in value:
            _check_text(part)
    return value


def _check_text(value: object) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise wrong("holds a NUL character", "take it out")
        if has_stray_brace(value):
            raise wrong(f"has a brace that is no placeholder: {shown(value)}", "write {{ and }} for braces")


def _glob(value: object) -> object:
    if isinstance(value, str) and (problem := glob_problem(value)):
        raise wrong(problem, 'paths are relative to the lab, e.g. "train.py" or "src/**/*.py"')
    return value


def _variable(value: object) -> object:
    if isinstance(value, str):
        if not _VARIABLE.fullmatch(value):
            raise wrong(f"is not the name of an environment variable: {shown(value)}", "letters, digits and _ only")
        if _SECRET.match(value):
            raise wrong(f"{value} is a secret of the cockpit, which never reaches a shard", "take it out")
        if is_secret(value):
            raise wrong(
                f"{value} is named like a secret, and none reaches a shard", "take it out, or name it otherwise"
            )
    return value


def _env_value(value: object) -> object:
    _check_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise wrong(f"must be a string; got {shown(value)}", f'put it in quotes: "{shown(value)}"')
    return value


def _line(value: object) -> object:
    if isinstance(value, str) and (not value.strip() or not value.isprintable()):
        raise wrong(f"must be one line of printable text; got {shown(value)}", "give it a name")
    return value


def _path(value: object) -> object:
    if isinstance(value, str) and (not value or "\0" in value):
        raise wrong("must be a path", "name a directory")
    return value


def _module_file(value: object) -> object:
    if isinstance(value, str):
        name = value.rpartition("/")[2]
        if not plain_path(value) or not name.endswith(".py") or not name[:-3].isidentifier():
            raise wrong(f"is no Python file of the lab that can be imported: {shown(value)}", 'model = "train.py"')
    return value


def _run_file(value: object) -> object:
    if isinstance(value, str) and not plain_path(value):
        raise wrong(f"is no path below the run directory: {shown(value)}", 'checkpoint = "final.safetensors"')
    return value


def _slots(value: object) -> object:
    if value == "auto":
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024:
        return value
    raise wrong(f'must be "auto" or a whole number from 1 to 1024; got {shown(value)}', 'slots = "auto"')


def _size(value: object, what: str = "a size with its unit (MB, GB, MiB, GiB, TiB)") -> int:
    count = size_of(value) if isinstance(value, str) else value
    if isinstance(count, bool) or not isinstance(count, int):
        raise wrong(f"must be {what}; got {shown(value)}")
    if not LEAST_SIZE <= count <= MOST_SIZE:
        raise wrong(f"must lie between 1 MiB and 1024 TiB; got {shown(value)}")
    return count


def _memory(value: object) -> int:
    return 0 if value == "auto" else _size(value, '"auto" or a size with its unit (MB, GB, MiB, GiB, TiB)')


def _factors(value: object) -> object:
    if not isinstance(value, list) or any(
        isinstance(each, bool) or not isinstance(each, int | float) for each in value
    ):
        return value
    fix = "factors = [0.5, 1.0, 2.0]"
    for each in value:
        factor = _finite(each)
        if factor is None or not LEAST_FACTOR <= factor <= MOST_FACTOR:
            raise wrong(f"must lie between {LEAST_FACTOR} and {MOST_FACTOR:.0f}; got {shown(each)}", fix)
        if float(f"{factor:g}") != factor:
            raise wrong(f"has more than six digits: {shown(each)}", f"write {factor:g}")
    if len(set(value)) < len(value):
        raise wrong("names a factor twice", f"factors = {list(dict.fromkeys(value))}")
    if len(value) < 2 or 1 not in value:
        raise wrong("must hold 1.0, the rate as it is, and at least one other", fix)
    return [float(each) for each in value]


def _parameter(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong(f"a rung's parameter must be a string or a number; got {shown(value)}", 'e.g. "true", 1 or 0.5')
    if isinstance(value, str) and "\0" in value:
        raise wrong("holds a NUL character", "take it out")
    if isinstance(value, int) and value.bit_length() > 63:
        raise wrong("does not fit 64 bits", 'write it as a string, e.g. "1e30"')
    return value


Command = Annotated[list[str], BeforeValidator(_command), Field(min_length=1)]
Duration = Annotated[float, BeforeValidator(_duration)]
Size = Annotated[int, BeforeValidator(_size)]
Glob = Annotated[str, BeforeValidator(_glob)]
Line = Annotated[str, BeforeValidator(_line), Field(max_length=200)]
ModuleFile = Annotated[str, BeforeValidator(_module_file)]
RunFile = Annotated[str, BeforeValidator(_run_file)]
FilePath = Annotated[str, BeforeValidator(_path)]
Variable = Annotated[str, BeforeValidator(_variable)]
EnvValue = Annotated[str, BeforeValidator(_env_value)]
Factors = Annotated[list[float], BeforeValidator(_factors), Field(max_length=9)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LabTable(_Table):
    name: Line | None = Field(None, description="shown in the cockpit; left out: the directory's name")
    command: Command = Field(
        description="trains once: program and arguments, never a shell string; may carry placeholders"
    )
    python: FilePath | None = Field(
        None, description="the interpreter that `{python}` stands for; left out: the one that runs the cockpit"
    )
    editable: list[Glob] = Field(min_length=1, description="globs of the files that a proposal may change")
    protected: list[Glob] = Field([], description="globs that no proposal may touch; protected wins over editable")
    env: dict[Variable, EnvValue] = Field({}, description="set for shards; values may carry placeholders")
    env_pass: list[Variable] = Field([], description="names let through from your own environment")
    mounts: list[FilePath] = Field([], description="directories that shards read: data, caches")


class MetricTable(_Table):
    name: Line = Field(description="the number that is judged, by the name that the training code prints")
    direction: Literal["min", "max"] = Field("min", description="which way is better")
    unit: Line | None = Field(None, description="shown beside the number")
    source: Literal["jsonl", "summary", "regex"] = Field("jsonl", description="how a shard reports its measurements")
    pattern: str | None = Field(
        None, description='for source = "regex": a pattern with named groups, `step` among them'
    )
    loss: Line = Field("loss", description="the streamed training loss that the curves show")
    compare: Literal["tokens", "flops", "time"] = Field("tokens", description="what is held equal between two runs")


class PrepareTable(_Table):
    command: Command = Field(description="makes `{data}` and `{held}`; runs once, before the first shard")
    timeout: Duration = Field(600.0, description="after this long it is stopped")


class ScoreTable(_Table):
    model: ModuleFile | None = Field(
        None, description="the file that defines load and log_probs, which the referee asks (docs/scoring.md)"
    )
    text: str | None = Field(
        None, description="for `model`: the file, written by `[prepare]`, that says which held windows are scored"
    )
    checkpoint: RunFile = Field("final.safetensors", description="for `model`: the file in `{run_dir}` that is scored")
    half: RunFile | None = Field(None, description="for `model`: the checkpoint half-way, scored where there is one")
    report: str | None = Field(
        None, description="for `model`: the file that says on which windows a run reports of itself, to be checked"
    )
    rows: int = Field(36, ge=1, le=65536, description="for `model`: windows in one question")
    tolerance: float = Field(
        0.001, gt=0, le=0.1, description="for `model`: nats by which two answers about one place may differ"
    )
    command: Command | None = Field(
        None, description="instead of `model`: scores a checkpoint and writes `{scores}`; its scripts are protected"
    )
    timeout: Duration = Field(120.0, description="after this long it is stopped")


class EvaluateTable(_Table):
    command: Command = Field(
        description='evaluates a run\'s checkpoint and writes {"metric": number} to `{scores}`; its scripts are protected'
    )
    direction: Literal["min", "max"] = Field("max", description="which way is better")
    timeout: Duration = Field(120.0, description="after this long it is stopped, and has no number")


class RungTable(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, Annotated[Any, BeforeValidator(_parameter)]]

    budget: int = Field(
        gt=0, lt=2**63, description="what `{budget}` stands for: steps, tokens or seconds, as the code has it"
    )
    timeout: Duration = Field(description="after this long a shard is stopped; its outcome is then `timeout`")


class SmokeTable(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, Annotated[Any, BeforeValidator(_parameter)]]

    budget: int = Field(gt=0, lt=2**63, description="what `{budget}` stands for: one step, or a few seconds")
    timeout: Duration | None = Field(
        None, description="after this long it is stopped, and has failed; left out: that of the first rung"
    )


class RunTable(_Table):
    executor: Literal["local", "slurm"] = Field(
        "local", description="where shards run: on this machine, or as steps of a pilot allocation (docs/clusters.md)"
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(
        [0, 1, 2], min_length=1, max_length=1000, description="each arm runs these, paired with the trunk's"
    )
    slots: Annotated[int, BeforeValidator(_slots)] = Field(
        0,
        description='shards at once; "auto": one a GPU where there are any, else one for `threads` CPU cores; times `ranks`',
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads of one shard, of each of its ranks")
    ranks: int = Field(
        1,
        ge=1,
        le=1024,
        description="processes that train one shard together, each with its own threads, GPU and `RANK`",
    )
    nice: int = Field(5, ge=0, le=19, description="how far below the engine shards run")
    warm: bool = Field(
        True, description="start shards from a process that has imported their libraries; false: each imports its own"
    )
    isolation: Literal["auto", "require-3", "require-2", "limits"] = Field(
        "auto",
        description="how shards are boxed (docs/isolation.md): as well as the machine can, at least so well or not at all, or "
        "by limits only",
    )
    network: Literal["none", "loopback", "allocation", "host"] = Field(
        "none",
        description="what of the network a boxed shard has; loopback: its own, which needs a box of level 3; allocation: that "
        "of its nodes, where its ranks are on several of a cluster, else none; host: all that this machine reaches, the "
        "services on it too. Scoring never has any",
    )
    climb: list[str] | None = Field(
        None, min_length=1, description="rungs that an experiment goes through; left out: the first rung"
    )


class SlurmTable(_Table):
    partition: Line | None = Field(None, description="left out: the cluster's default")
    account: Line | None = Field(None, description="who pays; left out: your default")
    walltime: Duration = Field(
        4 * 3600.0, description="of the pilot allocation; a shard that it cuts off goes on, or runs again, in the next"
    )
    nodes: int = Field(1, ge=1, le=1024, description="of the pilot")
    gpus: int = Field(
        0,
        ge=0,
        le=64,
        description="of one node; one shard takes one for each of its `run.ranks`, and several nodes where one has too few",
    )
    ranks: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="of one shard that run on one node, at most; left out: one for each of its GPUs, all where it has none",
    )
    tasks: int | None = Field(
        None, ge=1, le=1024, description="shards at once on a node; left out: as many as its GPUs suffice for"
    )
    idle: Duration = Field(600.0, description="the pilot is given back when no shard has run in it for so long")
    shared: FilePath | None = Field(
        None,
        description="directory on a file system that the nodes see, for runs, run trees, caches and data; left out: the "
        "state directory lies on one",
    )
    own: list[str] = Field(
        [], description="rungs whose shards are large: each gets a job of its own, and waits for it in the queue"
    )
    queue: int = Field(
        16, ge=1, le=1024, description="jobs of their own that are in the queue at once, running ones too"
    )
    args: list[Line] = Field([], description="further options of salloc, and of such jobs, e.g. `--qos=short`")


class RetuneTable(_Table):
    factors: Factors = Field(
        [0.5, 1.0, 2.0],
        description="what each side's learning rate is multiplied by; 1.0, the rate as it is, among them",
    )
    seeds: int = Field(2, ge=1, le=16, description="tuning seeds that each side's best factor is chosen on")
    pairs: int = Field(6, ge=3, le=32, description="pairs on other seeds, at each side's best factor")
    before_sign: bool = Field(
        False,
        description="nothing solid that changes architecture, optimizer, schedule or initialisation, and claims a gain, is "
        "signed before it was retuned",
    )


class JudgeTable(_Table):
    mode: Literal["fixed", "fast", "careful", "strict"] = Field(
        "fixed",
        description="fixed: all of `run.seeds`, then a t interval; else seed by seed until the evidence is in "
        "(docs/statistics.md); careful drops later than fast, strict has a proven false discovery rate",
    )
    calibration: int = Field(
        8,
        ge=3,
        le=64,
        description="unless fixed: seeds of the trunk that its noise is measured on; below 8 it counts as wider",
    )
    fresh: bool | None = Field(
        None,
        description="run pairs on seeds never used before what was signed is merged; left out: true unless fixed",
    )
    audit: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="after so many merges four fresh pairs of the trunk before them and the trunk after them; 0: never; left "
        "out: 5 unless fixed",
    )
    retune: RetuneTable | None = Field(
        None,
        description="a table of its own, `[judge.retune]`: the learning rates at which `cockpit retune` compares both sides",
    )


class LimitsTable(_Table):
    memory: Annotated[int, BeforeValidator(_memory)] = Field(
        0,
        description='what all processes of a shard may hold; "auto": nine tenths of the machine\'s memory, shared by slots',
    )
    disk: Size = Field(20 << 30, description="what the run directory of a shard may grow to")
    processes: int = Field(
        512, ge=4, le=1_000_000, description="how many a shard may have at a time; eight threads come with each"
    )
    log: Size = Field(
        64 << 20, description="what is kept of a shard's output, beside its last 64 KiB; the rest is counted"
    )


class GatesTable(_Table):
    ask: Literal["always", "risky", "never"] = Field("always", description="which diffs wait for a person's approval")
    review: Literal["off", "model", "rules"] = Field(
        "off",
        description="a second reader before you: what could be wrong with each diff, and sealed predictions "
        "(docs/proposing.md); a model is asked, and paid for, once a diff",
    )
    lines: int = Field(
        80, ge=0, le=1_000_000, description="a diff that changes more lines than these is flagged as a risk"
    )


class ProposerTable(_Table):
    kind: Literal["none", "recording", "sweep", "claude"] = Field("none", description="who proposes")
    path: FilePath = Field("proposals", description='for kind = "recording": the directory of recorded proposals')
    queue: int = Field(
        6,
        ge=0,
        le=1000,
        description="how many proposals are kept waiting for review; Claude is asked only when somebody asks for it",
    )
    model: Line = Field("claude-opus-5-5", description='for kind = "claude": the model')
    effort: Literal["low", "medium", "high", "xhigh", "max"] = Field(
        "high", description='for kind = "claude": how hard it thinks'
    )
    max_tokens: int = Field(
        32_000,
        ge=1000,
        le=1_000_000,
        description='for kind = "claude": the most that one answer may have, thinking included',
    )
    timeout: Duration = Field(600.0, description='for kind = "claude": after this long a round of asking ends')
    seed: int = Field(0, ge=0, lt=2**32, description='for kind = "sweep": what it draws follows from this')
    brief: Literal["queries", "model"] = Field(
        "queries",
        description="who writes the brief when a batch is judged; model: Claude is asked, and paid for, each time",
    )
    search: Literal["random", "optuna"] = Field(
        "random", description='for kind = "sweep": how it draws; "optuna" needs the extra of that name'
    )


class BudgetTable(_Table):
    dollars_per_day: float | None = Field(None, ge=0, strict=False, description="the most that models may cost a day")
    dollars: float | None = Field(None, ge=0, strict=False, description="the most that they may cost in all")
    shard_minutes_per_day: float | None = Field(
        None, ge=0, strict=False, description="the most that shards may run a day"
    )
    shard_minutes: float | None = Field(None, ge=0, strict=False, description="the most that they may run in all")


class DetectorsTable(BaseModel):
    """Beside these keys, a table of thresholds for each detector by name; `engine.watch.detectors.settings` knows them."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    off: list[str] = Field([], description="names of detectors that are not to look")
    signals: dict[str, str] = Field(
        {}, description="what your runs call a signal, where that is not the signal's own name"
    )


class StoreTable(_Table):
    state_dir: FilePath = Field(".cockpit", description="where the engine keeps its state; a local disk, never NFS")


class RetainTable(_Table):
    checkpoints: Literal["unless-refereed", "all", "none"] = Field(
        "unless-refereed",
        description='"unless-refereed": until scored, after that only where the experiment is solid',
    )


class ConfigFile(_Table):
    lab: LabTable = Field(description="the repository: what runs, what may change")
    metric: MetricTable = Field(description="what is judged")
    prepare: PrepareTable | None = Field(None, description="makes the data; left out: the repository needs none")
    score: ScoreTable | None = Field(None, description="scores a checkpoint; left out: the metric is self-reported")
    evaluate: dict[str, EvaluateTable] = Field(
        {}, description="further evaluations by name: shown beside the metric, and a veto on fresh seeds"
    )
    smoke: SmokeTable | None = Field(
        None, description="a very short run that every arm has to pass before its first full one; left out: none"
    )
    rungs: dict[str, RungTable] = Field(min_length=1, description="budget levels; the first is where experiments start")
    run: RunTable = Field(RunTable(), description="how shards run")  # type: ignore[call-arg]
    slurm: SlurmTable = Field(SlurmTable(), description='the pilot allocation, for executor = "slurm"')  # type: ignore[call-arg]
    judge: JudgeTable = Field(JudgeTable(), description="when an experiment is decided")  # type: ignore[call-arg]
    limits: LimitsTable = Field(LimitsTable(), description="what a shard may take before it is ended")  # type: ignore[call-arg]
    gates: GatesTable = Field(GatesTable(), description="what needs a person")  # type: ignore[call-arg]
    proposer: ProposerTable = Field(ProposerTable(), description="where proposals come from")  # type: ignore[call-arg]
    budget: BudgetTable = Field(
        BudgetTable(),  # type: ignore[call-arg]
        description="what may be spent, with all that is in flight, before nothing more is proposed; left out: no limit",
    )
    detectors: DetectorsTable = Field(
        DetectorsTable(),  # type: ignore[call-arg]
        description="what the failure detectors look at, and from where on they speak (docs/detectors.md)",
    )
    store: StoreTable = Field(StoreTable(), description="where state lies")  # type: ignore[call-arg]
    retain: RetainTable = Field(RetainTable(), description="what is kept")  # type: ignore[call-arg]
