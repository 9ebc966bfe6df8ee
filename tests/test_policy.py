"""A researcher lets the machine decide after every seed: nothing is kept by luck, and nothing that failed is forgotten."""

from __future__ import annotations

import importlib.util
import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from online_fdr.e_values import ELond

from engine.judge.canary import canary_due, kept_cache, moved, shift
from engine.judge.evidence import evidence, sample
from engine.judge.kinds import kappa, margin_left, not_worse, same_loss_speed
from engine.judge.noise import Noise, Pool, noise
from engine.judge.policy import HORIZON, MOST_PAIRS, Context, Decision, Pair, bar, decide, differences
from engine.judge.stopping import abort_at_half, is_control, missed
from engine.types import Category, Outcome

ROOT = Path(__file__).resolve().parent.parent
many = settings(max_examples=150, deadline=None)
PLAIN = Context(1, 0, "loose", 1.0)
OWN_FAULT = [each for each in Outcome if each.own_fault]
some_gains = st.lists(st.floats(-20, 20), min_size=1, max_size=10)


def pairs_of(gains: list[float], start: int = 0) -> list[Pair]:
    """A pair for each gain, beside a trunk whose loss differs from seed to seed."""
    return [Pair(seed, 2 + seed / 8, 2 + seed / 8 - gain) for seed, gain in enumerate(gains, start)]


def failed(seed: int, outcome: Outcome) -> Pair:
    return Pair(seed, 2.0, None, outcome)


# --- solid, and not


@pytest.mark.parametrize("pairing", ["tight", "loose"])
@pytest.mark.parametrize("gain", range(3, 101))
def test_a_steady_gain_of_three_to_a_hundred_sigma_is_solid_at_three_pairs(pairing: str, gain: int) -> None:
    context = Context(1, 0, pairing, 1.0)  # type: ignore[arg-type]
    said = [decide(pairs_of([float(gain)] * n), context).action for n in (1, 2, 3)]
    assert said == ["continue", "continue", "solid"]


def test_the_screen_says_what_was_needed_and_what_was_found() -> None:
    said = decide(pairs_of([2.5, 2.6, 2.7]), replace(PLAIN, unit="bits per byte"))
    assert said.action == "solid"
    assert said.sentence == "20:1 evidence on the same seeds; E 33 of 20 needed; +2.6000 bits per byte on 3 seeds"
    assert (said.n, said.bar, said.sigma, said.mode) == (3, 20, 1.0, "fast")
    assert said.effect == pytest.approx(2.6)
    assert said.lo is not None
    assert said.hi is not None
    assert 0 < said.lo < 2.6 < said.hi
    assert 0 < said.shrunk < 2.6


def test_one_or_two_wonderful_seeds_are_never_enough() -> None:
    for n in (1, 2):
        said = decide(pairs_of([50.0] * n), PLAIN)
        assert (said.action, said.n) == ("continue", n)
        assert said.evidence > said.bar
        assert said.sentence.startswith("one more pair: E ")


def test_a_hopeless_experiment_costs_one_run() -> None:
    said = decide(pairs_of([-0.4]), PLAIN)
    assert said.action == "not-solid"
    assert said.sentence.startswith("nothing points to a gain: E 0.")
    assert decide(pairs_of([0.0]), PLAIN).sentence == "identical to the trunk on 1 seed"


def test_careful_waits_longer_than_fast_before_it_drops() -> None:
    pairs = pairs_of([0.3])
    assert decide(pairs, PLAIN).action == "not-solid"
    assert decide(pairs, replace(PLAIN, mode="careful")).action == "continue"


def test_after_ten_pairs_there_is_an_answer() -> None:
    undecided = pairs_of([1.6, 0.2] * 4)
    assert decide(undecided, PLAIN).action == "continue"
    said = decide(pairs_of([1.6, 0.2] * 5), PLAIN)
    assert (said.action, said.n) == ("not-solid", MOST_PAIRS)
    assert said.sentence.startswith("not enough after 10 seeds: E ")


def test_what_is_worse_beyond_doubt_is_harmful() -> None:
    said = decide(pairs_of([-9.0]), PLAIN)
    assert said.action == "harmful"
    assert said.hi is not None
    assert said.hi < 0
    assert said.sentence.startswith("worse: -9.0000 on 1 seed, at best -")


def test_the_bar_rises_while_nothing_works_and_falls_with_every_keep() -> None:
    assert bar(1, 0) == 20
    assert bar(91, 0) == 200
    assert bar(91, 4) == 40
    assert bar(91, 90) == 20
    early, late = (decide(pairs_of([2.6] * 3), Context(t, 0, "loose", 1.0)) for t in (1, 91))
    assert (early.action, late.action) == ("solid", "continue")
    assert "of 200 needed" in late.sentence


