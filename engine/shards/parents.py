"""The launcher's warm parents: started in the background, asked for forks, replaced when used up. Standard library only.

Whatever goes wrong with one, the shard is started cold and the launcher's log says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.shards import process
from engine.shards.imports import is_script
from engine.shards.spec import ShardSpec
from engine.shards.warm import GO

SCRIPT = str(Path(__file__).resolve().parent / "warm.py")
REFEREE = str(
    Path(__file__).resolve().parent.parent / "judge" / "referee.py"
)  # the one script from outside the run tree
FORKS = 200  # after so many a parent is replaced
PARENTS = 4  # at once; each holds some hundred megabytes
IDLE_S = 600.0  # without a fork it is ended
AGAIN_S = 300.0  # after a failure the key stays cold for so long
ANSWER_S = 5.0  # for one fork; a parent that takes longer is ended
_HEAP = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {
        "hugetlb": 1,
        "mmap_threshold": 32 << 20,
        "trim_threshold": 64 << 20,
        "top_pad": 32 << 20,
    }.items()
)
"""The heap that glibc arrives at by itself after a few large tensors, on huge pages, from the first tensor on: nine tenths of
the page faults before the first step go. Only what is read at the start of a process counts, so no fork has it to see."""
_ROOM = 16384  # bytes of the parent's environment that its forks' environments are shown in
_PER_RUN = frozenset(  # read when they are first needed, so that a fork can still set them
    (
        *("TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR"),
        *("CUDA_CACHE_PATH", "CUDA_VISIBLE_DEVICES"),
    )
)
_NO_HOME = "/nonexistent"  # where a parent's home directory is, when its forks have each their own
_THREADS = frozenset(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"))

Key = tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]  # interpreter, imports, environment


class Cold(Exception):
    """Why a shard is started cold; `retire` when its parent is of no more use."""

    def __init__(self, why: str, retire: bool = False) -> None:
        super().__init__(why)
        self.retire = retire


@dataclass(slots=True)
class Forked:
    """A shard that a warm parent forked; it stands where a cold one's Popen does. Its box stands while `life` is open."""

    pid: int
    life: int
    returncode: int | None = None


@dataclass(slots=True, eq=False)
class Parent:
    """One warm parent."""

    key: Key
    popen: subprocess.Popen[bytes]
    sock: socket.socket
    ready: bool = False
    forks: int = 0
    used: float = field(default_factory=time.monotonic)


class Asked:
    """A fork that was asked for. It runs only when `run` lets it: until then it waits at the gate, and ends with it.

    Raises OSError when the parent cannot be asked."""

    def __init__(self, parent: Parent, spec: ShardSpec, log: int) -> None:
        self.parent, self.spec = parent, spec
        env = {process.MARKER: process.marker(spec), **spec.env}
        env[process.MARKER] = process.marker(spec)
        request = {"argv": spec.inner or spec.argv, "cwd": spec.cwd, "env": env, "nice": spec.nice, "cores": spec.cores}
        body = json.dumps(request | {"walls": spec.walls}).encode()
        (gate, self._go), (stands, self._life) = os.pipe(), os.pipe()
        try:
            socket.send_fds(parent.sock, [struct.pack("!I", len(body))], [log, gate, stands])
            parent.sock.sendall(body)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(gate)
            os.close(stands)

    def run(self) -> Forked:
        """Let it run. Raises Cold, OSError or ValueError, and then nothing runs."""
        pid = self._answer()
        os.write(self._go, GO)
        return Forked(pid, os.dup(self._life))

    def drop(self) -> None:
        """It shall not run after all."""
        with contextlib.suppress(Cold, OSError, ValueError):
            self._answer()
        self.close()

    def close(self) -> None:
        os.close(self._go)
        os.close(self._life)

    def _answer(self) -> int:
        try:
            answer = _receive(self.parent.sock)
        except OSError as error:
            raise Cold(f"its warm parent does not answer: {error}", retire=True) from None
        pid = answer.get("pid")
        if not isinstance(pid, int):
            raise Cold(str(answer.get("refused", "its warm parent refused"))[:1000], answer.get("retire") is True)
        return pid


