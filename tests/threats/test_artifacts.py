"""What a shard leaves behind as its results: links, pipes, terabytes that are not there, labyrinths, and pickles that act."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.threats.scene import Scene, hostile
from tests.tinylab import TinyLab, read_json, rows, wait_for


def at_the_end(code: str) -> str:
    """Code that is run when training is over and its checkpoint, `model`, has been written."""
    body = "\n".join(f"    {line}" for line in code.strip().splitlines())
    return f"""
import atexit
model = os.path.join(run_dir, "model.json")

def last():
    os.unlink(model)
{body}
    tell(run_dir)

atexit.register(last)
found["began"] = "done"
"""


LINK = at_the_end('attempt("link", lambda: os.symlink(facts["held text"], model))')
PIPE = at_the_end('attempt("pipe", lambda: os.mkfifo(model))')
SPARSE = at_the_end("""
def sparse(path):
    with open(path, "wb") as file:
        file.truncate(1 << 40)

attempt("model", lambda: sparse(model))
attempt("checkpoint", lambda: sparse(os.path.join(run_dir, "last.safetensors")))
""")
SPARSE_METRICS = """
import atexit
size = 1 << (40 if facts["level"] == 3 else 26)  # reading the most that is ever read takes seconds: once is enough
atexit.register(lambda: os.truncate(metrics, size))
attempt("output", lambda: os.ftruncate(1, 1 << 40))
found["metrics"] = "done"
"""
SWAPPED_METRICS = """
os.rename(metrics, metrics + ".mine")
attempt("link", lambda: os.symlink(facts["ledger file"], metrics))
"""
PIPED_METRICS = """
os.unlink(metrics)
attempt("pipe", lambda: os.mkfifo(metrics))
"""
METRICS_DIRECTORY = """
os.unlink(metrics)
attempt("directory", lambda: os.mkdir(metrics))
"""
HARD_LINKS = """
for name in ("output.log", "exit.json", "spec.json"):
    attempt("link " + name, lambda: os.link(metrics, os.path.join(run_dir, name + ".pt")))
for name in ("score.json", "score.log", "score-exit.json"):
    attempt("link " + name, lambda: os.link(metrics, os.path.join(run_dir, name)))
for name in ("ledger file", "held text"):
    attempt("steal " + name, lambda: os.link(facts[name], os.path.join(run_dir, name)))
"""
# Deeper than Python recurses and than a path may be long, wide, and where its owner himself may not look.
LABYRINTH = """
attempt("link to a file", lambda: os.symlink(facts["outside file"], os.path.join(run_dir, "out.pt")))
attempt("link to a directory", lambda: os.symlink(os.path.dirname(facts["outside file"]), os.path.join(run_dir, "out")))
place = os.path.join(run_dir, "tmp")
os.mkdir(os.path.join(place, "dark"))
open(os.path.join(place, "dark", "x.pt"), "w").close()
os.mkdir(os.path.join(place, "dark", "darker"))
os.chmod(os.path.join(place, "dark", "darker"), 0)
os.chmod(os.path.join(place, "dark"), 0)
os.mkdir(os.path.join(place, "listed"))
open(os.path.join(place, "listed", "x.pt"), "w").close()
os.chmod(os.path.join(place, "listed"), 0o444)
os.chdir(place)
for _ in range(1050):
    os.mkdir("down" * 8)
    os.chdir("down" * 8)
open("deep.pt", "w").close()
os.chdir("/")
wide = os.path.join(run_dir, "wide")
os.mkdir(wide)
for number in range(500):
    open(os.path.join(wide, "%d.pt" % number), "w").close()
found["built"] = "done"
"""
# The payload runs where the checkpoint is read: in the box of the scoring.
PAYLOAD = """
import json, os, signal, socket
found = {}
def attempt(name, what):
    try:
        what()
        found[name] = "done"
    except OSError as error:
        found[name] = str(error)
for name, pid in facts["live"].items():
    attempt("kill " + name, lambda: os.kill(pid, signal.SIGKILL))
for name in ("outside file", "ledger file"):
    attempt("read " + name, lambda: open(facts[name]).read())
    attempt("write " + name, lambda: open(facts[name], "a").write("planted"))
attempt("data", lambda: open(facts["held text"], "a").write("planted"))
attempt("tree", lambda: open("train.py", "a").write("planted"))
attempt("call", lambda: socket.create_connection(("127.0.0.1", facts["port"]), 3))
json.dump(found, open(os.path.join(run_dir, "payload.json"), "w"))
"""
PICKLE = at_the_end(f"""
import pickle
code = "facts = %r; run_dir = %r\\n" % (facts, run_dir) + {PAYLOAD!r}

class Checkpoint:
    def __reduce__(self):
        return eval, ("(exec(%r, {{}}), {{'bottom': 2.5}})[1]" % code,)

