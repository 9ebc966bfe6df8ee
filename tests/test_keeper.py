"""When the keeper of a pilot acts and when it does not, on a clock of the test's own: idleness takes minutes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.daemon import lock, unlock
from engine.paths import StateDir
from engine.shards.slurm import notes
from engine.shards.slurm.keeper import GIVE_UP_S, QUIET_S, Keeper

IDLE_S = 600.0
RUNNING = (0, "RUNNING|2:00:00")
AWAY = (1, "slurm_load_jobs error: Unable to contact slurm controller")


class Queue:
    """What Slurm's commands say, and which were asked."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, argv: Sequence[str]) -> tuple[int, str]:
        self.asked.append(argv[0])
        if argv[0] == "/scancel":
            return 0, ""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Login:
    """A login node with a pilot on it, and a clock that goes when it is told to."""

    def __init__(self, place: Path, *answers: tuple[int, str], job: str | None = "7") -> None:
        self.place = place
        self.now = 1000.0
        self.queue = Queue(*answers)
        programs = {"squeue": "/squeue", "scancel": "/scancel"}
        body = {"id": "a", "job": job, "idle_s": IDLE_S, "steps": str(place / "steps"), "programs": programs}
        notes.write(place / notes.PILOT, body)
        self.keeper = self.another()

    def another(self) -> Keeper:
        return Keeper(self.place, self.queue, lambda: self.now)

    def step(self, name: str, job: str = "7") -> Path:
        place = self.place / "steps" / name
        place.mkdir(parents=True)
        (self.place / "clients" / name).mkdir(parents=True)
        (place / "order.json").write_text(json.dumps({"job": job, "nonce": name}))
        return place

    def until_gone(self, most_s: float) -> float | None:
        """Let time pass; after how many seconds the keeper had nothing left to do, None when it still has."""
        began = self.now
        while self.now <= began + most_s:
            wait_s = self.keeper.look()
            if wait_s is None:
                return self.now - began
            self.now += wait_s
        return None

    @property
    def end(self) -> dict[str, Any]:
        (found,) = notes.ends(self.place)
        return found


def test_it_is_given_back_once_no_step_was_in_it_for_long(tmp_path: Path) -> None:
    login = Login(tmp_path, RUNNING)
    after = login.until_gone(2 * IDLE_S)
    assert after is not None
    assert IDLE_S <= after <= IDLE_S + 10
    assert login.queue.asked.count("/scancel") == 1
    assert login.queue.asked.count("/squeue") < 8  # everybody asks that controller
    assert (login.end["how"], login.end["job"], login.end["engine"]) == ("idle", "7", False)


def test_nothing_is_asked_and_nothing_done_while_an_engine_runs(tmp_path: Path) -> None:
    login = Login(tmp_path, RUNNING)
    engine = lock(StateDir(tmp_path))
    assert login.until_gone(3 * IDLE_S) is None
    assert login.queue.asked == []
    unlock(engine)
    after = login.until_gone(3 * IDLE_S)
    assert after is not None
    assert after >= IDLE_S  # from the engine's end on


def test_an_engine_on_another_login_node_counts(tmp_path: Path) -> None:
    login = Login(tmp_path, RUNNING)
    (tmp_path / notes.ENGINE).write_text('{"host": "login-2", "boot": "b", "pid": 3}')
    assert login.until_gone(3 * IDLE_S) is None
    assert login.queue.asked == []


def test_a_step_keeps_it_as_long_as_it_lives(tmp_path: Path) -> None:
    login = Login(tmp_path, RUNNING)
    place = login.step("s")
    for beat in range(20):
        (place / "beat").write_text(json.dumps({"beat": beat, "at": -3.0}))  # by whatever clock
        assert login.until_gone(QUIET_S - 10) is None
    (tmp_path / "clients" / "s" / "exit.json").write_text("{}")
    after = login.until_gone(2 * IDLE_S)
    assert after is not None
    assert after >= IDLE_S


def test_a_step_whose_client_was_lost_does_not_keep_it_for_ever(tmp_path: Path) -> None:
    login = Login(tmp_path, RUNNING)
    login.step("s")
    after = login.until_gone(2 * (IDLE_S + QUIET_S))
    assert after is not None
    assert after >= IDLE_S + QUIET_S


