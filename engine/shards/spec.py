"""What a shard is asked to be and what is left of it: the spec, its environment, the exit record. Standard library only.

Both cross process borders as JSON (engine to launcher, launcher to disk), so both validate what they read.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from engine.shards.devices import driver_libraries

How = Literal["exited", "timeout", "stopped", "memory", "disk", "processes", "start-failed", "preempted", "node-lost"]

GUARD = Path(__file__).resolve().parent / "guard"
"""Directory of the import guard's `sitecustomize.py`; see there."""

NODE, MEETING = "index-of-the-node", "where-ranks-meet"
"""Stand in the command line of a shard over several nodes for what is only known once it has them: the node's index from
0, and `host:port` of the first one."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:#@+-]{0,127}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODULE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_SECRET = re.compile(r"KEY|TOKEN(?!IZER)|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|^ANTHROPIC_", re.IGNORECASE)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class SpecError(ValueError):
    """A spec or an exit record that cannot be what it says; the message names the field."""


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """One process to be started, whichever executor starts it.

    A shard's training is launched with `fresh=True`: its `run_dir` is created exclusively, which is what makes a launch
    happen at most once. A later step in the same directory (scoring) says `fresh=False` and names its own `output` and
    `record`. `reserved` are names that training must not leave behind, so that it cannot forge a later step's results.
    """

    id: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]  # complete: nothing is inherited
    run_dir: str
    timeout_s: float
    tree: str = ""  # (tree, seed, rung, attempt) is what the shard is, on whatever machine it runs
    seed: int = 0
    rung: str = ""
    attempt: int = 1
    output: str = "output.log"  # file name in run_dir: standard output and error, appended
    record: str = "exit.json"  # file name in run_dir: the exit record
    fresh: bool = True
    reserved: tuple[str, ...] = ("score-exit.json", "score.log", "score.json")
    cores: tuple[int, ...] = ()  # CPUs it is pinned to; none: not pinned
    gpus: tuple[str, ...] = ()  # what CUDA_VISIBLE_DEVICES says
    threads: int = 1
    nice: int = 0
    nodes: int = 1  # from here on: for clusters, with defaults that mean "this machine, one process"
    ranks: int = 1
    rendezvous: str | None = (
        None  # where ranks on several nodes meet, "host:port"; none: on the loopback of the one node
    )
    walltime_s: float | None = None
    resume_from: str | None = None  # run directory of the attempt that it goes on from; empty: of none; None: it cannot
    warm: tuple[str, ...] = ()  # modules that a warm parent has imported when it forks it; none: a process of its own
    isolation: Literal["limits", "box-2", "box-3"] = "limits"  # how argv is boxed: engine.shards.sandbox
    inner: tuple[str, ...] = ()  # what `argv` comes to run once it is in its box; none: `argv` itself
    walls: tuple[str, ...] = ()  # how a process that is forked rather than started enters that box: engine.shards.box
    memory: int = 0  # bytes that all its processes may hold; from here on 0 means no limit
    disk: int = 0  # bytes that its run directory may grow to
    processes: int = 0  # that it may have at a time
    log_bytes: int = 0  # of its output that are kept; the rest is counted

    def __post_init__(self) -> None:
        _check_spec(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of every field."""
        plain: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            plain[each.name] = (
                dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
            )
        return plain

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """The spec in `raw`. Raises SpecError that names the field which is missing, unknown or of the wrong kind."""
        if not isinstance(raw, dict):
            raise SpecError("a spec is a JSON object")
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(raw) - known)
        if unknown:
            raise SpecError(f"unknown field {unknown[0]!r}: engine and launcher are of different versions")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise SpecError(str(error)) from None


