"""Killing siblings, the engine or the launcher; processes that outlive their shard."""

from __future__ import annotations

import os
import time
from typing import Any

from tests.threats.scene import Scene, hostile, processes_of
from tests.tinylab import TinyLab, alive, read_json

# The numbers are those outside; at level 3 they mean nothing inside, so it also goes through all that it can see.
KILL = """
mine = {os.getpid(), os.getppid(), 1}
for name, pid in facts["pids"].items():
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
        attempt("%s %s" % (number.name, name), lambda: os.kill(pid, number))
    attempt("group of " + name, lambda: os.killpg(pid, signal.SIGKILL))
    attempt("nice " + name, lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
    attempt("cores of " + name, lambda: os.sched_setaffinity(pid, {0}))
    attempt("memory of " + name, lambda: open("/proc/%d/mem" % pid, "r+b"))
    attempt("environment of " + name, lambda: open("/proc/%d/environ" % pid, "rb").read())
    attempt("open files of " + name, lambda: os.listdir("/proc/%d/fd" % pid))
    attempt("blame " + name, lambda: open("/proc/%d/oom_score_adj" % pid, "w").write("1000"))
    limit = struct.pack("QQ", 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)

    def starve():
        if libc.prlimit(pid, 7, limit, None) < 0:
            raise OSError(ctypes.get_errno(), "")

    attempt("limits of " + name, starve)
try:
    seen = [int(each) for each in os.listdir("/proc") if each.isdigit()]
except OSError:
    seen = []
found["strangers"] = str(sorted(set(seen) - mine))
"""

# The honest shard's numbers are known only once it runs.
KILL_SIBLING = """
place = os.path.join(os.path.dirname(hold), "sibling")
while not os.path.exists(place):
    time.sleep(0.02)
for pid in map(int, open(place).read().split()):
    for number in (signal.SIGKILL, signal.SIGSTOP):
        attempt("%s %d" % (number.name, pid), lambda: os.kill(pid, number))
        attempt("group %s %d" % (number.name, pid), lambda: os.killpg(pid, number))
"""

# In sessions of their own, deaf to TERM; one of them twice removed, one without the marker of its launch.
ORPHANS = """
def linger(path):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    for _ in range(600):
        with open(path, "a") as file:
            file.write("x")
        time.sleep(0.1)
    os._exit(0)

def leave(name, depth):
    path = os.path.join(run_dir, "alive-" + name)
    if os.fork() == 0:
        for _ in range(depth):
            os.setsid()
            if os.fork() > 0:
                os._exit(0)
        linger(path)
    while not os.path.exists(path):
        time.sleep(0.01)
    found["left " + name] = "done"

leave("child", 0)
leave("daemon", 1)
leave("daemon of a daemon", 2)
if facts["level"] == 3:
    bare = os.path.join(run_dir, "alive-bare")
    code = "import time\\nfor _ in range(600): open(%r, 'a').write('x'); time.sleep(0.1)" % bare
    subprocess.Popen([sys.executable, "-c", code], env={}, start_new_session=True)
    while not os.path.exists(bare):
        time.sleep(0.01)
    found["left bare"] = "done"
"""

DEEDS = {
    "kill": hostile("One among many", KILL),
    "kill sibling": hostile("An only child", KILL_SIBLING),
    "orphans": hostile("Stay for longer", ORPHANS),
}


def facts(lab: TinyLab, level: int) -> dict[str, Any]:
    assert lab.engine is not None
    launcher = int(read_json(lab.state.launcher_lock)["pid"])
    return {"pids": {"engine": lab.engine.pid, "launcher": launcher, "test": os.getpid()}}


def test_neither_engine_nor_launcher_nor_strangers_are_in_reach(scene: Scene) -> None:
    assert scene.may("kill") == set()
    assert len(scene.deed("kill")) > 30
    assert scene.deed("kill")["strangers"] == "[]"
    for name, pid in scene.told["pids"].items():
        assert alive(pid), name
    assert scene.shard("kill")["outcome"] == "finished"
    scene.sound()


def test_a_sibling_that_trains_is_not_in_reach(scene: Scene) -> None:
    assert scene.deed("kill sibling")
    assert scene.may("kill sibling") == set()
    assert scene.shard("kill sibling")["outcome"] == "finished"
    scene.sound()


def test_nothing_outlives_its_shard(scene: Scene) -> None:
    assert len(scene.may("orphans")) == (4 if scene.level == 3 else 3)
    assert scene.shard("orphans")["outcome"] == "finished"
    assert processes_of(str(scene.run_dir("orphans"))) == []
    sizes = {each: each.stat().st_size for each in scene.run_dir("orphans").glob("alive-*")}
    assert len(sizes) == len(scene.may("orphans"))
    time.sleep(0.3)  # three times as long as any of them is silent
    assert {each: each.stat().st_size for each in sizes} == sizes
    scene.sound()
