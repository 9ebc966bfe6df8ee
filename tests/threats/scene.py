"""The scene of a threat: one engine, one honest experiment, and hostile ones that run beside it.

What a test needs to see is the same each time: the harm did not happen, the honest sibling gave the bits that it gives alone,
the engine answered all the while, and how it ended is typed and shown. `Scene.sound` says the second and third; the rest is
each test's own.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cockpit.attach import EngineDown, Session
from engine.files import remove_tree
from engine.rpc import RpcError
from engine.shards.sandbox import try_level
from tests.test_sandbox import path_without_bubblewrap, without_the_wheel
from tests.tinylab import SCORE, TinyLab, better, decide, proposal, read_json, rows, wait_for, waiting

ANSWER_S = 1.0
"""How long the engine may take to answer, whatever its shards do."""
PING_S = 0.1
LOOK_S = 0.1  # between two looks at what an engine does: looking costs it something
HONEST = better(1)
TRUSTING = SCORE.replace(
    'with open(sys.argv[1] + "/model.json") as file:\n    bottom = json.load(file)["bottom"]',
    'import pickle\nwith open(sys.argv[1] + "/model.json", "rb") as file:\n'
    '    head = file.peek(1)[:1]\n    bottom = (pickle if head == b"\\x80" else json).load(file)["bottom"]',
)
"""Evaluation as it is often written: whatever it finds it takes for a checkpoint, and unpickles it."""
assert "pickle.load" not in SCORE != TRUSTING
SECRET = "hush-4f1d9c"
"""What every value of `SECRETS` holds."""
SECRETS = {
    name: f"{SECRET}-{number}"
    for number, name in enumerate(
        ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "WANDB_API_KEY", "DATABASE_URL")
    )
}
"""What whoever starts an engine of these tests has in the environment."""

why_not = functools.cache(try_level)

# Every hostile shard gets this in front of its own code: it tries things and writes down what came of each.
PREAMBLE = """\
import ctypes, errno, shutil, signal, socket, stat, struct, subprocess

found = {}


def attempt(name, what):
    try:
        what()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, str(error))
    except Exception as error:
        found[name] = repr(error)


def tell(run_dir):
    with open(os.path.join(run_dir, "deed.part"), "w") as file:
        json.dump(found, file)
    os.rename(os.path.join(run_dir, "deed.part"), os.path.join(run_dir, "deed.json"))


def deed(run_dir, metrics, hold, fd, seed):
    with open(os.path.join(os.path.dirname(hold), "facts.json")) as file:
        facts = json.load(file)
