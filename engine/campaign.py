"""What to do next: a pure function from what is to the steps that the engine should take. No I/O, no clock.

Experiments are raced a few at a time (as many as there are slots), breadth first by seed, so that one that breaks on its
first seed costs one shard. The trunk runs the same seeds; a difference is only ever taken between shards of one seed, one rung
and one setup (how they were run and measured). Smokes (`engine.smoke`) come before everything else: they take seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from engine import canaries, confirming, full_run, lengths, past_merges, retuning, smoke
from engine import events as e
from engine.field import OPEN, is_open
from engine.found import worded
from engine.judge.pairs import pair, voided
from engine.lab import Lab
from engine.racing import facts, first_seeds, judgement, latest, runs_again, seconds, seeds_wanted
from engine.smoke import Stand
from engine.state import State
from engine.types import HALF, SMOKE, ExperimentRow, ExperimentState, Outcome, ShardRow, ShardState, Verdict


@dataclass(frozen=True, slots=True)
class Branch:
    """Make the branch of an approved experiment."""

    experiment: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Start one shard in a slot."""

    experiment: str
    seed: int
    rung: str
    attempt: int
    slot: int
    smoke: bool = False
    fresh: bool = False
    canary: bool = False
    retune: str = ""

    @property
    def shard(self) -> str:
        return f"{self.experiment}.{self.rung}.s{self.seed}.a{self.attempt}"


