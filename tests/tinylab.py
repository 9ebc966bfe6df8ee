"""A lab that trains in milliseconds, for tests of the machine around training: real git, real processes, no torch.

Its `train.py` computes a loss from its constants and the seed. A shard can be held at its first step by a file, so that a test
says when it goes on, instead of waiting for time to pass.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from cockpit.attach import EngineDown, Session, connect, is_running, spawn, start_failure, state_dir
from engine.rpc import RpcError

TRAIN = '''\
"""A training script in miniature."""
import json, math, os, sys, time, zlib

RATE = 1.0
WIDTH = 8
SEED_NOISE = 0.01


def noise(*parts):
    return zlib.crc32(repr(parts).encode()) / 2**32 - 0.5


def write(fd, row):
    os.write(fd, json.dumps(row).encode() + b"\\n")


def main(seed, steps, run_dir, metrics, hold):
    fd = os.open(metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    write(fd, {"summary": {"steps": steps, "tokens": steps * 10}})
    bottom = 3.0 - 0.1 * math.log(RATE) + SEED_NOISE * noise("seed", seed) + 0.001 * noise(seed, RATE, WIDTH)
    loss = bottom
    for step in range(steps):
        loss = bottom + 2.0 / (1 + step)
        write(fd, {"step": step, "loss": loss, "tokens_per_s": 1000.0})
        print("step", step, "loss", loss, flush=True)
        while step == 0 and os.path.exists(hold):
            time.sleep(0.01)
        if not math.isfinite(loss):
            sys.exit(3)
    with open(os.path.join(run_dir, "model.json"), "w") as file:
        json.dump({"bottom": bottom}, file)
    write(fd, {"summary": {"val": bottom}})


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5])
'''

SCORE = '''\
"""Protected: the number that counts."""
import json, sys
with open(sys.argv[1] + "/model.json") as file:
    bottom = json.load(file)["bottom"]
with open(sys.argv[2], "w") as file:
    json.dump({"metric": bottom, "sources": {"a": bottom - 0.1, "b": bottom + 0.1}, "split": "search"}, file)
'''

CONFIG = """\
[lab]
name = "tiny"
command = ["{{python}}", "train.py", "{{seed}}", "{{budget}}", "{{run_dir}}", "{{metrics}}", "{hold}"]
mounts = ["{mount}"]
editable = ["train.py", "mix/**"]
protected = ["score.py"]

[metric]
name = "val"
direction = "min"
unit = "nats"
source = "jsonl"
loss = "loss"

[score]
command = ["{{python}}", "score.py", "{{run_dir}}", "{{scores}}"]
timeout = "{score_timeout}"

{prepare}{smoke}
[rungs.screen]
budget = {steps}
timeout = "1m"

[run]
seeds = {seeds}
slots = {slots}
isolation = "{isolation}"
network = "{network}"

[detectors]
off = {off}

