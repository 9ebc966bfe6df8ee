"""What shards run on is found in files: a researcher's virtual environment, their torch, the driver's list of GPUs."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from engine.environment import evaluation_of, noted
from engine.lab import Lab, load
from engine.shards.slots import Slot
from tests.tinylab import TinyLab

CPU, GPU = Slot(0, (), ()), Slot(0, (), ("0",))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return load(TinyLab(tmp_path / "lab", []).root)


def venv(place: Path, config: str = "", torch: str = "") -> str:
    """The interpreter of a virtual environment as far as files tell; returns its path."""
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").touch()
    packages = place / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    if config:
        (place / "pyvenv.cfg").write_text(config)
    if torch:
        (packages / f"torch-{torch}.dist-info").mkdir()
        (packages / "torchvision-0.1.dist-info").mkdir()
    return str(place / "bin" / "python")


def test_the_versions_of_a_virtual_environment_are_noted(lab: Lab, tmp_path: Path) -> None:
    python = venv(tmp_path / "venv", "home = /usr/bin\nversion = 3.12.4\n", "2.6.0+cu124")
    found = noted(replace(lab, python=python), "s1", "screen", "d1", "lab1", [CPU])
    assert (found.python, found.torch, found.gpu, found.host) == ("3.12.4", "2.6.0+cu124", "", "lab1")
    assert (found.setup, found.rung, found.data, found.metric) == ("s1", "screen", "d1", lab.metric.name)
    assert found.budget == str(lab.rung("screen").budget)


def test_what_no_file_tells_is_left_empty(lab: Lab, tmp_path: Path) -> None:
    found = noted(replace(lab, python=venv(tmp_path / "venv")), "s1", "screen", "", "lab1", [CPU])
    assert (found.python, found.torch) == ("3.12", "")
    gone = noted(replace(lab, python="no-such-python-anywhere"), "s1", "screen", "", "lab1", [CPU])
    assert (gone.python, gone.torch) == ("", "")
    assert noted(replace(lab, python=None), "s1", "screen", "", "lab1", [CPU]).python == platform.python_version()


def test_an_environment_that_tries_to_write_on_the_terminal_cannot(lab: Lab, tmp_path: Path) -> None:
    python = venv(tmp_path / "venv", "version = 3.\x1b[31m12\n")
    assert "\x1b" not in noted(replace(lab, python=python), "s1", "screen", "", "lab1", [CPU]).python


def test_gpus_are_noted_where_shards_lease_them(lab: Lab, tmp_path: Path) -> None:
    for bus, model in (("0000:01:00.0", "NVIDIA H100 80GB HBM3"), ("0000:02:00.0", "NVIDIA H100 80GB HBM3")):
        (tmp_path / "proc" / bus).mkdir(parents=True)
        (tmp_path / "proc" / bus / "information").write_text(f"Model: \t\t {model}\nDevice Minor: \t 0\n")
    assert noted(lab, "s1", "screen", "", "lab1", [GPU], tmp_path / "proc").gpu == "NVIDIA H100 80GB HBM3"
    assert noted(lab, "s1", "screen", "", "lab1", [CPU], tmp_path / "proc").gpu == ""
    assert noted(lab, "s1", "screen", "", "lab1", [GPU], tmp_path / "nowhere").gpu == ""


def test_the_evaluation_changes_with_what_is_scored_and_not_with_the_budget(lab: Lab) -> None:
    other = replace(lab, metric=replace(lab.metric, direction="max"))
    assert evaluation_of(lab) != evaluation_of(other)
    assert evaluation_of(lab) == evaluation_of(replace(lab, seeds=(7, 8)))


def test_of_shards_that_run_elsewhere_the_gpus_there_are_noted(lab: Lab, tmp_path: Path) -> None:
    here = tmp_path / "gpus" / "0000:01:00.0"
    here.mkdir(parents=True)
    (here / "information").write_text("Model: \t\t NVIDIA T4\n")
    asked = ("s1", "screen", "", "login1", [GPU], here.parent)
    assert noted(lab, *asked).gpu == "NVIDIA T4"
    assert noted(lab, *asked, elsewhere=("NVIDIA H100 80GB HBM3",)).gpu == "NVIDIA H100 80GB HBM3"
    assert noted(lab, *asked, elsewhere=()).gpu == ""
