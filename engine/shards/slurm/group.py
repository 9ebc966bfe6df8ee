"""The agents of one shard over several nodes: one leads and is the shard's agent to all others, the rest do as it says.

They tell one another by files of the step's directory, each said anew in place (see `order.shared_names`):

    meet      the leading agent: where the ranks meet; the others start theirs then
    beat.N    the agent of node N: it lives; the leading one looks at these, the others at its own `beat`
    end.N     the agent of node N: how its ranks ended, with the last lines that they printed
    ask       the leading agent: end, gently or at once
    lost      the leading agent: which nodes it has taken for lost

Any rank that fails ends all of them, and the shard ended as the first one that failed by itself did: others fail for want of
it. So the leading agent waits for the ends of all, or for one to be silent, before it says how the shard ended. A stop reaches
every agent as a signal; a limit, the time and a failure by `ask`. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from engine.shards import process
from engine.shards.ranks import address_towards, free_port
from engine.shards.slurm.agent import KILL_AFTER_S, Agent, Ended, filled
from engine.shards.slurm.blame import GENTLE, End, accused, failed_at, verdict
from engine.shards.slurm.order import Order, put, stands, tell, told
from engine.shards.slurm.step import CLAIMED, OVER, SILENT_S
from engine.shards.spec import MEETING, NODE, How, ShardSpec

LOOK_S = 1.0  # how often they look at what others say
FIRST_S = 60.0  # until the first heartbeat of another node's agent; until there is a place to meet
LONGEST_S = SILENT_S + KILL_AFTER_S + 5.0  # from asking the others to end until they are taken for lost, beating or not
MORE_S = 120.0  # that the other agents let their ranks run longer: whether it is time is the leading agent's to say
TAIL = 16 << 10  # bytes of a node's last lines that go into the shard's own log
ASK_S, TRIES = 4.0, 3  # of asking Slurm for the nodes' addresses


class Pulse:
    """Whether somebody else's heartbeat goes on."""

    def __init__(self, first_s: float = FIRST_S) -> None:
        self._seen: object = None
        self._until = time.monotonic() + first_s

    def silent(self, beat: object) -> bool:
        """Take in what the heartbeat says now (None: it cannot be read); True once it has said nothing new for too long."""
        if beat is not None and beat != self._seen:
            self._seen, self._until = beat, time.monotonic() + SILENT_S
        return time.monotonic() > self._until


