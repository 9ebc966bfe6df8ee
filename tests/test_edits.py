"""A reply becomes a diff, or a refusal that says what to mend: the applier's promises, one by one."""

from __future__ import annotations

import pytest

from engine.edits import MAX_FILE, Draft, Refused, apply, parse, unified
from engine.types import Category, Refusal

TRAIN = b"""import torch

width = 128
depth = 4


class Block:
    def forward(self, x):
        return torch.nn.functional.gelu(x)


def train(steps):
    for step in range(steps):
        pass
"""
LAB = {"train.py": TRAIN, "model.py": b"a = 1\nb = 2\nc = 3\n", "evaluate.py": b"score = 1\n", "notes.txt": b"hello\n"}
EDITABLE = {"train.py", "model.py", "mix.toml", "new.py", "pkg/new.py", "train.py/x.py", "model.py/y/z.py"}

HEADER = """hypothesis: ReLU squared trains better than GELU
category: architecture
mechanism: sparse activations give cleaner gradients
  to the layers below
prediction: val_bpb falls by 0.01
predicted_effect: 0.012
"""


def block(path: str, search: str, replace: str) -> str:
    return f"{path}\n<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"


def applied(reply: str, files: dict[str, bytes] = LAB) -> dict[str, bytes | None]:
    return apply(parse(reply), files.get, lambda path: path in EDITABLE, lambda path: path == "evaluate.py")


def refusal(reply: str, files: dict[str, bytes] = LAB) -> Refused:
    with pytest.raises(Refused) as caught:
        applied(reply, files)
    return caught.value


RELU = block("train.py", "        return torch.nn.functional.gelu(x)\n", "        return torch.relu(x).square()\n")


def test_a_well_formed_reply_becomes_one_changed_file() -> None:
    reply = f"I looked at the loss curves.\n\n{HEADER}\nHere it is:\n\n```python\n{RELU}```\nGood luck!\n"
    draft = parse(reply)
    assert draft == Draft(
        "ReLU squared trains better than GELU",
        "sparse activations give cleaner gradients to the layers below",
        "val_bpb falls by 0.01",
        Category.ARCHITECTURE,
        0.012,
        draft.edits,
    )
    after = applied(reply)
    assert list(after) == ["train.py"]
    assert after["train.py"] == TRAIN.replace(b"torch.nn.functional.gelu(x)", b"torch.relu(x).square()")
    assert unified(LAB, {**LAB, **after}) == (
        "diff --git a/train.py b/train.py\n--- a/train.py\n+++ b/train.py\n@@ -6,7 +6,7 @@\n \n class Block:\n"
        "     def forward(self, x):\n-        return torch.nn.functional.gelu(x)\n+        return torch.relu(x).square()\n"
        " \n \n def train(steps):\n"
    )


@pytest.mark.parametrize(
    "line", ["train.py", "`train.py`", "file: train.py", "**train.py**", "### `train.py`", "train.py:"]
)
def test_the_path_may_be_dressed_up(line: str) -> None:
    assert list(applied(HEADER + RELU.replace("train.py", line, 1))) == ["train.py"]


def test_a_fence_between_path_and_block_is_ignored_and_a_second_block_inherits_the_path() -> None:
    reply = (
        HEADER + "model.py\n```python\n" + block("", "a = 1\n", "a = 10\n") + "```\n" + block("", "c = 3\n", "c = 30\n")
    )
    assert applied(reply) == {"model.py": b"a = 10\nb = 2\nc = 30\n"}


def test_carriage_returns_in_the_reply_do_not_matter() -> None:
    assert applied((HEADER + RELU).replace("\n", "\r\n")) == applied(HEADER + RELU)


@pytest.mark.parametrize(
    ("written", "category"),
    [("Data-Mix", Category.DATA_MIX), ("`regularization`", Category.REGULARISATION), ("bug_fix", Category.BUG_FIX)],
)
def test_categories_are_read_generously(written: str, category: Category) -> None:
    assert parse(HEADER.replace("architecture", written) + RELU).category == category


@pytest.mark.parametrize(
    ("effect", "number"),
    [("0.02", 0.02), ("+1e-3 bits per byte", 0.001), ("-.5", -0.5), ("none", None), ("0.01-0.02", 0.01), ("", None)],
)
def test_predicted_effects(effect: str, number: float | None) -> None:
    assert parse(HEADER.replace("0.012", effect) + RELU).predicted_effect == number


def test_terminal_escapes_and_bidirectional_characters_do_not_survive_the_header() -> None:
    draft = parse(HEADER.replace("ReLU", "Re\x1b]52;c;AAAA\x07\u202eLU\u200b") + RELU)
    assert draft.hypothesis == "Re ]52;c;AAAA LU squared trains better than GELU"


# --- creating, deleting, line endings


