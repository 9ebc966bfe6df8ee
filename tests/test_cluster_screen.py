"""On screen 1 a researcher sees where shards run on a cluster and what the others wait for; on one machine nothing of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cockpit.app import CockpitApp
from cockpit.attempts import waiting
from cockpit.cluster import span, standing
from cockpit.model import ReadModel
from cockpit.report import pictures
from cockpit.report.gather import Answer, Comparison, ShardCurve
from cockpit.summary import main_shard, shard_facts
from cockpit.widgets.cluster_line import cluster_line
from cockpit.widgets.lines import Lines
from cockpit.widgets.runs_table import columns, heading, row_line
from engine.rpc import RpcError
from tests.fakes import STEPS, T0, ScriptedEngine, experiment_row, lab_in_progress, lab_row, loss_curve, shard_row
from tests.test_app import Desk, sitting
from tests.test_terminal import Terminal, environment

WORDS = "2 nodes with 4 GPUs each for 4 h on partition gpu, account lab7: 8 shards at once"
WHY = "others come first (Priority)"
NOW = T0 + 3600.0
READY = {"state": "ready", "words": WORDS, "gpu_hours": 32.0, "job": "4711", "nodes": "n[1-2]", "places": 8}
NONE = {"state": "none", "words": WORDS, "gpu_hours": 32.0, "sentence": "no pilot is there"}


def cluster(allocation: dict[str, Any], **shards: dict[str, Any]) -> dict[str, Any]:
    return {"allocation": allocation, "shards": {name.replace("_", "."): row for name, row in shards.items()}}


def on_a_cluster(told: dict[str, Any], phase: str = "running") -> ScriptedEngine:
    """One experiment: seed 0 was preempted and goes on, seed 1 waits for a job of its own, seed 2 has not begun."""
    engine = lab_in_progress()
    engine.put(lab_row(phase=phase))
    engine.put(experiment_row("0011", "a longer run", state="running", created=T0 + 9000))
    engine.put(
        shard_row("0011", 0, outcome="preempted", node="n1", gpus="0", detail="pilot 4710 was preempted by job 17")
    )
    engine.put(
        shard_row(
            "0011", 0, id="0011.screen.s0.a2", attempt=2, state="running", outcome=None, node="n2", gpus="1,3",
            resumes="0011.screen.s0.a1", started=NOW - 600, ended=None,
        )
    )  # fmt: skip
    engine.put(shard_row("0011", 1, state="queued", outcome=None, started=None, ended=None))
    engine.push_live(
        "0011.screen.s0.a2",
        {
            "step": 120, "steps": STEPS, "value": 2.5, "tokens_per_s": 1000.0, "eta_s": 900.0, "resumed_at": 60,
            "points": loss_curve(2.0, 0, upto=120),
        },
    )  # fmt: skip
    engine.answers["cluster"] = told
    engine.notify("connected", cluster=True)
    return engine


def told(left_s: float = 3.2 * 3600) -> dict[str, Any]:
    waits = {"state": "queued", "job": "4712", "why": WHY}
    return {"allocation": {**READY, "until": NOW + left_s}, "shards": {"0011.screen.s1.a1": waits}}


@asynccontextmanager
async def at_the_cluster(
    engine: ScriptedEngine | None = None, size: tuple[int, int] = (200, 50)
) -> AsyncIterator[Desk]:
    async with sitting(engine or on_a_cluster(told()), size) as desk:
        desk.app.wall = lambda: NOW
        await desk.until(lambda: desk.app.model.cluster is not None)
        desk.app.tick()
        desk.runs.sync()
        await desk.settle()
        yield desk


def line_of(desk: Desk) -> str:
    return desk.runs.query_one("#cluster", Lines).lines[0].text


async def select(desk: Desk, shard: str) -> None:
    for _ in range(40):
        cursor = desk.runs.table.cursor
        if cursor is not None and cursor.experiment == "0011" and cursor.shard is None and not desk.runs.unfolded:
            await desk.press("l")
        if cursor is not None and cursor.shard == shard:
            return
        await desk.press("j")
    raise AssertionError(desk.text)


async def test_one_line_says_how_the_pilot_stands_and_the_status_line_does_not_say_it_again() -> None:
    engine = on_a_cluster(told(), "running on pilot 4711 on n[1-2], 3 h 12 m left")
    async with at_the_cluster(engine) as desk:
        assert line_of(desk) == " pilot 4711 · n[1-2] · 1 of 8 busy · 3 h 12 m left · 1 in the queue"
        assert "pilot" not in desk.status
        assert "running" in desk.status
        await desk.press("2")
        assert "pilot 4711" in desk.status  # there is no such line on the others


async def test_the_walltime_is_counted_down_without_a_message() -> None:
    async with at_the_cluster() as desk:
        desk.app.wall = lambda: NOW + 3600
        await desk.settle()
        assert "2 h 12 m left" in line_of(desk)


async def test_too_little_walltime_for_what_runs_is_marked() -> None:
    async with at_the_cluster(on_a_cluster(told(left_s=700))) as desk:
        assert "11 m left, 15 m needed" in line_of(desk)
        spans = desk.runs.query_one("#cluster", Lines).lines[0].spans
        assert [colour for text, colour in spans if "left" in text] == ["warn"]


async def test_without_a_pilot_the_line_says_what_p_asks_for_and_what_waits_for_it() -> None:
    engine = on_a_cluster(cluster({**NONE, "why": "pilot 4711 ended (timeout)"}), "no pilot is there")
    async with at_the_cluster(engine) as desk:
        assert line_of(desk).startswith(" pilot 4711 ended (timeout), ")
        assert f"wait: p asks for {WORDS}" in line_of(desk)
        assert "no pilot is there" not in desk.text


@pytest.mark.parametrize(
    ("why", "said"),
    [(WHY, f" waits: {WHY}"), ("waits for nodes (Resources)", " waits for nodes (Resources)"), ("", " waits")],
)
async def test_a_pilot_that_waits_says_why(why: str, said: str) -> None:
    told = {"state": "waiting", "words": WORDS, "job": "4711", "why": why, "sentence": "it waits"}
    async with at_the_cluster(on_a_cluster(cluster(told), "it waits")) as desk:
        assert line_of(desk) == f" pilot 4711{said}"
        assert "it waits" not in desk.text


async def test_a_controller_that_does_not_answer_is_said_in_the_warning_colour() -> None:
    engine = on_a_cluster(cluster({**READY, "trouble": "squeue: Unable to contact slurm controller"}))
    async with at_the_cluster(engine) as desk:
        last = desk.runs.query_one("#cluster", Lines).lines[0].spans[-1]
        assert last == (" · no answer: squeue: Unable to contact slurm controller", "warn")


async def test_a_lost_node_is_said_in_the_warning_colour() -> None:
    async with at_the_cluster(on_a_cluster(cluster({**READY, "nodes": "n2", "places": 4, "unwell": 1}))) as desk:
        assert line_of(desk).startswith(" pilot 4711 · n2, 1 node lost or unwell · ")
        spans = desk.runs.query_one("#cluster", Lines).lines[0].spans
        assert [colour for text, colour in spans if "lost" in text] == ["warn"]


async def test_what_is_new_comes_by_itself_and_only_that() -> None:
    async with at_the_cluster() as desk:
        desk.engine.notify("cluster", shards={"0011.screen.s1.a1": None})
        await desk.until(lambda: desk.app.model.cluster is not None and not desk.app.model.cluster["shards"])
        assert "3 h 12 m left" in line_of(desk)
        desk.engine.notify("cluster", allocation={**NONE, "why": "you gave it back"})
        await desk.until(lambda: line_of(desk).startswith(" you gave it back"))


async def test_shards_in_jobs_of_their_own_are_counted_apart() -> None:
    now: Any = told()
    now["shards"] |= {"0011.screen.s0.a2": {"state": "running", "job": "4713", "until": NOW + 60, "node": "n2"}}
    async with at_the_cluster(on_a_cluster(now)) as desk:
        assert " 0 of 8 busy · 3 h 12 m left · 1 in a job of its own · 1 in the queue" in line_of(desk)
        await select(desk, "0011.screen.s0.a2")
        assert "node n2 · GPU 1,3 · job 4713 · 1 m left" in desk.text


async def test_rows_show_node_and_gpu_and_why_a_shard_waits() -> None:
    async with at_the_cluster() as desk:
        await select(desk, "0011.screen.s1.a1")
        table = [line for line in desk.text.split("\n") if "└ " in line[:8]]
        assert any("n2:1,3" in line and "↻2 · step 120" in line for line in table), table
        waits = next(line for line in table if "queued" in line)
        assert "others come first" in waits
        side = " ".join(desk.text.split())
        assert f"in the queue as job 4712: {WHY}" in side


async def test_the_side_pane_says_where_it_runs_and_what_it_goes_on_from() -> None:
    async with at_the_cluster() as desk:
        await select(desk, "0011.screen.s0.a2")
        assert "node n2 · GPU 1,3 · job 4711 · 3 h 12 m left" in desk.text
        assert "goes on from a1 at step 60, which was preempted on n1" in desk.text
        assert "┆ went on at step 60" in desk.text
        await desk.press("k")
        assert "pilot 4710 was preempted by job 17" in desk.text
        assert "a2 went on from it at step 60" in desk.text


async def test_in_a_small_terminal_the_line_is_cut_and_the_columns_are_left_out() -> None:
    engine = on_a_cluster(cluster({**NONE, "why": "pilot 4711 ended (timeout)"}))
    async with at_the_cluster(engine, (80, 24)) as desk:
        assert line_of(desk).endswith("…")
        assert len(line_of(desk)) <= 80
        assert "node:gpu" not in desk.text


LARGE = """\
 pilot 4711 · n[1-2] · 1 of 8 busy · 3 h 12 m left · 1 in the queue
   id       state      node:gpu hypothesis                     seeds         val_bpb     better than trunk by   left
 ◇ trunk-1  trunk               trunk as of your branch main   3/3            2.0138                               ·
 ● 0011     running             a longer run                   0/3  ╌╌╌╌╌╌╌        ·                        ·    15m
   └ ■ s0   preempted  n1:0     seed 0 · pilot 4710 was preem…                     ·                        ·      ·
   └ ● s0   running    n2:1,3   ↻2 · step 120 of 300 · screen… 40%  ━━╌╌╌╌╌        ·                        ·    15m
   └ ○ s1   queued              seed 1 · others come first (P…                     ·                        ·      ·
"""
SMALL = """\
 pilot 4711 · n[1-2] · 1 of 8 busy · 3 h 12 m left · 1 in the queue
   id       hypothesis                  loss       seeds  val_bpb       vs trunk
 ◇ trunk-1  trunk as of your branch ma… ⣷⣄⣀⣀⣀⣀⣀⣀⣀⣀ 3/3     2.0138
 ● 0011     a longer run                ⣿⣶⣤⣄⣀⣀⣀⣀⣀⣀ 0/3          ·              ·
   └ ■ s0   seed 0 · pilot 4710 was pr…                         ·              ·
   └ ● s0   ↻2 · step 120 of 300 · scr… ⣿⣶⣤⣄⣀⣀⣀⣀⣀⣀ 40%          ·              ·
   └ ○ s1   seed 1 · others come first…                         ·              ·
"""


@pytest.mark.parametrize(("size", "looks"), [((200, 50), LARGE), ((80, 24), SMALL)])
async def test_the_screen_looks_like_this(size: tuple[int, int], looks: str) -> None:
    async with at_the_cluster(size=size) as desk:
        await select(desk, "0011.screen.s1.a1")
        await desk.settle()
        await desk.until(lambda: size[0] > 80 or "⣷" in desk.text.split("\n")[3])
        width = 116 if size[0] == 200 else 80
        assert [line[:width].rstrip() for line in desk.text.split("\n")[1:8]] == looks.splitlines()


async def test_on_one_machine_there_is_nothing_of_it() -> None:
    engine = lab_in_progress()
    async with sitting(engine, (200, 50)) as desk:
        assert not desk.runs.query_one("#cluster", Lines).display
        assert engine.asked("cluster") == []
        assert "pilot" not in desk.text
        assert "node" not in desk.text


async def test_what_p_asks_names_the_cost_and_what_waits_and_the_line_changes_at_once() -> None:
    engine = on_a_cluster(cluster(NONE), "no pilot is there")
    engine.answers["pilot"] = {"asked": False, "words": WORDS, "sentence": "no pilot is there"}
    async with at_the_cluster(engine) as desk:
        await desk.press("p")
        await desk.until(lambda: desk.asking)
        count = waiting(desk.app.model)
        assert count > 1
        assert f"At most 32 GPU-hours in the pilot alone; {count} shards wait for it." in " ".join(desk.text.split())
        engine.answers["pilot"] = {"asked": True, "words": WORDS, "sentence": "the pilot is being asked for"}
        engine.answers["cluster"] = cluster({"state": "asked", "words": WORDS, "sentence": "it is being asked for"})
        await desk.press("enter")
        await desk.until(lambda: line_of(desk) == " pilot is being asked for")


async def test_hostile_words_of_the_queue_reach_the_terminal_as_signs() -> None:
    engine = on_a_cluster(cluster({**READY, "state": "waiting", "why": "\x1b]52;c;x\x07[b]bold[/b]"}))
    async with at_the_cluster(engine) as desk:
        assert "\x1b" not in line_of(desk)
        assert "[b]bold[/b]" in line_of(desk)


async def test_an_engine_that_comes_back_without_a_cluster_leaves_nothing_of_it() -> None:
    async with at_the_cluster() as desk:
        desk.engine.drop()
        await desk.settle()
        desk.engine.restore()
        await desk.until(lambda: desk.app.model.cluster is None)
        await desk.until(lambda: not desk.runs.query_one("#cluster", Lines).display)
        assert "pilot 4711" not in desk.text.split("\n")[1]


async def test_an_engine_that_refuses_the_question_does_not_stop_the_rest() -> None:
    engine = on_a_cluster(told())
    engine.refuse["cluster"] = RpcError(-32000, "not now")
    async with sitting(engine) as desk:
        await desk.until(lambda: desk.app.follower.trouble == "not now")
        assert "0011" in desk.text


def show_clock(flag: str) -> None:
    """Entry of a child process: a cockpit whose wall clock is as many minutes on as the file `flag` says."""
    app = CockpitApp(on_a_cluster(told()), theme="dusk", wall=lambda: NOW + 60 * int(Path(flag).read_text() or 0))
    asyncio.run(app.run_async())


def test_a_minute_of_walltime_costs_a_few_bytes_on_the_wire(tmp_path: Path) -> None:
    flag = tmp_path / "minutes"
    flag.write_text("0")
    code = f"from tests.test_cluster_screen import show_clock; show_clock({str(flag)!r})"
    with Terminal("-c", code, env=environment(tmp_path), size=(50, 200)) as terminal:
        terminal.read_until("3 h 12 m left", "referee: val_bpb", "trunk mean of 3")
        move(flag, "1")
        terminal.read_until("3 h 11 m left")  # whatever belongs to the first paint has come by now
        costs = []
        for minutes in (2, 3):
            before = len(terminal.data)
            move(flag, str(minutes))
            terminal.read_until(f"3 h {12 - minutes} m left")
            costs.append(len(terminal.data) - before)
        assert min(costs) < 60


def move(flag: Path, minutes: str) -> None:
    new = flag.with_suffix(".new")
    new.write_text(minutes)
    new.replace(flag)


# --- pure


def test_a_seed_that_was_cut_off_waits_again() -> None:
    model = ReadModel()
    rows: list[Any] = [lab_row(), experiment_row("0001", "x", state="running")]
    rows += [shard_row("0001", 0), shard_row("0001", 1, outcome="node-lost")]
    model.apply([{**row, "seq": at} for at, row in enumerate(rows, 1)], len(rows))
    assert waiting(model) == 2  # seed 1 again, and seed 2


def test_a_shard_of_the_allocation_is_told_by_its_row_alone() -> None:
    row = shard_row("0001", 0, state="running", outcome=None, node="n1", gpus="2")
    whole: Any = cluster({**READY, "until": 5.0})
    assert standing(whole, row) == {"state": "running", "job": "4711", "until": 5.0, "node": "n1", "gpus": "2"}
    assert standing(whole, {**row, "state": "ended"}) is None
    assert standing(None, row) is None
    assert len(json.dumps(whole)) < 250


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(11520.0, "3 h 12 m"), (3600.0, "1 h"), (59.0, "under a minute"), (60.0, "1 m"), (200_000.0, "2 d 7 h")],
)
def test_walltime_in_words(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("width", [116, 130, 200])
@pytest.mark.parametrize("where", ["n1:0", "gpu-a100-rack7-node017:0,1,2,3"])
def test_columns_stand_below_their_names(width: int, weighed: bool, where: str) -> None:
    cols = columns(width, weighed=weighed, place=14)
    model = ReadModel()
    row = shard_row(
        "0001", 0, state="running", outcome=None, node=where.partition(":")[0], gpus=where.partition(":")[2]
    )
    made = row_line(shard_facts(model, row), cols, depth=1).text
    assert cols.place
    assert len(made) <= width
    assert len(made) == len(heading(cols, "val_bpb").text)
    start = heading(cols, "val_bpb").text.index("node:gpu")
    assert made[start : start + 14].rstrip() == (where if len(where) < 14 else "…" + where[-13:])


@pytest.mark.parametrize("width", range(1, 90))
def test_the_line_never_takes_more_than_its_width(width: int) -> None:
    model = ReadModel()
    model.take_cluster(cluster({**READY, "until": NOW + 99}), whole=True)
    made = cluster_line(model, width, NOW)
    assert made is not None
    assert len(made.text) <= width


def test_the_report_marks_where_a_run_went_on() -> None:
    curve = ShardCurve("0001.screen.s0.a2", "0001", [0, 50, 100], [3.0, 2.0, 1.0], resumed_at=50)
    made = pictures.curves(Comparison("0001", "", "trunk-1", [curve], [], Answer("", "", "", "")), "loss")
    assert made.count("0001.screen.s0.a2 went on at step 50") == 1
    assert made.count('class="equal"') == 1


def test_an_attempt_after_which_there_was_another_steps_back() -> None:
    model = ReadModel()
    rows: list[Any] = [
        lab_row(),
        experiment_row("0001", "x", state="running"),
        shard_row("0001", 0, outcome="preempted"),
    ]
    rows += [shard_row("0001", 1, outcome="preempted"), shard_row("0001", 0, id="0001.screen.s0.a2", attempt=2)]
    model.apply([{**row, "seq": at} for at, row in enumerate(rows, 1)], len(rows))
    past = {name: shard_facts(model, row).past for name, row in model.shards.items()}
    assert past == {"0001.screen.s0.a1": True, "0001.screen.s1.a1": False, "0001.screen.s0.a2": False}
    assert main_shard(model, "0001") == "0001.screen.s1.a1"
