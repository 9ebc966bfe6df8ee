"""Fixtures of the threats: the box that scenes are played in, and the one scene that most families share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.files import remove_tree
from tests.threats.scene import Bits, Scene, Stage, needs, sleeper, why_not
from tests.tinylab import TinyLab


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A module that says `BEST_BOX` is about the engine and not about the box: it is played in the best one there is, once."""
    twice = [item for item in items if _level(item) == 2 and hasattr(item.module, "BEST_BOX") and why_not(3) is None]
    if twice:
        config.hook.pytest_deselected(items=twice)
        items[:] = [item for item in items if item not in twice]


def _level(item: Any) -> int | None:
    """The box that a test is played in; None for one that needs none."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("stage") if callspec is not None else None


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a process that only sleeps writes down when the machine wakes it late."""
    with sleeper(tmp_path_factory.mktemp("control") / "late") as path:
        yield path


@pytest.fixture(scope="session", params=[3, 2], ids=["box3", "box2"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, control: Path) -> Iterator[Stage]:
    """Each box in turn; skipped by name where this machine has none."""
    needs(request.param)
    place = tmp_path_factory.mktemp(f"box{request.param}")
    yield Stage(place, request.param, control)
    remove_tree(place)  # deeper than pytest could remove


@pytest.fixture(scope="session")
def alone(stage: Stage) -> Bits:
    """What the honest experiment gives when nothing runs beside it."""
    with stage.play({}, None, prepare=True) as scene:
        return scene.alone


@pytest.fixture(scope="session")
def scene(request: pytest.FixtureRequest, stage: Stage, alone: Bits) -> Iterator[Scene]:
    """One engine in which the `DEEDS` of all modules that are being tested are done at once, beside the honest experiment.

    So that one family can be looked at by itself, run its module alone. A module says what its code is told (`facts`),
    and may say what is done to the lab before the engine starts (`dress`).
    """
    mine = [item for item in request.session.items if "scene" in getattr(item, "fixturenames", ())]
    modules = list(dict.fromkeys(item.module for item in mine if _level(item) == stage.level))  # type: ignore[attr-defined]
    deeds: dict[str, str] = {}
    for each in modules:
        assert not deeds.keys() & each.DEEDS.keys()
        deeds |= each.DEEDS

    def facts(lab: TinyLab, level: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for each in modules:
            found |= each.facts(lab, level)
        return found

    def dress(lab: TinyLab) -> None:
        for each in modules:
            getattr(each, "dress", lambda _: None)(lab)

    with stage.play(deeds, alone, facts, dress=dress, prepare=True, score_timeout="8s") as played:
        yield played
