"""What past merges claimed beside what the trunk has gained by them: four fresh pairs after every five. Pure.

Each merge was borne out by itself, and their sum can still be too large: what was signed was picked, and two changes may do
the same thing. So the trunk of five merges ago and the trunk after them run on seeds that nobody has seen, behind the first
pairs of open experiments. It bars nothing: what is in the trunk is there. A sum that lies above all that was measured is a
finding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from engine import events as e
from engine import smoke
from engine.found import next_finding
from engine.halfway import Measures, pairing_of
from engine.judge.bases import Basis, ratios, time_spread
from engine.judge.fresh import AUDIT_PAIRS, audit, audit_due, fresh_seeds
from engine.judge.noise import LEAST_CALIBRATION, Noise, noise, sigma_so_far
from engine.judge.pairs import Pair, failures, pair, voided
from engine.judge.words import Words, how_many
from engine.lab import Lab
from engine.racing import facts, kappa_of, latest, runs_again
from engine.seeds import taken
from engine.shortlist import expected_gain, noise_of
from engine.smoke import Stand
from engine.state import State
from engine.types import AuditState, Claim, ClaimRow, ExperimentRow, Severity, ShardRow, ShardState

RESERVED = 2 * AUDIT_PAIRS
"""Seeds set aside for one audit: more than it needs, since the old trunk may fail on some."""

PATIENCE = 8
"""So many shards of others start before one of an audit that has room for none goes ahead of them all: it comes to its end."""

OVERCLAIMED, BROKE = "over-claimed", "trunk-broke"
"""Rules of what an audit finds."""


# --- when, and of what -------------------------------------------------------------------------------------------------


def due(state: State, lab: Lab, setup: str) -> e.AuditIntended | None:
    """The audit that is to begin now; None while one runs, and before enough was merged since the last one. One that came to
    nothing is tried again with the next merge, or at once where runs are made in another way since."""
    if state.auditing or state.merges or state.pull is not None or not audit_due(since(state), lab.judge.audit):
        return None
    last = next(reversed(state.audit_plans.values()), None)
    if last is not None and last.upto == len(state.merged) and last.setup == setup:
        return None
    merged = state.merged[state.audited :]
    rows = [state.experiments[name] for name, _ in merged]
    then, now = merged[0][1], state.trunk_arm
    arms = [row["id"] for row in state.experiments.values() if row["role"] == "trunk"]
    return e.AuditIntended(
        audit=f"a{len(state.audits) + 1:04d}",
        then=then,
        now=now,
        rung=rung_of(lab, rows),
        setup=setup,
        seeds=list(fresh_seeds(taken(state, lab), RESERVED)),
        claims=[dict(claim_of(row)) for row in rows],
        upto=len(state.merged),
        moves=arms.index(now) - arms.index(then) - len(merged),
    )


def since(state: State) -> int:
    """How many merges no audit has covered."""
    return len(state.merged) - state.audited


def claim_of(row: ExperimentRow) -> ClaimRow:
    """What a merge claims to have gained: its headline; where no fresh pairs ran, its verdict's gain after allowing for luck.
    A speed-up claims no lower loss and a simplification no gain, so they claim nothing; nor does what was signed without."""
    off, verdict = row.get("signoff"), row["verdict"]
    if off is not None and off["state"] == "confirmed" and off["mean"] is not None:
        return ClaimRow(experiment=row["id"], claimed=off["mean"], within=_half(off["lo"], off["hi"]), by="headline")
    gains = row.get("claims", Claim.GAIN) == Claim.GAIN and verdict is not None and verdict["verdict"] == "solid"
    shrunk = expected_gain(row) if gains else None
    if shrunk is None or verdict is None:
        return ClaimRow(experiment=row["id"], claimed=0.0, within=0.0, by="nothing")
    return ClaimRow(experiment=row["id"], claimed=shrunk, within=_half(verdict["lo"], verdict["hi"]), by="shrunk")


def _half(lo: float | None, hi: float | None) -> float:
    return 0.0 if lo is None or hi is None else (hi - lo) / 2


def rung_of(lab: Lab, rows: Sequence[ExperimentRow]) -> str:
    """The rung at which most of the merges were judged, the later one of two."""
    known = {rung.name for rung in lab.rungs}
    at = [row["verdict"]["rung"] if row["verdict"] else row["rung"] for row in reversed(rows)]
    at = [rung for rung in at if rung in known]
    return Counter(at).most_common(1)[0][0] if at else lab.climb[-1]


# --- what runs ---------------------------------------------------------------------------------------------------------


def shards(state: State, lab: Lab, setup: str) -> list[tuple[str, int, str, int]]:
    """(arm, seed, rung, attempt) of every shard that the audit still wants, in the order of its seeds."""
    plan = running(state)
    if plan is None or plan.setup != setup or smoke.stand(state, lab, plan.now, setup) is not Stand.PASSED:
        return []
    found = []
    for seed in _seeds_now(state, plan):
        for arm in (plan.then, plan.now):
            shard = latest(state, arm, plan.rung, setup, fresh=True).get(seed)
            if shard is None or _again(state, shard, setup):
                tries = sum(row["seed"] == seed and row["rung"] == plan.rung for row in state.shards_of(arm))
                found.append((arm, seed, plan.rung, tries + 1))
    return found


def standing(state: State, lab: Lab) -> dict[str, Any]:
    """How it stands with audits, for a person who looks at the trunk: the latest one, and how far the next one is off."""
    last = next(reversed(state.audits.values()), None)
    return {"every": lab.judge.audit, "since": since(state), "last": None if last is None else dict(last)}


def running(state: State) -> e.AuditIntended | None:
    """The audit that has not come to its end."""
    return state.audit_plans.get(state.auditing)


def wants(state: State, shard: str) -> bool:
    """Whether a fresh shard still says something to an audit."""
    plan, row = running(state), state.shards[shard]
    return plan is not None and row["seed"] in plan.seeds and row["experiment"] in (plan.then, plan.now)


def has_waited(state: State) -> bool:
    """Whether so many shards of others have started since the audit's last one that its next goes first."""
    if not state.auditing or len(state.shards) - state.audit_from < PATIENCE:
        return False
    return not any(wants(state, name) for name in islice(reversed(state.shards), PATIENCE))


