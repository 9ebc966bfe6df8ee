"""What of the network a boxed shard has: nothing, unless a person grants it by name, and then no more than was named."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import doctor
from engine.lab import load
from engine.shards import box as box_module
from engine.shards.local import LocalExecutor, ensure_launcher
from engine.shards.network import shares_host
from engine.shards.sandbox import BoxError, Level, probe
from tests import test_sandbox as boxing
from tests.test_launcher import end_of, output
from tests.test_sandbox import Place, needs_box_3, verdict, why_not
from tests.tinylab import TinyLab, rows, wait_for

state, executor, place, level = boxing.state, boxing.executor, boxing.place, boxing.level

# What a shard with a grant tries; each answer is "done" or the name of the error.
TRIES = """
import errno, json, os, socket
said = json.loads({asked!r})
found = {{}}

def attempt(name, what):
    try:
        what()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, str(error))

def own_loopback():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5):
        pass

def own_pair():
    first, second = socket.socketpair()
    first.sendall(b"x")
    assert second.recv(1) == b"x"

attempt("a service of this machine", lambda: socket.create_connection(("127.0.0.1", said["port"]), 5))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", said["port"])))
attempt("own loopback", own_loopback)
attempt("own pair", own_pair)
attempt("names", lambda: socket.getaddrinfo("localhost", 80))
attempt("interfaces", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0)))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("audit", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9))
attempt("launcher", lambda: socket.socket(socket.AF_UNIX).connect(said["launcher"]))
attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect(said["abstract"]))
print(json.dumps(found))
"""


async def tried(place: Place, executor: LocalExecutor, level: int, *, network: bool) -> dict[str, str]:
    """What a shard got, with a service that listens on this machine, a launcher, and an abstract socket."""
    await ensure_launcher(place.state)
    abstract = f"\0cockpit-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(abstract)
        local.listen()
        asked = {"port": server.getsockname()[1], "launcher": str(place.state.launcher_socket), "abstract": abstract}
        shard = place.spec(TRIES.format(asked=json.dumps(asked)), level, network=network)
        await executor.launch(shard)
        record = await end_of(executor)
    assert record.code == 0, output(shard)
    found: dict[str, str] = json.loads(output(shard).splitlines()[-1])
    return found


async def test_by_default_a_shard_has_no_network(place: Place, executor: LocalExecutor, level: int) -> None:
    found = await tried(place, executor, level, network=False)
    may = {name for name, answer in found.items() if answer == "done"}
    own = {
        "own loopback",
        "own pair",
        "names",
        "interfaces",
        "audit",
        "udp",
    }  # of level 3: it is its own machine, alone
    assert may - own == set()
    assert ("own loopback" in may) is (level == 3)
    assert found["a service of this machine"] == ("ECONNREFUSED" if level == 3 else "EPERM")


async def test_a_granted_network_is_the_machines_and_no_local_sockets(
    place: Place, executor: LocalExecutor, level: int
) -> None:
    found = await tried(place, executor, level, network=True)
    may = {name for name, answer in found.items() if answer == "done"}
    granted = {"a service of this machine", "udp", "own loopback", "own pair", "names", "interfaces"}
    assert may - {"audit"} == granted  # at level 3 any netlink may be opened; without a right it answers nothing
    assert found["launcher"] in ("ENOENT", "EPERM", "EACCES")
    assert found["abstract"] in ("EPERM", "EACCES")


async def test_ipc_of_worker_processes_works_beside_a_granted_network(place: Place, executor: LocalExecutor) -> None:
    needs_box_3()
    code = """
import multiprocessing, os, socket
from multiprocessing.connection import Listener, Client
with Listener(family="AF_UNIX") as listener, Client(listener.address) as client:
    with listener.accept() as server:
        client.send("over a path")
        print(server.recv())