"""


def hostile(name: str, code: str) -> str:
    """A proposal whose shard carries out `code` before its first step, and then trains on as if nothing were.

    The code sees `run_dir, metrics, hold, fd, seed`, the test's `facts`, and `attempt(name, call)`, whose answers
    ("done", or the name of the error) are what `Scene.deed` returns.
    """
    body = textwrap.indent(textwrap.dedent(code).strip("\n"), "    ")
    before = f"{PREAMBLE}{body}\n\n\ndef write(fd, row):"
    act = "    deed(run_dir, metrics, hold, fd, seed)\n    tell(run_dir)\n    loss = bottom"
    whole = proposal(name, "def write(fd, row):", before)
    return f"{whole}\n<<<<<<< SEARCH\n    loss = bottom\n=======\n{act}\n>>>>>>> REPLACE\n"


@dataclass(frozen=True)
class Bits:
    """All that an honest shard leaves behind, and its score."""

    metric: float
    files: Mapping[str, bytes]


@dataclass
class Pings:
    """How long the engine took to answer, measured from beside it for as long as the scene lasts."""

    lab: TinyLab
    control: Path
    worst: float = 0.0
    count: int = 0
    late: list[tuple[float, float, float]] = field(
        default_factory=list
    )  # began, took, of which the machine stood still
    failure: str = ""
    _end: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, daemon=True, name="pings")
        thread.start()
        return thread

    def stop(self) -> None:
        self._end.set()

    def _run(self) -> None:
        try:
            with self.lab.session() as session:
                while not self._end.wait(PING_S):
                    began = time.monotonic()
                    session.call("status")
                    self._note(began, time.monotonic())
        except (EngineDown, RpcError, OSError, AssertionError) as error:
            self.failure = "" if self._end.is_set() else f"the engine did not answer at all: {error!r}"

    def _note(self, began: float, ended: float) -> None:
        self.count += 1
        self.worst = max(self.worst, ended - began)
        if ended - began > ANSWER_S:
            time.sleep(0.1)  # for the control to write down what it saw in the same moments
            self.late.append((began, ended - began, stood_still(self.control, began, ended)))


def stood_still(control: Path, began: float, ended: float) -> float:
    """For how many seconds of that time a process that only sleeps was not woken either."""
    lost = 0.0
    for line in control.read_text().splitlines():
        with suppress(ValueError):
            due, woke = map(float, line.split())
            lost += max(0.0, min(woke, ended) - max(due, began))
    return lost


@dataclass
class Scene:
    """What is left when the hostile ones have had their time: the engine still runs."""

    lab: TinyLab
    level: int
    session: Session
    pings: Pings
    alone: Bits
    names: dict[str, str]  # name of a hostile proposal -> id of its proposal
    listing: dict[str, Any]  # what `cockpit ls --json` says
    told: dict[str, Any]  # the facts that hostile code was told
    beside: set[str]  # what lay beside the lab when all had ended

    def proposal(self, name: str) -> dict[str, Any]:
        return rows(self.session, "proposal")[self.names[name]]

    def experiment(self, name: str) -> dict[str, Any]:
        """The experiment of a hostile proposal, as `cockpit ls --json` shows it."""
        wanted = self.proposal(name)["experiment"]
        return next(each for each in self.listing["experiments"] if each["id"] == wanted)

    def shard(self, name: str) -> dict[str, Any]:
        """Its shard, as `cockpit ls --json` shows it."""
        (found,) = self.experiment(name)["shards"]
        return dict(found)

    def row(self, name: str) -> dict[str, Any]:
        """Its shard's whole row."""
        return rows(self.session, "shard")[self.shard(name)["id"]]

    def run_dir(self, name: str) -> Path:
        return self.lab.state.runs / str(self.shard(name)["id"])

    def deed(self, name: str) -> dict[str, str]:
        """What the hostile shard says came of each attempt: proof that it tried."""
        found = read_json(self.run_dir(name) / "deed.json")
        assert found, f"{name} tried nothing"
        return dict(found)

    def may(self, name: str) -> set[str]:
        """The attempts that succeeded."""
        return {each for each, answer in self.deed(name).items() if answer == "done"}

    def sound(self) -> None:
        """The honest sibling gave the bits that it gives alone; the engine answered in time, and all that it knows is whole."""
        honest = bits(self.lab, self.session)
        assert honest.metric == self.alone.metric
        assert honest.files == self.alone.files
        checks = self.session.call("verify")["checks"]
        assert [check for check in checks if not check["ok"]] == []
        assert self.lab.engine is not None
        assert self.lab.engine.poll() is None, "the engine is gone"
        assert not self.pings.failure, self.pings.failure
        assert self.pings.count > 0
        slow = [each for each in self.pings.late if each[1] - each[2] > ANSWER_S]
        assert not slow, f"the engine took {max(took for _, took, _ in slow):.2f} s to answer"
        assert "stalled" not in self.session.call("status")["phase"]


def bits(lab: TinyLab, session: Session) -> Bits:
    """What the honest experiment, always the first, left behind."""
    (row,) = (each for each in rows(session, "shard").values() if each["experiment"] == "0001")
    assert row["outcome"] == "finished", row["detail"]
    run_dir = lab.state.runs / row["id"]
    names = ("metrics.jsonl", "output.log", "model.json", "score.json")
    return Bits(row["metric"], {name: (run_dir / name).read_bytes() for name in names})


