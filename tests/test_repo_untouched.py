"""Whatever the researcher has open, changed, stashed or configured: the engine's work leaves it alone and runs none of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from engine.repo import CheckedOut, Commit, Repo
from tests.researcher import ME, WHEN, Researcher, start


@pytest.fixture
def ada(tmp_path: Path) -> Researcher:
    return start(tmp_path / "my lab", tmp_path / "state" / "git")


def whole_round(ada: Researcher, repo: Repo) -> str:
    """Trunk, experiment, check, export, merge, move, pack: all that the engine ever does. Gives the trunk's commit."""
    trunk = repo.ensure_trunk("HEAD")
    made = repo.commit(trunk, {"train.py": b"width = 256\ndepth = 4\n", "new.py": b"x\n"}, "Widen\n", WHEN, ME)
    repo.check_tree(trunk, made.commit, lambda path: True)
    repo.create_branch("exp/0001-wide", made.commit)
    other = repo.commit(trunk, {"lib/model.py": b"x = 2\n"}, "Other\n", WHEN, ME)
    repo.create_branch("exp/0002-other", other.commit)
    repo.diff(trunk, made.commit)
    tree = repo.export(made.commit, ada.private.parent / "trees")
    assert repo.verify(tree, made.commit) == []
    for each in (made, other):
        now = repo.trunk()
        merged = repo.merge(now, each.commit, "Accept\n", WHEN, ME)
        assert isinstance(merged, Commit)
        repo.move("cockpit/trunk", merged.commit, now)
    repo.pack()
    repo.close()
    assert set(repo.branches("exp/")) == {"exp/0001-wide", "exp/0002-other"}
    return repo.trunk()


def lie_about(ada: Researcher) -> None:
    """A stash, staged, unstaged, untracked and deleted files, and an experiment branch from another life."""
    ada.write("train.py", "width = 1\n")
    ada.git("stash", "--quiet")
    ada.write("train.py", "width = 64\ndepth = 4\n")
    ada.write("staged.py", "s = 1\n")
    ada.git("add", "staged.py")
    ada.write("lib/untracked.py", "u = 1\n")
    (ada.root / "run.sh").unlink()
    ada.git("branch", "exp/0000-before")


def test_a_dirty_work_tree_stays_as_it_is(ada: Researcher) -> None:
    lie_about(ada)
    ada.git("branch", "-D", "exp/0000-before")
    before = ada.state()
    trunk = whole_round(ada, ada.open())
    assert ada.state() == before
    assert ada.git("show", f"{trunk}:train.py") == "width = 256\ndepth = 4\n"
    assert ada.git("stash", "list").count("\n") == 1
    ada.git("fsck", "--strict")


def test_a_detached_head_and_an_experiment_branch_that_was_there(ada: Researcher) -> None:
    lie_about(ada)
    ada.git("checkout", "--quiet", "--detach")
    before = ada.state()
    repo = ada.open()
    assert repo.head() == (None, ada.git("rev-parse", "HEAD").strip())
    assert set(repo.branches("exp/")) == {"exp/0000-before"}
    repo.ensure_trunk("HEAD")
    made = repo.commit("HEAD", {"train.py": b"width = 256\n"}, "Widen\n", WHEN, ME)
    repo.create_branch("exp/0001-wide", made.commit)
    assert ada.state() == before


def test_a_linked_work_tree_is_a_lab_like_any_other(ada: Researcher, tmp_path: Path) -> None:
    ada.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "linked tree"))
    linked = Researcher(tmp_path / "linked tree", tmp_path / "linked state")
    linked.write("train.py", "width = 7\n")
    before, main = linked.state(), ada.state()
    repo = linked.open()
    assert repo.head()[0] == "side"
    whole_round(linked, repo)
    assert (linked.state(), ada.state()) == (before, main)
    assert "exp/0001-wide" in ada.git("branch", "--list", "exp/*")


def test_a_state_directory_inside_the_lab_shows_in_no_status(tmp_path: Path) -> None:
    ada = start(tmp_path / "lab", tmp_path / "lab" / ".cockpit" / "git")
    (ada.root / ".git/info/exclude").write_text("/.cockpit/\n")
    status = ada.git("status", "--porcelain=v2", "-z")
    whole_round(ada, ada.open())
    assert ada.git("status", "--porcelain=v2", "-z") == status == ""
    assert [path.name for path in ada.private.iterdir()] == ["own.git"]


HOOKS = (
    "pre-commit", "post-checkout", "reference-transaction", "post-commit", "pre-merge-commit", "post-index-change",
    "prepare-commit-msg", "commit-msg", "post-merge", "update", "pre-auto-gc", "fsmonitor-watchman",
)  # fmt: skip


