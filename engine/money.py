"""What calls cost, and whether the lab's budget allows another: pure arithmetic over rows and prices.

Whatever is in flight counts in full: a call at the most that it can use, a shard at the time that its like took. Failed calls
count too, and a call whose end nobody saw counts at its most.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.proposers.stream import Usage
from engine.types import ExperimentState, Failure, ShardRow, ShardState

PRICES = "prices.toml"
MILLION = 1_000_000


class PriceError(ValueError):
    """The price file cannot be used; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars a million tokens, by how they are counted."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    cache_write_1h: float

    def of(self, usage: Usage) -> float:
        """Dollars for this usage; thinking is part of the output."""
        hour = min(usage.cache_write_1h, usage.cache_write)
        parts = (
            usage.input * self.input,
            usage.cache_read * self.cache_read,
            (usage.cache_write - hour) * self.cache_write,
            hour * self.cache_write_1h,
            usage.output * self.output,
        )
        return sum(parts) / MILLION

    def most(self, usage: Usage) -> float:
        """The most that this usage can cost: all of its cache writes kept for an hour."""
        return (usage.cache_write * max(self.cache_write_1h, self.input) + usage.output * self.output) / MILLION


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model, and when they were looked up."""

    models: Mapping[str, Price]
    as_of: str
    file: str

    def of(self, model: str) -> Price | None:
        """The price of a model, or of the one that it is a dated version of; None when neither is listed."""
        names = [name for name in self.models if model == name or model.startswith(name + "-2")]
        return self.models[max(names, key=len)] if names else None


def read_prices(root: Path) -> Prices:
    """The lab's own `prices.toml`, else the one that ships. Raises PriceError."""
    own = root / PRICES
    path = own if own.is_file() else Path(__file__).with_name(PRICES)
    try:
        return parse_prices(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PriceError(f"{path} cannot be read: {error}") from None


def parse_prices(text: str, name: str) -> Prices:
    """Prices from the text of a price file. Raises PriceError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PriceError(f"{name} is not TOML: {error}") from None
    cache, models = raw.get("cache", {}), raw.get("models", {})
    if not isinstance(cache, dict) or not isinstance(models, dict):
        raise PriceError(f"{name}: [cache] and [models.NAME] must be tables")
    shares = {"read": 0.1, "write": 1.25, "write_1h": 2.0} | cache
    return Prices(
        {model: _price(name, model, table, shares) for model, table in models.items()}, str(raw.get("as_of", "")), name
    )


def _price(name: str, model: str, table: Any, shares: Mapping[str, Any]) -> Price:
    if not isinstance(table, dict):
        raise PriceError(f"{name}: models.{model} must be a table with input and output")
    dear = _number(name, f"models.{model}.input", table.get("input"))
    cached = {
        key: _number(name, f"models.{model}.{key}", table[key])
        if key in table
        else dear * _number(name, f"cache.{share}", shares[share])
        for key, share in (("cache_read", "read"), ("cache_write", "write"), ("cache_write_1h", "write_1h"))
    }
    return Price(dear, _number(name, f"models.{model}.output", table.get("output")), **cached)


def _number(name: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise PriceError(f"{name}: {key} must be a number of dollars, 0 or above; got {value!r}")
    return float(value)


# --- the budget --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that may be spent: dollars on models, and minutes of shards; None is no limit."""

    dollars_per_day: float | None = None
    dollars: float | None = None
    shard_minutes_per_day: float | None = None
    shard_minutes: float | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent and is in flight, today and in the whole campaign."""

    dollars_today: float
    dollars: float
    minutes_today: float
    minutes: float


def reached(budget: Budget, spent: Spent, more: float = 0.0) -> str | None:
    """Why another call of at most `more` dollars is not to be made, in a sentence; None when it may be."""
    for limit, used, extra, unit, span, key in (
        (budget.dollars_per_day, spent.dollars_today, more, "$", "today", "dollars_per_day"),
        (budget.dollars, spent.dollars, more, "$", "in this campaign", "dollars"),
        (budget.shard_minutes_per_day, spent.minutes_today, 0.0, "min", "today", "shard_minutes_per_day"),
        (budget.shard_minutes, spent.minutes, 0.0, "min", "in this campaign", "shard_minutes"),
    ):
        if limit is not None and (used + extra > limit if unit == "$" else used >= limit):
            if unit == "$":
                would = f", and another call may cost ${extra:.2f}" if extra else ""
                return f"${used:.2f} of ${limit:.2f} are spent or in flight {span}{would}: budget.{key} stops proposing"
            return f"{used:.1f} of {limit:.1f} shard-minutes are used or in flight {span}: budget.{key} stops proposing"
    return None


def left(budget: Budget, spent: Spent) -> tuple[str, ...]:
    """What is left of each limit that is set, in words."""
    lines = []
    for limit, used, form, what in (
        (budget.dollars_per_day, spent.dollars_today, "${:.2f}", "for models today"),
        (budget.dollars, spent.dollars, "${:.2f}", "for models in this campaign"),
        (budget.shard_minutes_per_day, spent.minutes_today, "{:.1f} shard-minutes", "today"),
        (budget.shard_minutes, spent.minutes, "{:.1f} shard-minutes", "in this campaign"),
    ):
        if limit is not None:
            lines.append(f"{form.format(max(0.0, limit - used))} of {form.format(limit)} left {what}")
    return tuple(lines) or ("no limit is set",)


def dollars(calls: Iterable[Mapping[str, Any]], since: float) -> tuple[float, float]:
    """Dollars of calls begun after `since`, and of all. What runs or was lost counts at its most."""
    today = total = 0.0
    for row in calls:
        open_ended = row["state"] in ("running", Failure.LOST) or row["usd"] is None
        cost = (row["most_usd"] if open_ended else row["usd"]) or 0.0
        total += cost
        today += cost if row["began"] >= since else 0.0
    return today, total


def minutes(
    shards: Iterable[ShardRow],
    experiments: Mapping[str, Any],
    seeds: int,
    timeouts: Mapping[str, float],
    now: float,
    since: float,
) -> tuple[float, float]:
    """Minutes of shards since `since`, and of all; with those that run, and those that approved experiments still need.

    A shard that has not ended counts as long as the mean of those that have at its rung, else at the rung's timeout.
    """
    rows = list(shards)
    lengths: dict[str, list[float]] = {}
    for row in rows:
        if row["state"] == ShardState.ENDED and row["started"] is not None and row["ended"] is not None:
            lengths.setdefault(row["rung"], []).append(row["ended"] - row["started"])
    usual = {rung: sum(each) / len(each) for rung, each in lengths.items()}
    today = total = 0.0
    begun: dict[str, set[int]] = {}
    for row in rows:
        if not row.get("smoke"):
            begun.setdefault(row["experiment"], set()).add(row["seed"])
        if row["state"] == ShardState.ENDED:
            seconds = 0.0 if row["started"] is None or row["ended"] is None else row["ended"] - row["started"]
        else:
            ran = 0.0 if row["started"] is None else now - row["started"]
            seconds = max(ran, usual.get(row["rung"], timeouts.get(row["rung"], 0.0)))
        total += seconds
        today += seconds if (now if row["ended"] is None else row["ended"]) >= since else 0.0
    for name, arm in experiments.items():
        if arm["role"] == "experiment" and arm["state"] in (ExperimentState.QUEUED, ExperimentState.RUNNING):
            more = max(0, seeds - len(begun.get(name, ())))
            seconds = more * usual.get(arm["rung"], timeouts.get(arm["rung"], 0.0))
            total, today = total + seconds, today + seconds
    return today / 60, total / 60


def midnight(now: float) -> float:
    """When this day began here."""
    day = time.localtime(now)
    return time.mktime((day.tm_year, day.tm_mon, day.tm_mday, 0, 0, 0, 0, 0, -1))
