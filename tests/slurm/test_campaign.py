"""A whole lab on a cluster: the same command and the same verdicts as on one machine, whatever breaks meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cockpit.attach import Session
from engine.paths import StateDir
from tests.slurm.cluster import Cluster
from tests.tinylab import SCORE, TinyLab, better, decide, rows, wait_for, waiting

SLURM = """
[slurm]
nodes = 2
gpus = 4
walltime = "2h"
"""


class SlurmLab(TinyLab):
    """A tiny lab that runs on a cluster."""

    def __init__(self, root: Path, slurm: Cluster, proposals: list[str], **options: Any) -> None:
        shared = f'shared = "{root}.shared"\n' if options.pop("shared", False) else ""
        super().__init__(root, proposals, extra=SLURM + shared, **options)
        config = root / "cockpit.toml"
        text = config.read_text()
        config.write_text(text.replace("slots = 2\n", 'executor = "slurm"\n'))
        self.git("commit", "-q", "-a", "-m", "Run on the cluster")
        self.slurm = slurm
        self.runs = (root.with_name(f"{root.name}.shared") if shared else self.state.root) / "runs"

    def start(self, **env: str) -> Any:
        return super().start(SLURM_CONF=str(self.slurm.conf), **env)


@pytest.fixture
def lab(slurm: Cluster, tmp_path: Path) -> Iterator[Callable[..., SlurmLab]]:
    made: list[SlurmLab] = []

    def build(*proposals: str, make: Callable[[Path, Cluster], SlurmLab] | None = None, **options: Any) -> SlurmLab:
        root = tmp_path / f"cluster{len(made)}"
        made.append(SlurmLab(root, slurm, list(proposals), **options) if make is None else make(root, slurm))
        return made[-1]

    yield build
    for each in made:
        each.end()


def decided(session: Session, count: int) -> list[dict[str, Any]]:
    """The experiments, once so many are judged."""

    def look() -> list[dict[str, Any]]:
        found = [row for row in rows(session, "experiment").values() if row["role"] == "experiment"]
        return found if sum(row["state"] == "judged" for row in found) >= count else []

    found: list[dict[str, Any]] = wait_for(look, 180)
    return found


def running(session: Session) -> list[dict[str, Any]]:
    return [row for row in rows(session, "shard").values() if row["state"] == "running"]


def test_nothing_is_asked_for_that_nobody_confirmed(lab: Callable[..., SlurmLab], slurm: Cluster) -> None:
    ours = lab(better(1), shared=True, prepare=True)
    with ours.session() as session:
        wait_for(lambda: "cockpit pilot --confirm" in session.call("status")["phase"])
        assert slurm.run("squeue", "--noheader") == ""
        shown = session.call("pilot")
        assert (shown["asked"], shown["words"]) == (
            False,
            "2 nodes with 4 GPUs each for 2 h on the default partition: 8 shards at once",
        )
        assert session.call("status")["isolation"] == "box not known yet"
        session.call("pilot", action="confirm")
        decide(session, wait_for(lambda: waiting(session))[0])
        verdicts = decided(session, 1)
        assert verdicts[0]["verdict"]["verdict"] == "solid"
        assert {row["node"] for row in rows(session, "shard").values()} <= {"n1", "n2"}
        assert "box 3" in session.call("status")["isolation"]
        shards = rows(session, "shard")
        assert {path.name for path in ours.runs.iterdir()} >= set(shards)  # where the nodes see them
        assert not (ours.state.root / "runs").exists()
        assert {(row["outcome"], row["attempt"]) for row in shards.values()} == {("finished", 1)}
        assert session.call("gc")["removed"] >= 0
        session.call("pilot", action="release", why="done for today")
        wait_for(lambda: "running" not in slurm.run("squeue", "--noheader", "--format=%T").lower())
        assert "was given back (done for today); " in session.call("pilot")["sentence"]
        assert all(check["ok"] for check in session.call("verify")["checks"])


def test_a_lost_node_a_new_controller_and_a_killed_engine_cost_no_experiment(
    lab: Callable[..., SlurmLab], slurm: Cluster
) -> None:
    ours = lab(better(1), better(2), seeds=(0, 1, 2, 3))
    ours.hold.touch()
    with ours.session() as session:
        session.call("pilot", action="confirm")
        for row in wait_for(lambda: found if len(found := waiting(session)) == 2 else None):
            decide(session, row)
        wait_for(lambda: len(running(session)) == 8, 120)
        nodes = {row["id"]: row["node"] for row in running(session)}
        assert sorted(nodes.values()) == ["n1"] * 4 + ["n2"] * 4
        wait_for(lambda: all((ours.state.runs / id / "metrics.jsonl").exists() for id in nodes))
    slurm.kill_node("n1")
    slurm.kill_controller()
    slurm.start_controller()
    assert ours.engine is not None
    os.kill(ours.engine.pid, signal.SIGKILL)
    ours.engine.wait()
    with ours.session() as session:
        wait_for(
            lambda: {id for id, row in rows(session, "shard").items() if row["outcome"] == "node-lost"} != set(), 120
        )
        wait_for(lambda: session.call("cluster")["allocation"].get("unwell") == 1)
        ours.hold.unlink()
        verdicts = decided(session, 2)
        assert {row["verdict"]["verdict"] for row in verdicts} == {"solid"}
        shards = rows(session, "shard")
        lost = {id for id, row in shards.items() if row["outcome"] == "node-lost"}
        assert lost == {id for id, node in nodes.items() if node == "n1"}
        again = {(row["experiment"], row["seed"]): row for row in shards.values() if row["attempt"] == 2}
        assert {(shards[id]["experiment"], shards[id]["seed"]) for id in lost} == set(again)
        assert {(row["outcome"], row["node"]) for row in again.values()} == {("finished", "n2")}
        kept = [row for id, row in shards.items() if id in nodes and id not in lost]
        assert {row["outcome"] for row in kept} == {"finished"}
        counted = [(row["experiment"], row["seed"]) for row in shards.values() if row["outcome"] == "finished"]
        assert len(counted) == len(set(counted))  # none twice
        assert all(check["ok"] for check in session.call("verify")["checks"])


def metrics(state: StateDir) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(state.runs.glob("*.screen.*/metrics.jsonl"))}


def test_the_cluster_and_this_machine_give_the_same_to_the_last_bit(
    lab: Callable[..., SlurmLab], tiny: Callable[..., TinyLab]
) -> None:
    there, here = lab(better(1), better(2)), tiny(better(1), better(2))
    said = []
    for each in (there, here):
        with each.session() as session:
            if each is there:
                session.call("pilot", action="confirm")
            for row in wait_for(lambda s=session: found if len(found := waiting(s)) == 2 else None):
                decide(session, row)
            said.append({row["id"]: row["verdict"] for row in decided(session, 2)})
            for verdict in said[-1].values():
                verdict.pop("seconds", None)
    assert said[0] == said[1]
    assert metrics(there.state) == metrics(here.state)
    assert len(metrics(here.state)) == 9


RESUMING = '''\
"""A training script that saves every step, and goes on from what it saved."""
import json, os, sys, time

RATE = 1.0


def main(seed, steps, run_dir, metrics, hold, resume):
    def save(name, text):
        new = os.path.join(os.environ["TMPDIR"], name)
        with open(new, "w") as file:
            file.write(text)
        os.replace(new, os.path.join(resume, name))

    first, loss = 0, 3.0 + seed
    if os.path.exists(os.path.join(resume, "step")):
        with open(os.path.join(resume, "step")) as file:
            step = int(file.read())
        with open(os.path.join(resume, f"state-{step}.json")) as file:
            first, loss = json.load(file)
    out = os.open(metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for step in range(first, steps):
        loss *= 0.9
        os.write(out, json.dumps({"step": step, "loss": loss}).encode() + b"\\n")
        if step % 3 == 2:  # what comes after it is computed again
            save(f"state-{step}.json", json.dumps((step + 1, loss)))
            save("step", str(step))  # from here on it is what an attempt goes on from
        while step == 10 and os.path.exists(hold):
            time.sleep(0.01)
    with open(os.path.join(run_dir, "model.json"), "w") as file:
        json.dump({"bottom": loss}, file)


main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
'''


def resuming(root: Path, slurm: Cluster) -> SlurmLab:
    """A lab whose runs save what they go on from; they are held at step 10."""
    lab = SlurmLab(root, slurm, [], steps=20, more={"train.py": RESUMING})
    config = lab.root / "cockpit.toml"
    config.write_text(config.read_text().replace('/hold"]', '/hold", "{resume}"]', 1))
    lab.git("commit", "-q", "-a", "-m", "Save checkpoints")
    lab.hold.touch()
    return lab


def take_the_nodes(slurm: Cluster, session: Session) -> None:
    """Have somebody more important take them, for a moment."""
    words = ("--nodes=2", "--gres=gpu:4", "--ntasks-per-node=1", "--cpus-per-task=16", "--mem=4000")
    slurm.run("srun", "--partition=high", *words, "/bin/true")
    wait_for(lambda: "--confirm" in session.call("status")["phase"])


def preempt(lab: SlurmLab, slurm: Cluster, session: Session) -> None:
    """Have somebody more important take the nodes, once all runs are at step 10."""
    files = [lab.state.runs / f"trunk-1.screen.s{seed}.a1" / "metrics.jsonl" for seed in range(3)]
    wait_for(lambda: all(path.exists() and b'"step": 10' in path.read_bytes() for path in files))
    take_the_nodes(slurm, session)
    wait_for(lambda: [row["outcome"] for row in rows(session, "shard").values()] == ["preempted"] * 3)


def test_a_preempted_shard_goes_on_from_its_checkpoint_as_one_series(
    lab: Callable[..., SlurmLab], slurm: Cluster
) -> None:
    ours = lab(make=resuming)
    with ours.session() as session:
        session.call("pilot", action="confirm")
        wait_for(lambda: len(running(session)) == 3, 60)
        preempt(ours, slurm, session)
        ours.hold.unlink()
        session.call("pilot", action="confirm")
        wait_for(lambda: [row for row in rows(session, "shard").values() if row["metric"] is not None][2:], 90)
        for seed in range(3):
            again = rows(session, "shard")[f"trunk-1.screen.s{seed}.a2"]
            assert (again["outcome"], again["resumes"]) == ("finished", f"trunk-1.screen.s{seed}.a1")
            assert again["metric"] == (3.0 + seed) * 0.9**20 or abs(again["metric"] - (3.0 + seed) * 0.9**20) < 1e-12
            lines = [
                json.loads(line) for line in (ours.state.runs / again["id"] / "metrics.jsonl").read_text().splitlines()
            ]
            assert [line["step"] for line in lines if "step" in line] == list(range(20))
            assert {"summary": {"resumed_at": 8, "attempt": 2}} in lines
            curve = session.call("curve", shards=[again["id"]], metric="loss")[again["id"]]
            assert curve["steps"] == list(range(20))
        assert all(check["ok"] for check in session.call("verify")["checks"])


def scoring_slowly(root: Path, slurm: Cluster) -> SlurmLab:
    """A lab whose scoring waits for as long as a file is there."""
    file = root.parent / f"{root.name}.hold" / "score"
    wait = f"import os, time\nwhile os.path.exists({str(file)!r}):\n    time.sleep(0.01)\n"
    lab = SlurmLab(root, slurm, [], more={"score.py": SCORE + wait})
    file.touch()
    return lab


def test_scoring_that_was_preempted_is_done_again_and_is_no_fault_of_the_runs(
    lab: Callable[..., SlurmLab], slurm: Cluster
) -> None:
    ours = lab(make=scoring_slowly)

    def states(session: Session) -> list[tuple[str, str | None]]:
        return [(row["state"], row["outcome"]) for row in rows(session, "shard").values()]

    with ours.session() as session:
        session.call("pilot", action="confirm")
        wait_for(lambda: states(session) == [("scoring", None)] * 3, 90)
        wait_for(
            lambda: len(list(ours.runs.glob("*/score.json"))) == 3
        )  # that it is to be done does not say that it runs
        take_the_nodes(slurm, session)
        wait_for(lambda: len(list(ours.runs.glob("*/score-cut-off-1.json"))) == 3)
        assert states(session) == [("scoring", None)] * 3
        (ours.hold.parent / "score").unlink()
        session.call("pilot", action="confirm")
        wait_for(lambda: states(session) == [("ended", "finished")] * 3, 90)
        assert {row["attempt"] for row in rows(session, "shard").values()} == {1}
        assert all(row["metric"] is not None for row in rows(session, "shard").values())
