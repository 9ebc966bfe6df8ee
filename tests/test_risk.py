"""The sentences that a reviewer reads beside a diff: one for each thing worth a second look, none for plain model changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.neighbours import neighbours
from engine.risk import risks
from engine.shards.sandbox import probe
from tests.tinylab import TinyLab, proposal, rows, wait_for

Make = Callable[..., TinyLab]

BASE = b"import os\nimport torch\n\nx = open('data.bin')\n\n\ndef act(x):\n    return torch.nn.functional.gelu(x)\n"


def told(new: str, old: bytes | None = BASE, path: str = "train.py") -> str:
    return "\n".join(risks({path: old}, {path: new.encode()}))


def test_a_plain_model_change_says_nothing() -> None:
    new = BASE.replace(b"torch.nn.functional.gelu(x)", b"torch.relu(x).square()")
    assert risks({"train.py": BASE}, {"train.py": new}) == ()
    assert risks({"train.py": BASE}, {"train.py": BASE}) == ()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import math", "imports math"),
        ("from urllib import request", "imports urllib"),
        ("y = open('other.bin')", "opens files in a new place: open"),
        ("os.system('ls')", "calls the operating system in a new place: os.system"),
        ("run = os.environ", "os.environ"),
        ("import subprocess as s\ns.run(['ls'])", "starts processes in a new place"),
        ("from os import system as f\nf('ls')", "calls the operating system in a new place: os.system"),
        ("import socket\nsocket.socket()", "uses the network"),
        ("import ctypes\nctypes.CDLL('x')", "calls native code"),
        ("exec('x = 1')", "runs text as code in a new place: exec"),
        ("f = eval", "runs text as code in a new place: eval"),
        ("__import__('os')", "imports by name"),
        ("torch.load('x.pt')", "unpickles in a new place: torch.load"),
        ("torch.nn.functional.cross_entropy = lambda *a: 0", "replaces part of an imported module"),
        ("().__class__.__bases__[0].__subclasses__()", "reaches into the interpreter"),
        ("from pathlib import Path\nPath('x').write_text('y')", "write_text"),
        ("torch.manual_seed(7)", "the seed"),
        ("max_steps = 100", "budget"),
        ("steps = 2 * steps", "budget"),
        ("val_bpb = 0.9", "evaluation or metrics"),
        ("x = 'a\u202eb'", "U+202E"),
        ("x = 'a\u200bb'", "U+200B"),
        ("from os import *", "takes every name of a module in a new place: os"),
        ("f = getattr(os, 'sys' + 'tem')", "picks out of a module by name"),
        ("import asyncio\nasyncio.create_subprocess_exec('ls')", "starts processes"),
        ("import concurrent.futures as c\nc.ProcessPoolExecutor()", "starts processes"),
        ("torch.hub.load('a', 'b')", "uses the network"),
        ("torch.save(x, 'x.pt')", "opens files"),
        ("batches = shuffle(batches)", "lines about the data or its mix change"),
        ("mix_weights = {'code': 2.0}", "lines about the data or its mix change"),
        ("def f(:", "does not parse as Python"),
        ("x = (" * 500, "does not parse as Python"),
    ],
)
def test_what_is_worth_a_second_look_is_said(line: str, says: str) -> None:
    assert says in told(BASE.decode() + line + "\n")


def test_what_was_there_before_is_not_said_again() -> None:
    assert risks({"train.py": BASE}, {"train.py": BASE + b"y = 1\n"}) == ()


def test_data_files_scripts_and_deletions() -> None:
    assert "what the model is trained on" in told("code = 2\n", b"code = 1\n", "mix.toml")
    assert "not Python" in told("python train.py\n", b"", "run.sh")
    assert risks({"model.py": b"x = 1\n"}, {"model.py": None}) == ("model.py is deleted",)


def test_long_diffs_are_counted_over_all_files() -> None:
    lines = "".join(f"x{n} = {n}\n" for n in range(50)).encode()
    assert risks({}, {"a.py": lines}) == ()
    assert risks({}, {"a.py": lines, "b.py": lines}) == ("100 lines change: more than 80 are hard to review",)


def test_how_many_lines_are_many_is_for_the_lab_to_say() -> None:
    lines = "".join(f"x{n} = {n}\n" for n in range(6)).encode()
    assert risks({}, {"a.py": lines}, 6) == ()
    assert risks({}, {"a.py": lines}, 5) == ("6 lines change: more than 5 are hard to review",)


def test_what_protected_code_imports_or_names_is_its_neighbour() -> None:
    keepers = {
        "eval/score.py": b"import model, json\nfrom . import words\nopen(root / 'held/mix.toml')\n",
        "broken.py": b"def (",
    }

    def near(path: str, old: bytes | None = b"x = 1\n") -> list[str]:
        return list(neighbours({path: old}, {path: b"x = 2\n"}, keepers))

    assert near("model.py") == [
        "model.py changes, and is imported by eval/score.py, which is protected: what that computes may change"
    ]
    assert "is new, and would be imported by eval/score.py" in near("json.py", None)[0]
    assert "is new, and would be imported by" in near("eval/json/__init__.py", None)[0]
    assert "imported by" in near("eval/words.py")[0]
    assert near("mix.toml") == ["mix.toml changes, and eval/score.py, which is protected, names a file like it"]
    assert near("words.py") == near("train.py") == near("lib/other.py") == []
    assert list(neighbours({"model.py": b"x"}, {"model.py": b"x"}, keepers)) == []


@pytest.mark.skipif(probe().level < 2, reason="where there is no box, nothing is approved without a person")
def test_asking_about_what_is_risky_holds_each_of_these_for_a_person_and_nothing_else(tiny: Make) -> None:
    many = "".join(f"    x{n} = {n}\n" for n in range(9))
    risky = {
        "imports": ("import json, math, os, sys, time, zlib", "import json, math, os, statistics, sys, time, zlib"),
        "opens files": ("    loss = bottom\n", "    loss = bottom + len(open(metrics).name) * 0\n"),
        "starts processes": (
            "    loss = bottom\n",
            "    loss = bottom\n    import subprocess\n    subprocess.run(['true'])\n",
        ),
        "uses the network": ("    loss = bottom\n", "    loss = bottom\n    import socket\n    socket.socket()\n"),
        "more than 8": ("    loss = bottom\n", f"    loss = bottom\n{many}"),
        "the data or its mix": ("    loss = bottom\n", "    loss = bottom\n    mix = 1\n"),
        "another budget": ("    loss = bottom\n", "    loss = bottom\n    steps = steps + 1\n"),
        "which is protected": ("rate = 1\n", "rate = 2\n"),
    }
    files = {"near.py": "rate = 1\n", "keep.py": "import near\n"}
    texts = [
        proposal(f"It {what}", old.strip("\n"), new.strip("\n"), path="near.py" if "rate" in old else "train.py")
        for what, (old, new) in risky.items()
    ]
    extra = '[gates]\nask = "risky"\nlines = 8\n'
    lab = tiny(*texts, proposal("A plain one", "WIDTH = 8", "WIDTH = 9"), queue=12, extra=extra, more=files)
    path = lab.root / "cockpit.toml"
    text = (
        path.read_text().replace('"mix/**"]', '"mix/**", "near.py"]').replace('["score.py"]', '["score.py", "keep.py"]')
    )
    path.write_text(text)
    lab.git("commit", "-qam", "A file that protected code imports may be changed")
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        found = {row["hypothesis"]: row for row in rows(session, "proposal").values()}
        assert found["A plain one"]["state"] == "approved"
        assert found["A plain one"]["risks"] == []
        assert list(rows(session, "experiment")) == ["trunk-1", "0001"]
        for what in risky:
            row = found[f"It {what}"]
            assert row["state"] == "waiting", row["refusal"]
            assert any(what in sentence for sentence in row["risks"]), (what, row["risks"])


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    st.text(max_size=20),
)
def test_any_content_is_read_without_an_error(data: bytes, path: str) -> None:
    for name in (path, "x.py"):
        assert all("\n" not in sentence or "\n" in name for sentence in risks({name: b"x = 1\n"}, {name: data}))
