"""Fork bombs, the filling of disk and memory, log floods. Each is bounded by itself too, should nobody else bound it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.files import below
from tests.threats.scene import Bits, Scene, Stage, hostile

BEST_BOX = True
MIB = 1 << 20
MEMORY, DISK, PROCESSES, LOG = 256 * MIB, 48 * MIB, 24, MIB
LIMITS = f"""
[limits]
memory = "{MEMORY // MIB} MiB"
disk = "{DISK // MIB} MiB"
processes = {PROCESSES}
log = "{LOG // MIB} MiB"
"""

# At most 1.5 GiB.
HOARD = """
held = []
for _ in range(30):
    held.append(b"x" * (50 << 20))
    time.sleep(0.1)
found["held all"] = "done"
time.sleep(5)
"""
# The same by many, each of which holds little.
HOARD_TOGETHER = """
children = []
for _ in range(12):
    pid = os.fork()
    if pid == 0:
        mine = b"x" * (60 << 20)
        time.sleep(10)
        os._exit(0)
    children.append(pid)
    time.sleep(0.1)
time.sleep(10)
found["held all"] = "done"
"""
# At most 300 MB, in files that are there, in one that has no name any more, and in very many.
FILL = """
for number in range(150):
    with open(os.path.join(run_dir, "fill-%d" % number), "wb") as file:
        file.write(b"x" * (2 << 20))
    time.sleep(0.05)
found["wrote all"] = "done"
time.sleep(5)
"""
FILL_UNSEEN = """
with open(os.path.join(run_dir, "tmp", "unseen"), "wb") as file:
    os.unlink(file.name)
    for _ in range(150):
        file.write(b"x" * (2 << 20))
        file.flush()
        time.sleep(0.05)
    found["wrote all"] = "done"
    time.sleep(5)
"""
# 126 processes, each of which ends by itself.
BOMB = """
def bomb(depth):
    for _ in range(2):
        if os.fork() == 0:
            os.setsid()
            if depth:
                bomb(depth - 1)
            time.sleep(10)
            os._exit(0)

bomb(5)
time.sleep(10)
found["burst"] = "done"
"""
# 60 MB, and then its training.
FLOOD = """
line = b"flood " * 10000 + b"\\n"
for _ in range(1000):
    os.write(1, line)
found["flooded"] = "done"
"""

DEEDS = {
    "hoard": hostile("Hold all there is", HOARD),
    "hoard together": hostile("Hold all there is, together", HOARD_TOGETHER),
    "fill": hostile("Write all there is", FILL),
    "fill unseen": hostile("Write all there is where nobody looks", FILL_UNSEEN),
    "bomb": hostile("Be many", BOMB),
    "flood": hostile("Say much", FLOOD),
}


@pytest.fixture(scope="module")
def limited(stage: Stage, alone: Bits) -> Iterator[Scene]:
    with stage.play(DEEDS, alone, extra=LIMITS, prepare=True) as scene:
        yield scene


@pytest.mark.parametrize("name", ["hoard", "hoard together"])
def test_who_fills_the_memory_is_ended_as_out_of_memory(limited: Scene, name: str) -> None:
    shard = limited.shard(name)
    assert (shard["outcome"], shard["metric"]) == ("oom", None)
    assert "memory" in shard["detail"]
    assert not (limited.run_dir(name) / "deed.json").exists()
    limited.sound()


@pytest.mark.parametrize("name", ["fill", "fill unseen"])
def test_who_fills_the_disk_is_ended(limited: Scene, name: str) -> None:
    shard = limited.shard(name)
    assert (shard["outcome"], shard["metric"]) == ("crashed", None)
    assert "disk" in shard["detail"] or "directory" in shard["detail"]
    assert not (limited.run_dir(name) / "deed.json").exists()
    assert sum(_bytes(path) for path in below(limited.run_dir(name))) < 250 * MIB
    limited.sound()


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def test_a_fork_bomb_is_ended_with_all_its_children(limited: Scene) -> None:
    shard = limited.shard("bomb")
    assert (shard["outcome"], shard["metric"]) == ("crashed", None)
    assert "process" in shard["detail"]
    assert not (limited.run_dir("bomb") / "deed.json").exists()
    limited.sound()


def test_a_flood_of_words_is_cut_and_harms_nobody_not_even_who_said_them(limited: Scene) -> None:
    shard = limited.shard("flood")
    assert limited.deed("flood") == {"flooded": "done"}
    assert shard["outcome"] == "finished"
    assert (limited.run_dir("flood") / "output.log").stat().st_size <= LOG + 256 * 1024
    text = limited.session.call("log", shard=shard["id"])["text"]
    assert len(text) <= 65536
    assert "step 4 loss" in text  # what was said last is kept
    limited.sound()
