"""The sweep's other way of drawing: Optuna's tree-structured Parzen estimator chooses a constant and a value for it.

Optuna is imported when the first proposal is drawn, in a thread of the engine's. Its study is made anew for every draw, out of
the history alone, and its sampler is seeded with the lab's seed and the number of the draw: so a restart, whenever it comes,
draws what would have been drawn without it.
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

from engine.proposers.base import Tried
from engine.proposers.constants import FACTORS, Site, Value, scaled
from engine.types import Verdict

MISSING = (
    "proposer.search is \"optuna\", and Optuna is not installed: pip install 'research-cockpit[optuna]' into the environment "
    'of the cockpit, or set search = "random"'
)
STARTUP = 6  # draws at random before the estimator has something to go by
PLACE = "place"
Choice = tuple[Site, Value]


def is_installed() -> bool:
    """Whether Optuna can be imported; it is not, to find out."""
    from importlib.util import find_spec

    return find_spec("optuna") is not None


def suggest(
    places: Mapping[str, Site], past: Sequence[tuple[str, Value, Tried]], seed: int, draw: int, miss: int
) -> Choice:
    """A constant, and another value for it. `past` names what was turned before, by its place, to which value, and how it
    went; `draw` is the number of this proposal, and `miss` how often it brought nothing new."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    spaces = {name: _space(optuna, site) for name, site in places.items()}
    chooser = optuna.distributions.CategoricalDistribution(sorted(places))
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=STARTUP,
        seed=crc32(f"{seed}:{draw}:{miss}".encode()),
        constant_liar=True,  # what still runs is kept away from
        multivariate=False,  # each constant by itself: a proposal turns one
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is experimental in Optuna is no news to whoever reads the engine's log
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for place, value, tried in past:
            if place in spaces and (trial := _trial(optuna, chooser, spaces[place], place, value, tried)) is not None:
                study.add_trial(trial)
        asked = study.ask()
        place = asked.suggest_categorical(PLACE, chooser.choices)
        value = _asked_for(optuna, asked, place, spaces[place])
    return places[place], _tidy(places[place], value)


def _asked_for(optuna: Any, asked: Any, place: str, space: Any) -> Value:
    kinds = optuna.distributions
    if isinstance(space, kinds.CategoricalDistribution):
        value: Value = asked.suggest_categorical(place, space.choices)
    elif isinstance(space, kinds.IntDistribution):
        value = asked.suggest_int(place, space.low, space.high, log=space.log)
    else:
        value = asked.suggest_float(place, space.low, space.high, log=space.log)
    return value


def _space(optuna: Any, site: Site) -> Any:
    """The values that a constant may take: around what it is for numbers, on a logarithmic scale where they have one sign."""
    kinds = optuna.distributions
    value = site.value
    if site.choices:
        return kinds.CategoricalDistribution([each for each in site.choices if each != site.value])
    if isinstance(value, bool | str):
        return kinds.CategoricalDistribution([not value] if isinstance(value, bool) else [value])
    ends = sorted(_moved(value, factor) for factor in (min(FACTORS), max(FACTORS)))
    low, high = ends[0], ends[1]
    if isinstance(value, int):
        low, high = int(low), int(high)
        return kinds.IntDistribution(low, max(low + 1, high), log=low > 0)
    return kinds.FloatDistribution(float(low), max(float(high), float(low) + 1e-12), log=low > 0)


def _moved(value: int | float, factor: float) -> int | float:
    if value == 0:
        return 0 if factor < 1 else (2 if isinstance(value, int) else 0.1)
    return scaled(value, factor, random.Random(0))


def _tidy(site: Site, value: Value) -> Value:
    """A number with as many digits as one would write."""
    return float(f"{value:.4g}") if isinstance(value, float) and not isinstance(site.value, bool) else value


def _trial(optuna: Any, chooser: Any, space: Any, place: str, value: Value, tried: Tried) -> Any:
    """One proposal of the past as a trial; None where its value cannot be had any more."""
    states = optuna.trial.TrialState
    if isinstance(space, optuna.distributions.FloatDistribution):
        value = float(value) if not isinstance(value, str) else value
    if not _holds(space, value):
        return None
    if tried.verdict == Verdict.BROKEN:
        state, effect = states.PRUNED, None  # without a value: below everything that has one
    elif tried.effect is not None:
        state, effect = states.COMPLETE, tried.effect
    else:
        state, effect = states.RUNNING, None
    return optuna.trial.create_trial(
        state=state, value=effect, params={PLACE: place, place: value}, distributions={PLACE: chooser, place: space}
    )


def _holds(space: Any, value: Value) -> bool:
    try:
        return bool(space._contains(space.to_internal_repr(value)))
    except (ValueError, TypeError):
        return False
