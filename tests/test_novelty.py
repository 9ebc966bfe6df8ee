"""The same idea in other clothes is known again; a different one never is; and each change has its class."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.novelty import change_class, fingerprint
from engine.types import Change
from tests.tinylab import TinyLab, decide, proposal, rate, rows, wait_for, waiting

Make = Callable[..., TinyLab]

CODE = '''\
"""A model."""
import math

RATE = 1e-3


def act(x):
    """Rectify."""
    y = max(x, 0.0)
    y = y * y
    return y


class Block:
    depth: int = 2

    def forward(self, x):
        x = act(x)
        x = act(x)
        return x
'''


def mark(new: str, old: str = CODE, path: str = "a.py") -> str:
    return fingerprint({path: old.encode()}, {path: new.encode()})


def kind(new: str, old: str = CODE, path: str = "a.py") -> Change:
    return change_class({path: old.encode()}, {path: new.encode()})


TURNED = CODE.replace("1e-3", "2e-3")


@pytest.mark.parametrize(
    "same",
    [
        CODE.replace("1e-3", "0.002"),
        CODE.replace("RATE = 1e-3", "RATE = 2e-3  # twice as much"),
        CODE.replace("RATE = 1e-3", "RATE   =   (2e-3)"),
        TURNED.replace('"""A model."""', '"""Another word for it."""'),
        TURNED.replace('    """Rectify."""\n', ""),
        TURNED.replace("\n\n\n", "\n\n\n\n"),
    ],
)
def test_comments_formatting_docstrings_and_the_spelling_of_numbers_make_no_new_idea(same: str) -> None:
    assert mark(same) == mark(TURNED)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (CODE.replace("1e-3", "2e-3"), CODE.replace("1e-3", "3e-3")),
        (CODE.replace("y = max", "y = min"), CODE.replace("    y = y * y\n", "")),
        # the same statement added in two places of one block, and the first or the second of two equal ones taken out
        (CODE.replace("        x = act(x)\n        x = ", "        x = -x\n        x = act(x)\n        x = "),
         CODE.replace("        return x\n", "        x = -x\n        return x\n")),
        (CODE.replace("y = max(x, 0.0)", "y = max(x, 1)"), CODE.replace("y = max(x, 0.0)", "y = max(x, 1.0)")),
        (CODE + "\n\ndef more():\n    return 1\n", CODE + "\n\nclass more:\n    pass\n"),
    ],
)  # fmt: skip
def test_different_changes_have_different_fingerprints(one: str, two: str) -> None:
    assert mark(one) != mark(two)


def test_the_same_change_on_a_trunk_that_moved_elsewhere_is_the_same() -> None:
    moved = CODE.replace("depth: int = 2", "depth: int = 3")
    assert mark(moved.replace("1e-3", "2e-3"), moved) == mark(TURNED)


def test_settings_are_compared_by_their_values() -> None:
    toml = "[weights]\ncode = 1.0 # c\ndocs = 1.0\n"
    same = mark("[weights]\ndocs = 1.0\ncode = 2.0\n", toml, "mix.toml")
    assert mark("[weights]\ncode = 2.00\ndocs = 1.0  # d\n", toml, "mix.toml") == same
    assert mark("[weights]\ncode = 3.0\ndocs = 1.0\n", toml, "mix.toml") != same
    assert mark('{"a": 2}', '{"a": 1}', "a.json") == mark('{\n "a": 2\n}', '{"a":1}', "a.json")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["x = 1", "x = 2", "y = x", "if x:\n    y = 1", "def f():\n    x = 1"]), max_size=6))
def test_what_unparse_makes_of_a_program_is_the_same_program(parts: list[str]) -> None:
    new = "\n".join(parts) + "\n"
    assert mark(ast.unparse(ast.parse(new)), "z = 0\n") == mark(new, "z = 0\n")


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (TURNED, Change.CONSTANTS),
        (CODE.replace("0.0)", "-1.0)").replace("2\n", "3\n"), Change.CONSTANTS),
        (CODE.replace("y = max(x, 0.0)", "y = math.tanh(x)"), Change.LOCAL),
        (CODE.replace("    y = y * y\n", ""), Change.LOCAL),
        (CODE.replace("import math", "import math, os"), Change.STRUCTURAL),
        (CODE.replace("def act(x)", "def act(x, y=1)"), Change.STRUCTURAL),
        (CODE.replace("    y = y * y\n", "    for _ in range(2):\n        y = y * y\n"), Change.STRUCTURAL),
        (CODE + "\n\nclass More:\n    pass\n", Change.STRUCTURAL),
        (
            CODE.replace("y * y", "y + y").replace("x = act(x)\n        return", "x = -x\n        return"),
            Change.STRUCTURAL,
        ),
    ],
)
def test_tuning_local_and_structural_changes_are_told_apart(new: str, expected: Change) -> None:
    assert kind(new) == expected


def test_settings_files_and_whole_files_have_a_class_too() -> None:
    assert kind("[a]\nb = 2\n", "[a]\nb = 1\n", "mix.toml") == Change.CONSTANTS
    assert kind("[a]\nb = 1\nc = 1\n", "[a]\nb = 1\n", "mix.toml") == Change.LOCAL
    assert change_class({"new.py": None}, {"new.py": b"x = 1\n"}) == Change.STRUCTURAL
    assert change_class({"a.txt": b"1\n"}, {"a.txt": b"2\n"}) == Change.LOCAL


# --- in the queue ------------------------------------------------------------------------------------------------------

AGAIN = proposal("Another name for a rate of 2", "RATE = 1.0", "RATE = 2.00  # the very same", "schedule")


def test_a_duplicate_is_shown_with_the_earlier_verdict_and_queued_only_when_a_person_says_so(tiny: Make) -> None:
    lab = tiny(rate(2.0), queue=1)
    with lab.session() as session:
        first = wait_for(lambda: waiting(session))[0]
        decide(session, first, "decline", "the rate was tried last year")
        (lab.root / "proposals/100.md").write_text(AGAIN)
        row = wait_for(lambda: rows(session, "proposal").get("p0002"))
        assert (row["state"], row["refusal"], row["duplicate_of"]) == ("refused", "duplicate", "p0001")
        assert "the same change as p0001, which is declined: the rate was tried last year" in row["detail"]
        answer = session.call("again", proposal="p0002")
        assert answer["state"] == "waiting"
        third = rows(session, "proposal")[answer["proposal"]]
        assert third["duplicate_of"] == "p0001"
        assert third["diff_hash"] == row["diff_hash"]
        decide(session, third)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        (lab.root / "proposals/101.md").write_text(AGAIN.replace("Another", "A third"))
        fourth = wait_for(lambda: rows(session, "proposal").get("p0004"))
        assert fourth["duplicate_of"] == "p0001"
        table = session.call("sql", text="SELECT id, change, duplicate_of FROM proposals ORDER BY id")
        assert table["rows"] == [
            ["p0001", "constant-only", None],
            ["p0002", "constant-only", "p0001"],
            ["p0003", "constant-only", "p0001"],
            ["p0004", "constant-only", "p0001"],
        ]
