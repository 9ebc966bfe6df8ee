"""Whoever watches a lab on a cluster sees what its queue says, as it changes, and an attempt that goes on as one curve."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cockpit import cli
from cockpit.cluster import standing
from cockpit.model import ReadModel
from cockpit.widgets.cluster_line import cluster_line
from tests.slurm.cluster import Cluster
from tests.slurm.test_campaign import SlurmLab, preempt, resuming, running
from tests.tinylab import rows, wait_for


@pytest.fixture
def ours(slurm: Cluster, tmp_path: Path) -> Iterator[SlurmLab]:
    made = resuming(tmp_path / "tiny", slurm)
    yield made
    made.end()


def allocation(session: Any) -> dict[str, Any]:
    found: dict[str, Any] = session.call("cluster")["allocation"]
    return found


def asked(capsys: pytest.CaptureFixture[str], lab: SlurmLab) -> Callable[..., Any]:
    def ask(*words: str) -> Any:
        capsys.readouterr()
        assert cli.main(["--lab", str(lab.root), *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


def named(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(answer["columns"], row, strict=True)) if isinstance(row, list) else row for row in answer["rows"]]


def test_from_no_pilot_to_a_preempted_one_and_on(
    ours: SlurmLab, slurm: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = asked(capsys, ours)
    with ours.session() as session:
        assert session.hello["cluster"] is True
        before = wait_for(lambda: found if "sentence" in (found := allocation(session)) else None)
        assert (before["state"], before["gpu_hours"]) == ("none", 16.0)
        wait_for(lambda: before["sentence"] == session.call("status")["phase"])
        session.call("pilot", action="confirm")
        wait_for(lambda: len(running(session)) == 3, 60)
        held = allocation(session)
        assert (held["state"], held["nodes"], held["places"]) == ("ready", "n[1-2]", 8)
        assert "sentence" not in held
        shards = {each["id"]: each for each in ask("ls")["trunk"][0]["shards"]}
        for id, row in rows(session, "shard").items():
            stands = standing(session.call("cluster"), row)
            assert shards[id]["standing"] == stands
            assert (stands or {})["job"] == held["job"]
            assert shards[id]["node"] == row["node"]
        assert ask("status")["cluster"]["allocation"] == held
        one = "trunk-1.screen.s0.a1"
        assert ask("show", one)["standing"]["until"] == held["until"]
        preempt(ours, slurm, session)
        after = allocation(session)
        assert (after["state"], after["why"]) == ("none", f"pilot {held['job']} was preempted")
        ours.hold.unlink()
        session.call("pilot", action="confirm")
        wait_for(lambda: [row for row in rows(session, "shard").values() if row["metric"] is not None][2:], 90)
        again = "trunk-1.screen.s0.a2"
        curve = session.call("curve", shards=[again, one], metric="loss")
        assert (curve[again]["steps"], curve[again]["resumed_at"]) == (list(range(20)), 8)
        assert "resumed_at" not in curve[one]
        assert "standing" not in ask("show", again)
        cost = ask("sql", "cluster_cost")
        assert sum(row["preempted"] for row in named(cost)) == 3
        assert sum(row["went_on"] for row in named(cost)) == 3
        assert {row["node"] for row in named(ask("sql", "nodes"))} == {"n1", "n2"}


def test_a_pilot_that_waits_says_what_for(slurm: Cluster, tmp_path: Path) -> None:
    made = SlurmLab(tmp_path / "tiny", slurm, [])
    words = ("--nodes=2", "--exclusive", "--output=none", "--error=none")
    slurm.run("sbatch", "--partition=high", *words, "--wrap=sleep 1000")
    wait_for(lambda: "RUNNING" in slurm.run("squeue", "--noheader", "--format=%T"))
    try:
        with made.session() as session:
            session.call("pilot", action="confirm")
            held = wait_for(lambda: found if (found := allocation(session))["state"] == "waiting" else None)
            assert held["sentence"] == session.call("pilot")["sentence"]
            wait_for(lambda: "Resources" in allocation(session).get("why", ""))
            model = ReadModel()
            model.take_cluster(session.call("cluster"), whole=True)
            made_line = cluster_line(model, 200, 0.0)
            assert made_line is not None
            assert made_line.text == f" pilot {held['job']} waits for nodes to become free (Resources)"
    finally:
        made.end()
