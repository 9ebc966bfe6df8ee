"""Plants failures in the sample lab, trains them for real on a short budget, and shows which detector caught which.

    python -m tests.planting [--steps 80] [--only NAME ...]

The plants are proposals in `tests/plants`; the healthy runs are some of those that ship with the lab. All run by plain
`python train.py`, one after the other, and what they cost in seconds of a core is counted. A plant that goes unnoticed, or a
healthy run that is barred, makes the exit status 1.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import math
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.edits import Refused, apply, parse
from engine.judge.referee import read_text
from engine.lab import load
from engine.watch.detectors.evidence import Declared, Point, Run, Seen, read_run
from engine.watch.detectors.finding import Finding, Severity
from engine.watch.detectors.registry import LiveWatch, judge
from engine.watch.detectors.sketch import passages, read_rows
from engine.watch.parse import make_parser

LAB = Path(__file__).resolve().parent.parent / "sample_runs" / "nanolm"
PLANTS = Path(__file__).with_name("plants")
FILES = ("train.py", "data.py", "probes.py", "prepare.py", "mix.toml")
REFUSED = "refused"


@dataclass(frozen=True)
class Plant:
    """A planted failure: its proposal in `plants/`, and the detector that has to catch it, at least at that severity."""

    name: str
    caught_by: str
    severity: Severity
    seeds: tuple[int, ...] = (0,)


CATALOGUE = (
    Plant("nan", "non-finite", Severity.STOP),
    Plant("growing-rate", "divergence", Severity.STOP),
    Plant("random-labels", "loss-spike", Severity.NOTE),
    Plant("loss-times-300", "gradient-spike", Severity.WARNING),
    Plant("growing-gradient", "gradient-explosion", Severity.WARNING),
    Plant("rate-at-zero", "rate-at-zero", Severity.WARNING),
    Plant("rate-too-low", "not-learning", Severity.WARNING),
    Plant("frozen-layer", "frozen-parameters", Severity.BARS),
    Plant("uncleared-gradients", "stale-gradients", Severity.BARS),
    Plant("dead-units", "dead-units", Severity.WARNING),
    Plant("attention-times-60", "attention-logits", Severity.WARNING),
    Plant("sleepy-steps", "throughput", Severity.NOTE),
    Plant("slow-seed", "contended", Severity.NOTE, (0, 1, 2)),
    Plant("stalling-loader", "stall", Severity.NOTE),
    Plant("few-rows", "repetition", Severity.WARNING),
    Plant("held-rows", "held-text", Severity.BARS),
    Plant("shifted-mask", "lookahead", Severity.BARS),
    Plant("own-input", "wrong-target", Severity.BARS),
    Plant("forged-report", "forged-report", Severity.NEVER),
    Plant("forged-losses", "wrong-target", Severity.BARS),
    Plant("edited-evaluation", REFUSED, Severity.BARS),
    Plant("edited-while-running", "changed-files", Severity.NEVER),
    Plant("no-op", "no-op", Severity.BARS),
    Plant("seed-ignored", "unwired-seed", Severity.BARS, (0, 1)),
    Plant("seed-picked", "wrong-seed", Severity.NEVER),
    Plant("more-steps", "step-budget", Severity.NEVER),
    Plant("more-tokens", "token-budget", Severity.NEVER),
    Plant("cheap-claim", "compute-claim", Severity.WARNING),
    Plant("one-source", "one-source", Severity.ASKS),
    Plant("unwatched", "silenced", Severity.WARNING),
)
HEALTHY = (
    "01-raise-peak-rate",
    "05-label-smoothing",
    "06-mix-like-the-score",
    "09-relu-squared",
    "10-decay-rate-to-zero",
    "14-rotary-positions",
    "15-dropout",
    "18-rmsnorm",
    "19-orthogonal-updates",
    "20-query-key-norm",
)


@dataclass(frozen=True)
class Field:
    """Where things are planted: data made once, runs of `steps` steps, the trunk's runs and how much they vary."""

    folder: Path
    steps: int
    trunk: Mapping[int, Run] = field(default_factory=dict)
    held: frozenset[int] = frozenset()

    @property
    def spread(self) -> float | None:
        return _deviation([run.score for run in self.trunk.values()])

    @property
    def source_spread(self) -> dict[str, float]:
        names = next(iter(self.trunk.values())).sources if self.trunk else {}
        every = {name: _deviation([run.sources.get(name) for run in self.trunk.values()]) for name in names}
        return {name: spread for name, spread in every.items() if spread}


