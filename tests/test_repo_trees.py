"""Run trees hold what git holds, byte for byte, and any difference is found before a result counts."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.files import remove_tree
from engine.repo import Repo, RepoError
from engine.runtree import stays_inside
from tests.researcher import ME, WHEN, Researcher, start


@pytest.fixture
def ada(tmp_path: Path) -> Researcher:
    return start(tmp_path / "my lab", tmp_path / "state" / "git")


@pytest.fixture
def repo(ada: Researcher) -> Repo:
    return ada.open()


def listing(root: Path) -> dict[str, bytes | str | None]:
    """Contents of files, targets of links and None for directories, by path."""
    return {
        str(path.relative_to(root)): os.readlink(path)
        if path.is_symlink()
        else None
        if path.is_dir()
        else path.read_bytes()
        for path in root.rglob("*")
    }


def test_a_run_tree_is_read_only_named_by_its_hash_and_made_once(ada: Researcher, repo: Repo, tmp_path: Path) -> None:
    tree = repo.export("HEAD", tmp_path / "trees")
    assert tree == tmp_path / "trees" / repo.tree_of(repo.head()[1])
    assert listing(tree) == {
        "lib": None,
        "lib/model.py": b"x = 1\n",
        "run.sh": b"python train.py\n",
        "train.py": b"width = 128\ndepth = 4\n",
    }
    modes = {path: stat.S_IMODE((tree / path).stat().st_mode) for path in ("", "lib", "train.py", "run.sh")}
    assert modes == {"": 0o555, "lib": 0o555, "train.py": 0o444, "run.sh": 0o555}
    inode = tree.stat().st_ino
    assert repo.export("HEAD", tmp_path / "trees") == tree
    same_tree = repo.commit(repo.commit("HEAD", {"x.py": b"1"}, "a", WHEN, ME).commit, {"x.py": None}, "b", WHEN, ME)
    assert repo.export(same_tree.commit, tmp_path / "trees") == tree
    assert tree.stat().st_ino == inode
    assert [path.name for path in (tmp_path / "trees").iterdir()] == [tree.name]
    assert repo.verify(tree, "HEAD") == []


def tamper(tree: Path, path: str, data: bytes) -> None:
    """Write into a run tree as a shard that is root, or owns the files, could; times and size look as before."""
    target = tree / path
    for each in (tree, target.parent):
        each.chmod(0o755)
    info = target.stat() if target.exists() else None
    if info:
        target.chmod(0o644)
    target.write_bytes(data)
    if info:
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
        target.chmod(stat.S_IMODE(info.st_mode))


def test_every_difference_is_found_whatever_the_times_say(repo: Repo, tmp_path: Path) -> None:
    tree = repo.export("HEAD", tmp_path / "trees")
    tamper(tree, "train.py", b"width = 999\ndepth = 4\n")
    assert repo.verify(tree, "HEAD") == ["changed train.py"]
    tamper(tree, "train.py", b"width = 128\ndepth = 4\n")
    assert repo.verify(tree, "HEAD") == []
    (tree / "lib" / "__pycache__").mkdir()
    tamper(tree, "lib/__pycache__/model.pyc", b"")
    tamper(tree, "torch.py", b"")
    assert repo.verify(tree, "HEAD") == ["extra lib/__pycache__/", "extra torch.py"]
    (tree / "train.py").unlink()
    (tree / "train.py").symlink_to("torch.py")
    (tree / "run.sh").unlink()
    (tree / "lib/model.py").unlink()
    os.mkfifo(tree / "lib/model.py")
    wrong = repo.verify(tree, "HEAD")
    assert {"changed lib/model.py", "changed train.py", "missing run.sh"} <= set(wrong)
    assert repo.verify(tmp_path / "nowhere", "HEAD") == ["missing nowhere/"]


def test_a_lost_executable_bit_is_a_difference(repo: Repo, tmp_path: Path) -> None:
    tree = repo.export("HEAD", tmp_path / "trees")
    (tree / "run.sh").chmod(0o444)
    assert repo.verify(tree, "HEAD") == ["changed run.sh"]


def test_a_damaged_run_tree_is_set_aside_as_evidence_and_made_again(repo: Repo, tmp_path: Path) -> None:
    tree = repo.export("HEAD", tmp_path / "trees")
    tamper(tree, "train.py", b"forged = 1\n")
    (tmp_path / "trees" / "making-left-behind").mkdir()
    assert repo.export("HEAD", tmp_path / "trees") == tree
    assert repo.verify(tree, "HEAD") == []
    names = sorted(path.name for path in (tmp_path / "trees").iterdir())
    assert names == [tree.name, f"damaged-{tree.name}-1"] or names == [f"damaged-{tree.name}-1", tree.name]
    assert (tmp_path / "trees" / f"damaged-{tree.name}-1" / "train.py").read_bytes() == b"forged = 1\n"
    remove_tree(tmp_path / "trees")
    assert not (tmp_path / "trees").exists()


def test_filters_of_the_lab_do_not_shape_what_runs(ada: Researcher, repo: Repo, tmp_path: Path) -> None:
    ada.write(".gitattributes", "*.py filter=shout text eol=crlf ident\n* export-ignore export-subst\n")
    ada.git("config", "filter.shout.smudge", "tr a-z A-Z")
    ada.write("crlf.txt", b"a\r\nb $Id$ $Format:%H$\n")
    ada.save()
    tree = repo.export("HEAD", tmp_path / "trees")
    assert (tree / "train.py").read_bytes() == b"width = 128\ndepth = 4\n"
    assert (tree / "crlf.txt").read_bytes() == b"a\r\nb $Id$ $Format:%H$\n"


def test_links_inside_the_tree_stay_and_links_out_of_it_are_left_out(
    ada: Researcher, repo: Repo, tmp_path: Path
) -> None:
    links = {
        "lib/up.py": "../train.py", "here": ".", "dangling": "lib/none.py", "dir": "lib", "deep": "dir/model.py",
        "out": "../outside", "absolute": "/etc/passwd", "lib/out": "../../x", "via": "here/../x",
        "chain": "out", "loop": "loop",
    }  # fmt: skip
    for path, target in links.items():
        (ada.root / path).symlink_to(target)
    ada.save()
    tree = repo.export("HEAD", tmp_path / "trees")
    assert repo.left_out("HEAD") == ("absolute", "chain", "lib/out", "loop", "out", "via")
    kept = {path for path, content in listing(tree).items() if isinstance(content, str)}
    assert kept == {"lib/up.py", "here", "dangling", "dir", "deep"}
    assert repo.verify(tree, "HEAD") == []
    tree.chmod(0o755)
    (tree / "dangling").unlink()
    (tree / "dangling").symlink_to("/etc/passwd")
    assert repo.verify(tree, "HEAD") == ["changed dangling"]


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a"]),
        st.lists(st.sampled_from(["..", ".", "a", "b", "d", "e", "x"]), min_size=1, max_size=5).map("/".join),
        max_size=5,
    )
)
def test_no_kept_link_resolves_outside(tmp_path_factory: pytest.TempPathFactory, links: dict[str, str]) -> None:
    top = tmp_path_factory.mktemp("links") / "outside" / "top"
    (top / "d/e").mkdir(parents=True)
    for path, target in links.items():
        if stays_inside(path, links):
            os.symlink(target, top / path)
    for path in links:
        resolved = os.path.realpath(top / path)
        assert resolved == str(top) or resolved.startswith(f"{top}/")


def test_a_submodule_is_an_empty_directory(ada: Researcher, repo: Repo, tmp_path: Path) -> None:
    other = start(tmp_path / "other", tmp_path / "other state")
    subprocess.run(
        ["git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other.root), "vendor/other"],
        cwd=ada.root,
        check=True,
        capture_output=True,
    )
    ada.save()
    before = ada.state()
    made = repo.commit("HEAD", {"train.py": b"width = 1\n"}, "x", WHEN, ME)
    repo.create_branch("exp/0001-x", made.commit)
    tree = repo.export(made.commit, tmp_path / "trees")
    assert listing(tree)["vendor/other"] is None
    assert list((tree / "vendor/other").iterdir()) == []
    assert repo.verify(tree, made.commit) == []
    assert repo.entries(made.commit)["vendor/other"].type == "commit"
    assert ada.state() == before


# --- Git LFS


def pointer(data: bytes) -> bytes:
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()


def test_lfs_pointers_become_the_objects_they_name(ada: Researcher, repo: Repo, tmp_path: Path) -> None:
    data = b"\0weights" * 1000
    ada.write("weights.bin", pointer(data))
    ada.save()
    with pytest.raises(RepoError, match="git lfs pull"):
        repo.export("HEAD", tmp_path / "trees")
    assert list((tmp_path / "trees").iterdir()) == []
    oid = hashlib.sha256(data).hexdigest()
    stored = ada.root / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"damaged")
    with pytest.raises(RepoError, match="damaged"):
        repo.export("HEAD", tmp_path / "trees")
    stored.write_bytes(data)
    tree = repo.export("HEAD", tmp_path / "trees")
    assert (tree / "weights.bin").read_bytes() == data
    assert repo.verify(tree, "HEAD") == []
    tamper(tree, "weights.bin", pointer(data))
    assert repo.verify(tree, "HEAD") == ["changed weights.bin"]


def test_lfs_objects_may_lie_elsewhere(ada: Researcher, repo: Repo, tmp_path: Path) -> None:
    data = b"elsewhere"
    oid = hashlib.sha256(data).hexdigest()
    stored = tmp_path / "shared lfs/objects" / oid[:2] / oid[2:4] / oid
    stored.parent.mkdir(parents=True)
    stored.write_bytes(data)
    ada.git("config", "lfs.storage", str(tmp_path / "shared lfs"))
    ada.write("weights.bin", pointer(data))
    ada.save()
    assert (repo.export("HEAD", tmp_path / "trees") / "weights.bin").read_bytes() == data


# --- trees that nobody checks out


def raw_tree(ada: Researcher, entries: list[tuple[str, bytes, str]]) -> str:
    """A commit of a tree written byte by byte, as a hostile remote could send one."""
    body = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
    tree = ada.git("hash-object", "-t", "tree", "--literally", "-w", "--stdin", stdin=body).strip()
    return ada.git("commit-tree", tree, "-m", "hostile").strip()


def test_names_that_lead_out_of_the_tree_are_refused(ada: Researcher, repo: Repo, tmp_path: Path) -> None:
    blob = ada.git("hash-object", "-w", "--stdin", stdin=b"x\n").strip()
    for name in (b"..", b".git", b".GIT", b".g\xe2\x80\x8cit", b"../up"):
        commit = raw_tree(ada, [("100644", name, blob)])
        with pytest.raises(RepoError, match="cannot be written"):
            repo.export(commit, tmp_path / "trees")
    assert not (tmp_path / "up").exists()


def test_a_link_and_a_directory_of_one_name_do_not_write_through_the_link(
    ada: Researcher, repo: Repo, tmp_path: Path
) -> None:
    blob = ada.git("hash-object", "-w", "--stdin", stdin=b"x\n").strip()
    link = ada.git("hash-object", "-w", "--stdin", stdin=b"b").strip()
    inner = ada.git("mktree", stdin=f"100644 blob {blob}\tfile\n".encode()).strip()
    commit = raw_tree(ada, [("120000", b"a", link), ("40000", b"a", inner)])
    with pytest.raises(RepoError, match="one name"):
        repo.export(commit, tmp_path / "trees")
    assert list((tmp_path / "trees").iterdir()) == []


def test_names_that_are_not_utf_8_survive(ada: Researcher, repo: Repo, tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(ada.root) + b"/caf\xe9 \n.txt"))).write_bytes(b"x\n")
    ada.save()
    tree = repo.export("HEAD", tmp_path / "trees")
    assert b"caf\xe9 \n.txt" in os.listdir(os.fsencode(tree))
    assert repo.verify(tree, "HEAD") == []


def test_a_missing_object_is_said(ada: Researcher, repo: Repo, tmp_path: Path) -> None:
    oid = repo.entries("HEAD")["train.py"].oid
    (ada.root / ".git/objects" / oid[:2] / oid[2:]).unlink()
    for ask in (lambda: repo.export("HEAD", tmp_path / "trees"), lambda: repo.read("HEAD", "train.py")):
        with pytest.raises(RepoError, match=f"{oid} is missing"):
            ask()
    assert not (tmp_path / "trees").exists()
