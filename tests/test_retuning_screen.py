"""On screen 1 a researcher asks whether the idea won or its learning rate, and reads what came of it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cockpit.format import width_of
from cockpit.listing import retune_words
from engine.types import PairRow, Retuned, RetuneRow, Row
from tests.fakes import ScriptedEngine
from tests.test_app import sitting
from tests.test_evidence_screen import judged_by_evidence

SIZES = pytest.mark.parametrize("size", [(200, 50), (80, 24)], ids=["200x50", "80x24"])
COST = "runs both sides at 0.5x 1x 2x of their learning rate on 2 tuning seeds, then 6 pairs on other seeds: 24 shards at most"
SENTENCE = "explained by learning rate: +0.0002 nats [-0.0010, +0.0014] on 6 pairs (the trunk is best at 2x)"


def row(**changes: Any) -> RetuneRow:
    pair = PairRow(seed=1002, trunk=1.9, candidate=1.8998, difference=0.0002)
    tried = [
        {"side": side, "factor": factor, "mean": mean}
        for side, means in (("trunk", (2.1, 2.0, 1.9)), ("experiment", (1.95, 1.9, None)))
        for factor, mean in zip((0.5, 1.0, 2.0), means, strict=True)
    ]
    whole = RetuneRow(
        kind="retune", id="t0001", seq=1, experiment="0020", baseline="trunk-1", rung="screen", setup="s", state="ended",
        factors=[0.5, 1.0, 2.0], tuning=[1000, 1001], seeds=[1002], wanted=6, tried=cast(Any, tried), trunk_best=2.0, best=1.0,
        label=Retuned.EXPLAINED.value, sentence=SENTENCE, mean=0.0002, lo=-0.001, hi=0.0014, n=6, pairs=[pair],
        who={"name": "Ada"}, why="", began=1.0, ended=2.0,
    )  # fmt: skip
    return cast(RetuneRow, {**whole, **changes})


def explained() -> ScriptedEngine:
    engine = judged_by_evidence()
    engine.put(cast(Row, row()))
    engine.put(cast(Row, {**engine.rows["experiment", "0020"], "retuned": Retuned.EXPLAINED.value}))
    return engine


async def test_r_says_what_it_runs_and_the_second_stroke_starts_it() -> None:
    engine = judged_by_evidence()
    engine.answers["retune_cost"] = {"sentence": COST}
    engine.answers["retune"] = {"state": "retuning", "retune": "t0001", "experiment": "0020"}
    async with sitting(engine) as desk:
        await desk.press("j", "r")
        await desk.until(lambda: desk.asking)
        assert "Retune 0020: did the idea win, or the learning rate?" in desk.text
        assert "24 shards at most" in " ".join(desk.text.split())
        assert engine.asked("retune") == []
        await desk.press("enter")
        asked: list[dict[str, Any]] = []
        await desk.until(lambda: asked.extend(engine.asked("retune")) or asked)
        assert asked[0]["experiment"] == "0020"
        await desk.until(lambda: "0020 is being retuned, as t0001" in desk.text)


async def test_what_has_no_verdict_cannot_be_retuned_and_the_key_says_so() -> None:
    async with sitting() as desk:
        await desk.press("r")
        assert "no experiment is selected" in desk.status
        await desk.press("j", "j", "j", "r")
        assert "0007 is running: there is no verdict that a rate could explain" in desk.status
        assert not desk.asking


@SIZES
async def test_the_evidence_has_the_label_in_its_line_both_brackets_and_the_pairs(size: tuple[int, int]) -> None:
    async with sitting(explained(), size) as desk:
        await desk.until(lambda: "0020" in desk.text)
        await desk.press("j", "enter")
        await desk.until(lambda: "evidence 0020" in desk.text)
        assert "3 seeds · explained by learning rate · 0.57 shard minutes" in " ".join(desk.text.split())
        if size[1] == 24:
            await desk.press("ctrl+d", "ctrl+d")
        await desk.until(lambda: "mean of 2 tuning seeds" in desk.text)
        lines = desk.text.split("\n")
        assert any("2x" in line and "1.9000*" in line and "failed" in line for line in lines)
        assert any("1x" in line and "2.0000" in line and "1.9000*" in line for line in lines)
        assert all(width_of(each) <= size[0] for each in lines)


async def test_the_overview_says_what_came_of_it() -> None:
    async with sitting(explained()) as desk:
        await desk.press("j")
        await desk.until(lambda: "retuned: explained by learning rate" in desk.text)


def test_how_far_it_is_stands_in_words_and_fits() -> None:
    assert retune_words(row(state="tuning")) == (
        "both sides run at 0.5x 1x 2x of their learning rate on tuning seeds 1000, 1001"
    )
    assert retune_words(row(state="pairs", sentence="so")) == "6 pairs run at each side's best rate: so"
    assert retune_words(row(state="withdrawn", sentence="the trunk moved")) == "withdrawn: the trunk moved"
