"""A shard over several nodes, without a cluster: how it is asked for and shown, what its ranks are told, how it ends."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.campaign import setup_of
from engine.shards.network import shares_host, shown
from engine.shards.ranks import FIRST, Meeting, address_towards, environments, free_port, interface_of
from engine.shards.sandbox import BoxError, with_ranks
from engine.shards.slurm.blame import End, accused, failed_at, for_want_of_others, verdict
from engine.shards.slurm.commands import Programs, on_all_its_nodes, salloc, step
from engine.shards.slurm.ends import suspect
from engine.shards.slurm.group import named, tail_of
from engine.shards.slurm.order import Order, lost_nodes, shared_names, tell, told
from engine.shards.slurm.settings import Settings, slots_of
from engine.shards.spec import MEETING, NODE, ShardSpec
from tests.test_lab import SMALL, lab, problems

PROGRAMS = Programs({name: f"/usr/bin/{name}" for name in ("salloc", "srun")}, {})
CLUSTER = SMALL + '[run]\nexecutor = "slurm"\n'

# --- how it is asked for


@pytest.mark.parametrize(
    ("settings", "ranks", "span", "on_node", "at_once", "words"),
    [
        (Settings(nodes=2, gpus=4), 4, 1, 4, 2, "2 shards at once"),
        (Settings(nodes=1, gpus=4), 4, 1, 4, 1, "1 shard at once"),
        (Settings(nodes=2, gpus=4), 8, 2, 4, 1, "1 shard at once, on 2 nodes"),
        (Settings(nodes=5, gpus=4), 8, 2, 4, 2, "2 shards at once, each on 2 nodes"),
        (Settings(nodes=4, gpus=8), 12, 2, 6, 2, "2 shards at once, each on 2 nodes"),
        (Settings(nodes=2, gpus=4, ranks=2), 4, 2, 2, 2, "2 shards at once, each on 2 nodes"),
        (Settings(nodes=2, tasks=3), 8, 1, 8, 6, "6 shards at once"),
        (Settings(nodes=2, tasks=3, ranks=4), 8, 2, 4, 3, "3 shards at once, each on 2 nodes"),
    ],
)
def test_the_size_of_a_pilot_is_told_as_it_is(
    settings: Settings, ranks: int, span: int, on_node: int, at_once: int, words: str
) -> None:
    assert (settings.span(ranks), settings.on_node(ranks)) == (span, on_node)
    assert len(slots_of(settings, ranks)) == settings.at_once(ranks, settings.nodes) == at_once
    assert settings.words(ranks).endswith(f": {words}")
    assert settings.gpus_of_shard(ranks) == min(settings.gpus, on_node)
    assert f"--cpus-per-task={3 * on_node}" in salloc(PROGRAMS, settings, "cockpit", ranks, 3)


@given(st.integers(1, 64), st.integers(0, 16), st.integers(0, 16), st.integers(1, 16))
def test_no_node_is_given_more_than_it_has(ranks: int, gpus: int, most: int, nodes: int) -> None:
    settings = Settings(nodes=nodes, gpus=gpus, ranks=min(most, gpus) if gpus else most)
    span, on_node = settings.span(ranks), settings.on_node(ranks)
    assert span * on_node >= ranks > (span - 1) * on_node - span
    if gpus:
        assert on_node * settings.per_node(ranks) <= gpus
    assert settings.at_once(ranks, nodes) * span <= nodes * settings.per_node(ranks)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('ranks = 8\nnetwork = "allocation"\n[slurm]\ngpus = 4\n', "one shard takes 8 by run.ranks, on 2 nodes"),
        ('ranks = 5\nnetwork = "allocation"\n[slurm]\ngpus = 4\nnodes = 2\n', "not the same number on each"),
        ("ranks = 8\n[slurm]\ngpus = 4\nnodes = 2\n", 'network = "allocation", which opens'),
        ('ranks = 8\nnetwork = "loopback"\n[slurm]\ntasks = 1\nranks = 4\nnodes = 2\n', "or ranks = 4"),
        ("ranks = 8\n[slurm]\ngpus = 4\nnodes = 2\nranks = 8\n", "a node has 4 GPUs"),
    ],
)
def test_what_cannot_be_spread_over_nodes_is_told_with_a_way_out(text: str, says: str) -> None:
    found = problems(CLUSTER + text)
    assert len(found) == 1
    assert says in found[0]


def test_a_lab_whose_shards_span_nodes_is_read() -> None:
    found = lab(CLUSTER + 'ranks = 8\nnetwork = "allocation"\n[slurm]\ngpus = 4\nnodes = 2\n')
    assert found.nodes == 2
    assert setup_of(found) != setup_of(replace(found, slurm=None))
    assert lab(CLUSTER + "ranks = 4\n[slurm]\ngpus = 4\nnodes = 2\n").nodes == 1
    assert lab(SMALL + '[run]\nranks = 8\nnetwork = "allocation"\n').nodes == 1  # on this machine it grants nothing


def test_its_step_has_one_agent_on_each_node() -> None:
    words = step(PROGRAMS, "7", "n1,n2,n3", 4, 8, ["/agent"])
    spread = {
        "--nodes=3",
        "--ntasks=3",
        "--ntasks-per-node=1",
        "--nodelist=n1,n2,n3",
        "--gres=gpu:4",
        "--cpus-per-task=8",
    }
    assert spread | {"--kill-on-bad-exit=1", "--wait=0"} <= set(words)
    own = on_all_its_nodes(PROGRAMS, 3, 4, 8, ["/agent"])
    assert own[-1] == "/agent"
    assert spread - {"--nodelist=n1,n2,n3"} <= set(own)
    assert "--wait=0" not in step(PROGRAMS, "7", "n1", 4, 8, ["/agent"])


# --- its network


@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_allocations_network_is_for_shards_over_several_nodes_alone(level: int) -> None:
    at: object = level
    assert shares_host("allocation", at, ranks=8, nodes=2)  # type: ignore[arg-type]
    assert not shares_host("allocation", at)  # type: ignore[arg-type]
    assert shown("allocation", at, 1) == ""  # type: ignore[arg-type]
    assert shown("allocation", at, 2) == ("" if level == 1 else ", nodes' network")  # type: ignore[arg-type]
    assert shown("host", at, 2) == ("" if level == 1 else ", network")  # type: ignore[arg-type]
    if level == 3:
        assert not shares_host("allocation", 3, ranks=8)
    if level > 1:
        with pytest.raises(BoxError, match='network = "allocation"'):
            shares_host("none", at, ranks=8, nodes=2)  # type: ignore[arg-type]


# --- its ranks


@given(st.integers(1, 8), st.integers(2, 8))
def test_each_rank_has_a_number_of_its_own(count: int, nodes: int) -> None:
    found = [
        env
        for node in range(nodes)
        for env in environments(count, Meeting("127.0.0.1", 29500, nodes, node), {"RANK": "7"})
    ]
    assert [int(env["RANK"]) for env in found] == list(range(count * nodes))
    assert {env["WORLD_SIZE"] for env in found} == {str(count * nodes)}
    for env in found:
        assert int(env["RANK"]) == int(env["GROUP_RANK"]) * int(env["LOCAL_WORLD_SIZE"]) + int(env["LOCAL_RANK"])
        assert (env["MASTER_ADDR"], env["MASTER_PORT"]) == ("127.0.0.1", "29500")
        if sys.platform.startswith("linux"):
            assert env["GLOO_SOCKET_IFNAME"] == env["NCCL_SOCKET_IFNAME"] == "lo"


def test_the_interface_is_the_one_that_reaches_the_others() -> None:
    assert address_towards("127.0.0.1") == "127.0.0.1"
    assert interface_of("127.0.0.1") in ("lo", "lo0")
    assert interface_of("192.0.2.1") is None  # kept for examples: nobody has it
    with socket.create_server(("127.0.0.1", free_port())):
        pass
    lab_chose = environments(1, Meeting("127.0.0.1", 1, 2, 1), {"GLOO_SOCKET_IFNAME": "ib0"})
    assert lab_chose[0]["GLOO_SOCKET_IFNAME"] == "ib0"


@pytest.mark.parametrize(
    "words", [("2", "2", "h:1"), ("2", "-1", "h:1"), ("2", "0", ":1"), ("2", "0", "h"), ("x", "0", "h:1")]
)
def test_a_meeting_that_cannot_be_is_refused(words: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match=r"cannot meet|invalid literal"):
        Meeting.read(*words)


def test_the_command_line_says_where_the_ranks_meet_once_that_is_known() -> None:
    words = with_ranks(8, ("python", "train.py"), 2)
    assert words[-7:] == ("4", "--of", "2", NODE, MEETING, "python", "train.py")
    assert MEETING not in with_ranks(8, ("python", "train.py"))
    assert Meeting.read("2", "1", "fe80::1:29500") == Meeting("fe80::1", 29500, 2, 1)


# --- its end

CRASH = "Traceback (most recent call last):\n  File x\nValueError: shapes differ\n"
WANT = "Traceback (most recent call last):\n  File x\nRuntimeError: [pair.cc:534] Connection closed by peer [10.0.0.2]:4711\n"


def marked(rank: int, text: str) -> str:
    return "".join(f"[rank{rank}]: {line}\n" for line in text.splitlines())


def end(node: str, status: int | None, at: float, tail: str = "", **fields: object) -> End:
    return replace(End(node, "exited", status, at, tail=tail), **fields)  # type: ignore[arg-type]


def test_a_shard_ends_as_the_rank_did_that_failed_for_a_reason_of_its_own() -> None:
    """Whatever the clocks say, and whoever else fails for want of it on the same node."""
    mixed = marked(2, WANT) + marked(3, CRASH) + marked(2, "bye")
    own, other = end("n1", 1, 5.0, WANT), end("n2", 1, 9.0, mixed)
    assert verdict(own, [other], []) is other
    assert accused(mixed) == marked(3, CRASH).rstrip("\n")
    assert verdict(end("n1", 1, 9.0, CRASH), [end("n2", 1, 5.0, WANT)], []).node == "n1"
    assert verdict(end("n1", 1, 9.0, WANT), [end("n2", 1, 5.0, WANT)], []).node == "n2"
    assert verdict(end("n1", 3, 5.0, "step 1\n"), [end("n2", 1, 4.0, WANT)], []).status == 3
    assert verdict(end("n1", -11, 5.0, ""), [end("n2", 1, 4.0, WANT)], []).status == -11
    assert for_want_of_others(end("n1", -6, 5.0, "what(): [Rank 0] NCCL watchdog thread terminated\n"))


def test_a_lost_node_and_what_was_asked_for_come_before_what_ranks_say() -> None:
    own, other = end("n1", 1, 5.0, WANT), end("n2", 0, 6.0)
    assert verdict(own, [other], ["n3"]).how == "node-lost"
    assert verdict(own, [other], ["n3"]).status is None
    assert verdict(own, [], ["n2", "n3"]).error == "its nodes n2, n3 are silent"
    assert verdict(replace(own, how="stopped"), [other], ["n3"]).how == "stopped"
    assert verdict(end("n1", 0, 1.0), [other], []).well
    limit = end("n2", -9, 6.0, how="memory", error="held 9 GiB")
    assert verdict(end("n1", -9, 7.0, told=True), [limit], []) is limit
    assert verdict(end("n1", 1, 5.0, WANT), [limit, end("n3", 1, 4.0)], []) is limit


@given(
    st.lists(
        st.builds(
            End,
            st.just("n"),
            st.sampled_from(["exited", "memory", "start-failed"]),
            st.sampled_from([0, 1, -9, None]),
            st.floats(0, 9),
            told=st.booleans(),
            tail=st.sampled_from(["", CRASH, WANT]),
        ),
        min_size=1,
    )
)
def test_a_shard_is_well_only_where_nobody_failed(ends: list[End]) -> None:
    found = verdict(ends[0], ends[1:], [])
    assert found in ends
    if any(each.failed for each in ends):
        assert found.failed


@given(st.text(max_size=200))
def test_nothing_that_ranks_print_breaks_the_reading(text: str) -> None:
    accused(text)
    failed_at(text)
    for_want_of_others(end("n", 1, 0.0, text))


def test_when_a_rank_failed_is_its_own_words_but_never_the_future() -> None:
    assert failed_at(f"step 1\n{FIRST % (3, 12.5)}\n") == 12.5
    assert failed_at(f"{FIRST % (3, 12.5)}\nstep 1\n") > 1e9
    assert failed_at(FIRST % (3, 99_999_999_999.0)) < 1e10


def test_the_node_that_was_lost_is_the_one_that_slurm_or_silence_names() -> None:
    names = ("n1", "n2")
    assert suspect(names, "n1", silent=True, nodes={"n2": "down*"}) == "n1"
    assert suspect(names, "n1", silent=False, nodes={"n1": "mixed", "n2": "down*"}) == "n2"
    assert suspect(names, "", silent=False, nodes={}) == "n1"
    assert suspect((), "n7", silent=False, nodes={"n1": "down"}) == "n7"


# --- what agents tell one another


def spec_of(place: Path, nodes: int) -> ShardSpec:
    return ShardSpec(id="s", argv=("a",), cwd="/", env={}, run_dir=str(place), timeout_s=1.0, nodes=nodes, ranks=nodes)


def test_agents_read_only_what_was_said_for_this_order(tmp_path: Path) -> None:
    order = Order(spec_of(tmp_path, 3), ("/srun",), "/scancel", {}, "7", "n1,n2,n3", "/key", "nonce")
    assert order.nodes == ("n1", "n2", "n3")
    order.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"order.json", *shared_names(3)}
    assert shared_names(3) == ["meet", "ask", "lost", "beat.1", "end.1", "beat.2", "end.2"]
    assert shared_names(1) == []
    assert told(tmp_path, "end.1", "nonce") is None
    said = end("n2", 1, 5.0, CRASH, memory=7, cpu_s=1.5)
    tell(tmp_path, "end.1", "nonce", asdict(said))
    found = told(tmp_path, "end.1", "nonce")
    assert found is not None
    assert End.read(found) == said
    assert told(tmp_path, "end.1", "another") is None
    with pytest.raises(FileNotFoundError):  # the order was taken away: nothing new is made in its place
        tell(tmp_path, "end.7", "nonce", {})
    (tmp_path / "end.1").write_text(json.dumps(found)[:-9])
    assert told(tmp_path, "end.1", "nonce") is None
    assert lost_nodes(tmp_path, order) == []
    tell(tmp_path, "lost", "nonce", {"nodes": ["n2", 7]})
    assert lost_nodes(tmp_path, order) == ["n2"]


@given(st.dictionaries(st.sampled_from(list(asdict(end("n", 0, 0.0)))), st.one_of(st.none(), st.text(), st.integers())))
def test_an_end_is_read_or_refused(raw: dict[str, object]) -> None:
    try:
        found = End.read(raw)
    except (KeyError, TypeError, ValueError):
        return
    assert isinstance(found.at, float)


def test_the_last_lines_of_a_log_are_whole_and_no_planted_file_is_followed(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, 2)
    log = tmp_path / spec.output
    assert tail_of(spec) == ""
    log.write_text("".join(f"line {n}\n" for n in range(9999)))
    said = tail_of(spec).splitlines()
    assert said[-1] == "line 9998"
    assert said[0].startswith("line ")
    assert 1000 < len(said) < 2000
    log.unlink()
    log.symlink_to("/etc/passwd")
    assert tail_of(spec) == ""
    assert (named("output.log", 1), named("log", 2)) == ("output.node1.log", "log.node2")
