"""Where the commits of an imported history stand in a git repository: on a branch, dangling, or missing; and their diffs.

Agents throw a discarded change away with `git reset`, so its commit is often on no branch any more, and may be gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.core import Core
from engine.history.importers.base import cut
from engine.plumbing import Plumbing, RepoError
from engine.plumbing import text as decoded
from engine.repo import Repo

MAX_COMMITS = 5000
MAX_DIFF = 1 << 20
_WALKED = 200_000
Link = dict[str, Any]


def top_of(path: Path) -> Path | None:
    """The work tree that a file lies in, by the `.git` above it."""
    return next((each for each in path.absolute().parents if (each / ".git").exists()), None)


def link(core: Core, path: Path, repo: str, commits: Sequence[str], notes: list[str]) -> dict[str, Link]:
    """`{commit as written: {state, commit, parent, diff}}` of the repository `repo`, or the one that `path` lies in, or the
    lab's. Diffs are stored as bodies. What stands in the way is one of `notes`; nothing of it is fatal."""
    wanted = list(dict.fromkeys(commits))
    if not wanted:
        return {}
    told = Path(repo).expanduser().absolute() if repo else top_of(path)
    root = told or core.lab.root
    private = core.dir.root / "import-git"
    try:
        found = _Linked(core, Repo(root, private), Plumbing(root.resolve(), private))
        links = found.links(wanted[:MAX_COMMITS])
    except (RepoError, OSError) as error:
        notes.append(f"commits are not linked: {cut(str(error))}")
        return {}
    if told is None and all(each["state"] == "missing" for each in links.values()):
        return {}  # it has nothing to do with the lab's repository
    if len(wanted) > MAX_COMMITS:
        notes.append(f"{len(wanted) - MAX_COMMITS} commits beyond the first {MAX_COMMITS} are not linked")
    return links


class _Linked:
    """One repository, asked on one thread."""

    def __init__(self, core: Core, repo: Repo, git: Plumbing) -> None:
        self.core = core
        self.repo = repo
        self.git = git

    def links(self, wanted: Sequence[str]) -> dict[str, Link]:
        """Each commit as the repository has it."""
        _, out = self.git.refs("rev-list", "--all", "--parents", f"--max-count={_WALKED}")
        parents = {words[0]: words[1:] for line in decoded(out).splitlines() if (words := line.split())}
        asked = "".join(f"{each}^{{commit}}\n" for each in wanted).encode()
        _, out = self.git.refs("cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked)
        links: dict[str, Link] = {}
        for name, line in zip(wanted, decoded(out).splitlines(), strict=False):
            oid, _, kind = line.partition(" ")
            if kind == "commit" and not oid.endswith("}"):
                links[name] = self._link(oid, parents.get(oid))
            else:
                links[name] = {"state": "missing", "commit": name, "parent": None, "diff": None}
        return links

    def _link(self, oid: str, parents: Sequence[str] | None) -> Link:
        state = "dangling" if parents is None else "branch"
        if parents is None:
            _, out = self.git.objects("rev-list", "--parents", "--max-count=1", oid, "--")
            parents = decoded(out).split()[1:]
        parent = parents[0] if parents else None
        diff = None
        if parent is not None:
            try:
                body = self.repo.diff(parent, oid).encode("utf-8", "replace")
                diff = self.core.blobs.put(body) if body and len(body) <= MAX_DIFF else None
            except RepoError:  # the parent's objects are gone
                diff = None
        return {"state": state, "commit": oid, "parent": parent, "diff": diff}