[proposer]
kind = "recording"
path = "proposals"
queue = {queue}
{extra}"""


PREP = '''\
"""Protected: makes the data."""
import sys
with open(sys.argv[1] + "/text", "w") as file:
    file.write("data")
with open(sys.argv[2] + "/text", "w") as file:
    file.write("held out")
'''

PREPARE = """
[prepare]
command = ["{python}", "prep.py", "{data}", "{held}"]
timeout = "1m"
"""


SMOKE = """
[smoke]
budget = 1
timeout = "30s"
"""


def proposal(hypothesis: str, search: str, replace: str, category: str = "optimizer", path: str = "train.py") -> str:
    """A reply in the format that the applier reads."""
    return (
        f"hypothesis: {hypothesis}\ncategory: {category}\nmechanism: it moves further a step\n"
        f"prediction: val falls by 0.05\npredicted_effect: 0.05\n\n{path}\n<<<<<<< SEARCH\n{search}\n=======\n{replace}\n"
        ">>>>>>> REPLACE\n"
    )


def rate(value: float) -> str:
    """A proposal that is better the higher `value` is."""
    return proposal(f"A rate of {value} is better", "RATE = 1.0", f"RATE = {value}")


def better(number: int) -> str:
    return rate(2.0 + number)


CRASH = proposal("A wider model learns more", "    loss = bottom", "    loss = bottom[0]", "architecture")
NONFINITE = proposal(
    "No floor under the loss",
    "        loss = bottom + 2.0 / (1 + step)",
    "        loss = math.nan if step else bottom",
    "regularisation",
)
WIDER = proposal("Width changes little", "WIDTH = 8", "WIDTH = 9", "architecture")
WORSE = rate(0.5)
NO_MATCH = proposal("Something that is not there", "RATE = 7.0", "RATE = 8.0")
PROTECTED = proposal("Score more kindly", "import json, sys", "import json, sys, math", path="score.py")


class TinyLab:
    """One tiny lab in a directory of its own, and the engine that it may have."""

    def __init__(
        self,
        root: Path,
        proposals: list[str],
        *,
        steps: int = 5,
        slots: int = 2,
        queue: int = 3,
        prepare: bool = False,
        smoke: bool = False,
        isolation: str = "auto",
        network: str = "none",
        seeds: Sequence[int] = (0, 1, 2),
        score_timeout: str = "1m",
        off: Sequence[str] = ("large-gain",),
        extra: str = "",
        more: Mapping[str, str] | None = None,
    ) -> None:
        """`off` are detectors that do not look, since most gains here are huge. `extra` is more of the lab file, for tables
        that it has not; `more` are further files, or others for these."""
        self.root = root
        self.hold = root.parent / f"{root.name}.hold" / "hold"  # in a directory that the lab's shards may read
        self.hold.parent.mkdir()
        (root / "proposals").mkdir(parents=True)
        files = {"train.py": TRAIN, "score.py": SCORE}
        wanted = {"hold": self.hold, "mount": self.hold.parent, "steps": steps, "slots": slots, "queue": queue}
        wanted |= {"isolation": isolation, "network": network}
        wanted |= {"isolation": isolation, "seeds": list(seeds), "score_timeout": score_timeout, "extra": extra}
        wanted["off"] = json.dumps(list(off))
        files["cockpit.toml"] = CONFIG.format(
            prepare=PREPARE if prepare else "", smoke=SMOKE if smoke else "", **wanted
        )
        files |= {"prep.py": PREP} if prepare else {}
        files |= {f"proposals/{number:03d}.md": text for number, text in enumerate(proposals)}
        for name, text in (files | dict(more or {})).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.org")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "Begin")
        self.state = state_dir(root)
        self.engine: subprocess.Popen[bytes] | None = None

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", "-C", str(self.root), *words], check=True, capture_output=True, text=True)
        return done.stdout

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        """Start the engine, with extra environment; returns its process."""
        old = dict(os.environ)
        os.environ.update(env)
        try:
            self.engine = spawn(self.root, self.state)
        finally:
            os.environ.clear()
            os.environ.update(old)
        return self.engine

    def dies(self, engine: subprocess.Popen[bytes], act: Callable[[Session], object]) -> bool:
        """Whether this engine is dead by now; as long as it is not, it is asked to `act`. No other one is started in its place,
        which would live on where this one was to die."""
        with (
            suppress(EngineDown, OSError, RpcError, AssertionError),
            closing(connect(self.root, start=False)) as session,
        ):
            act(session)
        return engine.poll() is not None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session; an engine is started when none runs."""
        # a process that a killed engine was just forking may hold its lock for a moment longer
        wait_for(lambda: self.engine is None or self.engine.poll() is None or not is_running(self.state))
        if not is_running(self.state) and (self.engine is None or self.engine.poll() is not None):
            self.start()
        engine = self.engine

        def reach() -> Session | None:
            try:
                return connect(self.root, start=False)
            except EngineDown:
                assert engine is None or engine.poll() is None, start_failure(self.state)
                return None

        session: Session = wait_for(reach)
        try:
            yield session
        finally:
            session.close()

    def stop(self) -> None:
        """Stop the engine; what runs goes on."""
        self.hold.unlink(missing_ok=True)
        if self.engine is not None and self.engine.poll() is None:
            self.engine.terminate()
            self.engine.wait(20)

    def end(self) -> None:
        """Stop the engine, and the launcher with all that runs."""
        self.stop()
        try:
            launcher = int(read_json(self.state.launcher_lock)["pid"])
            os.kill(launcher, signal.SIGTERM)
        except (OSError, ValueError, KeyError):
            return  # there is none
        wait_for(lambda: not alive(launcher))


def alive(pid: int) -> bool:
    """Whether a process lives; one that waits to be reaped does not."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def wait_for(condition: Callable[[], Any], seconds: float = 60.0, pause_s: float = 0.02) -> Any:
    """The first true value of `condition`, asked again and again; fails the test when none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "what the test waits for did not come"
        time.sleep(pause_s)


def rows(session: Session, kind: str) -> dict[str, dict[str, Any]]:
    """Rows of one kind by id."""
    return {row["id"]: row for row in session.rows()[0] if row["kind"] == kind}


def decide(session: Session, row: dict[str, Any], action: str = "approve", why: str = "worth a try") -> dict[str, Any]:
    """Decide on a proposal as it was shown."""
    answer = session.call(
        "decide",
        proposal=row["id"],
        diff_hash=row["diff_hash"],
        action=action,
        why=why,
        request_id=f"{row['id']}-{action}-{row['diff_hash']}",
    )
    return dict(answer)


def waiting(session: Session) -> list[dict[str, Any]]:
    """Proposals that wait for review."""
    return [row for row in rows(session, "proposal").values() if row["state"] == "waiting"]


def briefed(session: Session) -> bool:
    """Whether every judged experiment stands in a brief that is written: nothing more is going to be recorded of it."""
    found = rows(session, "experiment").values()
    judged = {row["id"] for row in found if row["role"] == "experiment" and row["state"] == "judged"}
    written = [row for row in rows(session, "brief").values() if row["ended"] is not None]
    return judged <= {name for row in written for name in row["experiments"]}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
