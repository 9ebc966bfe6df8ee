"""Jobs of their own, word by word: what Slurm is told and says of them, how they ended, how often it is asked."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.campaign import Launch, plan
from engine.lab import Lab
from engine.shards.slurm import order
from engine.shards.slurm.batches import Batch, Batches, Task
from engine.shards.slurm.bucket import Bucket
from engine.shards.slurm.commands import Controller, Programs, batch, lasting, script, size_of
from engine.shards.slurm.ends import of_own_job
from engine.shards.slurm.parsing import Job, accounted, expected, jobs, never, seen, starts, submitted, tasks
from engine.shards.slurm.settings import Settings
from tests.campaigns import Campaign
from tests.test_campaign import lab

PROGRAMS = Programs({"sbatch": "/usr/bin/sbatch"}, {"PATH": "/usr/bin"})


# --- command lines


def test_alike_shards_are_one_array_and_one_alone_is_none() -> None:
    settings = Settings("gpu", "lab7", args=("--qos=long",))
    size = [*size_of(2, 4, 8), lasting(3630.0)]
    many = batch(PROGRAMS, settings, "cockpit-1-a", size, 6, "/shared/100%/jobs/a")
    assert {"--array=0-5", "--no-requeue", "--nodes=2", "--gres=gpu:4", "--time=61", "--job-name=cockpit-1-a"} <= set(
        many
    )
    assert "--output=/shared/100%%/jobs/a/%a.out" in many  # sbatch reads % as its own
    assert many[1] == "--qos=long"  # before all that is ours to say
    one = batch(PROGRAMS, settings, "cockpit-1-a", size, 1, "/shared/jobs/a")
    assert not any(word.startswith("--array") for word in one)
    assert "--output=/shared/jobs/a/0.out" in one
    assert "--gres=none" in size_of(1, 0, 1)


def test_the_script_is_its_agent_and_nothing_of_it_is_the_shells_to_read() -> None:
    said = script(["/python", "-c", "print('$HOME')", "/a dir/it's"]).decode()
    assert said.splitlines() == [
        "#!/bin/sh",
        """exec /python -c 'print('"'"'$HOME'"'"')' '/a dir/it'"'"'s' "${SLURM_ARRAY_TASK_ID:-0}\"""",
    ]


# --- what the queue says


def test_tasks_that_wait_are_one_line_of_squeues_and_one_job_each_here() -> None:
    text = (
        "9_[2-4,7%2]|PENDING|Resources|5:00||2026-11-27T02:55:00\n9_0|RUNNING|None|4:58|n1|2026-11-27T02:25:53\n"
        "12|PENDING|QOSMaxGRESPerUser|UNLIMITED||N/A\n9_[|PENDING|None|1:00||\n9_[a-b]|PENDING|None|1:00||\n"
    )
    found = jobs(text)
    assert list(found) == ["9_2", "9_3", "9_4", "9_7", "9_0", "12", "9_*"]
    assert found["9_7"] == Job("9_7", "PENDING", "Resources", 300.0, "", "2026-11-27T02:55:00")
    assert seen(found, "9_5") == Job("9_*", "PENDING", "None", 60.0, "")  # of a line that was cut off: of any task
    assert (seen(found, "9_0"), seen(found, "8_5"), seen(found, "9")) == (found["9_0"], None, None)
    assert found["12"].why == "your limit of GPUs is reached (QOSMaxGRESPerUser)"
    assert found["12"].start == ""
    assert expected(found["9_7"].start, datetime(2026, 11, 27, 2, 45)) == 600.0
    assert expected(found["9_7"].start, datetime(2026, 11, 27, 3)) == 0.0
    assert expected("2027-11-27T02:55:00", datetime(2026, 11, 27)) is None  # Slurm knows nothing, really
    assert expected("N/A") is None
    assert starts("2026-11-27T02:55:00", datetime(2026, 11, 27, 3)) == datetime(2026, 11, 27, 2, 55).timestamp()
    assert starts("2027-11-27T02:55:00", datetime(2026, 11, 27)) is None


@given(st.sets(st.integers(0, 400), min_size=1))
def test_every_task_of_an_array_is_found_again(wanted: set[int]) -> None:
    numbers, spans = sorted(wanted), []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    assert list(tasks(f"77_[{text}]")) == [f"77_{number}" for number in numbers]
    assert list(tasks(f"77_[{text}%3]")) == [f"77_{number}" for number in numbers]


@given(st.text(alphabet="0123456789_[],-:% |ABC;\n", max_size=60))
def test_no_text_of_slurms_breaks_the_reading_of_arrays(text: str) -> None:
    assert len(list(tasks(text))) <= 10_000
    jobs(text)
    accounted(text)
    submitted(text)
    expected(text)
    starts(text)


def test_a_huge_array_of_somebodys_making_is_cut_off() -> None:
    assert len(list(tasks("1_[0-999999999]"))) == 10_000


def test_the_accounting_is_read_without_its_steps() -> None:
    text = "9_0|CANCELLED by 0|0:15|None\n9_0.batch|CANCELLED|0:15|\n10|OUT_OF_MEMORY|0:125|None\nnonsense\n"
    assert {id: job.state for id, job in accounted(text).items()} == {"9_0": "CANCELLED", "10": "OUT_OF_MEMORY"}


