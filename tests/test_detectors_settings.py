"""A lab sets thresholds, names and switches in `[detectors]`, and is told by line and key what makes no sense."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from engine.lab import LabError, parse
from engine.watch.detectors.evidence import Declared
from engine.watch.detectors.registry import DETECTORS, LiveWatch
from engine.watch.detectors.settings import configure
from engine.watch.detectors.signals import MEANING, Signal
from engine.watch.parse import Point

LAB = """
[lab]
command = ["{python}", "train.py", "--seed", "{seed}", "--steps", "{budget}"]
editable = ["train.py"]
[metric]
name = "val"
[rungs.screen]
budget = 10
timeout = "1m"
"""


def problem(text: str) -> str:
    with pytest.raises(LabError) as caught:
        parse(LAB + text, Path("/lab"))
    return str(caught.value)


def spikes(table: dict[str, object]) -> list[str]:
    made = configure(table)
    points = [Point(step, None, {"loss": 2.5 if step == 50 else 2.0 + step % 2 / 100}) for step in range(1, 60)]
    return [each.detector for each in LiveWatch(Declared(100, made.names), made.all).feed(points)]


def test_left_out_it_changes_nothing():
    lab = parse(LAB, Path("/lab"))
    assert configure(lab.detectors).all == DETECTORS


def test_a_threshold_of_the_lab_counts():
    lab = parse(LAB + "[detectors.loss-spike]\nrise = 0.1\n", Path("/lab"))
    assert spikes({}) == []
    assert spikes(dict(lab.detectors)) == ["loss-spike"]


def test_a_detector_that_is_off_does_not_look():
    lab = parse(LAB + '[detectors]\noff = ["loss-spike"]\nloss-spike = { rise = 0.1 }\n', Path("/lab"))
    assert spikes(dict(lab.detectors)) == []


def test_a_lab_names_its_own_metrics():
    lab = parse(LAB + '[detectors.signals]\ngrad_norm = "gnorm"\n', Path("/lab"))
    assert configure(lab.detectors).names.of(Signal.GRAD_NORM) == "gnorm"
    assert configure(lab.detectors).names.of(Signal.LOSS) == "loss"


def test_whole_numbers_stay_whole():
    (rule,) = [each for each in configure({"loss-spike": {"unstable": 5}}).all if each.name == "loss-spike"]
    assert rule.unstable == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[detectors.loss-spikes]\nrise = 0.1\n",
            'detectors.loss-spikes: is no detector. Fix: did you mean "loss-spike"?',
        ),
        ("[detectors.loss-spike]\nrises = 0.1\n", 'did you mean "rise"?'),
        ("[detectors.loss-spike]\nrise = -1\n", "must be a number above 0"),
        ("[detectors.loss-spike]\nrise = nan\n", "must be a number above 0"),
        ('[detectors.loss-spike]\nrise = "much"\n', "must be a number above 0"),
        ("[detectors.loss-spike]\nunstable = 2.5\n", "must be a whole number"),
        ("[detectors.changed-files]\nrise = 1\n", "this detector has none"),
        ("[detectors]\nloss-spike = 3\n", "must be a table of thresholds"),
        ('[detectors]\noff = ["stalls"]\n', 'did you mean "stall"?'),
        ('[detectors.signals]\ngrad_norms = "g"\n', 'did you mean "grad_norm"?'),
    ],
)
def test_what_makes_no_sense_is_said_with_a_fix(text, said):
    assert said in problem(text)


def test_the_line_is_named():
    assert "cockpit.toml:11" in problem("[detectors.loss-spike]\nrise = -1\n")


def test_the_page_names_every_detector_threshold_and_signal():
    page = (Path(__file__).parents[1] / "docs" / "detectors.md").read_text()
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in page.splitlines() if line.startswith("| ")}
    for each in DETECTORS:
        line = lines[each.name]
        for field in dataclasses.fields(each):
            assert f"`{field.name}`" in line, f"{each.name}: {field.name}"
            assert f"{getattr(each, field.name):.4f}".rstrip("0").removesuffix(".") in line, (
                f"{each.name}: {field.name}"
            )
    for signal, meaning in MEANING.items():
        assert lines[f"`{signal.value}`"].endswith(f"| {meaning} |")
