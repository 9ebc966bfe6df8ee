"""Replies that nobody would write: the parser, the splitter and the applier refuse in words, and touch nothing else.

In the suite 20,000; `COCKPIT_FUZZ=1000000 pytest tests/test_fuzz_replies.py` for more. What comes is drawn from a seed that is
said when it fails; `COCKPIT_FUZZ_SEED` draws it again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pytest

from engine.edits import Refused, apply, parse
from engine.proposers.replies import failing_block, repair, split
from engine.proposers.writing import Header, as_reply
from engine.textdiff import unified
from engine.types import Refusal
from tests.tinylab import proposal

COUNT = int(os.environ.get("COCKPIT_FUZZ", "20000"))
SEED = int(os.environ.get("COCKPIT_FUZZ_SEED", "20261125"))
NANOLM = Path(__file__).parents[1] / "sample_runs/nanolm"
RECORDED = sorted((NANOLM / "proposals").glob("*.md"))
MADE_TO_FAIL = {"07-shorter-memory": Refusal.NO_MATCH, "08-score-more-windows": Refusal.PROTECTED}

After = dict[str, bytes | None]

# small files: most of the time goes into comparing syntax trees
FILES = {
    "train.py": b"RATE = 1.0\nWIDTH = 8\n\n\ndef loss(x):\n    y = x * RATE\n    y = y + 1\n    return y\n",
    "mix.toml": b"[weights]\ncode = 1.0  # most of it\ndocs = 1.0\n",
}
REPLIES = [
    proposal("A rate of 2", "RATE = 1.0", "RATE = 2.0"),
    proposal("Twice as wide", "RATE = 1.0\nWIDTH = 8", "RATE = 1.0\nWIDTH = 16", "architecture"),
    proposal("More code", "code = 1.0  # most of it", "code = 2.0", "data mix", "mix.toml"),
    proposal("No shift", "    y = x * RATE\n    y = y + 1\n", "    y = x * RATE\n", "regularisation")
    + "\nmix.toml\n<<<<<<< SEARCH\ndocs = 1.0\n=======\ndocs = 3.0\n>>>>>>> REPLACE\n",
    proposal("A new file", "WIDTH = 8", "from new import WIDTH", "systems")
    + "\nnew.py\n<<<<<<< SEARCH\n=======\nWIDTH = 9\n>>>>>>> REPLACE\n",
    proposal("Without a mix", "WIDTH = 8", "WIDTH = 7") + "\nmix.toml\n<<<<<<< DELETE\n>>>>>>> DELETE\n",
    proposal("Both at once", "    return y", "    return -y")
    + "<<<<<<< SEARCH\n    y = y + 1\n=======\n    y = y - 1\n>>>>>>> REPLACE\n",
]
TAKEN = {**FILES, "evaluate.py": b"x = 1\n", "raw.bin": b"\0\xff"}
EDITABLE = {*FILES, "new.py", "raw.bin"}
PROTECTED = {"evaluate.py", "data.py", "prepare.py", "cockpit.toml", "program.md"}
PATHS = (
    *(
        "../outside.py",
        "/etc/passwd",
        "~/x",
        ".git/config",
        ".GIT/hooks/x",
        "evaluate.py",
        "a/../train.py",
        "./train.py",
    ),
    *(
        "new.py",
        "raw.bin",
        "train.py/x",
        "C:\\x",
        "train\u200b.py",
        "cockpit.toml",
        "",
        "train.py\0",
        "git~1/x",
        "x" * 600,
    ),
    *("new.py/", "\ud800"),
)
MARKS = (
    *(
        "<<<<<<< SEARCH",
        "=======",
        ">>>>>>> REPLACE",
        "<<<<<<< DELETE",
        ">>>>>>> DELETE",
        "<proposal>",
        "</proposal>",
        "```",
    ),
    *(
        "hypothesis:",
        "category: schedule",
        "category: nonsense",
        "predicted_effect: 1e999",
        "mechanism: m",
        "<<<<<< SEARCH",
    ),
    *("<<<<<<< SEARCH ", "@@ -1 +1 @@", "\x00", "\ufeff", "\u2028", "\r", "\x1b[2J", "\udcff", "  "),
)


def _lines(text: str, chance: random.Random) -> list[str]:
    return text.split("\n") or [chance.choice(MARKS)]


def mangled(chance: random.Random) -> str:
    """A recorded reply with a few things done to it, or noise."""
    if chance.random() < 0.1:
        return "\n".join(chance.choice((*MARKS, *PATHS)) for _ in range(chance.randrange(30)))
    text = chance.choice(REPLIES)
    for _ in range(chance.randrange(1, 5)):
        text = chance.choice(ACTS)(text, chance)
    return text


def _drop(text: str, chance: random.Random) -> str:
    lines = _lines(text, chance)
    at = chance.randrange(len(lines))
    return "\n".join(lines[:at] + lines[at + chance.randrange(1, 4) :])


def _double(text: str, chance: random.Random) -> str:
    lines = _lines(text, chance)
    at = chance.randrange(len(lines))
    return "\n".join(lines[: at + 1] + lines[max(0, at - chance.randrange(12)) :])


def _insert(text: str, chance: random.Random) -> str:
    lines = _lines(text, chance)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice((*MARKS, *PATHS)))
    return "\n".join(lines)


def _cut(text: str, chance: random.Random) -> str:
    return text[: chance.randrange(len(text) + 1)]


def _flip(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice("\x00\n\r\t <>=\u202e\ud800é") + text[at + chance.randrange(3) :]


def _elsewhere(text: str, chance: random.Random) -> str:
    return text.replace(chance.choice(("train.py", "mix.toml")), chance.choice(PATHS))


def _splice(text: str, chance: random.Random) -> str:
    other = chance.choice(REPLIES)
    return text[: chance.randrange(len(text) + 1)] + other[chance.randrange(len(other) + 1) :]


def _windows(text: str, chance: random.Random) -> str:
    return text.replace("\n", "\r\n")


ACTS: tuple[Callable[[str, random.Random], str], ...] = (
    _drop, _double, _insert, _insert, _cut, _flip, _flip, _elsewhere, _splice, _windows,
)  # fmt: skip


def judge(text: str, files: Mapping[str, bytes] = TAKEN, editable: Collection[str] = EDITABLE) -> After | Refused:
    try:
        return apply(parse(text), files.get, editable.__contains__, PROTECTED.__contains__)
    except Refused as refused:
        return refused


def test_no_fuzzed_reply_crashes_the_machine_or_writes_outside_the_editable_files() -> None:
    chance = random.Random(SEED)
    applied, reasons = 0, dict[str, int]()
    for number in range(COUNT):
        text = mangled(chance)
        try:
            after = judge(text)
            for each in split(text)[:4]:
                refused = after if each == text else judge(each)
                if isinstance(refused, Refused):
                    repair([(each, refused)])
                    failing_block(each, refused)
        except Exception as error:
            raise AssertionError(f"reply {number} of seed {SEED}: {text!r}") from error
        if isinstance(after, Refused):
            assert after.reason in Refusal
            assert after.detail
            reasons[after.reason] = reasons.get(after.reason, 0) + 1
            continue
        applied += 1
        assert after.keys() <= EDITABLE, text
        assert all(data != TAKEN.get(path) for path, data in after.items()), text
        unified({path: TAKEN.get(path) for path in after}, after)
    assert applied > COUNT // 50, "too little of what was drawn is well-formed to say anything"
    wanted = {
        "no-header",
        "no-blocks",
        "malformed",
        "no-match",
        "overlap",
        "protected",
        "outside",
        "missing-file",
        "empty-search",
    }
    assert reasons.keys() >= (wanted if COUNT >= 20_000 else set()), sorted(wanted - reasons.keys())


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_recorded_reply_applies_or_is_refused_for_what_it_was_made_for(path: Path) -> None:
    before = {name: (NANOLM / name).read_bytes() for name in ("train.py", "mix.toml", "prepare.py")}
    text = path.read_text()
    after = judge(text, before, ("train.py", "mix.toml"))
    if isinstance(after, Refused):
        assert MADE_TO_FAIL.get(path.stem) == after.reason, after.detail
        return
    assert path.stem not in MADE_TO_FAIL
    again = as_reply(Header("h"), {name: before[name] for name in after}, after)
    assert apply(parse(again), before.get, lambda _: True, lambda _: False) == after
