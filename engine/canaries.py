"""Whether the trunk's cached runs still hold: after every tenth experiment against it, its first seed runs once more. Pure.

A run of the same commit, seed and data that comes out elsewhere says that the machine has changed. What was measured before is
then compared with nothing new: the trunk's runs, and those of open experiments, are set aside and run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from engine import events as e
from engine.found import next_finding
from engine.judge.canary import EVERY, moved, shift
from engine.judge.noise import sigma_of
from engine.lab import Lab
from engine.racing import RETRIES, facts, first_seeds
from engine.state import CANARY, State
from engine.types import Outcome, ShardRow, ShardState


def due(state: State, lab: Lab, setup: str) -> tuple[int, str, int] | None:
    """(seed, rung, attempt) of the canary that the present trunk is to run now; None for none.

    One is wanted for every tenth experiment against this trunk, once its calibration is there; none while another runs, nor
    after one was lost or killed more often than any seed may be."""
    losses = _losses(state, lab, setup)
    if losses is None:
        return None
    arm, rung = state.trunk_arm, lab.climb[0]
    ran = _canaries(state, lab, setup)
    if any(row["state"] != ShardState.ENDED for row in ran):
        return None
    said = [row for row in ran if row["outcome"] not in RETRIES]
    if len(said) >= state.race.against.get(arm, 0) // EVERY or _lost_too_often(ran):
        return None
    seed = first_seeds(lab)[0]
    tries = sum((row["seed"], row["rung"]) == (seed, rung) for row in state.shards_of(arm))
    return seed, rung, tries + 1


def _lost_too_often(ran: list[ShardRow]) -> bool:
    """Whether canaries were lost or killed more often than any seed may be, or the cluster took as many away."""
    ended = Counter(row["outcome"] for row in ran)
    here = (Outcome.LOST, Outcome.KILLED)
    cluster = any(ended[each] > most for each, most in RETRIES.items() if each not in here)
    return cluster or sum(ended[each] for each in here) > max(RETRIES[each] for each in here)


def findings(state: State, lab: Lab, setup: str) -> Iterator[e.FindingNoted]:
    """That the last canary of the present trunk came out elsewhere, once."""
    losses = _losses(state, lab, setup)
    standing = [row for row in _canaries(state, lab, setup) if row.get("canary")]
    ended = [row for row in standing if row["state"] == ShardState.ENDED]
    if losses is None or not ended or ended[-1]["outcome"] in RETRIES:
        return
    last = ended[-1]
    first, sigma = losses[0], sigma_of(losses)
    again = last["metric"]
    if again is None:
        again, came = float("inf"), f"ended {last['outcome']}"
    else:
        came = f"gave {again:.6g}, {shift(first, again, sigma):+.2g} sigma"
    if not moved(first, again, sigma):
        return
    sentence = (
        f"the trunk's seed {last['seed']} gave {first:.6g}, and run again it {came}: the machine has changed, so the trunk's "
        "runs and those of open experiments are set aside and run again"
    )
    if (last["id"], CANARY, sentence) not in state.noted:
        yield e.FindingNoted(next_finding(state), last["id"], CANARY, "warning", sentence)


def _losses(state: State, lab: Lab, setup: str) -> list[float] | None:
    """The present trunk's results on its calibration seeds, in their order; None until all are there and differ."""
    if lab.judge.mode == "fixed" or not state.trunk_arm:
        return None
    found = facts(state, state.trunk_arm, lab.climb[0], setup)
    known = [found[seed].metric for seed in first_seeds(lab) if seed in found and found[seed].counts]
    losses = [metric for metric in known if metric is not None]
    return losses if len(losses) == len(first_seeds(lab)) and max(losses) > min(losses) else None


def _canaries(state: State, lab: Lab, setup: str) -> list[ShardRow]:
    """All of the present trunk, in order, also those that a shift has made one of its runs (`canary` is then false)."""
    shards = state.shards_of(state.trunk_arm)
    rung = lab.climb[0]
    return [row for row in shards if "canary" in row and row["rung"] == rung and state.setups[row["id"]] == setup]
