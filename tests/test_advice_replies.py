"""What a model answers is text by a stranger: a claim without evidence is dropped, and no answer breaks the reading of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.proposers.brief import MAX_CLAIMS, Claim, parse_brief
from engine.proposers.second import KINDS, MAX_FLAGS, Reading, parse_reading

KNOWN = ("0001", "0002")
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=60)


def brief(*lines: str) -> str:
    return "thinking aloud\n<brief>\n" + "\n".join(lines) + "\n</brief>\nthat is all"


def test_a_claim_keeps_its_section_its_words_and_what_it_cites() -> None:
    parsed = parse_brief(
        brief("Held: [#0001, 0002] Both grow", "  with the rate.", "- worry: [0001 f00003] One seed alone."),
        KNOWN,
        ("f00003",),
    )
    assert parsed is not None
    assert parsed.claims == (
        Claim("held", "Both grow with the rate.", ("0001", "0002")),
        Claim("worry", "One seed alone.", ("0001",), ("f00003",)),
    )
    assert parsed.dropped == ()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("held: Everything is better", "it cites no experiment"),
        ("held: [] Everything is better", "it cites no experiment"),
        ("held: [0001 0003] Both", "it cites 0003, which does not exist"),
        ("worry: [f00003] Look here", "it cites no experiment"),
        ("held: [0001]", "it says nothing"),
        ("verdict: [0001] solid", "it stands in no section"),
    ],
)
def test_a_claim_that_rests_on_nothing_is_dropped_and_told(line: str, why: str) -> None:
    parsed = parse_brief(brief(line), KNOWN, ("f00003",))
    assert parsed is not None
    assert parsed.claims == ()
    assert parsed.dropped == ((line, why),)


def test_an_answer_without_a_brief_is_none() -> None:
    for text in ("", "held: [0001] yes", "<brief>\nheld: [0001] cut", "<brief>\n\n</brief>"):
        assert parse_brief(text, KNOWN) is None


def test_more_claims_than_can_be_read_are_counted() -> None:
    parsed = parse_brief(brief(*["held: [0001] again"] * (MAX_CLAIMS + 3)), KNOWN)
    assert parsed is not None
    assert (len(parsed.claims), len(parsed.dropped)) == (MAX_CLAIMS, 3)


@given(st.lists(st.tuples(st.sampled_from(["held", "next", "no", ""]), WORDS, WORDS), max_size=8))
@settings(max_examples=300, deadline=None)
def test_whatever_is_written_only_what_exists_is_ever_cited(lines: list[tuple[str, str, str]]) -> None:
    parsed = parse_brief(brief(*(f"{name}: [{cites}] {text}" for name, cites, text in lines)), KNOWN)
    for claim in parsed.claims if parsed else ():
        assert claim.experiments
        assert set(claim.experiments) <= set(KNOWN)
        assert "\x1b" not in claim.text
        assert "\n" not in claim.text


def reading(*lines: str) -> str:
    return "<reading>\n" + "\n".join(lines) + "\n</reading>"


def test_a_reading_has_flags_and_two_probabilities() -> None:
    read = parse_reading(
        reading("flag: leak | data.py | the held file is read", "flag: it smells", "approve: 70%", "solid: .2")
    )
    assert read == Reading((("leak", "data.py", "the held file is read"), ("other", "", "it smells")), 0.7, 0.2)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (("approve: 0.5",), "no solid"),
        (("flag: bug | a.py | x",), "no approve and no solid"),
        (("approve: 1.5", "solid: 0.1"), "no probability"),
        (("approve: nan", "solid: 0.1"), "no probability"),
        (("approve: -0.5", "solid: 0.1"), "no probability"),
        (("approve: probably", "solid: 0.1"), "no probability"),
    ],
)
def test_a_reading_without_its_numbers_is_none(lines: tuple[str, ...], why: str) -> None:
    assert why in str(parse_reading(reading(*lines)))


@given(st.lists(st.one_of(WORDS, WORDS.map(lambda text: f"flag: bug | {text}")), max_size=20))
@settings(max_examples=300, deadline=None)
def test_no_answer_breaks_the_reading_of_it(lines: list[str]) -> None:
    read = parse_reading(reading(*lines, "approve: 0.5", "solid: 0.5"))
    if isinstance(read, Reading):
        assert len(read.flags) <= MAX_FLAGS
        assert all(
            kind in KINDS and "\n" not in path + said and "\x1b" not in path + said for kind, path, said in read.flags
        )
        assert 0 <= read.p_approve <= 1
