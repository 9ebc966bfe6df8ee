"""`cockpit retune`: whether what an experiment won, or lost, is a matter of the learning rate. Pure, but for the asking itself.

The trunk's learning rate is not the experiment's. So both sides run the lab's bracket of rates (`[judge.retune]`) on tuning
seeds, each side's best is written down, and pairs on other seeds, which no run of the lab has used, compare the two there
(`engine.judge.retune`). All of it happens at rungs of its own (`engine.scales`): none of it enters a verdict, a baseline or a
headline, and a rate that diverges is no fault of the experiment's. The trunk's bracket is run once for all of its experiments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from engine import events as e
from engine.found import next_finding
from engine.judge.bases import worth_on_record
from engine.judge.fresh import fresh_seeds
from engine.judge.pairs import Pair, ShardFact, failures, pair, voided
from engine.judge.retune import Side, left, left_words, side, tuned_words
from engine.lab import Lab
from engine.racing import facts, latest, runs_again
from engine.scales import scaled, shown
from engine.seeds import taken
from engine.setups import setup_for
from engine.state import State
from engine.types import (
    ExperimentRow,
    ExperimentState,
    Outcome,
    Retuned,
    RetuneRow,
    Severity,
    ShardRow,
    ShardState,
    TriedRow,
    Verdict,
)

RULE = "learning-rate"
"""Rule of the finding that a solid experiment is matched by its trunk at another rate: it asks for a word before sign-off."""


def open_retunes(state: State) -> list[RetuneRow]:
    """Those that have not ended, oldest first."""
    return [state.retunes[name] for name in state.retuning.values()]


def seeds_for(state: State, lab: Lab, row: ExperimentRow, rung: str) -> tuple[list[int], list[int]]:
    """(tuning seeds, seeds for pairs) of a retuning. The former stay the same for a trunk, so that its bracket is run once; the
    latter are those of an earlier one that was withdrawn, so that asking again is no way to better luck, or never used."""
    bracket = lab.judge.retune
    assert bracket is not None
    alike = [each for each in state.retunes.values() if (each["baseline"], each["rung"]) == (row["baseline"], rung)]
    withdrawn = [each for each in alike if each["experiment"] == row["id"] and each["state"] == "withdrawn"]
    tuning = list(dict.fromkeys(seed for each in alike for seed in each["tuning"]))
    earlier = list(withdrawn[-1]["seeds"]) if withdrawn else []
    used = {*taken(state, lab), *tuning, *earlier}
    tuning = [*tuning, *fresh_seeds(used, max(0, bracket.seeds - len(tuning)))][: bracket.seeds]
    wanted = 2 * bracket.pairs  # more than are needed: the trunk may fail on some
    return tuning, [*earlier, *fresh_seeds({*used, *tuning}, max(0, wanted - len(earlier)))][:wanted]


# --- what runs ---------------------------------------------------------------------------------------------------------


def shards(state: State, lab: Lab, setup: str) -> list[tuple[str, int, str, int, str]]:
    """(arm, seed, rung, attempt, retuning) of every shard that is wanted, in the order in which they were asked for; the
    trunk's once, whoever wants them."""
    found: dict[tuple[str, int, str], tuple[int, str]] = {}
    for row in open_retunes(state):
        for arm, seed, rung in _missing(state, lab, row, setup):
            tries = sum((each["seed"], each["rung"]) == (seed, rung) for each in state.shards_of(arm))
            found.setdefault((arm, seed, rung), (tries + 1, row["id"]))
    return [(arm, seed, rung, attempt, asked) for (arm, seed, rung), (attempt, asked) in found.items()]


def wants(state: State, shard: str) -> bool:
    """Whether a shard at a scaled rate still says something to anybody."""
    row = state.shards[shard]
    return any(
        row["experiment"] in _arms(each)
        and row["rung"] in {scaled(each["rung"], factor) for factor in each["factors"]}
        and row["seed"] in (each["tuning"] if each["state"] == "tuning" else each["seeds"])
        for each in open_retunes(state)
    )


def _arms(row: RetuneRow) -> tuple[str, str]:
    return row["baseline"], row["experiment"]


def _at_best(row: RetuneRow) -> tuple[tuple[str, str], tuple[str, str]]:
    """(arm, rung) of both sides at their best rates."""
    trunk, mine = row["trunk_best"], row["best"]
    assert trunk is not None
    assert mine is not None
    return (row["baseline"], scaled(row["rung"], trunk)), (row["experiment"], scaled(row["rung"], mine))


