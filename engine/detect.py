"""What a repository is and how it is run, from the names and texts of its files. Pure but for the callables it is given.

Shards run committed files, so code is read from the commit; environments (`.venv`, conda) are not committed, so they are looked
for on disk. A guess that is not sure says so in `Detected.findings`, and `engine.init` asks about it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from engine.script_facts import Facts, facts

MAX_SCRIPTS = 300
AUTORESEARCH_METRIC = "val_bpb"
_SCRIPT_NAMES = ("train", "pretrain", "train_gpt", "train_gpt2", "run_train", "main", "run")
_PROTECTED = re.compile(r"(prepare|eval|evaluate|evaluation|data|dataset|dataloader|tokenizer|metric)s?(_.*)?|.*_eval")
_CONDA_ROOTS = ("miniconda3", "miniforge3", "mambaforge", "anaconda3", "micromamba")


@dataclass(frozen=True)
class Repository:
    """One repository, as far as detection may look at it."""

    name: str
    files: tuple[str, ...]  # committed, POSIX paths
    read: Callable[[str], str | None]  # text of a committed file; None for binary, huge or missing ones
    on_disk: Callable[[str], bool]  # whether a path exists; relative ones are taken from the root
    env: Mapping[str, str]
    own_prefix: str = ""  # the virtual environment that the cockpit itself runs in
    path_python: str | None = (
        None  # a name on PATH, not the cockpit's own, that can train: it has torch, jax or the like
    )


@dataclass(frozen=True, slots=True)
class Runner:
    """How the repository's Python is started: an interpreter, or a prefix of arguments that ends in one."""

    python: str | None  # for lab.python; None: leave the key out
    prefix: tuple[str, ...] = ("{python}",)
    note: str = ""  # how it was found
    finding: str = ""  # what the researcher has to do about it


@dataclass(frozen=True, slots=True)
class Script:
    """A training script: its path and what was found in it."""

    path: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class Pair:
    """An autoresearch-style pair: train.py may change, prepare.py holds the budget and the evaluation."""

    train: Script
    prepare: Script
    budget: tuple[str, str] | None  # (module, name) that train.py imports


# --- how it is run


def runner(repository: Repository) -> Runner:
    """The interpreter of the repository: its own environment first, then an active one, then whatever `python3` is."""
    for found in (_venv, _uv, _pixi, _active, _conda, _container):
        if (result := found(repository)) is not None:
            return result
    if repository.path_python:
        return Runner(repository.path_python, note=f"{repository.path_python} on your PATH")
    return Runner(None, note="no environment of its own was found: the interpreter that runs the cockpit is used")


def _venv(repository: Repository) -> Runner | None:
    for name in (".venv", "venv", "env"):
        if repository.on_disk(f"{name}/bin/python"):
            return Runner(f"{name}/bin/python", note=f"the virtual environment {name}")
    return None


def _uv(repository: Repository) -> Runner | None:
    project = _toml(repository, "pyproject.toml")
    if "uv.lock" not in repository.files and "uv" not in _table(project, "tool"):
        return None
    place = repository.env.get("UV_PROJECT_ENVIRONMENT", ".venv")
    finding = "" if repository.on_disk(f"{place}/bin/python") else f"{place} does not exist yet: run `uv sync`"
    return Runner(f"{place}/bin/python", note="a uv project", finding=finding)


def _pixi(repository: Repository) -> Runner | None:
    path = ".pixi/envs/default/bin/python"
    return Runner(path, note="a pixi project") if repository.on_disk(path) else None


def _active(repository: Repository) -> Runner | None:
    """An activated environment that is not the cockpit's own."""
    prefix = repository.env.get("VIRTUAL_ENV", "")
    if prefix and prefix != repository.own_prefix and repository.on_disk(f"{prefix}/bin/python"):
        return Runner(f"{prefix}/bin/python", note="the active virtual environment")
    prefix, name = repository.env.get("CONDA_PREFIX", ""), repository.env.get("CONDA_DEFAULT_ENV", "")
    wanted = _conda_name(repository)
    if prefix and (name == wanted if wanted else name not in ("", "base")):
        return Runner(f"{prefix}/bin/python", note=f"the active conda environment {name}")
    return None


def _conda(repository: Repository) -> Runner | None:
    name = _conda_name(repository)
    if name is None:
        return None
    home = repository.env.get("HOME", "")
    roots = [str(PurePosixPath(repository.env["CONDA_EXE"]).parent.parent)] if "CONDA_EXE" in repository.env else []
    for root in (*roots, *(f"{home}/{each}" for each in _CONDA_ROOTS if home)):
        if repository.on_disk(f"{root}/envs/{name}/bin/python"):
            return Runner(f"{root}/envs/{name}/bin/python", note=f"the conda environment {name}")
    prefix = ("conda", "run", "--no-capture-output", "-n", name, "python")
    return Runner(None, prefix, f"the conda environment {name}", f"it was not found: run `conda env create` for {name}")


def _conda_name(repository: Repository) -> str | None:
    for file in ("environment.yml", "environment.yaml"):
        found = re.search(r"(?m)^name:\s*['\"]?([\w.-]+)", repository.read(file) or "")
        if found:
            return found[1]
    return None


