"""A researcher sees that a result is barred, opens the findings, looks at the numbers, and says why it may be kept."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cockpit.findings import before_signing
from cockpit.format import width_of
from engine.types import FindingRow
from tests.fakes import T0, ScriptedEngine, lab_in_progress, lab_row
from tests.test_app import sitting

SIZES = pytest.mark.parametrize("size", [(200, 50), (80, 24)], ids=["200x50", "80x24"])
KNOWN: dict[str, Any] = {
    "active": ["non-finite", "large-gain"],
    "asleep": [{"detector": "not-learning", "missing": ["update_ratio"]}],
}


def finding(number: int, about: str, rule: str, severity: str, sentence: str, **more: Any) -> FindingRow:
    row: dict[str, Any] = {
        "kind": "finding", "id": f"f{number:05d}", "seq": 0, "about": about, "rule": rule, "severity": severity,
        "sentence": sentence, "at": T0 + number,
    }  # fmt: skip
    return cast(FindingRow, {**row, **more})


def with_findings() -> ScriptedEngine:
    """0005 is barred by one finding that can be acknowledged, on two seeds; 0002 by one that cannot."""
    engine = lab_in_progress()
    engine.put(lab_row(detectors=KNOWN))
    for seed in (0, 1):
        engine.put(
            finding(
                seed + 1, f"0005.screen.s{seed}.a1", "frozen-parameters", "bars a keep",
                "no update ever changed head.weight: does the optimizer have them?", place="head.weight",
                evidence={"tensors": 1.0},
            )
        )  # fmt: skip
    engine.put(finding(3, "0005.screen.s0.a1", "stall", "note", "a step took 9 times the usual", place="step 41"))
    engine.put(
        finding(4, "0002.screen.s0.a1", "step-budget", "never kept", "360 steps were made where 300 were declared")
    )
    for name, ids in (("0005", ["f00001", "f00002"]), ("0002", ["f00004"])):
        row = cast(Any, engine.rows["experiment", name])
        verdict = {**row["verdict"], "verdict": "barred"}
        engine.change("experiment", name, verdict=verdict, barred=ids, asks=[])
    engine.answers["ack"] = {"acknowledged": ["f00001", "f00002"], "open": {"0005": []}}
    return engine


async def select(desk: Any, name: str) -> None:
    for _ in range(20):
        cursor = desk.runs.table.cursor
        if cursor is not None and cursor.experiment == name:
            return
        await desk.press("j")
    raise AssertionError(f"{name} is not in the table")


@SIZES
async def test_a_barred_result_is_read_looked_into_and_acknowledged(size: tuple[int, int]) -> None:
    async with sitting(with_findings(), size) as desk:
        await desk.until(lambda: "0005" in desk.text)
        if size[0] == 200:
            await select(desk, "0005")
            await desk.until(lambda: "barred by f00001, f00002" in desk.text)
            assert desk.text.count("no update ever changed") == 1, "the same on two seeds is said once"
            assert "⊘" in desk.text
        else:
            await select(desk, "0005")
        await desk.press("f")
        await desk.until(lambda: "findings of 0005" in desk.text)
        assert "frozen-parameters" in desk.text
        assert "no update ever changed head.weight" in desk.text
        assert "step-budget" not in desk.text, "that is another experiment's"
        assert "2 of 3 detectors are active" in desk.text
        assert "update_ratio would wake not-learning" in desk.text
        assert "tensors 1" not in desk.text
        await desk.press("enter")
        await desk.until(lambda: "tensors 1" in desk.text)
        await desk.press("i")
        assert "and 1 finding like it?" in desk.text
        await desk.press("enter")
        assert "a reason is needed" in desk.text
        assert desk.engine.asked("ack") == []
        await desk.press("tab", "enter")
        await desk.until(lambda: desk.engine.asked("ack"))
        sent = desk.engine.asked("ack")[0]
        assert set(sent["findings"]) == {"f00001", "f00002"}
        assert sent["why"]
        assert all(width_of(line) <= size[0] for line in desk.text.split("\n"))
        await desk.press("escape")
        await desk.until(lambda: "findings of" not in desk.text)


async def test_what_can_never_be_kept_says_so_on_its_key() -> None:
    async with sitting(with_findings(), (200, 50)) as desk:
        await desk.until(lambda: "0002" in desk.text)
        await desk.press("i")
        assert "f shows them" in desk.status
        await select(desk, "0002")
        await desk.press("f")
        await desk.until(lambda: "step-budget" in desk.text)
        await desk.press("i")
        assert "f00004 can never be acknowledged" in desk.status
        assert not desk.asking


async def test_the_findings_of_the_trunk_are_those_of_the_lab_and_the_brief_takes_their_place() -> None:
    async with sitting(with_findings(), (200, 50)) as desk:
        await desk.until(lambda: "2 of 3 detectors are active" in desk.text)
        await desk.press("f")
        await desk.until(lambda: "findings of the whole lab" in desk.text)
        lines = desk.text.split("\n")
        first, second = (next(at for at, line in enumerate(lines) if name in line) for name in ("f00004", "f00001"))
        assert first < second, "the worst comes first"
        await desk.press("b")
        await desk.until(lambda: "findings of" not in desk.text)
        await desk.press("f")
        await desk.until(lambda: "findings of" in desk.text)
        await desk.press("tab", "j")
        await desk.until(lambda: "findings of 0" in desk.text)


@SIZES
async def test_what_an_audit_suspects_stands_with_the_trunk_and_says_how_it_harms(size: tuple[int, int]) -> None:
    engine = with_findings()
    mechanism = "all seeds are one run: any change looks solid"
    engine.put(
        finding(
            5,
            "trunk-1",
            "seed-is-fixed",
            "warning",
            "the seed is always 1337",
            place="train.py:120",
            mechanism=mechanism,
        )
    )
    async with sitting(engine, size) as desk:
        await desk.until(lambda: "0005" in desk.text)
        await select(desk, "trunk-1")
        await desk.press("f")
        await desk.until(lambda: "findings of the whole lab" in desk.text)
        for _ in range(20):
            if "train.py:120" in desk.text and desk.runs.findings_pane.cursor == "f00005":
                break
            await desk.press("j")
        assert desk.runs.findings_pane.cursor == "f00005"
        await desk.press("enter")
        await desk.until(lambda: "all seeds are one run" in desk.text)
        assert "bars none of them" in " ".join(desk.text.split())


@SIZES
async def test_signing_names_the_findings_that_wait_before_anything_is_typed(size: tuple[int, int]) -> None:
    async with sitting(with_findings(), size) as desk:
        await select(desk, "0005")
        await desk.press("s")
        assert "0005 waits for a word on frozen-parameters: f, then i" in desk.status
        assert not desk.asking
        await select(desk, "0002")
        await desk.press("s")
        assert "0002 can never be signed (step-budget): f shows why" in desk.status
        assert desk.engine.asked("price") == []


def test_findings_that_are_many_are_counted_and_what_nobody_waits_for_says_nothing() -> None:
    rows = {f"f{n}": finding(n, "0005", rule, "asks", "look") for n, rule in enumerate(["a", "a", "b", "c", "d"])}
    assert before_signing("0005", rows, rows) == "0005 waits for a word on a, b and 2 more: f, then i"
    assert before_signing("0005", [], rows) is None
    assert before_signing("0005", ["gone"], rows) is None
