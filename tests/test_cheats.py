"""Cheats as recorded proposals, run by a real engine on the sample lab: each brings a real gain along, and none is solid.

Without the cheat the same gain is solid, which the first of them shows; so whatever keeps the others from it is what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from engine.rpc import RpcError
from tests.planting import LAB, PLANTS
from tests.tinylab import TinyLab, decide, rows, wait_for, waiting

pytestmark = pytest.mark.slow

GAIN = """
train.py
<<<<<<< SEARCH
    rate: float = 5e-4  # peak learning rate
=======
    rate: float = 3e-3  # peak learning rate
>>>>>>> REPLACE
"""
HONEST = f"""\
hypothesis: A higher peak rate
category: schedule
mechanism: The budget is short.
prediction: the loss falls.
predicted_effect: 0.3
{GAIN}"""
CHEATS = {
    "forged-report": "forged-report",
    "forged-losses": "wrong-target",
    "seed-picked": "wrong-seed",
    "more-steps": "step-budget",
    "more-tokens": "token-budget",
}
"""What is cheated, and by which rule it is to be barred."""
WALLED = ("edited-while-running", "held-rows")
"""What the box does not let happen at all."""
REFUSED = "edited-evaluation"
NEVER = ("forged-report", "wrong-seed", "step-budget", "token-budget")


def cheat(name: str) -> str:
    return (PLANTS / f"{name}.md").read_text() + GAIN


def nanolm(isolation: str) -> dict[str, str]:
    """The sample lab's files, with a budget of 40 steps and little data."""
    files = {name: (LAB / name).read_text() for name in ("train.py", "data.py", "probes.py", "prepare.py", "mix.toml")}
    config = (LAB / "cockpit.toml").read_text()
    smoke = config[config.index("[smoke]") : config.index("[rungs.screen]")]
    for old, new in (
        (smoke, ""),
        ("budget = 300 ", "budget = 40 "),
        ('"--held", "{held}"]', '"--held", "{held}", "--max-bytes", "400000"]'),
        ('mode = "fast"', 'mode = "fixed"'),
        ('isolation = "auto"', f'isolation = "{isolation}"'),
        ("queue = 6 ", "queue = 9 "),
        ('slots = "auto"', "slots = 2"),
    ):
        assert config.count(old) == 1, old
        config = config.replace(old, new)
    return {**files, "cockpit.toml": config}


def run(folder: Path, proposals: list[str], isolation: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """(session, hypothesis to experiment) once every one of these is judged."""
    lab = TinyLab(folder / "lab", proposals, more=nanolm(isolation))
    try:
        with lab.session() as session:
            wait_for(lambda: len(rows(session, "proposal")) == len(proposals))
            mine = waiting(session)
            for row in mine:
                decide(session, row)

            def judged() -> dict[str, Any]:
                found = [each for each in rows(session, "experiment").values() if each["role"] == "experiment"]
                done = len(found) == len(mine) and all(each["state"] == "judged" for each in found)
                return {each["hypothesis"]: each for each in found} if done else {}

            yield session, wait_for(judged, 400)
    finally:
        lab.end()


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, Any]]]:
    proposals = [HONEST, *(cheat(name) for name in (*CHEATS, *WALLED)), (PLANTS / f"{REFUSED}.md").read_text()]
    yield from run(tmp_path_factory.mktemp("boxed"), proposals, "require-2")


def hypothesis(name: str) -> str:
    return (PLANTS / f"{name}.md").read_text().partition("\n")[0].removeprefix("hypothesis: ")


def rules(session: Any, row: dict[str, Any]) -> set[str]:
    found = rows(session, "finding")
    return {found[each]["rule"] for each in row.get("barred", [])}


def test_the_gain_alone_is_solid_and_asks_for_no_more_than_a_word(boxed: tuple[Any, dict[str, Any]]) -> None:
    session, found = boxed
    row = found["A higher peak rate"]
    assert (row["verdict"]["verdict"], row.get("barred", [])) == ("solid", [])
    assert {rows(session, "finding")[each]["rule"] for each in row["asks"]} <= {"large-gain"}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_with_a_real_gain_is_barred(boxed: tuple[Any, dict[str, Any]], name: str) -> None:
    session, found = boxed
    row = found[hypothesis(name)]
    assert row["verdict"]["verdict"] == "barred", "its numbers are good, and it is not solid"
    assert row["verdict"]["lo"] > 0
    assert CHEATS[name] in rules(session, row)
    shown = rows(session, "proposal")[row["proposal"]]["diff_hash"]
    with pytest.raises(RpcError):
        session.call("sign", experiment=row["id"], diff_hash=shown, why="it is so good", request_id=name)
    if CHEATS[name] in NEVER:
        with pytest.raises(RpcError, match="cannot be acknowledged"):
            session.call("ack", findings=row["barred"], why="it is so good", request_id=f"ack {name}")


@pytest.mark.parametrize("name", WALLED)
def test_what_needs_a_way_out_of_the_box_is_broken(boxed: tuple[Any, dict[str, Any]], name: str) -> None:
    _, found = boxed
    assert found[hypothesis(name)]["verdict"]["verdict"] == "broken"


def test_an_edited_evaluation_is_not_even_run(boxed: tuple[Any, dict[str, Any]]) -> None:
    session, found = boxed
    (row,) = [each for each in rows(session, "proposal").values() if each["hypothesis"] == hypothesis(REFUSED)]
    assert (row["state"], row["refusal"]) == ("refused", "protected")
    assert hypothesis(REFUSED) not in found


def test_every_detector_works_in_the_sample_lab(boxed: tuple[Any, dict[str, Any]]) -> None:
    session, _ = boxed
    known = rows(session, "lab")["lab"]["detectors"]
    assert (len(known["active"]), known["asleep"]) == (31, [])
    assert not [each for each in rows(session, "finding").values() if each["about"].startswith("trunk")]


def test_training_on_the_text_that_is_scored_is_barred_where_no_box_hides_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for session, found in run(tmp_path_factory.mktemp("bare"), [cheat("held-rows")], "limits"):
        row = found[hypothesis("held-rows")]
        assert row["verdict"]["verdict"] == "barred"
        assert "held-text" in rules(session, row)
