"""Proposes with no model at all, by turning constants: the control arm that a model has to beat.

Random first; after `EXPLORE` proposals, every other one goes on from what helped: further in the same direction, or two changes
that helped, together. With `search = "optuna"` a sampler of Optuna's chooses instead (`engine.proposers.sweep_optuna`). The
same seed and the same history give the same proposals.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.proposers import sweep_optuna
from engine.proposers.base import Desk, ProposerError, Reply, Tried
from engine.proposers.constants import Site, Value, others, scaled, sites, turned, written
from engine.proposers.stream import Said, Written
from engine.proposers.writing import Header, Unwritable, as_reply
from engine.reply import Refused
from engine.types import Category, Verdict

EXPLORE = 6
OPTUNA_MISSES = 5  # of one constant: its values are used up then
MISSES = 200  # draws in a row that brought nothing new, after which there is nothing left to draw
_TURN = re.compile(r"(\S+?):(\S+) from (\S+) to (\S+?)(?=;|$)")
_KINDS = (
    (re.compile(r"lr|rate|beta|momentum|eps|adam|sgd|optim|clip", re.I), Category.OPTIMIZER),
    (re.compile(r"warm|decay_|schedule|cool|anneal|final", re.I), Category.SCHEDULE),
    (re.compile(r"init|std|gain", re.I), Category.INITIALISATION),
    (re.compile(r"drop|decay|smooth|noise", re.I), Category.REGULARISATION),
    (re.compile(r"weight|mix|min_|max_|share|source|select", re.I), Category.DATA_MIX),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One constant turned: from one text to another."""

    path: str
    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.path}:{self.name} from {self.old} to {self.new}"


Chosen = list[tuple[Turn, Site, Value]]


class Sweep:
    """Draws turns of constants."""

    name = "sweep"
    unasked = True

    def __init__(self, seed: int, search: str = "random") -> None:
        self.seed = seed
        self.search = search

    async def propose(self, desk: Desk) -> AsyncIterator[Said]:
        """Replies, one after the other, until nothing new can be drawn. Raises ProposerError where Optuna is missing."""
        if self.search == "optuna" and not sweep_optuna.is_installed():
            raise ProposerError(sweep_optuna.MISSING)
        files = await desk.files()
        past = list(await desk.tried())
        while True:
            reply = await asyncio.to_thread(draw, files, tuple(past), self.seed, self.search)  # Optuna takes its time
            if reply is None:
                return
            past.append(Tried(reply[0], None, None))
            yield Written(Reply(reply[1], f"sweep, seed {self.seed}, draw {len(past)}", self.name))


def draw(
    files: Mapping[str, bytes], past: Sequence[Tried], seed: int, search: str = "random"
) -> tuple[str, str] | None:
    """(mechanism, reply) of the next proposal after these; None when there is none left that is new."""
    places = {(site.path, site.name): site for path, data in sorted(files.items()) for site in sites(path, data)}
    if not places:
        return None
    known = {frozenset(map(str, turns_in(each.mechanism))) for each in past}
    for chosen, how in _choices(places, past, seed, search):
        if any(turn.old == turn.new for turn, _, _ in chosen) or frozenset(str(turn) for turn, _, _ in chosen) in known:
            continue
        try:
            return _reply(files, chosen, how)
        except (Unwritable, Refused):
            continue
    return None


def _choices(
    places: Mapping[tuple[str, str], Site], past: Sequence[Tried], seed: int, search: str
) -> Iterator[tuple[Chosen, str]]:
    """What might be proposed next, and how it was drawn; the first that is new is taken."""
    if search == "optuna":
        yield from _by_optuna(places, past, seed)
        return
    chance = random.Random(f"{seed}:{len(past)}")
    for _ in range(MISSES):
        found = _from_what_helped(past, places, chance) if len(past) >= EXPLORE and chance.random() < 0.5 else None
        yield found or [_random(list(places.values()), chance)], "from what helped" if found else "at random"


