"""What shards run on: the lab's interpreter, its torch, the GPUs. Read off files, so that nothing is started to find out."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from engine.events import SetupNoted
from engine.files import read_regular
from engine.lab import Lab, LabError
from engine.shards.devices import PROC, models
from engine.shards.slots import Slot
from engine.text import clean

_MOST = 1 << 16  # bytes of a pyvenv.cfg that are looked at


def noted(
    lab: Lab,
    setup: str,
    rung: str,
    data: str,
    host: str,
    slots: Sequence[Slot],
    proc: Path = PROC,
    elsewhere: Sequence[str] | None = None,
) -> SetupNoted:
    """Under what conditions shards of `setup` run at `rung`; `data` is the key of the data that they read, `elsewhere` the
    models of the GPUs where they run, None on this machine."""
    interpreter = _interpreter(lab)
    here = models(proc) if elsewhere is None else elsewhere
    gpus = here if any(slot.gpus for slot in slots) else []
    return SetupNoted(
        setup=setup,
        rung=rung,
        budget=str(lab.rung(rung).budget),
        metric=lab.metric.name,
        direction=lab.metric.direction,
        data=data,
        evaluation=evaluation_of(lab),
        python=_python(lab, interpreter),
        torch=_torch(interpreter),
        gpu=", ".join(gpus),
        host=host,
    )


def evaluation_of(lab: Lab) -> str:
    """Hash of how the lab has a run scored: its metric, and the commands or the referee that measure it."""
    parts = {
        "score": lab.score and (lab.score.command or str(lab.score.referee)),
        "metric": [lab.metric.name, lab.metric.direction, lab.metric.source, lab.metric.pattern],
        "evaluate": [[each.name, each.command, each.direction] for each in lab.evaluations],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _interpreter(lab: Lab) -> Path | None:
    try:
        return Path(lab.interpreter())
    except LabError:
        return None


def _python(lab: Lab, interpreter: Path | None) -> str:
    """The interpreter's version; where it is in no virtual environment, only as far as its library's folder tells it."""
    if lab.python is None:
        return platform.python_version()
    if interpreter is None:
        return ""
    text = read_regular(interpreter.parent.parent / "pyvenv.cfg", _MOST).decode("utf-8", "replace")
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() in ("version", "version_info"):
            return clean(value.strip())[:20]
    return max((each.name.removeprefix("python") for each in _libraries(interpreter)), default="")


def _torch(interpreter: Path | None) -> str:
    """The version of torch in the interpreter's own library; empty where there is none."""
    found = [] if interpreter is None else [each for lib in _libraries(interpreter) for each in _packages(lib)]
    return max((each.name.removeprefix("torch-").removesuffix(".dist-info") for each in found), default="")


def _libraries(interpreter: Path) -> list[Path]:
    with suppress(OSError):
        return sorted((interpreter.parent.parent / "lib").glob("python3*"))
    return []


def _packages(library: Path) -> list[Path]:
    with suppress(OSError):
        return list((library / "site-packages").glob("torch-*.dist-info"))
    return []
