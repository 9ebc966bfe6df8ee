"""Simulates campaigns of 300 proposals, judged by the policy and by three common habits, and says who keeps what wrongly.

    python benchmarks/policy.py [--campaigns 300] [--seed 1]

In the unit sigma, the seed-to-seed standard deviation of the trunk. One proposal in ten is truly better, by .5 to 3; the rest
has no effect or harms as much, half and half. Half of them share their seed's luck with the trunk (correlation .7 to .98).
The trunk's runs are shared by all proposals that are compared with it, sigma is estimated from eight of them, and the trunk
moves with every keep. The policy is the engine's own (`engine.judge`), run by run: half-run aborts, controls, sign-off on
fresh seeds. Every campaign has a seed of its own, so the figures are the same on every machine. Exits 1 below a bar.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scipy.special import chdtri, stdtr

from engine.judge.fresh import headline
from engine.judge.kinds import Kind
from engine.judge.noise import CALIBRATION, Pool, noise, pooled, sigma_of
from engine.judge.policy import Context, Mode, Pair, decide, differences, weigh
from engine.judge.stopping import is_control
from engine.types import Category

PROPOSALS = 300
KAPPA, SPREAD = 110.0, 0.005  # sigma an e-fold of steps (1.1 sigma a per cent); sd of ln(tokens/s) between runs


@dataclass
class Proposal:
    """What a proposal truly is: gain, correlation of its seed's luck with the trunk's, spread, and how half-way predicts."""

    gain: float
    rho: float
    spread: float
    ahead: float
    category: str
    draw: random.Random
    speed: float = 1.0

    def run(self, trunk: Trunk, seed: int) -> Pair:
        """One shard beside the trunk's of the same seed, with what was seen half-way."""
        luck = trunk.loss(seed)
        noise = self.rho * luck + math.sqrt(1 - self.rho**2) * self.draw.gauss(0, 1)
        loss = self.spread * noise - self.gain
        width = math.sqrt(1 + self.spread**2 - 2 * self.spread * self.rho)
        rest = math.sqrt(1 - self.ahead**2) * width * self.draw.gauss(0, 1)
        half = self.gain + self.ahead * (luck - loss - self.gain) + rest
        speed = self.speed * math.exp(self.draw.gauss(0, SPREAD) - self.draw.gauss(0, SPREAD))
        return Pair(seed, luck, loss, half_gain=half, speed=speed)


@dataclass
class Trunk:
    """One commit of the trunk: a loss a seed, run once and shared by all that is compared with it."""

    draw: random.Random
    losses: dict[int, float] = field(default_factory=dict)

    def loss(self, seed: int) -> float:
        return self.losses.setdefault(seed, self.draw.gauss(0, 1))


@dataclass
class Campaign:
    """What came of one campaign. `kept` has (true gain, claimed gain); `runs` counts the candidates' shards of the test."""

    kept: list[tuple[float, float]] = field(default_factory=list)
    solid: list[float] = field(default_factory=list)  # true gains, before anybody signs
    runs: float = 0.0
    control_runs: float = 0.0
    other_runs: float = 0.0  # of the trunk, and on fresh seeds
    big: int = 0  # proposals that are truly better by one sigma or more
    found: int = 0  # and how many of them were kept

    @property
    def false(self) -> float:
        """Share of the keeps that are no gain; 0 without keeps."""
        return sum(gain <= 0 for gain, _ in self.kept) / max(1, len(self.kept))

    @property
    def false_solid(self) -> float:
        """The same of what was called solid, before fresh seeds had their say."""
        return sum(gain <= 0 for gain in self.solid) / max(1, len(self.solid))

    def keep(self, proposal: Proposal, claimed: float) -> None:
        self.kept.append((proposal.gain, claimed))
        self.found += proposal.gain >= 1


def proposals(draw: random.Random, better: float = 0.1) -> list[Proposal]:
    """A campaign's proposals, in the order in which they come."""
    found = []
    for _ in range(PROPOSALS):
        kind, size = draw.random(), draw.uniform(0.5, 3.0)
        gain = size if kind < better else -size if kind < better + (1 - better) / 2 else 0.0
        rho = draw.uniform(0.7, 0.98) if draw.random() < 0.5 else 0.0
        category = draw.choice(list(Category))
        spread, ahead = math.exp(draw.gauss(0, 0.17)), draw.uniform(0.6, 0.9)
        found.append(Proposal(gain, rho, spread, ahead, category, random.Random(draw.getrandbits(64))))
    return found


# --- the policy ----------------------------------------------------------------------------------------------------------