class Lead(Agent):
    """The agent of the first node."""

    def __init__(self, place: Path, order: Order) -> None:
        super().__init__(place, order)
        self.ends: dict[int, End] = {}
        self.lost: dict[int, str] = {}
        self.pulses: dict[int, Pulse] = {}
        self.names = dict(enumerate(order.nodes))  # until they say themselves
        self.until = float("inf")  # when the time of all is over
        self.said: How | None = None  # the others are to end
        self.said_now = False

    def _directory(self) -> int:
        directory = super()._directory()
        try:
            where = self._meeting_place()
            self.spec = replace(filled(self.spec, {NODE: "0", MEETING: where}), rendezvous=where)
            tell(self.place, "meet", self.order.nonce, self._self() | {"at": where})
        except OSError:
            os.close(directory)
            raise
        self.pulses = {n: Pulse() for n in range(1, self.order.spec.nodes)}
        self.next_look = time.monotonic() + LOOK_S
        self.until = time.monotonic() + self.spec.timeout_s
        return directory

    def _meeting_place(self) -> str:
        """`host:port`: a port that is free, of the address by which this node reaches the second one. Raises OSError."""
        found: dict[str, str] = {}
        for _ in range(TRIES):
            if found := addresses(self.order):
                break
            self.selector.select(LOOK_S)
            self._beat()
        found = found or {each: each for each in self.order.nodes}
        other = next((address for name, address in found.items() if name != self.node), None)
        if other is None:
            raise OSError("Slurm does not say where its other nodes are")
        address = address_towards(other)
        return f"{address}:{free_port('::' if ':' in address else '0.0.0.0')}"

    # --- the others

    def _elsewhere(self) -> list[int]:
        """The nodes whose agents have neither ended nor been lost."""
        return [n for n in self.pulses if n not in self.ends and n not in self.lost]

    def _look_around(self) -> None:
        self.next_look, nonce = time.monotonic() + LOOK_S, self.order.nonce
        for n in self._elsewhere():
            with contextlib.suppress(KeyError, TypeError, ValueError):
                if (said := told(self.place, f"end.{n}", nonce)) is not None:
                    self.ends[n] = End.read(said)
                    continue
            beat = told(self.place, f"beat.{n}", nonce)
            self.names[n] = str((beat or {}).get("node", "")) or self.names.get(n, "")
            if self.pulses[n].silent(beat):
                self.lost[n] = self.names[n] or f"number {n}"
        for each in self.ends.values():
            if (
                each.how in GENTLE
            ):  # its ranks were asked to end and could save: so may these, if they were not asked too
                self._ask(each.how)
        if self.lost or any(each.failed for each in self.ends.values()):
            self._say("exited", now=True)
            if self.popen is not None and self.popen.returncode is None and self.how == "exited" and not self.ending:
                self.ending = True
                self._kill()

    def _say(self, how: How, now: bool) -> None:
        """Have the other agents end their ranks; at once is said after gently, never the other way round."""
        if self.said_now or (self.said and not now):
            return
        self.said, self.said_now = how, now
        with contextlib.suppress(OSError):  # else they end when they hear nothing more from here
            tell(self.place, "ask", self.order.nonce, {"how": how, "now": now})

    def _begin_stop(self, how: How) -> None:
        super()._begin_stop(how)
        self._say(how, now=False)

    def _together(self, ended: Ended) -> Ended:
        tail = tail_of(self.spec)
        own = End(self.node, self.how, ended[0], failed_at(tail), ended[1], ended[2], self.error, self.ending, tail)
        if not own.well:
            self._say(self.how, now=self.how not in GENTLE)
        self._gather(own.well)
        if self.fenced:
            return ended
        known = verdict(replace(own, how=self.how), list(self.ends.values()), list(self.lost.values()))
        self.how, self.error = known.how, known.error
        if self.lost:
            with contextlib.suppress(OSError):
                tell(self.place, "lost", self.order.nonce, {"nodes": list(self.lost.values())})
        self._quote(known)
        return known.status, known.memory, own.cpu_s + sum(each.cpu_s for each in self.ends.values())

    def _gather(self, well: bool) -> None:
        """Wait until the others have ended too, or are lost. An allocation that is taken back leaves no time for it."""
        until = self.until if well else time.monotonic() + LONGEST_S
        while self._elsewhere() and "preempted" not in (self.how, self.asked) and not self.fenced:
            for key, mask in self.selector.select(LOOK_S / 4):
                key.data(mask)
            now = time.monotonic()
            if now >= self.next_beat:
                self._beat()
            self._look_around()
            if well and (self.asked or self.said or now >= until):
                well, until = False, now + LONGEST_S
                if not self.said:
                    self.how = self.asked or "timeout"
                    self._say(self.how, now=False)
            elif now >= until:
                self.lost |= {n: self.names.get(n) or f"number {n}" for n in self._elsewhere()}
        if self.how == "exited" and well and self.asked:
            self.how = self.asked

    def _quote(self, known: End) -> None:
        """Say in the shard's log which node's ranks failed first and what they said, and in which files the rest is."""
        lines = []
        for n, each in self.ends.items():
            if each.failed:
                order = "first" if each is known else "too"
                name = named(self.order.spec.output, n)
                lines.append(f"cockpit: the ranks on {each.node} failed {order}; what they said is in {name}")
        if not lines:
            return
        said = accused(known.tail) or ("" if known.node == self.node else known.tail)
        body = "\n".join([*lines, *([f"cockpit: what was said first, on {known.node}:", said] if said else []), ""])
        with contextlib.suppress(OSError):
            directory = process.open_directory(self.spec.run_dir)
            try:
                with open(process.open_log(directory, self.spec.output), "ab") as log:
                    log.write(body.encode(errors="replace"))
            finally:
                os.close(directory)

    def _record(self, status: int | None, memory: int, cpu_s: float) -> int:
        code = super()._record(status, memory, cpu_s)
        if code == 0:  # srun would wait long for a node that is lost
            self.beats += 1
            with contextlib.suppress(OSError):
                put(self.place, "beat", self._self() | {"beat": self.beats, OVER: True})
        return code