def test_an_empty_search_creates_and_delete_deletes() -> None:
    reply = HEADER + block("pkg/new.py", "", "x = 1\n") + "model.py\n<<<<<<< DELETE\n>>>>>>> DELETE\n"
    after = applied(reply)
    assert after == {"pkg/new.py": b"x = 1\n", "model.py": None}
    text = unified(LAB, {**LAB, **after})
    assert "deleted file mode 100644\n--- a/model.py\n+++ /dev/null\n@@ -1,3 +0,0 @@\n" in text
    assert "new file mode 100644\n--- /dev/null\n+++ b/pkg/new.py\n@@ -0,0 +1 @@\n+x = 1\n" in text


def test_replacing_all_of_a_file_by_nothing_empties_it_but_does_not_delete_it() -> None:
    assert applied(HEADER + block("model.py", "a = 1\nb = 2\nc = 3\n", "")) == {"model.py": b""}


def test_windows_line_endings_a_byte_order_mark_and_a_missing_last_newline_are_kept() -> None:
    files = {"model.py": b"\xef\xbb\xbfa = 1\r\nb = 2\r\nc = 3"}
    assert applied(HEADER + block("model.py", "a = 1\n", "a = 1\na2 = 1\n"), files) == {
        "model.py": b"\xef\xbb\xbfa = 1\r\na2 = 1\r\nb = 2\r\nc = 3"
    }
    assert applied(HEADER + block("model.py", "c = 3\n", "c = 4\nd = 5\n"), files) == {
        "model.py": b"\xef\xbb\xbfa = 1\r\nb = 2\r\nc = 4\r\nd = 5"
    }
    assert applied(HEADER + block("model.py", "b = 2\nc = 3\n", ""), files) == {"model.py": b"\xef\xbb\xbfa = 1"}


def test_each_line_of_a_file_with_mixed_endings_keeps_its_own() -> None:
    files = {"model.py": b"a = 1\r\nb = 2\nc = 3\r\n"}
    assert applied(HEADER + block("model.py", "a = 1\nb = 2\n", "a = 1\nb = 3\n"), files) == {
        "model.py": b"a = 1\r\nb = 3\nc = 3\r\n"
    }


def test_every_search_is_looked_up_in_the_parent_not_in_what_an_earlier_block_made() -> None:
    reply = HEADER + block("model.py", "a = 1\n", "b = 2\n") + block("model.py", "b = 2\n", "a = 1\n")
    assert applied(reply) == {"model.py": b"b = 2\na = 1\nc = 3\n"}
    wrong = HEADER + block("model.py", "a = 1\n", "z = 9\n") + block("model.py", "z = 9\n", "z = 10\n")
    assert refusal(wrong).reason == Refusal.NO_MATCH


# --- refusals


@pytest.mark.parametrize(
    ("reply", "reason", "says"),
    [
        (RELU, Refusal.NO_HEADER, "hypothesis:, category:, mechanism:, prediction:"),
        (HEADER.replace("category: architecture\n", "") + RELU, Refusal.NO_HEADER, "category:"),
        (HEADER + "hypothesis: another\n" + RELU, Refusal.MALFORMED, "twice"),
        (HEADER.replace("architecture", "vibes") + RELU, Refusal.MALFORMED, "data mix"),
        (HEADER.replace("0.012", "lots") + RELU, Refusal.MALFORMED, "not a number"),
        (HEADER.replace("0.012", "1e999") + RELU, Refusal.MALFORMED, "not a number"),
        (HEADER + "I would change nothing.\n", Refusal.NO_BLOCKS, "changes nothing"),
        (HEADER + RELU.replace(">>>>>>> REPLACE\n", ""), Refusal.MALFORMED, "not closed"),
        (HEADER + RELU.replace("=======\n", ""), Refusal.MALFORMED, "no ======="),
        (HEADER + RELU.replace("=======\n", "=======\nx\n=======\n"), Refusal.MALFORMED, "two ======="),
        (HEADER + RELU.replace("train.py\n", ""), Refusal.MALFORMED, "no line with a file path"),
        (HEADER + "\n>>>>>>> REPLACE\n" + RELU, Refusal.MALFORMED, "no <<<<<<<"),
        (HEADER + "model.py\n<<<<<<< DELETE\nx\n>>>>>>> DELETE\n", Refusal.MALFORMED, "DELETE"),
        (HEADER + block("model.py", "b = 2", "b = 3\n"), Refusal.MALFORMED, "no ======="),
        (HEADER + block("model.py", "b = 4\n", "b = 3\n"), Refusal.NO_MATCH, "nowhere in model.py"),
        (HEADER + block("model.py", "= 2\n", "= 3\n"), Refusal.NO_MATCH, "nowhere"),
        (HEADER + block("train.py", "\n", "x\n"), Refusal.EMPTY_SEARCH, "quote the lines"),
        (HEADER + block("train.py", "", "x\n"), Refusal.EMPTY_SEARCH, "exists"),
        (HEADER + block("new.py", "x\n", "y\n"), Refusal.MISSING_FILE, "does not exist"),
        (HEADER + "new.py\n<<<<<<< DELETE\n>>>>>>> DELETE\n", Refusal.MISSING_FILE, "cannot be deleted"),
        (HEADER + block("new.py", "", "x\n") + block("new.py", "", "y\n"), Refusal.OVERLAP, "another"),
        (
            HEADER + block("model.py", "a = 1\nb = 2\n", "") + block("model.py", "b = 2\n", ""),
            Refusal.OVERLAP,
            "line 2",
        ),
        (HEADER + block("model.py", "b = 2\n", "b = 2\n"), Refusal.NO_OP, "very lines"),
        (HEADER + block("model.py", "b = 2\n", "b  =  2  # two\n"), Refusal.NO_OP, "stays the same"),
        (HEADER + block("evaluate.py", "score = 1\n", "score = 0\n"), Refusal.PROTECTED, "protected"),
        (HEADER + block("notes.txt", "hello\n", "bye\n"), Refusal.NOT_EDITABLE, "editable"),
        (HEADER + block("model.py/y/z.py", "", "x = 1\n"), Refusal.EXISTS, "model.py is a file"),
        (HEADER + block("model.py", "b = 2\n", "b = '\0'\n"), Refusal.BINARY, "NUL"),
        ("x" * 300_000, Refusal.TOO_LARGE, "262144"),
        (HEADER.replace("val_bpb", "v" * 5000) + RELU, Refusal.TOO_LARGE, "4000"),
        (HEADER + RELU + "\ud800", Refusal.MALFORMED, "surrogate"),
    ],
)
def test_refusals_say_what_is_wrong(reply: str, reason: Refusal, says: str) -> None:
    refused = refusal(reply)
    assert (refused.reason, says in refused.detail) == (reason, True), refused.detail


