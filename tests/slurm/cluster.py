"""A real Slurm on this machine: a controller and two node daemons with fake GPUs on loopback, up in about a second.

    python -m tests.slurm.cluster        by hand: prints how to talk to it, stays until it is interrupted

The distribution's slurm-wlm and munge, with no systemd, no cgroups, no accounting and a munge of its own. A node is killed,
or the controller, as a power cut would. Everything lies in one directory and goes with it. Needs root, as slurmd does.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "srun", "salloc", "squeue")
NODES = ("n1", "n2")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")  # stand for the devices of fake GPUs
HOW = "apt-get install -y --no-install-recommends slurm-wlm munge faketime (`make test-slurm` does so)"

_CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctl_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={place}/ctld
SlurmdSpoolDir={place}/%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/%n.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1,default_queue_depth=100
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdTimeout={node_timeout}
SlurmctldTimeout=30
InactiveLimit=0
KillWait=2
MinJobAge=300
ReturnToService=2
UnkillableStepTimeout=30
{nodes}
PartitionName=low Nodes={names} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=high Nodes={names} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
_NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} Boards=1 SocketsPerBoard=1 "
    "CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=4000 Gres=gpu:{gpus} State=UNKNOWN"
)


_NO_CGROUPS = (23, 11)  # the first release that can be told so


class NoSlurm(RuntimeError):
    """A Slurm cannot be started here; the message says why and what to do."""


def why_not() -> str | None:
    """Why no cluster can be started here; None where it can."""
    missing = [each for each in PROGRAMS if shutil.which(each) is None]
    if missing:
        return f"{', '.join(missing)} not found: {HOW}"
    return None if os.geteuid() == 0 else "the node daemons need root"


def without_cgroups(version: str) -> str:
    """The cgroup.conf by which a node daemon of that version (`slurmd -V`) does without cgroups, and so without systemd.

    Left to itself it takes cgroup/v2 where the machine has that, which asks systemd for a scope, and ends where there is no
    systemd. An older one takes cgroup/v1, which does nothing before a plugin wants it; none of _CONF does.
    """
    found = re.search(r"\b(\d+)\.(\d+)", version)
    known = found is not None and (int(found[1]), int(found[2])) >= _NO_CGROUPS
    return f"CgroupPlugin={'disabled' if known else 'cgroup/v1'}\n"


@functools.cache
def _version() -> str:
    return subprocess.run(["slurmd", "-V"], capture_output=True, text=True, timeout=30, check=True).stdout


class Cluster:
    """One running cluster. `env` is what its commands need in their environment, and nothing else is."""

    def __init__(self, place: Path, *, gpus: int = 2, cpus: int = 16, node_timeout_s: int = 15) -> None:
        if (why := why_not()) is not None:
            raise NoSlurm(why)
        self.place = place
        self.conf = place / "slurm.conf"
        self.env = {"PATH": os.environ.get("PATH", os.defpath), "SLURM_CONF": str(self.conf), "HOME": "/root"}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._write(gpus, cpus, node_timeout_s)

    def _write(self, gpus: int, cpus: int, node_timeout_s: int) -> None:
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(1 + len(NODES))
        for name in ("munge", "ctld", *NODES):
            (self.place / name).mkdir(parents=True, mode=0o700)
        nodes = [
            _NODE.format(name=name, host=host, port=port, cpus=cpus, gpus=gpus)
            for name, port in zip(NODES, ports[1:], strict=True)
        ]
        values = {"host": host, "place": self.place, "ctl_port": ports[0], "node_timeout": node_timeout_s}
        self.conf.write_text(_CONF.format(nodes="\n".join(nodes), names=",".join(NODES), **values))
        (self.place / "cgroup.conf").write_text(without_cgroups(_version()))
        files = ",".join(_DEVICES[:gpus])
        (self.place / "gres.conf").write_text(f"NodeName={','.join(NODES)} Name=gpu File={files}\n")
        key = self.place / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    # --- daemons

    def start(self) -> None:
        """Start everything, and return when both nodes are idle. Raises NoSlurm with what the logs say."""
        munge = self.place / "munge"
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        words = [f"--{option}={munge / name}" for option, name in files.items()]
        self._spawn("munge", ["munged", "--foreground", "--force", "--num-threads=2", *words])
        self._until(lambda: (munge / "socket").exists(), "munged does not listen")
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        self._until(lambda: self.states() == dict.fromkeys(NODES, "idle"), "the nodes do not come up")

    def start_controller(self) -> None:
        self._spawn("slurmctld", ["slurmctld", "-D", "-f", str(self.conf)])

    def start_node(self, name: str) -> None:
        self._spawn(name, ["slurmd", "-D", "-N", name, "-f", str(self.conf)])

    def kill_controller(self) -> None:
        """As a power cut would."""
        self._end("slurmctld", signal.SIGKILL)

    def kill_node(self, name: str) -> None:
        """As a power cut would: the daemon, the steps' daemons, and all that runs in them."""
        daemon = self._daemons[name]
        for pid in [daemon.pid, *self.processes(name)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.wait()
        for pid in self.processes(name):  # what was forked meanwhile
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, name: str) -> list[int]:
        """The steps' daemons of a node, and all that descends from them."""
        parents, heads = {}, []
        for each in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with suppress(OSError, IndexError):
                parents[each] = int(Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[1])
                words = Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")
                if words[0].startswith(b"slurmstepd") and self._is_of(each, name):
                    heads.append(each)
        found = set(heads)
        grew = True
        while grew:
            more = {each for each, parent in parents.items() if parent in found} - found
            found |= more
            grew = bool(more)
        return sorted(found)

    def keepers(self) -> list[int]:
        """Processes that keep a pilot of this cluster; they outlive whoever started them."""
        found, ours = [], os.fsencode(f"SLURM_CONF={self.conf}")
        for each in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with suppress(OSError):
                keeps = b"engine.shards.slurm.keeper" in Path(f"/proc/{each}/cmdline").read_bytes()
                if keeps and ours in Path(f"/proc/{each}/environ").read_bytes().split(b"\0"):
                    found.append(each)
        return found

    def _is_of(self, stepd: int, name: str) -> bool:
        """Whether a step's daemon is of that node of this cluster: it keeps the node's log open."""
        log = os.fspath(self.place / f"{name}.log")
        for each in os.listdir(f"/proc/{stepd}/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/{stepd}/fd/{each}") == log:
                    return True
        return False

    def stop(self) -> None:
        """End all that runs."""
        for pid in self.keepers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(subprocess.SubprocessError):
            self.run("scancel", "--user=root", seconds=5)
        for name in NODES:
            if name in self._daemons:
                self.kill_node(name)
        for name in ("slurmctld", "munge"):
            if name in self._daemons:
                self._end(name, signal.SIGKILL)

    def _spawn(self, name: str, argv: Sequence[str]) -> None:
        with open(self.place / f"{name}.out", "ab") as out:
            self._daemons[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.env,
                start_new_session=True,
                cwd="/",
                preexec_fn=_die_with_parent,
            )

    def _end(self, name: str, number: signal.Signals) -> None:
        daemon = self._daemons.pop(name)
        with suppress(ProcessLookupError):
            daemon.send_signal(number)
        daemon.wait()

    # --- asking

    def run(self, *argv: str, seconds: float = 30.0) -> str:
        """What a Slurm command says. Raises subprocess.SubprocessError."""
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=seconds, check=True)
        return done.stdout

    def states(self) -> dict[str, str]:
        """Node to its state; empty while the controller does not answer."""
        with suppress(subprocess.SubprocessError):
            said = self.run("sinfo", "--noheader", "--Node", "--partition=low", "--format=%N %T")
            return dict(line.split() for line in said.splitlines())
        return {}

    def _until(self, condition: object, what: str, seconds: float = 30.0) -> None:
        assert callable(condition)
        deadline = time.monotonic() + seconds
        while not condition():
            gone = [name for name, each in self._daemons.items() if each.poll() is not None]
            if gone or time.monotonic() > deadline:
                raise NoSlurm(f"{what}{f', and {gone[0]} has ended' if gone else ''}: {self._logs(gone)}")
            time.sleep(0.05)

    def _logs(self, gone: Sequence[str]) -> str:
        names = [f"{name}.{kind}" for name in (gone or ("slurmctld",)) for kind in ("out", "log")]
        texts = [path.read_text(errors="replace")[-600:] for path in map(self.place.joinpath, names) if path.exists()]
        return "\n".join(texts)


def _die_with_parent() -> None:
    """Tests that are killed leave no daemons behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@contextmanager
def cluster(**options: int) -> Iterator[Cluster]:
    """A cluster that runs until the block ends. Raises NoSlurm."""
    place = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    made = None
    try:
        made = Cluster(place, **options)
        made.start()
        yield made
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    began = time.monotonic()
    with cluster() as made:
        print(f"up after {time.monotonic() - began:.1f} s, in {made.place}; in another shell:")
        print(f"    export SLURM_CONF={made.conf}\n    sinfo\nInterrupt to end it.", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
