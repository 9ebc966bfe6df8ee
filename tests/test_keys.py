"""The key table is safe: what a torn escape sequence leaves behind never decides anything, and no key means two things."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cockpit import keys
from cockpit.screens.base import CockpitScreen
from cockpit.screens.review import ReviewScreen
from cockpit.screens.runs import RunsScreen
from cockpit.screens.sql import SqlScreen


def test_the_table_breaks_no_rule() -> None:
    assert keys.lint() == []


def test_the_lint_catches_what_it_is_for() -> None:
    approve = next(key for key in keys.TABLE if key.action == "approve")
    for bad in (
        dataclasses.replace(approve, keys=("A",)),
        dataclasses.replace(approve, keys=("y",)),
        dataclasses.replace(approve, keys=("left_square_bracket",)),
        dataclasses.replace(approve, confirm=False),
    ):
        assert keys.lint([bad])
    assert keys.lint([approve, dataclasses.replace(approve, action="decline")])


def test_every_final_byte_of_an_arrow_or_a_report_is_unsafe() -> None:
    assert set("ABCDHFPQRSZIOMmy") <= keys.UNSAFE


def test_every_row_of_the_table_can_be_done_where_it_says() -> None:
    screens: dict[str, tuple[type[CockpitScreen], ...]] = {
        "all": (RunsScreen, ReviewScreen, SqlScreen),
        "runs": (RunsScreen,),
        "review": (ReviewScreen,),
        "sql": (SqlScreen,),
        "editor": (SqlScreen,),
    }
    for row in keys.TABLE:
        for screen in screens[row.scope]:
            assert callable(getattr(screen, f"do_{row.action}", None)), f"{screen.__name__} cannot {row.action}"


def test_the_documentation_names_every_key() -> None:
    text = keys.as_markdown()
    for row in keys.TABLE:
        assert row.does in text
        for key in row.keys:
            assert f"`{keys.shown(key)}`" in text


def test_the_page_of_keys_is_the_table() -> None:
    page = Path(__file__).parent.parent / "docs" / "keys.md"
    assert page.read_text() == keys.page(), "run: python -m cockpit.keys > docs/keys.md"
