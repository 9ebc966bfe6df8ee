"""Fixtures of the threats: the box that scenes are played in, and the one scene that most families share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.threats.scene import Bits, Scene, Stage, needs, sleeper
from tests.tinylab import TinyLab


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a process that only sleeps writes down when the machine wakes it late."""
    with sleeper(tmp_path_factory.mktemp("control") / "late") as path:
        yield path


@pytest.fixture(scope="session", params=[3, 2], ids=["box3", "box2"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, control: Path) -> Stage:
    """Each box in turn; skipped by name where this machine has none."""
    needs(request.param)
    return Stage(tmp_path_factory.mktemp(f"box{request.param}"), request.param, control)


@pytest.fixture(scope="session")
def alone(stage: Stage) -> Bits:
    """What the honest experiment gives when nothing runs beside it."""
    with stage.play({}, None, prepare=True) as scene:
        return scene.alone


@pytest.fixture(scope="session")
def scene(request: pytest.FixtureRequest, stage: Stage, alone: Bits) -> Iterator[Scene]:
    """One engine in which the `DEEDS` of all modules that are being tested are done at once, beside the honest experiment.

    So that one family can be looked at by itself, run its module alone. What its code is told, a module gives as `facts`.
    """
    modules = list(dict.fromkeys(item.module for item in request.session.items if "scene" in item.fixturenames))  # type: ignore[attr-defined]
    deeds: dict[str, str] = {}
    for each in modules:
        assert not deeds.keys() & each.DEEDS.keys()
        deeds |= each.DEEDS

    def facts(lab: TinyLab, level: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for each in modules:
            found |= each.facts(lab, level)
        return found

    with stage.play(deeds, alone, facts, prepare=True, score_timeout="8s") as played:
        yield played
