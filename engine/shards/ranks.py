"""Runs a shard's command as several ranks that train together. Standard library only.

    python -I -S ranks.py COUNT COMMAND...                              all of them on this machine
    python -I -S ranks.py COUNT --of NODES NODE HOST:PORT COMMAND...    so many on each node, here those of number NODE (from 0)

Each rank finds in its environment what torch's `env://` reads; no launcher of torch's is in between. The file runs by itself,
inside boxes too, so it imports nothing of the engine. It ends as the first rank that failed did; the others are killed then.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import time

FAILED = 98
LINE = 1 << 16  # bytes; a longer line is passed on in pieces
FIRST = "cockpit: rank %d was the first to fail on its node, at %.3f"  # last line of one of several nodes; s since the epoch
_LAST = 16  # pieces that are still read once all ranks have ended
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Meeting:
    """Where the ranks meet: `host` and `port` of the first of `nodes` nodes, of which this one is number `node`."""

    host: str
    port: int
    nodes: int = 1
    node: int = 0

    @classmethod
    def read(cls, nodes: str, node: str, where: str) -> Meeting:
        """What the command line says. Raises ValueError."""
        host, _, port = where.rpartition(":")
        found = cls(host, int(port), int(nodes), int(node))
        if not host or not 0 <= found.node < found.nodes:
            raise ValueError(f"node {node} of {nodes} cannot meet at {where!r}")
        return found


def environments(count: int, meeting: Meeting, base: dict[str, str]) -> list[dict[str, str]]:
    """The environment of each of the `count` ranks on this node. What talks between them stays on the interface by which this
    node reaches the first one, which is the loopback where there is but one; unless the lab says otherwise."""
    shared = {
        "WORLD_SIZE": str(count * meeting.nodes),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": str(meeting.node),
        "MASTER_ADDR": meeting.host,
        "MASTER_PORT": str(meeting.port),
    }
    interface = "lo" if meeting.nodes == 1 else interface_of(address_towards(meeting.host))
    if sys.platform.startswith("linux") and interface:
        shared["GLOO_SOCKET_IFNAME"] = base.get("GLOO_SOCKET_IFNAME", interface)
        shared["NCCL_SOCKET_IFNAME"] = base.get("NCCL_SOCKET_IFNAME", interface)
    first = meeting.node * count
    return [{**base, **shared, "RANK": str(first + at), "LOCAL_RANK": str(at)} for at in range(count)]


def free_port(address: str = "127.0.0.1") -> int:
    """A port of that address of this machine that nobody listens on just now. Raises OSError."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


def address_towards(host: str) -> str:
    """The address of this machine from which it reaches `host`; nothing is sent. Raises OSError."""
    trouble: OSError | None = None
    for family, kind, protocol, _, where in socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM):
        try:
            with socket.socket(family, kind, protocol) as sock:
                sock.connect(where)
                return str(sock.getsockname()[0])
        except OSError as error:
            trouble = error
    raise trouble or OSError(f"{host} has no address")


class _Interface(ctypes.Structure):
    """The beginning of C's `struct ifaddrs`."""


