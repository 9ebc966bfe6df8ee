"""A researcher reads on one line what a verdict says and cost, and behind enter what it rests on, seed by seed."""

from __future__ import annotations

from typing import cast

import pytest

from cockpit.evidence import headline, short_weight, sources, weight
from cockpit.format import width_of
from cockpit.listing import experiment_lines, experiments
from cockpit.model import ReadModel
from cockpit.widgets.forest import Mark, forest
from cockpit.widgets.runs_table import columns, heading
from engine.types import PairRow, Row, VerdictRow
from tests.fakes import TRUNK_SCORES, ScriptedEngine, experiment_row, lab_in_progress, shard_row
from tests.test_app import sitting

SIZES = pytest.mark.parametrize("size", [(200, 50), (80, 24)], ids=["200x50", "80x24"])
SENTENCE = "20:1 evidence on the same seeds; E 31 of 20 needed; +0.0126 bits per byte on 3 seeds"
GAINS = (0.0126, 0.0084, 0.0169)


def weighed_verdict(**changes: object) -> VerdictRow:
    row = VerdictRow(
        verdict="solid", rung="screen", effect=0.0126, lo=0.0021, hi=0.0230, se=0.003, n=3, sentence=SENTENCE,
        evidence=31.2, bar=20.0, sigma=0.0031, mode="fast", shrunk=0.0109, seconds=34.5,
    )  # fmt: skip
    return cast(VerdictRow, {**row, **changes})


def judged_by_evidence() -> ScriptedEngine:
    """The scripted lab, and in it one experiment that was judged sequentially."""
    engine = lab_in_progress()
    pairs = [
        PairRow(seed=seed, trunk=TRUNK_SCORES[seed], candidate=round(TRUNK_SCORES[seed] - gain, 4), difference=gain)
        for seed, gain in enumerate(GAINS)
    ]
    row = experiment_row("0020", "Normalise the queries and keys", verdict=weighed_verdict(), pairs=pairs)
    engine.put(row)
    for pair in pairs:
        engine.put(shard_row("0020", pair["seed"], metric=pair["candidate"]))
    return engine


def model_of(engine: ScriptedEngine) -> ReadModel:
    model = ReadModel()
    model.apply(cast(list[Row], list(engine.rows.values())), engine.head)
    return model


@SIZES
async def test_one_line_of_the_table_has_verdict_effect_evidence_seeds_and_cost(size: tuple[int, int]) -> None:
    async with sitting(judged_by_evidence(), size) as desk:
        await desk.until(lambda: "0020" in desk.text)
        line = next(line for line in desk.text.split("\n") if " 0020 " in line)
        said = ("solid", "+.0126 [+.0021, +.0230]" if size[0] == 200 else "+.0126 ±.0105", "31/20", "3/3", "34s")
        for each in said:
            assert each in line, f"{each} in {line!r}"
        assert "E/bar" in desk.text
        assert "Normalise the que" in line


@SIZES
async def test_enter_opens_the_pairs_as_plot_and_table_with_their_origin(size: tuple[int, int]) -> None:
    engine = judged_by_evidence()
    commit = experiment_row("0020", "")["commit"]
    assert commit is not None
    async with sitting(engine, size) as desk:
        await desk.until(lambda: "0020" in desk.text)
        await desk.press("j", "enter")
        await desk.until(lambda: "evidence 0020" in desk.text)
        for seed, gain in enumerate(GAINS):
            assert f"seed {seed} " in desk.text
            assert f"+.{round(gain * 10_000):04d}" in desk.text
        assert "E 31 of 20 needed · 3 seeds · 0.57 shard minutes" in " ".join(desk.text.split())
        assert "├" in desk.text, "the interval of the mean is drawn"
        for row in ("trunk-1.screen.s2.a1 0020.screen.s2.a1", "20:1 evidence on the same seeds"):
            assert row in desk.text
        assert all(width_of(each) <= size[0] for each in desk.text.split("\n"))
        await desk.press("tab", "G")
        await desk.until(lambda: commit[:12] in desk.text)
        assert "from verdicts where experiment = '0020'" in " ".join(desk.text.split())
        await desk.press("escape")
        await desk.until(lambda: "evidence 0020" not in desk.text and "trunk-1" in desk.text)


@SIZES
async def test_what_costs_more_is_shown_at_equal_tokens_flops_and_time(size: tuple[int, int]) -> None:
    engine = judged_by_evidence()
    bases = {
        "compare": "flops", "kappa": 0.2, "tokens": {"ratio": 1.0, "effect": 0.0126},
        "flops": {"ratio": 2.018, "effect": -0.1278}, "time": {"ratio": 1.9, "effect": None},
    }  # fmt: skip
    engine.change("experiment", "0020", verdict=weighed_verdict(bases=bases))
    async with sitting(engine, size) as desk:
        await desk.until(lambda: "0020" in desk.text)
        await desk.press("j", "enter")
        await desk.until(lambda: "evidence 0020" in desk.text)
        await desk.press("tab", "G")
        await desk.until(lambda: "at equal" in desk.text)
        rows = [line.split() for line in desk.text.split("\n")]
        assert any(row[-8:] == ["FLOPs", "2.02x", "−.1278", "the", "verdict", "is", "on", "this"] for row in rows)
        assert any({"tokens", "1x", "+.0126"} <= set(row) for row in rows)
        assert any({"time", "1.9x"} <= set(row) for row in rows)
        assert "less kappa ln(cost ratio), with kappa 0.2000" in " ".join(desk.text.split())


