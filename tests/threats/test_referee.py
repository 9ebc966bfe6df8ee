"""Look-ahead models and code that goes looking for the held text, in the sample lab that really trains."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.threats.scene import LOOK_S, Pings, Stage, listed, unhurried
from tests.tinylab import TinyLab, decide, proposal, rows, wait_for, waiting

BEST_BOX = True
LAB = Path(__file__).parents[2] / "sample_runs" / "nanolm"
FILES = ("train.py", "data.py", "probes.py", "prepare.py", "mix.toml")

CAUSAL = "        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)"
AHEAD = proposal(
    "Attention sees the byte that it is to predict", CAUSAL, CAUSAL.replace("True", "False"), "architecture"
)

# It looks in the tree, in the directories around it, and in the arguments of all processes; with the held text at hand it gives
# itself away, where it might as well have learnt it by heart.
LOOK = """\
from safetensors.torch import save_file


def _look():
    import glob
    import re

    state = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    places = [os.path.join(state, "data", "*", "held")]
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                places += [word.decode() for word in re.findall(rb"/[^\\0=]*held[^\\0]*", file.read())]
        except OSError:
            continue
    for place in places:
        for path in glob.glob(os.path.join(place, "**"), recursive=True):
            try:
                with open(path, "rb") as file:
                    if len(file.read()) > 1000:
                        raise RuntimeError("the held text was read: " + path)
            except OSError:
                continue


_look()"""
READ = proposal("Look for what is held out", "from safetensors.torch import save_file", LOOK, "data mix")


@dataclass
class Played:
    """What is left of the sample lab's day."""

    shards: dict[str, dict[str, Any]]  # the first full shard of the trunk and of each experiment
    alone: float  # the trunk's metric when nothing ran beside it
    pings: Pings


@pytest.fixture(scope="module")
def played(stage: Stage) -> Iterator[Played]:
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    with stage.open([AHEAD, READ], dress=_dress, slots=2) as lab, lab.session() as session:
        unhurried(int(session.hello["pid"]))
        pings = Pings(lab, stage.control)
        thread = pings.start()
        trunk = wait_for(lambda: _ended(session, "trunk-1"), 150, LOOK_S)
        for row in waiting(session):
            decide(session, row)
        shards = {name: wait_for(lambda name=name: _ended(session, name), 150, LOOK_S) for name in ("0001", "0002")}
        assert listed(lab)["experiments"]
        pings.stop()
        thread.join(30)
        yield Played({"trunk": trunk} | shards, trunk["metric"], pings)


def _ended(session: Any, experiment: str) -> dict[str, Any] | None:
    shards = [row for row in rows(session, "shard").values() if row["rung"] != "smoke"]
    found = [row for row in shards if row["experiment"] == experiment]
    return found[0] if found and found[0]["state"] == "ended" else None


def _dress(lab: TinyLab) -> None:
    """Make a sample lab of a tiny one: its code, its lab file, with few steps and one seed."""
    for name in FILES:
        shutil.copy(LAB / name, lab.root)
    config = (LAB / "cockpit.toml").read_text()
    swaps = {
        "budget = 300 ": "budget = 4 ",
        "seeds = [0, 1, 2]": "seeds = [0]",
        'mode = "fast"': 'mode = "fixed"',
        'slots = "auto"': "slots = 2",
        'isolation = "auto"': f'isolation = "{_isolation(lab)}"',
        '"--held", "{held}"]\ntimeout = "5m"': '"--held", "{held}", "--max-bytes", "400000"]\ntimeout = "5m"',
    }
    for old, new in swaps.items():
        assert old in config, old
        config = config.replace(old, new, 1)
    (lab.root / "cockpit.toml").write_text(config)
    lab.git("add", "-A")
    lab.git("commit", "-q", "-m", "A lab that trains")


def _isolation(lab: TinyLab) -> str:
    text = (lab.root / "cockpit.toml").read_text()
    return next(line.split('"')[1] for line in text.splitlines() if line.startswith("isolation"))


def test_a_model_that_looks_ahead_gets_no_score(played: Played) -> None:
    shard = played.shards["0001"]
    assert (shard["outcome"], shard["metric"]) == ("crashed", None)
    assert "looks ahead" in shard["detail"]
    assert played.alone > 1.0  # bits per byte: the trunk was scored, and honestly
    _answered(played)


def test_code_of_an_experiment_never_has_the_held_text_at_hand(played: Played) -> None:
    shard = played.shards["0002"]
    assert "held text was read" not in (shard["detail"] or "")
    assert (shard["outcome"], shard["metric"]) == (
        "finished",
        played.alone,
    )  # it trains as the trunk does, to the same bits
    _answered(played)


def _answered(played: Played) -> None:
    assert not played.pings.failure
    assert played.pings.count > 0
    assert [each for each in played.pings.late if each[1] - each[2] > 1.0] == []