@dataclass(frozen=True, slots=True)
class Record:
    """Nothing to do but to write down what follows from the evidence: a verdict, a rung reached, a finding."""

    event: (
        e.VerdictReached
        | e.RungReached
        | e.FindingNoted
        | e.HeadlineReached
        | e.SignWithdrawn
        | e.AuditIntended
        | e.AuditEnded
        | e.RetuneTuned
        | e.RetuneEnded
    )


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a running shard that can no longer change anything: its experiment is decided."""

    shard: str


Step = Branch | Launch | Record | Cancel


def setup_of(lab: Lab, data: str = "") -> str:
    """Hash of everything that a measurement depends on beside the code and the seed: the lab file's part, and `data`, the
    key of the data that shards read."""
    parts = {
        "data": data,
        "python": lab.python,
        "command": lab.command,
        "env": dict(lab.env),
        "prepare": lab.prepare and lab.prepare.command,
        "score": lab.score and (lab.score.command or str(lab.score.referee)),
        "metric": [lab.metric.name, lab.metric.direction, lab.metric.source, lab.metric.pattern],
        "rungs": [[rung.name, rung.budget, sorted(rung.params.items())] for rung in lab.rungs],
        "threads": lab.threads,
        "ranks": lab.ranks,
        **(
            {"nodes": lab.nodes} if lab.nodes > 1 else {}
        ),  # sums over ranks are taken in another order, and at another speed
        "compare": lab.compare,
        **(
            {"evaluate": [[each.name, each.command, each.direction] for each in lab.evaluations]}
            if lab.evaluations
            else {}
        ),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def plan(state: State, lab: Lab, slots: int, *, setup: str | None = None, launching: bool = True) -> list[Step]:
    """The steps wanted now, in order. `slots` is how many shards may run at once; `launching` false starts none; only
    shards of the present `setup` count."""
    setup = setup_of(lab) if setup is None else setup
    steps: list[Step] = [Branch(row["id"]) for row in _open(state) if row["commit"] is None]
    steps += [Branch(name) for name in state.signoffs if state.experiments[name]["commit"] is None]
    steps += [Record(event) for event in canaries.findings(state, lab, setup)]
    for row in _placed(state, lab):
        steps += [Record(event) for event in evidence(state, lab, row, setup)]
    steps += [Record(event) for event in confirming.evidence(state, lab, setup, ready=launching)]
    steps += [Record(event) for event in past_merges.evidence(state, lab, setup, ready=launching)]
    if launching and (audit := past_merges.due(state, lab, setup)) is not None:
        steps.append(Record(audit))
    steps += [Record(event) for event in retuning.evidence(state, lab, setup, ready=launching)]
    steps += [Cancel(shard) for shard in state.live if pointless(state, shard)]
    if launching and state.paused is None and not any(isinstance(step, Record) for step in steps):
        steps += _launches(state, lab, slots, setup)
    return steps


def pointless(state: State, shard: str) -> bool:
    """Whether a shard can no longer change anything: its experiment is decided, or stopped."""
    row = state.experiments[state.shards[shard]["experiment"]]
    if state.shards[shard].get("fresh"):
        return not (confirming.wants(state, shard) or past_merges.wants(state, shard))
    if state.shards[shard].get("retune"):
        return not retuning.wants(state, shard)
    return row["role"] == "experiment" and row["state"] not in OPEN


def active(state: State, lab: Lab, slots: int, setup: str) -> list[ExperimentRow]:
    """The experiments that get shards now: the oldest open ones, as many as there are slots. Those whose trunk fails on
    every seed can get none, and do not hold a place."""
    ready = [row for row in _placed(state, lab) if row["commit"] is not None and row["baseline"]]
    able = [row for row in ready if not _trunk_fails(state, lab, row, setup)]
    able.sort(key=lambda row: not row.get("retest"))  # what was solid on the trunk before comes first
    return [row for row in able if row["state"] in OPEN or _wants(state, lab, row, setup)][: max(1, slots)]


def _wants(state: State, lab: Lab, row: ExperimentRow, setup: str) -> bool:
    """Whether an undecided experiment could learn more: from its smoke or a seed of its own, or one of its trunk."""
    if smoke.stand(state, lab, row["id"], setup) in (Stand.WANTED, Stand.RUNNING):
        return True
    return any(_wanted(state, lab, arm, row["rung"], setup) for arm in (row["id"], str(row["baseline"])))


def _trunk_fails(state: State, lab: Lab, row: ExperimentRow, setup: str) -> bool:
    if smoke.stand(state, lab, str(row["baseline"]), setup) in (Stand.FAILED, Stand.OUT):
        return True
    return set(first_seeds(lab)) <= set(voided(facts(state, str(row["baseline"]), row["rung"], setup)))


def may_launch(state: State, experiment: str) -> bool:
    """Whether shards of this arm may start: asked again right before each launch, since a plan takes time to carry out."""
    row = state.experiments[experiment]
    asked = experiment in state.signoffs or experiment in state.retuning
    return state.paused is None and (row["role"] == "trunk" or is_open(row) or asked)


def stranded(state: State, lab: Lab) -> list[ExperimentRow]:
    """Open experiments at a rung that the lab file no longer has: nothing can run for them."""
    names = {rung.name for rung in lab.rungs}
    return [row for row in _open(state) if row["rung"] not in names]


def _placed(state: State, lab: Lab) -> list[ExperimentRow]:
    names = {rung.name for rung in lab.rungs}
    return [row for row in _open(state) if row["rung"] in names]


def _open(state: State) -> list[ExperimentRow]:
    return [state.experiments[name] for name in state.race.racing()]


# --- evidence ----------------------------------------------------------------------------------------------------------


def evidence(state: State, lab: Lab, row: ExperimentRow, setup: str) -> Iterator[e.VerdictReached | e.RungReached]:
    """The verdict that the evidence so far supports, when it differs from the one on record, and what follows from it."""
    if row["commit"] is None or row["baseline"] is None:
        return
    early = smoke.verdict(state, lab, row, setup)
    if early is not None:
        if _is_news(row, early):
            yield early
        return
    theirs, mine = (facts(state, arm, row["rung"], setup) for arm in (row["baseline"], row["id"]))
    said = judgement(state, lab, row, setup, theirs, mine)
    if not mine and said.verdict is Verdict.UNDECIDED:
        return  # before any result only a run that is far behind half-way says something
    pairs = pair(theirs, mine, lab.metric.direction)
    exhausted = not any(_wanted(state, lab, each, row["rung"], setup) for each in (row["id"], row["baseline"]))
    exhausted = exhausted and not any(
        shard["state"] != ShardState.ENDED
        for each in (row["id"], row["baseline"])
        for shard in latest(state, each, row["rung"], setup).values()
    )
    exhausted = exhausted and not lengths.pending(state, lab, row, setup)
    final = said.verdict is not Verdict.UNDECIDED or exhausted
    higher = _next_rung(lab, row["rung"])
    climbs = final and said.verdict is Verdict.SOLID and higher is not None and not row.get("barred")
    event = e.VerdictReached(
        experiment=row["id"],
        rung=row["rung"],
        verdict=said.verdict,
        effect=said.effect,
        lo=said.lo,
        hi=said.hi,
        se=said.se,
        n=said.n,
        sentence=said.sentence,
        pairs=[dict(each.row()) for each in pairs],
        baseline=row["baseline"],
        final=final and not climbs,
        evidence=said.evidence,
        bar=said.bar,
        sigma=said.sigma,
        mode=said.mode,
        shrunk=said.shrunk,
        seconds=seconds(state, row["id"]),
        pairing=said.pairing,
        bases=said.bases,
    )
    if _is_news(row, event):
        yield event
    if climbs and higher is not None:
        yield e.RungReached(row["id"], higher)


def _is_news(row: ExperimentRow, event: e.VerdictReached) -> bool:
    """Whether a verdict differs from the one on record, or ends what is still open."""
    old = row["verdict"]
    same = old is not None and (worded(old["verdict"], None), old["rung"], old["n"], old["sentence"]) == (
        event.verdict,
        event.rung,
        event.n,
        event.sentence,
    )
    return not same or (event.final and row["state"] != ExperimentState.JUDGED)


def _next_rung(lab: Lab, rung: str) -> str | None:
    climb = list(lab.climb)
    at = climb.index(rung) if rung in climb else -1
    return climb[at + 1] if 0 <= at < len(climb) - 1 else None


# --- launches ----------------------------------------------------------------------------------------------------------


def _launches(state: State, lab: Lab, slots: int, setup: str) -> Iterator[Launch]:
    free = _Places(state, lab, slots)
    for arm in _smokes(state, lab, slots, setup):
        slot = free.take(SMOKE)
        if slot is None:
            break
        yield Launch(arm, lab.seeds[0], SMOKE, smoke.next_attempt(state, lab, arm), slot, smoke=True)
    for arm, seed, rung, attempt in confirming.shards(state, lab, setup):
        slot = free.take(rung)
        if slot is not None:
            yield Launch(arm, seed, rung, attempt, slot, fresh=True)
        elif free.full:
            return
    again = canaries.due(state, lab, setup)
    if again is not None and (slot := free.take(again[1])) is not None:
        seed, rung, attempt = again
        yield Launch(state.trunk_arm, seed, rung, attempt, slot, canary=True)
    for arm, seed, attempt in lengths.wanted(state, lab, setup):
        slot = free.take(HALF)
        if slot is None:
            break
        yield Launch(arm, seed, HALF, attempt, slot)
    for arm, seed, rung, attempt, asked in retuning.shards(state, lab, setup):
        slot = free.take(rung)
        if slot is not None:
            yield Launch(arm, seed, rung, attempt, slot, retune=asked)
        elif free.full:
            return
    first: list[tuple[str, int, str, int, bool]] = []
    later: list[tuple[str, int, str, int, bool]] = []
    for place, arm, seed, rung, attempt in _queue(state, lab, slots, setup):
        (later if place else first).append((arm, seed, rung, attempt, False))
    audit = [(arm, seed, rung, attempt, True) for arm, seed, rung, attempt in past_merges.shards(state, lab, setup)]
    full = [(arm, seed, rung, attempt, False) for arm, seed, rung, attempt in full_run.wanted(state, lab, setup)]
    ahead = 1 if past_merges.has_waited(state) else 0
    for arm, seed, rung, attempt, fresh in [*audit[:ahead], *first, *full, *audit[ahead:], *later]:
        slot = free.take(rung)
        if slot is not None:
            yield Launch(arm, seed, rung, attempt, slot, fresh=fresh)
        elif free.full:
            return


class _Places:
    """What there is room for: so many shards in slots, and so many beside them. One that is scored is so in a slot."""

    def __init__(self, state: State, lab: Lab, slots: int) -> None:
        live = [state.shards[shard] for shard in state.live]
        within = [row for row in live if not lab.apart(row["rung"]) or row["state"] == ShardState.SCORING]
        used = {row["slot"] for row in within}
        left = max(0, slots - len(within))  # shards of a time with more slots may still run
        self._lab = lab
        self._free = [slot for slot in range(slots) if slot not in used][:left]
        self._beside = list(range(slots, slots + max(0, lab.most_apart - len(live) + len(within))))

    def take(self, rung: str) -> int | None:
        """A place for a shard of that rung; None where there is none."""
        free = self._beside if self._lab.apart(rung) else self._free
        return free.pop(0) if free else None

    @property
    def full(self) -> bool:
        """Whether there is room for no shard of any rung."""
        return not self._free and not self._beside


def _smokes(state: State, lab: Lab, slots: int, setup: str) -> list[str]:
    """The arms that want a smoke, most wanted first: trunks, then experiments whose trunk has passed its own. Those that are
    raced have theirs, and as many more that come next: who is far down the queue must not hold up full runs."""
    if lab.smoke is None:
        return []
    stands: dict[str, Stand] = {}
    ready = active(state, lab, 2 * slots, setup)
    trunks = [state.trunk_arm, *(str(row["baseline"]) for row in ready)]
    for arm in dict.fromkeys(arm for arm in trunks if arm):
        stands[arm] = smoke.stand(state, lab, arm, setup)
    for row in ready:
        if stands[str(row["baseline"])] is Stand.PASSED:
            stands[row["id"]] = smoke.stand(state, lab, row["id"], setup)
    return [arm for arm, found in stands.items() if found is Stand.WANTED]


def _queue(state: State, lab: Lab, slots: int, setup: str) -> list[tuple[int, str, int, str, int]]:
    """(place of the seed, arm, seed, rung, attempt) of every shard that is wanted, most wanted first."""
    running = active(state, lab, slots, setup)
    arms: dict[tuple[str, str], int] = {}
    if state.trunk_arm:
        arms[state.trunk_arm, lab.climb[0]] = 0
    for row in running:
        if row["baseline"]:
            arms.setdefault((row["baseline"], row["rung"]), 0)
    arms.update({(row["id"], row["rung"]): order for order, row in enumerate(running, 1)})
    wanted = [
        (place, order, arm, seed, rung, attempt)
        for (arm, rung), order in arms.items()
        for place, seed, attempt in _wanted(state, lab, arm, rung, setup)
    ]
    return [(place, arm, seed, rung, attempt) for place, _, arm, seed, rung, attempt in sorted(wanted)]


def _wanted(state: State, lab: Lab, arm: str, rung: str, setup: str) -> list[tuple[int, int, int]]:
    """(place of the seed, seed, attempt) of the shards that this arm still needs at this rung."""
    row = state.experiments[arm]
    if any(smoke.stand(state, lab, each, setup) is not Stand.PASSED for each in (row["baseline"], arm) if each):
        return []
    shards = latest(state, arm, rung, setup)
    dead = set()
    if row["baseline"]:
        baseline = latest(state, row["baseline"], rung, setup)
        dead = {seed for seed, shard in baseline.items() if _own_fault(shard)}
        if dead and not all(seed in baseline and baseline[seed]["outcome"] for seed in first_seeds(lab)):
            return []  # the trunk may be broken: wait for all of it before spending more
    if row["role"] == "experiment" and any(_own_fault(shard) for seed, shard in shards.items() if seed not in dead):
        return []
    everyone = [shard for shard in state.shards_of(arm) if shard["rung"] == rung]
    counted = [shard for shard in everyone if shard["id"] not in state.set_aside]
    found = []
    for place, seed in enumerate(seeds_wanted(state, lab, arm, rung, setup)):
        shard = shards.get(seed)
        tries = sum(each["seed"] == seed for each in everyone)
        if seed not in dead and (shard is None or runs_again(state, shard, counted, setup)):
            found.append((place, seed, tries + 1))
    return found


def _own_fault(shard: ShardRow) -> bool:
    return shard["outcome"] is not None and Outcome(shard["outcome"]).own_fault