def by_policy(
    name: str, ideas: Sequence[Proposal], draw: random.Random, mode: Mode = "fast", *, shared: bool = True
) -> Campaign:
    """A campaign judged by the engine's policy, with sign-off by whoever signs all that fresh seeds confirm.

    `shared` false gives every proposal trunk runs of its own.
    """
    done = Campaign(big=sum(each.gain >= 1 for each in ideas))
    pools = {"tight": Pool(), "loose": Pool()}
    trunk, sigma = new_trunk(draw)
    for index, idea in enumerate(ideas, 1):
        pairing = "tight" if idea.rho else "loose"
        pool = pools[pairing]
        context = Context(
            index,
            len(done.kept),
            pairing,
            sigma,
            pool.df,
            pool.ss,
            mode=mode,
            category=idea.category,
            control=is_control(name, str(index)),
        )
        action, pairs = judged(idea, trunk if shared else Trunk(draw), context, done)
        pools[pairing] = pooled(pool, differences(pairs, context), sigma)
        if action != "solid":
            continue
        done.solid.append(idea.gain)
        claimed = signed_off(idea, draw, context, done)
        if claimed is not None:
            done.keep(idea, claimed)
            done.other_runs += len(trunk.losses)
            trunk, sigma = new_trunk(draw)
    done.other_runs += len(trunk.losses) + PROPOSALS / 10
    return done


def new_trunk(draw: random.Random) -> tuple[Trunk, float]:
    """A trunk after a merge: empty cache, calibrated anew on seeds that then serve as its baseline."""
    trunk = Trunk(random.Random(draw.getrandbits(64)))
    return trunk, sigma_of([trunk.loss(seed) for seed in range(CALIBRATION)])


def judged(idea: Proposal, trunk: Trunk, context: Context, done: Campaign) -> tuple[str, list[Pair]]:
    """The verdict on one proposal and its finished pairs; its runs are counted."""
    pairs: list[Pair] = []
    controlled = False
    while True:
        pair = idea.run(trunk, len(pairs))
        half = weigh([*pairs, Pair(pair.seed, pair.trunk, None, None, pair.half_gain)], context)
        aborted = half.action in ("not-solid", "harmful")
        cost = 0.5 if aborted else 1.0
        if controlled:
            done.control_runs += cost
        else:
            done.runs += cost
        if aborted:
            return half.action, pairs
        pairs.append(pair)
        found = weigh(pairs, context)
        controlled = controlled or found.reason == "control"
        if found.action != "continue":
            return found.action, pairs


def signed_off(idea: Proposal, draw: random.Random, context: Context, done: Campaign) -> float | None:
    """The headline on fresh seeds of both sides, or None when they veto."""
    fresh = Trunk(random.Random(draw.getrandbits(64)))
    against = noise(context.sigma, Pool(context.pooled_df, context.pooled_ss))
    found: list[Pair] = []
    while (said := headline(differences(found, context), against)).action == "more":
        found.append(idea.run(fresh, len(found)))
        done.other_runs += 2
    return said.mean if said.action == "confirmed" else None


# --- common habits -------------------------------------------------------------------------------------------------------


def greedy(name: str, ideas: Sequence[Proposal], draw: random.Random) -> Campaign:
    """Keep whatever is lower on the one seed than the best so far, and go on from its run."""
    done = Campaign(runs=len(ideas), big=sum(each.gain >= 1 for each in ideas))
    trunk = Trunk(random.Random(draw.getrandbits(64)))
    for idea in ideas:
        pair = idea.run(trunk, 0)
        gain = (pair.trunk or 0) - (pair.candidate or 0)
        if gain > 0:
            done.keep(idea, gain)
            # what was kept is the trunk now, with the luck of its run
            trunk = Trunk(trunk.draw, {0: (pair.candidate or 0) + idea.gain})
    return done


def t_test(name: str, ideas: Sequence[Proposal], draw: random.Random) -> Campaign:
    """Five pairs each, and p < .05 of a two-sided paired t-test."""
    done = Campaign(runs=5 * len(ideas), big=sum(each.gain >= 1 for each in ideas))
    trunk = Trunk(random.Random(draw.getrandbits(64)))
    for idea in ideas:
        gains = [gain_of(idea.run(trunk, seed)) for seed in range(5)]
        mean = math.fsum(gains) / 5
        error = math.sqrt(math.fsum((each - mean) ** 2 for each in gains) / 20)
        if mean > 0 and 1 - float(stdtr(4, mean / error)) < 0.025:
            done.keep(idea, mean)
            trunk = Trunk(random.Random(draw.getrandbits(64)))
    return done


