"""Before a researcher signs, seeds that nobody has seen have the last word, and past merges are held to what they claimed."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engine.judge.fresh import audit, audit_due, fresh_seeds, headline, pooled_interval
from engine.judge.noise import Noise
from engine.judge.replay import replay

many = settings(max_examples=100, deadline=None)
QUIET = Noise(0.01, 0.008)
HISTORY = Path(__file__).parent / "golden" / "history_h100.json"


def test_fresh_seeds_were_never_used() -> None:
    assert fresh_seeds({0, 1, 2}, 3) == (1000, 1001, 1002)
    assert fresh_seeds({1000, 1002}, 3) == (1001, 1003, 1004)
    with pytest.raises(ValueError, match="none or more"):
        fresh_seeds((), -1)


def test_three_fresh_pairs_confirm_a_clear_gain_and_their_mean_is_the_headline() -> None:
    said = [headline([0.05, 0.06, 0.04][:n], QUIET) for n in range(4)]
    assert [each.action for each in said] == ["more", "more", "more", "confirmed"]
    assert said[-1].mean == pytest.approx(0.05)
    assert said[-1].lo is not None
    assert said[-1].lo > 0


def test_fresh_pairs_say_no_where_the_gain_is_gone_or_a_run_fails() -> None:
    assert headline([-0.01, 0.005, -0.02], QUIET).action == "vetoed"
    assert headline([0.05, 0.06, 0.04], QUIET, failed=[1003]).why == "failed on fresh seed 1003"
    assert headline([-0.01, -0.01], QUIET).action == "more"  # two are no answer


def test_a_small_gain_gets_eight_pairs_and_no_more() -> None:
    small = [0.002, 0.001, 0.003, 0.002, 0.001, 0.002, 0.003, 0.002]
    assert {headline(small[:n], QUIET).action for n in range(3, 8)} == {"more"}
    last = headline(small, QUIET)
    assert last.action == "confirmed"
    assert "reaches below it" in last.why


@many
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.floats(0.01, 1), st.sampled_from([0.8, 0.95]))
def test_the_interval_is_a_t_interval_with_the_pooled_variance(found: list[float], scale: float, level: float) -> None:
    mean, lo, hi = pooled_interval(found, Noise(1.0, scale), level)
    n = len(found)
    variance = (8 * scale**2 + sum((each - mean) ** 2 for each in found)) / (8 + n - 1)
    expected = stats.t.interval(level, 8 + n - 1, mean, math.sqrt(variance / n))
    assert (lo, hi) == pytest.approx(expected, abs=1e-9)


def test_the_interval_of_a_headline_holds_as_often_as_it_says() -> None:
    draw, held, runs = random.Random(2), 0, 2000
    for _ in range(runs):
        spread = math.sqrt(8 / draw.gammavariate(4, 2))
        _, lo, hi = pooled_interval([draw.gauss(0.7, spread) for _ in range(3)], Noise(1.0, 1.0))
        held += lo <= 0.7 <= hi
    assert held / runs == pytest.approx(0.95, abs=0.015)


def test_an_audit_after_five_merges_sets_what_was_gained_beside_what_was_claimed() -> None:
    assert [merges for merges in range(8) if audit_due(merges)] == [5, 6, 7]
    assert [audit_due(3, every) for every in (0, 2, 3, 4)] == [False, True, True, False]
    honest = audit([0.01, 0.02, 0.01, 0.02, 0.01], [0.068, 0.071, 0.069, 0.07], QUIET)
    assert honest.claimed == pytest.approx(0.07)
    assert not honest.overclaimed
    assert audit([0.03] * 5, [0.05, 0.06, 0.05, 0.06], QUIET).overclaimed
    pairs = [0.055, 0.056, 0.054, 0.055]
    assert audit([0.014] * 5, pairs, QUIET).overclaimed
    assert not audit([0.014] * 5, pairs, QUIET, within=[0.008] * 5).overclaimed, "the claims are not known that well"
    with pytest.raises(ValueError, match="no fresh pair"):
        audit([0.1], [], QUIET)


def test_honest_claims_are_called_too_large_as_seldom_as_the_level_says_and_dishonest_ones_are_found() -> None:
    draw, noise = random.Random(5), Noise(math.sqrt(0.5), 1.0)
    honest = dishonest = 0
    for _ in range(1000):
        said = [_confirmed(draw, 2.0, noise) for _ in range(5)]
        claims, within = [mean for mean, _ in said], [half for _, half in said]
        pairs = [draw.gauss(10, 1) for _ in range(4)]
        honest += audit(claims, pairs, noise, within=within).overclaimed
        dishonest += audit(claims, [each - 5 for each in pairs], noise, within=within).overclaimed
    assert honest <= 30
    assert dishonest >= 900


def _confirmed(draw: random.Random, gain: float, noise: Noise) -> tuple[float, float]:
    """(headline, half of its interval) of a merge with such a gain, in units of the spread of a pair."""
    while True:
        pairs: list[float] = []
        while (said := headline(pairs, noise)).action == "more":
            pairs.append(draw.gauss(gain, 1))
        if said.action == "confirmed":
            assert said.mean is not None
            assert said.lo is not None
            return said.mean, said.mean - said.lo


def test_a_published_night_of_single_runs_kept_fourteen_changes_that_a_seed_is_worth() -> None:
    history = json.loads(HISTORY.read_text())
    kept = [mark == "keep" for mark in history["status"]]
    losses = [math.nan if loss is None else loss for loss in history["val_bpb"]]
    found = replay(losses, kept, history["seed_swap"])
    assert len(found) == 22
    assert sum(each.inside_noise for each in found) == 14
    assert losses[history["seed_swap"]] - losses[history["seed_swap"] - 1] == pytest.approx(0.0007, abs=5e-6)


def test_a_history_that_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="for every row"):
        replay([1.0], [True, False], 0)
    with pytest.raises(ValueError, match="kept before it"):
        replay([1.0, 0.9], [False, True], 0)
