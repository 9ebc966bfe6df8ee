"""From the text of `cockpit.toml` to a `Lab`: every problem is gathered with its key, its line and its fix.

Reads no file but the one it is given as text, so that the same function serves the engine, `init` and the tests.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from engine import lab_schema as schema
from engine.globs import glob_problem
from engine.judge.fresh import AUDIT_EVERY
from engine.lab import (
    ALWAYS_PROTECTED,
    Evaluation,
    Judging,
    Lab,
    LabError,
    Limits,
    Metric,
    Prepare,
    Problem,
    ProposerConfig,
    Referee,
    Retain,
    Retuning,
    Rung,
    Score,
)
from engine.lab_schema import ConfigFile
from engine.money import Budget
from engine.scales import PLACEHOLDER
from engine.shards.network import joins_nodes
from engine.shards.resuming import DIRECTORY as RESUME
from engine.shards.slurm.options import refused
from engine.shards.slurm.settings import Settings
from engine.shards.slurm.settings import shown as span
from engine.templates import NAME, names
from engine.toml_lines import key_lines, line_of
from engine.toml_write import shown, toml_text
from engine.types import HALF, SMOKE
from engine.watch.detectors import settings as detectors

SHARD_NAMES = ("seed", "budget", "rung", "run_dir", "resume", "metrics", "python", "data", PLACEHOLDER)
PREPARE_NAMES = ("python", "data", "held")
TEXT_NAMES = ("held",)
SCORE_NAMES = (*SHARD_NAMES, "held", "scores")
_RESERVED = frozenset(SCORE_NAMES)
_RUNG_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")
_BY_NAME = ("rungs", "evaluate")  # tables of tables, by a name that is the lab's
_EXAMPLES = {
    ("lab",): "add a [lab] table with command and editable",
    ("lab", "command"): 'command = ["{python}", "train.py", "--seed", "{seed}", "--steps", "{budget}"]',
    ("lab", "editable"): 'editable = ["train.py"]',
    ("metric",): 'add a [metric] table with name = "val_loss"',
    ("metric", "name"): 'name = "val_loss"',
    ("rungs",): 'add [rungs.screen] with budget = 300 and timeout = "10m"',
    ("rungs", "*"): 'a table with budget = 300 and timeout = "10m"',
    ("rungs", "*", "budget"): "budget = 300",
    ("rungs", "*", "timeout"): 'timeout = "10m"',
    ("evaluate", "*"): 'a table with command = ["{python}", "evaluate.py", "{run_dir}", "{scores}"]',
    ("evaluate", "*", "command"): 'command = ["{python}", "evaluate.py", "{run_dir}", "{scores}"]',
    ("evaluate", "*", "timeout"): 'timeout = "2m"',
    ("smoke", "budget"): "budget = 1",
    ("smoke", "timeout"): 'timeout = "1m"',
    ("run", "seeds"): "seeds = [0, 1, 2]",
    ("run", "threads"): "threads = 1",
    ("run", "ranks"): "ranks = 1",
    ("run", "nice"): "nice = 5",
    ("run", "warm"): "warm = true",
    ("judge", "calibration"): "calibration = 8",
    ("judge", "retune", "factors"): "factors = [0.5, 1.0, 2.0]",
    ("judge", "retune", "seeds"): "seeds = 2",
    ("judge", "retune", "pairs"): "pairs = 6",
    ("judge", "retune", "before_sign"): "before_sign = false",
    ("limits", "memory"): 'memory = "8 GiB"',
    ("limits", "disk"): 'disk = "20 GiB"',
    ("limits", "processes"): "processes = 512",
    ("limits", "log"): 'log = "64 MiB"',
    ("gates", "lines"): "lines = 80",
    ("prepare", "timeout"): 'timeout = "10m"',
    ("score", "timeout"): 'timeout = "2m"',
    ("proposer", "queue"): "queue = 6",
    ("proposer", "model"): 'model = "claude-opus-5-5"',
    ("proposer", "max_tokens"): "max_tokens = 32000",
    ("proposer", "seed"): "seed = 0",
    ("budget", "dollars_per_day"): "dollars_per_day = 10",
    ("budget", "dollars"): "dollars = 100",
    ("budget", "shard_minutes_per_day"): "shard_minutes_per_day = 600",
    ("budget", "shard_minutes"): "shard_minutes = 6000",
}
_TYPES = {
    "int_type": "must be a whole number",
    "string_type": "must be a string in quotes",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
}


def parse(text: str, root: Path) -> Lab:
    """The lab that `text` describes, rooted at `root`. Raises LabError and nothing else."""
    raw = _toml(text)
    lines = key_lines(text)
    try:
        config = ConfigFile.model_validate(raw)
    except ValidationError as error:
        found = [_problem(each, raw, lines) for each in error.errors(include_url=False)]
        raise LabError(_in_order(found)) from None
    found = [Problem(_dotted(path), line_of(lines, path), wrong, fix) for path, wrong, fix in _across(config)]
    if found:
        raise LabError(_in_order(found))
    return _lab(config, text, root)


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys(problems), key=lambda each: (each.line or 0, each.key))


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        problem = Problem("", None, "nests too deeply", "a lab file needs two levels")
    except ValueError as error:  # TOMLDecodeError, and numbers beyond Python's digit limit
        message = str(error)
        at = _AT_LINE.search(message)
        line = int(at[1]) if at and at[1] else (text.count("\n") + 1 if at else None)
        reason = _AT_LINE.sub("", message).strip()
        problem = Problem("", line, f"is not TOML: {reason}", "strings need quotes, keys an = sign, lists brackets")
    raise LabError([problem])


# --- one value: pydantic's errors in words


def _problem(error: Any, raw: dict[str, Any], lines: dict[tuple[str | int, ...], int]) -> Problem:
    path = tuple(part for part in error["loc"] if part != "[key]")
    kind, context = error["type"], error.get("ctx", {})
    example = _EXAMPLES.get(_pattern(path), "")
    if kind == "lab":
        text, fix = context["wrong"], context["fix"]
        fix = fix or example
    elif kind == "extra_forbidden":
        text, fix = _unknown(path)
    elif kind == "missing":
        text, fix = "is missing", example
    elif kind == "literal_error":
        text = f"must be {context['expected']}; got {shown(error['input'])}".replace("'", '"')
        fix = f"{path[-1]} = {_nearest_literal(context['expected'], error['input'])}"
    elif kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        bound = context.get("gt", context.get("ge", context.get("lt", context.get("le"))))
        words = {"greater_than": "above", "greater_than_equal": "at least", "less_than": "below"}.get(kind, "at most")
        number = "a whole number " if isinstance(error["input"], int) else ""
        text, fix = f"must be {number}{words} {bound}; got {shown(error['input'])}", example
    elif kind in ("too_short", "too_long", "string_too_long"):
        text, fix = ("must not be empty" if kind == "too_short" else "is too long"), example
    else:
        text, fix = f"{_TYPES.get(kind, error['msg'])}; got {shown(error['input'])}", example
        if kind == "int_type" and _pattern(path) == ("rungs", "*", "budget"):
            text = text.replace("whole number", "whole number above 0")
    return Problem(_dotted(path), line_of(lines, path), text, fix)


def _pattern(path: tuple[str | int, ...]) -> tuple[str, ...]:
    names_only = [str(part) for part in path if isinstance(part, str)]
    if len(names_only) > 1 and names_only[0] in _BY_NAME:
        names_only[1] = "*"
    return tuple(names_only)


def _dotted(path: tuple[str | int, ...]) -> str:
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else toml_text(part)
            out += f".{name}" if out else name
    return out


def _unknown(path: tuple[str | int, ...]) -> tuple[str, str]:
    model = schema.EvaluateTable if path[0] == "evaluate" and len(path) > 2 else _model_at(path[:-1])
    known = list(model.model_fields) if model else []
    near = difflib.get_close_matches(str(path[-1]), known, 1, 0.6)
    if near:
        return "is not a key", f'did you mean "{near[0]}"?'
    elsewhere = [table for table, keys in _keys().items() if path[-1] in keys]
    if elsewhere:
        return f"is not a key of [{path[0]}]" if len(path) > 1 else "is not a table", f"it belongs in [{elsewhere[0]}]"
    return "is not a key", f"the keys here are {', '.join(known)}"


def _model_at(path: tuple[str | int, ...]) -> type[BaseModel] | None:
    if not path:
        return ConfigFile
    return _models().get(".".join(map(str, path[:2])), _models().get(str(path[0])))


def _models() -> dict[str, type[BaseModel]]:
    return {
        "lab": schema.LabTable,
        "metric": schema.MetricTable,
        "prepare": schema.PrepareTable,
        "score": schema.ScoreTable,
        "run": schema.RunTable,
        "slurm": schema.SlurmTable,
        "judge": schema.JudgeTable,
        "judge.retune": schema.RetuneTable,
        "limits": schema.LimitsTable,
        "gates": schema.GatesTable,
        "proposer": schema.ProposerTable,
        "budget": schema.BudgetTable,
        "detectors": schema.DetectorsTable,
        "store": schema.StoreTable,
        "retain": schema.RetainTable,
    }


def _keys() -> dict[str, list[str]]:
    return {table: list(model.model_fields) for table, model in _models().items()}


def _nearest_literal(expected: str, given: object) -> str:
    choices = re.findall(r"'([^']*)'", expected)
    near = difflib.get_close_matches(str(given), choices, 1, 0.0) or choices
    return f'"{near[0]}"'


# --- several keys at once

Found = tuple[tuple[str | int, ...], str, str]


def _across(config: ConfigFile) -> Iterator[Found]:
    yield from _rung_problems(config)
    yield from _placeholder_problems(config)
    yield from _pattern_problems(config)
    yield from _score_problems(config)
    yield from _retune_problems(config)
    yield from _evaluation_problems(config)
    yield from _slurm_problems(config)
    for path, wrong, fix in detectors.problems(config.detectors.model_dump()):
        yield ("detectors", *path), wrong, fix
    seeds = config.run.seeds
    if len(set(seeds)) < len(seeds):
        yield ("run", "seeds"), "names a seed twice", f"seeds = {list(dict.fromkeys(seeds))}"
    climb = config.run.climb or []
    for at, name in enumerate(climb):
        if name not in config.rungs:
            near = difflib.get_close_matches(name, list(config.rungs), 1, 0.0)[:1] or list(config.rungs)[:1]
            yield ("run", "climb", at), f"there is no rung {toml_text(name)}", f'did you mean "{near[0]}"?'
    if len(set(climb)) < len(climb):
        yield ("run", "climb"), "names a rung twice", "name each rung once, the cheapest first"


def _score_problems(config: ConfigFile) -> Iterator[Found]:
    score = config.score
    if score is None:
        return
    if score.model is not None and score.command is not None:
        yield ("score", "command"), "is instead of model, not beside it", "take one of the two out"
    elif score.model is None and score.command is None:
        yield ("score",), "names neither a model to ask nor a command", 'model = "train.py"'
    elif score.command is not None:
        for key in sorted(score.model_fields_set - {"command", "timeout"}):
            yield ("score", key), "is for model only, and command is given", "take it out"
    elif score.text is None:
        yield ("score", "model"), "needs the text that is scored", 'text = "{held}/search.json"'
    elif config.prepare is None:
        yield ("score", "text"), "needs [prepare], which writes the held text", "[prepare] command = [...]"


def _retune_problems(config: ConfigFile) -> Iterator[Found]:
    taken = {name for text in (*config.lab.command, *config.lab.env.values()) for name in names(text)}
    if config.judge.retune is not None and PLACEHOLDER not in taken:
        fix = (
            f'hand it over in lab.command, e.g. "--rate-scale", "{{{PLACEHOLDER}}}", or in lab.env, and have the training code '
            "multiply its learning rate by it"
        )
        yield ("judge", "retune"), f"scales learning rates, and no command takes {{{PLACEHOLDER}}}", fix


def _slurm_problems(config: ConfigFile) -> Iterator[Found]:
    table = config.slurm
    if config.run.executor != "slurm":
        return
    if not table.gpus and table.tasks is None:
        yield (
            ("slurm",),
            "says neither how many GPUs a node has nor how many shards run on one",
            "gpus = 8, or tasks = 16",
        )
    yield from _span_problems(config)
    for at, name in enumerate(table.own):
        if name not in config.rungs:
            yield ("slurm", "own", at), f"there is no rung {toml_text(name)}", f"there are {', '.join(config.rungs)}"
    for at, option in enumerate(table.args):
        if (found := refused(option)) is not None:
            yield ("slurm", "args", at), f"{toml_text(option)} {found[0]}", found[1]
    resumable = any(RESUME in names(text) for text in (*config.lab.command, *config.lab.env.values()))
    for name, rung in config.rungs.items():
        if rung.timeout > table.walltime and not resumable and name not in table.own:
            wrong_s = f"is {span(rung.timeout)}, and the pilot that it runs in ends after {span(table.walltime)}"
            fix = "raise slurm.walltime, name it in slurm.own, or let runs go on: {resume} in lab.command"
            yield ("rungs", name, "timeout"), wrong_s, fix
    if config.run.slots:
        yield ("run", "slots"), "is for this machine; on a cluster the pilot says how many run", "take it out"


def _span_problems(config: ConfigFile) -> Iterator[Found]:
    """Where one shard takes more than one node."""
    table, ranks = config.slurm, config.run.ranks
    most = Settings(gpus=table.gpus, ranks=table.ranks or 0)
    span, key = most.span(ranks), "gpus" if table.ranks is None else "ranks"
    if table.ranks is not None and 0 < table.gpus < table.ranks:
        yield ("slurm", "ranks"), f"is {table.ranks}, and a node has {table.gpus} GPUs", f"ranks = {table.gpus}"
    elif span == 1:
        return
    elif span > table.nodes:
        wrong = f"is {getattr(table, key)}, and one shard takes {ranks} by run.ranks, on {span} nodes"
        yield ("slurm", key), wrong, f"nodes = {span} or more, or {key} = {ranks}, or fewer ranks"
    elif ranks % span:
        fix = f"ranks = {ranks // span * span} or {span * most.on_node(ranks)}, or another slurm.ranks"
        yield ("run", "ranks"), f"is {ranks}, which takes {span} nodes, and is not the same number on each", fix
    elif not joins_nodes(config.run.network):
        wrong = f'is "{config.run.network}", and ranks on {span} nodes cannot meet in boxes that have no network of their nodes'
        fix = f'network = "allocation", which opens that to training (docs/isolation.md), or ranks = {most.ranks or most.gpus}'
        yield ("run", "network"), wrong, fix


def _evaluation_problems(config: ConfigFile) -> Iterator[Found]:
    for name in config.evaluate:
        if not _RUNG_NAME.fullmatch(name):
            fix = "lower-case letters, digits, - and _, e.g. [evaluate.copying]"
            yield ("evaluate", name), "is not a name for an evaluation", fix
    if config.evaluate and config.score is None:
        fix = "add a [score] table, or take the evaluations out"
        yield ("evaluate",), "needs [score]: what runs say of themselves is not evaluated further", fix


def _rung_problems(config: ConfigFile) -> Iterator[Found]:
    used = set(_used(config))
    for name, rung in config.rungs.items():
        if not _RUNG_NAME.fullmatch(name):
            yield (
                ("rungs", name),
                "is not a name for a rung",
                "lower-case letters, digits, - and _, e.g. [rungs.screen]",
            )
        yield from _parameter_problems(("rungs", name), rung.model_extra or {}, used)
    if config.smoke is not None:
        yield from _parameter_problems(("smoke",), config.smoke.model_extra or {}, used)
        if SMOKE in config.rungs:
            yield ("rungs", SMOKE), "is what [smoke] is called", "give the rung another name"
    if HALF in config.rungs:
        yield ("rungs", HALF), "is what short runs of the trunk are called", "give the rung another name"


def _parameter_problems(table: tuple[str, ...], given: Iterable[str], used: set[str]) -> Iterator[Found]:
    for key in given:
        path = (*table, key)
        near = difflib.get_close_matches(key, schema.RUNG_KEYS, 1, 0.7)
        if key in _RESERVED:
            yield path, f"{{{key}}} is set by the engine", "give the parameter another name"
        elif key not in used and near:
            yield path, "is not a key", f'did you mean "{near[0]}"?'
        elif not NAME.fullmatch(key):
            yield path, "is not a name for a parameter", "letters, digits and _ only"
        elif key not in used:
            fix = f'use "{{{key}}}" in lab.command or lab.env, or take it out'
            yield path, f"no command names {{{key}}}, so it would change nothing", fix


def _templates(config: ConfigFile) -> Iterator[tuple[tuple[str | int, ...], str, tuple[str, ...]]]:
    """Every text that may carry placeholders, with its path and the engine's names that exist there."""
    for at, part in enumerate(config.lab.command):
        yield ("lab", "command", at), part, SHARD_NAMES
    for key, value in config.lab.env.items():
        yield ("lab", "env", key), value, SHARD_NAMES
    if config.prepare:
        for at, part in enumerate(config.prepare.command):
            yield ("prepare", "command", at), part, PREPARE_NAMES
    if config.score:
        for at, part in enumerate(config.score.command or ()):
            yield ("score", "command", at), part, SCORE_NAMES
        if config.score.text is not None:
            yield ("score", "text"), config.score.text, TEXT_NAMES
        if config.score.report is not None:
            yield ("score", "report"), config.score.report, TEXT_NAMES
    for name, each in config.evaluate.items():
        for at, part in enumerate(each.command):
            yield ("evaluate", name, "command", at), part, SCORE_NAMES


