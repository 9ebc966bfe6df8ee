"""The families that a user's rights might decide, played again by an ordinary user: what root may do hides nothing there."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.files import remove_tree

NOBODY = 65534
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FAMILIES = ("test_files.py", "test_processes.py")


@pytest.fixture
def place() -> Iterator[Path]:
    """A home, a scratch directory and a runtime directory of that user's own, with short paths."""
    made = Path(tempfile.mkdtemp(prefix="ck-nobody-"))
    for each in (made, *(made / name for name in ("home", "tmp", "run"))):
        each.mkdir(exist_ok=True, mode=0o700)
        os.chown(each, NOBODY, NOBODY)
    yield made
    remove_tree(made)


def _environment(place: Path) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *site.getsitepackages()])
    own = {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "XDG_RUNTIME_DIR": str(place / "run")}
    return own | {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
    }


def _as_nobody(python: str, *words: str, place: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python)
    return subprocess.run(
        [*drop, *words],
        env=_environment(place),
        cwd=place,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def _python(place: Path) -> str:
    """An interpreter of this version that an ordinary user may run, with all that the suite imports; else skips."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    candidates = [sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"]
    said = ""
    # setpriv itself may still start what only root may reach: so the interpreter has to start itself once more
    trial = "import subprocess, sys, pytest, duckdb, pydantic, git, engine, tests\n"
    trial += "subprocess.run([sys.executable, '-V'], check=True)"
    for each in dict.fromkeys(candidates):
        tried = _as_nobody(each, "-c", trial, place=place, seconds=60)
        if tried.returncode == 0:
            return each
        said = tried.stderr.strip().rpartition("\n")[2]
    pytest.skip(f"no {name} here that an ordinary user may run with this checkout's packages: {said}")


def test_the_same_holds_for_an_ordinary_user(place: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("this is an ordinary user already")
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv here to become an ordinary user with")
    nodes = [str(HERE / name) for name in FAMILIES]
    options = ("-q", "-rs", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"))
    done = _as_nobody(_python(place), "-m", "pytest", *options, *nodes, place=place, seconds=240)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"(\d+) passed|\.{3,}", done.stdout), done.stdout
