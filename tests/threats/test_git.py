"""Git tricks: diffs that say one thing and do another, and repositories that lie in wait."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.threats.scene import TRUSTING, Scene, hostile
from tests.tinylab import TinyLab, proposal

BEST_BOX = True

# Left where a person's shell will stand one day; git obeys the configuration of the repository that it stands in.
LEAVE = """
trap = '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = "touch %s/sprung; false"\\n\\tbare = %s\\n'

def repository(place, bare):
    os.makedirs(os.path.join(place, "objects"))
    os.makedirs(os.path.join(place, "refs", "heads"))
    with open(os.path.join(place, "HEAD"), "w") as file:
        file.write("ref: refs/heads/main\\n")
    with open(os.path.join(place, "config"), "w") as file:
        file.write(trap % (run_dir, "false"))
        if bare:
            file.write("\\tworktree = %s\\n" % run_dir)
    os.makedirs(os.path.join(place, "hooks"))
    for hook in ("post-index-change", "reference-transaction", "pre-commit"):
        with open(os.path.join(place, "hooks", hook), "w") as file:
            file.write("#!/bin/sh\\ntouch %s/sprung\\n" % run_dir)
        os.chmod(file.name, 0o755)

attempt("repository", lambda: repository(os.path.join(run_dir, ".git"), False))
attempt("below", lambda: repository(os.path.join(run_dir, "work", "sub", ".git"), False))
attempt("bare", lambda: repository(os.path.join(run_dir, "bare"), True))
attempt("itself bare", lambda: repository(run_dir, True))
os.makedirs(os.path.join(run_dir, "pointer"))
attempt("pointer", lambda: open(os.path.join(run_dir, "pointer", ".git"), "w").write("gitdir: ../work/sub/.git\\n"))
os.makedirs(os.path.join(run_dir, "link"))
attempt("link", lambda: os.symlink("../work/sub/.git", os.path.join(run_dir, "link", ".git")))
"""

DIFF = """\
diff --git a/mix/harmless.txt b/mix/harmless.txt
--- a/score.py
+++ b/score.py
@@ -1 +1 @@
-import json, sys
+import math
diff --git a/mix/harmless.txt b/mix/harmless.txt
old mode 100644
new mode 120000"""

NAMED = proposal("The words name one file, the block another", "import json, sys", "import math", path="score.py")
LYING = {
    "one named, one edited": NAMED.replace("\nscore.py\n", "\ntrain.py is all that changes, see train.py\nscore.py\n"),
    "the second block": f"{proposal('First a harmless file', '', 'a = 1', path='mix/a.toml')}\n"
    f"score.py\n<<<<<<< SEARCH\nimport json, sys\n=======\nimport math\n>>>>>>> REPLACE\n",
    "deleted": proposal("Without a score", "x", "y").split("\ntrain.py\n")[0]
    + "\n\nscore.py\n<<<<<<< DELETE\n>>>>>>> DELETE\n",
}
PATHS = {
    ".gitattributes": "protected",
    "mix/.gitattributes": "protected",
    "mix/.GitAttributes": "protected",
    ".gitmodules": "protected",
    "mix/.git/hooks/post-commit": "outside",
    "mix/.GIT/config": "outside",
    "mix/.gi\u200bt/config": "outside",
    "mix/git~1/config": "outside",
    ".git": "outside",
    "/etc/passwd": "outside",
    "~/.bashrc": "outside",
    "mix/../../outside": "outside",
    "mix\\..\\..\\outside": "outside",
    "Train.py": "not-editable",
    "train.py/x": "exists",
}
THROUGH = {
    "link": "mix/link",
    "below a link": "mix/way/score.py",
    "submodule": "mix/sub",
    "below a submodule": "mix/sub/x",
}

DEEDS = {
    "leave": hostile("Leave a trap", LEAVE),
    "diff in a file": proposal("A file that holds a diff", "", DIFF, path="mix/harmless.txt"),
}
DEEDS |= LYING
DEEDS |= {path: proposal(f"Write {number}", "", "x = 1", path=path) for number, path in enumerate(PATHS)}
DEEDS |= {f"through {name}": proposal(f"Through a {name}", "", "x = 1", path=path) for name, path in THROUGH.items()}


def _sprung(lab: TinyLab) -> Path:
    """What is there once anything of the lab's git configuration was run."""
    return lab.root.parent / f"{lab.root.name}.sprung"