def _used(config: ConfigFile) -> Iterator[str]:
    for _, text, _ in _templates(config):
        yield from names(text)


def _placeholder_problems(config: ConfigFile) -> Iterator[Found]:
    params = {name: set(rung.model_extra or {}) for name, rung in config.rungs.items()}
    anywhere = set().union(*params.values())
    for path, text, own in _templates(config):
        rungs = {} if path[0] == "prepare" else params
        for name in names(text):
            if name in own:
                continue
            lacking = [rung for rung, have in rungs.items() if name not in have]
            if name in anywhere and rungs:
                for rung in lacking:
                    yield ("rungs", rung), f"does not set {name}, which {_dotted(path)} names", f"{name} = …"
                continue
            have = [f"{{{each}}}" for each in (*own, *(sorted(anywhere - _RESERVED) if rungs else ()))]
            why = " here: shards never see held-out data" if name == "held" and path[0] == "lab" else ""
            near = difflib.get_close_matches(f"{{{name}}}", have, 1, 0.7)
            fix = f"did you mean {near[0]}? There are" if near else "there are"
            yield path, f"there is no {{{name}}}{why}", f"{fix} {' '.join(have)}; {{{{ and }}}} write braces"


def _pattern_problems(config: ConfigFile) -> Iterator[Found]:
    metric = config.metric
    path = ("metric", "pattern")
    if metric.source != "regex":
        if metric.pattern is not None:
            yield path, f'is for source = "regex" only; source is "{metric.source}"', 'source = "regex", or take it out'
        return
    example = r"""pattern = '''step (?P<step>\d+) loss (?P<loss>\S+)'''"""
    if metric.pattern is None:
        yield ("metric", "source"), 'source = "regex" needs a pattern', example
        return
    try:
        groups = re.compile(metric.pattern).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        yield path, f"is not a regular expression: {error}", example
        return
    if "step" not in groups or len(groups) < 2:
        yield path, "needs the named group step and at least one other", example