"""
    shard = place.spec(code, 3, network=True)
    await executor.launch(shard)
    assert (await end_of(executor)).code == 0, output(shard)
    assert output(shard) == "over a path\n"


# --- the whole engine

# A training script that says what it could reach, and a scoring script that ends badly when it can reach it.
REACH = """
def reaches(port):
    import socket
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True
"""


@pytest.mark.parametrize("network", ["none", "host"])
def test_training_may_be_granted_the_network_and_scoring_never_is(tiny: Callable[..., TinyLab], network: str) -> None:
    if probe().level == 1:
        pytest.skip("no box here")
    lab = tiny(network=network)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for name, then in (
            ("train.py", f"print('training reaches it:', reaches({port}))\n"),
            ("score.py", f"print('scoring reaches it:', reaches({port}))\n"),
        ):
            text = (lab.root / name).read_text()
            (lab.root / name).write_text(f"{text}{REACH}{then}")
        lab.git("commit", "-qam", "Reach out")
        with lab.session() as session:

            def done() -> list[str]:
                found = rows(session, "shard").values()
                return [row["id"] for row in found if row["state"] == "ended"]

            wait_for(lambda: len(done()) == 3)
            shown = session.call("status")["isolation"]
            for shard in done():
                said = (lab.state.runs / shard / "output.log").read_text()
                assert f"training reaches it: {network == 'host'}" in said
                assert "scoring reaches it: False" in (lab.state.runs / shard / "score.log").read_text()
    assert shown == f"box {probe().level}" + (", network" if network == "host" else "")


# --- without a process


@pytest.mark.parametrize(
    ("network", "level", "ranks", "shares"),
    [
        ("none", 3, 1, False),
        ("none", 3, 4, False),
        ("none", 2, 1, False),
        ("none", 1, 4, False),
        ("loopback", 3, 1, False),
        ("loopback", 1, 1, False),
        ("host", 3, 1, True),
        ("host", 2, 1, True),
        ("host", 2, 4, True),
    ],
)
def test_what_a_name_grants(network: str, level: Level, ranks: int, shares: bool) -> None:
    assert shares_host(network, level, ranks) is shares  # type: ignore[arg-type]


@pytest.mark.parametrize(("network", "ranks"), [("loopback", 1), ("none", 2), ("loopback", 2)])
def test_what_level_2_cannot_tell_apart_is_refused_with_a_way_out(network: str, ranks: int) -> None:
    with pytest.raises(BoxError, match=r'install bubblewrap.* network = "host"'):
        shares_host(network, 2, ranks)  # type: ignore[arg-type]


def test_nothing_is_started_where_the_network_that_was_named_cannot_be_had(
    tiny: Callable[..., TinyLab], tmp_path: Path
) -> None:
    if why_not(2) is not None:
        pytest.skip(f"no box 2 here: {why_not(2)}")
    lab = tiny(network="loopback")
    path, none = (
        boxing.path_without_bubblewrap(tmp_path / "bin"),
        boxing.pythonpath_without_the_wheel(tmp_path / "none"),
    )
    lab.start(PATH=path, PYTHONPATH=none)
    with lab.session() as session:
        phase = wait_for(lambda: "loopback" in (said := session.call("status")["phase"]) and said)
        assert "level 2 cannot tell this machine's loopback from the rest" in phase
        assert session.call("status")["isolation"] == "no box"
        assert rows(session, "shard") == {}


def test_the_doctor_warns_of_a_granted_network(tiny: Callable[..., TinyLab]) -> None:
    if probe().level == 1:
        pytest.skip("no box here")
    found = {each.name: each for each in doctor._box(load(tiny(network="host").root), {})}
    assert found["network"].state == "warn"
    assert "open to them" in found["network"].detail
    assert list(doctor._box(load(tiny().root), {})) == []


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_the_filter_of_a_granted_network(machine: str, column: int) -> None:
    arch = box_module._AUDIT[machine]
    number = box_module._NUMBERS["socket"][column]
    allow, refuse = 0x7FFF0000, 0x00050001
    second = box_module.bpf(machine, 2, 4711, network=True)
    for domain, kind, protocol, answer in (
        (socket.AF_INET, socket.SOCK_STREAM, 0, allow),
        (socket.AF_INET, socket.SOCK_DGRAM | 0x80000, 17, allow),
        (socket.AF_INET6, socket.SOCK_STREAM | 0x80800, 6, allow),
        (socket.AF_INET, socket.SOCK_RAW, 1, refuse),
        (socket.AF_INET6, socket.SOCK_RAW, 58, refuse),
        (16, socket.SOCK_RAW | 0x80000, 0, allow),  # what the C library asks for addresses
        (16, socket.SOCK_RAW, 9, refuse),
        (socket.AF_UNIX, socket.SOCK_STREAM, 0, refuse),
        (17, socket.SOCK_RAW, 3, refuse),
        (40, socket.SOCK_STREAM, 0, refuse),
    ):
        assert verdict(second, arch, number, domain, kind, protocol) == answer, (domain, kind, protocol)
    without = box_module.bpf(machine, 3, 4711, unix=False)
    assert verdict(without, arch, number, socket.AF_UNIX, 1) == refuse
    assert verdict(without, arch, number, socket.AF_INET, 1) == allow