def _deviation(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) > 1 else None


def prepare(folder: Path, steps: int, trunk_seeds: Sequence[int] = (0,)) -> Field:
    """The data, the hashes of the held text, and the trunk's runs."""
    tree = _export(folder / "trunk", {})
    _python(tree, "prepare.py", "--open", folder / "open", "--held", folder / "held", "--max-bytes", 400_000)
    _, sources = read_text(str(folder / "held" / "search.json"))
    held = frozenset[int]().union(*(passages(window) for source in sources for window in source.windows))
    bare = Field(folder, steps, held=held)
    return replace(bare, trunk={seed: train(bare, tree, seed) for seed in trunk_seeds})


def plant_tree(where: Field, proposal: Path) -> Path:
    """The trunk's files with a proposal applied. Raises Refused."""
    lab = load(LAB)
    draft = parse(proposal.read_text(encoding="utf-8"))
    changed = apply(draft, lambda path: _content(LAB / path), lab.is_editable, lab.is_protected)
    return _export(where.folder / proposal.stem, changed)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _export(tree: Path, changed: Mapping[str, bytes | None]) -> Path:
    tree.mkdir()
    for name in FILES:
        (tree / name).write_bytes(changed.get(name) or (LAB / name).read_bytes())
    return tree


def _python(tree: Path, *words: object) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=tree, env=environment, capture_output=True, text=True, timeout=300
    )
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{words[0]} in {tree.name} failed:\n{done.stderr[-2000:]}")
    return done.returncode


def train(where: Field, tree: Path, seed: int) -> Run:
    """Train and score the tree with one seed."""
    out = where.folder / f"{tree.name}.s{seed}"
    out.mkdir()
    told = ("--seed", seed, "--steps", where.steps, "--data", where.folder / "open", "--out", out)
    _python(tree, "train.py", *told, "--metrics", out / "metrics.jsonl")
    points, summary = read_metrics(out)
    seen = out / "seen.jsonl"
    run = read_run(seed, points, summary, read_rows(seen.read_bytes()) if seen.exists() else (), metric="val_bpb")
    if not (out / "final.safetensors").exists():
        return run
    score, sources, evaluated = _scored(tree, out / "final.safetensors", where.folder)
    return replace(run, score=score, sources=sources, evaluated=evaluated)


def read_metrics(out: Path) -> tuple[list[Point], dict[str, float | str]]:
    """What a run wrote, as the engine reads it."""
    parser = make_parser("jsonl")
    parsed = parser.feed((out / "metrics.jsonl").read_bytes())
    return list(parsed.points), parsed.summary


def _scored(tree: Path, checkpoint: Path, folder: Path) -> tuple[float, dict[str, float], float]:
    """(score, score by source, score of the text on which the run reports), in a fork that imports the tree's model.

    The arithmetic is the referee's, without its boxes: what is tried here is the detectors.
    """
    import torch  # so that the fork has it

    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")
    mine, theirs = fork.Pipe(duplex=False)
    child = fork.Process(target=_score, args=(tree, checkpoint, folder, theirs))
    child.start()
    theirs.close()
    found: tuple[float, dict[str, float], float] = mine.recv()
    child.join()
    return found


def _score(tree: Path, checkpoint: Path, folder: Path, answer: Any) -> None:
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tree))
    import torch
    import train as candidate

    model = candidate.load(checkpoint)

    def bits(windows: Sequence[Sequence[int]]) -> float:
        tokens = torch.tensor([list(window) for window in windows])
        scores = candidate.log_probs(model, tokens[:, :-1]).gather(2, tokens[:, 1:, None])
        return -scores.double().mean().item() / math.log(2)

    _, sources = read_text(str(folder / "held" / "search.json"))
    by_source = {source.name: bits(source.windows) for source in sources}
    sys.path.insert(0, str(LAB))  # the lab's own way to cut the text that runs report on, not the candidate's
    del sys.modules["data"]
    import data as trunk_data

    weights = trunk_data.SCORE_WEIGHTS
    dev = {name: bits(trunk_data.windows(folder / "open", "dev", name, 32)) for name in weights}
    answer.send((_weighed(by_source, weights), by_source, _weighed(dev, weights)))


