"""How a process that is forked, rather than started, gets into its box: it goes in by itself. Standard library only.

Level 3: bubblewrap builds the box around a shell that only waits, and the fork joins its namespaces; when the shell's input
ends, the kernel ends all that is in the box. Level 2: the fork gives up its rights. Both are what `box.py` makes of a process
that is started, and the file runs where that one does: by path, with the lab's interpreter too.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import resource

if False:  # for the type checker alone
    from typing import Any


def beside(path: str) -> Any:
    """The module in that file, under no name by which others could import it."""
    spec = importlib.util.spec_from_file_location("_" + os.path.basename(path).partition(".")[0], path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


box = beside(os.path.join(os.path.dirname(os.path.abspath(__file__)), "box.py"))

_KINDS = {  # the flag of setns for each kind of namespace
    "user": 0x10000000,
    "mnt": 0x00020000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
}
_WAIT = ("/bin/sh", "-c", "echo; read x")  # says that the box stands, then waits for the end of its input
_INFO = 65536  # bytes of bubblewrap's own account of the box


def command(python: str, walls: list[str], cwd: str, argv: list[str]) -> list[str]:
    """The command line that starts `argv` in that box, for a process of its own; `python` enters it."""
    if not walls:
        return argv
    enter = [python, "-I", "-S", box.__file__]
    if walls[0] == "2":
        return [*enter, "confine", walls[1], *argv]
    end = ["--die-with-parent", "--as-pid-1", "--chdir", cwd, "--"]
    return [*enter, "enter", *walls[1:], *end, *enter, "within" if _shut(walls) else "within-network", *argv]


def _shut(walls: list[str]) -> bool:
    """Whether a box of level 3 has a network of its own, in which there is nobody else."""
    return "--unshare-net" in walls


class Box:
    """A box of level 3 that bubblewrap is building; `hear` and `stands` are what it tells of it."""

    def __init__(self, words: list[str], life: int, log: int, env: dict[str, str]) -> None:
        self.hear, tell = os.pipe()
        self.stands, say = os.pipe()
        program, write = os.pipe()
        try:
            os.write(write, box.bpf(os.uname().machine, 3, 0))
            for each in (tell, program):
                os.set_inheritable(each, True)
            argv = [*words, "--info-fd", str(tell), "--seccomp", str(program), "--", *_WAIT]
            actions: list[Any] = [(os.POSIX_SPAWN_CLOSE, write)]
            actions += [(os.POSIX_SPAWN_DUP2, old, new) for old, new in ((life, 0), (say, 1), (log, 2))]
            os.posix_spawn(argv[0], argv, env, file_actions=actions)
        except BaseException:
            self.close()
            raise
        finally:
            for each in (tell, say, program, write):
                os.close(each)

    def join(self) -> None:
        """Wait until it stands and join it: the next fork of this process is inside. Raises box.CannotBox."""
        if os.read(self.stands, 1) != b"\n":
            raise box.CannotBox("bubblewrap could not build the box; the log has what it said")
        pid = int(json.loads(os.read(self.hear, _INFO))["child-pid"])
        kinds = 0
        for kind, flag in _KINDS.items():
            if os.stat(f"/proc/{pid}/ns/{kind}").st_ino != os.stat(f"/proc/self/ns/{kind}").st_ino:
                kinds |= flag
        inside = os.pidfd_open(pid)
        try:
            box._check(ctypes.CDLL(None, use_errno=True).setns(inside, kinds), "joining the box")
        finally:
            os.close(inside)

    def close(self) -> None:
        """Hear no more of it. It stands until the other end of the pipe `life` is closed by all who hold it."""
        os.close(self.hear)
        os.close(self.stands)


def build(walls: list[str], life: int, log: int, env: dict[str, str]) -> Box | None:
    """Have the box built that a fork of this process then joins; None where there is nothing to join. Raises OSError.

    It stands until the other end of the pipe `life` is closed by all who hold it. What bubblewrap has to say goes to `log`,
    and `env` is what its processes are found by.
    """
    return Box(walls[1:], life, log, env) if walls and walls[0] == "3" else None


def confine(walls: list[str]) -> None:
    """Give up what a process in that box does not have; the last thing before it runs what is not trusted. Raises CannotBox."""
    if not walls:
        return
    box._limit(resource.RLIMIT_NOFILE, box.OPEN_FILES)
    if walls[0] == "3":
        box._limit(resource.RLIMIT_NPROC, box.PROCESSES)
        box.drop_capabilities()
        box.seccomp(3, unix=_shut(walls) or box.keep_from_abstract_sockets())
        return
    rules = json.loads(walls[1])
    scoped = box.landlock(rules["readable"], rules["writable"], rules["devices"], rules["network"])
    box.drop_capabilities()
    box.seccomp(2, signals_scoped=scoped, network=rules["network"])


def threads() -> int:
    """How many threads this process has: only one that has a single one can be forked safely, or join a box."""
    with open("/proc/self/status") as file:
        return int(next(line.split()[1] for line in file if line.startswith("Threads:")))
