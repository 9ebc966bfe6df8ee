"""What clients are told of a cluster: everything once, then what changed, and nothing while only the clock goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from cockpit.cluster import foretold, waits
from cockpit.model import ReadModel
from engine.clustered import STEADY_S, Clustered
from engine.live import LiveShard
from engine.shards.executor import Allocation, Executor, Held, Standing

WORDS = "2 nodes with 4 GPUs each for 4 h"


class Queue:
    """An executor and its allocation, as far as clients are told of them; the test moves it."""

    capacity = 8
    words = WORDS
    sentence = "how it stands"

    def __init__(self) -> None:
        self.held = Held("none", gpu_hours=32.0)
        self.standing: Mapping[str, Standing] = {}
        self.shortage: str | None = "how it stands"
        self.now = 1000.0

    @property
    def allocation(self) -> Allocation:
        return cast(Allocation, self)

    def told(self) -> Clustered:
        return Clustered(cast(Executor, self), lambda: self.now)

    def run(self, left_s: float) -> None:
        self.shortage = None
        self.held = Held("ready", "4711", "n[1-2]", left_s=left_s, gpu_hours=32.0)


def size(message: dict[str, Any]) -> int:
    return len(json.dumps({"method": "cluster", "params": message}, separators=(",", ":")))


def test_an_hour_in_which_only_the_walltime_runs_down_costs_no_message() -> None:
    queue = Queue()
    told = queue.told()
    queue.run(14400.0)
    assert told.changes()["allocation"]["until"] == 15400
    for second in range(1, 3600):
        queue.now += 1.0
        queue.held = Held("ready", "4711", "n[1-2]", left_s=14400.0 - second + second % 7, gpu_hours=32.0)
        assert told.changes() == {}
    queue.held = Held("ready", "4711", "n[1-2]", left_s=20000.0, gpu_hours=32.0)  # somebody has given it more time
    assert set(told.changes()) == {"allocation"}


def test_a_foretold_start_that_hardly_moves_is_not_told_again() -> None:
    queue = Queue()
    told = queue.told()
    queue.held = Held("waiting", "4711", why="others come first (Priority)", starts=5000.4)
    assert told.changes()["allocation"]["starts"] == 5000
    queue.held = Held("waiting", "4711", why="others come first (Priority)", starts=5009.0)
    assert told.changes() == {}
    queue.held = Held("waiting", "4711", why="others come first (Priority)", starts=9000.0)
    assert told.changes()["allocation"]["starts"] == 9000


def test_shards_in_the_allocation_cost_nothing_since_their_rows_say_where_they_run() -> None:
    queue = Queue()
    queue.run(14400.0)
    told = queue.told()
    told.changes()
    queue.standing = {f"000{n}.screen.s0.a1": Standing("running", "4711", node="n1", left_s=99.0) for n in range(8)}
    assert told.changes() == {}
    queue.standing = {"0001.big.s0.a1": Standing("queued", "4712", "others come first (Priority)")}
    first = told.changes()
    assert first == {
        "shards": {"0001.big.s0.a1": {"state": "queued", "job": "4712", "why": "others come first (Priority)"}}
    }
    assert size(first) < 160
    queue.standing = {"0001.big.s0.a1": Standing("running", "4712", left_s=60.0, node="n2", gpus="0,1")}
    assert size(told.changes()) < 160
    queue.standing = {}
    assert told.changes() == {"shards": {"0001.big.s0.a1": None}}


async def test_who_attached_between_two_looks_is_told_that_a_shard_has_gone() -> None:
    queue = Queue()
    told = queue.told()
    told.changes()
    queue.standing = {"0001.big.s0.a1": Standing("queued", "4712")}
    assert "0001.big.s0.a1" in (await told.do_cluster())["shards"]
    queue.standing = {}
    assert told.changes() == {"shards": {"0001.big.s0.a1": None}}


async def test_on_one_machine_nothing_is_told() -> None:
    class Here:
        allocation = None

    told = Clustered(cast(Executor, Here()))
    assert (told.there, told.changes(), await told.do_cluster()) == (False, {}, {})


def test_words_of_the_queue_are_made_harmless_and_short() -> None:
    queue = Queue()
    queue.held = Held("waiting", "4711", why="\x1b[31m" + "x" * 10_000, trouble="a\nb")
    row = queue.told().changes()["allocation"]
    assert "\x1b" not in json.dumps(row)
    assert len(row["why"]) <= 300
    assert "\n" not in row["trouble"]


standings = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.builds(
        Standing,
        st.sampled_from(["queued", "running"]),
        st.sampled_from(["", "7", "8"]),
        st.sampled_from(["", "others come first"]),
        st.one_of(st.none(), st.sampled_from([0.0, STEADY_S * 3])),
    ),
)
helds = st.builds(Held, st.sampled_from(["none", "asked", "waiting", "ready"]), st.sampled_from(["", "7"]))


@given(st.lists(st.tuples(helds, standings), min_size=1, max_size=8), st.integers(0, 7))
def test_a_client_that_folds_what_it_is_told_knows_what_one_knows_that_asks(
    turns: list[tuple[Held, dict[str, Standing]]], attaches: int
) -> None:
    queue = Queue()
    told, client = queue.told(), ReadModel()
    for number, (held, standing) in enumerate(turns):
        queue.held, queue.standing = held, standing
        if number == min(attaches, len(turns) - 1):
            client.take_cluster(cast(dict[str, Any], told.whole()), whole=True)
        if changes := told.changes():
            client.take_cluster(changes, whole=False)
    if client.cluster is not None:
        assert client.cluster == told.whole()


def test_a_shard_says_where_it_went_on_and_nonsense_is_not_believed() -> None:
    for said, at in ((8, 8), (8.0, 8), (-1, None), (float("inf"), None), (float("nan"), None), ("8", None)):
        shard = LiveShard("loss", 0.0)
        shard.feed([], {"resumed_at": said}, 0)
        assert shard.row(1.0, []).get("resumed_at") == at


def test_the_foretold_start_of_a_job_of_its_own_is_a_moment_told_again_only_when_it_has_moved_by_a_minute() -> None:
    queue = Queue()
    told = queue.told()
    told.changes()
    big = "0001.big.s0.a1"
    queue.standing = {big: Standing("queued", "4712", "others come first (Priority)", starts=5000.4)}
    assert told.changes()["shards"][big]["starts"] == 5000
    queue.standing = {big: Standing("queued", "4712", "others come first (Priority)", starts=5059.0)}
    assert told.changes() == {}
    queue.standing = {big: Standing("queued", "4712", "others come first (Priority)", starts=5060.0)}
    assert told.changes()["shards"][big]["starts"] == 5060


def test_a_foretold_start_is_said_with_its_day_where_that_is_another_and_not_once_it_has_passed() -> None:
    now = datetime(2026, 11, 27, 13, 0).timestamp()
    row = {"why": "others come first (Priority)", "starts": now + 3900}
    assert waits(row, now) == "others come first (Priority), starts about 14:05"
    assert foretold(now + 86400, now) == "starts about Sat 28 Nov 13:00"
    assert (waits(row, now + 3900), foretold(None, now), waits({}, now)) == ("others come first (Priority)", "", "")