def halving(name: str, ideas: Sequence[Proposal], draw: random.Random) -> Campaign:
    """Successive halving: of 12 on one seed each the best 6 get a second, 3 two more, and the best is kept if it is ahead."""
    done = Campaign(big=sum(each.gain >= 1 for each in ideas))
    for start in range(0, len(ideas), 12):
        trunk = Trunk(random.Random(draw.getrandbits(64)))
        gains: list[tuple[Proposal, list[float]]] = [(idea, []) for idea in ideas[start : start + 12]]
        for seeds, left in (((0,), 6), ((1,), 3), ((2, 3), 1)):
            for idea, found in gains:
                found += [gain_of(idea.run(trunk, seed)) for seed in seeds]
                done.runs += len(seeds)
            gains = sorted(gains, key=lambda each: -sum(each[1]) / len(each[1]))[:left]
        best, found = gains[0]
        if sum(found) > 0:
            done.keep(best, sum(found) / len(found))
    return done


def gain_of(pair: Pair) -> float:
    return (pair.trunk or 0) - (pair.candidate or 0)


# --- what comes of it ----------------------------------------------------------------------------------------------------


def mean_and_bound(values: Sequence[float]) -> tuple[float, float]:
    """The mean over campaigns, and how far its 95 % interval reaches to either side."""
    mean = math.fsum(values) / len(values)
    return mean, 1.96 * math.sqrt(math.fsum((each - mean) ** 2 for each in values) / (len(values) - 1) / len(values))


def share_and_bound(hits: int, of: int) -> tuple[float, float]:
    mean = hits / of
    return mean, 1.96 * math.sqrt(mean * (1 - mean) / of)


def ratio_and_bound(above: Sequence[float], below: Sequence[float]) -> tuple[float, float]:
    """A ratio of sums over campaigns, with the delta method's interval."""
    ratio = math.fsum(above) / math.fsum(below)
    rest = [a - ratio * b for a, b in zip(above, below, strict=True)]
    return ratio, mean_and_bound(rest)[1] * len(below) / abs(math.fsum(below))


def row(name: str, done: Sequence[Campaign]) -> dict[str, tuple[float, float]]:
    """One line of the table, printed; every figure with the half-width of its 95 % interval."""
    true = [math.fsum(gain for gain, _ in each.kept) for each in done]
    claimed = [math.fsum(claim for _, claim in each.kept) for each in done]
    figures = {
        "false": mean_and_bound([each.false for each in done]),
        "power": share_and_bound(sum(each.found for each in done), max(1, sum(each.big for each in done))),
        "keeps": mean_and_bound([len(each.kept) for each in done]),
        "gain": mean_and_bound(true),
        "claims": ratio_and_bound(claimed, true),
        "runs": mean_and_bound([each.runs / PROPOSALS for each in done]),
        "controls": mean_and_bound([each.control_runs / PROPOSALS for each in done]),
        "others": mean_and_bound([each.other_runs / PROPOSALS for each in done]),
    }
    cells = (
        f"{100 * figures['false'][0]:5.1f} ±{100 * figures['false'][1]:3.1f} %",
        f"{100 * figures['power'][0]:5.1f} ±{100 * figures['power'][1]:3.1f} %",
        f"{figures['keeps'][0]:6.1f} ±{figures['keeps'][1]:3.1f}",
        f"{figures['gain'][0]:6.1f} ±{figures['gain'][1]:3.1f}",
        f"{figures['claims'][0]:5.2f} ±{figures['claims'][1]:4.2f}",
        *(f"{figures[each][0]:5.2f} ±{figures[each][1]:4.2f}" for each in ("runs", "controls", "others")),
    )
    print(f"{name:<24}" + "".join(f"{cell:>15}" for cell in cells), flush=True)
    return figures


Judge = Callable[[str, Sequence[Proposal], random.Random], Campaign]


def campaigns(judge: Judge, numbers: Iterable[int], seed: int, better: float = 0.1) -> list[Campaign]:
    """The same campaigns for every judge: proposals follow from the number alone."""
    found = []
    for number in numbers:
        name = f"{seed}.{number}"
        found.append(judge(name, proposals(random.Random(name), better), random.Random(f"{name} judge")))
    return found


