"""Keys in the environment of whoever starts the engine: what reaches shards, ledger, logs and commits."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from engine.files import below, read_regular
from tests.threats.scene import SECRET, SECRETS, Scene, hostile
from tests.tinylab import TinyLab

BEST_BOX = True

# It fails loudly, with a traceback, and prints all it has: what would be in a log if there were something to be had.
LOUD = """
for name, value in sorted(os.environ.items()):
    print(name, value, file=sys.stderr)
    attempt("environment " + name, lambda: None)
write(fd, {"summary": {name: value for name, value in os.environ.items() if len(value) < 400}})
with open(os.path.join(run_dir, "environment"), "w") as file:
    json.dump(dict(os.environ), file)
tell(run_dir)
raise RuntimeError("all that I know: " + repr(dict(os.environ)))
"""

DEEDS = {"loud": hostile("Say all that I have been given", LOUD)}


def facts(lab: TinyLab, level: int) -> dict[str, Any]:
    return {}


def _holders(place: Path) -> list[str]:
    """The files below `place` that hold a secret."""
    return [str(each) for each in below(place) if SECRET.encode() in read_regular(each, 1 << 26)]


def test_no_key_reaches_shards_ledger_logs_index_or_git(scene: Scene) -> None:
    lab = scene.lab
    shard = scene.shard("loud")
    assert shard["outcome"] == "crashed"
    assert "RuntimeError" in shard["detail"]
    given = json.loads((scene.run_dir("loud") / "environment").read_text())
    assert not given.keys() & SECRETS.keys()
    assert scene.may("loud")
    scene.session.call("sql", text="SELECT 1")  # all that is known is in the index now
    assert _holders(lab.root) == []
    assert _holders(lab.state.runtime) == []
    objects = subprocess.run(
        ["git", "-C", str(lab.root), "cat-file", "--batch-all-objects", "--batch", "--buffer"],
        capture_output=True,
        check=True,
    ).stdout
    assert b"Cockpit-Experiment" in objects
    assert SECRET.encode() not in objects
    scene.sound()


def test_keys_are_not_even_in_the_environment_of_engine_and_launcher(scene: Scene) -> None:
    pids = {"engine": int(scene.session.hello["pid"]), "launcher": _launcher(scene.lab)}
    found = {name: Path(f"/proc/{pid}/environ").read_bytes() for name, pid in pids.items()}
    keys = [name for name in SECRETS if name != "DATABASE_URL"]  # a name that says nothing stays with the engine
    assert [name for name in keys if name.encode() in found["engine"]] == []
    assert SECRET.encode() not in found["launcher"]
    assert b"PATH=" in found["launcher"]
    scene.sound()


def _launcher(lab: TinyLab) -> int:
    return int(json.loads(lab.state.launcher_lock.read_text())["pid"])
