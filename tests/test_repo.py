"""An approved proposal becomes a branch, is merged into the trunk, and repeating any of it changes nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from engine.edits import Refused
from engine.repo import BranchExists, CheckedOut, Commit, Conflict, EmptyDiff, RefMoved, Repo, RepoError
from engine.types import FileChange, Refusal
from tests.researcher import ME, WHEN, Researcher, start

MESSAGE = "Widen the model\n\nMechanism: capacity\n\nCockpit-Proposal: p0001\n"


@pytest.fixture
def ada(tmp_path: Path) -> Researcher:
    return start(tmp_path / "my lab", tmp_path / "state dir" / "git")


@pytest.fixture
def repo(ada: Researcher) -> Repo:
    return ada.open()


def widen(repo: Repo, parent: str, width: int = 256) -> Commit:
    return repo.commit(parent, {"train.py": f"width = {width}\ndepth = 4\n".encode()}, MESSAGE, WHEN, ME)


# --- what the engine sees


def test_head_trunk_files_and_identity(ada: Researcher, repo: Repo) -> None:
    first = ada.git("rev-parse", "HEAD").strip()
    assert repo.head() == ("main", first)
    assert repo.resolve("main") == repo.resolve("HEAD") == repo.resolve(first[:12]) == first
    assert repo.resolve("nowhere") is repo.resolve("--all") is repo.resolve("") is repo.resolve("a\0b") is None
    assert repo.tree_of(first) == ada.git("rev-parse", "HEAD^{tree}").strip()
    assert {path: entry.mode for path, entry in repo.entries(first).items()} == {
        "lib/model.py": "100644",
        "run.sh": "100755",
        "train.py": "100644",
    }
    assert repo.entries(first)["lib/model.py"].size == 6
    assert repo.read(first, "lib/model.py") == b"x = 1\n"
    assert repo.read(first, "lib") is repo.read(first, "none.py") is repo.read(first, "../x") is None
    assert repo.read(first, "*.py") is repo.read(first, ":(top)train.py") is None
    assert repo.identity() == ME


def test_identity_comes_from_the_global_configuration_or_the_account(
    ada: Researcher, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada.git("config", "--unset", "user.name")
    ada.git("config", "--unset", "user.email")
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Grace <x>\n\temail = grace@example.org\n")
    assert ada.open().identity() == ("Grace x", "grace@example.org")
    (tmp_path / ".gitconfig").unlink()
    name, email = ada.open().identity()
    assert name
    assert "@" in email


# --- branches


def test_a_branch_holds_one_commit_whose_hash_depends_on_its_arguments_alone(ada: Researcher, repo: Repo) -> None:
    trunk = repo.ensure_trunk("HEAD")
    made = widen(repo, trunk)
    repo.create_branch("exp/0001-wide", made.commit)
    assert widen(repo, trunk) == made
    assert widen(ada.open(), trunk) == made
    assert repo.commit(trunk, {"train.py": b"width = 256\ndepth = 4\n"}, MESSAGE, WHEN + 1, ME).commit != made.commit
    shown = ada.git("log", "--format=%an <%ae> %cn %at %ct %ai|%P|%B", "-1", "exp/0001-wide")
    assert (
        shown
        == f"Ada Lovelace <ada@example.org> Ada Lovelace 1700000000 1700000000 2023-11-14 22:13:20 +0000|{trunk}|{MESSAGE}\n"
    )
    assert ada.git("rev-list", "--count", "main..exp/0001-wide").strip() == "1"
    assert repo.branches("exp/") == {"exp/0001-wide": made.commit}
    assert repo.branches("exp/0002") == repo.branches("none/") == {}
    ada.git("fsck", "--strict")


def test_new_changed_and_deleted_files_keep_their_modes(ada: Researcher, repo: Repo) -> None:
    changes = {"run.sh": b"echo\n", "a/b/new file.py": "é\n".encode(), "lib/model.py": None}
    made = repo.commit("HEAD", changes, MESSAGE, WHEN, ME)
    entries = repo.entries(made.commit)
    assert {path: entry.mode for path, entry in entries.items()} == {
        "run.sh": "100755",
        "a/b/new file.py": "100644",
        "train.py": "100644",
    }
    assert repo.check_tree("HEAD", made.commit, lambda path: True) == [
        FileChange("a/b/new file.py", 1, 0, "A"),
        FileChange("lib/model.py", 0, 1, "D"),
        FileChange("run.sh", 1, 1, "M"),
    ]


def test_a_file_may_give_way_to_a_directory(repo: Repo) -> None:
    made = repo.commit("HEAD", {"run.sh": None, "run.sh/inner.py": b"x\n"}, MESSAGE, WHEN, ME)
    assert "run.sh/inner.py" in repo.entries(made.commit)


def test_an_empty_diff_is_refused(repo: Repo) -> None:
    with pytest.raises(EmptyDiff):
        repo.commit("HEAD", {"train.py": b"width = 128\ndepth = 4\n"}, MESSAGE, WHEN, ME)
    with pytest.raises(EmptyDiff):
        repo.commit("HEAD", {}, MESSAGE, WHEN, ME)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../out.py", Refusal.OUTSIDE),
        (".git/hooks/pre-commit", Refusal.OUTSIDE),
        ("train.py/x.py", Refusal.EXISTS),
        ("lib", Refusal.EXISTS),
        ("link.py", Refusal.MODE),
    ],
)
def test_paths_that_cannot_be_written_are_refused(ada: Researcher, repo: Repo, path: str, reason: Refusal) -> None:
    (ada.root / "link.py").symlink_to("/etc/passwd")
    ada.save()
    with pytest.raises(Refused) as caught:
        repo.commit("HEAD", {path: b"x\n"}, MESSAGE, WHEN, ME)
    assert caught.value.reason == reason
    assert repo.read("HEAD", "link.py") is None


def test_messages_and_names_cannot_break_the_commit(ada: Researcher, repo: Repo) -> None:
    made = repo.commit("HEAD", {"x.py": b"1\n"}, "-m\0\n\n--amend é \ud800\n", WHEN, ("<>\n", "a\nb <x>"))
    assert ada.git("show", "-s", "--format=%an|%ae|%s", made.commit) == "unknown|a b x|-m\ufffd\n"


def test_making_a_branch_twice_is_fine_and_elsewhere_is_not(ada: Researcher, repo: Repo) -> None:
    trunk = repo.ensure_trunk("HEAD")
    made, other = widen(repo, trunk), widen(repo, trunk, 512)
    repo.create_branch("exp/0001-wide", made.commit)
    repo.create_branch("exp/0001-wide", made.commit)
    with pytest.raises(BranchExists, match=r"exp/0001-wide"):
        repo.create_branch("exp/0001-wide", other.commit)
    assert repo.resolve("exp/0001-wide") == made.commit
    ada.git("branch", "exp/0002-mine", "main")
    with pytest.raises(BranchExists):
        repo.create_branch("exp/0002-mine", made.commit)


def test_a_branch_that_is_in_the_way_is_named(ada: Researcher, repo: Repo) -> None:
    ada.git("branch", "exp")
    with pytest.raises(RepoError, match=r"git branch -m exp"):
        repo.create_branch("exp/0001-wide", repo.head()[1])


@pytest.mark.parametrize(
    "name", ["", "-x", "a..b", "a.lock", "a//b", "exp/x\n", "a b", "refs/heads/../x", "a/.b", "x" * 300]
)
def test_odd_branch_names_are_refused(repo: Repo, name: str) -> None:
    with pytest.raises(RepoError):
        repo.create_branch(name, repo.head()[1])


# --- the trunk


def test_the_trunk_is_made_once_and_moves_by_compare_and_swap(ada: Researcher, repo: Repo) -> None:
    first = repo.ensure_trunk("HEAD")
    made, other = widen(repo, first), widen(repo, first, 512)
    ada.save("the researcher goes on")
    assert repo.ensure_trunk("HEAD") == repo.trunk() == first
    repo.move("refs/heads/cockpit/trunk", made.commit, first)
    repo.move("cockpit/trunk", made.commit, first)
    with pytest.raises(RefMoved, match=made.commit):
        repo.move("cockpit/trunk", other.commit, first)
    assert repo.trunk() == made.commit
    ada.git("branch", "-D", "cockpit/trunk")
    with pytest.raises(RepoError, match="git branch cockpit/trunk"):
        repo.trunk()


def test_a_branch_that_is_checked_out_anywhere_is_not_moved(ada: Researcher, repo: Repo, tmp_path: Path) -> None:
    first = repo.ensure_trunk("HEAD")
    made = widen(repo, first)
    ada.git("worktree", "add", "--quiet", str(tmp_path / "a linked tree"), "cockpit/trunk")
    with pytest.raises(CheckedOut, match="a linked tree"):
        repo.move("cockpit/trunk", made.commit, first)
    ada.git("worktree", "remove", str(tmp_path / "a linked tree"))
    ada.git("checkout", "--quiet", "cockpit/trunk")
    with pytest.raises(CheckedOut, match="my lab"):
        repo.move("cockpit/trunk", made.commit, first)
    assert repo.trunk() == first
    ada.git("checkout", "--quiet", "main")
    repo.move("cockpit/trunk", made.commit, first)
    assert repo.trunk() == made.commit


def test_a_branch_in_the_middle_of_a_rebase_is_not_moved(ada: Researcher, repo: Repo) -> None:
    first = repo.ensure_trunk("HEAD")
    ada.git("checkout", "--quiet", "cockpit/trunk")
    ada.write("train.py", "width = 1\n")
    mine = ada.save("on the trunk")
    ada.git("checkout", "--quiet", "main")
    ada.write("train.py", "width = 2\n")
    ada.save("on main")
    ada.git("checkout", "--quiet", "cockpit/trunk")
    assert subprocess.run(["git", "rebase", "main"], cwd=ada.root, capture_output=True).returncode != 0
    with pytest.raises(CheckedOut, match="rebase"):
        repo.move("cockpit/trunk", first, mine)


def test_packing_refs_loses_none(ada: Researcher, repo: Repo) -> None:
    trunk = repo.ensure_trunk("HEAD")
    for n in range(5):
        repo.create_branch(f"exp/{n:04}-x", trunk)
    before = ada.git("for-each-ref")
    repo.pack()
    assert ada.git("for-each-ref") == before
    with pytest.raises(BranchExists):
        repo.create_branch("exp/0003-x", widen(repo, trunk).commit)


# --- diff and merge


def test_the_diff_is_plain_and_the_same_whatever_the_lab_configures(ada: Researcher, repo: Repo) -> None:
    made = widen(repo, "HEAD")
    diff = repo.diff("HEAD", made.commit)
    assert diff.endswith("--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@\n-width = 128\n+width = 256\n depth = 4\n")
    ran = ada.root.parent / "ran"
    ada.write(".gitattributes", "*.py diff=evil\n")
    ada.git("config", "diff.evil.textconv", f"touch '{ran}';cat")
    ada.git("config", "diff.evil.command", f"touch '{ran}'")
    ada.git("config", "diff.external", f"touch '{ran}'")
    for name, value in (("noprefix", "true"), ("context", "0"), ("algorithm", "patience"), ("mnemonicPrefix", "true")):
        ada.git("config", f"diff.{name}", value)
    (ada.root / ".git/info/attributes").write_text("*.py diff=evil\n")
    assert repo.diff("HEAD", made.commit) == ada.open().diff("HEAD", made.commit) == diff
    assert not ran.exists()


def test_merging_an_experiment_into_the_trunk_it_grew_from(ada: Researcher, repo: Repo) -> None:
    trunk = repo.ensure_trunk("HEAD")
    made = widen(repo, trunk)
    merged = repo.merge(trunk, made.commit, "Accept 0001\n", WHEN, ME)
    assert isinstance(merged, Commit)
    assert merged.tree == made.tree
    assert ada.git("rev-parse", f"{merged.commit}^1", f"{merged.commit}^2").split() == [trunk, made.commit]
    assert repo.merge(trunk, made.commit, "Accept 0001\n", WHEN, ME) == merged
    assert repo.trunk() == trunk
    assert repo.merge(merged.commit, made.commit, "again", WHEN, ME) == merged


def test_merging_into_a_trunk_that_has_moved(repo: Repo) -> None:
    trunk = repo.ensure_trunk("HEAD")
    made = widen(repo, trunk)
    moved = repo.commit(trunk, {"lib/model.py": b"x = 2\n"}, "other", WHEN, ME)
    merged = repo.merge(moved.commit, made.commit, "Accept 0001\n", WHEN, ME)
    assert isinstance(merged, Commit)
    assert repo.read(merged.commit, "lib/model.py") == b"x = 2\n"
    assert repo.read(merged.commit, "train.py") == b"width = 256\ndepth = 4\n"
    assert repo.merge(moved.commit, made.commit, "Accept 0001\n", WHEN, ME) == merged


def test_a_conflict_names_the_files_and_makes_no_commit(repo: Repo) -> None:
    trunk = repo.ensure_trunk("HEAD")
    one, other = widen(repo, trunk), widen(repo, trunk, 512)
    assert repo.merge(one.commit, other.commit, "m", WHEN, ME) == Conflict(("train.py",))
    gone = repo.commit(trunk, {"train.py": None}, "gone", WHEN, ME)
    assert repo.merge(gone.commit, other.commit, "m", WHEN, ME) == Conflict(("train.py",))


# --- the last gate


def crafted(ada: Researcher, lines: list[str]) -> str:
    """A commit on HEAD whose tree was changed by raw index lines, as no proposal could ask for it."""
    index = {**os.environ, "GIT_INDEX_FILE": str(ada.private.parent / "crafted")}

    def git(*args: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["git", *args], cwd=ada.root, env=index, input=stdin, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("read-tree", "HEAD")
    git("update-index", "--index-info", stdin="".join(line + "\n" for line in lines))
    return git("commit-tree", git("write-tree"), "-p", "HEAD", "-m", "crafted")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("120000 {blob}\tlink.py", Refusal.MODE),
        ("120000 {blob}\ttrain.py", Refusal.MODE),
        ("160000 {commit}\tsub", Refusal.MODE),
        ("100755 {blob}\tnew.py", Refusal.MODE),
        ("100755 {train}\ttrain.py", Refusal.MODE),
        ("100644 {blob}\tprotected.py", Refusal.NOT_EDITABLE),
        ("100644 {blob}\t.gitattributes", Refusal.PROTECTED),
        ("100644 {blob}\tlib/.gitmodules", Refusal.PROTECTED),
        ("100644 {binary}\tnew.py", Refusal.BINARY),
        ("100644 {nul}\tnew.py", Refusal.BINARY),
        ("100644 {large}\tnew.py", Refusal.TOO_LARGE),
    ],
)
def test_the_tree_is_judged_not_the_text_of_a_diff(ada: Researcher, repo: Repo, line: str, reason: Refusal) -> None:
    def blob(data: bytes) -> str:
        return ada.git("hash-object", "-w", "--stdin", stdin=data).strip()

    known = {
        "blob": blob(b"x\n"),
        "binary": blob(b"\xff\xfe"),
        "nul": blob(b"a\0b"),
        "large": blob(b"#" * 2_000_000),
        "commit": repo.head()[1],
        "train": repo.entries("HEAD")["train.py"].oid,
    }
    child = crafted(ada, [line.format(**known)])
    with pytest.raises(Refused) as caught:
        repo.check_tree("HEAD", child, lambda path: path != "protected.py")
    assert caught.value.reason == reason


def test_a_link_in_place_of_a_deleted_file_and_too_many_files_are_refused(ada: Researcher, repo: Repo) -> None:
    (ada.root / "link.py").symlink_to("train.py")
    ada.save()
    child = crafted(ada, [f"0 {'0' * 40}\tlink.py"])
    with pytest.raises(Refused) as caught:
        repo.check_tree("HEAD", child, lambda path: True)
    assert caught.value.reason == Refusal.MODE
    many = repo.commit("HEAD", {f"f{n}.py": b"x\n" for n in range(21)}, "many", WHEN, ME)
    with pytest.raises(Refused) as caught:
        repo.check_tree("HEAD", many.commit, lambda path: True)
    assert caught.value.reason == Refusal.TOO_LARGE


# --- where a lab can be


def test_what_is_no_lab_is_said_with_what_to_do(
    tmp_path: Path, ada: Researcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    with pytest.raises(RepoError, match="git init"):
        Repo(plain, tmp_path / "private")
    with pytest.raises(RepoError, match="top of its git work tree"):
        Repo(ada.root / "lib", tmp_path / "private")
    subprocess.run(["git", "init", "--quiet", str(plain)], check=True)
    with pytest.raises(RepoError, match="commit once"):
        Repo(plain, tmp_path / "private")
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "bare")], check=True)
    with pytest.raises(RepoError, match="not a git work tree"):
        Repo(tmp_path / "bare", tmp_path / "private")
    (tmp_path / "bin").mkdir()
    old = tmp_path / "bin" / "git"
    old.write_text("#!/bin/sh\necho git version 2.25.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + os.environ["PATH"])
    with pytest.raises(RepoError, match=r"git 2\.25\.1 is too old"):
        Repo(ada.root, tmp_path / "private")
    monkeypatch.setenv("PATH", str(plain))
    with pytest.raises(RepoError, match="not on the PATH"):
        Repo(ada.root, tmp_path / "private")


def test_a_lab_whose_objects_are_named_by_sha256(tmp_path: Path) -> None:
    root = tmp_path / "new"
    subprocess.run(["git", "init", "--quiet", "--object-format=sha256", str(root)], check=True)
    ada = Researcher(root, tmp_path / "state")
    ada.write("train.py", "width = 128\ndepth = 4\n")
    ada.git("-c", "user.name=A", "-c", "user.email=a@b", "add", ".")
    ada.git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "--message=start")
    repo = ada.open()
    made = widen(repo, repo.ensure_trunk("HEAD"))
    repo.create_branch("exp/0001-wide", made.commit)
    assert len(made.commit) == 64
    assert repo.verify(repo.export(made.commit, tmp_path / "trees"), made.commit) == []


def test_a_lock_that_a_killed_git_left_behind_is_named(ada: Researcher, repo: Repo) -> None:
    lock = ada.write(".git/refs/heads/exp/0001-wide.lock", "")
    with pytest.raises(RepoError, match=r"0001-wide\.lock.*File exists"):
        repo.create_branch("exp/0001-wide", repo.head()[1])
    lock.unlink()
    repo.create_branch("exp/0001-wide", repo.head()[1])


def test_variables_of_git_in_the_engine_s_environment_do_not_lead_it_astray(
    ada: Researcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = start(tmp_path / "other", tmp_path / "other state")
    for name, value in {
        "GIT_DIR": str(other.root / ".git"),
        "GIT_WORK_TREE": str(other.root),
        "GIT_INDEX_FILE": str(other.root / ".git/index"),
        "GIT_OBJECT_DIRECTORY": str(other.root / ".git/objects"),
        "GIT_NAMESPACE": "elsewhere",
        "GIT_CONFIG_PARAMETERS": "'core.hooksPath'='/tmp'",
    }.items():
        monkeypatch.setenv(name, value)
    repo = ada.open()
    repo.create_branch("exp/0001-wide", widen(repo, repo.ensure_trunk("HEAD")).commit)
    monkeypatch.undo()
    assert "exp/0001-wide" in ada.git("branch", "--list", "exp/*")
    assert other.git("branch", "--list").strip() == "* main"
