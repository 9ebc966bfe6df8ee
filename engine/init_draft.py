"""Drafts the text of `cockpit.toml` for a repository: what was detected, commented, with what is missing said. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from engine import detect
from engine.script_facts import (
    BUDGET_FLAGS,
    METRICS_FLAGS,
    OUT_FLAGS,
    SEED_FLAGS,
    Facts,
    metric_name,
    print_pattern,
)
from engine.toml_write import toml_list, toml_text
from engine.wiring import BUDGET_VARIABLE, SEED_VARIABLE, Wiring, wire

DEFAULT_BUDGET = 300
MOST_STEPS = 1000
_LAUNCHER_NAMES = re.compile(
    r"(LOCAL_)?RANK|WORLD_SIZE|MASTER_|CUDA|PYTORCH|TORCH|OMP_|NCCL|TOKENIZERS|HF_HUB_|COCKPIT_"
)
_TIMED = re.compile(r"time|second", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """Something that could not be detected: the key of the answer, the question, the answer that `--yes` gives."""

    key: str
    text: str
    default: str


@dataclass
class Draft:
    """The values of a lab file while they are found; `render` writes them."""

    name: str
    command: list[str] = field(default_factory=list)
    runner: detect.Runner = field(default_factory=lambda: detect.Runner(None))
    env: dict[str, str] = field(default_factory=dict)
    editable: list[str] = field(default_factory=list)
    protected: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    metric: str = "val_loss"
    source: str = "jsonl"
    pattern: str | None = None
    loss: str = "loss"
    timed: bool = False
    settable: bool = False  # whether the script takes its budget from outside already
    budget: int = DEFAULT_BUDGET
    findings: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    wiring: Wiring | None = None
    script: str = ""


def draft(repository: detect.Repository, answers: Mapping[str, str]) -> Draft:
    """Everything that can be said about the repository; `answers` (by question key) override what was detected."""
    out = Draft(repository.name, runner=detect.runner(repository))
    if out.runner.finding:
        out.findings.append(f"Interpreter: {out.runner.note}; {out.runner.finding}")
    else:
        out.findings.append(f"Interpreter: {out.runner.note}")
    pair = detect.autoresearch(repository) if "script" not in answers else None
    found = pair.train if pair else detect.script(repository, answers.get("script"))
    if found is None:
        _no_script(out, answers)
        return out
    out.script = found.path
    if pair:
        out.findings.append("Found an autoresearch-style pair: train.py may change, prepare.py is protected")
        out.editable, out.protected = ["train.py"], ["prepare.py"]
        out.mounts = ["~/.cache/autoresearch"] if ".cache" in pair.prepare.facts.text else []
    else:
        out.findings.append(f"Training script: {found.path}")
        out.editable, out.protected = detect.neighbours(repository, found)
    _metric(out, found.facts, answers)
    _command(out, found, pair, answers)
    _loose_ends(out, found)
    return out


def _no_script(out: Draft, answers: Mapping[str, str]) -> None:
    script = answers.get("script", "train.py")
    out.script = script
    out.command, out.editable = [*out.runner.prefix, script], [script]
    out.metric = answers.get("metric", out.metric)
    out.budget = _whole(answers.get("budget")) or DEFAULT_BUDGET
    out.env = {SEED_VARIABLE: "{seed}", BUDGET_VARIABLE: "{budget}", "COCKPIT_METRICS": "{metrics}"}
    out.questions += [
        Question("script", "Which script trains? (path from the repository's root)", script),
        Question("metric", "Which number is judged?", out.metric),
    ]
    out.findings.append(
        f"No training script is committed: lab.command names {script}, which has to be written or corrected"
    )


def _metric(out: Draft, facts: Facts, answers: Mapping[str, str]) -> None:
    name = answers.get("metric") or metric_name(facts)
    if name is None:
        out.questions.append(
            Question("metric", "Which number is judged, by the name that the script prints?", out.metric)
        )
        out.findings.append(f"No held-out loss was found in what {out.script} prints: metric.name is a guess")
    out.metric = name or out.metric
    if facts.summary:
        out.source = "summary"
    elif facts.flag(METRICS_FLAGS):
        out.source = "jsonl"
    elif found := print_pattern(facts, out.metric):
        out.source, (out.pattern, groups) = "regex", found
        out.loss = next((each for each in groups if "loss" in each and each != out.metric), out.metric)
    else:
        out.env["COCKPIT_METRICS"] = "{metrics}"
        out.findings.append(
            f"How {out.script} reports {out.metric} was not understood: write JSON lines to the file named by"
            ' COCKPIT_METRICS, or set metric.source = "regex" with a pattern'
        )


def _command(out: Draft, found: detect.Script, pair: detect.Pair | None, answers: Mapping[str, str]) -> None:
    facts, path = found.facts, PurePosixPath(found.path)
    relative = re.search(r"(?m)^\s*from \.", facts.text) and len(path.parts) > 1
    script = ["-m", ".".join(path.with_suffix("").parts)] if relative else [found.path]
    arguments = []
    for names, value in (
        (SEED_FLAGS, "{seed}"),
        (BUDGET_FLAGS, "{budget}"),
        (OUT_FLAGS, "{run_dir}"),
        (METRICS_FLAGS, "{metrics}"),
    ):
        flag = facts.flag(names)
        if flag:
            arguments += [flag.written, value] if flag.written.startswith("-") else [value]
    configurator = "configurator.py" in facts.text  # nanoGPT's way: every global is an argument
    if configurator and facts.budget:
        arguments.append(f"--{facts.budget.name}={{budget}}")
    if configurator and re.search(r"(?m)^out_dir\s*=", facts.text):
        arguments.append("--out_dir={run_dir}")
    out.command = [*out.runner.prefix, *script, *arguments]
    _seed(out, facts)
    _budget(out, facts, pair, configurator, answers)
    wants_seed = SEED_VARIABLE in out.env and SEED_VARIABLE not in facts.env_names
    wants_budget = BUDGET_VARIABLE in out.env and BUDGET_VARIABLE not in facts.env_names
    out.settable = not wants_budget
    if not out.settable:
        out.findings.append(
            "No smoke run: the budget cannot be set from outside yet; add [smoke] to cockpit.toml once it can"
        )
    if wants_seed or wants_budget:
        override = pair.budget if pair else None
        out.wiring = wire(found.path, facts.text, seed=wants_seed, budget=wants_budget, budget_import=override)
        _say_wiring(out, wants_seed, wants_budget)


def _seed(out: Draft, facts: Facts) -> None:
    if "{seed}" in out.command:
        return
    known = next((name for name in facts.env_names if name.lower() in (*SEED_FLAGS, SEED_VARIABLE.lower())), None)
    out.env[known or SEED_VARIABLE] = "{seed}"


def _budget(out: Draft, facts: Facts, pair: detect.Pair | None, configurator: bool, answers: Mapping[str, str]) -> None:
    flag, site = facts.flag(BUDGET_FLAGS), facts.budget
    if pair and not site:
        site = pair.prepare.facts.budget
    name = flag.name if flag else site.name if site else ""
    default = flag.default if flag else site.value if site else None
    out.timed = bool(_TIMED.search(name))
    usable = type(default) in (int, float) and 0 < default < math.inf  # type: ignore[operator]
    if usable:
        out.budget = max(1, int(default))  # type: ignore[call-overload]
        if not out.timed and out.budget > MOST_STEPS:
            out.findings.append(
                f"{name} is {out.budget} by default; rungs.screen.budget is set to {MOST_STEPS}: adjust it"
            )
            out.budget = MOST_STEPS
    answered = _whole(answers.get("budget"))
    out.budget = answered or out.budget
    if not name:
        text = "How long is one screening run, in the script's own unit (steps or seconds)?"
        out.questions.append(Question("budget", text, str(DEFAULT_BUDGET)))
    if flag or (configurator and site):
        return
    known = next((each for each in facts.env_names if each.lower() in (*BUDGET_FLAGS, BUDGET_VARIABLE.lower())), None)
    out.env[known or BUDGET_VARIABLE] = "{budget}"


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and int(text[:18]) > 0 and len(text) <= 18 else None


def _say_wiring(out: Draft, seed: bool, budget: bool) -> None:
    done = out.wiring or Wiring(None, False, False, "")
    drafted = [name for name, yes in (("seed", done.seed), ("budget", done.budget)) if yes]
    if drafted:
        out.findings.append(
            f"The {' and the '.join(drafted)} cannot be set from outside: the first proposal in the review queue wires that;"
            " until it is signed off, every run of the trunk is the same"
        )
    for name, variable, wanted, yes in (
        ("seed", SEED_VARIABLE, seed, done.seed),
        ("budget", BUDGET_VARIABLE, budget, done.budget),
    ):
        if wanted and not yes:
            why = f" ({done.note})" if done.note else ""
            out.findings.append(f"No {name} was found that could be wired{why}: let {out.script} read {variable}")


def _loose_ends(out: Draft, found: detect.Script) -> None:
    facts = found.facts
    if not facts.parsed:
        out.findings.append(f"{found.path} is not valid Python for this interpreter: only its text was searched")
    given = {part.lstrip("-") for part in out.command}
    missing = [flag.written for flag in facts.flags if flag.required and flag.written.lstrip("-") not in given]
    missing = [each for each in missing if each.startswith("-")]
    if missing:
        out.findings.append(f"{found.path} requires {', '.join(missing)}: add to lab.command")
    if facts.saves:
        out.findings.append("A checkpoint is saved: add a [score] command to have it scored by protected code")
    else:
        out.findings.append("No checkpoint is saved, so the metric stays self-reported: nobody else can score the run")
    names = [name for name in facts.env_names if name not in out.env and not _LAUNCHER_NAMES.match(name)]
    if names:
        out.findings.append(
            f"{found.path} reads {', '.join(names)} from the environment: put what it needs into env_pass"
        )


# --- text


def render(out: Draft) -> str:
    """The lab file, commented."""
    return "\n".join([*_lab_lines(out), "", *_metric_lines(out), "", *_rest(out), ""])


def _lab_lines(out: Draft) -> list[str]:
    python = f"python = {toml_text(out.runner.python)}" if out.runner.python else '# python = ".venv/bin/python"'
    env = ", ".join(f"{name} = {toml_text(value)}" for name, value in out.env.items())
    return [
        "# The lab: what the cockpit runs, what may change, what is judged. Every key: docs/configuration.md",
        "# Check it with `cockpit doctor`.",
        "",
        "[lab]",
        f"name = {toml_text(out.name)}",
        "# One training run. {seed} {budget} {rung} {run_dir} {metrics} {python} {data} are filled in; {{ and }} are braces.",
        f"command = {toml_list(out.command)}",
        f"{python}  # {out.runner.note.replace(chr(10), ' ')}",
        "# What a proposal may change, and what it never may (protected wins). Globs; ** spans directories.",
        f"editable = {toml_list(out.editable)}",
        f"protected = {toml_list(out.protected)}",
        "# Set for runs; of your own environment only PATH, HOME and LANG reach them, and the names in env_pass.",
        f"env = {{ {env} }}" if env else "env = {}",
        "env_pass = []",
        f"mounts = {toml_list(out.mounts)}  # directories that runs read: data, caches",
    ]


def _metric_lines(out: Draft) -> list[str]:
    direction = "max" if "acc" in out.metric else "min"
    unit = "bits per byte" if "bpb" in out.metric else "nats" if out.metric.endswith(("loss", "nll")) else ""
    lines = [
        "[metric]",
        f"name = {toml_text(out.metric)}",
        f'direction = "{direction}"',
        *([f'unit = "{unit}"'] if unit else []),
        f'source = "{out.source}"  # "jsonl" in the file {{metrics}}, "regex" over the output, "summary": a closing block',
    ]
    if out.pattern is not None:
        literal = "\n" not in out.pattern and "'" not in out.pattern and out.pattern.isprintable()
        lines.append(f"pattern = '{out.pattern}'" if literal else f"pattern = {toml_text(out.pattern)}")
    lines += [
        f"loss = {toml_text(out.loss)}  # the training loss that the curves show",
        f'compare = "{"time" if out.timed else "tokens"}"  # what is equal between two runs: "tokens", "flops" or "time"',
    ]
    return lines


def _rest(out: Draft) -> list[str]:
    unit = "seconds" if out.timed else "in the script's own unit"
    minutes = math.ceil((2 * out.budget + 300) / 60) if out.timed else 60
    smoke = [
        "[smoke]  # a very short run that comes before the first full one of anything: it shows that the code runs"
    ]
    smoke.append(f"budget = {min(out.budget, 10 if out.timed else 1)}  # {unit}")
    if not out.settable:
        smoke = [f"# {each}" for each in smoke]
    return [
        "# [score]  # protected code that scores a checkpoint; without it the metric is self-reported",
        '# command = ["{python}", "evaluate.py", "--run", "{run_dir}", "--out", "{scores}"]',
        "",
        *smoke,
        "",
        "[rungs.screen]  # experiments start here",
        f"budget = {out.budget}  # {unit}: what {{budget}} stands for",
        f'timeout = "{minutes}m"',
        "",
        "# [rungs.confirm]  # add it to run.climb as well",
        f"# budget = {4 * out.budget}",
        f'# timeout = "{4 * minutes}m"',
        "",
        "[run]",
        "seeds = [0, 1, 2]  # paired with the trunk's; the first ones, where more are needed",
        'slots = "auto"  # runs at once: one a GPU, else by CPU cores',
        'climb = ["screen"]',
        "",
        "[judge]",
        'mode = "fast"  # one more seed for as long as the evidence asks for it; "fixed": the seeds above, and a t interval',
        "calibration = 8  # runs of the trunk that its noise is measured on; every experiment is compared with them",
        "",
        "# [judge.retune]  # for `cockpit retune`: the script multiplies its learning rate by {rate_scale}, handed over above",
        "# factors = [0.5, 1.0, 2.0]",
        "",
        "[gates]",
        'ask = "always"  # every diff waits for your approval',
        "",
        "[proposer]",
        'kind = "none"',
        "",
        "[retain]",
        'checkpoints = "unless-refereed"',
    ]
