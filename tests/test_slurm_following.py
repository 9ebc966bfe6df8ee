"""Large shards whose files and queue are followed: what silence means, and what is to be cancelled, in moments that no real
cluster shows when asked to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.shards.executor import Event
from engine.shards.slurm import unwanted
from engine.shards.slurm.batches import Batches
from engine.shards.slurm.commands import Controller, Programs, SlurmError
from engine.shards.slurm.jobs import LOST_S, SILENT_S, OwnJobs
from engine.shards.slurm.order import Order, claim
from engine.shards.slurm.own_job import OwnJob, sights
from engine.shards.slurm.parsing import Job
from engine.shards.slurm.settings import Settings
from engine.shards.slurm.unwanted import Unwanted
from engine.shards.spec import ShardSpec

PROGRAMS = Programs({name: f"/usr/bin/{name}" for name in ("squeue", "scancel", "scontrol", "sbatch")}, {})
Answer = Callable[[str, tuple[str, ...]], str]


class Slurm(Controller):
    """Answers as `says` does, at once, and remembers what it was asked."""

    def __init__(self, says: Answer) -> None:
        super().__init__(PROGRAMS)
        self.says = says
        self.heard: list[tuple[str, ...]] = []

    async def ask(self, name: str, *words: str, stdin: bytes = b"") -> str:
        self.heard.append((name, *words))
        return self.says(name, words)


def nothing(name: str, words: tuple[str, ...]) -> str:
    return ""


def unknown(name: str, words: tuple[str, ...]) -> str:
    raise SlurmError(f"{name}: error: Invalid job id specified")


def running(tmp_path: Path, says: Answer = nothing) -> tuple[OwnJobs, OwnJob, list[Event]]:
    """One shard that runs in job 7, as far as its files say, and what is told of it."""
    place, run_dir = tmp_path / "steps" / "s", tmp_path / "runs" / "s"
    spec = ShardSpec(id="s", argv=("/bin/true",), cwd="/", env={}, run_dir=str(run_dir), timeout_s=60.0)
    made = Order(spec, (), "/usr/bin/scancel", {}, "", "", str(tmp_path / "key"), "nonce")
    made.write(place)
    claim(place, {"step": "7.batch", "node": "n1", "gpus": "0"})
    (place / "beat").write_text("1")
    (tmp_path / "key").write_bytes(b"k" * 32)
    told: list[Event] = []
    slurm = Slurm(says)
    owns = OwnJobs(
        Settings(own=("full",)), slurm, tmp_path, tmp_path / "key", told.append, lambda: None,
        lambda order: ["--nodes=1"], lambda order, words: list(words),
    )  # fmt: skip
    slurm.also = lambda: owns.ids
    owns.launch(made, place)
    return owns, owns.jobs["s"], told


async def done(owns: OwnJobs) -> None:
    """Return when all that was begun is done."""
    while owns._tasks:
        await asyncio.gather(*owns._tasks)


async def test_a_shard_whose_heartbeat_stopped_is_given_up_and_its_job_cancelled(tmp_path: Path) -> None:
    owns, own, _ = running(tmp_path)
    await owns._look_at_files()
    own.beat_at = time.monotonic() - LOST_S - 1
    await owns._look_at_files()
    await done(owns)
    assert "s" not in owns.jobs
    assert ("scancel", "7") in owns.controller.heard  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", ["held up", "unreadable", "suspended"])
async def test_what_keeps_anyone_from_seeing_a_heartbeat_does_not_end_a_shard(tmp_path: Path, what: str) -> None:
    owns, own, told = running(tmp_path)
    await owns._look_at_files()
    own.beat_at = time.monotonic() - LOST_S - 1
    if what == "held up":  # for as long, a file system, or this machine
        owns._looked = own.beat_at
    elif what == "unreadable":
        (own.place / "beat").unlink()
        (own.place / "beat").mkdir()
    else:
        own.seen = Job("7", "SUSPENDED", "", None, "n1")
    await owns._look_at_files()
    await done(owns)
    assert owns.jobs["s"] is own
    assert time.monotonic() - own.beat_at < SILENT_S
    assert len(told) == 1  # that it began


@pytest.mark.parametrize("state", ["", "FAILED", "COMPLETED", "CANCELLED", "NODE_FAIL"])
async def test_the_queue_does_not_outrank_a_living_heartbeat(tmp_path: Path, state: str) -> None:
    owns, own, told = running(tmp_path, unknown)
    await owns._look_at_files()
    seen = Job("7", state, "", None, "n1") if state else None
    for _ in range(3):
        await owns._judge("s", own, seen)
    await done(owns)
    assert (owns.jobs["s"], len(told)) == (own, 1)
    own.beat_at -= SILENT_S
    await owns._judge("s", own, seen)
    await done(owns)
    assert (owns.jobs, len(told)) == ({}, 2)


async def test_silence_of_the_queue_is_no_news_until_slurm_says_that_there_is_no_such_job(tmp_path: Path) -> None:
    owns, own, told = running(tmp_path)
    await owns._look_at_files()
    own.beat_at -= SILENT_S
    for _ in range(3):
        await owns._judge("s", own, None)
    await done(owns)
    assert owns.jobs["s"] is own
    owns.controller.accounts = True
    owns.controller.says = lambda name, words: "7|RUNNING|0:0|None\n" if name == "sacct" else unknown(name, words)  # type: ignore[attr-defined]
    await owns._judge("s", own, None)
    await done(owns)
    assert owns.jobs["s"] is own  # the accounting says that it runs
    owns.controller.says = unknown  # type: ignore[attr-defined]
    await owns._judge("s", own, None)
    await done(owns)
    assert (owns.jobs, len(told)) == ({}, 2)


def test_a_heartbeat_that_is_not_there_is_not_one_that_cannot_be_read(tmp_path: Path) -> None:
    _, own, _ = running(tmp_path)
    (own.place / "beat").unlink()
    assert sights({"s": own})["s"].beat == b""
    (own.place / "beat").mkdir()
    assert sights({"s": own})["s"].beat is None


async def test_a_claim_says_which_job_a_batch_of_unknown_number_is(tmp_path: Path) -> None:
    owns, own, _ = running(tmp_path)
    own.batch = owns.handover._batch([own])
    await owns._look_at_files()
    assert (own.batch.number, own.job) == ("7", "7")
    (read,) = Batches(owns.controller, owns.settings, tmp_path / "jobs").read()
    assert read.number == "7"


async def test_names_that_are_none_break_no_question_about_the_queue() -> None:
    slurm = Slurm(nothing)
    assert await slurm.queue("12", "x7", "7_", "3_1") == {}
    assert "--jobs=3,12" in slurm.heard[0]
    assert await slurm.queue("x7") == {}
    assert len(slurm.heard) == 1


# --- what is to be cancelled


async def worked(list_: Unwanted, *, keep: tuple[str, ...] = ()) -> None:
    await list_.controller.queue(*list_.numbers)
    await list_.work(keep)


async def test_what_is_to_be_cancelled_is_until_slurm_has_none_of_it(tmp_path: Path) -> None:
    """Through a scancel that fails, an engine that dies, and a queue that says nothing."""
    queued = ["9_1|RUNNING|None|1:00|n1", "9_2|PENDING|Priority|1:00|", "4|RUNNING|None|1:00|n1"]

    def says(name: str, words: tuple[str, ...]) -> str:
        if name == "scancel":
            raise SlurmError("scancel does not answer within 20 s")
        return "\n".join(queued)

    first = Unwanted(Slurm(says), tmp_path)
    await first.cancel("9", "4", "")
    slurm = Slurm(says)
    second = Unwanted(slurm, tmp_path)
    second.read()
    assert sorted(second.numbers) == ["4", "9"]
    await worked(second)
    assert ("scancel", "4", "9") in [(name, *sorted(words)) for name, *words in slurm.heard]
    queued[:] = [line.replace("RUNNING", "CANCELLED").replace("PENDING", "CANCELLED") for line in queued[:2]]
    await worked(second)  # of 4, which the queue does not show, Slurm does not say that there is none
    assert list(second.numbers) == ["4"]
    slurm.says = unknown
    await worked(second)
    assert not second
    assert not (tmp_path / unwanted.NAME).exists()


async def test_a_job_that_turned_out_to_be_wanted_is_not_cancelled(tmp_path: Path) -> None:
    slurm = Slurm(lambda name, words: "9_1|RUNNING|None|1:00|n1\n9_2|PENDING|Priority|1:00|\n8|RUNNING|None|1:00|n1\n")
    found = Unwanted(slurm, tmp_path)
    found.add("9", "8")
    await worked(found, keep=("9_1", "8"))
    assert [words for words in slurm.heard if words[0] == "scancel"] == [("scancel", "9_2")]


async def test_a_batch_without_a_number_is_looked_for_by_its_name_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[str] = []
    slurm = Slurm(lambda name, words: "\n".join(queued))
    found = Unwanted(slurm, tmp_path)
    found.add("cockpit-5f")
    await worked(found)
    assert any("--name=cockpit-5f" in words for words in slurm.heard)
    monkeypatch.setattr(unwanted, "APART_S", 0.0)
    queued.append("12_0|PENDING|Priority|1:00|")
    await worked(found)
    assert ("scancel", "12") in slurm.heard
    monkeypatch.setattr(unwanted, "UNSURE_S", -1.0)
    queued[:] = ["12_0|CANCELLED|None|0:00|"]
    await worked(found)
    await worked(found)
    assert not found


async def test_what_is_to_end_by_itself_is_given_its_time(tmp_path: Path) -> None:
    found = Unwanted(Slurm(nothing), tmp_path)
    found.add("3", after_s=1000.0)
    assert (bool(found), list(found.numbers)) == (True, [])
    found.add("3")
    assert list(found.numbers) == ["3"]
    found.add("3", after_s=1000.0)
    assert list(found.numbers) == ["3"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    )
)
def test_no_list_that_somebody_broke_keeps_an_engine_from_starting(tmp_path_factory: Any, body: Any) -> None:
    place = tmp_path_factory.mktemp("unwanted")
    (place / unwanted.NAME).write_text(json.dumps(body))
    found = Unwanted(Slurm(nothing), place)
    found.read()
    list(found.numbers)