class Other(Agent):
    """The agent of a further node, of that number."""

    def __init__(self, place: Path, order: Order, number: int) -> None:
        super().__init__(place, order)
        self.number = number
        self.told = False  # to end
        self.pulse = Pulse()
        spec = self.spec
        self.spec = replace(
            spec,
            output=named(spec.output, number),
            record=named(spec.record, number),  # never written: it marks the processes as this node's
            timeout_s=spec.timeout_s + MORE_S,
            disk=0,  # the leading agent's to look at, as are names that are not to be left behind
            reserved=(),
        )

    def _take(self) -> int | None:
        """Wait until there is a place to meet."""
        until, nonce = time.monotonic() + FIRST_S, self.order.nonce
        while True:
            if time.monotonic() >= self.next_beat:
                self._beat()
            if self.fenced or time.monotonic() > until:
                return CLAIMED
            met = told(self.place, "meet", nonce)
            if met is not None and met.get("step") == self._self()["step"]:
                where = str(met.get("at", ""))
                self.spec = replace(filled(self.spec, {NODE: str(self.number), MEETING: where}), rendezvous=where)
                return None
            if told(self.place, "ask", nonce) is not None:
                return 0
            for key, mask in self.selector.select(LOOK_S / 4):
                key.data(mask)

    def _directory(self) -> int:
        self.next_look = time.monotonic() + LOOK_S
        return process.open_directory(self.spec.run_dir)

    def _tell_beat(self, body: Mapping[str, object]) -> None:
        tell(self.place, f"beat.{self.number}", self.order.nonce, body)

    def _look_around(self) -> None:
        self.next_look, nonce = time.monotonic() + LOOK_S, self.order.nonce
        asked = told(self.place, "ask", nonce)
        if self.pulse.silent(told(self.place, "beat", nonce)):
            print("cockpit: no heartbeat from the first node: its ranks end here too", flush=True)
            self.fenced = True
            self._kill()
        elif asked is not None and not self.told:
            self.told = self.ending = asked.get("now") is True
            if self.told:
                self._kill()
            elif asked.get("how") in GENTLE:
                self._ask(asked["how"])

    def _record(self, status: int | None, memory: int, cpu_s: float) -> int:
        told_to = self.told or self.how in GENTLE
        tail = "" if self.popen is None else tail_of(self.spec)
        end = End(self.node, self.how, status, failed_at(tail), memory, cpu_s, self.error, told_to, tail)
        while not self.fenced and stands(self.place, self.order.nonce):
            try:
                tell(self.place, f"end.{self.number}", self.order.nonce, asdict(end))
                return 0
            except OSError as trouble:
                print(f"cockpit: the end of node {self.number} cannot be said yet: {trouble}", flush=True)
                self._beat()
                time.sleep(LOOK_S)
        return CLAIMED


def tail_of(spec: ShardSpec) -> str:
    """The last whole lines of its output; the shard may have put anything in the place of that."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(OSError), open(os.open(Path(spec.run_dir, spec.output), flags), "rb") as file:
        info = os.fstat(file.fileno())
        if stat.S_ISREG(info.st_mode):
            file.seek(max(0, info.st_size - TAIL))
            body = file.read(TAIL)
            return (body.partition(b"\n")[2] if info.st_size > TAIL else body).decode(errors="replace")
    return ""


def named(name: str, number: int) -> str:
    """The name of another node's file: `output.node1.log`."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem or ending}.node{number}{dot}{ending if stem else ''}"


def addresses(order: Order) -> dict[str, str]:
    """Node to its address as Slurm's own daemons use it, of this step; empty where Slurm does not say."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or order.node
    sinfo = os.path.join(os.path.dirname(order.scancel), "sinfo")
    words = [sinfo, "--noheader", "--Node", f"--nodes={nodes}", "--format=%N %o"]
    try:
        done = subprocess.run(words, env=dict(order.env), capture_output=True, timeout=ASK_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = (line.split() for line in done.stdout.decode(errors="replace").splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}


def agent_of(place: Path, order: Order) -> Agent:
    """The agent of the node that this process is on."""
    number = int(os.environ.get("SLURM_NODEID", "0"))
    return Other(place, order, number) if number else Lead(place, order)
