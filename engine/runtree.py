"""Run trees: the read-only files of one tree hash in which shards run, written from git's blobs and never by a checkout.

No filter, attribute or hook of the lab has a say in what they hold: they are the blobs, byte for byte, with two exceptions. A
Git LFS pointer is replaced by the object it names, when its SHA-256 is right; a symbolic link that would lead out of the tree
is left out. A submodule is an empty directory.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.files import remove_tree
from engine.plumbing import Entry, Plumbing, RepoError, raw_path, text

_POINTER = re.compile(
    rb"\Aversion https://git-lfs\.github\.com/spec/v1\n(ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize (\d+)\n\Z"
)
_POINTER_SIZES = range(100, 1024)  # bytes; what the LFS specification allows
_LINK_STEPS = 40  # as the kernel does
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """What a run tree holds. `lfs` gives the SHA-256 of those files that are LFS pointers in git."""

    files: Mapping[str, Entry]
    lfs: Mapping[str, str]
    links: Mapping[str, str]
    left_out: tuple[str, ...]  # links that lead out of the tree
    submodules: tuple[str, ...]

    def directories(self) -> set[str]:
        """Every directory of the tree but the top."""
        found = set(self.submodules)
        for path in (*self.files, *self.links, *self.submodules):
            parts = path.split("/")
            found.update("/".join(parts[:n]) for n in range(1, len(parts)))
        return found


def contents(git: Plumbing, tree: str) -> Contents:
    """Read from git what a run tree of `tree` must hold. Raises RepoError for names that would lead out of it."""
    entries = git.entries(tree)
    for path in entries:
        _check_name(path)
    files = {path: entry for path, entry in entries.items() if entry.mode in ("100644", "100755", "100664")}
    link_entries = {path: entry for path, entry in entries.items() if entry.mode == "120000"}
    targets = dict(zip(link_entries, git.blobs([entry.oid for entry in link_entries.values()]), strict=True))
    links = {path: text(target) for path, target in targets.items()}
    kept = {path: target for path, target in links.items() if stays_inside(path, links)}
    small = [path for path, entry in files.items() if entry.size in _POINTER_SIZES]
    lfs = {}
    for path, data in zip(small, git.blobs([files[path].oid for path in small]), strict=True):
        digest = _pointer(path, data)
        if digest is not None:
            lfs[path] = digest
    modules = tuple(path for path, entry in entries.items() if entry.type == "commit")
    return Contents(files, lfs, kept, tuple(sorted(links.keys() - kept.keys())), modules)


def export(git: Plumbing, tree: str, trees: Path, lfs_store: Path) -> Path:
    """Write the run tree of `tree` to `trees/<tree>`, or take the one that is there, when it is whole.

    A damaged one is set aside as `damaged-<tree>-<n>`: it is evidence, and shards may be running in it. Raises RepoError.
    """
    target = trees / tree
    expected = contents(git, tree)
    if target.is_dir() and not target.is_symlink():
        if not differences(git, target, expected):
            return target
        _set_aside(target)
    elif os.path.lexists(target):
        _set_aside(target)
    trees.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in trees.glob("making-*"):
        remove_tree(left)
    making = Path(tempfile.mkdtemp(prefix="making-", dir=trees))
    try:
        _write(git, making, expected, lfs_store)
        os.rename(making, target)
    except BaseException:
        remove_tree(making)
        raise
    return target


def differences(git: Plumbing, root: Path, expected: Contents) -> list[str]:
    """How the files below `root` differ from what they must be, by content: `changed`, `missing` or `extra` and a path."""
    top = os.fsencode(root)
    directories = expected.directories()
    present: set[str] = set()
    wrong: list[str] = []
    waiting = [""]
    if not root.is_dir() or root.is_symlink():
        return [f"missing {root.name}/"]
    while waiting:
        below = waiting.pop()
        with os.scandir(os.path.join(top, raw_path(below)) if below else top) as found:
            for item in found:
                path = f"{below}/{text(item.name)}" if below else text(item.name)
                present.add(path)
                if item.is_dir(follow_symlinks=False):
                    if path not in directories:
                        wrong.append(f"extra {path}/")
                    else:
                        waiting.append(path)
                elif path not in expected.files and path not in expected.links:
                    wrong.append(f"extra {path}")
                elif not _is_right(git.layout.hash, item.path, path, expected):
                    wrong.append(f"changed {path}")
    wanted = directories | expected.files.keys() | expected.links.keys()
    return sorted([*wrong, *(f"missing {path}" for path in wanted - present)])


def stays_inside(path: str, links: Mapping[str, str]) -> bool:
    """Whether the link at `path` leads, through whatever other links, to a place inside the tree."""
    here = path.split("/")[:-1]
    waiting = [path.split("/")[-1]]
    steps = 0
    while waiting:
        part = waiting.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                return False
            here.pop()
            continue
        target = links.get("/".join([*here, part]))
        if target is None:
            here.append(part)
            continue
        steps += 1
        if steps > _LINK_STEPS or target.startswith("/") or not target:
            return False
        waiting[:0] = target.split("/")
    return True


def _write(git: Plumbing, root: Path, expected: Contents, lfs_store: Path) -> None:
    top = os.fsencode(root)
    directories = sorted(expected.directories())
    for path in directories:
        os.mkdir(os.path.join(top, raw_path(path)), 0o700)
    try:
        plain = [path for path in expected.files if path not in expected.lfs]
        for path, data in zip(plain, git.blobs([expected.files[path].oid for path in plain]), strict=True):
            with _create(top, path, expected.files[path]) as file:
                file.write(data)
        for path, digest in expected.lfs.items():
            _write_lfs(top, path, expected.files[path], digest, lfs_store)
        for path, target in expected.links.items():
            os.symlink(raw_path(target), os.path.join(top, raw_path(path)))
    except FileExistsError as error:
        raise RepoError(
            f"two files of the commit have one name here, such as names that differ in case: {text(error.filename)!r}"
        ) from None
    for path in reversed(directories):
        os.chmod(os.path.join(top, raw_path(path)), 0o555)
    os.chmod(top, 0o555)


def _create(top: bytes, path: str, entry: Entry) -> BinaryIO:
    """Open a new file for writing; its mode is final from the start."""
    mode = 0o555 if entry.mode == "100755" else 0o444
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(os.path.join(top, raw_path(path)), flags, mode)
    os.fchmod(descriptor, mode)  # whatever the umask is
    return open(descriptor, "wb")


def _write_lfs(top: bytes, path: str, entry: Entry, digest: str, store: Path) -> None:
    source = store / digest[:2] / digest[2:4] / digest
    if not source.is_file():
        raise RepoError(f"{path} is a Git LFS pointer and its object is not here: run `git lfs pull` in the lab")
    seen = hashlib.sha256()
    with open(source, "rb") as stored, _create(top, path, entry) as file:
        while chunk := stored.read(_CHUNK):
            seen.update(chunk)
            file.write(chunk)
    if seen.hexdigest() != digest:
        raise RepoError(f"the Git LFS object of {path} is damaged: delete {source} and run `git lfs pull` in the lab")


def _is_right(algorithm: str, place: bytes, path: str, expected: Contents) -> bool:
    info = os.lstat(place)
    if path in expected.links:
        return stat.S_ISLNK(info.st_mode) and os.readlink(place) == raw_path(expected.links[path])
    entry = expected.files[path]
    if not stat.S_ISREG(info.st_mode) or bool(info.st_mode & 0o100) != (entry.mode == "100755"):
        return False
    if path in expected.lfs:
        return _hash("sha256", b"", place) == expected.lfs[path]
    return info.st_size == entry.size and _hash(algorithm, b"blob %d\0" % entry.size, place) == entry.oid


def _hash(algorithm: str, head: bytes, place: bytes) -> str:
    digest = hashlib.new(algorithm, head, usedforsecurity=False)
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _pointer(path: str, data: bytes) -> str | None:
    """The SHA-256 that an LFS pointer names, or None for any other content."""
    match = _POINTER.match(data)
    if match is None:
        return None
    if match[1]:
        raise RepoError(f"{path} is a Git LFS pointer with extensions, which run trees cannot hold")
    return match[2].decode("ascii")


def _check_name(path: str) -> None:
    """Refuse names that git itself would not check out: they lead out of the tree, or into a git directory."""
    for part in path.split("/"):
        visible = "".join(char for char in part if unicodedata.category(char) != "Cf")
        if part in ("", ".", "..") or visible.casefold() == ".git" or "\0" in part:
            raise RepoError(
                f"the commit holds the path {path!r}, which cannot be written safely; take it out of the history"
            )


def _set_aside(target: Path) -> None:
    n = 1
    while os.path.lexists(target.parent / f"damaged-{target.name}-{n}"):
        n += 1
    os.rename(target, target.parent / f"damaged-{target.name}-{n}")
