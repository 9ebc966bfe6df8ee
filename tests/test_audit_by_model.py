"""Claude audits the trunk's code: what it suspects is filed with its place, a fix of it waits for review like any proposal."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cockpit import cli
from engine.proposers.auditor import SCHEMA, parse_audit
from tests.messages_server import Turn
from tests.test_asking import KEY, asking, on_claude
from tests.tinylab import TRAIN, TinyLab, rows, waiting

Make = Callable[..., TinyLab]

GOOD = "train.py\n<<<<<<< SEARCH\nSEED_NOISE = 0.01\n=======\nSEED_NOISE = 0.0\n>>>>>>> REPLACE"


def said(**more: Any) -> dict[str, Any]:
    """One suspicion as Claude says it."""
    base = {"rule": "Seed Decides", "path": "train.py", "line": 1, "quote": "SEED_NOISE = 0.01", "severity": "warning"}
    base |= {
        "sentence": "the seed moves the metric itself",
        "mechanism": "luck is scored as if it were skill",
        "fix": "",
    }
    return base | more


def answer(*suspicions: dict[str, Any]) -> Turn:
    return Turn(json.dumps({"suspicions": list(suspicions)}))


def audited(lab: TinyLab, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main(["-C", str(lab.root), "audit", *words, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_claude_is_asked_once_about_the_same_code_and_its_fix_waits_for_review(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "sk-ant-api03-0123456789abcdefghijklmnop"
    lab = on_claude(tiny(more={"train.py": TRAIN.replace("RATE = 1.0", f'TOKEN = "{secret}"\nRATE = 1.0')}))
    turn = answer(
        said(fix=GOOD),
        said(quote="    loss = bottom_of_the_sea", sentence="no such line"),
        said(quote="WIDTH = 8", severity="asks", rule="width", fix="nonsense"),
    )
    with asking(lab, turn) as (session, server):
        assert audited(lab, capsys, "--static")["model"] is None
        assert server.messages == []
        first = audited(lab, capsys)
        by = {each["rule"]: each for each in first["suspected"]}
        line = 1 + lab.git("show", "HEAD:train.py").split("SEED_NOISE = 0.01")[0].count("\n")
        assert by["claude/seed-decides"]["place"] == f"train.py:{line}", "the line is where the quote stands"
        assert by["claude/width"]["severity"] == "asks"
        told = first["model"]
        assert (told["state"], told["dropped"], told["usd"] > 0, first["new"]) == ("done", 1, True, 2)
        (row,) = waiting(session)
        assert (row["id"], row["category"], row["proposer"]) == (
            by["claude/seed-decides"]["proposal"],
            "bug fix",
            "claude",
        )
        assert by["claude/seed-decides"]["id"] in row["hypothesis"]
        refused = rows(session, "proposal")[by["claude/width"]["proposal"]]
        assert refused["state"] == "refused", "a fix that cannot be applied goes the way of any proposal"
        found = rows(session, "finding")[by["claude/seed-decides"]["id"]]
        assert (found["about"], found["mechanism"]) == ("trunk-1", "luck is scored as if it were skill")
        (call,) = rows(session, "call").values()
        assert (call["purpose"], call["state"]) == ("audit", "done")

        again = audited(lab, capsys)
        assert (again["new"], again["model"]["state"], len(again["suspected"])) == (0, "not asked", 2)
        assert len(server.messages) == 1, "the same code is paid for once"
        (sent,) = server.messages
        assert sent["output_config"]["format"] == {"type": "json_schema", "schema": SCHEMA}
        assert secret not in json.dumps(sent)
        assert KEY not in lab.state.ledger.read_text()
        assert all(check["ok"] for check in session.call("verify")["checks"])


def test_a_failed_or_malformed_answer_leaves_the_static_half_and_is_asked_again(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = on_claude(tiny(more={"train.py": TRAIN + "\n\ndef never(torch):\n    torch.manual_seed(1)\n"}))
    turns = (Turn(stop="refusal", category="cyber"), Turn("I found nothing."), answer(said()))
    with asking(lab, *turns):
        states = []
        for _ in turns:
            value = audited(lab, capsys)
            assert "seed-is-fixed" in {each["rule"] for each in value["suspected"]}
            states.append(value["model"]["state"])
        assert states == ["refusal", "malformed", "done"]


def test_a_budget_that_is_used_up_asks_nobody(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    lab = on_claude(tiny(), budget="dollars = 0.0001")
    with asking(lab, answer(said())) as (_, server):
        value = audited(lab, capsys)
        assert value["model"]["state"] == "budget"
        assert server.messages == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"suspicions": [{}]}',
        json.dumps({"suspicions": [said(severity="never kept")]}),
        json.dumps({"suspicions": [said(line="1")]}),
        json.dumps({"suspicions": [said(more=1)]}),
    ],
)
def test_an_answer_of_another_shape_is_none(text: str) -> None:
    assert isinstance(parse_audit(text, {"train.py": TRAIN}), str)


def test_what_claude_writes_is_cut_and_made_harmless() -> None:
    wild = said(rule="\x1b[31m Très BAD!", sentence="a\x1b[2Jb" + "x" * 1000, fix="y" * 50_000)
    (found,), dropped = parse_audit(json.dumps({"suspicions": [wild]}), {"train.py": TRAIN})  # type: ignore[misc]
    assert dropped == 0
    assert found.rule.isascii()
    assert "\x1b" not in found.sentence
    assert len(found.sentence) <= 300
    assert found.fix == ""