def _container(repository: Repository) -> Runner | None:
    """A container file that is the only sign of an environment; inside that container, the interpreter as it is."""
    files = {"Dockerfile", "Containerfile", ".devcontainer/devcontainer.json", ".devcontainer.json"} & {
        *repository.files
    }
    others = {"pyproject.toml", "requirements.txt", "setup.py", "environment.yml"} & {*repository.files}
    if not files:
        return None
    if repository.on_disk("/.dockerenv") or repository.on_disk("/run/.containerenv"):
        return Runner("python3", note="this container's python3")
    if others:
        return None
    image = _image(repository) or re.sub(r"[^a-z0-9._-]+", "-", repository.name.lower()).strip("-.") or "lab"
    prefix: tuple[str, ...] = ("docker", "run", "--rm", "-v", "./:/lab:ro", "-w", "/lab", "-v", "{run_dir}:{run_dir}")
    prefix += ("-e", "COCKPIT_SEED={seed}", "-e", "COCKPIT_BUDGET={budget}", image, "python")
    finding = f"the image is taken to be {image!r}: check lab.command, and that docker is there"
    return Runner(None, prefix, f"a container ({', '.join(sorted(files))})", finding)


def _image(repository: Repository) -> str | None:
    for file in (".devcontainer/devcontainer.json", ".devcontainer.json"):
        try:
            image = json.loads(repository.read(file) or "{}").get("image")
        except (ValueError, AttributeError, RecursionError):
            continue
        if isinstance(image, str) and re.fullmatch(r"[\w./:@-]+", image):
            return image
    return None


def _toml(repository: Repository, path: str) -> Mapping[str, object]:
    try:
        return tomllib.loads(repository.read(path) or "")
    except (ValueError, RecursionError):
        return {}


def _table(table: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


# --- what it trains with


def script(repository: Repository, named: str | None = None) -> Script | None:
    """The training script: the one that is named, else the likeliest; None when none looks like one."""
    if named is not None:
        text = repository.read(named) if named in repository.files else None
        return None if text is None else Script(named, facts(text))
    best: tuple[int, Script] | None = None
    for path in _candidates(repository.files):
        text = repository.read(path)
        if text is None:
            continue
        found = Script(path, facts(text))
        score = _score(found)
        if score > 0 and (best is None or score > best[0]):
            best = (score, found)
    return best[1] if best else None


def _candidates(files: Iterable[str]) -> list[str]:
    """Python files, those with a telling name and near the root first."""
    found = [path for path in files if path.endswith(".py")]
    found.sort(key=lambda path: (_name_rank(path), path.count("/"), path))
    return found[:MAX_SCRIPTS]


def _name_rank(path: str) -> int:
    stem = PurePosixPath(path).stem
    if stem in _SCRIPT_NAMES:
        return _SCRIPT_NAMES.index(stem)
    return len(_SCRIPT_NAMES) + (0 if "train" in stem else 1)


def _score(found: Script) -> int:
    """How much a file looks like the script that trains; 0 or less: not at all."""
    path, seen = PurePosixPath(found.path), found.facts
    if {"test", "tests", "examples", "docs"} & {*path.parts} or path.stem.startswith("test_"):
        return 0
    runs = bool(seen.flags) or "__main__" in seen.text or bool(seen.seeds)
    score = 4 * seen.trains + 2 * runs + (seen.budget is not None) + bool(seen.seeds)
    score += max(0, 3 - len(path.parts)) if score else 0
    if path.stem in _SCRIPT_NAMES[:4]:
        score += 4
    elif "train" in path.stem:
        score += 2
    return score if seen.trains or "train" in path.stem else 0


def autoresearch(repository: Repository) -> Pair | None:
    """The pair train.py and prepare.py of an autoresearch-style repository, or None."""
    train, prepare = repository.read("train.py"), repository.read("prepare.py")
    if train is None or prepare is None:
        return None
    first, second = Script("train.py", facts(train)), Script("prepare.py", facts(prepare))
    imports_it = "prepare" in first.facts.imports
    evaluates = "evaluate_bpb" in prepare or f"{AUTORESEARCH_METRIC}:" in train
    if not (imports_it and evaluates):
        return None
    wanted = second.facts.budget.name if second.facts.budget else "TIME_BUDGET"
    budget = next(
        ((module, name) for module, name, _ in first.facts.imported_names if (module, name) == ("prepare", wanted)),
        None,
    )
    return Pair(first, second, budget)


def neighbours(repository: Repository, start: Script) -> tuple[list[str], list[str]]:
    """(editable, protected): the local modules that the script imports, however far; data and evaluation are protected."""
    editable, protected, queue, seen = [start.path], [], [start], {start.path}
    while queue and len(seen) < MAX_SCRIPTS:
        current = queue.pop(0)
        for module in current.facts.imports:
            path = _local(repository, module, current.path)
            if path is None or path in seen:
                continue
            seen.add(path)
            text = repository.read(path)
            if _PROTECTED.fullmatch(PurePosixPath(path).stem):
                protected.append(path)
            elif text is not None:
                editable.append(path)
                queue.append(Script(path, facts(text)))
    for path in repository.files:
        stem = PurePosixPath(path).stem
        same_place = PurePosixPath(path).parent == PurePosixPath(start.path).parent
        if path.endswith(".py") and same_place and path not in seen and _PROTECTED.fullmatch(stem):
            protected.append(path)
    return editable, sorted(protected)


def _local(repository: Repository, module: str, importer: str) -> str | None:
    """The committed file that `module` names: beside the importer, below the root, or in src/."""
    tail = module.replace(".", "/")
    beside = PurePosixPath(importer).parent
    files = frozenset(repository.files)
    for base in (beside, PurePosixPath(), PurePosixPath("src")):
        for end in (f"{tail}.py", f"{tail}/__init__.py"):
            path = str(base / end)
            if path in files:
                return path
    return None
