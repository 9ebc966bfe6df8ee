"""A researcher asks whether their lab finds gains where there are none: no-ops go through the whole machine, in a copy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cockpit import aa, cli
from cockpit.scratch import _toml, config
from cockpit.selftest import no_op
from engine.lab import parse
from engine.rpc import NOT_NOW, RpcError
from tests.tinylab import TRAIN, TinyLab, alive, better, wait_for, waiting

Make = Callable[..., TinyLab]


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies of labs are made."""
    place = tmp_path / "copies"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def selftest(lab: TinyLab, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = cli.main(["-C", str(lab.root), "selftest", *words, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out), said.err


def test_no_ops_are_not_kept_and_their_effects_are_zero_and_the_lab_is_untouched(
    tiny: Make, capsys: pytest.CaptureFixture[str], copies: Path
) -> None:
    lab = tiny(better(1), extra='[gates]\nask = "never"\n[budget]\nshard_minutes = 0.0\n')
    (lab.root / "train.py").write_text("what lies in the working tree is not tested\n")
    refs, tree = lab.git("for-each-ref"), sorted(lab.root.rglob("*"))
    code, value, said = selftest(lab, capsys, "--aa", "3")
    assert (code, value.get("problems")) == (0, []), value
    assert (value["wanted"], value["ran"], value["keeps"]) == (3, 3, 0)
    assert value["deterministic"] is True
    assert (value["pairs"] >= 3, value["nonzero"], value["largest"]) == (True, 0, 0.0)
    assert "3 of 3 no-ops decided" in said
    assert (lab.git("for-each-ref"), sorted(lab.root.rglob("*"))) == (refs, tree)
    assert list(copies.iterdir()) == [], "the copy is gone, and nothing writes into it any more"


def test_a_lab_that_is_not_deterministic_is_called_so(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    noisy = TRAIN.replace(
        "    loss = bottom\n", "    bottom += int.from_bytes(os.urandom(4)) / 2**40\n    loss = bottom\n", 1
    )
    assert noisy != TRAIN
    lab = tiny(more={"train.py": noisy})
    _, value, _ = selftest(lab, capsys, "--aa", "2")
    assert (value["ran"], value["deterministic"]) == (2, False)
    assert value["nonzero"] > 0
    assert not any("alike" in each for each in value["problems"])


def test_a_trunk_that_fails_is_said_and_the_copy_can_be_kept(
    tiny: Make, capsys: pytest.CaptureFixture[str], copies: Path
) -> None:
    lab = tiny(more={"train.py": TRAIN.replace("    loss = bottom\n", "    loss = bottom[0]\n", 1)})
    code, value, _ = selftest(lab, capsys, "--aa", "1", "--keep")
    assert code == 1
    assert "the trunk itself fails" in value["error"]
    (copy,) = copies.iterdir()
    assert (copy / "lab" / ".cockpit" / "ledger.jsonl").is_file()


def test_an_interrupted_self_test_leaves_nothing_behind(tiny: Make, copies: Path) -> None:
    lab = tiny()
    lab.hold.touch()  # the first shard waits at its first step, and never ends by itself
    words = [sys.executable, "-m", "cockpit.cli", "-C", str(lab.root), "selftest", "--aa", "1"]
    environment = {**os.environ, "TMPDIR": str(copies)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        assert any("; running" in line for line in process.stderr)
        (state,) = [each / "lab" / ".cockpit" for each in copies.iterdir()]
        launcher = int(json.loads((state / "launcher.lock").read_text())["pid"])
        engine = int(json.loads((state / "engine.lock").read_text())["pid"])
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(60) == 130
    assert list(copies.iterdir()) == []
    assert not alive(launcher)
    assert not alive(engine)


def test_a_copy_reads_what_lies_beside_its_repository_from_where_it_is(tiny: Make) -> None:
    root = tiny(extra='[store]\nstate_dir = "elsewhere"\n[budget]\ndollars = 1.5\n').root
    file = tomllib.loads((root / "cockpit.toml").read_text())
    file["lab"] |= {"python": ".venv/bin/python", "mounts": ["data"], "env": {"HF_HOME": 'a "b" \\ c'}}
    file["detectors"] = {"off": ["stall"], "loss-spike": {"rise": 0.25}}
    (root / "data").mkdir()
    lab = parse("".join(f"{name} = {_toml(value)}\n" for name, value in file.items()), root)
    other = root.parent / "copy"
    copied = parse(config(file, lab), other)
    assert (copied.python, copied.mounts) == (str(root / ".venv/bin/python"), (root / "data",))
    assert copied.state.root == other / ".cockpit"
    assert (copied.env, copied.detectors, copied.rungs, copied.seeds) == (lab.env, lab.detectors, lab.rungs, lab.seeds)
    assert (copied.proposer.kind, copied.budget.dollars, copied.review) == ("none", None, "off")


def test_the_policy_of_a_self_test_decides_nothing_in_a_researchers_lab(tiny: Make) -> None:
    lab = tiny(better(1))
    with lab.session() as session:
        row = wait_for(lambda: waiting(session))[0]
        with pytest.raises(RpcError) as error:
            session.call(
                "decide",
                proposal=row["id"],
                diff_hash=row["diff_hash"],
                action="approve",
                policy="selftest --aa",
                request_id="x",
            )
        assert error.value.code == NOT_NOW


@pytest.mark.parametrize(
    "text",
    [
        TRAIN,
        TRAIN.removesuffix("\n"),
        TRAIN.replace("\n", "\r\n"),
        "import os\n\n\n@os.fspath\n@str\ndef last():\n    pass\n",
        "from __future__ import annotations\nx = '''\na'''\ny = 1",
    ],
)
def test_a_no_op_adds_one_line_and_changes_no_instruction(text: str) -> None:
    diff = no_op(text, "train.py", 7)
    changed = [line for line in diff.split("\n") if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert [line.rstrip() for line in changed if line] == ['+"no-op 7"']
    assert diff != no_op(text, "train.py", 8)


@pytest.mark.parametrize(
    "text", ["", "x = 1\n", "'''Why.'''\nfrom __future__ import annotations\n", "a = '''\n'''; b = ("]
)
def test_where_no_string_can_stand_alone_there_is_no_no_op(text: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        no_op(text, "train.py", 1)


def rows(trunk: float, *arms: tuple[float, str]) -> list[dict[str, Any]]:
    """Arms of one seed each, by metric and verdict."""
    made: list[dict[str, Any]] = []
    for number, (metric, verdict) in enumerate(arms, 1):
        name = f"{number:04d}"
        pair = {"seed": 0, "trunk": trunk, "candidate": metric, "difference": trunk - metric}
        row = {"kind": "experiment", "id": name, "role": "experiment", "state": "judged", "pairs": [pair]}
        made.append({**row, "verdict": {"verdict": verdict}})
        shard = {"kind": "shard", "id": f"{name}.s", "experiment": name, "rung": "screen", "seed": 0, "state": "ended"}
        made.append({**shard, "metric": metric})
    return made


def test_a_machine_that_treats_trunk_and_experiment_differently_is_found() -> None:
    value = aa.result(rows(2.0, (1.9, "not-solid"), (1.9, "not-solid")), 2)
    assert (value["deterministic"], value["nonzero"]) == (True, 2)
    assert "not run or scored alike" in value["problems"][0]
    once = aa.result(rows(2.0, (1.9, "not-solid")), 1)
    assert (once["deterministic"], once["problems"]) == (None, []), "one of them cannot tell"


def test_too_many_keeps_are_a_problem_also_when_a_detector_bars_them() -> None:
    value = aa.result(rows(2.0, (1.9, "solid"), (1.8, "barred"), (2.1, "not-solid")), 3)
    assert (value["keeps"], value["deterministic"]) == (2, False)
    assert "2 of 3 no-ops were kept" in value["problems"][0]
    assert aa.tail(0, 100, 0.003) == 1.0
    assert aa.tail(1, 100, 0.003) == pytest.approx(1 - 0.997**100)
