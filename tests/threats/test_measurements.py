"""Forged metrics and edited evaluation: what counts is measured by protected code, from the checkpoint alone."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.threats.scene import TRUSTING, Scene, hostile
from tests.tinylab import TinyLab, proposal, read_json, wait_for

FORGED = -99.0

# Every way to say a number that is not so: in its own words, in the files of the scoring that is to come, and afterwards,
# from a process that waits for the true score in order to overwrite it.
FORGE = f"""
fake = json.dumps({{"metric": {FORGED}, "sources": {{"a": {FORGED}}}, "split": "search"}})
record = {{"id": "x", "how": "exited", "code": 0, "signal": None, "started": 1.0, "ended": 2.0, "pid": 1}}
write(fd, {{"summary": {{"val": {FORGED}}}}})
for step in range(3):
    write(fd, {{"step": step, "val": {FORGED}, "loss": {FORGED}}})

def plant(name, text):
    with open(os.path.join(run_dir, name), "w") as file:
        file.write(text)

for name in ("exit.json", "score-exit.json"):
    attempt("plant " + name, lambda: plant(name, json.dumps(record)))
for name in ("score.json", "score.log"):
    attempt("plant " + name, lambda: plant(name, fake))
if os.fork() == 0:
    os.setsid()
    for _ in range(3000):
        try:
            with open(os.path.join(run_dir, "score-exit.json")) as file:
                if "score" in json.load(file)["id"]:
                    plant("score.json", fake)
                    os._exit(0)
        except (OSError, ValueError):
            pass
        time.sleep(0.01)
    os._exit(0)
