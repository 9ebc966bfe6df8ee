"""Compares verdicts with the truth: twelve proposals to the sample lab, judged as a lab judges, and by thirty seeds each.

    python benchmarks/verdicts.py [--truth 30] [--keep DIR] [--nice 5]

Ten recorded proposals (one of them gains by compute alone) and two that cheat go through a fresh sample lab, all of them
approved. Apart from that, on other seeds and with as many for every proposal, the same ten are run to the end. "Better"
means that the truth's lower 95 % bound lies above one sigma, the trunk's standard deviation from seed to seed, on the basis
that the lab compares on. The table is the last thing printed. It takes an hour or more on two cores, so that `make bench`
leaves it out.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import duckdb

from cockpit.attach import attached, state_dir
from cockpit.commands import wait_down
from cockpit.demo import POLICY, set_up
from cockpit.unattended import Rows, approve, drive, experiments, is_settled, shards_ended, waiting

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "sample_runs" / "nanolm" / "proposals"
PLANTS = ROOT / "tests" / "plants"
HONEST = (
    *("01-raise-peak-rate", "05-label-smoothing", "09-relu-squared", "10-decay-rate-to-zero", "12-twice-as-wide"),
    *("14-rotary-positions", "15-dropout", "18-rmsnorm", "20-query-key-norm", "24-quieter-second-moment"),
)
CHEATS = ("held-rows", "seed-picked")
FIRST_TRUTH_SEED = 1000


def make_lab(root: Path, proposals: list[Path], changes: dict[str, str]) -> None:
    """A fresh sample lab with these proposals and no others, all of which wait at once."""
    problem = set_up(root)
    if problem:
        raise SystemExit(problem)
    shutil.rmtree(root / "proposals")
    (root / "proposals").mkdir()
    for path in proposals:
        shutil.copy(path, root / "proposals")
    text = (root / "cockpit.toml").read_text("utf-8")
    for old, new in (changes | {"queue = 6": "queue = 12", 'timeout = "3m"': 'timeout = "20m"'}).items():
        assert old in text, old
        text = text.replace(old, new)
    (root / "cockpit.toml").write_text(text, "utf-8")
    subprocess.run(["git", "-C", str(root), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(root), "commit", "-q", "-m", "Twelve proposals"], check=True)


def run(root: Path, name: str, wanted: int) -> None:
    """Approve everything, and return when all of it is settled."""
    with attached(root) as session:

        def step(rows: Rows, phase: str) -> tuple[str, bool]:
            for row in waiting(rows):
                approve(session, row, "a comparison with the truth", POLICY)
            mine = experiments(rows)
            settled = sum(map(is_settled, mine))
            text = f"{name}: {settled} of {wanted} settled, {shards_ended(rows)} shards ended"
            return text, settled == len(mine) == wanted and phase == "idle"

        drive(session, step)
        session.call("shutdown")
    wait_down(root)


def answers(root: Path) -> dict[str, dict[str, Any]]:
    """Hypothesis to what the history of a lab says of the experiment."""
    with duckdb.connect(str(state_dir(root).history), read_only=True) as con:
        found = con.execute(
            "SELECT hypothesis, verdict, effect, lo, hi, n, evidence, bar, barred FROM experiments WHERE role = 'experiment'"
        )
        names = [each[0] for each in found.description or ()]
        return {row[0]: dict(zip(names, row, strict=True)) for row in found.fetchall()}


def sigma(root: Path) -> float:
    """Standard deviation of the trunk's metric from seed to seed."""
    with duckdb.connect(str(state_dir(root).history), read_only=True) as con:
        asked = (
            "SELECT stddev(metric) FROM shards WHERE experiment = 'trunk-1' AND rung = 'screen' AND metric IS NOT NULL"
        )
        found = con.execute(asked).fetchone()
    assert found is not None
    return float(found[0])


def table(proposals: list[Path], judged: Path, truth: Path) -> str:
    """Markdown: what is so, and what was said."""
    said, so, unit = answers(judged), answers(truth), sigma(truth)
    lines = [
        f"sigma {unit:.4f} bits per byte, over {truth_seeds(truth)} seeds of the trunk",
        "",
        "| proposal | truth, in sigma [95 %] | better? | verdict | effect, bits per byte [95 %] | E | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in proposals:
        found = re.match(r"hypothesis: (.*)", path.read_text("utf-8"))
        assert found is not None
        mine, true = said[found[1]], so.get(found[1])
        if true is None:
            fact, better = "it cheats", "no"
        elif true["effect"] is None:
            fact, better = str(true["verdict"]), "no"
        else:
            bounds = [f"{true[each] / unit:+.1f}" for each in ("effect", "lo", "hi")]
            fact, better = f"{bounds[0]} [{bounds[1]}, {bounds[2]}]", "yes" if true["lo"] > unit else "no"
        bounds = [f"{mine[each]:+.4f}" if mine[each] is not None else "-" for each in ("effect", "lo", "hi")]
        weight = "-" if mine["evidence"] is None else f"{mine['evidence']:.3g} of {mine['bar']:.3g}"
        effect = f"{bounds[0]} [{bounds[1]}, {bounds[2]}]"
        lines.append(f"| {found[1]} | {fact} | {better} | {mine['verdict']} | {effect} | {weight} | {mine['n']} |")
    return "\n".join(lines)


def truth_seeds(root: Path) -> int:
    with duckdb.connect(str(state_dir(root).history), read_only=True) as con:
        asked = "SELECT count(metric) FROM shards WHERE experiment = 'trunk-1' AND rung = 'screen'"
        found = con.execute(asked).fetchone()
    return int(found[0]) if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--truth", type=int, default=30, help="seeds that the truth is established with (30)")
    parser.add_argument("--nice", type=int, default=5, help="niceness of the runs (5)")
    parser.add_argument(
        "--keep", type=Path, help="where the two labs are made and kept; a `truth` that is there is taken"
    )
    args = parser.parse_args()
    honest = [RECORDED / f"{name}.md" for name in HONEST]
    cheats = [PLANTS / f"{name}.md" for name in CHEATS]
    seeds = list(range(FIRST_TRUTH_SEED, FIRST_TRUTH_SEED + args.truth))
    common = {"nice = 5": f"nice = {args.nice}"}
    with tempfile.TemporaryDirectory(prefix="cockpit-verdicts-") as scratch:
        judged, truth = ((args.keep or Path(scratch)) / name for name in ("judged", "truth"))
        make_lab(judged, honest + cheats, common | {"calibration = 4": "calibration = 8"})
        run(judged, "judged", len(honest) + len(cheats))
        fixed = {"seeds = [0, 1, 2]": f"seeds = {seeds}", 'mode = "fast"': 'mode = "fixed"'}
        if not state_dir(truth).history.exists():  # it depends on no judge, so that it is established once for several
            make_lab(truth, honest, common | fixed)
            run(truth, "truth", len(honest))
        print(table(honest + cheats, judged, truth))


if __name__ == "__main__":
    main()