def _weighed(bits: Mapping[str, float], weights: Mapping[str, float]) -> float:
    return sum(weights[name] * bits[name] for name in weights)


def findings(where: Field, tree: Path, runs: Sequence[Run], category: str) -> list[Finding]:
    """What the detectors say of the runs of a tree: live ones over each stream, the others afterwards."""
    found: list[Finding] = []
    changed = tuple(
        name for name in FILES if name not in ("train.py", "mix.toml") and _hash(tree / name) != _hash(LAB / name)
    )
    for run in runs:
        points, _ = read_metrics(where.folder / f"{tree.name}.s{run.seed}")
        found += LiveWatch(Declared(where.steps)).feed(points)
        if run.score is None:
            continue  # it did not end well, which the live rules have said
        found += judge(
            Seen(
                run,
                trunk=where.trunk.get(run.seed),
                siblings=tuple(each for each in runs if each is not run),
                trunk_siblings=tuple(where.trunk.values()),
                steps=where.steps,
                category=category,
                spread=where.spread,
                source_spread=where.source_spread,
                held=where.held,
                changed=changed,
            )
        )
    return found


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def try_proposal(where: Field, proposal: Path, seeds: Sequence[int] = (0,)) -> list[Finding]:
    """Everything that is found in runs of a proposal. Raises Refused where the machine would not even run it."""
    tree = plant_tree(where, proposal)
    runs = [train(where, tree, seed) for seed in seeds]
    return findings(where, tree, runs, parse(proposal.read_text(encoding="utf-8")).category)


def caught(plant: Plant, found: Iterable[Finding]) -> Finding | None:
    """The finding that the plant was to bring about, the worst of several."""
    order = list(Severity)
    mine = [each for each in found if each.detector == plant.caught_by]
    best = max(mine, key=lambda each: order.index(each.severity), default=None)
    return best if best and order.index(best.severity) >= order.index(plant.severity) else None


def _shown(found: Iterable[Finding]) -> str:
    unique = dict.fromkeys(f"{each.detector} ({each.severity})" for each in found)
    return ", ".join(unique) or "nothing"


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant failures and see which detector catches them.")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--only", nargs="*", default=None, help="names of plants or healthy proposals")
    arguments = parser.parse_args()
    began, missed, barred = time.monotonic(), 0, 0
    chosen = functools.partial(lambda only, name: only is None or name in only, arguments.only)
    with tempfile.TemporaryDirectory() as folder:
        where = prepare(Path(folder), arguments.steps, (0, 1, 2))
        print(f"{'plant':<22}{'caught by':<20}{'severity':<14}all that was found", flush=True)
        for plant in filter(lambda each: chosen(each.name), CATALOGUE):
            try:
                found = try_proposal(where, PLANTS / f"{plant.name}.md", plant.seeds)
            except Refused as refused:
                ok = plant.caught_by == REFUSED
                missed += not ok
                print(f"{plant.name:<22}{'refused' if ok else 'MISSED':<20}{refused.reason:<14}{refused}", flush=True)
                continue
            by = caught(plant, found)
            missed += by is None
            says = f"{by.detector:<20}{by.severity:<14}" if by else f"{'MISSED':<34}"
            print(f"{plant.name:<22}{says}{_shown(found)}", flush=True)
        print(f"\n{'healthy run':<30}{'barred by':<20}all that was found")
        for name in filter(chosen, HEALTHY):
            try:
                found = try_proposal(where, LAB / "proposals" / f"{name}.md")
            except (Refused, RuntimeError) as error:
                barred += 1
                print(f"{name:<30}{'did not run':<20}{str(error).splitlines()[-1]}", flush=True)
                continue
            bars = sorted({each.detector for each in found if each.severity.bars})
            barred += bool(bars)
            print(f"{name:<30}{', '.join(bars) or '-':<20}{_shown(found)}", flush=True)
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cores = sum(each.ru_utime + each.ru_stime for each in spent)
    print(
        f"\n{missed} missed, {barred} healthy runs barred; {cores:.0f} core-seconds, {time.monotonic() - began:.0f} s"
    )
    return 1 if missed or barred else 0


if __name__ == "__main__":
    sys.exit(main())