"""

SCORE_IS_A_DIRECTORY = """
os.mkdir(os.path.join(run_dir, "score.json"))
attempt("file in it", lambda: open(os.path.join(run_dir, "score.json", "x"), "w").close())
"""

SCORE_IS_A_LINK = """
attempt("link", lambda: os.symlink(facts["ledger"], os.path.join(run_dir, "score.json")))
attempt("link to log", lambda: os.symlink(facts["ledger"], os.path.join(run_dir, "score.log")))
"""

# Python reads these at the start of the scoring process, should they be found.
STARTUP = """
home = os.path.join(run_dir, "tmp")
site = os.path.join(home, ".local", "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
os.makedirs(site)
forge = "import os, sys\\nif 'score.py' in sys.argv[0]: print('planted code runs'); os._exit(0)\\n"
for name in ("usercustomize.py", "sitecustomize.py", "json.py"):
    for place in (site, home, run_dir):
        attempt(name + " in " + place, lambda: open(os.path.join(place, name), "w").write(forge))
attempt("pth", lambda: open(os.path.join(site, "x.pth"), "w").write("import usercustomize\\n"))
"""

TREE = """
tree = os.path.dirname(os.path.abspath(__file__))
easier = "import json, sys; json.dump({'metric': -99.0}, open(sys.argv[2], 'w'))"
attempt("chmod", lambda: os.chmod(os.path.join(tree, "score.py"), 0o644))
attempt("write", lambda: open(os.path.join(tree, "score.py"), "w").write(easier))
attempt("append", lambda: open(os.path.join(tree, "score.py"), "a").write(easier))
attempt("unlink", lambda: os.unlink(os.path.join(tree, "score.py")))
attempt("shadow", lambda: open(os.path.join(tree, "json.py"), "w").write(easier))
attempt("cache", lambda: os.mkdir(os.path.join(tree, "__pycache__")))
attempt("rename", lambda: os.rename(tree, tree + ".old"))
attempt("lab", lambda: open(os.path.join(facts["root"], "score.py"), "w").write(easier))
"""

# Lines that are meant to break whoever reads them, each well-formed enough to be looked at.
UNREADABLE = """
lines = [
    b'{"summary": {"steps": 1' + b"0" * 300 + b'}}',
    b'{"summary": {"steps": -Infinity, "parameters": NaN}}',
    b'{"step": 9007199254740991, "loss": 1.0, "tokens_per_s": 1e308}',
    b'{"step": 99999999999999999999999999, "loss": 1.0}',
    b'{"step": 2, "loss": {"a": [1]}}',
    b'{"step": 2, "step": 3, "loss": 1.0}',
    b"[" * 50000,
    b'{"a":' * 9000,
    b"x" * 200000,
    b'{"step": 3, "\\\\u001b]0;owned\\\\u0007": 1.0}',
    b"\\xff\\xfe\\x00\\x00",
    b'{"summary": {"steps": 1e308}}',
    b'{"summary": {"steps": Infinity, "tokens": 1e308}}',
    b"null", b"[]", b"0", b'"step"', b"{}",
]
for line in lines:
    os.write(fd, line + b"\\n")
for n in range(40):
    os.write(fd, json.dumps({"step": n, **{"m%d-%d" % (n, i): 1.0 for i in range(300)}}).encode() + b"\\n")
found["wrote"] = "done"
tell(run_dir)
os.write(fd, b'{"step": 1, "loss": 1e999, "t": Infinity}\\n')  # the last, since the engine may stop a shard for it at once
"""

DEEDS = {
    "forge": hostile("It says that it is better than it is", FORGE),
    "score is a directory": hostile("A directory where the score belongs", SCORE_IS_A_DIRECTORY),
    "score is a link": hostile("A link where the score belongs", SCORE_IS_A_LINK),
    "startup": hostile("Code where Python may look for some", STARTUP),
    "tree": hostile("Another evaluation for all who come after", TREE),
    "unreadable": hostile("Numbers that break their reader", UNREADABLE),
}


def refused(path: str) -> str:
    return proposal(f"Evaluate more kindly by way of {path}", "import json, sys", "import json, sys, math", path=path)


NEW = {
    "json.py": proposal("A module of our own", "", "def load(file):\n    return {'bottom': -99.0}", path="json.py"),
    "cockpit.toml": proposal("Another score", 'split = "search"', 'split = "mine"', path="cockpit.toml"),
}
REFUSALS = {
    "score.py": "protected",
    "SCORE.py": "protected",
    "./score.py": "outside",
    "mix/../score.py": "outside",
    "score.py\u200b": "outside",
    "score.py.": "outside",
    ".cockpit/data": "protected",
}


DEEDS |= {f"edit {path}": refused(path) for path in REFUSALS} | {f"edit {path}": reply for path, reply in NEW.items()}


def facts(lab: TinyLab, level: int) -> dict[str, Any]:
    return {"ledger": str(lab.state.ledger), "root": str(lab.root)}


def test_a_forged_metric_is_kept_as_what_was_said_and_never_counts(scene: Scene) -> None:
    shard, row = scene.shard("forge"), scene.row("forge")
    bottom = read_json(scene.run_dir("forge") / "model.json")["bottom"]
    assert (shard["outcome"], shard["metric"]) == ("finished", bottom)
    assert row["sources"] == {"a": bottom - 0.1, "b": bottom + 0.1}
    assert row["reported"] != row["metric"] or math.isclose(row["reported"], bottom)
    assert read_json(scene.run_dir("forge") / "score.json")["metric"] == bottom
    assert len(scene.may("forge")) == 4
    answer = scene.session.call("sql", text="SELECT min(metric) FROM shards")
    assert answer["rows"][0][0] > 0
    scene.sound()


@pytest.mark.parametrize("name", ["score is a directory", "score is a link", "startup"])
def test_what_is_planted_where_the_score_belongs_is_cleared_away(scene: Scene, name: str) -> None:
    bottom = read_json(scene.run_dir(name) / "model.json")["bottom"]
    assert scene.may(name)
    assert (scene.shard(name)["outcome"], scene.shard(name)["metric"]) == ("finished", bottom)
    assert not (scene.run_dir(name) / "score.json").is_symlink()
    assert b"planted" not in (scene.run_dir(name) / "score.log").read_bytes()
    scene.sound()


def test_no_shard_edits_the_evaluation_of_another(scene: Scene) -> None:
    answers = scene.deed("tree")
    assert len(answers) == 8
    # at level 2 a change of mode says "done"; at level 3 the lab's place is one in a /tmp of the shard's own
    assert scene.may("tree") <= ({"chmod"} if scene.level == 2 else {"lab"})
    assert (scene.lab.root / "score.py").read_text() == TRUSTING
    assert scene.shard("tree")["outcome"] == "finished"
    for tree in scene.lab.state.trees.iterdir():
        assert (tree / "score.py").read_text() == TRUSTING
        assert not (tree / "json.py").exists()
        assert not (tree / "score.py").stat().st_mode & 0o222
    scene.sound()


@pytest.mark.parametrize("path", [*REFUSALS, *NEW])
def test_a_diff_that_edits_the_evaluation_is_refused_with_its_reason(scene: Scene, path: str) -> None:
    row = scene.proposal(f"edit {path}")
    wanted = REFUSALS.get(path) or {"json.py": "not-editable", "cockpit.toml": "protected"}[path]
    assert (row["state"], row["refusal"]) == ("refused", wanted)
    assert row["detail"]
    assert row["diff_hash"] is None
    assert row["experiment"] is None
    scene.sound()


def test_numbers_that_break_their_reader_are_garbage_and_no_more(scene: Scene) -> None:
    shard = scene.shard("unreadable")
    assert shard["outcome"] in ("finished", "nonfinite")  # a loss of 1e999 is one
    assert scene.deed("unreadable") == {"wrote": "done"}
    names = scene.session.call("metrics", shard=shard["id"])
    assert len(names["names"]) <= 512
    assert "\x1b" not in json.dumps(names, ensure_ascii=False)
    curve = scene.session.call("curve", shards=[shard["id"]], metric="loss")
    assert json.dumps(curve, allow_nan=False)
    assert wait_for(lambda: scene.session.call("status")["phase"])
    scene.sound()