def keeps_of_nothing(count: int, seed: int) -> tuple[float, float, float]:
    """A/A: (solid, kept, its upper 95 % bound) in 100 no-op proposals, with fresh seeds on both sides and no common luck."""
    solid = kept = 0
    for number in range(count):
        draw = random.Random(f"{seed}.aa.{number}")
        ideas = [Proposal(0.0, 0.0, 1.0, 0.75, "", random.Random(draw.getrandbits(64))) for _ in range(PROPOSALS)]
        done = by_policy(f"aa {number}", ideas, draw, shared=False)
        solid, kept = solid + len(done.solid), kept + len(done.kept)
    tests = count * PROPOSALS / 100
    return solid / tests, kept / tests, float(chdtri(2 * (kept + 1), 0.05)) / 2 / tests


def constant_gains() -> list[str]:
    """The (class, gain) of steady gains of 3 to 100 sigma that are not solid at three pairs; none of them may be."""
    missed = []
    for pairing in ("tight", "loose"):
        for gain in range(3, 101):
            pairs = [Pair(seed, 0.1 * seed, 0.1 * seed - gain) for seed in range(3)]
            if decide(pairs, Context(1, 0, pairing, 1.0)).action != "solid":
                missed.append(f"{pairing} {gain}")
    return missed


def speedups(count: int, seed: int, ratio: float = 1.03) -> tuple[float, float]:
    """Share of loss-neutral speedups that is solid, spread over a campaign with a keep every 15 proposals."""
    found = 0
    for number in range(count):
        draw = random.Random(f"{seed}.speed.{number}")
        rho = draw.uniform(0.7, 0.98) if number % 2 else 0.0
        idea = Proposal(0.0, rho, 1.0, 0.75, Category.SYSTEMS, draw, ratio)
        trunk, sigma = new_trunk(draw)
        index = draw.randint(1, PROPOSALS)
        kind: Kind = "speed"
        context = Context(
            index,
            index // 15,
            "tight" if rho else "loose",
            sigma,
            category=Category.SYSTEMS,
            kind=kind,
            kappa=KAPPA,
            speed_spread=SPREAD,
        )
        found += judged(idea, trunk, context, Campaign())[0] == "solid"
    return share_and_bound(found, count)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--campaigns", type=int, default=300)
    words.add_argument("--seed", type=int, default=1)
    given = words.parse_args()
    began, numbers = time.process_time(), range(given.campaigns)
    print(f"{given.campaigns} campaigns of {PROPOSALS} proposals; ± is half of a 95 % interval; gains in sigma")
    heads = ("false keeps", "power >= 1", "keeps", "true gain", "claims/true", "runs/prop.", "controls", "trunk, fresh")
    print(" " * 24 + "".join(f"{head:>15}" for head in heads))
    judged_all = campaigns(by_policy, numbers, given.seed)
    policy = row("the policy", judged_all)
    some = numbers[: max(20, given.campaigns // 6)]
    for mode in ("careful", "strict"):
        row(f"  {mode}", campaigns(partial(by_policy, mode=mode), some, given.seed))
    for name, habit in (
        ("greedy keep-if-lower", greedy),
        ("paired t-test, n = 5", t_test),
        ("successive halving", halving),
    ):
        row(name, campaigns(habit, some, given.seed))
    solid, kept, most = keeps_of_nothing(max(20, given.campaigns // 6), given.seed)
    missed, speed = constant_gains(), speedups(max(200, 5 * given.campaigns), given.seed)
    bound, before = sum(policy["false"]), sum(mean_and_bound([each.false_solid for each in judged_all]))
    runs = policy["runs"][0] + policy["controls"][0]
    bars = (
        (f"FDR of the policy, upper 95 % bound: {bound:.1%} (at most 5.5 %)", bound <= 0.055),
        (f"the same of what is solid, before sign-off: {before:.1%} (at most 5.5 %)", before <= 0.055),
        (f"power for gains of a sigma and more: {policy['power'][0]:.1%} (at least 60 %)", policy["power"][0] >= 0.6),
        (f"shard runs a proposal, controls among them: {runs:.2f} (at most 2.1)", runs <= 2.1),
        (f"A/A in 100: {solid:.2f} solid, {kept:.2f} kept, at most {most:.2f} (at most 0.3)", most <= 0.3),
        (f"steady gains of 3 to 100 sigma not solid at 3 pairs: {', '.join(missed) or 'none'}", not missed),
        (f"loss-neutral speedups of 3 % found: {speed[0]:.1%} ±{speed[1]:.1%} (at least 60 %)", speed[0] >= 0.6),
    )
    for text, held in bars:
        print(("held    " if held else "MISSED  ") + text)
    print(f"{time.process_time() - began:.0f} s of one core")
    return 0 if all(held for _, held in bars) else 1


if __name__ == "__main__":
    raise SystemExit(main())
