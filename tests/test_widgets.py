"""What the panes show, without a terminal: curves, diffs, code colours, logs, rows and what the reviewer is told."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.follow import Follower
from cockpit.format import width_of
from cockpit.model import KEEP_POINTS, Live, ReadModel
from cockpit.summary import RowKey, cost, kept_text, matches, ordered, past_of_category, reviews, trunk_noise
from cockpit.traces import chosen
from cockpit.widgets.curves import Trace, mean_of, plot, smooth
from cockpit.widgets.diff_view import diff_lines, parse_diff
from cockpit.widgets.lines import Line
from cockpit.widgets.log_view import log_lines
from cockpit.widgets.overview import overview
from cockpit.widgets.runs_table import columns, heading
from cockpit.widgets.syntax import colour
from engine.types import LiveRow
from tests.fakes import COSINE, NORM, ScriptedEngine, edit, experiment_row, lab_in_progress, proposal_row

VALUES = st.floats(allow_nan=True, allow_infinity=True, width=32)


async def model_of(engine: ScriptedEngine) -> ReadModel:
    model = ReadModel()
    follower = Follower(engine, model)
    task = asyncio.create_task(follower.run())
    await follower.attached.wait()
    task.cancel()
    return model


@pytest.fixture
async def model() -> ReadModel:
    return await model_of(lab_in_progress())


def texts(lines: list[Line]) -> str:
    return "\n".join(line.text for line in lines)


# --- curves


@given(st.lists(st.lists(VALUES, max_size=60), max_size=4), st.integers(0, 90), st.integers(0, 30), st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_curve_fits_its_box(series: list[list[float]], width: int, height: int, log: bool) -> None:
    traces = [Trace(f"run {n}", "curve0", range(len(values)), values, 60) for n, values in enumerate(series)]
    lines = plot(traces, width, height, share=0.02, log=log)
    assert len(lines) <= max(height, 1)
    if width > 24:
        assert all(width_of(line.text) <= width for line in lines[1:])


def test_a_growing_curve_keeps_what_is_drawn() -> None:
    def rows(upto: int) -> list[str]:
        values = [3.0] * 50 + [2.0] * 50
        return [line.text[:30] for line in plot([Trace("r", "curve0", range(upto), values[:upto], 100)], 60, 12)]

    assert rows(80)[1:] == rows(100)[1:]


def test_a_non_finite_loss_breaks_the_line() -> None:
    whole = plot([Trace("r", "curve0", range(40), [2.0] * 40)], 60, 10)
    broken = plot([Trace("r", "curve0", range(40), [2.0] * 15 + [math.nan] * 10 + [2.0] * 15)], 60, 10)
    assert texts(whole).count("⠤") == 52
    assert 30 < texts(broken).count("⠤") < 45


@given(st.lists(VALUES, max_size=50), st.sampled_from([0.0, 0.02, 0.5]))
@settings(max_examples=80)
def test_smoothing_stays_within_what_it_smooths(values: list[float], share: float) -> None:
    out = smooth(values, share)
    finite = [value for value in values if math.isfinite(value)]
    assert len(out) == len(values)
    for before, after in zip(values, out, strict=True):
        assert math.isfinite(before) == math.isfinite(after) or not math.isfinite(before)
        if math.isfinite(after):
            slack = 1e-6 * max(abs(min(finite)), abs(max(finite)), 1)
            assert min(finite) - slack <= after <= max(finite) + slack


def test_the_mean_runs_as_far_as_every_seed() -> None:
    steps, values = mean_of([([0, 1, 2, 3], [4, 3, 2, 1]), ([0, 1, 2], [2, 1, 0])])
    assert (steps, values) == ([0, 1, 2], [3, 2, 1])


def test_live_points_are_bounded_and_never_doubled() -> None:
    live = Live()
    for step in range(0, 3 * KEEP_POINTS, 10):
        points: list[tuple[int, float | None]] = [(at, 1.0) for at in range(step, step + 10)]
        live.take(LiveRow(step=step, steps=None, value=1.0, tokens_per_s=None, eta_s=None, points=points))
        live.take(LiveRow(step=step, steps=None, value=1.0, tokens_per_s=None, eta_s=None, points=points))
    assert len(live.steps) <= KEEP_POINTS
    assert live.steps == sorted(set(live.steps))
    assert live.steps[0] == 0
    assert live.steps[-1] == 3 * KEEP_POINTS - 1


async def test_a_running_shard_is_drawn_against_the_trunk_on_the_same_seed(model: ReadModel) -> None:
    labels = [trace.label for trace in chosen(model, RowKey("0007"), {})]
    assert labels[0].startswith("0007 s")
    model.take_curve("trunk-1.screen.s2.a1", [0, 1], [3.0, 2.0])
    labels = [trace.label for trace in chosen(model, RowKey("0007", "0007.screen.s2.a1"), {})]
    assert labels == ["0007 s2", "trunk s2"]


# --- diffs


def test_a_diff_reads_with_the_numbers_of_both_files() -> None:
    rows = parse_diff(COSINE)
    kinds = [row.kind for row in rows]
    assert kinds[0] == "file"
    assert rows[0].path == "model.py"
    added = [row for row in rows if row.kind == "added"]
    source = COSINE.split("\n")
    assert len(added) == sum(line.startswith("+") and not line.startswith("+++") for line in source)
    same = [row for row in rows if row.kind == "same"]
    assert all(row.old is not None and row.new is not None for row in same)


def test_a_removed_line_that_looks_like_a_header_is_a_removed_line() -> None:
    diff = "--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,1 @@\n--- a/secret\n same\n"
    assert [(row.kind, row.text) for row in parse_diff(diff)] == [
        ("file", "x.py"),
        ("hunk", ""),
        ("removed", "-- a/secret"),
        ("same", "same"),
    ]


@given(st.integers(12, 140), st.text("ab (){}'\"#=學\t", max_size=300))
@settings(max_examples=80)
def test_every_character_of_a_long_line_is_on_the_screen(width: int, text: str) -> None:
    diff = f"--- a/x.py\n+++ b/x.py\n@@ -1,0 +1,1 @@\n+{text}\n"
    lines, hunks = diff_lines(parse_diff(diff), width)
    assert len(hunks) == 1
    body = "".join("".join(part for part, _ in line.spans[2:]) for line in lines if line.fill == "added_bg")
    assert body == text.replace("\t", "    ")


def test_hunks_are_where_they_are_said_to_be() -> None:
    lines, hunks = diff_lines(parse_diff(NORM), 100)
    assert all("⋯ line" in lines[place].text for place in hunks)


@given(st.text(max_size=120), st.sampled_from(["a.py", "a.toml", "a.md"]))
@settings(max_examples=120)
def test_colours_change_no_character(text: str, path: str) -> None:
    assert "".join(part for part, _ in colour(text, path)) == text


def test_code_has_colours() -> None:
    spans = dict(colour('    return relu(x, "two")  # squared', "model.py"))
    assert spans["return"] == "keyword"
    assert spans['"two"'] == "string"
    assert spans["# squared"] == "comment"


# --- logs, rows


def test_a_progress_bar_of_carriage_returns_is_lines() -> None:
    assert texts(log_lines("a␍b␍c\nRuntimeError: no\n", 40)).split("\n") == ["a", "b", "c", "RuntimeError: no"]


@pytest.mark.parametrize("width", [78, 80, 93, 120, 140, 200])
def test_the_columns_fill_their_width(width: int) -> None:
    for alone in (False, True):
        assert width_of(heading(columns(width, alone=alone), "val_bpb").text) <= width
        assert columns(width, alone=alone).what >= 20


async def test_order_puts_the_trunk_first_and_effect_sorts_by_gain(model: ReadModel) -> None:
    assert ordered(model, "effect", "", set())[:3] == [RowKey("trunk-1"), RowKey("0002"), RowKey("0007")]
    assert [key.shard for key in ordered(model, "id", "solid state:judged", {"0002"})][:3] == [None, None, None]
    assert RowKey("0002", "0002.screen.s1.a1") in ordered(model, "newest", "", {"0002"})


def test_filter_terms() -> None:
    row = experiment_row("0042", "Squared ReLU", category="architecture")
    for terms in ("relu", "RELU squared", "state:judged", "category:arch", "!rotary", "id:42"):
        assert matches(row, terms), terms
    for terms in ("rotary", "!relu", "state:running", "id:43"):
        assert not matches(row, terms), terms


async def test_the_overview_gives_verdict_pairs_and_branch(model: ReadModel) -> None:
    shown = texts(overview(model, model.experiments["0005"], None, 70, 13))
    assert "better on all 3 seeds" in shown
    assert "+.0143" in shown
    assert "exp/0005-squared-relu-in" in shown
    failed = texts(overview(model, model.experiments["0004"], None, 70, 13))
    assert "nonfinite" in failed
    assert "step 42" in failed


# --- what the reviewer is told


async def test_evidence_names_the_past_of_the_category_the_noise_and_the_cost(model: ReadModel) -> None:
    assert (
        past_of_category(model, "schedule")
        == "2 experiments of the kind “schedule”: 1 solid, 1 not-solid; best 0002 +.0714"
    )
    assert "nothing of the kind" in past_of_category(model, "bug fix")
    assert "sd of 3 seeds" in trunk_noise(model)
    assert cost(model).startswith("3 seeds at rung screen on 2 slots, about ")


async def test_the_queue_has_waiting_ones_first_and_keeps_the_one_in_view(model: ReadModel) -> None:
    states = [row["state"] for row in reviews(model)]
    assert states == ["waiting"] * 3 + ["refused"] * 2 + [states[5], states[6]]
    model.apply([proposal_row("p0010", "x", NORM, state="approved")], 99)
    assert reviews(model, keep="p0010")[0]["id"] == "p0010"
    assert reviews(model)[0]["id"] == "p0011"


async def test_what_is_said_on_leaving(model: ReadModel) -> None:
    assert kept_text(model) == "2 runs keep going, 3 queued; `cockpit` re-attaches."
    assert "Nothing runs now" in kept_text(ReadModel())


async def test_strings_are_clean_in_the_model() -> None:
    engine = lab_in_progress()
    engine.change("experiment", "0001", hypothesis="bad \x1b]52;c;x\x07 \u202e")
    model = await model_of(engine)
    assert model.experiments["0001"]["hypothesis"] == "bad ␛]52;c;x␇ <U+202E>"


async def test_another_ledger_replaces_the_rows() -> None:
    engine = lab_in_progress()
    model = ReadModel()
    follower = Follower(engine, model)
    task = asyncio.create_task(follower.run())
    await follower.attached.wait()
    fresh = ScriptedEngine()
    fresh.put(proposal_row("p0001", "Another lab", edit(("width: int = 128", "width: int = 64"))))
    engine.rows, engine.head = fresh.rows, fresh.head
    follower.attached.clear()
    engine.notify("resync")
    await follower.attached.wait()
    task.cancel()
    assert list(model.proposals) == ["p0001"]
    assert not model.experiments
