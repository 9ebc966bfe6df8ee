"""The box of a shard: what it may see and touch, and the command line that puts it there.

Level 3 is bubblewrap and seccomp, level 2 landlock and seccomp, level 1 limits only; docs/isolation.md says what each of them
shields. `probe` finds out by trying which this machine can do; `wrap` starts and writes nothing: it only rewrites a spec.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine.shards import bubblewrap
from engine.shards.devices import driver_libraries, gpu_devices
from engine.shards.join import command
from engine.shards.spec import GUARD, MEETING, NODE, ShardSpec

Level = Literal[1, 2, 3]
Wish = Literal["auto", "require-3", "require-2", "limits"]

BOX = Path(__file__).resolve().parent / "box.py"
RANKS = Path(__file__).resolve().parent / "ranks.py"
SHOWN: dict[int, str] = {1: "limits only", 2: "box 2", 3: "box 3"}
"""How the status line names a level."""

NO_CUDA = "CUDA does not start in a box of level 2 (Landlock): install bubblewrap for level 3"
SHOWN_NO_CUDA = " (CUDA needs box 3)"
"""What the status line adds where shards with GPUs go without the box of level 2 that others would get."""

HOME = "/shard"  # the home directory in a box of level 3: the run's own scratch
TMP_BYTES = 1 << 30  # of the private /tmp, in memory; TMPDIR lies in the run directory
SHM_BYTES = 4 << 30  # of the private /dev/shm
PROBE_S = 20.0
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "nsswitch.conf", "passwd", "group")
_ETC_MORE = ("hosts", "mime.types", "locale.alias", "OpenCL")
_ETC_NETWORK = ("resolv.conf", "ssl", "pki", "ca-certificates")  # what looking up names and checking certificates reads
_SYS = ("/sys/devices/system/cpu", "/sys/devices/system/node")
_SYS_GPU = ("/sys/devices", "/sys/bus/pci", "/sys/module/nvidia", "/sys/module/nvidia_uvm")
_SYS_NETWORK = ("/sys/devices", "/sys/bus/pci", "/sys/class/net")  # gloo looks for the interfaces' devices
_PLAIN_DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))


class BoxError(ValueError):
    """A box that cannot be made as asked for; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The best level of this machine; `reasons` say what is missing for the next better ones, and how to get it."""

    level: Level
    reasons: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()  # the models of the GPUs there, of machines that are not this one


@dataclass(frozen=True, slots=True)
class Box:
    """What one shard gets of the machine. All paths are absolute and keep their names inside.

    `hidden` are directories that stay out of sight where a readable one contains them; what is readable or writable
    below a hidden one is seen all the same. `links` are symbolic links to be made: (target, where). With `network` it
    shares the machine's network; without, level 3 has a loopback of its own and level 2 no sockets.
    """

    level: Level
    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    links: tuple[tuple[str, Path], ...] = ()
    devices: tuple[Path, ...] = ()
    network: bool = False


def wrap(spec: ShardSpec, box: Box, program: str | None = None) -> ShardSpec:
    """The spec of the same shard in that box: its command line wrapped, its home directory its own scratch.

    `program` is the bubblewrap to use; left out, the one that works here. Raises BoxError when the level cannot keep hidden
    what is hidden.
    """
    if box.level == 1:
        return spec
    # What a library caches below the home directory is as private as its other caches. Where the name can be the same for
    # all, it is: libraries read it when they are imported, which for a warm shard is before its run directory is known.
    scratch = spec.env.get("TMPDIR", spec.run_dir)
    env = {**spec.env, "HOME": scratch if box.level == 2 else HOME}
    # Packages installed with `pip install --user` are still found; without a home there are none, and not those of a new one.
    home = spec.env.get("HOME", "/nonexistent")
    env.setdefault("PYTHONUSERBASE", os.path.join(home, ".local"))
    walls = ["2", json.dumps(_rules(box))] if box.level == 2 else ["3", *_bubblewrap(box, scratch, program)]
    argv = command(entering_python(), walls, spec.cwd, list(spec.argv))
    level: Literal["box-2", "box-3"] = "box-2" if box.level == 2 else "box-3"
    return replace(spec, argv=tuple(argv), inner=spec.argv, walls=tuple(walls), env=env, isolation=level)


def with_ranks(count: int, command: tuple[str, ...], nodes: int = 1) -> tuple[str, ...]:
    """The command line that runs `command` as so many ranks, evenly on so many nodes; itself for one rank.

    For several nodes it has stand-ins (`spec.NODE`, `spec.MEETING`), which each node's side fills in."""
    if count == 1:
        return command
    place = ("--of", str(nodes), NODE, MEETING) if nodes > 1 else ()
    return (entering_python(), "-I", "-S", str(RANKS), str(count // nodes), *place, *command)


def for_gpus(found: Probe) -> Probe:
    """What boxes it can make for shards with GPUs: none of level 2."""
    return replace(found, level=1, reasons=(*found.reasons, NO_CUDA)) if found.level == 2 else found


def choose(wish: Wish, found: Probe, gpus: bool = False) -> tuple[Level, str | None]:
    """The level that a lab gets whose slots have GPUs or not, and why nothing may be started (None: it may)."""
    found = for_gpus(found) if gpus else found
    if wish == "limits":
        return 1, None
    needed = {"auto": 1, "require-2": 2, "require-3": 3}[wish]
    if found.level >= needed:
        return found.level, None
    why = "; ".join(found.reasons) or "the probe gave no reason"
    return found.level, f'nothing is started: cockpit.toml says isolation = "{wish}", and {why}'


def entering_python() -> str:
    """The interpreter that boxes are entered with: the engine's own, past any virtual environment."""
    return os.path.realpath(sys.executable)


# --- level 3


def _bubblewrap(box: Box, scratch: str, program: str | None) -> list[str]:
    # No --new-session: the launcher gives each shard a session without a terminal, and its signals go to that group.
    kinds = ("user", "ipc", "pid", "uts") if box.network else ("user", "ipc", "pid", "net", "uts")
    return [
        program or bwrap() or "bwrap",
        *(f"--unshare-{kind}" for kind in kinds),
        *("--unshare-cgroup-try", "--hostname", "shard", "--disable-userns", "--cap-drop", "ALL"),
        *_mounts(box, scratch),
    ]


def _mounts(box: Box, scratch: str) -> list[str]:
    """Bubblewrap's words for the file system: parents before children, and at the end the root read-only."""
    own = _own_code()
    binds = dict.fromkeys((*_system(), *own, *box.readable), "--ro-bind-try")
    binds |= dict.fromkeys(box.writable, "--bind")
    todo: list[tuple[int, int, Path, list[str]]] = []

    def add(rank: int, path: Path, *words: str) -> None:
        todo.append((len(path.parts), rank, path, list(words)))

    for path, word in binds.items():
        add(1, path, word, str(path), str(path))
    for path in box.hidden:
        if any(path.is_relative_to(each) for each in binds) and path not in binds:
            add(0, path, "--tmpfs", str(path))
    for target, path in (*_system_links(), *box.links):
        if not any(path.is_relative_to(each) for each in binds):
            add(1, path, "--symlink", target, str(path))
    add(1, Path(HOME), "--bind-try", scratch, HOME)
    add(0, Path("/tmp"), "--size", str(TMP_BYTES), "--tmpfs", "/tmp")
    add(0, Path("/proc"), "--proc", "/proc")
    devices = [word for path in box.devices for word in ("--dev-bind-try", str(path), str(path))]
    shm = ["--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]
    add(0, Path("/dev"), "--dev", "/dev", *devices, *shm, "--remount-ro", "/dev")
    masks = [each for each in todo if each[3][0] == "--tmpfs"]
    out = [word for *_, words in sorted(todo, key=lambda each: each[:3]) for word in words]
    for *_, path, _words in masks:  # only once everything below them is in its place
        if path != Path("/tmp"):
            out += ["--remount-ro", str(path)]
    return [*out, "--remount-ro", "/"]


def _system() -> list[Path]:
    """Directories of the distribution that exist here and are no links."""
    etc = [f"/etc/{name}" for name in (*_ETC, *_ETC_MORE)]
    return [path for path in map(Path, (*_SYSTEM, *etc, *_SYS)) if path.exists() and path not in _link_paths()]


def _link_paths() -> list[Path]:
    return [path for _, path in _system_links()]


def _system_links() -> list[tuple[str, Path]]:
    """/bin -> usr/bin and the like, as they are here."""
    return [(os.readlink(each), Path(each)) for each in _SYSTEM if os.path.islink(each)]


def _own_code() -> list[Path]:
    """What entering a box and running ranks in it needs: the engine's standard library, and the import guard."""
    return [*_with_target(Path(sys.base_prefix)), BOX, RANKS, GUARD]


def _with_target(path: Path) -> list[Path]:
    """A path as it is named and, where links make these differ, as it is."""
    return list(dict.fromkeys((path, Path(os.path.realpath(path)))))


# --- level 2


def _rules(box: Box) -> dict[str, list[str] | bool]:
    # /proc as a whole would show other processes; without this file torch complains, and takes slower kernels
    readable = [*_system(), Path("/proc/cpuinfo"), *_own_code(), *box.readable]
    granted = (*readable, *box.writable)
    for hidden in box.hidden:
        for path in granted:
            if hidden != path and hidden.is_relative_to(path):
                raise BoxError(
                    f"{hidden} must stay hidden but lies in {path}, which shards may read: a box of level 2 has no way to "
                    "leave it out; name the directories that you need in lab.mounts, or install bubblewrap for level 3"
                )
    return {
        "readable": [str(path) for path in readable],
        "writable": [str(path) for path in box.writable],
        "devices": [*_PLAIN_DEVICES, *map(str, box.devices)],
        "network": box.network,
    }


# --- what a shard of a lab gets


@functools.lru_cache(maxsize=8)
def interpreter_paths(interpreter: str, home: str) -> tuple[tuple[Path, ...], tuple[tuple[str, Path], ...]]:
    """(directories, links) that this Python needs to start and to import what is installed. Raises BoxError.

    Its prefixes and its directories of packages, not what editable installs point to: that may be a checkout.
    """
    code = (
        "import json, os, sys; print(json.dumps([sys.prefix, sys.base_prefix, getattr(sys, '_base_executable', ''),"
        "[each for each in sys.path if os.path.basename(each) in ('site-packages', 'dist-packages')]]))"
    )
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home}
    try:
        said = subprocess.run([interpreter, "-c", code], env=env, cwd="/", capture_output=True, timeout=60, check=True)
        prefix, base, executable, packages = json.loads(said.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise BoxError(f"the interpreter {interpreter} does not say where its packages lie: {error}") from None
    places = [Path(each) for each in (prefix, base, *packages)]
    links = [link for each in (interpreter, executable) if each for link in _links_of(Path(each))]
    return tuple(path for each in places for path in _with_target(each)), tuple(dict.fromkeys(links))


def _links_of(path: Path) -> list[tuple[str, Path]]:
    """The chain of symbolic links that begins at `path`."""
    out: list[tuple[str, Path]] = []
    while path.is_symlink() and len(out) < 40:
        target = os.readlink(path)
        out.append((target, path))
        path = path.parent / target
    return out


def lab_box(
    level: Level,
    *,
    interpreter: str,
    tree: Path,
    run_dir: Path,
    data: Iterable[Path],
    mounts: Iterable[Path],
    gpus: Iterable[str],
    private: Iterable[Path],
    lab_root: Path,
    network: bool = False,
    cache: Path | None = None,
) -> Box:
    """The box of one process of a lab: it reads `tree`, `data` and `mounts`, and writes into `run_dir` and `cache`. With
    `network` it shares the machine's.

    `private` are the engine's own directories, which no mount may name. Raises BoxError.
    """
    if level == 1:
        return Box(1)
    home = Path(os.path.expanduser("~"))
    own = [path for each in private for path in _with_target(each)]
    hidden = list(dict.fromkeys([*own, *_with_target(lab_root), *(_with_target(home) if home != Path("/") else ())]))
    wanted = [path for each in mounts for path in _with_target(each)]
    for path in wanted:
        if any(path.is_relative_to(each) for each in own):
            raise BoxError(f"lab.mounts names {path}, which is the engine's own; take it out")
    places, links = interpreter_paths(interpreter, str(home))
    prefixes = [part for each in places for part in _narrowed(each, hidden)]
    gpus = tuple(gpus)
    more = [*(Path("/etc", name) for name in _ETC_NETWORK), *map(Path, _SYS_NETWORK)] if network else []
    more += driver_libraries(os.environ) if gpus else []
    seen = [*prefixes, *wanted, *(path for each in (tree, *data, *more) for path in _with_target(each))]
    return Box(
        level,
        readable=tuple(dict.fromkeys([*seen, *(map(Path, _SYS_GPU) if gpus else ())])),
        writable=tuple(path for each in (run_dir, cache) if each is not None for path in _with_target(each)),
        hidden=tuple(path for path in hidden if path.is_dir()),
        links=links,
        devices=gpu_devices(gpus),
        network=network,
    )


def _narrowed(prefix: Path, hidden: Iterable[Path]) -> list[Path]:
    """An interpreter's prefix; only its own parts when it holds something hidden (an environment made in the lab itself)."""
    if not any(each.is_relative_to(prefix) for each in hidden):
        return [prefix]
    parts = ("bin", "lib", "lib32", "lib64", "libexec", "include", "share", "pyvenv.cfg")
    return [prefix / part for part in parts if (prefix / part).exists()]


# --- what this machine can do

_TRY = """
import os, socket, sys
canary, readable, writable, port = sys.argv[1:]
open(readable).read()
open(writable + "/made", "w").close()
for what, look in (("a file outside can be read", lambda: open(canary).read()),
                   ("the network can be reached", lambda: socket.create_connection(("127.0.0.1", int(port)), 5))):
    try:
        look()
    except OSError:
        continue
    sys.exit("in the box " + what)
"""


@functools.lru_cache(maxsize=1)
def probe() -> Probe:
    """What this machine can do, found out by doing it: about a tenth of a second, once a process."""
    reasons: list[str] = []
    best: Level
    for best, attempt in ((3, _without_bubblewrap), (2, _without_landlock)):
        why = attempt()
        if why is None:
            return Probe(best, tuple(reasons))
        reasons.append(why)
    return Probe(1, tuple(reasons))


def _without_bubblewrap() -> str | None:
    if not sys.platform.startswith("linux"):
        return "level 3 needs Linux"
    if bwrap() is None:
        return f"level 3 needs bubblewrap {'.'.join(map(str, bubblewrap.NEEDED))} or newer: {bubblewrap.HOW}"
    said = try_level(3)
    if said is None:
        return None
    hint = "it needs user namespaces"
    if "uid map" in said or "ermission denied" in said or "not permitted" in said:
        hint = (
            "user namespaces are closed to it; on Ubuntu: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, "
            "elsewhere: sudo sysctl user.max_user_namespaces=15000; in a container: --security-opt seccomp=unconfined"
        )
    return f"level 3: bubblewrap does not work here ({said}); {hint}"


def _without_landlock() -> str | None:
    if not sys.platform.startswith("linux"):
        return "level 2 needs Linux"
    said = try_level(2)
    if said is None:
        return None
    return f"level 2: {said}; it needs Linux 6.2 or newer with landlock among the boot parameter lsm="


def bwrap() -> str | None:
    """The bubblewrap that level 3 is made with: the first that works here, the distribution's before the wheel's.

    Where none works it is the first that there is, whose failure says why; None where there is none.
    """
    found = tuple(bubblewrap.candidates())
    return next((each for each in found if _trial(3, each) is None), found[0] if found else None)


def try_level(level: Level) -> str | None:
    """Run a small program in a box of that level; why it cannot be trusted here, or None."""
    return _trial(level, bwrap() if level == 3 else None)


@functools.cache
def _trial(level: Level, program: str | None) -> str | None:
    with tempfile.TemporaryDirectory(prefix="cockpit-probe-") as name, socket.create_server(("127.0.0.1", 0)) as server:
        place = Path(name).resolve()
        for each in ("out", "in", "outside"):
            (place / each).mkdir()
        (place / "in" / "file").write_text("x")
        (place / "outside" / "file").write_text("x")
        words = (place / "outside" / "file", place / "in" / "file", place / "out", server.getsockname()[1])
        spec = ShardSpec(
            id="probe",
            argv=(entering_python(), "-I", "-S", "-c", _TRY, *map(str, words)),
            cwd=str(place / "in"),
            env={"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(place / "out")},
            run_dir=str(place / "out"),
            timeout_s=PROBE_S,
        )
        try:
            boxed = wrap(spec, Box(level, readable=(place / "in",), writable=(place / "out",)), program or "bwrap")
            done = subprocess.run(
                boxed.argv,
                env=dict(boxed.env),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_S,
                start_new_session=True,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return " ".join(str(error).split())[:200]
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-200:]
        return None if done.returncode == 0 else said or f"exit code {done.returncode}"
