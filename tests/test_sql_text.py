"""SQL as text: tokens, suggestions, parameters, errors, and the queries of the past; no terminal."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cockpit import sql_errors, sql_history, sql_params
from cockpit.sql_complete import Schema, complete
from cockpit.sql_history import Walk
from cockpit.sql_params import ParamError
from cockpit.sql_tokens import colours, params, quote, tokens
from tests.sql_fakes import QUESTIONS, SCHEMA

PIECES = [*"abe_ \n.,()'\"$-/*;=<>019é漢\x1b", "select ", " from ", "--", "/*", "*/", "''", "$$", "experiments"]
SQLISH = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
KNOWN = Schema.of(SCHEMA)
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def labels(text: str) -> list[str]:
    """What is suggested at the `|` in `text`."""
    before, after = text.split("|")
    return [each.label for each in complete(before + after, len(before), KNOWN).items]


# --- tokens


@CALM
@given(SQLISH)
def test_the_tokens_of_any_text_are_that_text(text: str) -> None:
    found = tokens(text)
    assert "".join(each.text for each in found) == text
    assert [each.start for each in found] == [sum(len(t.text) for t in found[:n]) for n in range(len(found))]


@CALM
@given(SQLISH)
def test_colours_stay_within_their_lines(text: str) -> None:
    rows = text.split("\n")
    found = colours(text)
    assert len(found) == len(rows)
    for row, stretches in zip(rows, found, strict=True):
        at = 0
        for start, end, _ in stretches:
            assert at <= start < end <= len(row)
            at = end


def test_a_comment_over_lines_and_a_string_are_coloured_as_what_they_are() -> None:
    assert colours("/* a\nb */ select 'x'") == [
        [(0, 4, "comment")],
        [(0, 4, "comment"), (5, 11, "keyword"), (12, 15, "string")],
    ]


def test_parameters_are_those_outside_of_strings_and_comments() -> None:
    assert params("select $a, '$b', $a -- $c\n, $d") == ["a", "d"]


def test_a_name_is_quoted_where_it_has_to_be() -> None:
    assert [quote(each) for each in ("id", "order", "a b", 'x"y')] == ["id", '"order"', '"a b"', '"x""y"']


# --- suggestions


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("select * from |", ["experiments", "shards", "leaderboard"]),
        ("select * from sh|", ["shards"]),
        ("select * from experiments, |", ["experiments", "shards", "leaderboard"]),
        ("select e.| from experiments e", ["id", "hypothesis", "effect"]),
        ("select s.se| from experiments as e join shards as s on true", ["seed"]),
        ("select experiments.ef| from experiments", ["effect"]),
        ("select hyp| from experiments", ["hypothesis"]),
        ("select med| from experiments", ["median"]),
        ("select e.hyp|", ["hypothesis"]),
        ("select hyp|", ["hypothesis"]),
        ("SEL|", ["SELECT"]),
        ("select 'sel|'", []),
        ("select 1 -- sel|", []),
        ("with mine as (select 1) select * from mi|", ["mine"]),
        ("select e.| from shards e; select e.x from experiments e", ["id", "experiment", "seed"]),
    ],
)
def test_what_is_suggested(text: str, wanted: list[str]) -> None:
    assert labels(text) == wanted


def test_columns_come_before_functions_and_keywords() -> None:
    assert labels("select e| from experiments")[0] == "effect"


@CALM
@given(SQLISH, st.integers(0, 60))
def test_suggesting_never_fails_and_replaces_what_was_typed_alone(text: str, cursor: int) -> None:
    cursor = min(cursor, len(text))
    found = complete(text, cursor, KNOWN)
    assert 0 <= found.start <= cursor
    assert "\n" not in text[found.start : cursor] or text[found.start] == '"'


# --- parameters


VALUES = st.one_of(
    st.integers(-(10**9), 10**9), st.booleans(), st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False)
)


@CALM
@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), VALUES))
def test_parameters_are_read_as_they_were_written(values: dict[str, int | bool | str | float]) -> None:
    assert sql_params.read(sql_params.written(values), dict.fromkeys(values, "")) == values


def test_a_declared_type_is_kept_and_an_open_value_left_out() -> None:
    types = {"word": "text", "limit": "integer"}
    assert sql_params.read("word=12 limit=", types) == {"word": "12"}


def test_a_kept_query_declares_its_parameters_as_the_question_it_came_from() -> None:
    text = sql_params.headed("select $limit, $seed, $word", QUESTIONS[0], {"limit": 7, "seed": 3, "word": "a b"})
    assert text.split("\n") == [
        "-- param: limit integer = 50 How many",
        "-- param: seed integer = 3",
        "-- param: word text = 'a b'",
        "select $limit, $seed, $word",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [("limit=many", "whole number"), ("nosuch=1", "it takes limit"), ("50", "name=value"), ("limit='5", "name=value")],
)
def test_a_wrong_line_of_parameters_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ParamError, match=said):
        sql_params.read(text, {"limit": "integer"})


# --- errors


def test_an_error_is_read_off_the_databases_drawing() -> None:
    found = sql_errors.read(
        'Parser Error: syntax error at or near "d"\n\nLINE 2:   b c d e\n              ^', "select a,\n  b c d e"
    )
    assert (found.line, found.column) == (2, 7)
    assert found.sentence == 'line 2, column 7: syntax error at or near "d"'


def test_an_error_in_the_middle_of_a_long_line_is_found() -> None:
    sql = "select " + ", ".join(f"col_{n}" for n in range(60)) + " from t"
    middle = sql[100:180]
    message = f"Binder Error: no such column\n\nLINE 1: ...{middle}...\n" + " " * (len("LINE 1: ...") + 8) + "^^^"
    found = sql_errors.read(message, sql)
    assert (found.line, found.column, found.length) == (1, 109, 3)


def test_a_message_without_a_place_is_shown_as_it_is() -> None:
    assert (
        sql_errors.read("the history is read only, write a SELECT", "x").sentence
        == "the history is read only, write a SELECT"
    )


def test_a_place_that_the_engine_gives_is_taken() -> None:
    found = sql_errors.read("Parser Error: no", "a\nb", {"line": 2, "column": 1})
    assert found.sentence == "line 2, column 1: no"


@CALM
@given(st.text(max_size=80), SQLISH)
def test_no_message_breaks_the_reader(message: str, sql: str) -> None:
    found = sql_errors.read(message + "\nLINE 1: x\n        ^", sql)
    assert found.line <= sql.count("\n") + 1


# --- past queries


def test_past_queries_are_private_bounded_and_each_kept_once(tmp_path: Path) -> None:
    path = sql_history.place("/a/lab", {"XDG_STATE_HOME": str(tmp_path)})
    for number in range(sql_history.MOST + 20):
        sql_history.save(path, [*sql_history.load(path)[-3:], f"select {number}"])
    sql_history.save(path, [f"select {number}" for number in range(sql_history.MOST + 20)])
    past = sql_history.add(path, "select 100\nfrom t")
    past = sql_history.add(path, "select 30")
    assert len(past) == sql_history.MOST
    assert past[-2:] == ["select 100\nfrom t", "select 30"]
    assert past.count("select 30") == 1
    assert sql_history.load(path) == past
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_damaged_history_gives_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "h"
    path.write_bytes(b'"select 1"\n{broken\n\xff\xfe\n"select 2"\n12\n')
    assert sql_history.load(path) == ["select 1", "select 2"]
    assert sql_history.load(tmp_path / "none") == []


def test_going_back_and_forth_ends_at_what_was_being_written() -> None:
    walk = Walk()
    walk.set(["a", "b"])
    assert walk.back("draft") == "b"
    assert walk.back("b") == "a"
    assert walk.back("a") is None
    assert walk.forth() == "b"
    assert walk.forth() == "draft"
    assert walk.forth() is None