_Interface._fields_ = [
    ("next", ctypes.POINTER(_Interface)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
]


def interface_of(address: str) -> str | None:
    """The network interface of this machine that has the address; None where none has. Asked of the C library:
    Python knows the names alone."""
    family, at = (socket.AF_INET6, 8) if ":" in address else (socket.AF_INET, 4)
    wanted = socket.inet_pton(family, address.partition("%")[0])
    libc, head = ctypes.CDLL(None), ctypes.POINTER(_Interface)()
    if libc.getifaddrs(ctypes.byref(head)):
        return None
    try:
        entry = head
        while entry:
            each = entry.contents
            alike = each.address and int.from_bytes(ctypes.string_at(each.address, 2), sys.byteorder) == family
            if alike and ctypes.string_at(each.address + at, len(wanted)) == wanted:
                return os.fsdecode(each.name)
            entry = each.next
        return None
    finally:
        libc.freeifaddrs(head)


class Lines:
    """Passes on what one rank writes, whole lines at a time, those of all ranks but the first with its number before them."""

    def __init__(self, rank: int, write: Callable[[bytes], None]) -> None:
        self.mark = b"" if rank == 0 else b"[rank%d]: " % rank  # as torch marks its own; see engine.shards.outcome
        self.write = write
        self.rest = b""

    def feed(self, piece: bytes) -> None:
        """Take in some output; an empty piece is the end."""
        self.rest += piece
        end = 1 + max(self.rest.rfind(b"\n"), self.rest.rfind(b"\r"))  # a progress bar is no reason to wait
        if not piece or (not end and len(self.rest) >= LINE):
            end = len(self.rest)
        whole, self.rest = self.rest[:end], self.rest[end:]
        if not whole:
            return
        if not self.mark:
            self.write(whole)
            return
        lines = [each if each.startswith(self.mark) else self.mark + each for each in whole.splitlines(keepends=True)]
        self.write(b"".join(lines) if whole.endswith((b"\n", b"\r")) else b"".join(lines) + b"\n")


def _write(piece: bytes) -> None:
    while piece:
        piece = piece[os.write(1, piece) :]


class Ranks:
    """The ranks of one shard on this node, from their start to their end."""

    def __init__(self, count: int, argv: list[str], meeting: Meeting | None = None) -> None:
        self.selector = selectors.DefaultSelector()
        self.stop = self.stopping = False  # it was asked for; the ranks were told
        self.failed: int | None = None  # of the first that failed: its exit code, or its signal below 0
        self.first = ""  # which that was, for the agents of several nodes
        self.several = meeting is not None
        self.running: dict[subprocess.Popen[bytes], int] = {}  # with its rank
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._asked)
        self.selector.register(woken, selectors.EVENT_READ, None)
        for env in environments(count, meeting or Meeting("127.0.0.1", free_port()), dict(os.environ)):
            self._start(int(env["RANK"]), argv, env)

    def _start(self, rank: int, argv: list[str], env: dict[str, str]) -> None:
        parent, prctl = os.getpid(), getattr(ctypes.CDLL(None), "prctl", None)

        def in_child() -> None:
            if prctl is not None:
                prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(127)

        # A group of its own, so that a signal meant for all of the shard reaches it once, from here. One thread: safe.
        popen = subprocess.Popen(
            argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0, preexec_fn=in_child
        )
        self.running[popen] = rank
        assert popen.stdout is not None
        os.set_blocking(popen.stdout.fileno(), False)
        self.selector.register(popen.stdout, selectors.EVENT_READ, Lines(rank, _write))

    def _asked(self, *_: object) -> None:
        self.stop = True  # no more here: a rank may just be starting

    def _stop(self) -> None:
        """Hand TERM on, once; each rank may then save what it has, for as long as whoever stops the shard lets it."""
        self.stopping = True
        for each in self.running:
            _signal(each, signal.SIGTERM)

    def run(self) -> int:
        """Wait for the end of all ranks; the exit code, or the signal below 0, that this process is to end with."""
        while self.running:
            if self.stop and not self.stopping:
                self._stop()
            for key, _ in self.selector.select():
                if key.data is None:
                    _drain(key.fd)
                else:
                    self._hear(key)
            self._reap()
        for key in list(self.selector.get_map().values()):  # what a process that a rank left behind may still hold open
            if key.data is not None:
                self._hear(key, last=True)
        if self.several and self.failed and not self.stopping:
            _write(f"{self.first}\n".encode())
        return self.failed or 0

    def _hear(self, key: selectors.SelectorKey, last: bool = False) -> None:
        piece: bytes | None = None
        for _ in range(_LAST if last else 1):
            piece = _read(key.fd)
            if not piece:
                break
            key.data.feed(piece)
        if last or piece == b"":
            key.data.feed(b"")
            self.selector.unregister(key.fileobj)

    def _reap(self) -> None:
        for each in list(self.running):
            status = each.poll()
            if status is None:
                continue
            rank = self.running.pop(each)
            if status and self.failed is None:
                self.failed, self.first = status, FIRST % (rank, time())
        if self.failed is not None and not self.stopping:
            for each in self.running:
                _signal(each, signal.SIGKILL)  # whoever waits for a rank that is gone may not hear anything gentler


def _signal(rank: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(rank.pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:  # a box that cannot tell who belongs to it: they die with this process
        os._exit(128 + number)


def _read(fd: int) -> bytes | None:
    """Some output; empty at its end, None when there is none just now."""
    try:
        return os.read(fd, LINE)
    except BlockingIOError:
        return None


def _drain(fd: int) -> None:
    while _read(fd):
        pass


def end(status: int) -> None:
    """End as a rank did."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def main(argv: list[str]) -> int:
    """Run the ranks that `argv` asks for. Returns only when they cannot be started."""
    try:
        meeting = Meeting.read(*argv[2:5]) if argv[1] == "--of" else None
        end(Ranks(int(argv[0]), argv[5:] if meeting else argv[1:], meeting).run())
    except (OSError, ValueError, TypeError, IndexError, subprocess.SubprocessError) as error:
        print(f"cockpit: no ranks: {error}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
