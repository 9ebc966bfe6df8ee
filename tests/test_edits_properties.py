"""What must hold for any text at all: refusals only, nothing outside the allowlist, diffs that give the bytes back."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.edits import Draft, Edit, Refused, apply, file_changes, parse, unified
from engine.textdiff import changed_spans, split_lines
from engine.types import Category

HEADER = "hypothesis: h\ncategory: schedule\nmechanism: m\nprediction: p\n"
PIECES = [
    "<<<<<<< SEARCH\n", "=======\n", ">>>>>>> REPLACE\n", "<<<<<<< DELETE\n", ">>>>>>> DELETE\n", "train.py\n", "eval.py\n",
    "../up.py\n", "`train.py`\n", "```python\n", HEADER, "a = 1\n", "b = 2\n", "\n", "a = 1\r\n", "\ufeff", "\0", "\x0c", "x",
    "predicted_effect: nan\n", "predicted_effect: 1e999\n", "category: data mix\n", "  more\n", "new.py\n", "\u2028", "\ud800",
]  # fmt: skip
FILES = {"train.py": b"a = 1\nb = 2\n\nb = 2\nc = 3", "eval.py": b"a = 1\n", "raw.py": b"\xff\x00"}
LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\r\n", "\n", "e\x0cf\n", "# é\u2028\n"]), max_size=40)


def text_file() -> st.SearchStrategy[bytes]:
    return st.builds(lambda lines, end: ("".join(lines) + end).encode(), LINES, st.sampled_from(["", "", "end"]))


def attempt(make: Callable[[], dict[str, bytes | None]]) -> dict[str, bytes | None] | Refused:
    try:
        return make()
    except Refused as refused:
        return refused


def apply_reply(reply: str) -> dict[str, bytes | None]:
    return apply(parse(reply), FILES.get, {"train.py", "new.py"}.__contains__, {"eval.py"}.__contains__)


@settings(max_examples=2000, deadline=None)
@given(st.one_of(st.text(max_size=300), st.lists(st.sampled_from(PIECES), max_size=30).map("".join)))
def test_any_reply_is_applied_within_the_allowlist_or_refused(reply: str) -> None:
    for text in (reply, HEADER + reply):
        after = attempt(partial(apply_reply, text))
        if isinstance(after, Refused):
            assert after.detail
            assert "\n" not in after.detail
        else:
            assert after
            assert after.keys() <= {"train.py", "new.py"}
            assert all(data != FILES.get(path) for path, data in after.items())


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=6), st.text(max_size=30))
def test_drafts_built_by_hand_never_raise_anything_else(pairs: list[tuple[str, str]], path: str) -> None:
    edits = (*(Edit(name, text, text[::-1]) for name, text in pairs), Edit(path, "a = 1\n", "z = 1\n"))
    draft = Draft("h", "m", "p", Category.BUG_FIX, None, edits)
    after = attempt(lambda: apply(draft, lambda _: FILES["train.py"], lambda _: True, lambda _: False))
    assert after.detail if isinstance(after, Refused) else after


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_blocks_cut_from_a_file_apply_to_exactly_what_was_meant(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30))
    lines = [f"x{n} = {n}\n" for n in range(count)]
    start = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(start + 1, count))
    new = data.draw(st.lists(st.sampled_from(["y = 1\n", "z = 2\n", "\n"]), max_size=5))
    reply = f"{HEADER}f.py\n<<<<<<< SEARCH\n{''.join(lines[start:end])}=======\n{''.join(new)}>>>>>>> REPLACE\n"
    eol = data.draw(st.sampled_from(["\n", "\r\n"]))
    before = "".join(lines).replace("\n", eol).encode()
    expected = "".join([*lines[:start], *new, *lines[end:]]).replace("\n", eol).encode()
    assert apply(parse(reply), {"f.py": before}.get, lambda _: True, lambda _: False) == {"f.py": expected}


def patched(before: dict[str, bytes | None], diff: str) -> dict[str, bytes | None]:
    """A reader of unified diffs, written apart from the writer: the files after the diff."""
    after = dict(before)
    for part in re.split(r"^(?=diff --git )", diff, flags=re.M)[1:]:
        lines = split_lines(part)
        path = lines[0].rstrip("\n").split(" b/", 1)[1]
        old = split_lines((before.get(path) or b"").decode())
        out: list[str] = []
        at = 0
        for n, line in enumerate(lines):
            hunk = re.match(r"@@ -(\d+)(?:,(\d+))? ", line)
            if hunk:
                start = int(hunk[1]) - (0 if hunk[2] == "0" else 1)
                out += old[at:start]
                at = start
            elif line[0] in " -+" and not line.startswith(("--- ", "+++ ")):
                body = line[1:]
                if n + 1 < len(lines) and lines[n + 1].startswith("\\"):
                    body = body[:-1]
                if line[0] in " -":
                    assert old[at] == body
                    at += 1
                if line[0] in " +":
                    out.append(body)
        out += old[at:]
        after[path] = None if "deleted file mode" in part else "".join(out).encode()
    return after


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a.py", "b c.py"]), st.none() | text_file()),
    st.dictionaries(st.sampled_from(["a.py", "b c.py"]), st.none() | text_file()),
)
def test_applying_the_drawn_diff_gives_the_new_bytes(
    before: dict[str, bytes | None], after: dict[str, bytes | None]
) -> None:
    result = patched(before, unified(before, after))
    assert {path: result.get(path) for path in after} == after
    rows = {row.path: row for row in file_changes(before, after)}
    assert rows.keys() == {path for path in {*before, *after} if before.get(path) != after.get(path)}
    for path, row in rows.items():
        old, new = (
            len(split_lines((before.get(path) or b"").decode())),
            len(split_lines((after.get(path) or b"").decode())),
        )
        assert new - old == row.added - row.removed


@settings(max_examples=300, deadline=None)
@given(LINES, LINES)
def test_spans_are_ordered_apart_and_cover_every_difference(old: list[str], new: list[str]) -> None:
    i = k = 0
    for start, end, start_new, end_new in changed_spans(old, new):
        assert old[i:start] == new[k:start_new]
        assert end > start or end_new > start_new
        i, k = end, end_new
    assert old[i:] == new[k:]


@settings(max_examples=25, deadline=None)
@given(before=text_file(), after=text_file())
def test_git_applies_the_drawn_diff(tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes) -> None:
    root: Path = tmp_path_factory.mktemp("apply")
    (root / "a file.py").write_bytes(before)
    (root / "gone.py").write_bytes(before)
    files: dict[str, bytes | None] = {"a file.py": before, "gone.py": before or b"x\n", "made.py": None}
    (root / "gone.py").write_bytes(files["gone.py"] or b"")
    wanted: dict[str, bytes | None] = {"a file.py": after, "gone.py": None, "made.py": after or b"x"}
    diff = unified(files, wanted).encode()
    done = subprocess.run(["git", "apply", "-"], cwd=root, input=diff, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (root / "a file.py").read_bytes() == after
    assert (root / "made.py").read_bytes() == wanted["made.py"]
    assert not (root / "gone.py").exists()


def test_a_large_file_gives_small_hunks_and_one_of_repeated_lines_no_quadratic_search() -> None:
    old = [f"{n}\n" if n % 10 == 0 else f"{n % 10}\n" for n in range(60_000)]
    new = ["first\n", *old[:30_000], "middle\n", *old[30_050:], "last\n"]
    spans = changed_spans(old, new)
    assert (spans[0], spans[-1]) == ((0, 0, 0, 1), (60_000, 60_000, len(new) - 1, len(new)))
    assert sum(j - i for i, j, _, _ in spans) == 50
    repeated = [f"{n % 100}\n" for n in range(60_000)]
    assert changed_spans(repeated, ["first\n", *repeated, "last\n"]) == [(0, 60_000, 0, 60_002)]