def _facts(state: State, lab: Lab, arm: str, rung: str, setup: str) -> dict[int, ShardFact]:
    return facts(state, arm, rung, setup_for(setup, rung, lab))


def _missing(state: State, lab: Lab, row: RetuneRow, setup: str) -> Iterator[tuple[str, int, str]]:
    """(arm, seed, rung) of the shards that are to start: one seed of every rate before a second of any, so that a rate that
    fails costs one."""
    for seed, arm, rung in _wanted(state, lab, row, setup):
        shard = latest(state, arm, rung, setup_for(setup, rung, lab)).get(seed)
        if shard is None or _again(state, lab, shard, setup):
            yield arm, seed, rung


def _wanted(state: State, lab: Lab, row: RetuneRow, setup: str) -> Iterator[tuple[int, str, str]]:
    """(seed, arm, rung) of all that a retuning needs by now, whether it has run or not."""
    if row["state"] == "pairs":
        if row["trunk_best"] is None or row["best"] is None:
            return
        sides = _at_best(row)
        for seed in _good(state, lab, row, setup)[: row["wanted"]]:
            yield from ((seed, arm, rung) for arm, rung in sides)
        return
    tries = [(arm, scaled(row["rung"], factor)) for factor in row["factors"] for arm in _arms(row)]
    alive = [each for each in tries if not voided(_facts(state, lab, *each, setup))]
    for seed in row["tuning"]:
        yield from ((seed, arm, rung) for arm, rung in alive)


def _good(state: State, lab: Lab, row: RetuneRow, setup: str) -> list[int]:
    """The seeds for pairs on which the trunk is not known to fail."""
    (arm, rung), _ = _at_best(row)
    void = voided(_facts(state, lab, arm, rung, setup))
    return [seed for seed in row["seeds"] if seed not in void]


def _again(state: State, lab: Lab, shard: ShardRow, setup: str) -> bool:
    """Whether a shard that came to nothing runs once more; also one that was ended since nobody wanted it then."""
    if shard["outcome"] == Outcome.ENDED_EARLY:
        return True
    counted = [each for each in state.shards_of(shard["experiment"]) if each["id"] not in state.set_aside]
    return runs_again(state, shard, counted, setup_for(setup, shard["rung"], lab))


# --- what it says ------------------------------------------------------------------------------------------------------


def evidence(
    state: State, lab: Lab, setup: str, *, ready: bool
) -> Iterator[e.FindingNoted | e.RetuneTuned | e.RetuneEnded]:
    """What follows from the runs so far, of the first retuning of which something does; `ready` when the present `setup` is
    known. A finding comes before the end that it belongs to, so that no end is ever without it."""
    for row in open_retunes(state):
        why = _void(state, lab, row, setup, ready=ready)
        found = [e.RetuneEnded(row["id"], "", why)] if why is not None else list(_follows(state, lab, row))
        if found:
            yield from found
            return


def _follows(state: State, lab: Lab, row: RetuneRow) -> Iterator[e.FindingNoted | e.RetuneTuned | e.RetuneEnded]:
    setup = row["setup"]
    waits = any(not _is_settled(state, lab, *each, setup) for each in _wanted(state, lab, row, setup))
    if row["state"] == "tuning":
        if not waits:
            yield _tuned(state, lab, row)
        return
    if row["trunk_best"] is None or row["best"] is None:
        yield e.RetuneEnded(row["id"], Retuned.FAILED, f"{Retuned.FAILED}: {row['sentence']}")
        return
    sides = (_facts(state, lab, arm, rung, setup) for arm, rung in _at_best(row))
    trunk, mine = ({seed: fact for seed, fact in facts.items() if seed in row["seeds"]} for facts in sides)
    failed = [
        each for each in failures(trunk, mine) if each.seed in trunk
    ]  # the trunk has shown that it does not fail there
    pairs = pair(trunk, mine, lab.metric.direction)
    if failed:
        what = f"{failed[0].outcome} on seed {failed[0].seed} at {shown(row['best'])}x, where the trunk is not"
        pairs_so_far = [dict(each.row()) for each in pairs]
        said = f"{Retuned.FAILED}: {what} ({row['sentence']})"
        yield e.RetuneEnded(row["id"], Retuned.FAILED, said, n=len(pairs), pairs=pairs_so_far)
    elif not waits:
        yield from _ended(state, lab, row, pairs[: row["wanted"]])