# --- to dataclasses


def _lab(config: ConfigFile, text: str, root: Path) -> Lab:
    root = root.absolute()
    lab, metric, run = config.lab, config.metric, config.run
    first = next(iter(config.rungs))
    return Lab(
        root=root,
        name=lab.name or root.name or "lab",
        text_hash=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        command=tuple(lab.command),
        python=_python(lab.python, root),
        env=dict(lab.env),
        env_pass=tuple(dict.fromkeys(lab.env_pass)),
        editable=tuple(lab.editable),
        protected=_protected(config, root),
        mounts=tuple(_below(root, each) for each in lab.mounts),
        metric=Metric(metric.name, metric.direction, metric.unit or "", metric.source, metric.pattern, metric.loss),
        compare=metric.compare,
        score=_score(config.score) if config.score else None,
        prepare=Prepare(tuple(config.prepare.command), config.prepare.timeout) if config.prepare else None,
        smoke=_smoke(config),
        rungs=tuple(
            Rung(name, each.budget, each.timeout, dict(each.model_extra or {})) for name, each in config.rungs.items()
        ),
        climb=tuple(run.climb or (first,)),
        seeds=tuple(run.seeds),
        slots=run.slots,
        threads=run.threads,
        ranks=run.ranks,
        nice=run.nice,
        warm=run.warm,
        isolation=run.isolation,
        limits=Limits(config.limits.memory, config.limits.disk, config.limits.processes, config.limits.log),
        network=run.network,
        slurm=_slurm(config, root),
        ask=config.gates.ask,
        review=config.gates.review,
        most_lines=config.gates.lines,
        proposer=_proposer(config, root),
        budget=Budget(**config.budget.model_dump()),
        detectors=config.detectors.model_dump(exclude_unset=True),
        state_dir=_below(root, config.store.state_dir),
        retain=Retain(config.retain.checkpoints),
        judge=_judging(config),
        evaluations=tuple(
            Evaluation(name, tuple(each.command), each.direction, each.timeout)
            for name, each in config.evaluate.items()
        ),
    )