def test_the_number_is_the_last_line_whatever_the_site_says_before_it() -> None:
    assert submitted("Welcome to the cluster\n123;alps\n") == "123"
    assert submitted("No job\n") is None


@pytest.mark.parametrize(
    ("said", "for_good"),
    [
        ("sbatch: error: invalid partition specified: nowhere", True),
        ("Batch job submission failed: Invalid account or account/partition combination specified", True),
        ("Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)", True),
        ("Batch job submission failed: Requested node configuration is not available", True),
        ("Batch job submission failed: Invalid qos specification", True),
        ("error: QOSMaxSubmitJobPerUserLimit Batch job submission failed: Job violates accounting/QOS policy", False),
        ("error: AssocMaxSubmitJobLimit Batch job submission failed: Job violates accounting/QOS policy", False),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", False),
        ("Batch job submission failed: Socket timed out on send/recv operation", False),
        ("sbatch does not answer within 20 s", False),
    ],
)
def test_limits_and_an_absent_controller_pass_and_wrong_words_do_not(said: str, for_good: bool) -> None:
    assert never(said) is for_good


# --- ends


@pytest.mark.parametrize(
    ("state", "claimed", "stopped", "how"),
    [
        ("TIMEOUT", True, False, "timeout"),
        ("PREEMPTED", True, False, "preempted"),
        ("PREEMPTED", True, True, "stopped"),
        ("CANCELLED", False, False, "preempted"),
        ("CANCELLED", False, True, "stopped"),
        ("NODE_FAIL", True, False, "node-lost"),
        ("BOOT_FAIL", False, False, "node-lost"),
        ("OUT_OF_MEMORY", True, False, "memory"),
        ("FAILED", False, False, "start-failed"),
        ("FAILED", True, False, "vanished"),
        ("COMPLETED", True, False, "vanished"),
        ("", False, False, "preempted"),  # nobody knows it any more
        ("", True, False, "vanished"),
    ],
)
def test_how_a_job_without_a_record_ended(state: str, claimed: bool, stopped: bool, how: str) -> None:
    job = Job("7_1", state, "None", None, "n2") if state else None
    found = of_own_job(job, "n2" if claimed else "", claimed=claimed, stopped=stopped, said="python: not found")
    assert found.how == how
    if how in ("start-failed", "vanished"):
        assert "python: not found" in found.why


# --- how often, and how many


@given(st.lists(st.floats(0, 120), max_size=60), st.integers(1, 5))
def test_no_more_jobs_are_submitted_than_was_said(waits: list[float], most: int) -> None:
    bucket, now, taken = Bucket(6, most), 0.0, []
    for wait_s in waits:
        now += wait_s
        free = bucket.wait_s(now) == 0
        assert bucket.take(now) or not free
        if free:
            taken.append(now)
    for n, first in enumerate(taken):
        within = [at for at in taken[n:] if at - first < 60]
        assert len(within) <= most + 6


@given(st.floats(0, 1e6))
def test_who_waits_as_long_as_was_said_may_submit(now: float) -> None:
    bucket = Bucket(6, 1)
    assert bucket.take(now)
    assert not bucket.take(now)
    wait_s = bucket.wait_s(now)
    assert 0 < wait_s <= 10
    assert bucket.take(now + wait_s + 1e-6)


def test_a_batch_is_read_as_it_was_written_and_its_tasks_have_their_names(tmp_path: Path) -> None:
    made = Batches(Controller(PROGRAMS), Settings(), tmp_path).make(
        [Task(tmp_path / "s0", "a"), Task(tmp_path / "s1", "b")]
    )
    (found,) = Batches(Controller(PROGRAMS), Settings(), tmp_path).read()
    assert (found.tasks, found.number, found.unsure) == (made.tasks, "", True)
    (made.place / "number").write_text("42")
    (found,) = Batches(Controller(PROGRAMS), Settings(), tmp_path).read()
    assert (found.job(1), found.unsure) == ("42_1", False)
    assert Batch(tmp_path, made.tasks[:1], "42").job(0) == "42"


def test_an_order_can_be_taken_away_until_it_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text("{}")
    assert order.claim(tmp_path, {})
    assert order.withdraw(tmp_path)
    assert (tmp_path / "order.json").exists()
    (tmp_path / "claim").unlink()
    assert not order.withdraw(tmp_path)
    assert not (tmp_path / "order.json").exists()


# --- room beside the slots


def apart(queue: int) -> Lab:
    """The tiny lab on a cluster, whose first rung is too large for the pilot."""
    table = f'[slurm]\ngpus = 2\nown = ["screen"]\nqueue = {queue}\n\n[run]\nexecutor = "slurm"\n'
    return lab('["screen", "confirm"]', "[run]\n", table)


def launches(campaign: Campaign, of: Lab, slots: int) -> list[Launch]:
    return [step for step in plan(campaign.state, of, slots, setup=campaign.setup) if isinstance(step, Launch)]


@pytest.mark.parametrize(("queue", "count"), [(1, 1), (2, 2), (16, 3)])
def test_shards_of_large_rungs_take_no_slot_and_are_no_more_than_may_be_queued(queue: int, count: int) -> None:
    found = launches(Campaign(), apart(queue), slots=1)
    assert [step.rung for step in found] == ["screen"] * count
    assert len({step.slot for step in found}) == count
    assert min(step.slot for step in found) >= 1  # no slot of the pilot's
    assert len(launches(Campaign(), lab(), slots=1)) == 1  # where it is not too large