with open(model, "wb") as file:
    pickle.dump(Checkpoint(), file)
""")

DEEDS = {
    "linked model": hostile("A link for a checkpoint", LINK),
    "piped model": hostile("A pipe for a checkpoint", PIPE),
    "sparse model": hostile("A terabyte for a checkpoint", SPARSE),
    "sparse metrics": hostile("A terabyte of metrics", SPARSE_METRICS),
    "swapped metrics": hostile("A link for metrics", SWAPPED_METRICS),
    "piped metrics": hostile("A pipe for metrics", PIPED_METRICS),
    "metrics directory": hostile("A directory for metrics", METRICS_DIRECTORY),
    "hard links": hostile("One file, many names", HARD_LINKS),
    "labyrinth": hostile("A place to get lost in", LABYRINTH),
    "pickle": hostile("A checkpoint that acts", PICKLE),
}
_port: list[socket.socket] = []


def facts(lab: TinyLab, level: int) -> dict[str, Any]:
    (data,) = lab.state.data.iterdir()
    outside = lab.root.parent / f"{lab.root.name}.outside"
    outside.write_text("precious\n")
    _port[:] = [socket.create_server(("127.0.0.1", 0))]
    assert lab.engine is not None
    return {
        "held text": str(data / "held" / "text"),
        "ledger file": str(lab.state.ledger),
        "outside file": str(outside),
        "port": _port[0].getsockname()[1],
        "live": {"engine": lab.engine.pid, "launcher": int(read_json(lab.state.launcher_lock)["pid"])},
    }


@pytest.mark.parametrize(
    ("name", "says"),
    [("linked model", "scoring failed"), ("piped model", "scoring timed out"), ("sparse model", "scoring failed")],
)
def test_what_is_no_checkpoint_has_no_score(scene: Scene, name: str, says: str) -> None:
    shard = scene.shard(name)
    assert scene.may(name)
    assert (shard["outcome"], shard["metric"]) == ("crashed", None)
    assert says in shard["detail"]
    assert "held out" not in shard["detail"]
    scene.sound()


@pytest.mark.parametrize(
    "name", ["sparse metrics", "swapped metrics", "piped metrics", "metrics directory", "hard links"]
)
def test_what_is_no_plain_file_is_not_read_as_one(scene: Scene, name: str) -> None:
    shard = scene.shard(name)
    assert scene.may(name)
    assert (shard["outcome"], shard["detail"]) == ("finished", "")
    assert shard["metric"] == read_json(scene.run_dir(name) / "model.json")["bottom"]
    names = scene.session.call("metrics", shard=shard["id"])
    assert "prev" not in names["names"]  # nothing of the ledger, which some of them point to
    log = scene.session.call("log", shard=shard["id"])
    assert len(log["text"]) <= 65536
    assert not [each for each in scene.may(name) if each.startswith("steal")]
    scene.sound()


def test_a_checkpoint_that_acts_when_read_acts_in_a_box(scene: Scene) -> None:
    payload = read_json(scene.run_dir("pickle") / "payload.json")
    assert len(payload) == 9
    harm = {each for each, answer in payload.items() if answer == "done"}
    # at level 3 a place of which nothing is to be seen may be one in a /tmp of its own
    assert harm - ({"write outside file", "write ledger file"} if scene.level == 3 else set()) == set()
    assert Path(scene.told["outside file"]).read_text() == "precious\n"
    assert Path(scene.told["held text"]).read_text() == "held out"
    _port[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        _port[0].accept()
    scene.sound()


def test_no_labyrinth_keeps_the_engine_from_tidying_up(scene: Scene) -> None:
    """Checkpoints of what is not solid are dropped, and scratch directories removed; never anything that a link leads to."""
    run_dir = scene.run_dir("labyrinth")
    shard = scene.shard("labyrinth")
    if shard["outcome"] == "crashed":  # it was ended while it built
        assert "directories" in shard["detail"]
    else:
        assert scene.may("labyrinth") >= {"built", "link to a file", "link to a directory"}
        assert shard["outcome"] == "finished"
        assert list((run_dir / "wide").iterdir()) == []
    assert rows(scene.session, "experiment")[scene.experiment("labyrinth")["id"]]["state"] == "judged"
    assert not os.path.lexists(run_dir / "out.pt")
    assert os.path.lexists(run_dir / "out")
    answer = scene.session.call("gc")
    assert answer["removed"] > 0
    assert answer["bytes"] < 1 << 32  # the sparse terabytes count as what they were
    wait_for(lambda: not os.path.lexists(run_dir / "tmp"))
    assert Path(scene.told["outside file"]).read_text() == "precious\n"
    assert stat.S_ISDIR(run_dir.stat().st_mode)
    scene.sound()
