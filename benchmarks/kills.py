"""Kills the engine again and again while runs write, then damages its index in every way: each line is there once, unasked.

    python benchmarks/kills.py [--kills 20] [--writers 4] [--rate 500] [--seed 1]

A real engine follows `--writers` runs that write `--rate` JSON lines a second each. It gets `--kills` times SIGKILL at a random
moment, while it starts too. Then the index is compared with the files that the runs wrote: every number once, nothing else.
After that the index is flipped, zeroed, cut, replaced and removed, with the engine down and with it running; each time it is
to answer as before by itself, and to say what happened. Exits 1 when anything is lost, doubled, or not recovered.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb

from cockpit.attach import EngineDown, Session
from engine.rpc import RpcError
from tests.test_recovery import RUNNING, SAID, UNSAID, harm, measured, place_of_values
from tests.tinylab import TRAIN, TinyLab, rows, wait_for

LONGEST_S = 3.0  # that an engine lives before it is killed
RECOVER_S = 60.0
LOOP = """
def main(seed, steps, run_dir, metrics, hold):
    fd = os.open(metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    step = 0
    while os.path.exists(hold):
        for step in range(step, step + 10):
            write(fd, {"step": step, "loss": 2.0 + noise(seed, step), "lr": 1.0 / (1 + step)})
        step += 1
        time.sleep(10 / RATE_A_SECOND)
    write(fd, {"summary": {"val": 2.0}})
    with open(os.path.join(run_dir, "model.json"), "w") as file:
        json.dump({"bottom": 2.0}, file)
"""


def script(rate: float) -> str:
    """The tiny lab's training script, writing until the file `hold` is gone."""
    before, _, rest = TRAIN.partition("def main(")
    return before + LOOP.replace("RATE_A_SECOND", repr(rate)).strip() + rest[rest.index("\n\n\nif __name__") :]


def kill(lab: TinyLab, times: int, luck: random.Random) -> None:
    """Start an engine and kill it, `times` times; half of the moments lie in the first second, in which it starts."""
    for _ in range(times):
        engine = lab.start()
        time.sleep(luck.uniform(0.2, LONGEST_S) if luck.random() < 0.5 else luck.uniform(0.2, 1.0))
        engine.send_signal(signal.SIGKILL)
        engine.wait(10)


def written(lab: TinyLab) -> Counter[tuple[str, str, int, float]]:
    """Every (shard, metric, step, value) that the runs wrote."""
    found: Counter[tuple[str, str, int, float]] = Counter()
    for path in lab.state.runs.glob("*/metrics.jsonl"):
        for line in path.read_bytes().splitlines():
            row = json.loads(line)
            step = row.pop("step", None)
            if step is not None:
                found.update((path.parent.name, name, step, value) for name, value in row.items())
    return found


def indexed(lab: TinyLab) -> Counter[tuple[str, str, int, float]]:
    """The same, as the index has it; no engine may run."""
    con = duckdb.connect(str(lab.state.history), read_only=True)
    found = con.execute("SELECT shard, metric, step, value FROM points").fetchall()
    con.close()
    return Counter(found)


def compared(lab: TinyLab) -> bool:
    """Print whether files and index hold the same."""
    files, index = written(lab), indexed(lab)
    lost, more = files - index, index - files
    print(
        f"{files.total():,} numbers in the files, {lost.total()} of them not in the index, {more.total()} too many in it"
    )
    return not lost and not more


def answer(session: Session) -> list[object] | None:
    with suppress(RpcError):
        text = "SELECT count(*), count(DISTINCT (shard, metric, step)), sum(value) FROM points"
        return list(session.call("sql", text=text)["rows"][0])
    return None


def down(lab: TinyLab, damage: Callable[[Path], None], right: list[object]) -> list[str]:
    """Damage the index while no engine runs; what was said of it by the time the answer is right again."""
    damage(lab.state.history)
    with lab.session() as session:
        return recovered(session, right, silent=damage in UNSAID)


def under(lab: TinyLab, damage: Callable[[Path], None], right: list[object]) -> list[str]:
    """The same while an engine runs, which has to live on."""
    with lab.session() as session:
        wait_for(lambda: answer(session) == right)
        copy = lab.state.root / "copy"
        copy.write_bytes(lab.state.history.read_bytes())
        place = place_of_values(copy)
        copy.unlink()
        harm(damage, lab.state.history, place)
        session.call("pause")
        session.call("resume")
        return recovered(session, right, silent=False)


def recovered(session: Session, right: list[object], *, silent: bool) -> list[str]:
    """The engine's warnings once its answer is right and, where that is due, it has said what happened."""
    warnings: list[str] = []

    def whole() -> bool:
        warnings[:] = session.call("status")["warnings"]
        return answer(session) == right and (silent or bool(warnings))

    wait_for(whole, RECOVER_S)
    return list(warnings)


def recover(lab: TinyLab) -> bool:
    """Every damage, one after the other; prints what came of it. False when one was not recovered from."""
    lab.state.history.unlink()
    with lab.session() as session:
        right = wait_for(lambda: answer(session))
    lab.stop()
    digest, good = measured(lab), True
    for act, damages in ((down, (*SAID, *UNSAID)), (under, RUNNING)):
        for damage in damages:
            began = time.perf_counter()
            try:
                act(lab, damage, right)
                took = time.perf_counter() - began
                lab.stop()
                same = measured(lab) == digest
                said = "as made anew" if same else "NOT as made anew"
            except (AssertionError, EngineDown, RpcError) as error:
                took, same, said = time.perf_counter() - began, False, f"NOT recovered: {error}"
                lab.stop()
            good = good and same
            print(f"{act.__name__:>6} {damage.__name__.replace('_', ' '):28} {took:5.1f} s  {said}", flush=True)
    return good


def main() -> int:
    """Print what was lost and doubled, and each recovery; 1 where anything was."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=20)
    words.add_argument("--writers", type=int, default=4)
    words.add_argument("--rate", type=float, default=500.0)
    words.add_argument("--seed", type=int, default=1)
    given = words.parse_args()
    place = Path(tempfile.mkdtemp(prefix="ck-"))
    os.environ["XDG_RUNTIME_DIR"] = str(place / "run")
    os.environ["PYTHONPATH"] = sys.path[0]  # this checkout's engine, whichever one is installed
    more = {"train.py": script(given.rate)}
    lab = TinyLab(place / "lab", [], slots=given.writers, seeds=range(given.writers), steps=1, more=more)
    config = lab.root / "cockpit.toml"
    config.write_text(config.read_text().replace('timeout = "1m"', 'timeout = "2h"'))
    lab.hold.touch()
    try:
        with lab.session() as session:
            wait_for(lambda: len([row for row in session.call("live").values() if row["step"]]) == given.writers, 120)
        assert lab.engine is not None
        lab.engine.kill()
        lab.engine.wait(10)
        kill(lab, given.kills, random.Random(given.seed))
        lab.hold.unlink()
        with lab.session() as session:
            wait_for(lambda: all(row["state"] == "ended" for row in rows(session, "shard").values()), 120)
            answer(session)
            lost = [row["id"] for row in rows(session, "shard").values() if row["outcome"] != "finished"]
        lab.stop()
        print(
            f"{given.kills} kills while {given.writers} runs wrote {given.rate:g} lines a second each; lost runs: {lost}"
        )
        once = compared(lab) and not lost
        whole = recover(lab)
        print("every bar is met" if once and whole else "a bar is missed")
        return 0 if once and whole else 1
    finally:
        lab.end()


if __name__ == "__main__":
    sys.exit(main())