def _by_optuna(
    places: Mapping[tuple[str, str], Site], past: Sequence[Tried], seed: int
) -> Iterator[tuple[Chosen, str]]:
    named = {f"{path}:{name}": site for (path, name), site in places.items()}
    turned_before = []
    for each in past:
        turns = turns_in(each.mechanism)
        site = named.get(f"{turns[0].path}:{turns[0].name}") if len(turns) == 1 else None
        value = _read(site, turns[0].new) if site else None
        if site is not None and value is not None:
            turned_before.append((f"{site.path}:{site.name}", value, each))
    missed: Counter[str] = Counter()
    while named:
        site, value = sweep_optuna.suggest(named, turned_before, seed, len(past), missed.total())
        yield [_turn(site, value)], "by Optuna"
        name = f"{site.path}:{site.name}"  # whoever asks for another had this one before
        missed[name] += 1
        if missed[name] >= (1 if site.choices or isinstance(site.value, bool) else OPTUNA_MISSES):
            del named[name]


def _random(places: list[Site], chance: random.Random) -> tuple[Turn, Site, Value]:
    site = chance.choice(places)
    return _turn(site, others(site, chance))


def _turn(site: Site, value: Value) -> tuple[Turn, Site, Value]:
    # as text, so that it can be read back out of the history; a string is quoted for the reader only in the diff
    old, new = (str(each) if isinstance(each, str) else written(each, site.style, b"") for each in (site.value, value))
    return Turn(site.path, site.name, old, new), site, value


def _from_what_helped(
    past: Sequence[Tried], places: Mapping[tuple[str, str], Site], chance: random.Random
) -> Chosen | None:
    """Further in a direction that helped, or two things that helped at once; None when nothing has."""
    helped = [
        each
        for each in past
        if each.effect is not None and each.effect > 0 and each.verdict not in (Verdict.HARMFUL, Verdict.BROKEN)
    ]
    weights = [float(each.effect or 0.0) for each in helped]
    if not helped:
        return None
    turns = [
        turn for turn in turns_in(chance.choices(helped, weights)[0].mechanism) if (turn.path, turn.name) in places
    ]
    if chance.random() < 0.5 and len(helped) > 1:
        both = {(turn.path, turn.name): turn for each in chance.sample(helped, 2) for turn in turns_in(each.mechanism)}
        again = [_again(places[key], turn.new) for key, turn in both.items() if key in places]
        return [each for each in again if each is not None] or None
    further = [_further(places[turn.path, turn.name], turn, chance) for turn in turns]
    return [each for each in further if each is not None] or None


def _again(site: Site, text: str) -> tuple[Turn, Site, Value] | None:
    value = _read(site, text)
    return None if value is None else _turn(site, value)


def _further(site: Site, turn: Turn, chance: random.Random) -> tuple[Turn, Site, Value] | None:
    old, new = _read(site, turn.old), _read(site, turn.new)
    if isinstance(old, bool | str | None) or isinstance(new, bool | str | None) or not old or not new:
        return _again(site, turn.new)
    up = abs(new) > abs(old) if not 0.8 <= float(old) < 1.0 else new < old
    return _turn(site, scaled(new, chance.choice((1.4, 2.0) if up else (0.5, 0.7)), chance))


def _read(site: Site, text: str) -> Value | None:
    """A value out of the history, as the kind that the place holds."""
    try:
        if isinstance(site.value, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(site.value, str):
            return text if text in site.choices else None
        return int(text) if isinstance(site.value, int) else float(text)
    except (ValueError, KeyError):
        return None


def turns_in(mechanism: str) -> tuple[Turn, ...]:
    """The turns that a mechanism names, as `draw` wrote them."""
    return tuple(Turn(*found.groups()) for found in _TURN.finditer(mechanism))


def _reply(files: Mapping[str, bytes], chosen: Chosen, how: str) -> tuple[str, str]:
    before: dict[str, bytes | None] = {}
    after: dict[str, bytes | None] = {}
    for _, site, value in sorted(chosen, key=lambda each: -each[1].start):  # from the end, so that offsets still hold
        before[site.path] = files[site.path]
        after[site.path] = turned(after.get(site.path) or files[site.path], site, value)
    turns = [turn for turn, _, _ in chosen]
    mechanism = f"a sweep without a model, drawn {how}: {'; '.join(map(str, turns))}"
    what = " and ".join(f"{turn.name.rpartition('.')[2]} {turn.new} instead of {turn.old}" for turn in turns)
    category = next((kind for rule, kind in _KINDS if rule.search(turns[0].name)), Category.ARCHITECTURE)
    header = Header(f"Sweep: {what}", category, mechanism, "none: it was not reasoned about")
    return mechanism, as_reply(header, before, after)
