"""The sentences that a reviewer reads beside a diff: one for each thing worth a second look, none for plain model changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.risk import risks

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


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    st.text(max_size=20),
)
def test_any_content_is_read_without_an_error(data: bytes, path: str) -> None:
    for name in (path, "x.py"):
        assert all("\n" not in sentence or "\n" in name for sentence in risks({name: b"x = 1\n"}, {name: data}))
