"""One step from the login node's side: starts srun until an agent has taken the shard, then listens for its heartbeat.

    step.main([PLACE])       in a process of its own, which the launcher starts, so it outlives the engine

A controller that was just restarted refuses steps for seconds, so a refusal is tried again, ever more seldom. srun does not
notice a dead node for half a minute; a silent heartbeat ends it sooner. A TERM reaches the agent by scancel, as a signal that
the shard itself does not notice; killed, srun takes the step with it. There is one beside every shard, so it imports nothing
that is slow: not even the engine's own modules.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from types import FrameType

SILENT_S = 20.0  # without a heartbeat, the node is taken for lost
OVER_S = 3.0  # that srun may last after the last heartbeat said "over": a step that lost one of several nodes hangs
OVER = "over"  # what the last heartbeat then has
LOOK_S = 1.0  # how often the heartbeat is looked at
HELD_UP_S = 6.0  # between two looks, which a file system that answers never takes: a heartbeat's time and the look's
FIRST_S, MOST_S = 0.25, 5.0  # between two tries to start the step
PATIENCE_S = 180.0  # of refusals, before it is given up
RECORDED = "cockpit: recorded"  # last line of an agent that wrote the record: srun's code is 0 for a dead node too
CLAIMED = 65  # exit code of an agent: another one had taken the shard
UNSTARTED, SILENT = 75, 76  # of this side: no step could be started; the heartbeat stopped
ASK = "URG"  # what tells the agent to stop its shard


class Step:
    """The client's side of one step. `order` is what `engine.shards.slurm.order` wrote."""

    def __init__(self, place: str, order: dict[str, object]) -> None:
        self.place = place
        self.order = order
        env = order["env"]
        assert isinstance(env, dict)
        own = {name: value for name, value in os.environ.items() if name.startswith("COCKPIT_")}  # who started it
        self.env = {**env, **own}
        self.srun = 0
        self.stopping = False

    def run(self) -> int:
        """Return the exit code: srun's own, or why there is none."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # it is waited for, below
        deadline, wait_s = time.monotonic() + PATIENCE_S, FIRST_S
        while not self.stopping:
            code = self._attempt()
            if code == SILENT or os.path.exists(f"{self.place}/claim"):
                return code
            if self.stopping or time.monotonic() > deadline:
                break
            time.sleep(wait_s)
            wait_s = min(MOST_S, 2 * wait_s)
        return UNSTARTED

    def _attempt(self) -> int:
        """Run srun once, to its end or until the heartbeat has stopped."""
        self.srun = self._begin()
        seen, since, looked = b"", time.monotonic(), time.monotonic()
        while True:
            signal.sigtimedwait({signal.SIGCHLD}, LOOK_S)
            pid, status = os.waitpid(self.srun, os.WNOHANG)
            if pid:
                self.srun = 0
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            beat, now = self._beat(), time.monotonic()
            if now - looked > HELD_UP_S or beat is None:  # the file system was away: the agents could not write either
                since = now
            looked = now
            if beat is not None and beat != seen:
                seen, since = beat, now
            elif beat and f'"{OVER}"'.encode() in beat and now - since > OVER_S:
                self._end()
                return 0
            elif beat and now - since > SILENT_S:
                print(f"cockpit: no heartbeat from {self.order['node'] or 'its node'} for {SILENT_S:.0f} s", flush=True)
                self._end()
                return SILENT

    def _end(self) -> None:
        os.kill(self.srun, signal.SIGKILL)
        os.waitpid(self.srun, 0)
        self.srun = 0

    def _begin(self) -> int:
        """srun, in a session of its own: the launcher's TERM is for this process alone, srun would end the step at once."""
        words, parent = self.order["srun"], os.getpid()
        assert isinstance(words, list)
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # it goes with this process
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
                if os.getppid() == parent:
                    os.execve(words[0], words, self.env)
            finally:
                os._exit(127)
        return pid

    def _beat(self) -> bytes | None:
        """What the agent wrote last; empty before it has; None where it cannot be read now."""
        try:
            with open(f"{self.place}/beat", "rb") as file:
                return file.read(4096)
        except FileNotFoundError:
            return b""
        except OSError:
            return None

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:
            return
        self.stopping = True
        try:
            with open(f"{self.place}/claim", "rb") as file:
                step = str(json.load(file)["step"])
        except (OSError, ValueError, KeyError):
            if self.srun:
                os.kill(self.srun, signal.SIGKILL)
            return
        program = str(self.order["scancel"])
        os.posix_spawn(program, [program, f"--signal={ASK}", step], self.env)


def main(argv: list[str]) -> int:
    """Do what the module's text says."""
    os.chdir("/")
    with open(f"{argv[0]}/order.json", "rb") as file:
        return Step(argv[0], json.load(file)).run()