class Parents:
    """All warm parents of a launcher, by what they imported."""

    def __init__(self, selector: selectors.BaseSelector, say: Callable[[str], None]) -> None:
        self.selector = selector
        self.say = say
        self.current: dict[Key, Parent] = {}
        self.next: dict[Key, Parent] = {}  # successors that still import
        self.failed: dict[Key, float] = {}  # until when not to try again
        self.ending: dict[int, subprocess.Popen[bytes]] = {}

    def ask(self, spec: ShardSpec, log: int) -> Asked | None:
        """Have `spec` forked, without waiting for it; None when it has to be started cold. Never waits for an import."""
        if not spec.warm or not process.can_adopt():
            return None
        parent = None
        try:
            parent = self._parent(key_of(spec))
            return Asked(parent, spec, log)
        except (Cold, OSError, ValueError) as error:
            self._refused(parent, spec, error)
            return None

    def start(self, asked: Asked) -> Forked | None:
        """Let what was asked for run, when it stands; None when it has to be started cold after all."""
        parent = asked.parent
        try:
            forked = asked.run()
        except (Cold, OSError, ValueError) as error:
            self._refused(parent, asked.spec, error)
            return None
        finally:
            asked.close()
        parent.forks, parent.used = parent.forks + 1, time.monotonic()
        if parent.forks >= FORKS and parent.key not in self.next:
            with contextlib.suppress(OSError):
                self.next[parent.key] = self._spawn(parent.key)
        return forked

    def _refused(self, parent: Parent | None, spec: ShardSpec, error: Exception) -> None:
        self.say(f"{spec.id} starts cold: {error}")
        if parent is not None and (not isinstance(error, Cold) or error.retire):
            self._failed(parent, str(error))

    def _parent(self, key: Key) -> Parent:
        """The ready parent of `key`; starts one when there is none. Raises Cold, OSError."""
        found = self.current.get(key)
        if found is None:
            if self.failed.get(key, 0.0) > time.monotonic():
                raise Cold("its warm parent failed a short while ago")
            if len(self.current) >= PARENTS:
                oldest = min(self.current.values(), key=lambda each: each.used)
                if not oldest.ready or time.monotonic() - oldest.used < 60.0:
                    raise Cold(f"there are {PARENTS} warm parents of other environments already")
                self._end(oldest)
            self.current[key] = self._spawn(key)
            raise Cold("its warm parent is being started")
        if not found.ready:
            raise Cold("its warm parent is still importing")
        return found

    def _spawn(self, key: Key) -> Parent:
        interpreter, modules, environment = key
        ours, theirs = socket.socketpair()
        try:
            env = {**dict(environment), **dict.fromkeys(_THREADS, "1"), "COCKPIT_ROOM": "." * _ROOM}
            env.setdefault("GLIBC_TUNABLES", _HEAP)
            env["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # an import that asks for GPUs must not initialise CUDA
            argv = (interpreter, SCRIPT, str(theirs.fileno()), *modules)
            popen = process.start_parent(argv, env, theirs.fileno())
        except (OSError, subprocess.SubprocessError) as error:
            ours.close()
            self.failed[key] = time.monotonic() + AGAIN_S
            raise Cold(f"its warm parent cannot be started: {error}") from None
        finally:
            theirs.close()
        ours.settimeout(ANSWER_S)
        parent = Parent(key, popen, ours)
        self.selector.register(ours, selectors.EVENT_READ, lambda mask: self._heard(parent))
        self.say(f"warm parent {popen.pid} imports {', '.join(modules)}")
        return parent

    def _heard(self, parent: Parent) -> None:
        """It says that it is ready, or why not, or it is gone."""
        if parent not in (self.current.get(parent.key), self.next.get(parent.key)):
            return  # let go of since the selector looked
        try:
            said = _receive(parent.sock)
        except (OSError, ValueError) as error:
            said = {"why": f"it ended: {error}"}
        if parent.ready or said.get("ready") is not True:
            self._failed(parent, str(said.get("why", "it spoke unasked")))
            return
        parent.ready, parent.used = True, time.monotonic()
        self.say(f"warm parent {parent.popen.pid} is ready")
        if self.next.get(parent.key) is parent:
            del self.next[parent.key]
            if parent.key in self.current:
                self._end(self.current[parent.key])
            self.current[parent.key] = parent

    def _failed(self, parent: Parent, why: str) -> None:
        self.say(f"warm parent {parent.popen.pid} is retired: {why}")
        if not parent.ready or not parent.forks:  # one that worked is replaced at once
            self.failed[parent.key] = time.monotonic() + AGAIN_S
        self._end(parent)

    def _end(self, parent: Parent) -> None:
        """Let go of it. Its forks are the launcher's children and go on."""
        for held in (self.current, self.next):
            if held.get(parent.key) is parent:
                del held[parent.key]
        self.selector.unregister(parent.sock)
        parent.sock.close()
        if parent.popen.returncode is None:
            self.ending[parent.popen.pid] = parent.popen
            with contextlib.suppress(ProcessLookupError):
                os.kill(parent.popen.pid, signal.SIGKILL)

    def reaped(self, pid: int, status: int) -> None:
        """The launcher waited for its child `pid`, which may have been a parent."""
        popen = self.ending.pop(pid, None)
        for parent in [*self.current.values(), *self.next.values()]:
            if parent.popen.pid == pid:
                parent.popen.returncode = status
                if parent.ready:
                    self._failed(parent, f"it ended with status {status}")
                else:
                    self._heard(parent)  # it may have said why
                return
        if popen is not None:
            popen.returncode = status

    def listed(self) -> list[dict[str, Any]]:
        """What there is, for people and tests."""
        return [
            {"pid": each.popen.pid, "ready": each.ready, "forks": each.forks, "imports": list(each.key[1])}
            for each in self.current.values()
        ]

    def look_after(self) -> None:
        """End those that nobody has used for long."""
        now = time.monotonic()
        for parent in [each for each in self.current.values() if each.ready and now - each.used > IDLE_S]:
            self.say(f"warm parent {parent.popen.pid} is ended: unused for {IDLE_S / 60:.0f} minutes")
            self._end(parent)
        self.failed = {key: until for key, until in self.failed.items() if until > now}

    def close(self) -> None:
        """End them all."""
        for parent in [*self.current.values(), *self.next.values()]:
            self._end(parent)


def key_of(spec: ShardSpec) -> Key:
    """What two shards must have in common to be forks of one parent. Raises Cold when none can be right for `spec`.

    A module may read any variable when it is imported, so all count but the slot's and the run's own.
    """
    argv = spec.inner or spec.argv
    if len(argv) < 2 or not os.path.isabs(argv[0]) or not (is_script(argv[1]) or argv[1] == REFEREE):
        raise Cold("its command is not `python script.py …`")
    environment = []
    for name, value in sorted(spec.env.items()):
        if name in _PER_RUN or name in _THREADS or name == "PYTHONPATH" or name.startswith("COCKPIT_"):
            continue
        if name == "HOME" and spec.run_dir in value:  # as it is in a box of level 2
            value = _NO_HOME
        if spec.run_dir in value:
            raise Cold(f"its variable {name} names the run's own directory")
        environment.append((name, value))
    return argv[0], spec.warm, tuple(environment)


def _receive(sock: socket.socket) -> dict[str, Any]:
    """One message. Raises OSError when it does not come, ValueError when it is none."""
    size = struct.unpack("!I", _exactly(sock, 4))[0]
    if size > 1 << 16:
        raise ValueError("an answer of more than 64 KiB")
    found = json.loads(_exactly(sock, size))
    if not isinstance(found, dict):
        raise ValueError("an answer that is no object")
    return found


def _exactly(sock: socket.socket, size: int) -> bytes:
    body = b""
    while len(body) < size:
        piece = sock.recv(size - len(body))
        if not piece:
            raise ConnectionError("the connection was closed")
        body += piece
    return body
