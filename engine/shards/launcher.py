"""The parent of all local shards: starts, stops and reaps them, writes their exit records, and outlives the engine.

    python -m engine.shards.launcher STATE_DIR

Small and stable on purpose: one thread, the standard library only, no project code of the lab, no secret in its
environment. It takes no decision; it answers JSON lines on a Unix socket (docs/architecture.md). Without `--foreground`
it detaches and returns when it answers: exit status 0, or 3 when another launcher of this state directory runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.paths import StateDir
from engine.shards import process, resuming
from engine.shards.alone import detach, take_lock
from engine.shards.limits import Watch
from engine.shards.output import Output, Outputs
from engine.shards.parents import Forked, Parents
from engine.shards.records import make_key, sealed
from engine.shards.spec import ExitRecord, How, ShardSpec
from engine.shards.wire import Answer, BadRequest, Client, Wire

VERSION = 1
TICK_S = 2.0  # how often it looks whether its socket is still there, and tries again what failed
IDLE_S = 900.0  # with nothing running and nobody connected it ends; the next launch starts another
KILL_AFTER_S = 10.0  # between TERM and KILL after a timeout
ANOTHER_RUNS = 3


@dataclass(slots=True)
class Running:
    """One process, from its start until its exit record is on disk."""

    spec: ShardSpec
    popen: subprocess.Popen[bytes] | Forked
    directory: int
    output: Output
    started: float
    deadline: float  # monotonic: when the next signal is due
    how: How = "exited"
    error: str | None = None
    record: ExitRecord | None = None
    complained: bool = False


class Launcher:
    """The single-threaded loop. `lock` is the locked descriptor of `launcher.lock`, held until the process ends."""

    def __init__(self, state: StateDir, lock: int) -> None:
        self.state = state
        self.lock = lock
        self.running: dict[str, Running] = {}
        self.selector = selectors.DefaultSelector()
        self.wire = Wire(self.selector, self.answer)
        self.outputs = Outputs(self.selector)
        self.parents = Parents(self.selector, say)
        self.watching = Watch()
        self.key = make_key(state.launcher_key)
        self.done = False
        self.ending = False
        self.used = time.monotonic()
        self.ops: dict[str, Callable[[Client, Answer], Answer]] = {
            "launch": self.launch,
            "list": self.list,
            "stop": self.stop,
            "watch": self.watch,
            "retire": self.retire,
        }

    # --- the loop

    def serve(self) -> None:
        """Answer and reap until retired, idle for long, told to end, or without a state directory."""
        wake_r, wake_w = socket.socketpair()
        wake_r.setblocking(False)
        wake_w.setblocking(False)
        signal.set_wakeup_fd(wake_w.fileno(), warn_on_full_buffer=False)
        self.selector.register(wake_r, selectors.EVENT_READ, lambda mask: self._drain(wake_r))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, lambda *_: None)  # a handler, not SIG_IGN, which shards would inherit
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        while not self.done:
            for key, mask in self.selector.select(self._wait_s()):
                key.data(mask)
            self.outputs.wake()
            self._reap()
            self._signal_due()
            self._end_excess()
            self._look_after()
        self.parents.close()
        self.wire.close()

    @staticmethod
    def _drain(wake: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while wake.recv(4096):
                pass

    def _wait_s(self) -> float:
        due = min((each.deadline for each in self.running.values() if each.record is None), default=float("inf"))
        own = min(due - time.monotonic(), self.outputs.wait_s(), self.watching.wait_s(self._alive()))
        return max(0.0, min(TICK_S, own))

    def _alive(self) -> list[tuple[ShardSpec, int]]:
        return [(each.spec, each.popen.pid) for each in self.running.values() if each.record is None]

    def _end(self) -> None:
        """SIGTERM: the machine goes down, or a person wants it gone. Shards get a moment, then it ends."""
        self.ending = True
        for each in self.running.values():
            self._begin_stop(each, "stopped", 5.0)

    def _look_after(self) -> None:
        gone = not self.state.root.is_dir()
        self.parents.look_after()
        for each in [each for each in self.running.values() if each.record is not None]:
            self._write_record(each)  # the disk was full, perhaps
            if gone:
                self.running.pop(each.spec.id, None)
        if self.running or self.wire.clients:
            self.used = time.monotonic()
        if self.ending and not self.running:
            self.done = True
        if not self.running and (gone or time.monotonic() - self.used > IDLE_S):
            self.done = True
        if not self.done and not self.wire.is_there():
            with contextlib.suppress(OSError):
                self.bind()

    def bind(self) -> None:
        """Listen, and say in the lock file where, for an engine whose environment differs. Raises OSError."""
        fallback = Path(tempfile.gettempdir()) / f"cockpit-{os.getuid()}" / self.state.runtime.name
        self.wire.bind((self.state.runtime, fallback), "launcher.sock")  # a logout may take $XDG_RUNTIME_DIR away
        body = json.dumps({"pid": os.getpid(), "socket": self.wire.path, "version": VERSION}).encode()
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, body + b"\n", 0)

    # --- requests

    def answer(self, client: Client, request: Answer) -> Answer:
        """Carry out one request. Raises BadRequest, SpecError and OSError, which the wire turns into answers."""
        op = self.ops.get(str(request.get("op")))
        if op is None:
            raise BadRequest(f"no such request; there are {', '.join(sorted(self.ops))}")
        return op(client, request)

    def launch(self, client: Client, request: Answer) -> Answer:
        spec = ShardSpec.from_json(request.get("spec"))
        if spec.id in self.running:
            return {"pid": self.running[spec.id].popen.pid, "known": True, "state": "running"}
        if os.path.isfile(os.path.join(spec.run_dir, spec.record)):
            return {"pid": None, "known": True, "state": "ended"}
        if self.ending:
            raise BadRequest("the launcher is ending")
        if spec.fresh:
            try:
                os.mkdir(spec.run_dir, 0o700)
            except FileExistsError:
                return {"pid": None, "known": True, "state": "lost"}
        return self._start(spec, process.open_directory(spec.run_dir))

    def _start(self, spec: ShardSpec, directory: int) -> Answer:
        now = time.time()
        try:
            if spec.fresh:
                os.mkdir("tmp", 0o700, dir_fd=directory)
                if spec.resume_from is not None:
                    resuming.begin(directory, spec.resume_from, spec.attempt)
            output, end = self.outputs.begin(process.open_log(directory, spec.output), spec.log_bytes)
            try:
                popen = self._begin(spec, directory, end)
            except BaseException:
                self.outputs.finish(output)
                raise
            finally:
                os.close(end)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            say(f"{spec.id} could not be started: {error}")
            failed = ExitRecord(spec.id, "start-failed", None, None, now, time.time(), None, error=str(error)[:2000])
            try:
                process.write_durably(directory, spec.record, sealed(failed, self.key))
            finally:
                os.close(directory)
            self.wire.tell({"event": "ended", "id": spec.id, "record": spec.record})
            return {"pid": None, "known": False, "state": "ended"}
        self.running[spec.id] = Running(spec, popen, directory, output, now, time.monotonic() + spec.timeout_s)
        say(f"{spec.id} started as {popen.pid}{', warm' if isinstance(popen, Forked) else ''}")
        return {"pid": popen.pid, "known": False, "state": "running"}

    def _begin(self, spec: ShardSpec, directory: int, log: int) -> subprocess.Popen[bytes] | Forked:
        """Start it. Its spec is on the disk before anything of it runs, and is written there while its box is being built."""
        asked = self.parents.ask(spec, log)
        name = spec.record.replace("exit", "spec") if "exit" in spec.record else f"spec-{spec.record}"
        try:
            process.write_durably(directory, name, json.dumps(spec.to_json(), indent=1).encode())
        except BaseException:
            if asked is not None:
                asked.drop()
            raise
        forked = None if asked is None else self.parents.start(asked)
        return forked or process.start(spec, log)

    def list(self, client: Client, request: Answer) -> Answer:
        running = [
            {"id": each.spec.id, "pid": each.popen.pid, "started": each.started}
            | {"run_dir": each.spec.run_dir, "record": each.spec.record}
            for each in self.running.values()
        ]
        return {"running": running, "pid": os.getpid(), "version": VERSION, "warm": self.parents.listed()}

    def stop(self, client: Client, request: Answer) -> Answer:
        grace = request.get("grace_s", KILL_AFTER_S)
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace < float("inf"):
            raise BadRequest("grace_s: seconds from 0")
        found = self.running.get(str(request.get("id")))
        if found is not None:
            self._begin_stop(found, "stopped", float(grace))
        return {"running": found is not None}

    def watch(self, client: Client, request: Answer) -> Answer:
        client.watching = True
        return {}

    def retire(self, client: Client, request: Answer) -> Answer:
        if self.running:
            raise BadRequest(f"{len(self.running)} shards run")
        self.done = True
        return {}

    # --- ends

    def _begin_stop(self, each: Running, how: How, grace_s: float) -> None:
        if each.record is not None:
            return
        due = time.monotonic() + grace_s
        if each.how != "exited":  # it is being stopped already: the sooner end and the first reason stand
            each.deadline = min(each.deadline, due)
            return
        each.how, each.deadline = how, due
        if grace_s > 0:
            process.signal_group(each.popen.pid, signal.SIGTERM)

    def _signal_due(self) -> None:
        now = time.monotonic()
        for each in self.running.values():
            if each.record is not None or now < each.deadline:
                continue
            if each.how == "exited":
                self._begin_stop(each, "timeout", KILL_AFTER_S)
            else:
                self._kill(each)

    def _kill(self, each: Running) -> None:
        known = self.watching.processes_of(each.spec.id)
        process.kill_rest(each.popen.pid, process.marker(each.spec), known)
        each.deadline = time.monotonic() + TICK_S  # should it be stuck in the kernel, try again

    def _end_excess(self) -> None:
        """Kill who takes more than it is allowed. One that is being stopped already keeps that as its reason."""
        for breach in self.watching.look(self._alive()):
            each = self.running[breach.shard]
            say(f"{breach.shard} is ended: it {breach.why}")
            if each.how == "exited":
                each.how, each.error = breach.how, breach.why
            self._kill(each)

    def _reap(self) -> None:
        """Take in every child that ended: shards, and orphans of shards that became ours."""
        leaders = {each.popen.pid: each for each in self.running.values() if each.record is None}
        with contextlib.suppress(ChildProcessError):
            while (pid := _ended_child()) is not None:
                found = leaders.get(pid)
                if found is not None:  # first, since until it is reaped its number cannot mean another process
                    self._kill(found)
                _, status, usage = os.wait4(pid, 0)
                self.parents.reaped(pid, status)
                if found is not None:
                    cpu_s = usage.ru_utime + usage.ru_stime
                    self._ended(found, os.waitstatus_to_exitcode(status), usage.ru_maxrss, cpu_s)

    def _ended(self, each: Running, status: int, max_rss: int, cpu_s: float) -> None:
        each.popen.returncode = status
        if isinstance(each.popen, Forked):
            os.close(each.popen.life)  # whatever is left in its box ends now
        lost = self.outputs.finish(each.output)
        if lost:
            say(f"{each.spec.id}: {lost}")
        each.record = ExitRecord(
            id=each.spec.id,
            how=each.how,
            code=status if status >= 0 else None,
            signal=-status if status < 0 else None,
            started=each.started,
            ended=time.time(),
            pid=each.popen.pid,
            max_rss=max_rss * (1 if sys.platform == "darwin" else 1024),
            cpu_s=round(cpu_s, 3),
            error=each.error,
        )
        self._write_record(each)

    def _write_record(self, each: Running) -> None:
        assert each.record is not None
        spec = each.spec
        body = sealed(each.record, self.key)
        try:
            with contextlib.suppress(OSError):
                os.fchmod(each.directory, 0o700)
            for name in spec.reserved if spec.fresh else ():
                process.clear(each.directory, name)
            if not os.path.isdir(spec.run_dir):  # the shard removed or moved it
                os.mkdir(spec.run_dir, 0o700)
                os.close(each.directory)
                each.directory = process.open_directory(spec.run_dir)
            process.write_durably(each.directory, spec.record, body)
        except OSError as error:
            if not each.complained:
                say(f"{spec.id}: its exit record cannot be written yet: {error}")
            each.complained = True
            return
        os.close(each.directory)
        del self.running[spec.id]
        say(f"{spec.id} ended: {json.dumps(each.record.to_json())}")
        self.wire.tell({"event": "ended", "id": spec.id, "record": spec.record})


def _ended_child() -> int | None:
    """A child that ended and was not waited for yet. Raises ChildProcessError when there are no children."""
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if found is None else found.si_pid


def say(text: str) -> None:
    """One line to the launcher's log."""
    with contextlib.suppress(OSError):
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    """Run the launcher of the state directory that `argv` names. Returns the exit status."""
    words = [each for each in argv if each != "--foreground"]
    if len(words) != 1 or words[0].startswith("-"):
        print("usage: python -m engine.shards.launcher [--foreground] STATE_DIR", file=sys.stderr)
        return 2
    os.umask(0o077)
    state = StateDir(Path(words[0]).resolve())
    tell = None if "--foreground" in argv else detach()

    def ready(status: int) -> int:
        if tell is not None:
            with contextlib.suppress(OSError):
                os.write(tell, bytes([status]))
                os.close(tell)
        return status

    lock = take_lock(state)
    if lock is None:
        return ready(ANOTHER_RUNS)
    process.adopt_orphans()
    left = process.kill_orphans(str(state.root))
    if left:
        say(f"killed {left} processes that an earlier launcher's shards left behind")
    launcher = Launcher(state, lock)
    try:
        launcher.bind()
    except OSError as error:
        say(f"cannot listen: {error}")
        return ready(1)
    say(f"listening on {launcher.wire.path}")
    ready(0)
    launcher.serve()
    say("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
