"""Starting one process of a shard and ending all that came of it, by the kernel's own means. Standard library only.

Linux gives the most: a shard dies with its launcher (PR_SET_PDEATHSIG), and what it left behind is found in /proc by
session and by a marker in its environment. Elsewhere the process group is what can be killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from engine.shards.spec import ShardSpec

MARKER = "COCKPIT_LAUNCH"
"""Environment variable that names a launch: the path of its exit record. Children inherit it."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SWEEPS = 50
_BEFORE = 1000  # clock ticks: what belongs to a launch did not begin longer than that before its leader
_FIRST_TO_GO = b"1000"


def _find_prctl() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError, AttributeError):
        found: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
        return found
    return None


_prctl = _find_prctl()


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans, so that they are reaped even where pid 1 reaps none."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def can_adopt() -> bool:
    """Whether orphans become ours, so that a process which somebody else forks for us can be our child."""
    return _prctl is not None


def marker(spec: ShardSpec) -> str:
    """What `MARKER` is set to for this launch."""
    return os.path.join(spec.run_dir, spec.record)


def start(spec: ShardSpec, log: int) -> subprocess.Popen[bytes]:
    """Start `spec` in a session of its own, output to the descriptor `log`. Raises OSError, subprocess.SubprocessError."""
    parent = os.getpid()

    def in_child() -> None:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # it died before the line above
                os._exit(127)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        offer_to_the_kernel()
        if spec.nice:
            os.nice(spec.nice)
        if spec.cores and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError, ValueError):
                os.sched_setaffinity(0, spec.cores)

    return subprocess.Popen(
        spec.argv,
        cwd=spec.cwd,
        env={**spec.env, MARKER: marker(spec)},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        close_fds=True,
        start_new_session=True,
        umask=0o077,
        preexec_fn=in_child,  # safe: the launcher has one thread
    )


def start_parent(argv: Sequence[str], env: Mapping[str, str], keep: int) -> subprocess.Popen[bytes]:
    """Start a warm parent that dies with this process; it keeps the descriptor `keep`. Raises as `start` does."""
    parent = os.getpid()

    def in_child() -> None:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        offer_to_the_kernel()  # its forks inherit that

    return subprocess.Popen(
        argv,
        cwd="/",
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None,  # the launcher's log
        pass_fds=(keep,),
        start_new_session=True,
        umask=0o077,
        preexec_fn=in_child,
    )


def offer_to_the_kernel() -> None:
    """Make this process the first that the kernel ends when memory runs out, before the engine and whatever else runs."""
    with contextlib.suppress(OSError):
        found = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        try:
            os.write(found, _FIRST_TO_GO)
        finally:
            os.close(found)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group of `pid`, which may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def kill_rest(pid: int, launch: str, known: Mapping[int, int] | None = None) -> int:
    """Kill all that is left of a launch: group, session, whoever carries its marker, and the children of these.

    `known` are processes (number: start time) that were seen to belong to it before. Returns how many were found.
    Call it before the leader is reaped: until then its number cannot mean another process.
    """
    seen, since = known or {}, began(stat_of(pid)) - _BEFORE
    signal_group(pid, signal.SIGKILL)

    def wanted(each: int, stat: list[str]) -> bool:
        start = began(stat)
        mine = _session(stat) == pid or seen.get(each) == start
        return mine or (start >= since and launch_of(each) == launch)  # what is older need not be looked into

    return _sweep(wanted)


def kill_orphans(root: str) -> int:
    """Kill what an earlier launcher's shards below the directory `root` left behind. Returns how many were found."""
    below = os.path.join(os.path.realpath(root), "")
    return _sweep(lambda each, stat: os.path.realpath(launch_of(each) or "/").startswith(below))


def _sweep(wanted: Callable[[int, list[str]], bool]) -> int:
    """Stop what matches until a look finds no more, then kill it all: one that waits for its child to end would only fork
    another, and what is stopped still counts against whatever limits there are."""
    caught: set[int] = set()
    for _ in range(_SWEEPS):
        new = [each for each in processes() if each not in caught and _to_catch(each, caught, wanted)]
        if not new:
            break
        for each in new:
            _signal(each, signal.SIGSTOP)
        caught.update(new)
    for each in caught:
        _signal(each, signal.SIGKILL)
    return len(caught)


def _to_catch(pid: int, caught: set[int], wanted: Callable[[int, list[str]], bool]) -> bool:
    found = stat_of(pid)
    return len(found) > 3 and found[0] not in "ZX" and (int(found[1]) in caught or wanted(pid, found))


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def processes() -> Iterator[int]:
    """Numbers of all processes but this one; none where there is no /proc."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                yield int(name)


def stat_of(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; a process may choose its name, so what counts follows the last ')'."""
    try:
        found = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(found, 4096).decode(errors="replace").rpartition(")")[2].split()
    except OSError:  # it ended in between
        return []
    finally:
        os.close(found)


def _session(stat: list[str]) -> int:
    return int(stat[3])


def began(stat: list[str]) -> int:
    """When a process started, in clock ticks since boot: with its number, who it is."""
    return int(stat[19]) if len(stat) > 19 else 0


def launch_of(pid: int) -> str | None:
    """The launch whose marker a process carries."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    name = MARKER.encode() + b"="
    for each in environ.split(b"\0"):
        if each.startswith(name):
            return os.fsdecode(each[len(name) :])
    return None


# --- files in a directory that the shard may write into: nothing it planted there is followed or trusted


def open_directory(path: str) -> int:
    """Descriptor of the directory `path`. Raises OSError, also when it is a symbolic link."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def open_log(directory: int, name: str) -> int:
    """Descriptor that appends to the regular file `name`; whatever else bears that name is moved out of the way."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with contextlib.suppress(OSError):
        found = os.open(name, flags, 0o600, dir_fd=directory)
        info = os.fstat(found)
        if stat.S_ISREG(info.st_mode) and info.st_nlink == 1:
            return found
        os.close(found)
    clear(directory, name)
    return os.open(name, flags | os.O_EXCL, 0o600, dir_fd=directory)


def clear(directory: int, name: str) -> None:
    """Make sure that nothing is called `name`: a file is removed, a directory renamed to `name.planted-N`."""
    try:
        os.unlink(name, dir_fd=directory)
        return
    except FileNotFoundError:
        return
    except OSError:
        pass  # a directory, or one that was made read-only
    for n in range(1000):
        with contextlib.suppress(OSError):
            os.rename(name, f"{name}.planted-{n}", src_dir_fd=directory, dst_dir_fd=directory)
            return


def write_durably(directory: int, name: str, body: bytes) -> None:
    """Replace the file `name` in one step: a reader sees all of it or nothing, also after a crash. Raises OSError."""
    temporary = f".{name}.{os.getpid()}"
    clear(directory, temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600, dir_fd=directory), "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        clear(directory, name)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)