def _check_spec(spec: ShardSpec) -> None:
    def need(condition: bool, name: str, what: str) -> None:
        if not condition:
            raise SpecError(f"{name}: {what}, not {getattr(spec, name)!r:.200}")

    need(_text(spec.id) and _ID.fullmatch(spec.id) is not None, "id", "letters, digits and ._:#@+-")
    need(_texts(spec.argv) and len(spec.argv) > 0 and spec.argv[0] != "", "argv", "a list of words")
    for name in ("cwd", "run_dir"):
        need(_text(getattr(spec, name)) and os.path.isabs(getattr(spec, name)), name, "an absolute path")
    if not isinstance(spec.env, Mapping) or not all(
        _text(k) and _NAME.fullmatch(k) is not None and _text(v) for k, v in spec.env.items()
    ):
        raise SpecError("env: a map of names to texts")  # its values are not repeated here: they may be private
    for name in ("output", "record"):
        need(_text(getattr(spec, name)) and _FILE.fullmatch(getattr(spec, name)) is not None, name, "a plain file name")
    need(_texts(spec.reserved) and all(_FILE.fullmatch(each) for each in spec.reserved), "reserved", "file names")
    need(isinstance(spec.fresh, bool), "fresh", "true or false")
    need(_number(spec.timeout_s) and spec.timeout_s > 0, "timeout_s", "seconds above 0")
    need(isinstance(spec.cores, tuple) and all(_count(each) for each in spec.cores), "cores", "CPU numbers")
    need(_texts(spec.gpus), "gpus", "a list of device names")
    for name in ("memory", "disk", "processes", "log_bytes"):
        need(_count(getattr(spec, name)), name, "a whole number from 0")
    for name, least in (("threads", 1), ("nodes", 1), ("ranks", 1), ("seed", 0), ("attempt", 0), ("nice", 0)):
        need(_count(getattr(spec, name)) and getattr(spec, name) >= least, name, f"a whole number from {least}")
    need(spec.nice <= 19, "nice", "0 to 19")
    for name in ("tree", "rung"):
        need(_text(getattr(spec, name)), name, "a text")
    need(spec.walltime_s is None or (_number(spec.walltime_s) and spec.walltime_s > 0), "walltime_s", "seconds or none")
    need(spec.rendezvous is None or _text(spec.rendezvous), "rendezvous", "host:port or none")
    need(spec.resume_from is None or _text(spec.resume_from), "resume_from", "a path, empty or none")
    need(_texts(spec.warm) and all(_MODULE.fullmatch(each) for each in spec.warm), "warm", "names of modules")
    need(_texts(spec.inner), "inner", "a list of words")
    need(_texts(spec.walls), "walls", "a list of words")
    need(spec.isolation in ("limits", "box-2", "box-3"), "isolation", "'limits', 'box-2' or 'box-3'")


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a process ended, as the launcher saw it. Times are seconds since the epoch, `max_rss` bytes, `cpu_s` seconds.

    Exactly one of `code` and `signal` is set, unless it never started. `error` says why it did not ("start-failed"), or what it
    took too much of ("memory", "disk", "processes"), or what became of its node or allocation ("node-lost", "preempted": then
    neither `code` nor `signal` is set).
    """

    id: str
    how: How
    code: int | None
    signal: int | None
    started: float
    ended: float
    pid: int | None
    max_rss: int = 0
    cpu_s: float = 0.0
    error: str | None = None

    @property
    def lasted_s(self) -> float:
        """Seconds from start to end, both by one machine's clock; 0 where that was set back meanwhile."""
        return max(0.0, self.ended - self.started)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON of every field."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """The record in `raw`; fields of later versions are ignored. Raises SpecError when it cannot be one."""
        if not isinstance(raw, dict):
            raise SpecError("an exit record is a JSON object")
        known = {each.name for each in fields(cls)}
        try:
            record = cls(**{name: value for name, value in raw.items() if name in known})
        except TypeError as error:
            raise SpecError(str(error)) from None
        good = (
            _text(record.id)
            and record.how in get_args(How)
            and all(each is None or _whole(each) for each in (record.code, record.signal, record.pid))
            and all(_number(each) for each in (record.started, record.ended, record.cpu_s))
            and _count(record.max_rss)
            and (record.error is None or isinstance(record.error, str))
        )
        if not good:
            raise SpecError("a field of the exit record is of the wrong kind")
        return record


def is_secret(name: str) -> bool:
    """True for the name of a variable that never reaches a shard, not even when the lab asks to pass or set it."""
    return _SECRET.search(name) is not None


def shard_env(
    lab_env: Mapping[str, str],
    passed: Iterable[str],
    threads: int,
    gpus: Iterable[str],
    run_dir: Path,
    tree: Path,
    lab_root: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cache: Path | None = None,
) -> dict[str, str]:
    """The complete environment of a shard, built from nothing.

    `lab_env` is what the lab sets, `passed` the names it lets through from `environ` (the engine's own environment).
    What belongs to the slot and to the run (threads, devices, TMPDIR, caches, import path) is set last and wins: two
    shards must not fight for cores, and none may import from outside its run tree. `lab_root` arms the import guard.
    Compilers keep what they make in `cache`; left out, in the run's own scratch directory.
    """
    source, gpus = (os.environ if environ is None else environ), tuple(gpus)
    env = {"PATH": source.get("PATH", os.defpath), "LANG": source.get("LANG", "C.UTF-8")}
    if "HOME" in source:
        env["HOME"] = source["HOME"]
    env |= {name: source[name] for name in passed if name in source}
    env |= lab_env
    env = {name: value for name, value in env.items() if not is_secret(name)}
    scratch = run_dir / "tmp"
    cache = cache or scratch  # see engine.shards.caches for who may share one
    env |= {name: str(threads) for name in _THREADS}
    if gpus and (libraries := driver_libraries(source)):
        own = filter(None, env.get("LD_LIBRARY_PATH", "").split(":"))
        env["LD_LIBRARY_PATH"] = ":".join(dict.fromkeys((*own, *map(str, libraries))))
    env |= {
        "TMPDIR": str(scratch),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCH_EXTENSIONS_DIR": str(cache / "extensions"),
        "CUDA_CACHE_PATH": str(cache / "cuda"),  # what the driver compiles for this GPU
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # so that device numbers mean the same to everyone
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(_import_path(tree, lab_env.get("PYTHONPATH", ""), lab_root)),
        "COCKPIT_RUN_TREE": str(tree),
        "COCKPIT_RUN_DIR": str(run_dir),
        "COCKPIT_CACHE_DIR": str(cache),
    }
    if lab_root is not None:
        env["COCKPIT_LAB_ROOT"] = str(lab_root)
    env.pop("PYTHONSAFEPATH", None)  # it would take the script's own directory off the import path
    env.pop("PYTHONHOME", None)
    return env


def _import_path(tree: Path, wanted: str, lab_root: Path | None) -> list[str]:
    """The guard (which takes itself off the path once loaded), the run tree, its `src`, then what the lab asks for.

    The lab's own entries are read as places in the run tree: relative ones are, and those in the checkout become so.
    """
    path = [str(GUARD)] if lab_root is not None else []
    path.append(str(tree))
    if (tree / "src").is_dir():
        path.append(str(tree / "src"))
    for entry in filter(None, wanted.split(os.pathsep)):
        place = Path(entry)
        if lab_root is not None and place.is_relative_to(lab_root):
            place = tree / place.relative_to(lab_root)
        path.append(str(tree / place))
    return list(dict.fromkeys(path))


def _text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value and len(value) < 1 << 17


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(_text(each) for each in value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
