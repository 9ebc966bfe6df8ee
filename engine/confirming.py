"""Between a signature and its merge: pairs on seeds that no run of the lab has used, and what they say. Pure.

What was picked for looking good looks better than it is, and its own pairs with it. So a solid experiment that a person signs
first runs three pairs on fresh seeds, and up to eight while their interval is wider than their gain. They can veto the
signature; their mean is the headline. They stand in no verdict, and the verdict's own pairs are not among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine import events as e
from engine import further, lengths
from engine.found import open_findings
from engine.judge.bases import worth_on_record
from engine.judge.fresh import FEWEST, MOST, Headline, fresh_seeds, headline
from engine.judge.noise import Noise
from engine.judge.pairs import Pair, failures, pair, voided
from engine.judge.words import Words
from engine.lab import Lab
from engine.racing import basis, facts, latest, runs_again
from engine.seeds import taken
from engine.shortlist import noise_of
from engine.state import State
from engine.types import Claim, ExperimentRow, Severity, ShardRow, ShardState, Verdict

WEIGHING = "what it costs is being weighed"

RESERVED = 2 * MOST
"""Seeds set aside for one signature: more than the pairs that it can need, since the trunk may fail on some."""


def wanted_for(lab: Lab, row: ExperimentRow) -> bool:
    """Whether signing this experiment runs fresh pairs first: a gain has to be borne out; a harmless change, speed and less
    code claim none."""
    claims_gain = row.get("claims", Claim.GAIN) == Claim.GAIN
    verdict = row["verdict"]
    return lab.judge.fresh and claims_gain and verdict is not None and verdict["verdict"] == Verdict.SOLID


def seeds_for(state: State, lab: Lab, experiment: str) -> list[int]:
    """The seeds for a signature, in order. What an earlier one that was withdrawn has run comes first: withdrawing and signing
    again is no way to better luck."""
    earlier = [shard["seed"] for shard in state.shards_of(experiment) if shard.get("fresh")]
    return list(dict.fromkeys([*earlier, *fresh_seeds(taken(state, lab), RESERVED)]))[:RESERVED]


# --- what runs ---------------------------------------------------------------------------------------------------------


def shards(state: State, lab: Lab, setup: str) -> list[tuple[str, int, str, int]]:
    """(arm, seed, rung, attempt) of every fresh shard that is wanted, in the order of the signatures and of their seeds."""
    found = []
    for sign in _confirming(state):
        for arm, seed in _missing(state, lab, sign, setup):
            tries = sum(row["seed"] == seed and row["rung"] == sign.rung for row in state.shards_of(arm))
            found.append((arm, seed, sign.rung, tries + 1))
    return found


def wants(state: State, shard: str) -> bool:
    """Whether a fresh shard still says something to a signature."""
    row = state.shards[shard]
    return any(row["seed"] in sign.seeds and row["experiment"] in _arms(state, sign) for sign in _confirming(state))


def _confirming(state: State) -> list[e.SignIntended]:
    return [sign for name, sign in state.signoffs.items() if _stands(state, name) == "confirming"]


def confirmed(state: State) -> list[str]:
    """The signed experiments that fresh pairs have borne out, and whose merge is not yet intended."""
    return [name for name in state.signoffs if _stands(state, name) == "confirmed" and name not in state.merges]


def _stands(state: State, experiment: str) -> str:
    return state.experiments[experiment]["signoff"]["state"]


def _arms(state: State, sign: e.SignIntended) -> tuple[str, str]:
    return str(state.experiments[sign.experiment]["baseline"]), sign.experiment


def _missing(state: State, lab: Lab, sign: e.SignIntended, setup: str) -> Iterator[tuple[str, int]]:
    """(arm, seed) of the shards without which the headline cannot be had, and that may run."""
    if state.experiments[sign.experiment]["commit"] is None:
        return
    said, pairs = _said(state, lab, sign, setup)
    if said.action != "more" or (said.mean is None and len(pairs) >= FEWEST):
        return  # there is an answer, or more pairs would bring it no nearer
    for seed in _seeds_now(state, lab, sign, setup):
        for arm in _arms(state, sign):
            shard = latest(state, arm, sign.rung, setup, fresh=True).get(seed)
            if shard is None or _again(state, shard, setup):
                yield arm, seed


def _again(state: State, shard: ShardRow, setup: str) -> bool:
    counted = [each for each in state.shards_of(shard["experiment"]) if each["id"] not in state.set_aside]
    return runs_again(state, shard, counted, setup)


def _seeds_now(state: State, lab: Lab, sign: e.SignIntended, setup: str) -> list[int]:
    """The seeds that are to have run by now: three, and one more as long as the interval is too wide."""
    trunk, mine = (facts(state, arm, sign.rung, setup, fresh=True) for arm in _arms(state, sign))
    pairs = len(pair(trunk, mine, lab.metric.direction))
    return _good(state, sign, setup)[: min(MOST, max(FEWEST, pairs + 1))]


def _good(state: State, sign: e.SignIntended, setup: str) -> list[int]:
    """The seeds of a signature on which the trunk is not known to fail."""
    void = voided(facts(state, _arms(state, sign)[0], sign.rung, setup, fresh=True))
    return [seed for seed in sign.seeds if seed not in void]


# --- what it says ------------------------------------------------------------------------------------------------------


def evidence(state: State, lab: Lab, setup: str, *, ready: bool) -> Iterator[e.HeadlineReached | e.SignWithdrawn]:
    """What follows from the fresh pairs so far, where it is not on record; `ready` when the present `setup` is known."""
    for sign in _confirming(state):
        why = _void(state, lab, sign, setup, ready=ready)
        if why is not None:
            yield e.SignWithdrawn(sign.experiment, why)
            continue
        said, pairs = _said(state, lab, sign, setup)
        old = state.experiments[sign.experiment]["signoff"]
        if said.action != "more" or said.n != old["n"]:
            yield _event(lab, sign, said, pairs)


def _said(state: State, lab: Lab, sign: e.SignIntended, setup: str) -> tuple[Headline, Sequence[Pair]]:
    row = state.experiments[sign.experiment]
    trunk, mine = (facts(state, arm, sign.rung, setup, fresh=True) for arm in _arms(state, sign))
    pairs = pair(trunk, mine, lab.metric.direction)
    # as in a verdict, a failure counts once the trunk has shown that it does not fail on that seed itself
    failed = [each.seed for each in failures(trunk, mine) if each.seed in trunk]
    shift = _shift(state, lab, row, sign.rung, setup)
    if shift is None and not failed:
        return Headline("more", None, None, None, len(pairs), f"{len(pairs)} fresh pairs; {WEIGHING}"), pairs
    said = headline([each.difference - (shift or 0.0) for each in pairs], _noise(state, row), failed)
    bad = _bars(state, sign)
    if not bad and said.action == "confirmed":
        bad = further.veto(state, lab, sign.experiment, sign.rung, setup)
    return (Headline("vetoed", said.mean, said.lo, said.hi, said.n, bad) if bad else said), pairs


def _shift(state: State, lab: Lab, row: ExperimentRow, rung: str, setup: str) -> float | None:
    """What its verdict was corrected by for what it costs. A bundle has no verdict, and no runs but its fresh ones: None while
    the trunk has not shown what that is worth."""
    if "bundle" in row:
        return basis(state, lab, row, rung, setup, fresh=True).shift
    bases = row["verdict"].get("bases") if row["verdict"] else None
    return worth_on_record(bases, (each["difference"] for each in row["pairs"]))


def _noise(state: State, row: ExperimentRow) -> Noise:
    """What the verdict was weighed with; for a bundle, of the noises that its parts were weighed with the widest."""
    arms = [state.experiments[part] for part in row["bundle"]["parts"]] if "bundle" in row else [row]
    return max((noise_of(arm["verdict"]) for arm in arms if arm["verdict"] is not None), key=lambda each: each.scale)


def _bars(state: State, sign: e.SignIntended) -> str:
    """The sentence of a finding that nobody can acknowledge, made since the experiment was signed; or nothing. What a person
    may acknowledge is no veto: the merge asks for it."""
    for row in open_findings(state, sign.experiment):
        if row["severity"] == Severity.NEVER:
            return f"{row['id']}, found since it was signed: {row['sentence']}"
    return ""


def _void(state: State, lab: Lab, sign: e.SignIntended, setup: str, *, ready: bool) -> str | None:
    """Why fresh pairs can no longer bear the signature out, for no fault of the experiment; None while they can."""
    baseline = _arms(state, sign)[0]
    if baseline != state.trunk_arm:
        return f"the trunk moved while its fresh pairs ran against {baseline}"
    if sign.rung not in {rung.name for rung in lab.rungs}:
        return f"cockpit.toml no longer has its rung {sign.rung}"
    if ready and setup != sign.setup:
        return "how runs are made and measured has changed since it was signed: sign it again"
    if "bundle" in state.experiments[sign.experiment] and _unweighed(state, lab, sign):
        return "it costs other than the trunk, and what that is worth is not known: the trunk has to show it at two lengths"
    gone = further.lacking(state, lab, sign.experiment, sign.rung, sign.setup)
    if gone:
        return gone
    wanted = _seeds_now(state, lab, sign, sign.setup)
    for arm in _arms(state, sign):
        for seed, shard in latest(state, arm, sign.rung, sign.setup, fresh=True).items():
            if seed in wanted and _is_lost(state, shard, sign.setup):
                return f"{shard['id']} was {shard['outcome']} and is not run again: sign it again to have it tried once more"
    good = _good(state, sign, sign.setup)
    if len(good) < MOST:
        return f"the trunk fails on {len(sign.seeds) - len(good)} of {len(sign.seeds)} fresh seeds"
    return None


def _unweighed(state: State, lab: Lab, sign: e.SignIntended) -> bool:
    """Whether nothing more is to come that says what the cost of a bundle is worth."""
    row = state.experiments[sign.experiment]
    unknown = _shift(state, lab, row, sign.rung, sign.setup) is None
    return unknown and not lengths.pending(state, lab, row, sign.setup)


def _is_lost(state: State, shard: ShardRow, setup: str) -> bool:
    """Whether a shard has ended, says nothing about its code, and does not run again."""
    if shard["state"] != ShardState.ENDED or shard["outcome"] is None:
        return False
    fault = facts(state, shard["experiment"], shard["rung"], setup, fresh=True)[shard["seed"]]
    return not fault.counts and fault.fault is None and not _again(state, shard, setup)


def _event(lab: Lab, sign: e.SignIntended, said: Headline, pairs: Sequence[Pair]) -> e.HeadlineReached:
    sentence = said.why
    if said.mean is not None:
        words = Words(lab.metric.unit, 4)
        between = "" if said.lo is None or said.hi is None else f" [{words.signed(said.lo)}, {words.signed(said.hi)}]"
        sentence = f"{words.amount(said.mean)}{between}: {said.why}"
    return e.HeadlineReached(
        experiment=sign.experiment,
        action=said.action,
        mean=said.mean,
        lo=said.lo,
        hi=said.hi,
        n=said.n,
        sentence=sentence,
        pairs=[dict(each.row()) for each in pairs],
    )
