"""The lab's git repository as the engine uses it: branches, commits, merges, run trees, all by plumbing.

The researcher's work tree, index, HEAD and stash are never touched, and no ref that is checked out anywhere is moved. Every
act may be repeated: commits are functions of their arguments, refs move by compare-and-swap. One instance serves one thread
at a time (the engine keeps a thread for it); the instance itself takes no lock.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import runtree, treecheck
from engine.edits import MAX_FILE, Refused, bad_path
from engine.plumbing import DIFF, REGULAR, Entry, Plumbing, RepoError, fallback_identity, text
from engine.types import FileChange, Refusal

__all__ = [
    "BranchExists", "CheckedOut", "Commit", "Conflict", "EmptyDiff", "Entry", "RefMoved", "Repo", "RepoError",
]  # fmt: skip

_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.+-]*(?:/[0-9A-Za-z_][0-9A-Za-z_.+-]*)*")


class EmptyDiff(RepoError):
    """The tree would be the parent's."""


class BranchExists(RepoError):
    """The branch is there already, at another commit."""


class RefMoved(RepoError):
    """The ref is not where it was expected."""


class CheckedOut(RepoError):
    """The branch is checked out, so moving it would pull the files from under somebody."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit and the hash of its tree."""

    commit: str
    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A merge that needs a person: the paths that both sides changed."""

    paths: tuple[str, ...]


class Repo:
    """The repository whose work tree's top is `root`; `private` is a directory of the engine's own, not inside any run.

    Raises RepoError, with what to do, when `root` is not the top of a git work tree, has no commit, or git is too old.
    """

    def __init__(self, root: Path, private: Path, trunk: str = "cockpit/trunk") -> None:
        self._git = Plumbing(root.resolve(), private)
        self._trunk = _branch_ref(trunk)
        self._trees: dict[str, str] = {}
        if self.resolve("HEAD") is None:
            raise RepoError(
                f"{root} has no commit on its present branch: commit once, so that there is a trunk to start from"
            )

    @property
    def common(self) -> Path:
        """The git directory that all work trees of the repository share."""
        return self._git.layout.common

    # --- reading

    def identity(self) -> tuple[str, str]:
        """The researcher's (name, email) as git knows them, their global configuration included; else the account's."""
        known = self._git.config(r"^user\.(name|email)$", researcher=True)
        name, email = fallback_identity()
        return _ident(known.get("user.name", "")) or _ident(name), _ident(known.get("user.email", "")) or _ident(email)

    def head(self) -> tuple[str | None, str]:
        """(branch, or None when HEAD is detached; commit)."""
        status, out = self._git.refs("symbolic-ref", "--quiet", "HEAD", ok=(0, 1))
        branch = text(out).strip().removeprefix("refs/heads/") if status == 0 else None
        return branch, self._commit("HEAD")

    def resolve(self, ref: str) -> str | None:
        """The commit that a ref or any revision names, or None."""
        if not ref or "\0" in ref or "\n" in ref:
            return None
        args = ("rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}")
        status, out = self._git.refs(*args, ok=(0, 1, 128))
        return text(out).strip() or None if status == 0 else None

    def tree_of(self, commit: str) -> str:
        """The tree hash of a commit. Raises RepoError when there is no such commit."""
        oid = self._commit(commit)
        if oid not in self._trees:
            _, out = self._git.objects("rev-parse", "--verify", "--end-of-options", oid + "^{tree}")
            self._trees[oid] = text(out).strip()
        return self._trees[oid]

    def entries(self, commit: str) -> dict[str, Entry]:
        """Every file, link and submodule of a commit by path."""
        return self._git.entries(self._commit(commit))

    def read(self, commit: str, path: str) -> bytes | None:
        """The content of a regular file of a commit; None where there is none (a link or a directory is not a file)."""
        if bad_path(path):
            return None
        entry = self._git.entries(self._commit(commit), [path]).get(path)
        return next(self._git.blobs([entry.oid])) if entry and entry.mode in REGULAR else None

    def branches(self, prefix: str) -> dict[str, str]:
        """Commits of the branches whose names begin with `prefix`, by name."""
        pattern = "refs/heads/" + prefix.rpartition("/")[0]
        _, out = self._git.refs("for-each-ref", "--format=%(objectname) %(refname)", pattern)
        pairs = (line.split(" ", 1) for line in text(out).splitlines())
        named = {ref.removeprefix("refs/heads/"): oid for oid, ref in pairs}
        return {name: oid for name, oid in named.items() if name.startswith(prefix)}

    def diff(self, parent: str, child: str) -> str:
        """Unified diff between two commits: 3 lines of context, `a/` and `b/`, no renames; what is not UTF-8 is replaced."""
        args = ("diff-tree", "-r", "-p", "-U3", "--full-index", "--src-prefix=a/", "--dst-prefix=b/", *DIFF)
        _, out = self._git.objects(*args, self._commit(parent), self._commit(child), "--")
        return out.decode("utf-8", "replace")

    def ahead_behind(self, ours: str, theirs: str) -> tuple[int, int]:
        """How many commits `ours` has that `theirs` lacks, and the other way round."""
        ends = f"{self._commit(ours)}...{self._commit(theirs)}"
        _, out = self._git.refs("rev-list", "--count", "--left-right", "--end-of-options", ends, "--")
        left, right = text(out).split()
        return int(left), int(right)

    def fork_point(self, ours: str, theirs: str) -> tuple[str, str]:
        """Where `theirs` left `ours`, and the subject of its last commit. Raises RepoError when they share no history."""
        ends = (self._commit(ours), self._commit(theirs))
        _, out = self._git.refs("merge-base", "--end-of-options", *ends, ok=(0, 1))
        if not out.strip():
            raise RepoError("that branch has no commit in common with the trunk")
        _, subject = self._git.refs(
            "log", "--max-count=1", "--format=%s", "--no-show-signature", "--end-of-options", ends[1], "--"
        )
        return text(out).split()[0], text(subject).strip()

    def first_parent_log(self, commit: str, limit: int) -> list[str]:
        """Abbreviated hash and subject of the last `limit` commits along first parents: the trunk's lab book."""
        args = ("log", "--first-parent", f"--max-count={limit}", "--format=%h %s", "--no-show-signature")
        _, out = self._git.refs(*args, "--end-of-options", self._commit(commit), "--")
        return text(out).splitlines()

    # --- the trunk and other refs

    def ensure_trunk(self, start: str) -> str:
        """The trunk's commit; the branch is made at `start` when there is none."""
        present = self.resolve(self._trunk)
        if present is None:
            self._create(self._trunk, self._commit(start))
        return present or self.trunk()

    def trunk(self) -> str:
        """The trunk's commit. Raises RepoError when the branch is gone."""
        commit = self.resolve(self._trunk)
        if commit is None:
            raise RepoError(
                f"{_short(self._trunk)} is gone: make it again with `git branch {_short(self._trunk)} <commit>`"
            )
        return commit

    def create_branch(self, name: str, commit: str) -> None:
        """Make a branch at a commit; fine when it is there already. Raises BranchExists when it is somewhere else."""
        self._create(_branch_ref(name), self._commit(commit))

    def move(self, ref: str, new: str, old: str) -> None:
        """Move a branch from `old` to `new`; fine when it is there already. Raises RefMoved or CheckedOut."""
        full = _branch_ref(ref.removeprefix("refs/heads/"))
        new, old = self._commit(new), self._commit(old)
        present = self.resolve(full)
        if present == new:
            return
        if present != old:
            raise RefMoved(f"{_short(full)} is at {present or 'nothing'}, not at {old}: somebody moved it")
        where = self._checked_out(full)
        if where:
            raise CheckedOut(f"{_short(full)} is checked out in {where}: switch that work tree to another branch first")
        try:
            self._git.refs("update-ref", "--no-deref", full, new, old)
        except RepoError as error:
            present = self.resolve(full)
            if present not in (new, old):
                raise RefMoved(
                    f"{_short(full)} is at {present or 'nothing'}, not at {old}: somebody moved it"
                ) from None
            if present == old:
                raise RepoError(f"{_short(full)} could not be moved: {error}") from None

    def pack(self) -> None:
        """Pack loose refs into one file, so that thousands of branches stay cheap to list."""
        self._git.refs("pack-refs", "--all")

    # --- commits

    def commit(
        self,
        parent: str | tuple[str, ...],
        changes: Mapping[str, bytes | None],
        message: str,
        when: float,
        author: tuple[str, str],
    ) -> Commit:
        """Write a commit: the first parent's tree with `changes` (None deletes). The same arguments give the same hash.

        `when` is in seconds since the epoch, cut to whole ones. No ref is moved. Raises EmptyDiff when nothing would change,
        Refused for paths that cannot be written (outside, through a file, over a directory, a link or a submodule).
        """
        parents = tuple(self._commit(each) for each in ((parent,) if isinstance(parent, str) else parent))
        modes = self._modes(parents[0], changes)
        with self._git.scratch() as scratch:
            place = Path(scratch)
            oids = self._store([data for data in changes.values() if data is not None], place)
            lines = []
            for path, data in sorted(changes.items(), key=lambda change: change[1] is not None):  # deletions first
                head = f"0 {self._git.zero}" if data is None else f"{modes[path]} {oids[data]}"
                lines.append(f"{head}\t{path}\0".encode())
            index = place / "index"
            self._git.objects("read-tree", parents[0], index=index)
            self._git.objects("update-index", "-z", "--index-info", index=index, stdin=b"".join(lines))
            _, out = self._git.objects("write-tree", index=index)
        tree = text(out).strip()
        if tree == self.tree_of(parents[0]):
            raise EmptyDiff("the edits leave every file as it was, so there is nothing to try")
        return self._commit_tree(tree, parents, message, when, author)

    def merge(self, ours: str, theirs: str, message: str, when: float, author: tuple[str, str]) -> Commit | Conflict:
        """Write a merge commit of `theirs` into `ours`, or say what conflicts. Deterministic; no ref is moved.

        When `theirs` is in `ours` already there is nothing to merge, and `ours` itself comes back. Raises RepoError.
        """
        ours, theirs = self._commit(ours), self._commit(theirs)
        _, out = self._git.objects("rev-list", "--parents", "--max-count=1", theirs, "--")
        if ours in text(out).split()[1:2]:
            return self._commit_tree(self.tree_of(theirs), (ours, theirs), message, when, author)
        status, _ = self._git.objects("merge-base", "--is-ancestor", theirs, ours, ok=(0, 1))
        if status == 0:
            return Commit(ours, self.tree_of(ours))
        args = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs)
        status, out = self._git.objects(*args, ok=(0, 1))
        tree, *paths = [part for part in text(out).split("\0") if part]
        if status == 1:
            return Conflict(tuple(sorted(set(paths))))
        return self._commit_tree(tree, (ours, theirs), message, when, author)

    def check_tree(
        self, parent: str, child: str, lab_editable: Callable[[str], bool], max_bytes: int = MAX_FILE
    ) -> list[FileChange]:
        """What `child` changes, judged by the two trees. Raises Refused when a proposal may not (`engine/treecheck.py`)."""
        return treecheck.check(self._git, self._commit(parent), self._commit(child), lab_editable, max_bytes)

    # --- run trees

    def export(self, commit: str, trees: Path) -> Path:
        """The run tree of a commit below `trees`: read-only, named by its tree hash, made once and checked when reused.

        Raises RepoError, also when a Git LFS object is not in the lab.
        """
        settings = self._git.config(r"^lfs\.storage$")
        store = self._git.layout.common / settings.get("lfs.storage", "lfs") / "objects"
        return runtree.export(self._git, self.tree_of(commit), trees, store)

    def verify(self, path: Path, commit: str) -> list[str]:
        """How a run tree on disk differs from its commit (`changed`, `missing`, `extra` and a path); [] when it is whole.

        Contents are hashed, so forged times or sizes do not help.
        """
        return runtree.differences(self._git, path, runtree.contents(self._git, self.tree_of(commit)))

    def left_out(self, commit: str) -> tuple[str, ...]:
        """The symbolic links of a commit that its run tree lacks, since they lead out of it."""
        return runtree.contents(self._git, self.tree_of(commit)).left_out

    def close(self) -> None:
        """Nothing stays open between calls; here for symmetry with what the engine closes."""
        self._trees.clear()

    # --- below

    def _commit(self, ref: str) -> str:
        if _OID.fullmatch(ref):
            return ref
        oid = self.resolve(ref)
        if oid is None:
            raise RepoError(f"git knows no commit {ref[:80]!r}")
        return oid

    def _create(self, ref: str, commit: str) -> None:
        try:
            self._git.refs("update-ref", "--no-deref", ref, commit, self._git.zero)
        except RepoError as error:
            present = self.resolve(ref)
            if present == commit:
                return
            if present is not None:
                raise BranchExists(f"{_short(ref)} exists already, at {present}") from None
            raise RepoError(f"{_short(ref)} could not be made: {error}{self._in_the_way(ref)}") from None

    def _in_the_way(self, ref: str) -> str:
        first = _short(ref).split("/")[0]
        if self.resolve(f"refs/heads/{first}") is None:
            return ""
        return f"; the branch {first} is in the way of {first}/…: rename it with `git branch -m {first} <other>`"

    def _checked_out(self, ref: str) -> str | None:
        """The work tree that has a branch checked out, or is rebasing or bisecting it; None when none does."""
        _, out = self._git.refs("for-each-ref", "--format=%(worktreepath)", ref)
        if where := text(out).strip():
            return where
        common = self._git.layout.common
        for place in (common, *sorted(common.glob("worktrees/*"))):
            for name in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START"):
                try:
                    held = (place / name).read_text(errors="replace").strip()
                except OSError:
                    continue
                if held in (ref, _short(ref)):
                    return f"{place} (a rebase or bisect is going on)"
        return None

    def _modes(self, parent: str, changes: Mapping[str, bytes | None]) -> dict[str, str]:
        """The mode that each path will have; Refused where the parent has something that is no regular file there."""
        for path in changes:
            if wrong := bad_path(path):
                raise Refused(Refusal.OUTSIDE, f"the path {path[:80]!r} {wrong}")
        above = {path: _directories(path) for path in changes}
        wanted = sorted({*changes, *(each for paths in above.values() for each in paths)})
        known = self._git.entries(parent, wanted)
        for path in changes:
            for each in above[path]:
                made = changes.get(each) is not None
                if made or (each in known and known[each].type != "tree" and each not in changes):
                    raise Refused(Refusal.EXISTS, f"{path} cannot be written: {each} is a file, not a directory")
            entry = known.get(path)
            if entry is not None and entry.type == "tree":
                raise Refused(Refusal.EXISTS, f"{path} cannot be written: it is a directory")
            if entry is not None and entry.mode not in REGULAR:
                raise Refused(Refusal.MODE, f"{path} is a symbolic link or a submodule, which no proposal may change")
        return {path: known[path].mode if path in known else "100644" for path in changes}

    def _store(self, contents: list[bytes], place: Path) -> dict[bytes, str]:
        """Write blobs, all in one process, with no filter; their ids by content."""
        unique = list(dict.fromkeys(contents))
        if not unique:
            return {}
        for n, data in enumerate(unique):
            (place / str(n)).write_bytes(data)
        names = "".join(f"{n}\n" for n in range(len(unique))).encode()
        _, out = self._git.objects("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=names, directory=place)
        return dict(zip(unique, text(out).split(), strict=True))

    def _commit_tree(
        self, tree: str, parents: tuple[str, ...], message: str, when: float, author: tuple[str, str]
    ) -> Commit:
        name, email = _ident(author[0]) or "unknown", _ident(author[1]) or "unknown"
        identity = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", name), ("EMAIL", email), ("DATE", f"@{int(when)} +0000"))
        }
        body = message.replace("\0", "\ufffd").rstrip("\n").encode("utf-8", "replace") + b"\n"
        args = [part for parent in parents for part in ("-p", parent)]
        _, out = self._git.objects("commit-tree", tree, *args, "-F", "-", stdin=body, extra=identity)
        commit = text(out).strip()
        self._trees[commit] = tree
        return Commit(commit, tree)


def _directories(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _branch_ref(name: str) -> str:
    if (
        not _BRANCH.fullmatch(name)
        or ".." in name
        or len(name) > 200
        or any(part.endswith((".lock", ".")) for part in name.split("/"))
    ):
        raise RepoError(f"{name[:80]!r} is not a branch name: use letters, digits and -._/")
    return "refs/heads/" + name


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/")


def _ident(value: str) -> str:
    """A name or address without what git's commit header cannot hold."""
    kept = "".join(
        char if unicodedata.category(char) not in ("Cc", "Cf", "Cs") and char not in "<>" else " " for char in value
    )
    return " ".join(kept.split()).strip(" .,;:\"'")