def dress(lab: TinyLab) -> None:
    """Links and a submodule in the trunk, and in the lab's own git all that may run code."""
    mix, sprung = lab.root / "mix", _sprung(lab)
    mix.mkdir()
    (mix / "link").symlink_to("../score.py")
    (mix / "way").symlink_to("..")
    lab.git("add", "-A")
    head = lab.git("rev-parse", "HEAD").strip()
    lab.git("update-index", "--add", "--cacheinfo", f"160000,{head},mix/sub")
    (lab.root / ".gitattributes").write_text("*.py filter=trap diff=trap merge=trap\n")
    lab.git("add", ".gitattributes")
    lab.git("commit", "-q", "-m", "Links, a submodule, attributes")
    for hook in (
        "post-commit",
        "pre-commit",
        "reference-transaction",
        "post-index-change",
        "post-checkout",
        "commit-msg",
    ):
        file = lab.root / ".git" / "hooks" / hook
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\ntouch {sprung}\n")
        file.chmod(0o755)
    for name in ("filter.trap.clean", "filter.trap.smudge", "diff.trap.textconv", "diff.external", "merge.trap.driver"):
        lab.git("config", name, f"touch {sprung}; cat")
    lab.git("config", "core.fsmonitor", f"touch {sprung}; false")


def facts(lab: TinyLab, level: int) -> dict[str, Any]:
    return {}


def test_a_repository_that_a_shard_leaves_behind_is_none_any_more(scene: Scene) -> None:
    assert len(scene.may("leave")) == 6
    assert scene.shard("leave")["outcome"] == "finished"
    run_dir = scene.run_dir("leave")
    places = [run_dir, run_dir / "bare", run_dir / "work" / "sub", run_dir / "pointer", run_dir / "link"]
    for place in places:
        asked = subprocess.run(
            ["git", "rev-parse", "--absolute-git-dir"], cwd=place, capture_output=True, text=True, check=True
        )
        assert Path(asked.stdout.strip()) == scene.lab.root / ".git"  # the lab's own, above
    assert (run_dir / "git.left-1" / "config").exists()  # still there to be looked at
    for place in places:
        subprocess.run(["git", "status", "--short"], cwd=place, capture_output=True, check=True)
    assert not (run_dir / "sprung").exists()
    assert _sprung(scene.lab).exists()  # it was the lab's own traps, see `dress`, that a person's git went into
    scene.sound()


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_leads_elsewhere_is_refused(scene: Scene, path: str) -> None:
    row = scene.proposal(path)
    assert (row["state"], row["refusal"]) == ("refused", PATHS[path])
    assert row["detail"]
    scene.sound()


@pytest.mark.parametrize("name", LYING)
def test_what_counts_is_the_file_that_a_block_edits_not_the_words_around_it(scene: Scene, name: str) -> None:
    row = scene.proposal(name)
    assert (row["state"], row["refusal"]) == ("refused", "protected")
    assert "score.py" in row["detail"]
    scene.sound()


def test_a_diff_inside_a_file_is_text(scene: Scene) -> None:
    row, shown = scene.proposal("diff in a file"), scene.experiment("diff in a file")
    assert [file["path"] for file in row["files"]] == ["mix/harmless.txt"]
    changed = scene.lab.git("diff", "--no-ext-diff", "--no-textconv", "--raw", "cockpit/trunk", shown["commit"])
    assert changed.startswith(":000000 100644 ")
    assert changed.endswith("A\tmix/harmless.txt\n")
    assert scene.lab.git("show", f"{shown['commit']}:score.py") == TRUSTING
    assert scene.shard("diff in a file")["outcome"] == "finished"
    scene.sound()


@pytest.mark.parametrize("name", THROUGH)
def test_nothing_is_written_through_a_link_or_into_a_submodule(scene: Scene, name: str) -> None:
    row = scene.proposal(f"through {name}")
    if row["state"] == "refused":
        assert row["refusal"] in ("mode", "exists")
    else:  # it was approved, and no branch came of it
        found = scene.experiment(f"through {name}")
        assert (found["state"], found["commit"], found["shards"]) == ("failed", None, [])
        assert "no branch could be made" in found["why"]
        assert scene.lab.git("branch", "--list", found["branch"]) == ""
    assert (scene.lab.root / "score.py").read_text() == TRUSTING
    scene.sound()


def test_nothing_that_the_labs_git_names_was_run(scene: Scene) -> None:
    assert scene.lab.git("config", "core.fsmonitor").startswith("touch")
    assert scene.lab.git("branch", "--list", "exp/*").count("\n") >= 3
    assert _sprung(scene.lab).name not in scene.beside
    scene.sound()