def test_a_change_that_makes_every_seed_the_same_run_is_one_run() -> None:
    lucky = [Pair(seed, 2 + seed / 8, 1.0) for seed in range(3)]
    said = decide(lucky, PLAIN)
    assert said.action == "not-solid"
    assert "one run, not 3; is the seed wired?" in said.sentence


def test_the_present_noise_decides_not_the_pairs_own_luck() -> None:
    """Three differences that happen to agree would have a tiny standard error; calibrated noise is not fooled."""
    assert decide(pairs_of([0.30, 0.31, 0.32]), PLAIN).action != "solid"
    calm = Context(1, 0, "tight", 1.0, pooled_df=200, pooled_ss=200 * 0.05**2)
    assert decide(pairs_of([0.9, 0.91, 0.92]), calm).action == "solid"


# --- failures


@pytest.mark.parametrize("outcome", OWN_FAULT)
def test_a_failure_by_its_own_fault_is_never_dropped(outcome: Outcome) -> None:
    said = decide([*pairs_of([30.0] * 9), failed(9, outcome)], PLAIN)
    assert said.action == "broken"
    assert (said.effect, said.lo, said.hi, said.shrunk) == (None, None, None, 0.0)
    assert said.sentence == f"{outcome} on seed 9; 9 seeds finished"


def test_a_loss_that_is_not_finite_breaks_it_too() -> None:
    assert decide([Pair(0, 2.0, math.nan)], PLAIN).sentence == "nonfinite on seed 0; 0 seeds finished"


@pytest.mark.parametrize("outcome", [Outcome.KILLED, Outcome.LOST])
def test_a_run_that_was_killed_from_outside_says_nothing_and_runs_again(outcome: Outcome) -> None:
    said = decide([*pairs_of([30.0] * 2), failed(2, outcome)], PLAIN)
    assert (said.action, said.n, said.again) == ("continue", 2, (2,))


@pytest.mark.parametrize("trunk", [None, math.nan, math.inf])
def test_a_seed_on_which_the_trunk_fails_is_void_for_both(trunk: float | None) -> None:
    void = [Pair(3, trunk, None, Outcome.DIVERGED), Pair(4, trunk, -1000.0)]
    said = decide([*pairs_of([30.0] * 3), *void], PLAIN)
    assert (said.action, said.n, said.void) == ("solid", 3, (3, 4))


def test_wrong_use_is_told() -> None:
    with pytest.raises(ValueError, match="twice"):
        decide([*pairs_of([1.0]), *pairs_of([1.0])], PLAIN)
    with pytest.raises(ValueError, match="score it"):
        decide([Pair(0, 2.0, None)], PLAIN)
    with pytest.raises(ValueError, match="count from 1"):
        bar(0, 0)
    with pytest.raises(ValueError, match="fast, careful or strict"):
        decide([], replace(PLAIN, mode="brave"))  # type: ignore[arg-type]


# --- properties


@many
@given(some_gains, st.randoms(use_true_random=False), st.sampled_from(["tight", "loose"]))
def test_the_order_of_the_pairs_does_not_matter(gains: list[float], draw: random.Random, pairing: str) -> None:
    pairs, context = pairs_of(gains), Context(7, 1, pairing, 1.0)  # type: ignore[arg-type]
    mixed = list(pairs)
    draw.shuffle(mixed)
    assert decide(pairs, context) == decide(mixed, context)


@many
@given(some_gains, st.sampled_from(OWN_FAULT), st.integers(0, 9))
def test_no_number_of_good_seeds_outweighs_one_failure(gains: list[float], outcome: Outcome, at: int) -> None:
    pairs = pairs_of(gains)
    at = min(at, len(pairs) - 1)
    pairs[at] = failed(at, outcome)
    assert decide(pairs, PLAIN).action == "broken"


@many
@given(some_gains, st.integers(-4, 4), st.floats(-50, 50))
def test_another_unit_or_another_zero_changes_no_decision(gains: list[float], power: int, zero: float) -> None:
    unit = 10.0**power
    here = decide(pairs_of(gains), PLAIN)
    moved_pairs = [
        Pair(pair.seed, (pair.trunk or 0) * unit + zero * unit, (pair.candidate or 0) * unit + zero * unit)
        for pair in pairs_of(gains)
    ]
    there = decide(moved_pairs, replace(PLAIN, sigma=unit))
    assert there.evidence == pytest.approx(here.evidence, rel=1e-6)
    if all(abs(here.evidence - edge) > 1e-6 * edge for edge in (1.0, 20.0)):
        assert there.action == here.action


