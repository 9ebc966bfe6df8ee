"""Dollars and minutes: what a call costs, what is in flight, and when the budget says no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.money import (
    Budget,
    Price,
    PriceError,
    Spent,
    dollars,
    left,
    midnight,
    minutes,
    parse_prices,
    reached,
    read_prices,
)
from engine.proposers.stream import Usage

NOTHING = Spent(0, 0, 0, 0)


def test_the_shipped_prices_are_dated_and_price_a_call_to_the_cent(tmp_path: Path) -> None:
    prices = read_prices(tmp_path)
    assert prices.as_of
    opus = prices.of("claude-opus-5-5")
    assert opus is not None
    assert opus.of(Usage(input=1_000_000)) == 4.0
    assert opus.of(Usage(output=1_000_000, thinking=600_000)) == 20.0
    assert opus.of(Usage(cache_read=1_000_000)) == pytest.approx(0.4)
    assert opus.of(Usage(cache_write=1_000_000)) == 5.0
    assert opus.of(Usage(cache_write=1_000_000, cache_write_1h=500_000)) == 6.5
    sonnet = prices.of("claude-sonnet-5-5-20261001")
    assert sonnet is not None
    assert (sonnet.input, sonnet.output) == (2.0, 10.0)
    assert prices.of("claude-opus-5-5x") is None
    assert prices.of("unheard-of") is None


def test_the_most_that_a_call_can_cost_is_never_less_than_what_it_does() -> None:
    price = Price(4, 20, 0.4, 5, 8)
    for used in (
        Usage(input=900, output=50),
        Usage(cache_write=900, cache_write_1h=900, output=50),
        Usage(cache_read=900),
    ):
        assert price.most(Usage(cache_write=900, output=50)) >= price.of(used)


def test_the_labs_own_price_file_is_used_instead(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text("[models.mine]\ninput = 1\noutput = 2\ncache_read = 0.5\n")
    prices = read_prices(tmp_path)
    assert prices.of("claude-opus-5-5") is None
    mine = prices.of("mine")
    assert mine is not None
    assert (mine.cache_read, mine.cache_write) == (0.5, 1.25)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[models.x]\ninput = 1\n", "models.x.output"),
        ("[models.x]\ninput = -1\noutput = 1\n", "models.x.input"),
        ('[models.x]\ninput = "1"\noutput = 1\n', "models.x.input"),
        ("[models.x]\ninput = nan\noutput = 1\n", "models.x.input"),
        ("models = 3\n", "must be tables"),
        ("x = [", "not TOML"),
    ],
)
def test_a_price_file_that_is_wrong_says_where(text: str, says: str) -> None:
    with pytest.raises(PriceError, match=says):
        parse_prices(text, "prices.toml")


def call(state: str, usd: float | None, most: float | None, began: float) -> dict[str, Any]:
    return {"state": state, "usd": usd, "most_usd": most, "began": began}


def test_running_and_lost_calls_count_at_their_most_and_failed_ones_at_what_they_used() -> None:
    rows = [
        call("done", 1.0, 5.0, 10),
        call("running", None, 2.0, 110),
        call("lost", None, 3.0, 120),
        call("refusal", 0.5, 5.0, 130),
    ]
    assert dollars(rows, 100) == (5.5, 6.5)
    assert dollars([call("done", None, None, 1)], 0) == (0.0, 0.0)


def shard(experiment: str, seed: int, state: str, started: float | None, ended: float | None) -> Any:
    return {
        "experiment": experiment,
        "seed": seed,
        "rung": "screen",
        "state": state,
        "started": started,
        "ended": ended,
    }


def test_shards_that_run_and_those_still_to_come_are_in_flight() -> None:
    ended = [shard("trunk-1", seed, "ended", 0.0, 60.0) for seed in range(3)]
    arms = {"trunk-1": {"role": "trunk", "state": "judged", "rung": "screen"}}
    assert minutes(ended, arms, 3, {"screen": 180.0}, 1000.0, 500.0) == (0.0, 3.0)
    arms["0001"] = {"role": "experiment", "state": "running", "rung": "screen"}
    running = [*ended, shard("0001", 0, "running", 990.0, None)]
    # one runs and is taken to last a minute, as the others did; two seeds are still to come
    assert minutes(running, arms, 3, {"screen": 180.0}, 1000.0, 500.0) == (3.0, 6.0)
    assert minutes([], {"0001": arms["0001"]}, 3, {"screen": 180.0}, 1000.0, 500.0) == (9.0, 9.0)


@pytest.mark.parametrize(
    ("budget", "spent", "more", "says"),
    [
        (Budget(), Spent(1e6, 1e6, 1e6, 1e6), 1e6, None),
        (Budget(dollars=1.0), Spent(0, 0.9, 0, 0), 0.2, "budget.dollars stops proposing"),
        (Budget(dollars=1.0), Spent(0, 0.9, 0, 0), 0.05, None),
        (Budget(dollars_per_day=1.0), Spent(0.9, 5, 0, 0), 0.2, "today"),
        (Budget(dollars=0), NOTHING, 0.01, "budget.dollars "),
        (Budget(shard_minutes_per_day=10), Spent(0, 0, 10, 99), 0, "shard_minutes_per_day"),
        (Budget(shard_minutes=10), Spent(0, 0, 0, 9.9), 0, None),
    ],
)
def test_the_budget_says_no_before_it_is_passed(budget: Budget, spent: Spent, more: float, says: str | None) -> None:
    found = reached(budget, spent, more)
    assert found is None if says is None else found is not None and says in found


def test_what_is_left_is_said_in_words_and_a_day_begins_at_midnight_here() -> None:
    assert left(Budget(), NOTHING) == ("no limit is set",)
    assert left(Budget(dollars=2, shard_minutes_per_day=30), Spent(0, 0.5, 12, 50)) == (
        "$1.50 of $2.00 left for models in this campaign",
        "18.0 shard-minutes of 30.0 shard-minutes left today",
    )
    now = 1_790_000_000.0
    assert 0 <= now - midnight(now) < 25 * 3600
    assert midnight(midnight(now)) == midnight(now)
