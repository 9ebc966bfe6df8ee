"""A researcher's repository for tests: a real one, and a way to see that the engine leaves it as it was."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from engine.repo import Repo

ME = ("Ada Lovelace", "ada@example.org")
WHEN = 1_700_000_000.0


@dataclass(frozen=True)
class Researcher:
    """A repository at `root`; its state directory `private` lies outside."""

    root: Path
    private: Path

    def git(self, *args: str, stdin: bytes | None = None) -> str:
        """What git says to the researcher. Raises CalledProcessError."""
        done = subprocess.run(["git", *args], cwd=self.root, input=stdin, capture_output=True, check=True)
        return done.stdout.decode("utf-8", "surrogateescape")

    def write(self, path: str, content: str | bytes) -> Path:
        """Write a file into the work tree."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def save(self, message: str = "work") -> str:
        """Commit everything; its hash."""
        self.git("add", "--all", ".")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD").strip()

    def open(self) -> Repo:
        """The engine's view."""
        return Repo(self.root, self.private)

    def state(self) -> dict[str, object]:
        """All that must not change under the researcher's hands."""
        git_dir = Path(self.git("rev-parse", "--absolute-git-dir").strip())
        index = (git_dir / "index").read_bytes() if (git_dir / "index").exists() else b""
        head = (git_dir / "HEAD").read_bytes()
        stash = self.git("stash", "list", "--format=%H %gs")
        files = {
            str(path.relative_to(self.root)): (path.read_bytes() if path.is_file() else b"", path.lstat().st_mtime_ns)
            for path in sorted(self.root.rglob("*"))
            if ".git" not in path.parts
        }
        logs = {
            str(path.relative_to(git_dir)): path.read_bytes()
            for path in (git_dir / "logs").rglob("*")
            if path.is_file()
        }
        return {
            "index": index,
            "HEAD": head,
            "stash": stash,
            "files": files,
            "logs": logs,
            "status": self.git("--no-optional-locks", "status", "--porcelain=v2", "-z", "--branch"),
            "worktrees": self.git("worktree", "list", "--porcelain"),
        }


def start(root: Path, private: Path) -> Researcher:
    """A fresh repository with two files and one commit."""
    root.mkdir(parents=True)
    researcher = Researcher(root, private)
    researcher.git("init", "--quiet", "--initial-branch=main")
    researcher.git("config", "user.name", ME[0])
    researcher.git("config", "user.email", ME[1])
    researcher.write("train.py", "width = 128\ndepth = 4\n")
    researcher.write("lib/model.py", "x = 1\n")
    script = researcher.write("run.sh", "python train.py\n")
    os.chmod(script, 0o755)
    researcher.save("start")
    return researcher
