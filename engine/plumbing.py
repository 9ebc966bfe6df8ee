"""Git's command layer, hardened: what every call of the engine to git has in common.

Two git directories are used. Whatever reads or writes *objects* runs in a small private one that borrows the lab's object
store and nothing else, so that no hook, filter, attribute, merge driver, text conversion, signing or fsmonitor that the lab's
configuration names can run, and no work tree, index or stash is in reach. Only *refs* are read and moved in the lab's own
git directory, with hooks switched off. The environment is made from scratch for each call: nothing of the engine's own
(API keys, GIT_* variables) gets in.

GitPython serves to start the processes, no more; its object database leaks processes and is shared between threads at one's
peril. An instance is used from one thread at a time; there is no lock in here.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a machine without git gets our sentence, not an ImportError
from git.cmd import Git

OLDEST_GIT = (2, 38)  # merge-tree --write-tree
SWITCHED_OFF = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false"),
    *("-c", "core.symlinks=false", "-c", "core.attributesFile=/dev/null", "-c", "core.quotePath=false"),
    *("-c", "core.splitIndex=false", "-c", "core.sparseCheckout=false", "-c", "core.logAllRefUpdates=false"),
    *("-c", "protocol.allow=never", "-c", "submodule.recurse=false", "-c", "commit.gpgSign=false"),
    *("-c", "i18n.commitEncoding=UTF-8", "-c", "gc.auto=0", "-c", "maintenance.auto=false"),
    *("-c", "core.fsync=objects,reference"),  # what the ledger calls done survives a power cut; git's default would not
)
DIFF = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--diff-algorithm=myers", "--indent-heuristic")
REGULAR = ("100644", "100755")
_STALE = 3600.0  # seconds after which a directory that a killed call left behind is removed


class RepoError(Exception):
    """Git cannot do it; the message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a tree: mode such as "100644", type blob or commit (a submodule), object id, bytes (0 for a submodule)."""

    mode: str
    type: str
    oid: str
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a lab's git lies: its git directory, the one shared by its work trees, and the object store."""

    git_dir: Path
    common: Path
    objects: Path
    hash: str  # "sha1" | "sha256"


