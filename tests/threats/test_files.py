"""What a shard reads and writes beyond what is its own: held-out data, the ledger, other runs, the lab, your home."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.threats.scene import TRUSTING, Scene, hostile
from tests.tinylab import PREP, TRAIN, TinyLab, rows

READ = """
for name, path in facts["read"].items():
    attempt("read " + name, lambda: open(path, "rb").read())
for name, path in facts["list"].items():
    try:
        found["names in " + name] = " ".join(sorted(os.listdir(path)))
    except OSError as error:
        found["names in " + name] = ""
for name, path in facts["read"].items():
    attempt("link to " + name, lambda: os.link(path, os.path.join(run_dir, "stolen")))
    attempt("symlink to " + name, lambda: os.symlink(path, os.path.join(run_dir, "way to " + name)))
    attempt("read by symlink " + name, lambda: open(os.path.join(run_dir, "way to " + name), "rb").read())
above = "/".join([".."] * 40)
attempt("read from above", lambda: open(os.path.join(run_dir, above, facts["read"]["held"][1:])).read())
attempt("chroot", lambda: os.chroot("/proc/1/root"))
attempt("root of process 1", lambda: open("/proc/1/root" + facts["read"]["held"]).read())
for number in range(3, 64):
    attempt("open descriptor", lambda: os.readlink("/proc/self/fd/%d" % number) if number != fd else None)
    if found["open descriptor"] == "done" and number != fd:
        found["descriptor %d" % number] = os.readlink("/proc/self/fd/%d" % number)
found.pop("open descriptor")
"""

WRITE = """
for name, path in facts["write"].items():
    attempt("append to " + name, lambda: open(path, "ab").write(b"planted"))
    attempt("truncate " + name, lambda: os.truncate(path, 0))
    attempt("unlink " + name, lambda: os.unlink(path))
    attempt("mode of " + name, lambda: os.chmod(path, 0o666))
    attempt("replace " + name, lambda: os.rename(metrics, path))
for name, path in facts["list"].items():
    attempt("plant in " + name, lambda: open(os.path.join(path, "planted"), "w").close())
    attempt("remove " + name, lambda: shutil.rmtree(path))
attempt("device", lambda: os.mknod(os.path.join(run_dir, "disk"), 0o600 | stat.S_IFBLK, os.makedev(254, 0)))
attempt("read the disk", lambda: open(os.path.join(run_dir, "disk"), "rb").read(512))
for name in ("crontab", "profile.d/x.sh"):
    attempt("etc " + name, lambda: open("/etc/" + name, "a").write("planted"))
"""

DEEDS = {"read": hostile("Look at what is held out", READ), "write": hostile("Write where others read", WRITE)}


def facts(lab: TinyLab, level: int) -> dict[str, Any]:
    """What there is to take and to harm; the home is this user's own, if only its name."""
    state = lab.state
    (data,) = (each for each in state.data.iterdir() if each.name != "none")
    (trunk,) = (each for each in state.runs.iterdir() if each.name.startswith("trunk"))
    secret = lab.root.parent / f"{lab.root.name}.secret"
    secret.write_text("private\n")
    files = {
        "held": data / "held" / "text",
        "ledger": state.ledger,
        "token": state.token,
        "engine log": state.engine_log,
        "launcher lock": state.launcher_lock,
        "index": state.history,
        "blob": next(each for each in state.blobs.rglob("*") if each.is_file()),
        "other run": trunk / "model.json",
        "other score": trunk / "score.json",
        "checkout": lab.root / "train.py",
        "git": lab.root / ".git" / "config",
        "outside": secret,
    }
    directories = {
        "held": data / "held",
        "state": state.root,
        "runs": state.runs,
        "trees": state.trees,
        "lab": lab.root,
        "sockets": state.runtime,
    }
    writable = files | {"open": data / "open" / "text", "tree": next(state.trees.iterdir()) / "train.py"}
    return {
        "read": {name: str(path) for name, path in files.items()},
        "list": {name: str(path) for name, path in directories.items()},
        "write": {name: str(path) for name, path in writable.items()},
    }


def test_held_out_data_and_all_that_is_the_engines_stay_unread(scene: Scene) -> None:
    may = {each for each in scene.may("read") if not each.startswith("symlink to")}  # it leads nowhere
    assert may == set(), scene.deed("read")
    assert len(scene.deed("read")) > 40
    # at level 3 it sees the names of the directories that lead to its own, each in an otherwise empty place
    row, own = scene.row("read"), str(scene.lab.root)
    tree = next(each["tree"] for each in rows(scene.session, "experiment").values() if each["id"] == row["experiment"])
    names = {name: text for name, text in scene.deed("read").items() if name.startswith("names in ") and text}
    ways = {"lab": ".cockpit", "state": "data runs trees", "runs": row["id"], "trees": tree}
    assert names.items() <= {f"names in {name}": text for name, text in ways.items()}.items()
    leaked = {name: path for name, path in scene.deed("read").items() if name.startswith("descriptor") and own in path}
    assert leaked == {}
    assert scene.shard("read")["outcome"] == "finished"
    assert b"held out" not in _all_bytes(scene.run_dir("read"))
    scene.sound()


def _all_bytes(place: Path) -> bytes:
    return b"".join(each.read_bytes() for each in place.rglob("*") if each.is_file() and not each.is_symlink())


def test_nothing_but_its_own_directory_is_changed(scene: Scene) -> None:
    # at level 2 a change of mode says "done"; at level 3 a shard may fill the empty places of a /tmp of its own
    assert len(scene.deed("write")) > 60
    if scene.level == 2:
        assert {each for each in scene.may("write") if not each.startswith("mode of")} == set()
    lab, told = scene.lab, scene.told
    assert {each.name for each in lab.root.iterdir() if each.name not in (".gitattributes", "mix")} == {
        *(".cockpit", ".git", "cockpit.toml", "prep.py", "proposals", "score.py", "train.py")
    }
    assert (lab.root / "train.py").read_text() == TRAIN
    assert (lab.root / "score.py").read_text() == TRUSTING
    assert (lab.root / "prep.py").read_text() == PREP
    assert Path(told["read"]["held"]).read_text() == "held out"
    assert Path(told["write"]["open"]).read_text() == "data"
    for path in told["list"].values():
        assert not (Path(path) / "planted").exists()
    for name, path in told["write"].items():
        assert b"planted" not in Path(path).read_bytes(), name
        assert Path(path).stat().st_mode & 0o022 == 0, name
    if scene.level == 3 or os.getuid() != 0:
        assert "read the disk" not in scene.may("write")
    assert scene.shard("write")["outcome"] == "finished"
    scene.sound()