@many
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=10), st.floats(0.01, 5))
def test_a_verdict_is_never_bought_with_a_worse_seed(gains: list[float], worse: float) -> None:
    with_it = decide(pairs_of([*gains[:9], -worse]), PLAIN)
    if with_it.action == "solid" and len(gains) >= 3:
        assert evidence(sample(gains[:9]), Noise(1.0, math.sqrt(2))).total >= with_it.evidence


# --- half-way, and controls


def half(gain: float) -> list[Pair]:
    return [Pair(0, 2.0, None, None, gain)]


def test_a_run_far_behind_half_way_is_ended_unless_its_curve_may_still_cross() -> None:
    context = replace(PLAIN, category=Category.ARCHITECTURE)
    assert decide(half(-1.2), context).action == "not-solid"
    assert decide(half(-1.2), context).sentence == "more than one sigma behind half-way; no pair yet"
    assert decide(half(-0.8), context).action == "continue"
    for category in Category:
        ends = category in {Category.ARCHITECTURE, Category.SYSTEMS, Category.BUG_FIX}
        assert abort_at_half(-1.2, 1.0, category) is ends
    assert not any(abort_at_half(-9.0, 1.0, other) for other in ("length", "batch", "rate", ""))
    assert not abort_at_half(None, 1.0, Category.SYSTEMS)
    with pytest.raises(ValueError, match="calibrate"):
        abort_at_half(-2.0, 0.0, Category.SYSTEMS)


def test_one_in_ten_is_drawn_to_run_on_before_anything_is_known_of_it() -> None:
    drawn = [is_control("nanolm", f"{number:04}") for number in range(5000)]
    assert 400 < sum(drawn) < 600
    assert drawn == [is_control("nanolm", f"{number:04}") for number in range(5000)]
    assert drawn != [is_control("another", f"{number:04}") for number in range(5000)]
    assert not any(is_control("nanolm", str(number), 0.0) for number in range(100))
    with pytest.raises(ValueError, match="between 0 and 1"):
        is_control("nanolm", "1", 10)


def test_a_control_runs_on_to_ten_pairs_where_it_would_be_dropped() -> None:
    control = replace(PLAIN, control=True, category=Category.ARCHITECTURE)
    for n in range(1, MOST_PAIRS):
        said = decide(pairs_of([-0.2] * n), control)
        assert said.action == "continue"
        assert said.sentence.startswith("runs on as a control")
    assert decide(pairs_of([-0.2] * MOST_PAIRS), control).action == "not-solid"
    assert decide(half(-1.2), control).action == "continue"
    assert decide([failed(0, Outcome.CRASHED)], control).action == "broken"


def test_controls_say_by_category_how_much_is_missed() -> None:
    found = missed({"optimizer": [True, False, False], "systems": []})
    assert found["optimizer"].gains == 1
    assert found["optimizer"].estimate == pytest.approx(10)
    assert found["systems"].estimate == 0


# --- strict


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_strict_mode_is_e_lond_by_another_hand(found: list[float]) -> None:
    class Weights:
        """The weights of strict mode, in the form that the oracle takes them."""

        def calc_gamma(self, j: int, **_: object) -> float:
            return 1 / (4.7 * (j + 9))

    oracle, keeps = ELond(alpha=0.10, gamma_seq=Weights()), 0  # type: ignore[arg-type]
    for t, value in enumerate(found, 1):
        needed = bar(t, keeps, "strict")
        if abs(value - needed) < 1e-6 * needed:
            return  # rounding decides
        kept = value >= needed
        assert oracle.test_one(value) is kept
        keeps += kept


def test_strict_modes_weights_are_spent_just_when_its_guarantee_ends() -> None:
    assert sum(1 / (4.7 * (t + 9)) for t in range(1, HORIZON + 1)) <= 1
    assert sum(1 / (4.7 * (t + 9)) for t in range(1, HORIZON + 2)) > 1
    assert bar(HORIZON, 3, "strict") < math.inf
    said = decide(pairs_of([50.0] * 3), Context(HORIZON + 1, 3, "loose", 1.0, mode="strict"))
    assert said.action == "continue"
    assert said.bar == math.inf
    assert "strict mode's guarantee is spent" in said.sentence


# --- kinds