def test_no_hook_of_the_lab_runs(ada: Researcher, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for directory in (ada.root / ".git/hooks", tmp_path / "shared hooks"):
        directory.mkdir(exist_ok=True)
        for name in HOOKS:
            hook = directory / name
            hook.write_text(f"#!/bin/sh\necho {name} >> '{ran}'\n")
            hook.chmod(0o755)
    ada.git("branch", "proof")
    assert "reference-transaction" in ran.read_text(), "the trap itself must work"
    ran.unlink()
    whole_round(ada, ada.open())
    assert not ran.exists()
    ada.git("config", "core.hooksPath", str(tmp_path / "shared hooks"))
    ada.open().create_branch("exp/0003-more", ada.git("rev-parse", "main").strip())
    assert not ran.exists()


def test_no_filter_driver_monitor_or_signer_of_the_lab_runs(ada: Researcher, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    trap = tmp_path / "trap.sh"
    trap.write_text(f'#!/bin/sh\necho "$0 $*" >> "{ran}"\ncat\n')
    trap.chmod(0o755)
    attributes = "* filter=trap diff=trap merge=trap\n"
    ada.write(".gitattributes", attributes)
    (ada.root / ".git/info/attributes").write_text(attributes)
    ada.save("attributes")
    for name in (
        "filter.trap.clean", "filter.trap.smudge", "filter.trap.process", "diff.trap.command", "diff.trap.textconv",
        "diff.external", "merge.trap.driver", "core.fsmonitor", "gpg.program", "core.editor", "core.pager", "core.sshCommand",
        "core.alternateRefsCommand", "credential.helper",
    ):  # fmt: skip
        ada.git("config", name, str(trap))
    ada.git("config", "commit.gpgSign", "true")
    subprocess.run(["git", "status"], cwd=ada.root, capture_output=True)
    assert ran.exists(), "the trap itself must work"
    ran.unlink()
    repo = ada.open()
    whole_round(ada, repo)
    trunk = repo.trunk()
    one, other = (repo.commit(trunk, {"train.py": f"width = {n}\n".encode()}, "x", WHEN, ME) for n in (1, 2))
    repo.merge(one.commit, other.commit, "conflicts", WHEN, ME)
    assert not ran.exists()


def test_settings_that_change_how_git_writes_do_not_change_the_commit(ada: Researcher, tmp_path: Path) -> None:
    def made() -> Commit:
        return ada.open().commit("HEAD", {"train.py": "größe = 1\r\n".encode(), "lib/b.py": b"1"}, "Größe\n", WHEN, ME)

    plain = made()
    for name, value in {
        "core.autocrlf": "input", "core.eol": "crlf", "i18n.commitEncoding": "ISO-8859-1", "commit.gpgSign": "true",
        "core.splitIndex": "true", "index.sparse": "true", "core.sparseCheckout": "true", "core.ignoreCase": "true",
        "core.fileMode": "false", "core.logAllRefUpdates": "always", "index.version": "4", "feature.manyFiles": "true",
    }.items():  # fmt: skip
        ada.git("config", name, value)
    (ada.root / ".git/info").mkdir(exist_ok=True)
    (ada.root / ".git/info/sparse-checkout").write_text("/lib/\n")
    assert made() == plain
    ada.open().create_branch("exp/0001-x", plain.commit)
    assert not (ada.root / ".git/logs/refs/heads/exp").exists()
    assert not list((ada.root / ".git").glob("sharedindex*"))


def test_replace_refs_cannot_swap_what_a_commit_means(ada: Researcher) -> None:
    repo = ada.open()
    trunk = repo.ensure_trunk("HEAD")
    evil = repo.commit(trunk, {"train.py": b"evil = 1\n"}, "x", WHEN, ME)
    ada.git("replace", trunk, evil.commit)
    assert ada.git("show", f"{trunk}:train.py") == "evil = 1\n", "the trap itself must work"
    assert ada.open().read(trunk, "train.py") == b"width = 128\ndepth = 4\n"


def test_secrets_of_the_engine_s_environment_do_not_reach_git(
    ada: Researcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    fake.write_text(f"#!/bin/sh\nenv >> '{seen}'\nexec {real} \"$@\"\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    whole_round(ada, ada.open())
    assert "GIT_CONFIG_NOSYSTEM=1" in seen.read_text()
    assert "sk-secret" not in seen.read_text()


def test_the_researcher_s_own_refusal_stands_even_on_a_new_worktree(ada: Researcher, tmp_path: Path) -> None:
    repo = ada.open()
    trunk = repo.ensure_trunk("HEAD")
    made = repo.commit(trunk, {"train.py": b"x = 1\n"}, "x", WHEN, ME)
    ada.git("worktree", "add", "--quiet", str(tmp_path / "view"), "cockpit/trunk")
    view = Researcher(tmp_path / "view", tmp_path / "unused")
    before = view.state()
    with pytest.raises(CheckedOut):
        repo.move("cockpit/trunk", made.commit, trunk)
    assert view.state() == before
