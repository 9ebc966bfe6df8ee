"""What a person types to see fewer rows is read as it looks, or refused with a word on what to write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.history.console_filter import OPERATORS, FilterError, Term, parse

COLUMNS = ("experiment", "Effect", "effect", "my column", "verdict")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ()),
        ("   ", ()),
        ("adam", (Term(None, "~", "adam"),)),
        ("adam muon", (Term(None, "~", "adam"), Term(None, "~", "muon"))),
        ("verdict=solid", (Term(4, "=", "solid"),)),
        ("verdict = 'not solid' x", (Term(4, "=", "not solid"), Term(None, "~", "x"))),
        ("Effect>0.1", (Term(1, ">", "0.1"),)),
        ("EFFECT <= -1e-3", (Term(1, "<=", "-1e-3"),)),
        ('"my column" ~ ^a', (Term(3, "~", "^a"),)),
        ("'x=1'", (Term(None, "~", "x=1"),)),
        ("verdict != ''", (Term(4, "!=", ""),)),
        ("wow!", (Term(None, "~", "wow"), Term(None, "~", "!"))),
    ],
)
def test_words_and_conditions(text: str, terms: tuple[Term, ...]) -> None:
    assert parse(text, COLUMNS) == terms


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("verdit = solid", "no column 'verdit'; there are experiment"),
        ("= 3", "no column before it"),
        ("verdict =", "no value after it"),
        ("verdict > < 3", "no value after it"),
        ("'open", "never closed"),
        ("x" * 5000, "4,000 are allowed"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(FilterError, match=says):
        parse(text, COLUMNS)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        terms = parse(text, COLUMNS)
    except FilterError:
        return
    assert all(term.op in OPERATORS and (term.column is None or 0 <= term.column < len(COLUMNS)) for term in terms)


@given(st.lists(st.tuples(st.sampled_from(COLUMNS), st.sampled_from(OPERATORS), st.text("ab =<'~ ", max_size=9))))
def test_quoted_conditions_come_back_as_they_were_written(wanted: list[tuple[str, str, str]]) -> None:
    text = " ".join(f'"{name}" {op} "{value}"' for name, op, value in wanted)
    assert parse(text, COLUMNS) == tuple(Term(COLUMNS.index(name), op, value) for name, op, value in wanted)
