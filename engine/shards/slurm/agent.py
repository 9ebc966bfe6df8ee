"""The program inside a step: takes the shard, runs it in its box, writes its exit record, and says all the while that it lives.

    agent.main([PLACE])       runs the shard whose order lies there
    agent.main(["--probe"])   says how well shards can be boxed on this node, as one line of JSON

It is what the launcher is on one machine: it makes the run directory exclusively, hands over a complete environment (its own
has nothing but what Slurm set), keeps the log and the limits, and sweeps up what the shard left behind. URG says that the shard
is to be stopped: a signal to a step reaches all its processes, and that one the others do not notice. TERM comes from Slurm,
which sends it to the shard too: the allocation is taken back. Of a shard over several nodes there is one on each; what is
different then is in `engine.shards.slurm.group`. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.shards import process, resuming
from engine.shards.output import Output, Outputs
from engine.shards.slurm.order import BEAT_S, GPUS, Order, claim, put, read, record_end, stands
from engine.shards.slurm.step import CLAIMED, RECORDED
from engine.shards.spec import ExitRecord, How, ShardSpec

if TYPE_CHECKING:
    from engine.shards.limits import Watch

KILL_AFTER_S = 10.0  # between TERM and KILL
TICK_S = 2.0
MOMENT_S = 0.5
WARNED = signal.SIGWINCH  # tells the agent of a job of its own that its time is nearly over; all others ignore it


Ended = tuple[int | None, int, float]
"""Of a process: its exit code, or its signal below 0 (None: it never began); bytes of memory; CPU seconds."""


def filled(spec: ShardSpec, values: Mapping[str, str]) -> ShardSpec:
    """The spec with what these words stand for in their places."""

    def put(text: str) -> str:
        for word, value in values.items():
            text = text.replace(word, value)
        return text

    return replace(
        spec,
        argv=tuple(map(put, spec.argv)),
        inner=tuple(map(put, spec.inner)),
        walls=tuple(map(put, spec.walls)),
        env={name: put(value) for name, value in spec.env.items()},
    )


def on_node(spec: ShardSpec, gpus: str) -> ShardSpec:
    """The spec with the GPUs that Slurm gave this step (as CUDA_VISIBLE_DEVICES names them) wherever they are meant."""
    return replace(filled(spec, {GPUS: gpus}), gpus=tuple(filter(None, gpus.split(","))) if spec.gpus else ())


class Agent:
    """Runs one shard from its claim to its record. What an agent of several does otherwise is below "of several"."""

    def __init__(self, place: Path, order: Order) -> None:
        self.place = place
        self.order = order
        self.node = os.environ.get("SLURMD_NODENAME", "")
        self.gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self.spec = on_node(order.spec, self.gpus)
        self.selector = selectors.DefaultSelector()
        self.outputs = Outputs(self.selector)
        self.watching: Watch | None = None
        self.popen: subprocess.Popen[bytes] | None = None
        self.how: How = "exited"
        self.error: str | None = None
        self.asked: How | None = None  # to end, and why
        self.deadline = 0.0
        self.ending = False  # for the sake of other nodes' ranks, which is no end of its own
        self.next_beat = 0.0
        self.next_look = float("inf")  # at the agents of other nodes
        self.beats = 0
        self.fenced = False  # its order was taken away
        self.started = 0.0

    def run(self) -> int:
        """Run the shard; it is 0 where a record was written."""
        self._hear()
        if (code := self._take()) is not None:
            return code
        self._beat()
        process.adopt_orphans()
        self.started = time.time()
        try:
            directory = self._directory()
            output = self._start(directory)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            self.how, self.error = "start-failed", f"on {self.node}: {error}"[:2000]
            return self._record(*self._together((None, 0, 0.0)))
        return self._until_it_ends(directory, output)

    def _hear(self) -> None:
        wake_r, wake_w = os.pipe()
        for each in (wake_r, wake_w):
            os.set_blocking(each, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        self.selector.register(wake_r, selectors.EVENT_READ, lambda mask: _drain(wake_r))
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGURG, lambda *_: self._ask("stopped"))
        signal.signal(signal.SIGTERM, lambda *_: self._ask("preempted"))
        signal.signal(WARNED, lambda *_: self._ask("timeout"))

    def _self(self) -> dict[str, str]:
        job, step = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_STEP_ID", "")
        return {"nonce": self.order.nonce, "node": self.node, "step": f"{job}.{step}", "gpus": self.gpus}

    def _ask(self, how: How) -> None:
        self.asked = self.asked or how

    # --- of several

    def _take(self) -> int | None:
        """Take the shard; the code to exit with at once where it is not for this agent."""
        return None if claim(self.place, self._self() | {"at": time.time()}) else CLAIMED

    def _look_around(self) -> None:
        """See to the agents of other nodes."""

    def _together(self, ended: Ended) -> Ended:
        """How the shard ended, whose process on this node has."""
        return ended

    def _tell_beat(self, body: Mapping[str, object]) -> None:
        put(self.place, "beat", body)

    def _directory(self) -> int:
        """Make the run directory, or open the one of an earlier step. Raises OSError."""
        spec = self.spec
        if spec.fresh:
            os.mkdir(spec.run_dir, 0o700)
            os.mkdir(os.path.join(spec.run_dir, "tmp"), 0o700)
        directory = process.open_directory(spec.run_dir)
        if spec.fresh and spec.resume_from is not None:
            resuming.begin(directory, spec.resume_from, spec.attempt)
        return directory

    def _start(self, directory: int) -> Output:
        spec = self.spec
        if self.order.spec.gpus and not spec.gpus:
            raise ValueError("Slurm gave the step no GPU, and the shard asks for one")
        name = spec.record.replace("exit", "spec") if "exit" in spec.record else f"spec-{spec.record}"
        process.write_durably(directory, name, json.dumps(spec.to_json(), indent=1).encode())
        output, end = self.outputs.begin(process.open_log(directory, spec.output), spec.log_bytes)
        try:
            self.popen = process.start(spec, end)
        except BaseException:
            self.outputs.finish(output)
            raise
        finally:
            os.close(end)
        self.deadline = time.monotonic() + spec.timeout_s
        return output

    # --- while it runs

    def _until_it_ends(self, directory: int, output: Output) -> int:
        assert self.popen is not None
        from engine.shards.limits import Watch  # once it runs, and not before

        alive, watching = [(self.spec, self.popen.pid)], Watch()
        self.watching = watching
        while True:
            now = time.monotonic()
            due = min(self.deadline, self.next_beat, self.next_look) - now
            due = min(due, self.outputs.wait_s(), watching.wait_s(alive))
            for key, mask in self.selector.select(max(0.0, min(TICK_S, due))):
                key.data(mask)
            self.outputs.wake()
            ended = self._reap()
            if ended is not None:
                break
            self._signal_due()
            for breach in watching.look(alive):
                if self.how == "exited":
                    self.how, self.error = breach.how, breach.why
                self._kill()
            if time.monotonic() >= self.next_beat:
                self._beat()
            if time.monotonic() >= self.next_look:
                self._look_around()
        self.outputs.finish(output)
        if self.how == "exited" and self.asked is None and -ended[0] in (signal.SIGTERM, signal.SIGKILL):
            self._hear_late(MOMENT_S)  # Slurm's own signal to us may come a moment after that to the shard
        if self.how == "exited" and self.asked is not None:
            self.how = self.asked
        known = self._together(ended)
        if self.how == "preempted":
            self.error = "Slurm took its allocation back"
        with contextlib.suppress(OSError):
            for name in self.spec.reserved if self.spec.fresh else ():
                process.clear(directory, name)
        os.close(directory)
        return self._record(*known)

    def _hear_late(self, seconds: float) -> None:
        """Wait so long to be asked to end, whatever else happens meanwhile: what the shard left behind ends too."""
        until = time.monotonic() + seconds
        while self.asked is None and (left := until - time.monotonic()) > 0:
            for key, mask in self.selector.select(left):
                key.data(mask)

    def _signal_due(self) -> None:
        now = time.monotonic()
        if self.asked and self.how == "exited":
            self._begin_stop(self.asked)
        elif now >= self.deadline:
            if self.how == "exited" and not self.ending:
                self._begin_stop("timeout")
            else:
                self._kill()

    def _begin_stop(self, how: How) -> None:
        assert self.popen is not None
        self.how, self.deadline = how, time.monotonic() + KILL_AFTER_S
        process.signal_group(self.popen.pid, signal.SIGTERM)

    def _kill(self) -> None:
        assert self.popen is not None
        known = self.watching.processes_of(self.spec.id) if self.watching else None
        process.kill_rest(self.popen.pid, process.marker(self.spec), known)
        self.deadline = time.monotonic() + TICK_S

    def _beat(self) -> None:
        """Say that it lives, and look whether it still may."""
        self.next_beat = time.monotonic() + BEAT_S
        if self.beats and not stands(self.place, self.order.nonce):
            self.fenced = True
            if self.popen is not None:
                self._kill()
            return
        self.beats += 1
        body = self._self() | {"beat": self.beats, "at": time.time()}
        with contextlib.suppress(OSError):  # a full disk is no reason to end a shard
            self._tell_beat(body)

    def _reap(self) -> tuple[int, int, float] | None:
        """Take in every child that ended; (status, bytes of memory, CPU seconds) of the shard once it has."""
        assert self.popen is not None
        found = None
        with contextlib.suppress(ChildProcessError):
            while (seen := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if seen.si_pid == self.popen.pid:
                    self._kill()  # what it left behind
                _, status, usage = os.wait4(seen.si_pid, 0)
                if seen.si_pid == self.popen.pid:
                    self.popen.returncode = os.waitstatus_to_exitcode(status)
                    found = self.popen.returncode, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime
        return found

    def _record(self, status: int | None, memory: int, cpu_s: float) -> int:
        record = ExitRecord(
            id=self.spec.id,
            how=self.how,
            code=status if status is not None and status >= 0 else None,
            signal=-status if status is not None and status < 0 else None,
            started=self.started,
            ended=time.time(),
            pid=None if self.popen is None else self.popen.pid,
            max_rss=memory,
            cpu_s=round(cpu_s, 3),
            error=self.error,
        )
        while stands(self.place, self.order.nonce):
            try:
                key = Path(self.order.key).read_bytes()
                record_end(Path(self.spec.run_dir), record, self.spec.record, key)
                print(RECORDED, flush=True)
                return 0
            except OSError as trouble:  # the disk is full, perhaps
                print(f"cockpit: the exit record cannot be written yet: {trouble}", flush=True)
                self._beat()
                time.sleep(TICK_S)
        print("cockpit: the order was taken away: nothing is written", flush=True)
        return CLAIMED


def _drain(wake: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(wake, 4096):
            pass


def probed(began: float) -> str:
    """How well this node can box shards, as JSON; with its clock when the program began, and now."""
    from engine.shards.devices import models
    from engine.shards.sandbox import bwrap, probe

    found = probe()
    node = os.environ.get("SLURMD_NODENAME", "")
    program = bwrap() if found.level == 3 else None
    body = {"node": node, "level": found.level, "reasons": found.reasons, "program": program, "gpus": models()}
    return json.dumps(body | {"clock": [began, time.time()]})


def main(argv: list[str]) -> int:
    """Do what `argv` says; see the module's text."""
    began = time.time()
    os.umask(0o077)
    if argv == ["--probe"]:
        os.environ.setdefault("PATH", os.defpath + ":/usr/bin:/usr/local/bin")
        print(probed(began), flush=True)
        return 0
    place = Path(argv[0])
    order = read(place)
    if order.spec.nodes > 1:
        from engine.shards.slurm.group import agent_of

        return agent_of(place, order).run()
    return Agent(place, order).run()
