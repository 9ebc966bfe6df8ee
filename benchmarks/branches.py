"""Times making one more experiment branch in a lab that has 10 of them and in one that has 10,000; the bar is 3x.

    python benchmarks/branches.py [--many 10000] [--repeat 15]

Exits 1 above the bar.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.repo import Repo

BAR = 3.0
ME = ("Benchmark", "benchmark@localhost")


def git(lab: Path, *args: str, stdin: str = "") -> str:
    """Run git in the lab as its researcher would."""
    who = ["-c", "user.name=Benchmark", "-c", "user.email=benchmark@localhost"]
    done = subprocess.run(["git", *who, *args], cwd=lab, input=stdin, capture_output=True, text=True, check=True)
    return done.stdout


def make_lab(root: Path) -> Path:
    """A small training repository with one commit."""
    lab = root / "lab"
    (lab / "src").mkdir(parents=True)
    git(lab, "init", "--quiet", "--initial-branch=main")
    for n in range(200):
        (lab / "src" / f"module{n}.py").write_text(f"x = {n}\n")
    (lab / "train.py").write_text("width = 128\n" * 300)
    git(lab, "add", ".")
    git(lab, "commit", "--quiet", "--message=start")
    return lab


def fill(lab: Path, start: str, count: int, packed: bool) -> None:
    """Give the lab `count` experiment branches, each with a commit of its own; loose refs, or all in one packed file."""
    stream = "".join(
        f"commit refs/heads/exp/{10_000_000 + n}-filler\ncommitter B <b@localhost> {n} +0000\ndata 7\nfiller\n\n"
        f"from {start}\nM 100644 inline train.py\ndata {len(edit)}\n{edit}\n"
        for n, edit in ((n, f"width = {n}\n") for n in range(count))
    )
    git(lab, "fast-import", "--quiet", stdin=stream)
    if packed:
        git(lab, "pack-refs", "--all")
    assert len(git(lab, "for-each-ref", "--format=x", "refs/heads/exp/").split()) == count


def one_more(repo: Repo, parent: str, number: int) -> float:
    """Seconds to commit an edit on `parent` and make its branch."""
    start = time.perf_counter()
    edit = (f"width = {number}\n" * 300).encode()
    made = repo.commit(parent, {"train.py": edit}, f"Try width {number}\n", 1_700_000_000.0 + number, ME)
    repo.create_branch(f"exp/{number:04}-width", made.commit)
    return time.perf_counter() - start


def main() -> int:
    """Print the medians, and the ratio as the last line. The labs take turns, so that a busy machine slows all alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    many = options.many
    ways = {"10": (10, False), f"{many} loose": (many, False), f"{many} packed": (many, True)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(prefix="branches-") as directory:
        repos: dict[str, tuple[Repo, str]] = {}
        for name, (count, packed) in ways.items():
            place = Path(directory) / name.replace(" ", "-")
            lab = make_lab(place)
            repo = Repo(lab, place / "private")
            repos[name] = repo, repo.ensure_trunk("HEAD")
            fill(lab, repos[name][1], count, packed)
            one_more(*repos[name], 1)
        for number in range(2, options.repeat + 2):
            for name, (repo, trunk) in repos.items():
                times[name].append(one_more(repo, trunk, number))
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, seconds in medians.items():
        print(f"{seconds * 1000:6.1f} ms for one more branch among {name}")
    ratio = max(list(medians.values())[1:]) / medians["10"]
    print(f"{ratio:.1f}x")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