def speed_pairs(ratios: list[float], gains: list[float] | None = None) -> list[Pair]:
    plain = pairs_of(gains or [0.0] * len(ratios))
    return [replace(pair, speed=ratio) for pair, ratio in zip(plain, ratios, strict=True)]


SPEED = replace(PLAIN, kind="speed", kappa=110.0, speed_spread=0.005)


def test_three_per_cent_faster_at_the_same_loss_is_solid_and_the_same_speed_is_not() -> None:
    assert kappa((150, 2.30), (300, 2.20)) == pytest.approx(0.1 / math.log(2))
    noisy = [0.3, -0.2, 0.1]
    assert decide(speed_pairs([1.03, 1.031, 1.029], noisy), SPEED).action == "solid"
    assert decide(speed_pairs([1.0, 1.001, 0.999], noisy), SPEED).action != "solid"
    assert decide(speed_pairs([1.03] * 3, noisy), replace(SPEED, kind="gain")).action != "solid"
    with pytest.raises(ValueError, match="tokens per second"):
        decide(speed_pairs([0.0]), SPEED)
    with pytest.raises(ValueError, match="shorter and a longer"):
        kappa((300, 2.2), (300, 2.2))


def test_a_loss_that_is_the_same_bit_by_bit_leaves_only_throughput_to_be_shown() -> None:
    blind = replace(SPEED, kappa=0.0)
    said = [decide(speed_pairs([1.03] * n), blind) for n in (1, 2, 3)]
    assert [each.action for each in said] == ["continue", "continue", "solid"]
    assert said[-1].sentence == "the same loss, bit by bit, and faster on 3 seeds"
    assert decide(speed_pairs([1.0] * 1), blind).action == "not-solid"
    assert same_loss_speed([0.1], [1.03], 0.005) is None


def test_a_simplification_may_cost_a_little_until_the_campaigns_budget_is_spent() -> None:
    calm = replace(PLAIN, kind="simplification", pairing="tight", pooled_df=100, pooled_ss=100 * 0.1**2)
    hardly_worse = pairs_of([-0.05, -0.04, -0.06, -0.05, -0.05])
    said = decide(hardly_worse, calm)
    assert said.action == "solid"
    assert said.effect == pytest.approx(-0.05)
    lost = differences(hardly_worse, replace(calm, kind="gain"))
    assert said.evidence == pytest.approx(not_worse(lost, noise(1.0, Pool(calm.pooled_df, calm.pooled_ss))))
    left = margin_left([0.5, 0.5, 0.5, 0.5])
    assert left == 0
    assert decide(hardly_worse, replace(calm, margin=left)).action != "solid"
    assert decide(hardly_worse, replace(calm, margin=50.0)) == said  # no budget buys more than half a sigma at once
    assert margin_left([0.5]) == 1.5
    with pytest.raises(ValueError, match="pay for others"):
        margin_left([-1.0])


# --- the trunk


def test_a_canary_that_moves_empties_the_cache() -> None:
    assert [t for t in range(31) if canary_due(t)] == [10, 20, 30]
    cache = {("c0ffee", 0): 2.0, ("c0ffee", 1): 2.1}
    assert kept_cache(cache, 2.0, 2.004, 0.01) == cache
    assert kept_cache(cache, 2.0, 2.006, 0.01) == {}
    assert shift(2.0, 2.006, 0.01) == pytest.approx(0.6)
    assert moved(2.0, math.nan, 0.01)
    with pytest.raises(ValueError, match="calibrate"):
        shift(2.0, 2.1, 0.0)


# --- the whole


def test_judging_is_quick_to_import() -> None:
    code = "import sys, engine.judge.policy; print(*({'scipy', 'numpy', 'duckdb', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.split() == []


def test_a_few_simulated_campaigns_keep_what_is_better_and_nothing_else() -> None:
    """The benchmark has the figures; this holds that it and the policy still fit together."""
    spec = importlib.util.spec_from_file_location("policy_benchmark", ROOT / "benchmarks" / "policy.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = benchmark
    spec.loader.exec_module(benchmark)
    done = benchmark.campaigns(benchmark.by_policy, range(4), 1)
    kept = [gain for campaign in done for gain, _ in campaign.kept]
    assert len(kept) > 40
    assert sum(gain <= 0 for gain in kept) <= 3
    assert sum(each.found for each in done) >= 0.6 * sum(each.big for each in done)


def test_a_decision_is_plain_values() -> None:
    said = decide(pairs_of([1.0]), PLAIN)
    assert isinstance(said, Decision)
    assert hash(said) == hash(decide(pairs_of([1.0]), PLAIN))
