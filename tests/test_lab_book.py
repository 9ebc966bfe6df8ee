"""A researcher asks the lab book months later: who let this into the trunk, what did they see, and what did they say?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cockpit import cli
from cockpit.commands import WrongUse
from cockpit.lab_book import since
from engine import events as e
from engine.lab_book import entries
from engine.ledger import Event, read_lines
from tests.campaigns import Campaign
from tests.test_acknowledging import SEEDLESS, judged, sign
from tests.tinylab import TinyLab, better, decide, rows, wait_for, waiting

Make = Callable[..., TinyLab]


def cockpit(lab: TinyLab, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.main(["-C", str(lab.root), *words])
    return code, capsys.readouterr().out


def book(lab: TinyLab, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    code, out = cockpit(lab, capsys, "ledger", "show", *words, "--json")
    assert code == 0
    return list(json.loads(out)["decisions"])


def test_the_lab_book_says_who_signed_what_they_had_on_the_screen_and_why(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(SEEDLESS, queue=1)
    with lab.session() as session:
        row = judged(session)
        cockpit(lab, capsys, "ack", *row["barred"], "--why", "it has no seed, and needs none")
        sign(session)
        shown = rows(session, "proposal")["p0001"]["diff_hash"]
        session.call("pause", why="the machine is wanted")
        whole = book(lab, capsys)
    lab.stop()

    assert book(lab, capsys) == whole, "the book needs no engine"
    approve, *acks, signed, pause = whole
    assert [each["action"] for each in whole] == ["approve", *["acknowledge"] * len(row["barred"]), "sign", "pause"]
    assert {each["who"]["name"] for each in whole} == {"Ada <ada@example.org>"}
    assert all(each["who"]["os_user"] and each["who"]["host"] for each in whole)
    assert (approve["target"], approve["about"], approve["diff_hash"]) == ("p0001", "The seed is noise", shown)
    first = acks[0]
    assert first["shown"]["verdict"]["verdict"] == "barred", "what was on the screen before it, not after it"
    assert not any("acknowledged" in each for each in first["shown"]["findings"])
    assert (signed["target"], signed["diff_hash"], signed["why"]) == ("0001", shown, "clear")
    assert signed["shown"]["verdict"]["verdict"] == "solid"
    said = {each["id"]: each["acknowledged"]["why"] for each in signed["shown"]["findings"] if "acknowledged" in each}
    assert said == dict.fromkeys(row["barred"], "it has no seed, and needs none")
    assert pause["why"] == "the machine is wanted"

    code, text = cockpit(lab, capsys, "ledger")
    assert code == 0
    assert "sign 0001" in text
    assert "why: it has no seed, and needs none" in text
    assert signed["shown"]["verdict"]["sentence"] in text
    assert [each["action"] for each in book(lab, capsys, "--last", "2")] == ["sign", "pause"]
    assert book(lab, capsys, "--since", "1h") == whole
    assert book(lab, capsys, "--since", "2999-01-01") == []


def test_a_decline_is_in_the_book_and_a_changed_line_of_it_is_found(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(better(1), queue=1)
    with lab.session() as session:
        (row,) = wait_for(lambda: waiting(session))
        decide(session, row, "decline", "we tried this in spring")
    lab.stop()
    (entry,) = book(lab, capsys)
    assert (entry["action"], entry["target"], entry["why"]) == ("decline", "p0001", "we tried this in spring")
    assert cockpit(lab, capsys, "ledger", "verify") == cockpit(lab, capsys, "verify")
    assert cockpit(lab, capsys, "ledger", "verify")[0] == 0

    lines = lab.state.ledger.read_bytes()
    lab.state.ledger.write_bytes(lines.replace(b"we tried this in spring", b"we tried this in autumn"))
    code, out = cockpit(lab, capsys, "ledger", "verify", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)
    code, out = cockpit(lab, capsys, "ledger", "show", "--json")
    assert code == 1
    assert "changed or damaged" in json.loads(out)["error"]


def test_times_are_days_or_spans() -> None:
    assert since("2d", 1_000_000.0) == 1_000_000.0 - 2 * 86400
    assert since("90m", 10_000.0) == 10_000.0 - 5400
    assert since("2026-11-20", 0.0) < since("2026-11-20T14:30", 0.0)
    for wrong in ("yesterday", "7", "-1d", ""):
        with pytest.raises(WrongUse, match="--since"):
            since(wrong, 0.0)


def test_a_signature_that_waited_for_fresh_pairs_is_one_decision() -> None:
    campaign = Campaign()
    campaign.run("trunk-1", [2.0, 2.01, 2.0])
    name = campaign.approve()
    campaign.sign(name)
    signed = campaign.state.signoffs[name]
    merge = e.MergeIntended(
        name,
        signed.decision,
        "",
        signed.ours,
        signed.theirs,
        1.0,
        ["Ada", "a@b"],
        "Accept",
        signed.who,
        "",
        signed.request,
    )
    campaign.write(merge)
    events = [Event(1, n, t, *_written(event)) for n, t, event in campaign.events]
    assert [(each["action"], each["target"]) for each in entries(events)] == [("approve", "p0001"), ("sign", name)]


def _written(event: Any) -> tuple[str, msgspec.Raw]:
    kind, data = e.dump(event)
    return kind, msgspec.Raw(msgspec.json.encode(data))


def test_what_a_cluster_was_asked_for_by_whom_and_how_it_ended_is_in_the_book() -> None:
    raw = (Path(__file__).parent / "golden" / "ledger-v1-allocations.jsonl").read_bytes()
    found = [each for each in entries(event for event, _ in read_lines(raw)) if "allocation" in each["target"]]
    assert [each["action"] for each in found] == ["ask for", "give back"] * 2 + ["ask for", "lose"] + [
        "ask for",
        "give back",
    ]
    first, idle, *_, last = found
    assert first["about"] == "2 nodes with 4 GPUs each for 2 h on the default partition: 8 shards at once"
    assert first["who"]["name"].startswith("Ada")
    assert (idle["who"]["kind"], idle["target"], idle["why"]) == (
        "policy",
        "allocation 1",
        "released after 4 idle seconds",
    )
    assert idle["about"].startswith("held for ")
    assert (found[5]["who"]["name"], found[5]["why"]) == ("the cluster", "pilot 3 was cancelled")
    assert (last["who"]["kind"], last["why"]) == ("person", "done for today")