def _judging(config: ConfigFile) -> Judging:
    table = config.judge
    sequential = table.mode != "fixed"
    audit = (AUDIT_EVERY if sequential else 0) if table.audit is None else table.audit
    retune = None
    if (bracket := table.retune) is not None:
        retune = Retuning(tuple(sorted(bracket.factors)), bracket.seeds, bracket.pairs, bracket.before_sign)
    return Judging(table.mode, table.calibration, sequential if table.fresh is None else table.fresh, audit, retune)


def _slurm(config: ConfigFile, root: Path) -> Settings | None:
    """The cluster that shards run on; None for this machine."""
    if config.run.executor != "slurm":
        return None
    table = config.slurm
    key = hashlib.sha256(str(_below(root, config.store.state_dir)).encode()).hexdigest()[:8]
    return Settings(
        partition=table.partition or "",
        account=table.account or "",
        walltime_s=table.walltime,
        nodes=table.nodes,
        gpus=table.gpus,
        ranks=table.ranks or 0,
        tasks=table.tasks or 0,
        idle_s=table.idle,
        args=tuple(table.args),
        own=tuple(table.own),
        own_s=tuple(config.rungs[name].timeout for name in table.own),
        queue=table.queue,
        shared=None if table.shared is None else _below(root, table.shared),
        name=f"cockpit-{key}",
    )


