"""A person, a script or another agent submits a diff or a branch: it becomes a proposal like any other, approved by nobody."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit import cli
from engine.edits import apply, parse
from engine.patch import PatchError, patched
from engine.proposers.writing import Header, Unwritable, as_reply
from engine.reply import Refused
from engine.textdiff import unified
from tests.tinylab import TRAIN, TinyLab, decide, rows, wait_for, waiting

Make = Callable[..., TinyLab]
HEADER = Header("It is better")
DIFF = unified({"train.py": TRAIN.encode()}, {"train.py": TRAIN.replace("RATE = 1.0", "RATE = 2.0").encode()})
LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "d = 1\n", "  e\n"]), max_size=25)


# --- blocks out of two versions ----------------------------------------------------------------------------------------


@settings(max_examples=600, deadline=None)
@given(LINES, LINES)
def test_what_is_written_gives_the_very_files_that_were_meant(old: list[str], new: list[str]) -> None:
    before, after = {"f.txt": "".join(old).encode()}, {"f.txt": "".join(new).encode()}
    try:
        text = as_reply(HEADER, before, after)
    except (Unwritable, Refused):
        assert before == after or not b"".join(before.values()).strip(), "there is a line to hold on to"
        return
    assert apply(parse(text), before.get, lambda _: True, lambda _: False) == after


@settings(max_examples=300, deadline=None)
@given(LINES, LINES)
def test_a_drawn_diff_is_read_back_as_the_files_that_it_was_drawn_from(old: list[str], new: list[str]) -> None:
    before: dict[str, bytes | None] = {"f.txt": "".join(old).encode() or None}
    after: dict[str, bytes | None] = {"f.txt": "".join(new).encode() or None}
    if before != after:
        assert patched(unified(before, after), before.get) == (before, after)


def test_files_are_made_deleted_and_renamed() -> None:
    before = {"a.py": b"x = 1\n", "b.py": b"y = 1\n", "c.py": None, "d.py": b"z = 1\n"}
    after = {"a.py": None, "b.py": b"y = 2\n", "c.py": b"x = 1\n", "d.py": b"z = 1\n"}
    made = apply(parse(as_reply(HEADER, before, after)), before.get, lambda _: True, lambda _: False)
    assert made == {"a.py": None, "b.py": b"y = 2\n", "c.py": b"x = 1\n"}
    rename = "diff --git a/a.py b/e.py\nsimilarity index 100%\nrename from a.py\nrename to e.py\n"
    assert patched(rename, before.get)[1] == {"a.py": None, "e.py": b"x = 1\n"}


@pytest.mark.parametrize(
    ("diff", "says"),
    [
        ("hello", "no unified diff"),
        (DIFF.replace("-RATE = 1.0", "-RATE = 9.0"), "does not apply"),
        (DIFF[: DIFF.index("+RATE")], "ends in the middle"),
        (DIFF.replace("train.py", "other.py"), "no such file"),
        ("diff --git a/t b/t\nold mode 100644\nnew mode 100755\n", "mode"),
        ("diff --git a/t b/t\nBinary files a/t and b/t differ\n", "binary"),
        ("--- /dev/null\n+++ b/train.py\n@@ -0,0 +1 @@\n+x\n", "has it already"),
    ],
)
def test_a_diff_that_is_none_or_does_not_fit_says_why(diff: str, says: str) -> None:
    with pytest.raises(PatchError, match=says):
        patched(diff, {"train.py": TRAIN.encode()}.get)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.sampled_from([*DIFF.splitlines(keepends=True), "@@ -1,9 +1,9 @@\n", "\\ No newline\n", "x\n", ""]),
        max_size=25,
    )
)
def test_any_text_is_a_diff_or_refused(parts: list[str]) -> None:
    with suppress(PatchError):
        before, after = patched("".join(parts), {"train.py": TRAIN.encode()}.get)
        assert before.keys() >= after.keys()


# --- from the command line ---------------------------------------------------------------------------------------------


def run(lab: TinyLab, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(["-C", str(lab.root), "propose", *words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_a_diff_file_and_a_branch_become_proposals_that_wait(
    tiny: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lab = tiny()
    lab.git("checkout", "-q", "-b", "mine")
    (lab.root / "train.py").write_text(TRAIN.replace("WIDTH = 8", "WIDTH = 32"))
    (lab.root / "mix").mkdir()
    (lab.root / "mix/new.toml").write_text("a = 1\n")
    lab.git("add", "-A")
    lab.git("commit", "-qm", "A much wider model")
    lab.git("checkout", "-q", "main")
    file = tmp_path / "mine.diff"
    file.write_text(DIFF)
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
        code, _, err = run(lab, capsys, "--diff", str(file))
        assert code == 2
        assert "--hypothesis" in err
        words = (
            "--hypothesis",
            "A rate of 2 is better",
            "--category",
            "optimizer",
            "--effect",
            "0.05",
            "--diff",
            str(file),
        )
        code, out, _ = run(lab, capsys, *words)
        assert code == 0, out
        code, out, _ = run(lab, capsys, "--from-branch", "mine")
        assert code == 0
        one, two = waiting(session)
        assert (one["proposer"], one["category"], one["origin"]) == ("human", "optimizer", "a diff")
        assert (two["hypothesis"], two["origin"]) == ("A much wider model", "branch mine")
        assert [each["path"] for each in two["files"]] == ["mix/new.toml", "train.py"]
        assert rows(session, "experiment").keys() == {"trunk-1"}, "submitting approves nothing"
        assert session.call("diff", proposal=one["id"])["diff"] == DIFF
        decide(session, two)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        code, _, err = run(lab, capsys, *words)
        assert code == 1
        assert "duplicate" in err
    shown = lab.git("show", "exp/0001-a-much-wider-model:mix/new.toml")
    assert shown == "a = 1\n"


def test_what_a_proposal_may_not_touch_a_submitted_diff_may_not_either(
    tiny: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lab = tiny()
    score = (lab.root / "score.py").read_bytes()
    file = tmp_path / "cheat.patch"
    diff = unified({"score.py": score}, {"score.py": score.replace(b"bottom =", b"bottom = 0 *")})
    file.write_text(f"From 1 Mon\nFrom: A <a@b.c>\nSubject: [PATCH] Score more kindly\n\n{diff}")
    with lab.session() as session:
        code, _, err = run(lab, capsys, "--diff", str(file))
        assert code == 1
        assert "protected" in err
        (row,) = rows(session, "proposal").values()
        assert (row["state"], row["refusal"], row["hypothesis"]) == ("refused", "protected", "Score more kindly")
        code, _, err = run(lab, capsys, "--from-branch", "nowhere")
        assert code == 1
        assert "no branch" in err


def test_a_patch_of_git_is_taken_as_it_is(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    lab = tiny()
    lab.git("checkout", "-q", "-b", "side")
    (lab.root / "train.py").write_text(TRAIN.replace("RATE = 1.0", "RATE = 7.0"))
    lab.git("commit", "-qam", "A rate of 7")
    patch = lab.git("format-patch", "-1", "--stdout")
    lab.git("checkout", "-q", "main")
    with lab.session() as session:
        file = lab.root.parent / "p.patch"
        file.write_text(patch)
        assert run(lab, capsys, "--diff", str(file))[0] == 0
        assert waiting(session)[0]["hypothesis"] == "A rate of 7"
        assert subprocess.run(["git", "apply", "--check", str(file)], cwd=lab.root).returncode == 0