def _seeds_now(state: State, plan: e.AuditIntended) -> list[int]:
    return _good(state, plan)[:AUDIT_PAIRS]


def _good(state: State, plan: e.AuditIntended) -> list[int]:
    """Its seeds on which the trunk of then is not known to fail."""
    void = voided(facts(state, plan.then, plan.rung, plan.setup, fresh=True))
    return [seed for seed in plan.seeds if seed not in void]


def _again(state: State, shard: ShardRow, setup: str) -> bool:
    counted = [each for each in state.shards_of(shard["experiment"]) if each["id"] not in state.set_aside]
    return runs_again(state, shard, counted, setup)


# --- what it says ------------------------------------------------------------------------------------------------------


def evidence(state: State, lab: Lab, setup: str, *, ready: bool) -> Iterator[e.AuditEnded | e.FindingNoted]:
    """The end of the audit, where it has come; and what one that has ended found, where that is not on record. `ready` when
    the present `setup` is known."""
    plan = running(state)
    if plan is not None:
        said = _said(state, lab, plan, setup, ready=ready)
        if said is not None:
            yield said
        return
    yield from _finding(state)


def _said(state: State, lab: Lab, plan: e.AuditIntended, setup: str, *, ready: bool) -> e.AuditEnded | None:
    then, now = (facts(state, arm, plan.rung, plan.setup, fresh=True) for arm in (plan.then, plan.now))
    pairs = [each for each in pair(then, now, lab.metric.direction) if each.seed in plan.seeds]
    broke = [each for each in failures(then, now) if each.seed in then and each.seed in plan.seeds]
    if broke:
        why = f"{plan.now} {broke[0].outcome} on fresh seed {broke[0].seed}, on which {plan.then} finished"
        return _ended(plan, AuditState.BROKE, why, pairs)
    why_void = _void(state, lab, plan, setup, ready=ready)
    if why_void is not None:
        return _ended(plan, AuditState.VOID, f"came to nothing: {why_void}", pairs)
    if len(pairs) < AUDIT_PAIRS:
        return None
    pairs = pairs[:AUDIT_PAIRS]
    spread = _noise(state, plan, [each.seed for each in pairs])
    if spread is None:
        return _ended(plan, AuditState.VOID, f"came to nothing: the noise of {plan.then} is not known", pairs)
    return _weighed(state, lab, plan, pairs, spread)


def _weighed(state: State, lab: Lab, plan: e.AuditIntended, pairs: Sequence[Pair], spread: Noise) -> e.AuditEnded:
    """Claimed beside audited, both at equal cost, as headlines are."""
    shift = _basis(state, lab, plan).shift
    differences = [each.difference - (shift or 0.0) for each in pairs]
    within = [each["within"] for each in plan.claims]
    found = audit([each["claimed"] for each in plan.claims], differences, spread, within=within)
    words = Words(lab.metric.unit, 4)
    interval = f"[{words.signed(found.lo)}, {words.signed(found.hi)}]"
    verdict = "more was claimed than was gained" if found.overclaimed else "what was claimed holds"
    parts = [
        f"{how_many(len(plan.claims), 'merge')} claimed {words.amount(found.claimed)}, known to {found.within:.4f}; on "
        f"{how_many(len(pairs), 'fresh seed')} {plan.now} is {words.amount(found.audited)} {interval} better than "
        f"{plan.then}: {verdict}",
        *(["the two do not cost the same, and what that is worth is not known"] if shift is None else []),
        *([f"the trunk was moved in {how_many(plan.moves, 'other way')} between the two"] if plan.moves else []),
    ]
    return e.AuditEnded(
        audit=plan.audit,
        state=AuditState.OVERCLAIMED if found.overclaimed else AuditState.HELD,
        claimed=found.claimed,
        audited=found.audited,
        lo=found.lo,
        hi=found.hi,
        sentence="; ".join(parts),
        pairs=[dict(each.row()) for each in pairs],
    )