def _smoke(config: ConfigFile) -> Rung | None:
    """The smoke is the rung that experiments start at, but for what its table says."""
    table = config.smoke
    if table is None:
        return None
    first = config.rungs[config.run.climb[0]] if config.run.climb else next(iter(config.rungs.values()))
    params = {**(first.model_extra or {}), **(table.model_extra or {})}
    return Rung(SMOKE, table.budget, table.timeout or first.timeout, params)


def _proposer(config: ConfigFile, root: Path) -> ProposerConfig:
    table = config.proposer
    return ProposerConfig(
        table.kind,
        _below(root, table.path),
        table.queue,
        table.model,
        table.effort,
        table.max_tokens,
        table.timeout,
        table.seed,
        table.brief,
        table.search,
    )


def _below(root: Path, text: str) -> Path:
    """`text` as an absolute path: `~` is the home directory, anything relative is taken from the lab."""
    path = Path(text)
    if text == "~" or text.startswith("~/"):
        try:
            path = path.expanduser()
        except RuntimeError:  # no home directory: the path stays as it is written
            path = Path(text)
    return root / path


def _score(table: schema.ScoreTable) -> Score:
    if table.model is None or table.text is None:
        return Score(tuple(table.command or ()), table.timeout)
    referee = Referee(table.model, table.checkpoint, table.half, table.text, table.rows, table.tolerance, table.report)
    return Score((), table.timeout, referee)


