"""What `[detectors]` of a lab file changes: thresholds, names of signals, detectors that are switched off. Pure.

[detectors]
off = ["throughput"]
signals = { grad_norm = "gnorm" }
loss-spike = { rise = 0.1 }
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from engine.watch.detectors.base import Detector
from engine.watch.detectors.evidence import Names
from engine.watch.detectors.registry import DETECTORS
from engine.watch.detectors.signals import FACTS, SERIES, Signal

Wrong = tuple[tuple[str, ...], str, str]
"""(path below `[detectors]`, what is wrong, what to do)."""

_RENAMED = tuple(signal.value for signal in (*SERIES, *FACTS))
_BY_NAME = {each.name: each for each in DETECTORS}


@dataclass(frozen=True, slots=True)
class Detectors:
    """A lab's detectors, and the names under which its runs report."""

    all: tuple[Detector, ...] = DETECTORS
    names: Names = field(default_factory=Names)


def configure(table: Mapping[str, object]) -> Detectors:
    """The detectors with a lab's settings. Raises ValueError for a table with problems."""
    for path, wrong, _ in problems(table):
        raise ValueError(f"{'.'.join(path)} {wrong}")
    off = _list(table.get("off", []))
    renamed = {Signal(signal): str(name) for signal, name in _mapping(table.get("signals", {})).items()}
    kept = tuple(_with(each, _mapping(table.get(each.name, {}))) for each in DETECTORS if each.name not in off)
    return Detectors(kept, Names(renamed))


def problems(table: Mapping[str, object]) -> Iterator[Wrong]:
    """Everything that is wrong with the table, each with its fix."""
    for key, value in table.items():
        if key == "off":
            yield from _off(value)
        elif key == "signals":
            yield from _signals(value)
        elif key not in _BY_NAME:
            yield (key,), "is no detector", _near(key, _BY_NAME)
        elif not isinstance(value, dict):
            yield (key,), "must be a table of thresholds", f"[detectors.{key}]"
        else:
            yield from _thresholds(_BY_NAME[key], value)


def _off(value: object) -> Iterator[Wrong]:
    if not isinstance(value, list):
        yield ("off",), "must be a list of detectors", 'off = ["throughput"]'
        return
    for name in value:
        if name not in _BY_NAME:
            yield ("off",), f'names "{name}", which is no detector', _near(str(name), _BY_NAME)


def _signals(value: object) -> Iterator[Wrong]:
    if not isinstance(value, dict):
        yield ("signals",), "must be a table of names", 'signals = { grad_norm = "gnorm" }'
        return
    for signal, name in value.items():
        if signal not in _RENAMED:
            yield ("signals", signal), "is no signal that a run reports", _near(signal, dict.fromkeys(_RENAMED))
        elif not isinstance(name, str) or not name:
            yield ("signals", signal), "must be the name that your runs use", f'{signal} = "…"'


def _thresholds(detector: Detector, table: Mapping[str, object]) -> Iterator[Wrong]:
    known = {each.name: getattr(detector, each.name) for each in dataclasses.fields(detector)}
    for key, value in table.items():
        path = (detector.name, key)
        if key not in known:
            fix = _near(key, known) if known else "this detector has none"
            yield path, "is no threshold of this detector", fix
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            yield path, "must be a number above 0", f"{key} = {known[key]}"
        elif isinstance(known[key], int) and not isinstance(value, int):
            yield path, "must be a whole number", f"{key} = {known[key]}"


def _near(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}"


def _with(detector: Detector, table: Mapping[str, object]) -> Detector:
    kinds = {each.name: type(getattr(detector, each.name)) for each in dataclasses.fields(detector)}
    return dataclasses.replace(detector, **{key: kinds[key](value) for key, value in table.items()})


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
