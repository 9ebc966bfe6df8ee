"""What a verdict comes to on each data source, on the seeds that both sides finished."""

from __future__ import annotations

from typing import Any

import pytest

from cockpit.listing import experiments
from cockpit.sources import changes, words
from tests.fakes import lab_in_progress
from tests.test_app import sitting
from tests.test_findings_screen import select


def shard(seed: int, sources: dict[str, float], attempt: int = 1, **more: Any) -> dict[str, Any]:
    row = {"rung": "screen", "outcome": "finished", "seed": seed, "sources": sources, "attempt": attempt}
    return {**row, **more}


def test_a_change_is_the_mean_over_shared_seeds_and_above_zero_is_better() -> None:
    trunk = [shard(0, {"code": 2.0, "docs": 1.0}), shard(1, {"code": 2.2, "docs": 1.2}), shard(7, {"code": 9.0})]
    mine = [
        shard(0, {"code": 1.9, "docs": 1.3, "new": 5.0}),
        shard(1, {"code": 8.0, "docs": 8.0}),
        shard(1, {"code": 2.0, "docs": 1.3}, attempt=2),
        shard(2, {"code": 1.0}),
        shard(0, {"code": 0.0}, attempt=2, outcome="crashed"),
        shard(0, {"code": 0.0}, attempt=3, rung="confirm"),
    ]
    found = changes(mine, trunk, "screen", "min")
    assert found == {"code": pytest.approx(0.15), "docs": pytest.approx(-0.2)}
    assert changes(mine, trunk, "screen", "max") == {"code": pytest.approx(-0.15), "docs": pytest.approx(0.2)}
    assert words(found).startswith("docs ")
    assert changes([], trunk, "screen", "min") == {}


async def test_it_stands_with_the_verdict_on_screen_and_in_the_listing() -> None:
    engine = lab_in_progress()
    (row,) = [each for each in experiments(list(engine.rows.values()))["experiments"] if each["id"] == "0005"]
    assert set(row["sources"]) == {"code", "docs", "stories"}
    async with sitting(engine, (200, 60)) as desk:
        await desk.until(lambda: "0005" in desk.text)
        await select(desk, "0005")
        await desk.until(lambda: "by source: " in desk.text)