def _python(text: str | None, root: Path) -> str | None:
    return text if text is None or ("/" not in text and not text.startswith("~")) else str(_below(root, text))


def _protected(config: ConfigFile, root: Path) -> tuple[str, ...]:
    """The lab's own globs, the scripts that prepare and score, and what always is."""
    out = [*config.lab.protected, *_scripts(config), *ALWAYS_PROTECTED]
    state = _below(root, config.store.state_dir)
    if state != root and state.is_relative_to(root):
        inside = state.relative_to(root).as_posix()
        if glob_problem(inside) is None:
            out.append(inside)
    return tuple(dict.fromkeys(out))


def _scripts(config: ConfigFile) -> Iterator[str]:
    """Files of the lab that `[prepare]`, `[score]` and `[evaluate]` run: whoever may edit them may choose the score."""
    for table in (config.prepare, config.score, *config.evaluate.values()):
        argv = (table.command if table else None) or []
        for at, part in enumerate(argv):
            module = at > 0 and argv[at - 1] == "-m"
            path = f"{part.replace('.', '/')}.py" if module else part.removeprefix("./")
            looks_like_file = module or ("." in path.rsplit("/", 1)[-1] and not path.startswith("-"))
            if looks_like_file and not names(path) and glob_problem(path) is None:
                yield path