def _ended(plan: e.AuditIntended, state: AuditState, sentence: str, pairs: Sequence[Pair]) -> e.AuditEnded:
    """An end without an interval."""
    claimed = sum(each["claimed"] for each in plan.claims)
    return e.AuditEnded(plan.audit, state, claimed, None, None, None, sentence, [dict(each.row()) for each in pairs])


def _void(state: State, lab: Lab, plan: e.AuditIntended, setup: str, *, ready: bool) -> str | None:
    """Why the audit can no longer say anything; None while it can."""
    if not lab.judge.audit:
        return "cockpit.toml asks for no audits any more"
    if plan.rung not in {rung.name for rung in lab.rungs}:
        return f"cockpit.toml no longer has its rung {plan.rung}"
    if ready and setup != plan.setup:
        return "how runs are made and measured has changed since it began"
    wanted = _seeds_now(state, plan)
    for arm in (plan.then, plan.now):
        for seed, shard in latest(state, arm, plan.rung, plan.setup, fresh=True).items():
            if seed in wanted and _is_lost(state, shard, plan.setup):
                return f"{shard['id']} was {shard['outcome']} and is not run again"
    good = _good(state, plan)
    if len(good) < AUDIT_PAIRS:
        return f"{plan.then} fails on {len(plan.seeds) - len(good)} of {len(plan.seeds)} fresh seeds"
    return None


def _is_lost(state: State, shard: ShardRow, setup: str) -> bool:
    """Whether a shard has ended, says nothing about its code, and does not run again."""
    if shard["state"] != ShardState.ENDED or shard["outcome"] is None:
        return False
    fact = facts(state, shard["experiment"], shard["rung"], setup, fresh=True)[shard["seed"]]
    return not fact.counts and fact.fault is None and not _again(state, shard, setup)


def _finding(state: State) -> Iterator[e.FindingNoted]:
    """What the last audit found, once. It is about the trunk, so it stands in nobody's way."""
    row = next(reversed(state.audits.values()), None)
    if row is None or row["state"] not in (AuditState.OVERCLAIMED, AuditState.BROKE):
        return
    rule = OVERCLAIMED if row["state"] == AuditState.OVERCLAIMED else BROKE
    if (row["now"], rule, row["sentence"]) in state.noted:
        return
    numbers = {name: row[name] for name in ("claimed", "within", "audited", "lo", "hi")}
    yield e.FindingNoted(
        finding=next_finding(state),
        about=row["now"],
        rule=rule,
        severity=Severity.WARNING,
        sentence=row["sentence"],
        place=f"the trunk, from {row['then']} to {row['now']}",
        evidence={name: float(value) for name, value in numbers.items() if value is not None},
    )


# --- what it is weighed against ----------------------------------------------------------------------------------------


def _basis(state: State, lab: Lab, plan: e.AuditIntended) -> Basis:
    """How trunk then and trunk now compare in cost, by their fresh runs, and what that is worth as far as it is known."""
    then, now = (_measures(state, arm, plan) for arm in (plan.then, plan.now))
    worth = kappa_of(state, lab, plan.then, plan.rung, plan.setup)
    worth = kappa_of(state, lab, plan.now, plan.rung, plan.setup) if worth is None else worth
    return Basis(lab.compare, ratios(then, now), worth, {"time": time_spread(then.values())})


def _measures(state: State, arm: str, plan: e.AuditIntended) -> dict[int, Measures]:
    found = latest(state, arm, plan.rung, plan.setup, fresh=True)
    return {seed: each for seed, shard in found.items() if (each := state.measures.get(shard["id"])) is not None}


def _noise(state: State, plan: e.AuditIntended, seeds: Sequence[int]) -> Noise | None:
    """The noise of a pair of trunk then and trunk now: the trunk's spread, and what experiments of the class that these pairs
    were measured to be of have shown. Where neither trunk ran for itself, that of the latest verdict that was merged."""
    alike = pairing_of(_measures(state, plan.then, plan), _measures(state, plan.now, plan), seeds)
    for arm in (plan.then, plan.now):
        sigma = _sigma(state, arm, plan)
        if sigma is not None:
            pool = state.race.pool(plan.rung, plan.setup, alike, sigma, lambda name: _ran(state, name, plan))
            return noise(sigma, pool)
    for claim in reversed(plan.claims):
        verdict = state.experiments[claim["experiment"]]["verdict"]
        if verdict is not None and verdict["se"] and (found := noise_of(verdict)).scale > 0:
            return found
    return None


def _sigma(state: State, arm: str, plan: e.AuditIntended) -> float | None:
    ran: Mapping[int, Any] = facts(state, arm, plan.rung, plan.setup)
    losses = [fact.metric for fact in ran.values() if fact.counts]
    return sigma_so_far(losses) if len(losses) >= LEAST_CALIBRATION and max(losses) > min(losses) else None


def _ran(state: State, experiment: str, plan: e.AuditIntended) -> bool:
    shards_of = state.shards_of(experiment)
    return any(row["rung"] == plan.rung and state.setups[row["id"]] == plan.setup for row in shards_of)