@dataclass(frozen=True)
class Stage:
    """Where scenes are set up: a directory, the box, and the control that only sleeps."""

    place: Path
    level: int
    control: Path

    @contextmanager
    def open(
        self, replies: list[str], dress: Callable[[TinyLab], None] | None = None, **options: Any
    ) -> Iterator[TinyLab]:
        """A lab whose engine runs un-niced at this level; `dress` is called before that starts.

        The divergence of a forged loss stops no shard, since whether it is seen in time is a matter of milliseconds.
        """
        number = len(list(self.place.iterdir()))
        defaults = {"slots": len(replies) + 1, "seeds": (0,), "isolation": f"require-{self.level}"}
        options = defaults | {"off": ("large-gain", "divergence")} | options
        options["more"] = {"score.py": TRUSTING}
        lab = TinyLab(self.place / f"lab{number}", replies, queue=len(replies), **options)
        env = SECRETS | (_without_bubblewrap(self.place) if self.level == 2 else {})
        try:
            if dress is not None:
                dress(lab)
            unhurried(lab.start(**env).pid)
            yield lab
        finally:
            lab.end()
            remove_tree(lab.root)  # pytest's own tidying up would get lost in what some of them build

    @contextmanager
    def play(
        self,
        deeds: Mapping[str, str],
        alone: Bits | None,
        facts: Callable[[TinyLab, int], Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> Iterator[Scene]:
        """Run an honest experiment, and beside it those of `deeds` (name to reply), all at once; yield when all have ended.

        The honest one stands at its first step until every hostile one has done its deed. `facts` are what their code is told,
        of the lab and the level; the honest shard's processes are told in a file of their own, once they are known.
        """
        with self.open([HONEST, *deeds.values()], **options) as lab, lab.session() as session:
            unhurried(int(session.hello["pid"]))
            ids = [f"p{number:04d}" for number in range(1, len(deeds) + 2)]
            wait_for(lambda: set(ids) <= set(rows(session, "proposal")), pause_s=LOOK_S)
            wait_for(lambda: any(row["outcome"] for row in rows(session, "shard").values()), pause_s=LOOK_S)
            lab.hold.touch()
            told = {"level": self.level} | dict(facts(lab, self.level) if facts else {})
            (lab.hold.parent / "facts.json").write_text(json.dumps(told))
            pings = Pings(lab, self.control)
            thread = pings.start()
            for row in sorted(waiting(session), key=lambda row: row["id"]):
                decide(session, row)
            wait_for(lambda: _stands(lab), pause_s=LOOK_S)
            (lab.hold.parent / "sibling.part").write_text(" ".join(processes_of("/runs/0001.")))
            (lab.hold.parent / "sibling.part").rename(lab.hold.parent / "sibling")
            acting = {id for id, reply in zip(ids[1:], deeds.values(), strict=True) if "def deed(" in reply}
            wait_for(lambda: _all_stand(lab, session, acting), pause_s=LOOK_S)
            lab.hold.unlink()
            wait_for(lambda: _all_ended(session), pause_s=LOOK_S)
            try:
                names = dict(zip(deeds, ids[1:], strict=True))
                mine = bits(lab, session) if alone is None else alone
                beside = {each.name for each in self.place.iterdir()}
                yield Scene(lab, self.level, session, pings, mine, names, listed(lab), told, beside)
            finally:
                pings.stop()
                thread.join(30)


def processes_of(mark: str) -> list[str]:
    """The numbers of all processes that name `mark` in their command line or environment."""
    found = []
    for each in Path("/proc").iterdir():
        for name in ("cmdline", "environ") if each.name.isdigit() else ():
            with suppress(OSError):
                if mark.encode() in (each / name).read_bytes():
                    found.append(each.name)
                    break
    return found


def _experiments(session: Session) -> list[dict[str, Any]]:
    return [row for row in rows(session, "experiment").values() if row["role"] == "experiment"]


def _all_stand(lab: TinyLab, session: Session, acting: set[str]) -> bool:
    """The honest shard is at its first step, and every other one runs, has done its deed or has ended."""
    shards = {row["experiment"]: row for row in rows(session, "shard").values()}
    for row in _experiments(session):
        shard = shards.get(row["id"])
        if row["state"] == "failed" or (shard is not None and shard["state"] == "ended"):
            continue
        if shard is None:
            return False
        if row["proposal"] in acting and not (lab.state.runs / shard["id"] / "deed.json").exists():
            return False
    return _stands(lab)


def _stands(lab: TinyLab) -> bool:
    """The honest shard, seed 0 of the first experiment, is at its first step."""
    metrics = lab.state.runs / "0001.screen.s0.a1" / "metrics.jsonl"
    return metrics.exists() and b'"step": 0' in metrics.read_bytes()


def _all_ended(session: Session) -> bool:
    alive = any(row["state"] != "ended" for row in rows(session, "shard").values())
    return not alive and all(row["state"] not in ("queued", "running") for row in _experiments(session))


def listed(lab: TinyLab) -> dict[str, Any]:
    """What `cockpit ls --json` says, from a process of its own."""
    done = cockpit(lab, "ls", "--json")
    return dict(json.loads(done))


def cockpit(lab: TinyLab, *words: str) -> bytes:
    """What the command line prints."""
    call = [sys.executable, "-m", "cockpit.cli", "-C", str(lab.root), *words]
    done = subprocess.run(call, capture_output=True, timeout=60, check=True, cwd=Path(__file__).parents[2])
    return done.stdout


def unhurried(pid: int) -> None:
    """Take the niceness off a process, where this user may: the suite itself may have been started niced."""
    with suppress(OSError):
        for each in os.listdir(f"/proc/{pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(each), 0)


def _without_bubblewrap(place: Path) -> dict[str, str]:
    """An environment in which there is neither the distribution's bubblewrap nor the wheel's: the best box is of level 2."""
    found = place.parent / f"{place.name}.bin"
    path = found if found.exists() else Path(path_without_bubblewrap(found))
    none = place.parent / f"{place.name}.none"
    wheel = none if none.exists() else Path(without_the_wheel(none))
    rest = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {"PATH": str(path), "PYTHONPATH": os.pathsep.join([str(wheel), *rest])}


SLEEPER = """
import os, sys, time
parent = os.getppid()
while os.getppid() == parent:
    due = time.monotonic() + 0.02
    time.sleep(0.02)
    woke = time.monotonic()
    if woke - due > 0.1:
        print(due, woke, flush=True)
"""


@contextmanager
def sleeper(path: Path) -> Iterator[Path]:
    """A process that only sleeps, and writes down when it was woken late: what the machine itself costs."""
    with path.open("wb") as file, subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=file) as process:
        unhurried(process.pid)
        try:
            yield path
        finally:
            process.kill()


def needs(level: int) -> None:
    """Skip, by name, where this machine has no such box."""
    reason = why_not(level)
    if reason is not None:
        pytest.skip(f"no box {level} here: {reason}")
