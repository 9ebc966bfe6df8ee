"""Gives an idle pilot back also while no engine runs: after `cockpit down`, or when the engine died. Standard library only.

    keeper.main([STATE_DIR])     detaches, and returns when it keeps: exit status 0, also when another one does already

It does nothing as long as an engine holds its lock, and takes no decision of its own: the pilot goes when no engine ran and no
step was in it for `slurm.idle`. How it went is written down for the next engine to say. It ends with the pilot.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engine.shards.alone import detach, is_held, lock_file
from engine.shards.slurm import notes
from engine.shards.slurm.parsing import GONE, UNKNOWN, allocation, left

POLL_S = 5.0  # between two looks at the files
ASK_S = 120.0  # between two questions to the controller while nothing is due
QUIET_S = 240.0  # a step that shows no sign of life for so long, and whose client left no record, is over
ANSWER_S = 10.0  # an engine that starts may have to wait for so long
GIVE_UP_S = 86_400.0  # for which Slurm does not answer: there is no cluster any more
LOG_BYTES = 256 * 1024
Run = Callable[[Sequence[str]], "tuple[int, str]"]


class Keeper:
    """Keeps one lab's pilot. `run` starts a command of Slurm: exit code and what it said; `clock` is monotonic, in seconds."""

    def __init__(self, place: Path, run: Run, clock: Callable[[], float] = time.monotonic) -> None:
        self.place = place
        self.run = run
        self.clock = clock
        self.id = ""
        self.back: tuple[str, ...] = ()  # the command that gives the pilot back
        self.used = 0.0  # until when an engine or a step was there, at the most
        self.in_use = False  # at the last look
        self.answered = 0.0  # when Slurm last answered, or no question was due
        self.next_ask = 0.0
        self.signs: dict[str, tuple[object, float]] = {}  # step -> its last sign of life, and when that was new

    def look(self) -> float | None:
        """Do what is due; seconds until the next look, None when there is nothing left to keep."""
        held, now = notes.pilot(self.place), self.clock()
        if held is None and self.back and not self.place.is_dir():
            self.run(self.back)  # the lab was removed: nobody else could any more
        if held is None or notes.end_of(self.place, str(held["id"])) is not None:
            return None
        idle_s = float(held.get("idle_s") or 600.0)
        if self.id != held["id"]:
            self.id, self.used, self.answered, self.next_ask, self.back = str(held["id"]), now, now, now + ASK_S, ()
        if (job := self._job(held)) is not None:
            self.back = (str((held.get("programs") or {}).get("scancel", "scancel")), job)
        if notes.engine_runs(self.place):
            self.used = self.answered = now
            self.next_ask, self.in_use = now + ASK_S, True
            self.signs.clear()
        else:
            before, self.in_use = self.in_use, self._busy(held, job)
            if before or self.in_use:
                self.used = now
            if job is None and now - self.used > idle_s and not self._named(held):
                return None  # Slurm never heard of it: there is nothing to give back
            due = now - self.used >= idle_s and now >= self.next_ask - ASK_S
            if job is not None and (due or now >= self.next_ask) and not self._act(job, idle_s):
                return None
            if now - self.answered > GIVE_UP_S:
                return None
        return min(POLL_S, max(0.2, idle_s / 4))

    def _job(self, held: notes.Note) -> str | None:
        if held.get("job"):
            return str(held["job"])
        with contextlib.suppress(OSError):
            return allocation((self.place / "salloc.log").read_text(errors="replace"))
        return None

    def _named(self, held: notes.Note) -> bool:
        """Look for the job by the name that it has alone: whoever asked for it may have died before the number was heard."""
        if not held.get("name"):
            return False
        program = str((held.get("programs") or {}).get("squeue", "squeue"))
        code, said = self.run([program, f"--name={held['name']}", "--noheader", "--format=%i"])
        if code == 0 and not said.split():
            return False
        if code == 0 and said.split()[0].isdigit():
            notes.write(self.place / notes.PILOT, held | {"job": said.split()[0]})
        self.used = self.clock()
        return True

    # --- what is in it

    def _busy(self, held: notes.Note, job: str | None) -> bool:
        """Whether a step of the pilot shows signs of life."""
        places = list(Path(str(held.get("steps") or self.place / "steps")).glob("*"))
        self.signs = {place.name: self.signs[place.name] for place in places if place.name in self.signs}
        return sum(self._lives(place, job) for place in places) > 0  # each is looked at

    def _lives(self, place: Path, job: str | None) -> bool:
        order = notes.read(place / "order.json")
        client = self.place / "clients" / place.name
        if order is None or order.get("job") != job or not client.is_dir() or (client / "exit.json").exists():
            return False
        sign = (order.get("nonce"), (place / "claim").exists(), (notes.read(place / "beat") or {}).get("beat"))
        if place.name not in self.signs or self.signs[place.name][0] != sign:
            self.signs[place.name] = sign, self.clock()
        return self.clock() - self.signs[place.name][1] < QUIET_S

    # --- what is done

    def _act(self, job: str, idle_s: float) -> bool:
        """Ask what has become of it, and give it back when that is due; False when it is gone."""
        with notes.gate(self.place):
            held = notes.pilot(self.place)
            if held is None or held["id"] != self.id or notes.engine_runs(self.place):
                return True  # looked at anew
            now, programs = self.clock(), held.get("programs") or {}
            words = [f"--jobs={job}", "--states=all", "--noheader", "--format=%T|%M"]
            code, said = self.run([str(programs.get("squeue", "squeue")), *words])
            gone = code != 0 and UNKNOWN in said
            if code != 0 and not gone:
                self.next_ask = now + 2 * ASK_S  # its controller is away
                return True
            self.answered, self.next_ask = now, now + ASK_S
            state, _, spent = said.strip().partition("|")
            if gone or not state or state in GONE:
                self._end(held, job, (state or "gone").lower() if not gone else "gone", None)
                return False
            if state != "RUNNING":
                self.used = now  # it waits, and holds nothing
                return True
            held_s = left(spent)
            self.used = max(self.used, now - (idle_s if held_s is None else held_s))
            if now - self.used < idle_s:
                return True
            code, said = self.run([str(programs.get("scancel", "scancel")), job])
            if code != 0 and UNKNOWN not in said:
                print(f"scancel {job}: {said.strip()[:300]}", flush=True)
                return True
            self._end(held, job, "idle", held_s)
            return False

    def _end(self, held: notes.Note, job: str, how: str, held_s: float | None) -> None:
        until = time.time()
        since = held.get("since") or (None if held_s is None else until - held_s)
        end = {"id": self.id, "job": job, "how": how, "since": since, "until": until, "idle_s": held.get("idle_s")}
        notes.put_end(self.place, end | {"engine": False, "release": held.get("release")})
        print(f"pilot {job}: {how}", flush=True)


def run(argv: Sequence[str]) -> tuple[int, str]:
    """Exit code and words of a command."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return 1, str(error)
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def start(place: Path, argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Have a keeper run: `argv` starts one where there is none. Raises OSError and subprocess.SubprocessError."""
    if is_held(place / notes.KEEPER):
        return
    log = place / "keeper.log"
    mode = "ab" if log.exists() and log.stat().st_size < LOG_BYTES else "wb"
    with open(log, mode, opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        subprocess.run(
            argv,
            env=dict(env),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            timeout=20.0,
            check=True,
        )


def main(argv: list[str]) -> int:
    """See the module's text."""
    os.umask(0o077)
    place = Path(argv[0])
    lock = lock_file(place / notes.KEEPER)
    if lock is None:
        return 0
    tell = detach()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps({"pid": os.getpid()}).encode(), 0)
    os.write(tell, b"\0")
    os.close(tell)
    keeper = Keeper(place, run)
    while (wait_s := keeper.look()) is not None:
        time.sleep(wait_s)
    sys.stdout.flush()
    return 0
