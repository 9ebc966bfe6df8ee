"""A reviewer sees what a diff does to the data mix, as shares before and after, without anything being run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cockpit.mix_lines import mix_lines
from engine.mix import composition
from engine.textdiff import unified
from tests.fakes import NORM, hash_of, lab_in_progress
from tests.test_app import sitting
from tests.tinylab import TRAIN, TinyLab, proposal, wait_for, waiting

Make = Callable[..., TinyLab]
MIX = (Path(__file__).parents[1] / "sample_runs" / "nanolm" / "mix.toml").read_text()


def mixes(path: str, before: str | None, after: str | None) -> list[dict[str, object]]:
    sides = [None if text is None else text.encode() for text in (before, after)]
    diff = unified({path: sides[0]}, {path: sides[1]})
    return [dict(row) for row in composition(diff, lambda asked: sides[0] if asked == path else None)]


def test_shares_of_the_sample_labs_mix_before_and_after() -> None:
    (row,) = mixes("mix.toml", MIX, MIX.replace("code = 1.0", "code = 5.0"))
    assert (row["path"], row["table"]) == ("mix.toml", "weights")
    assert row["before"] == dict.fromkeys(("code", "docs", "stories", "arithmetic"), 0.25)
    assert row["after"] == {"code": 0.625, "docs": 0.125, "stories": 0.125, "arithmetic": 0.125}
    lines = [line.text for line in mix_lines([row])]
    assert lines[0] == "THE DATA MIX, before and after (mix.toml, weights)"
    assert lines[1].split() == ["code", "25.0", "%", "━" * 5, "62.5", "%", "━" * 12, "+37.5", "points"]
    assert len(lines) == 5


def test_a_source_that_comes_and_one_that_goes_have_an_empty_side() -> None:
    before, after = (json.dumps({"data": {"mixture": each}}) for each in ({"a": 1, "b": 3}, {"b": 3, "c": 1}))
    (row,) = mixes("conf/data.json", before, after)
    assert (row["table"], row["before"], row["after"]) == (
        "data.mixture",
        {"a": 0.25, "b": 0.75},
        {"b": 0.75, "c": 0.25},
    )
    assert "a" in [line.text.split()[0] for line in mix_lines([row])]


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("mix.toml", MIX, MIX.replace("min_bytes = 0", "min_bytes = 9")),  # weights stay as they are
        ("train.py", "weights = 1\n", "weights = 2\n"),
        ("mix.toml", "[weights]\na = 1\nb = 1\n", "[weights]\na = -1\nb = \n"),  # no TOML, and no weights
        ("mix.json", "{", "[" * 100_000),
        ("mix.toml", '[weights]\na = "x"\nb = 1\n', '[weights]\na = "y"\nb = 1\n'),
        ("mix.toml", "[weights]\na = inf\nb = 1\n", "[weights]\na = nan\nb = 1\n"),
        ("mix.toml", "[optimizer]\nbeta1 = 0.9\nbeta2 = 0.95\n", "[optimizer]\nbeta1 = 0.8\nbeta2 = 0.95\n"),
    ],
)
def test_what_is_no_mix_shows_none_and_breaks_nothing(path: str, before: str, after: str) -> None:
    found = mixes(path, before, after)
    assert not [row for row in found if row["before"] and row["after"]]


async def test_a_reviewer_sees_the_bars_above_the_diff() -> None:
    engine = lab_in_progress()
    diff = {"diff": NORM, "hash": hash_of(NORM), "parent": "4f2c9d1e07", "source": ""}
    mix = {"path": "mix.toml", "table": "weights", "before": {"a": 0.5, "b": 0.5}, "after": {"a": 0.75, "b": 0.25}}
    engine.answers["diff"] = {**diff, "mix": [mix]}
    async with sitting(engine, (160, 60)) as desk:
        await desk.read_proposal("p0010")
        await desk.until(lambda: "THE DATA MIX, before and after" in desk.text)
        assert "75.0 % ━━━" in desk.text
        assert "+25.0 points" in desk.text


def test_a_small_source_with_a_large_share_is_gone_through_often_at_full_scale() -> None:
    before, after = {"a": 0.5, "b": 0.5}, {"a": 0.1, "b": 0.9}
    mix = {
        "path": "mix.toml",
        "table": "weights",
        "before": before,
        "after": after,
        "epochs": [
            {"rung": "screen", "tokens": 3e5, "before": {"a": 0.15, "b": 1.5}, "after": {"a": 0.03, "b": 2.7}},
            {"rung": "full", "tokens": 3e7, "before": {"a": 15.0, "b": 150.0}, "after": {"a": 3.0, "b": 270.0}},
        ],
    }
    lines = [line.text for line in mix_lines([mix])]
    assert lines[3:] == [
        "epochs at rung screen, 300k tokens",
        "a     0.15 → 0.03",
        "b      1.5 → 2.7",
        "epochs at rung full, 30.0M tokens",
        "a       15 → 3",
        "b      150 → 270  each text comes again and again",
    ]


def test_a_diff_that_does_not_apply_shows_none() -> None:
    diff = unified({"mix.toml": b"[weights]\na = 1\nb = 1\n"}, {"mix.toml": b"[weights]\na = 2\nb = 1\n"})
    assert composition(diff, lambda path: b"something else\n") == []
    assert composition(diff, lambda path: None) == []


def test_the_engine_gives_it_with_the_diff(tiny: Make) -> None:
    mix = "[weights]\na = 1\nb = 1\n"
    lab = tiny(proposal("More of a", "a = 1", "a = 3", "data mix", "mix/mix.toml"), more={"mix/mix.toml": mix})
    with lab.session() as session:
        (row,) = wait_for(lambda: waiting(session))
        (shown,) = session.call("diff", proposal=row["id"])["mix"]
        assert (shown["before"], shown["after"]) == ({"a": 0.5, "b": 0.5}, {"a": 0.75, "b": 0.25})
        assert shown["epochs"] == []  # nobody said how much text there is


def test_epochs_at_this_budget_and_at_the_largest_come_with_what_the_trunk_says_of_its_data(tiny: Make) -> None:
    mix = "[weights]\na = 1\nb = 1\n"
    says = TRAIN.replace('"tokens": steps * 10', '"tokens": steps * 10, "source_tokens.a": 50, "source_tokens.b": 100')
    more_of_a = proposal("More of a", "a = 1", "a = 3", "data mix", "mix/mix.toml")
    judge = '[judge]\nmode = "fast"\ncalibration = 3\n[rungs.full]\nbudget = 60\ntimeout = "1m"\n'
    lab = tiny(more_of_a, more={"mix/mix.toml": mix, "train.py": says}, extra=judge)
    with lab.session() as session:
        (row,) = wait_for(lambda: waiting(session))
        wait_for(lambda: session.call("diff", proposal=row["id"])["mix"][0]["epochs"])
        screen, full = session.call("diff", proposal=row["id"])["mix"][0]["epochs"]
        tokens = screen["tokens"]
        assert (screen["rung"], full["rung"]) == ("screen", "full")
        assert full["tokens"] > tokens
        for run in (screen, full):
            assert run["before"] == {"a": 0.5 * run["tokens"] / 50, "b": 0.5 * run["tokens"] / 100}
            assert run["after"] == {"a": 0.75 * run["tokens"] / 50, "b": 0.25 * run["tokens"] / 100}