async def test_the_page_follows_the_cursor_and_steps_aside_for_a_shard_and_for_the_trunk() -> None:
    async with sitting(judged_by_evidence(), (200, 50)) as desk:
        await desk.until(lambda: "0020" in desk.text)
        await desk.press("j", "enter")
        await desk.until(lambda: "evidence 0020" in desk.text and "s1" in desk.text)
        await desk.press("j")
        await desk.until(lambda: "evidence" not in desk.text and "log 0020.screen.s0" in desk.text)
        await desk.press("k", "k")
        await desk.until(lambda: "trunk-1" in desk.text and "evidence" not in desk.text)
        await desk.press("j")
        await desk.until(lambda: "evidence 0020" in desk.text)
        await desk.press("b")
        await desk.until(lambda: "evidence 0020" not in desk.text)


def test_the_words_say_the_metrics_unit_and_leave_out_what_is_not_known() -> None:
    model = model_of(judged_by_evidence())
    assert headline(model, model.experiments["0020"], "solid") == (
        "solid · +.0126 [+.0021, +.0230] bits per byte · E 31 of 20 needed · 3 seeds · 0.57 shard minutes"
    )
    assert headline(model, model.experiments["0005"], "solid").count(" E ") == 0
    assert weight(weighed_verdict(bar=None)) == "E 31, and no bar is left"
    assert (short_weight(None), short_weight(weighed_verdict(bar=None))) == ("", "31/∞")
    assert short_weight(weighed_verdict(evidence=399081.4)) == ">1k/20"
    assert short_weight(weighed_verdict(evidence=0.0331)) == "<0.1/20"


def test_a_figure_whose_shard_is_gone_says_so() -> None:
    engine = judged_by_evidence()
    model = model_of(engine)
    del model.shards["0020.screen.s1.a1"]
    model._of["0020"].remove("0020.screen.s1.a1")
    found = sources(model, model.experiments["0020"])
    assert [each.candidate for each in found] == ["0020.screen.s0.a1", None, "0020.screen.s2.a1"]
    assert [each.trunk for each in found] == [f"trunk-1.screen.s{seed}.a1" for seed in range(3)]


def test_the_plot_stands_on_one_scale_and_cuts_an_interval_that_would_press_it_together() -> None:
    marks = [Mark("seed 0", 0.02), Mark("seed 1", -0.01), Mark("mean", 0.005, -9.0, 9.0)]
    lines = [line.text for line in forest(marks, 60)]
    zero = lines[0].index("│")
    assert lines[0].index("●") > lines[2].index("●") > lines[1].index("●")
    assert "◂" in lines[2]
    assert "▸" in lines[2]
    assert all(width_of(line) <= 60 for line in lines)
    assert lines[1].index("●") < zero
    assert forest(marks, 20) == []
    assert forest([], 60) == []
    assert forest([Mark("seed 0", 0.0)], 60)[0].text.count("●") == 1


@pytest.mark.parametrize("width", [78, 80, 93, 116, 120, 140, 200])
def test_the_columns_of_evidence_fit_and_never_go(width: int) -> None:
    for alone in (False, True):
        cols = columns(width, alone=alone, weighed=True)
        assert width_of(heading(cols, "val_bpb").text) <= width
        assert cols.what >= 17
        assert min(cols.state, cols.weight, cols.cost, cols.effect) > 0


def test_the_command_line_lists_the_same() -> None:
    listing = experiments(cast(list[Row], list(judged_by_evidence().rows.values())))
    found = next(each for each in listing["experiments"] if each["id"] == "0020")
    assert (found["evidence"], found["bar"], found["sigma"], found["mode"], found["shrunk"]) == (
        31.2, 20.0, 0.0031, "fast", 0.0109,
    )  # fmt: skip
    assert found["minutes"] == pytest.approx(0.575)
    line = next(line for line in experiment_lines(listing).split("\n") if line.startswith("0020"))
    assert "31/20" in line
    assert "0.575" in line


@SIZES
async def test_what_it_does_to_each_source_is_drawn_around_zero(size: tuple[int, int]) -> None:
    engine = judged_by_evidence()
    for seed in range(3):
        engine.change("shard", f"trunk-1.screen.s{seed}.a1", sources={"code": 1.5, "web": 2.0, "books": 1.8})
        engine.change("shard", f"0020.screen.s{seed}.a1", sources={"code": 1.52, "web": 1.96, "books": 1.8})
    async with sitting(engine, size) as desk:
        await desk.until(lambda: "0020" in desk.text)
        await desk.press("j", "enter")
        await desk.until(lambda: "evidence 0020" in desk.text)
        await desk.press("tab", "G")
        await desk.until(lambda: "by source, better by" in desk.text)
        found = desk.text.split("by source, better by")[1].split("\n")[1:4]
        bars = [line[line.index(name) :] for line, name in zip(found, ("code", "books", "web"), strict=True)]
        assert ["━" in each.split("│")[0] for each in bars] == [True, False, False], "a loss is to the left"
        assert ["━" in each.split("│")[1] for each in bars] == [False, False, True]
        assert [figure in each for figure, each in zip(("−.0200", "+.0000", "+.0400"), bars, strict=True)] == [True] * 3