def test_a_shard_in_a_job_of_its_own_does_not_keep_it(tmp_path: Path) -> None:
    login = Login(tmp_path, RUNNING)
    login.step("large", job="")
    after = login.until_gone(2 * IDLE_S)
    assert after is not None
    assert after <= IDLE_S + 10


def test_one_that_waits_in_the_queue_is_left_there_and_has_its_time_once_it_runs(tmp_path: Path) -> None:
    login = Login(tmp_path, *[(0, "PENDING|0:00")] * 30, (0, "RUNNING|0:10"), RUNNING)
    after = login.until_gone(20 * IDLE_S)
    assert after is not None
    assert after > 5 * IDLE_S
    assert login.queue.asked.count("/scancel") == 1


def test_how_slurm_ended_it_is_written_down(tmp_path: Path) -> None:
    login = Login(tmp_path, RUNNING, (0, "TIMEOUT|4:00:00"))
    assert login.until_gone(IDLE_S) is not None
    assert "/scancel" not in login.queue.asked
    assert (login.end["how"], login.end["engine"]) == ("timeout", False)


def test_one_that_slurm_no_longer_knows_is_gone(tmp_path: Path) -> None:
    login = Login(tmp_path, (1, "slurm_load_jobs error: Invalid job id specified"))
    assert login.until_gone(IDLE_S) is not None
    assert login.end["how"] == "gone"


def test_a_controller_that_is_away_is_asked_seldom_and_given_up_after_a_day(tmp_path: Path) -> None:
    login = Login(tmp_path, AWAY)
    after = login.until_gone(2 * GIVE_UP_S)
    assert after is not None
    assert after >= GIVE_UP_S
    assert "/scancel" not in login.queue.asked
    assert len(login.queue.asked) <= GIVE_UP_S / 100
    assert notes.ends(tmp_path) == []


def test_one_that_never_got_a_number_is_left_to_the_next_engine(tmp_path: Path) -> None:
    login = Login(tmp_path, RUNNING, job=None)
    assert login.until_gone(2 * IDLE_S) is not None
    assert login.queue.asked == []


def test_one_whose_number_nobody_heard_is_found_by_its_name(tmp_path: Path) -> None:
    login = Login(tmp_path, (0, "12\n"), RUNNING, job=None)
    notes.write(tmp_path / notes.PILOT, (notes.pilot(tmp_path) or {}) | {"name": "cockpit-1f"})
    assert login.until_gone(4 * IDLE_S) is not None
    assert (login.end["job"], login.end["how"]) == ("12", "idle")


def test_the_number_is_found_in_what_salloc_said(tmp_path: Path) -> None:
    login = Login(tmp_path, RUNNING, job=None)
    (tmp_path / "salloc.log").write_text("salloc: Granted job allocation 9\n")
    assert login.until_gone(2 * IDLE_S) is not None
    assert login.end["job"] == "9"


def test_a_pilot_of_a_lab_that_was_removed_is_given_back(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.mkdir()
    login = Login(place, RUNNING)
    assert login.until_gone(30.0) is None
    (place / notes.PILOT).unlink()
    place.rmdir()
    assert login.until_gone(30.0) == 0.0
    assert login.queue.asked == ["/scancel"]


def test_two_keepers_never_act_twice(tmp_path: Path) -> None:
    login = Login(tmp_path, RUNNING)
    other = login.another()
    for keeper in (login.keeper, other):
        keeper.look()
    login.now += IDLE_S
    for keeper in (login.keeper, other):
        keeper.look()
    login.now += IDLE_S
    for keeper in (login.keeper, other):
        assert keeper.look() is None
    assert login.queue.asked.count("/scancel") == 1
    assert len(notes.ends(tmp_path)) == 1


@pytest.mark.parametrize("how", ["idle", "released"])
def test_the_first_word_on_an_end_stands(tmp_path: Path, how: str) -> None:
    first = notes.put_end(tmp_path, {"id": "a", "job": "7", "how": how, "until": 1.0})
    assert notes.put_end(tmp_path, {"id": "a", "job": "7", "how": "gone", "until": 2.0}) == first
    assert notes.ends(tmp_path) == [first]
    notes.drop_end(tmp_path, "a")
    assert notes.ends(tmp_path) == []
