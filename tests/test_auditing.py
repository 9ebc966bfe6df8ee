"""A researcher has the trunk's code audited: what is suspected is filed once, with its place, and they can put it aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cockpit import cli
from tests.tinylab import TRAIN, TinyLab, decide, rate, rows, wait_for, waiting

Make = Callable[..., TinyLab]

LEAKY = (
    TRAIN
    + """

def never_called(model, batches, optimizer, args):
    import torch
    torch.manual_seed(1337)
    for x, y in batches:
        try:
            model(x).backward()
            optimizer.step()
            optimizer.zero_grad()
        except RuntimeError:
            continue
"""
)
PLACES = {"seed-is-fixed": LEAKY.split("torch.manual_seed")[0].count("\n") + 1}
PLACES["failures-swallowed"] = LEAKY.split("except RuntimeError")[0].count("\n") + 1


def cockpit(lab: TinyLab, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.main(["-C", str(lab.root), *words])
    return code, capsys.readouterr().out


def audited(lab: TinyLab, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code, out = cockpit(lab, capsys, "audit", "--json")
    assert code == 0
    return dict(json.loads(out))


def test_what_an_audit_suspects_is_filed_once_and_can_be_acknowledged(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(more={"train.py": LEAKY, "mix/broken.py": "def (", "mix/notes.txt": "torch.manual_seed(1)"})
    (lab.root / "train.py").write_text("what lies in the working tree is not the trunk\n")
    with lab.session() as session:
        first = audited(lab, capsys)
        assert {each["rule"]: each["place"] for each in first["suspected"]} == {
            rule: f"train.py:{line}" for rule, line in PLACES.items()
        }
        assert (first["new"], first["read"]) == (2, ["train.py"])
        assert first["left_out"] == {"mix/broken.py": "it does not parse as Python"}
        found = rows(session, "finding")
        for each in first["suspected"]:
            row = found[each["id"]]
            assert (row["about"], row["place"], row["severity"]) == ("trunk-1", each["place"], "warning")
            assert row["mechanism"] == each["mechanism"] != ""

        again = audited(lab, capsys)
        assert (again["new"], len(rows(session, "finding"))) == (0, len(found)), "the same code files nothing twice"
        assert "nothing new since the last audit" in cockpit(lab, capsys, "audit")[1]

        asked = session.call("sql", text="SELECT rule, place, mechanism <> '' FROM findings ORDER BY rule")
        assert asked["rows"] == [[rule, f"train.py:{PLACES[rule]}", True] for rule in sorted(PLACES)]
        code, listed = cockpit(lab, capsys, "findings")
        assert code == 0
        assert all(f"train.py:{line}" in listed for line in PLACES.values())

        name = next(each["id"] for each in first["suspected"] if each["rule"] == "seed-is-fixed")
        _, whole = cockpit(lab, capsys, "findings", name)
        assert found[name]["mechanism"] in whole
        assert "bars none" in whole
        code, _ = cockpit(lab, capsys, "ack", name, "--why", "it is never called")
        assert code == 0
        assert name not in cockpit(lab, capsys, "findings")[1]
        assert f"({name}, acknowledged)" in cockpit(lab, capsys, "audit")[1]
    lab.stop()
    with lab.session():
        assert audited(lab, capsys)["new"] == 0, "a new engine knows what the ledger has"


def test_a_moved_trunk_is_audited_anew_and_only_new_code_is_news(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(more={"train.py": LEAKY})
    with lab.session() as session:
        assert audited(lab, capsys)["new"] == 2
        text = LEAKY.replace('"""A training', '# a line more\n"""A training', 1)
        text += "\n\ndef hidden(loss):\n    import torch\n    return torch.nan_to_num(loss)\n"
        (lab.root / "train.py").write_text(text)
        lab.git("commit", "-qam", "Hide what is not finite")
        session.call("trunk", action="pull")
        moved = audited(lab, capsys)
        assert moved["arm"] == "trunk-2"
        assert [each["rule"] for each in moved["suspected"] if each["new"]] == ["nonfinite-hidden"]
        kept = {each["rule"]: each["line"] for each in moved["suspected"] if not each["new"]}
        assert kept == {rule: line + 1 for rule, line in PLACES.items()}, "a known thing is shown where it is now"


def test_the_trunks_own_runs_are_looked_at_and_an_experiment_is_not_barred(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    seedless = TRAIN.replace('SEED_NOISE * noise("seed", seed) + 0.001 * noise(seed, RATE, WIDTH)', "0.0")
    assert seedless != TRAIN
    lab = tiny(rate(3.0), more={"train.py": seedless + LEAKY.removeprefix(TRAIN)})
    with lab.session() as session:
        (row,) = wait_for(lambda: waiting(session))
        decide(session, row)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        before = rows(session, "experiment")["0001"]
        answer = audited(lab, capsys)
        assert {row["rule"] for row in answer["found"]} == {"unwired-seed"}, "the trunk's own seeds are one run"
        assert set(answer["runs"]) == {each for each in rows(session, "shard") if each.startswith("trunk-1.")}
        assert answer["suspected"]
        after = rows(session, "experiment")["0001"]
        assert (after["barred"], after.get("asks")) == (before["barred"], before.get("asks"))
        known = {each["id"] for each in audited(lab, capsys)["found"]}
        assert known == {each["id"] for each in answer["found"]}, "looking twice finds nothing twice"


def test_what_is_too_large_to_read_is_said(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    lab = tiny(more={"mix/long.py": "x = 1\n" * 100_000, "mix/deep.py": "x = " + "+".join(["1"] * 2500) + "\n"})
    with lab.session():
        answer = audited(lab, capsys)
    assert answer["suspected"] == []
    assert "KiB" in answer["left_out"]["mix/long.py"]
    assert set(answer["read"]) | set(answer["left_out"]) == {"train.py", "mix/long.py", "mix/deep.py"}