@pytest.mark.parametrize(
    "path",
    [
        "../train.py", "/etc/passwd", "a//b.py", "a/./b.py", ".git/config", "a/.GIT/hooks/x", ".gIt/x", "git~1/x", "a\\b.py",
        "C:/x", "~/x", "a\x07b", "a\u202eb", ".git\u200c/config", "a/.git./x", "x/" * 300 + "y", "\uff0egit/config",
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere(path: str) -> None:
    reply = HEADER + block(path, "", "x\n")
    with pytest.raises(Refused) as caught:
        apply(parse(reply), lambda path: None, lambda path: True, lambda path: False)
    assert caught.value.reason == Refusal.OUTSIDE


def test_an_ambiguous_search_names_the_lines() -> None:
    refused = refusal(HEADER + block("model.py", "a = 1\n", "a = 2\n"), {"model.py": b"a = 1\nb = 2\na = 1\n"})
    assert (refused.reason, "lines 1, 3" in refused.detail) == (Refusal.AMBIGUOUS, True)


def test_a_search_that_matches_nowhere_shows_the_nearest_real_text() -> None:
    search = "class Block:\n    def forward(self, x):\n        return torch.nn.functional.silu(x)\n"
    refused = refusal(HEADER + block("train.py", search, "pass\n"))
    assert "line 9" in refused.detail
    assert "gelu" in refused.detail
    assert refused.nearest.splitlines()[-1] == "        return torch.nn.functional.gelu(x)"
    spaces = refusal(HEADER + block("train.py", "width  = 128\n", "width = 1\n"))
    assert "other white space" in spaces.detail


def test_one_bad_block_refuses_the_good_ones_too() -> None:
    assert refusal(HEADER + RELU + block("model.py", "nowhere\n", "x\n")).reason == Refusal.NO_MATCH


def test_files_that_are_not_text_or_too_large() -> None:
    edit = HEADER + block("model.py", "b = 2\n", "b = 3\n")
    assert refusal(edit, {"model.py": b"b = 2\n\xff\xfe"}).reason == Refusal.BINARY
    assert refusal(edit, {"model.py": b"b = 2\n" + b"#" * MAX_FILE}).reason == Refusal.TOO_LARGE
    many = "".join(block(f"f{n}.py", "", "x = 1\n") for n in range(21))
    assert refusal(HEADER + many).reason == Refusal.TOO_LARGE


def test_a_comment_next_to_a_real_change_is_fine_and_toml_comments_count() -> None:
    assert applied(HEADER + RELU + block("model.py", "b = 2\n", "b = 2  # two\n")).keys() == {"train.py", "model.py"}
    files = {"mix.toml": b"# weights\ncode = 1\n"}
    assert applied(HEADER + block("mix.toml", "# weights\n", "# the weights\n"), files) != {}
