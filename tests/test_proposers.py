"""Recorded proposals: in order, once each, going on where a restart left off; nothing odd in the directory stops them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.proposers.base import ProposerError, Reply, make
from tests.desks import FakeDesk, hear


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "proposals").mkdir()
    for name in ("02-wide", "01-relu", "03-crash"):
        (tmp_path / "proposals" / f"{name}.md").write_text(f"hypothesis: {name}\n")
    return tmp_path


def test_replies_come_in_the_order_of_file_names_and_say_where_they_are_from(lab: Path) -> None:
    replies = list(make("recording", lab, "proposals").replies(frozenset()))
    assert [reply.source for reply in replies] == [
        "proposals/01-relu.md",
        "proposals/02-wide.md",
        "proposals/03-crash.md",
    ]
    assert replies[0].text == "hypothesis: 01-relu\n"


def test_a_restart_goes_on_where_it_was_even_when_a_file_was_renamed(lab: Path) -> None:
    first = next(make("recording", lab, "proposals").replies(frozenset()))
    (lab / "proposals/01-relu.md").rename(lab / "proposals/99-relu.md")
    rest = list(make("recording", lab, "proposals").replies(frozenset({first.digest})))
    assert [reply.source for reply in rest] == ["proposals/02-wide.md", "proposals/03-crash.md"]


def test_files_are_read_at_the_moment_of_asking(lab: Path) -> None:
    replies = make("recording", lab, "proposals").replies(frozenset())
    next(replies)
    (lab / "proposals/02-wide.md").write_text("hypothesis: edited\n")
    (lab / "proposals/04-late.md").write_text("hypothesis: late\n")
    assert [reply.text for reply in replies] == ["hypothesis: edited\n", "hypothesis: 03-crash\n", "hypothesis: late\n"]


async def test_asked_as_any_proposer_is_it_goes_on_after_what_was_used(lab: Path) -> None:
    desk = FakeDesk()
    desk.used = frozenset({Reply("hypothesis: 01-relu\n", "").digest})
    heard = await hear(make("recording", lab, "proposals"), desk)
    assert heard.replies == ["hypothesis: 02-wide\n", "hypothesis: 03-crash\n"]
    assert heard.failed is None


def test_the_same_text_in_two_files_is_proposed_once(lab: Path) -> None:
    (lab / "proposals/04-again.md").write_text("hypothesis: 01-relu\n")
    assert len(list(make("recording", lab, "proposals").replies(frozenset()))) == 3


def test_links_pipes_directories_binary_and_oversized_files_are_passed_over_and_named(lab: Path) -> None:
    secret = lab / "secret"
    secret.write_text("key")
    (lab / "proposals/a-link.md").symlink_to(secret)
    os.mkfifo(lab / "proposals/b-pipe.md")
    (lab / "proposals/c-directory.md").mkdir()
    (lab / "proposals/d-binary.md").write_bytes(b"\xff\xfe\x00")
    (lab / "proposals/e-large.md").write_bytes(b"x" * (256 * 1024 + 1))
    (lab / "proposals/notes.txt").write_text("not a reply")
    recording = make("recording", lab, "proposals")
    assert len(list(recording.replies(frozenset()))) == 3
    problems = recording.problems  # type: ignore[attr-defined]
    assert [problem.split(".md")[0] for problem in problems] == [
        "'a-link",
        "'b-pipe",
        "'c-directory",
        "'d-binary",
        "'e-large",
    ]


def test_a_directory_that_is_not_there_says_what_to_set(lab: Path) -> None:
    with pytest.raises(ProposerError, match=r"proposer\.path"):
        list(make("recording", lab, "nowhere").replies(frozenset()))
    with pytest.raises(ProposerError, match=r"proposer\.path"):
        make("recording", lab, None)


async def test_kinds(lab: Path) -> None:
    assert (await hear(make("none", lab, None), FakeDesk())).said == []
    assert [make(kind, lab, "proposals").unasked for kind in ("recording", "sweep", "claude")] == [True, True, False]
    with pytest.raises(ProposerError, match="claude, none, recording, sweep"):
        make("oracle", lab, None)


def test_a_digest_is_of_the_text_alone() -> None:
    assert Reply("x", "a").digest == Reply("x", "b").digest != Reply("y", "a").digest
