"""`cockpit init`: looks at a git repository and writes the lab file that fits it.

Code is read from the commit at HEAD, which is what the trunk will be. Nothing that git tracks is touched: the lab file is
new, the state directory is kept out of git by `info/exclude`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import init_draft
from engine.detect import Repository
from engine.exclude import exclude
from engine.init_draft import Question
from engine.lab import LabError, parse
from engine.paths import CONFIG

MAX_TEXT = 1 << 20
MAX_TOTAL = 64 << 20
INBOX_NAME = "0001-wire-seed-and-budget.md"
_READ_NAMES = (
    "pyproject.toml",
    "environment.yml",
    "environment.yaml",
    ".devcontainer.json",
    ".devcontainer/devcontainer.json",
)
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never")


class InitError(Exception):
    """The repository cannot be made a lab; the text says why and what to do."""

    def __init__(self, wrong: str, fix: str) -> None:
        super().__init__(f"{wrong}. Fix: {fix}")


@dataclass(frozen=True, slots=True)
class InitPlan:
    """What `write` would write: the lab file, and proposals for the review queue as (file name, text)."""

    root: Path
    toml: str
    findings: tuple[str, ...]
    questions: tuple[Question, ...]
    inbox: tuple[tuple[str, str], ...]


def questions(start: Path) -> tuple[Question, ...]:
    """What could not be detected, with the answers that `--yes` gives. Raises InitError."""
    return plan(start).questions


def plan(start: Path, answers: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None) -> InitPlan:
    """The lab file for the repository that `start` lies in. `answers` are by question key. Reads only. Raises InitError."""
    root = repository_root(start)
    answers = {key: text.strip() for key, text in (answers or {}).items() if text.strip()}
    repository = _repository(root, os.environ if env is None else env)
    if CONFIG in repository.files or (root / CONFIG).exists():
        raise InitError(
            f"{root / CONFIG} exists: this is a lab already", f"edit it, or remove {CONFIG} and run this again"
        )
    if any(path.startswith(".cockpit/") or path == ".cockpit" for path in repository.files):
        raise InitError(
            "git tracks .cockpit, where the engine keeps its state", "git rm -r --cached .cockpit, and commit"
        )
    script = answers.get("script")
    if script is not None and script not in repository.files:
        known = [path for path in repository.files if path.endswith(".py")][:5]
        raise InitError(
            f"{script!r} is not committed", f"name a committed script, e.g. {', '.join(known) or 'none yet'}"
        )
    if not answers.get("budget", "1").isdigit() or answers.get("budget") == "0":
        raise InitError(f"{answers['budget']!r} is not a budget", "give a whole number above 0")
    found = init_draft.draft(repository, answers)
    text = init_draft.render(found)
    try:
        parse(text, root)
    except LabError as error:
        raise InitError(
            f"no lab file could be written for this repository: {error}", f"write {CONFIG} by hand"
        ) from None
    inbox = ((INBOX_NAME, found.wiring.text),) if found.wiring and found.wiring.text else ()
    findings = [*_start_findings(start, root), *found.findings]
    return InitPlan(root, text, tuple(findings), tuple(found.questions), inbox)


def write(plan: InitPlan) -> tuple[Path, ...]:
    """Write what was planned; the lab file last, so that half a lab is no lab. Returns the new files. Raises InitError."""
    config, state = plan.root / CONFIG, plan.root / ".cockpit"
    if config.exists():
        raise InitError(f"{config} exists: this is a lab already", "edit it, or remove it and run this again")
    if state.is_symlink():
        raise InitError(f"{state} is a symbolic link", "remove it; to keep state elsewhere set store.state_dir")
    written = []
    try:
        common = _git(plan.root, "rev-parse", "--git-common-dir").decode("utf-8", "surrogateescape").rstrip("\n")
        exclude(plan.root / common)
        state.mkdir(mode=0o700, exist_ok=True)
        inbox = state / "inbox"
        for name, text in plan.inbox:
            inbox.mkdir(mode=0o700, exist_ok=True)
            (inbox / name).write_text(text, "utf-8")
            written.append(inbox / name)
        with config.open("x", encoding="utf-8") as file:
            file.write(plan.toml)
    except FileExistsError:
        raise InitError(f"{config} appeared meanwhile", "look who wrote it") from None
    except OSError as error:
        fix = "make the repository writable for you"
        raise InitError(f"{error.filename or plan.root} cannot be written ({error.strerror})", fix) from None
    return (config, *written)


def repository_root(start: Path) -> Path:
    """The top of the work tree that `start` lies in. Raises InitError when there is none, or no commit yet."""
    if not start.is_dir():
        raise InitError(f"{start} is not a directory", "run this inside your training repository")
    try:
        top = _git(start, "rev-parse", "--show-toplevel").decode("utf-8", "surrogateescape").rstrip("\n")
    except InitError as error:
        if "dubious ownership" in str(error) or "not found" in str(error):
            raise
        raise InitError(
            f"{start} is not inside a git work tree", "git init, commit your code, then run this again"
        ) from None
    if not top:
        raise InitError(f"{start} is not inside a git work tree", "run this in a work tree, not in a bare repository")
    try:
        _git(start, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except InitError:
        fix = "git add your training code and commit it: experiments are branches of a commit"
        raise InitError("the repository has no commit yet", fix) from None
    return Path(top)


def _start_findings(start: Path, root: Path) -> list[str]:
    if start.resolve() != root.resolve():
        return [f"The lab is the whole repository: {root}"]
    return []


def _git(cwd: Path, *arguments: str, given: bytes | None = None) -> bytes:
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*_GIT, *arguments], cwd=cwd, env=env, input=given, capture_output=True, check=False, timeout=60
        )
    except FileNotFoundError:
        raise InitError("git was not found", "install git 2.38 or newer") from None
    except subprocess.TimeoutExpired:
        raise InitError(f"git {arguments[0]} took more than a minute", "look at the repository's disk") from None
    if done.returncode:
        message = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        raise InitError(f"git {arguments[0]} failed: {message}", "make that git command work here first")
    return done.stdout


def _repository(root: Path, env: Mapping[str, str]) -> Repository:
    blobs = _tree(root)
    texts = _texts(root, {path: blob for path, blob in blobs.items() if path.endswith(".py") or path in _READ_NAMES})
    return Repository(
        name=root.name or "lab",
        files=tuple(blobs),
        read=texts.get,
        on_disk=lambda path: (root / path).exists(),
        env=env,
        own_prefix=sys.prefix,
        path_python=_path_python(env),
    )


def _path_python(env: Mapping[str, str]) -> str | None:
    """`python3` when the one on PATH is not the cockpit's own and could train; nothing is imported to find out."""
    found = shutil.which("python3", path=env.get("PATH", ""))
    if found is None or Path(found).parent == Path(sys.executable).parent:
        return None
    ask = "import importlib.util as u, sys; sys.exit(not any(map(u.find_spec, ('torch', 'jax', 'mlx', 'tensorflow'))))"
    try:
        done = subprocess.run([found, "-I", "-c", ask], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return "python3" if done.returncode == 0 else None


def _tree(root: Path) -> dict[str, tuple[str, int]]:
    """Committed regular files: path to (object name, bytes). Names that are not UTF-8 are left out."""
    out: dict[str, tuple[str, int]] = {}
    for entry in _git(root, "ls-tree", "-r", "-l", "-z", "--full-tree", "HEAD").split(b"\0"):
        head, _, name = entry.partition(b"\t")
        parts = head.split()
        if len(parts) == 4 and parts[0] in (b"100644", b"100755") and parts[3].isdigit():
            try:
                out[name.decode("utf-8")] = (parts[2].decode(), int(parts[3]))
            except UnicodeDecodeError:
                continue
    return out


def _texts(root: Path, blobs: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """The texts of committed files that are small enough and UTF-8, in one git call."""
    wanted, total = [], 0
    for path, (blob, size) in sorted(blobs.items(), key=lambda item: (item[0].count("/"), item[0])):
        if size <= MAX_TEXT and total + size <= MAX_TOTAL:
            wanted.append((path, blob))
            total += size
    raw = _git(root, "cat-file", "--batch", given="".join(f"{blob}\n" for _, blob in wanted).encode())
    out, at = {}, 0
    for path, _ in wanted:
        end = raw.index(b"\n", at)
        header = raw[at:end].split()
        if len(header) != 3 or not header[2].isdigit():
            at = end + 1  # "missing": a partial clone
            continue
        size = int(header[2])
        body, at = raw[end + 1 : end + 1 + size], end + size + 2
        try:
            out[path] = body.decode("utf-8")
        except UnicodeDecodeError:
            continue
    return out
