"""What is said to Slurm and what it says, word by word: command lines, queue lines, and how a step is told to have ended."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.cluster import cluster_words
from engine.shards.slurm.agent import on_node
from engine.shards.slurm.clocks import APART_S, bracket, of_files
from engine.shards.slurm.commands import Programs, SlurmError, find, on_each_node, plain, salloc, step
from engine.shards.slurm.ends import Lost, Side, lived_s, lost
from engine.shards.slurm.order import GPUS, Order, OrderError, claim, claimed, read, record_end, stands
from engine.shards.slurm.parsing import Job, allocation, jobs, left, node_states, usable
from engine.shards.slurm.pilot import answers, idle_words, last, together, told
from engine.shards.slurm.settings import Settings, shown, slots_of
from engine.shards.slurm.step import SILENT, UNSTARTED
from engine.shards.spec import ExitRecord, ShardSpec
from engine.types import StandingRow

PROGRAMS = Programs({name: f"/usr/bin/{name}" for name in ("salloc", "srun")}, {"PATH": "/usr/bin"})
RUNNING = Job("7", "RUNNING", "None", 3600.0, "n[1-2]")
NODES = {"n1": "mixed", "n2": "mixed"}


def spec(tmp_path: Path) -> ShardSpec:
    env = {"CUDA_VISIBLE_DEVICES": GPUS, "SEED": "1"}
    run_dir = str(tmp_path / "runs" / "s")
    return ShardSpec(
        id="s", argv=("train", f"--on={GPUS}"), cwd="/", env=env, run_dir=run_dir, timeout_s=1.0, gpus=(GPUS,)
    )


def test_the_pilot_is_asked_for_as_it_was_shown() -> None:
    settings = Settings("gpu", "lab7", 5400.0, nodes=2, gpus=4, args=("--qos=short",))
    assert (
        settings.words(1)
        == "2 nodes with 4 GPUs each for 1 h 30 m on partition gpu, account lab7, with --qos=short: 8 shards at once"
    )
    assert (
        settings.words(4)
        == "2 nodes with 4 GPUs each for 1 h 30 m on partition gpu, account lab7, with --qos=short: 2 shards at once"
    )
    words = salloc(PROGRAMS, settings, "cockpit-1", ranks=2, threads=3)
    assert words[0] == "/usr/bin/salloc"
    assert {"--no-shell", "--no-kill", "--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=6", "--gres=gpu:4"} <= set(
        words
    )
    assert {"--time=90", "--partition=gpu", "--account=lab7", "--job-name=cockpit-1"} <= set(words)
    assert words[1] == "--qos=short"  # before what was shown: of an option that is said twice the last counts
    assert [slot.gpus for slot in slots_of(settings, 2)] == [(GPUS,)] * 4


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_every_step_says_which_gpus_it_wants_and_exports_nothing(gpus: int) -> None:
    for words in (
        step(PROGRAMS, "7", "n2", gpus, 2, ["/agent"]),
        on_each_node(PROGRAMS, "7", ("n1", "n2"), ["/agent"]),
    ):
        assert sum(word.startswith("--gres=") for word in words) == 1  # else it would get every GPU of the job
        assert {"--export=NIL", "--jobid=7", "--mpi=none", "--exact"} <= set(words)
        assert words[-1] == "/agent"


def test_commands_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(SlurmError, match=r"salloc, srun.*login node"):
        find({"PATH": str(tmp_path)})


def test_the_environment_of_commands_is_made_from_nothing(tmp_path: Path) -> None:
    for name in ("salloc", "srun", "squeue", "sinfo", "scancel", "scontrol", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    source = {
        "PATH": str(tmp_path),
        "ANTHROPIC_API_KEY": "k",
        "SLURM_CONF": "/etc/c",
        "SLURM_JOB_ID": "3",
        "HOME": "/h",
    }
    found = find(source)
    assert dict(found.env) == {"PATH": str(tmp_path), "SLURM_CONF": "/etc/c", "HOME": "/h", "SLURM_BITSTR_LEN": "0"}
    assert found["srun"] == str(tmp_path / "srun")


def test_queue_lines_are_read_and_others_are_not() -> None:
    text = "12|PENDING|Priority|4:00:00|\n13|RUNNING|None|1-02:03:04|n[1-2,7]\nslurm_load_jobs error\n|||\n"
    found = jobs(text)
    assert list(found) == ["12", "13"]
    assert (found["12"].pending, found["12"].why) == (True, "others come first (Priority)")
    assert found["13"] == Job("13", "RUNNING", "None", 93784.0, "n[1-2,7]")
    assert found["13"].why == ""
    assert Job("1", "PENDING", "SomethingNew", None, "").why == "SomethingNew"
    assert allocation("salloc: Pending job allocation 4\nsalloc: job 4 queued\n") == "4"
    assert allocation("salloc: error: Invalid partition") is None


@given(st.text(max_size=60))
def test_no_text_of_slurms_breaks_the_reading(text: str) -> None:
    jobs(text)
    node_states(text)
    allocation(text)
    left(text)
    if found := answers(text):
        together(found)


@given(st.integers(0, 9), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_time_left_is_read_as_slurm_writes_it(days: int, hours: int, minutes: int, seconds: int) -> None:
    whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert left(f"{days}-{hours:02}:{minutes:02}:{seconds:02}") == whole
    if not days:
        assert left(f"{hours:02}:{minutes:02}:{seconds:02}") == whole
    assert left("UNLIMITED") is None


def test_a_node_that_does_not_answer_gets_no_shard() -> None:
    for state in ("idle", "mixed", "allocated"):
        assert usable(state)
    for state in ("idle*", "mixed*", "down", "down*", "drained", "draining", "fail"):
        assert not usable(state)


SIDE = Side(claimed=True, node="n1", code=0, said="srun: error: Node failure on n1")


@pytest.mark.parametrize(
    ("side", "job", "nodes", "answered", "how"),
    [
        (replace(SIDE, how="stopped"), None, {}, True, "stopped"),
        (SIDE, RUNNING, NODES | {"n1": "down*"}, True, "node-lost"),  # srun said 0
        (replace(SIDE, code=SILENT), RUNNING, NODES, True, "node-lost"),
        (replace(SIDE, code=SILENT), RUNNING, NODES, False, "node-lost"),  # and the controller is away
        (SIDE, None, NODES, True, "preempted"),
        (SIDE, None, NODES, False, "vanished"),
        (SIDE, replace(RUNNING, state="TIMEOUT"), NODES, True, "preempted"),
        (SIDE, replace(RUNNING, state="PENDING"), NODES, True, "preempted"),
        (SIDE, replace(RUNNING, state="NODE_FAIL"), NODES, True, "node-lost"),
        (SIDE, RUNNING, NODES, True, "vanished"),
        (replace(SIDE, claimed=False), RUNNING, NODES, True, "start-failed"),
    ],
)
def test_how_a_step_without_a_record_ended(
    side: Side, job: Job | None, nodes: dict[str, str], answered: bool, how: str
) -> None:
    found = lost(side, job, nodes, answered)
    assert isinstance(found, Lost)
    assert found.how == how
    assert found.why or how == "stopped"


def test_walltimes_end_is_told_as_that() -> None:
    assert "walltime" in lost(SIDE, replace(RUNNING, state="TIMEOUT"), NODES, True).why


def test_the_level_is_what_every_node_reaches() -> None:
    def said(node: str, level: int, program: str | None = "/bwrap") -> str:
        program_text = "null" if program is None else f'"{program}"'
        more = f'"program": {program_text}, "gpus": ["GPU of {node[:2]}"]'
        return f'{{"node": "{node}", "level": {level}, "reasons": ["no {node}"], {more}}}\n'

    assert together(answers(said("n1", 3) + said("n2", 3)))[0].level == 3
    assert together(answers(said("n1", 3) + said("n2", 2, None)))[0].level == 2
    assert together(answers(said("n1", 3) + said("n2", 2, None)))[0].reasons == ("on n2: no n2",)
    assert together(answers(said("n1", 3) + said("n2", 3, "/other")))[0].level == 2
    assert together(answers(said("n1", 3) + said("n1b", 3)))[0].gpus == ("GPU of n1",)
    assert together(answers(said("n1", 3) + said("n2", 3)))[0].gpus == ("GPU of n1", "GPU of n2")


# --- clocks


moments = st.floats(0, 10.0)


@given(st.floats(-1e6, 1e6), moments, moments, moments)
def test_the_true_offset_of_a_clock_is_in_the_span(
    offset: float, until_first: float, between: float, rest: float
) -> None:
    """The node looks twice, somewhere between our question and its answer."""
    before = 1.7e9
    first = before + until_first
    last, after = first + between, first + between + rest
    found = bracket(before, after, first + offset, last + offset)
    assert found is not None
    assert found.low - 1e-3 <= offset <= found.high + 1e-3
    assert abs(found.within - (until_first + rest) / 2) < 1e-3  # the time between its two looks costs nothing
    if found.apart:
        assert abs(offset) > APART_S - 1e-3
    if abs(offset) > APART_S + until_first + rest + 1e-3:
        assert found.apart


@pytest.mark.parametrize("clock", [(float("nan"), 1.0), (5.0, float("inf")), (9.0, 2.0)])
def test_a_clock_that_says_nonsense_has_no_offset(clock: tuple[float, float]) -> None:
    assert bracket(0.0, 1.0, *clock) is None


def test_the_clock_of_this_machines_files_is_its_own(tmp_path: Path) -> None:
    found = of_files(tmp_path)
    assert found is not None
    assert not found.apart
    assert found.low <= 0 <= found.high
    assert list(tmp_path.iterdir()) == []
    assert of_files(tmp_path / "gone") is None


def test_a_node_may_say_what_it_likes_of_its_clock() -> None:
    said = '{"node": "n1", "level": 3, "reasons": [], "program": "/b", "clock": %s}\n'
    assert answers(said % "[1.0, 2.5]")[0].clock == (1.0, 2.5)
    for nonsense in ("null", "[1.0]", '"now"'):
        assert answers(said % nonsense)[0].clock is None
    assert answers(said % '["a", "b"]') == []
    for line in ("0", "[]", '{"node": "n1", "level": 1e999, "reasons": [], "program": null}'):
        assert answers(line) == []


@given(
    st.dictionaries(st.just("at"), st.none() | st.text() | st.floats()),
    st.none() | st.dictionaries(st.just("at"), st.floats()),
)
def test_what_a_lost_shard_ran_is_never_negative(claim: dict[str, Any], beat: dict[str, Any] | None) -> None:
    assert 0.0 <= lived_s(claim, beat) < float("inf")


def test_what_a_lost_shard_ran_is_by_its_nodes_clock_alone() -> None:
    assert lived_s({"at": 5.0}, {"at": 47.5}) == 42.5
    assert lived_s({"at": 5.0}, None) == 0.0


# --- how an allocation ended


def test_how_an_allocation_ended_is_told_with_who_wished_it() -> None:
    end = {"id": "a", "job": "7", "how": "timeout", "since": 1.0, "until": 9.0}
    assert (told(end).how, told(end).why) == ("timeout", "pilot 7 ended with its walltime (timeout)")
    assert told(end | {"how": "preempted"}).why == "pilot 7 was preempted"
    assert told(end | {"how": "boot_fail"}).why == "pilot 7 ended (boot_fail)"
    back = end | {"how": "released", "why": "done for today"}
    assert last(told(back)) == "pilot 7 was given back (done for today)"
    assert last(told(back | {"why": ""})) == "pilot 7 was given back"
    assert last(told(end)) == told(end).why
    kept = told(end | {"how": "idle", "idle_s": 600.0, "engine": False})
    assert (kept.why, kept.rule, kept.who) == (
        "released after 10 idle minutes, while no engine ran",
        "[slurm] idle",
        None,
    )
    assert idle_words(30.0) == "released after 30 idle seconds"
    wish = {"how": "released", "why": "done", "who": {"kind": "person", "name": "Ada"}}
    for how in ("released", "cancelled", "gone"):  # the engine may have died before it could say so
        found = told(end | {"how": how, "release": wish})
        assert (found.how, found.why, found.who) == ("released", "done", wish["who"])
    found = told(end | {"release": wish})  # its walltime came first
    assert (found.how, found.who) == ("timeout", None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (90, "1 m"), (3600, "1 h"), (13_200, "3 h 40 m"), (200_000, "2 d 7 h")]
)
def test_spans_are_shown_as_people_say_them(seconds: float, text: str) -> None:
    assert shown(seconds) == text


# --- orders


def test_gpus_are_those_that_slurm_gave(tmp_path: Path) -> None:
    found = on_node(spec(tmp_path), "2,3")
    assert (found.argv[1], found.env["CUDA_VISIBLE_DEVICES"], found.gpus) == ("--on=2,3", "2,3", ("2", "3"))


def test_an_order_is_read_as_it_was_written_and_taken_once(tmp_path: Path) -> None:
    order = Order(spec(tmp_path), ("/srun", "x"), "/scancel", {"A": "1"}, "7", "n1", "/key", "nonce")
    place = tmp_path / "steps" / "s"
    order.write(place)
    assert read(place) == order
    assert claimed(place) is None
    assert claim(place, {"node": "n1"})
    assert not claim(place, {"node": "n2"})
    assert claimed(place) == {"node": "n1"}
    assert stands(place, "nonce")
    replace(order, nonce="another").write(place)
    assert not stands(place, "nonce")  # an agent of the first order ends its shard and writes nothing
    (place / "order.json").write_text("{}")
    with pytest.raises(OrderError):
        read(place)


def test_the_first_word_on_an_end_stands(tmp_path: Path) -> None:
    key = b"k" * 32
    (tmp_path / "launcher.key").write_bytes(key)
    run_dir = tmp_path / "runs" / "s"
    run_dir.mkdir(parents=True)
    (run_dir / "exit.json").write_text('{"planted": true}')
    lost_first = ExitRecord("s", "node-lost", None, None, 1.0, 2.0, None)
    assert record_end(run_dir, lost_first, "exit.json", key) == lost_first
    late = ExitRecord("s", "exited", 0, None, 1.0, 3.0, 9)
    assert record_end(run_dir, late, "exit.json", key) == lost_first


def test_an_order_that_cannot_be_read_just_now_has_not_been_taken_away(tmp_path: Path) -> None:
    place = tmp_path / "steps" / "s"
    Order(spec(tmp_path), ("srun",), "scancel", {}, "7", "n1", "key", "nonce").write(place)
    assert stands(place, "nonce")
    assert not stands(place, "another")
    (place / "order.json").rename(place / "aside")
    assert not stands(place, "nonce")
    (place / "order.json").mkdir()  # any error but that it is not there
    assert stands(place, "nonce")


def test_a_step_that_was_told_to_stop_while_it_waited_is_not_tried_again(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    Order(spec(tmp_path), ("/bin/sh", "-c", f"echo >> {tries}; exit 1"), "", {}, "7", "n1", "key", "nonce").write(
        tmp_path
    )
    code = (
        "import os, sys; from engine.shards.slurm import step; "
        "step.time.sleep = lambda seconds: os.kill(os.getpid(), 15); sys.exit(step.main(sys.argv[1:]))"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, env={"PYTHONPATH": str(root)}, timeout=60
    )
    assert done.returncode == UNSTARTED
    assert len(tries.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("said", "short"),
    [
        (
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
            "Unable to contact slurm controller (connect failure)",
        ),
        ("scancel: error: Kill job error on job id 1: Invalid job id", "Kill job error on job id 1: Invalid job id"),
        (
            "allocation failure: Requested node configuration is not available",
            "Requested node configuration is not available",
        ),
        ("/usr/bin/sbatch: unrecognized option '--nonsense'", "unrecognized option '--nonsense'"),
        ("some words of a plugin: of its own", "some words of a plugin: of its own"),
        ("", ""),
    ],
)
def test_an_error_of_slurms_is_told_without_what_its_commands_put_before_it(said: str, short: str) -> None:
    assert plain(said) == short


def test_a_job_that_waits_is_said_to_wait_once() -> None:
    waiting = replace(RUNNING, state="PENDING", reason="Resources")
    assert waiting.waits == "waits for nodes to become free (Resources)"
    assert replace(waiting, reason="Priority").waits == "waits: others come first (Priority)"
    assert replace(waiting, reason="None").waits == "waits"
    assert replace(waiting, state="SUSPENDED", reason="None").waits == "is suspended"
    shards: dict[str, StandingRow] = {
        "a": {"state": "queued", "why": waiting.why, "starts": 60.0},
        "b": {"state": "queued", "why": "others come first (Priority)"},
    }
    words = cluster_words({"allocation": {"state": "none", "words": ""}, "shards": shards}, 60.0)
    assert words == ["a waits for nodes to become free (Resources)", "b waits: others come first (Priority)"]