def _is_settled(state: State, lab: Lab, seed: int, arm: str, rung: str, setup: str) -> bool:
    fact = _facts(state, lab, arm, rung, setup).get(seed)
    return fact is not None and (fact.counts or fact.fault is not None)


def _tuned(state: State, lab: Lab, row: RetuneRow) -> e.RetuneTuned:
    trunk, mine = (_side(state, lab, row, arm) for arm in _arms(row))
    tried = [
        dict(TriedRow(side=who, factor=factor, mean=mean))
        for who, found in (("trunk", trunk), ("experiment", mine))
        for factor, mean in found.means.items()
    ]
    best = None if trunk.flat else trunk.best  # a lab whose trunk takes no scale has no rate to explain anything by
    return e.RetuneTuned(row["id"], best, mine.best, tried, tuned_words(trunk, mine))


def _side(state: State, lab: Lab, row: RetuneRow, arm: str) -> Side:
    """One side over the bracket, on its tuning seeds alone."""
    runs: dict[float, Mapping[int, ShardFact]] = {}
    for factor in row["factors"]:
        known = _facts(state, lab, arm, scaled(row["rung"], factor), row["setup"])
        runs[factor] = {seed: fact for seed, fact in known.items() if seed in row["tuning"]}
    return side(runs, row["tuning"], lab.metric.direction)


def _as_tuned(row: RetuneRow, who: str, best: float | None) -> Side:
    """One side as it is on record."""
    return Side({each["factor"]: each["mean"] for each in row["tried"] if each["side"] == who}, best)


def _ended(state: State, lab: Lab, row: RetuneRow, pairs: Sequence[Pair]) -> Iterator[e.FindingNoted | e.RetuneEnded]:
    of = state.experiments[row["experiment"]]
    verdict = of["verdict"]
    assert verdict is not None
    solid = verdict["verdict"] in (Verdict.SOLID, Verdict.BARRED)
    shift = worth_on_record(verdict.get("bases"), (each["difference"] for each in of["pairs"]))  # for what it costs
    at_edge = _as_tuned(row, "trunk", row["trunk_best"]).at_edge
    found = left([each.difference - shift for each in pairs], solid, at_edge)
    sentence = left_words(found, row["sentence"], verdict["effect"], lab.metric.unit)
    if found.label is Retuned.EXPLAINED and (of["id"], RULE, sentence) not in state.noted:
        numbers = {"mean": found.mean, "lo": found.lo, "hi": found.hi, "pairs": float(found.n)}
        yield e.FindingNoted(next_finding(state), of["id"], RULE, Severity.ASKS, sentence, row["id"], numbers)
    shown_pairs = [dict(each.row()) for each in pairs]
    yield e.RetuneEnded(row["id"], found.label, sentence, found.mean, found.lo, found.hi, found.n, shown_pairs)


def _void(state: State, lab: Lab, row: RetuneRow, setup: str, *, ready: bool) -> str | None:
    """Why a retuning can say nothing any more, for no fault of the experiment; None while it can."""
    of = state.experiments[row["experiment"]]
    if row["baseline"] != state.trunk_arm:
        return f"the trunk moved while it ran against {row['baseline']}"
    if of["state"] != ExperimentState.JUDGED:
        return f"{of['id']} is {of['state']} by now"
    if row["rung"] not in {rung.name for rung in lab.rungs}:
        return f"cockpit.toml no longer has its rung {row['rung']}"
    if ready and setup != row["setup"]:
        return "how runs are made and measured has changed since it was asked for: ask again"
    for seed, arm, rung in _wanted(state, lab, row, row["setup"]):
        shard = latest(state, arm, rung, setup_for(row["setup"], rung, lab)).get(seed)
        if shard is not None and _is_lost(state, lab, shard, row["setup"]):
            return f"{shard['id']} was {shard['outcome']} and is not run again: ask again to have it tried once more"
    if row["state"] == "pairs" and row["trunk_best"] is not None and row["best"] is not None:
        good = _good(state, lab, row, row["setup"])
        if len(good) < row["wanted"]:
            return f"the trunk fails on {len(row['seeds']) - len(good)} of {len(row['seeds'])} seeds at its best rate"
    return None


def _is_lost(state: State, lab: Lab, shard: ShardRow, setup: str) -> bool:
    """Whether a shard has ended, says nothing about its code, and does not run again."""
    if shard["state"] != ShardState.ENDED or shard["outcome"] is None:
        return False
    fact = ShardFact(Outcome(shard["outcome"]), shard["metric"])
    return not fact.counts and fact.fault is None and not _again(state, lab, shard, setup)
