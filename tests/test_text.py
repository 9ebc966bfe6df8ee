"""Nothing that a log, a diff or a model says can steer the reader's terminal or hide from the reader's eyes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.text import clean, clean_all, clean_line, disguised


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("val_bpb 2.0134", "val_bpb 2.0134"),
        ("a\tb\nc", "a\tb\nc"),
        ("line\r\nline", "line\nline"),
        ("12%\r13%", "12%␍13%"),
        ("\x1b]52;c;ZXZpbA==\x1b\\", "␛]52;c;ZXZpbA==␛\\"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x9b31m", "<9B>31m"),
        ("bell\x07 nul\x00 del\x7f", "bell␇ nul␀ del␡"),
        ("if admin\u202e # }nimda", "if admin<U+202E> # }nimda"),
        ("pass\u200bword", "pass<U+200B>word"),
        ("heart\u2764\ufe0f", "heart\u2764<U+FE0F>"),
        ("\ud800", "<U+D800>"),
        ("naïve 学習率 ½", "naïve 学習率 ½"),
    ],
)
def test_what_the_reader_sees(raw: str, seen: str) -> None:
    assert clean(raw) == seen


@given(st.text(st.characters(exclude_categories=[])))
@settings(max_examples=300)
def test_no_control_or_format_character_survives(raw: str) -> None:
    shown = clean(raw)
    assert clean(shown) == shown
    shown.encode("utf-8")
    for char in shown:
        assert char in "\n\t" or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(st.characters(exclude_categories=[])))
@settings(max_examples=100)
def test_one_line_is_one_line(raw: str) -> None:
    assert len(clean_line(raw).splitlines()) <= 1
    assert "\t" not in clean_line(raw)


def test_every_string_of_a_row_is_cleaned_and_numbers_stay() -> None:
    row = {"id": "p1\x1b", "files": [{"path": "a\u202eb", "added": 3}], "why": None, "effect": 0.5}
    assert clean_all(row) == {"id": "p1␛", "files": [{"path": "a<U+202E>b", "added": 3}], "why": None, "effect": 0.5}


def test_disguises_are_named_once() -> None:
    assert disguised("a\u202eb\u202ec\u200b\x1b") == ["U+202E right-to-left override", "U+200B zero width space"]
    assert disguised("plain") == []