class Plumbing:
    """Runs git for one lab at `root`; `private` is a directory of the engine's own, outside every run."""

    def __init__(self, root: Path, private: Path) -> None:
        self.root = root
        self.private = private.resolve()
        self._git = _executable()
        self._researcher = _environment({"HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"})
        self.private.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._calls = Git(str(self.private))
        self._check_version()
        self.layout = self._discover()
        self.zero = "0" * (64 if self.layout.hash == "sha256" else 40)
        self._own = self._own_git_dir()
        self._remove_stale()

    # --- the three ways to call git

    def objects(
        self,
        *args: str,
        stdin: bytes = b"",
        index: Path | None = None,
        extra: Mapping[str, str] | None = None,
        ok: tuple[int, ...] = (0,),
        directory: Path | None = None,
    ) -> tuple[int, bytes]:
        """Run git on the lab's objects; (exit status, output). Raises RepoError for a status that is not in `ok`."""
        environment = self._hardened(self._own) | {"GIT_OBJECT_DIRECTORY": str(self.layout.objects)}
        if index is not None:
            environment["GIT_INDEX_FILE"] = str(index)
        return self._run(args, environment | dict(extra or {}), stdin, ok, directory or self.private)

    def refs(self, *args: str, stdin: bytes = b"", ok: tuple[int, ...] = (0,)) -> tuple[int, bytes]:
        """Run git on the lab's refs. Raises RepoError."""
        environment = self._hardened(self.layout.git_dir) | {"GIT_WORK_TREE": str(self.private)}
        return self._run(args, environment, stdin, ok, self.private)

    def config(self, pattern: str, researcher: bool = False) -> dict[str, str]:
        """Settings whose names match; the lab's own, or (`researcher`) with their global ones too. The last one wins."""
        environment = self._researcher if researcher else self._hardened(self.layout.git_dir)
        if researcher:
            environment = environment | {"GIT_DIR": str(self.layout.git_dir)}
        _, out = self._run(("config", "--null", "--get-regexp", pattern), environment, b"", (0, 1), self.private)
        pairs = (item.partition(b"\n") for item in out.split(b"\0") if item)
        return {text(name): text(value) for name, _, value in pairs}

    # --- what most callers need

    def blobs(self, oids: Sequence[str]) -> Iterator[bytes]:
        """Contents of blobs, in order, one in memory at a time. Raises RepoError when one is missing."""
        if not oids:
            return
        environment = self._hardened(self._own) | {"GIT_OBJECT_DIRECTORY": str(self.layout.objects)}
        with _as_file("".join(oid + "\n" for oid in oids).encode("ascii")) as stdin:
            process = self._calls.execute(
                self._command(("cat-file", "--batch"), environment, self.private), istream=stdin, as_process=True
            )
            out = process.stdout
            try:
                for oid in oids:
                    yield _next_blob(out, oid)
            finally:
                out.close()
                process.stderr.close()
                if process.proc is not None:
                    process.proc.wait()

    def entries(self, tree: str, paths: Sequence[str] | None = None) -> dict[str, Entry]:
        """All files below a tree or commit by path, or what is at `paths`, directories included."""
        if paths is not None and not paths:
            return {}
        flags = ["-r"] if paths is None else []
        _, out = self.objects("ls-tree", "-z", "-l", "--full-tree", *flags, tree, "--", *(paths or ()))
        found = {}
        for record in out.split(b"\0"):
            if record:
                head, _, name = record.partition(b"\t")
                mode, kind, oid, size = head.decode("ascii").split()
                if size == "BAD":
                    raise _missing(oid)
                found[text(name)] = Entry(mode, kind, oid, 0 if size == "-" else int(size))
        return found

    def scratch(self) -> tempfile.TemporaryDirectory[str]:
        """A private directory for one call's index and files; removed after."""
        return tempfile.TemporaryDirectory(prefix="call-", dir=self.private, ignore_cleanup_errors=True)

    # --- setting up

    def _check_version(self) -> None:
        _, out = self._run(("version",), self._researcher, b"", (0,), self.private)
        numbers = text(out).split()[2].split(".")
        version = tuple(int(part) for part in numbers[:2])
        if version < OLDEST_GIT:
            wanted = ".".join(map(str, OLDEST_GIT))
            raise RepoError(f"git {'.'.join(numbers)} is too old: install {wanted} or later (conda and brew have it)")

    def _discover(self) -> Layout:
        """Where the lab's git lies, by the researcher's own configuration, so that their `safe.directory` holds."""
        queries = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir", "--git-path", "objects")
        try:
            _, out = self._run(
                ("rev-parse", "--path-format=absolute", "--show-object-format", *queries),
                self._researcher,
                b"",
                (0,),
                self.root,
            )
        except RepoError as error:
            said = str(error)
            if "not a git repository" in said or "run in a work tree" in said:
                said = f"{self.root} is not a git work tree: run `git init` there and commit once"
            raise RepoError(said) from None
        answers = text(out).rstrip("\n").split("\n")
        if len(answers) != 5:
            raise RepoError(f"git's answer about {self.root} cannot be read: is there a line break in its path?")
        if not os.path.samefile(answers[1], self.root):
            raise RepoError(
                f"the lab must be the top of its git work tree: move cockpit.toml from {self.root} to {answers[1]}"
            )
        return Layout(Path(answers[2]), Path(answers[3]), Path(answers[4]), answers[0])

    def _own_git_dir(self) -> Path:
        own = self.private / "own.git"
        (own / "refs").mkdir(parents=True, exist_ok=True)
        (own / "objects").mkdir(exist_ok=True)
        shared = self.config(r"^core\.sharedrepository$").get("core.sharedrepository", "")
        lines = ["[core]", "bare = true", f"repositoryformatversion = {int(self.layout.hash != 'sha1')}"]
        if shared and shared.isalnum():
            lines.append(f"sharedRepository = {shared}")
        if self.layout.hash != "sha1":
            lines += ["[extensions]", f"objectFormat = {self.layout.hash}"]
        (own / "config").write_text("\n".join(lines) + "\n")
        (own / "HEAD").write_text("ref: refs/heads/none\n")
        return own

    def _remove_stale(self) -> None:
        for left in self.private.glob("call-*"):
            if time.time() - left.lstat().st_mtime > _STALE:
                shutil.rmtree(left, ignore_errors=True)

    # --- running

    def _hardened(self, git_dir: Path) -> dict[str, str]:
        shallow = self.layout.common / "shallow"
        return _environment(set()) | {
            "GIT_DIR": str(git_dir),
            "HOME": str(self.private),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            **({"GIT_SHALLOW_FILE": str(shallow)} if shallow.exists() else {}),
        }

    def _command(self, args: Sequence[str], environment: Mapping[str, str], directory: Path) -> list[str]:
        pairs = [f"{name}={value}" for name, value in environment.items()]
        return ["/usr/bin/env", "-i", *pairs, self._git, "-C", str(directory), *SWITCHED_OFF, *args]

    def _run(
        self, args: Sequence[str], environment: Mapping[str, str], stdin: bytes, ok: tuple[int, ...], directory: Path
    ) -> tuple[int, bytes]:
        with _as_file(stdin) as file:
            status, out, error = self._calls.execute(
                self._command(args, environment, directory),
                istream=file,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
            )
        if status not in ok:
            said = error if isinstance(error, str) else text(error)
            raise RepoError(f"git {args[0]}: {' '.join(said.split())[:500] or f'exit status {status}'}")
        return status, out


def text(raw: bytes) -> str:
    """Git's bytes as text; bytes that are not UTF-8 survive the way back through `raw_path`."""
    return raw.decode("utf-8", "surrogateescape")


def raw_path(path: str) -> bytes:
    """The bytes of a path that came from git."""
    return path.encode("utf-8", "surrogateescape")


def fallback_identity() -> tuple[str, str]:
    """A name and an address for commits where git has none: the account's."""
    try:
        account = pwd.getpwuid(os.getuid())
        login, name = account.pw_name, account.pw_gecos.split(",")[0].strip()
    except KeyError:
        login, name = str(os.getuid()), ""
    return name or login, f"{login}@{socket.gethostname() or 'localhost'}"


def _executable() -> str:
    found = shutil.which("git")
    if found is None:
        raise RepoError("git is not on the PATH: install it (2.38 or later)")
    return found


def _environment(names: set[str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in {"PATH", "TMPDIR", *names} if name in os.environ}
    return {**kept, "LC_ALL": "C", "LANGUAGE": "C"}


def _as_file(data: bytes) -> BinaryIO:
    """`data` as a file to read from: unlike a pipe it cannot block either side."""
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.write(data)
    file.seek(0)
    return file


def _next_blob(out: BinaryIO, oid: str) -> bytes:
    head = out.readline().split()
    if len(head) != 3 or head[1] != b"blob":
        raise _missing(oid)
    size = int(head[2])
    data = out.read(size)
    if len(data) != size or out.read(1) != b"\n":
        raise RepoError(f"git stopped while reading object {oid}")
    return data


def _missing(oid: str) -> RepoError:
    return RepoError(f"object {oid} is missing from the repository: `git fetch --refetch` fills a partial clone")
