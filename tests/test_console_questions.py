"""A lab's own questions: what their headers may say, how one is saved, and what lies in the folder that is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.history.queries import QueryError, load_all, parse
from engine.history.saving import document, save

HEAD = "-- title: T\n-- description: D\n"


@pytest.mark.parametrize(
    ("said", "picture"),
    [
        ("scatter predicted effect", {"kind": "scatter", "x": "predicted", "y": "effect"}),
        ("lines step loss", {"kind": "lines", "x": "step", "y": "loss", "series": None}),
        ("lines step loss run", {"kind": "lines", "x": "step", "y": "loss", "series": "run"}),
        ("steps day best", {"kind": "steps", "x": "day", "y": "best", "series": None}),
        ("bars source share", {"kind": "bars", "label": "source", "value": "share"}),
    ],
)
def test_a_header_says_how_the_answer_is_drawn(said: str, picture: dict[str, str | None]) -> None:
    query = parse(f"{HEAD}-- picture: {said}\nSELECT 1", Path("q.sql"))
    assert query.picture == picture
    assert query.to_json()["picture"] == picture


@pytest.mark.parametrize("said", ["pie a b", "bars a", "bars a b c", "lines a b c d", "steps a", "scatter"])
def test_a_picture_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(QueryError, match="write `scatter X Y`"):
        parse(f"{HEAD}-- picture: {said}\nSELECT 1", Path("q.sql"))


def test_what_is_shipped_and_what_is_the_labs_own_are_told_apart(tmp_path: Path) -> None:
    shipped, mine = tmp_path / "shipped", tmp_path / "mine"
    for place, names in ((shipped, "ab"), (mine, "bc")):
        place.mkdir()
        for name in names:
            (place / f"{name}.sql").write_text(f"{HEAD}SELECT '{place.name}' AS source")
    found = load_all([shipped, mine])
    assert {name: each.source for name, each in found.items()} == {"a": "shipped", "b": "lab", "c": "lab"}


def test_a_pipe_or_a_directory_in_the_folder_is_said_to_be_no_question_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sql")
    (tmp_path / "folder.sql").mkdir()
    (tmp_path / "good.sql").write_text(f"{HEAD}SELECT 1")
    found = load_all([tmp_path])
    assert all("it is not a file" in str(found[name].problem) for name in ("pipe", "folder"))
    assert found["good"].problem is None


def test_saving_keeps_the_parameters_and_the_picture_that_the_text_declares(tmp_path: Path) -> None:
    text = (
        f"{HEAD}-- param: least integer = 1 Fewest\n-- picture: bars a n\n-- a remark\nSELECT $least AS a, $rung AS n"
    )
    path = save(tmp_path / "queries", "mine", "  New\ntitle ", "", text)
    assert path.read_text().splitlines() == [
        "-- title: New title",
        "-- description: New title",
        "-- param: least integer = 1 Fewest",
        "-- picture: bars a n",
        "-- a remark",
        "-- param: rung text",
        "SELECT $least AS a, $rung AS n",
    ]
    query = load_all([tmp_path, path.parent])["mine"]
    assert query.bind({"rung": "screen"}) == {"least": 1, "rung": "screen"}
    assert [each.name for each in path.parent.iterdir()] == ["mine.sql"]


def test_saving_over_a_link_replaces_the_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "mine.sql").symlink_to(tmp_path / "precious")
    with pytest.raises(QueryError, match="overwrite"):
        save(tmp_path, "mine", "t", "", "SELECT 1")
    save(tmp_path, "mine", "t", "", "SELECT 1", overwrite=True)
    assert (tmp_path / "precious").read_text() == "precious"


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_whatever_is_typed_becomes_a_question_that_reads_back_or_is_refused(title: str, about: str, text: str) -> None:
    for sql in (text, f"SELECT 1 -- {text}", f"-- {text}\nSELECT 1"):
        try:
            made = document("mine", title, about, sql)
        except QueryError:
            continue
        query = parse(made, Path("mine.sql"))
        assert query.title == " ".join(title.split()) or not title.split()
