"""Further evaluations that a lab declares: shown beside the verdict with noise of their own, and a veto on fresh seeds."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.listing import experiments
from engine.further import at_step, split, steps
from engine.judge.further import change
from engine.lab import LabError, parse
from engine.shards.sandbox import probe
from engine.types import HALF, ShardRow
from tests.test_app import sitting
from tests.test_campaign import TEXT
from tests.test_confirming import FRESH, solid
from tests.test_crash import assert_whole
from tests.test_evidence_screen import judged_by_evidence
from tests.tinylab import TRAIN, TinyLab, proposal, rows, wait_for

Make = Callable[..., TinyLab]
TRAINED = TRAIN.replace("WIDTH = 8\n", "WIDTH = 8\nRECALL = 0.5\n").replace(
    '{"bottom": bottom}', '{"bottom": bottom, "recall": RECALL + 0.01 * noise("recall", seed)}'
)
RECALL = """\
import json, sys
with open(sys.argv[1] + "/model.json") as file:
    value = json.load(file)["recall"]
with open(sys.argv[2], "w") as file:
    json.dump({"metric": value}, file)
"""
DECLARED = '\n[evaluate.recall]\ncommand = ["{python}", "recall.py", "{run_dir}", "{scores}"]\ntimeout = "1m"\n'
FILES = {"train.py": TRAINED, "recall.py": RECALL}
SCORED = TEXT.replace("CLIMB", '["screen"]') + '\n[score]\ncommand = ["{python}", "score.py", "{scores}"]\n'
SAVES = '        json.dump({"bottom": bottom, "recall": RECALL + 0.01 * noise("recall", seed)}, file)'
HARMS = proposal("A higher rate", "RATE = 1.0\nWIDTH = 8\nRECALL = 0.5", "RATE = 3.0\nWIDTH = 8\nRECALL = 0.3")
HELPS = proposal("A higher rate", "RATE = 1.0\nWIDTH = 8\nRECALL = 0.5", "RATE = 3.0\nWIDTH = 8\nRECALL = 0.51")


# --- the numbers -------------------------------------------------------------------------------------------------------


def test_what_got_worse_for_certain_is_told_from_what_moves_by_the_seed() -> None:
    trunk = {seed: 0.5 + 0.01 * (seed % 3) for seed in range(8)}
    worse = change("recall", "max", trunk, {seed: value - 0.2 for seed, value in trunk.items()}, trunk)
    same = change("recall", "max", trunk, {seed: trunk[(seed + 1) % 8] for seed in trunk}, trunk)
    assert worse is not None
    assert same is not None
    assert (worse.worse, same.worse) == (True, False)
    assert worse.effect == pytest.approx(-0.2)
    assert change("recall", "min", trunk, {0: 0.4}, trunk).effect == pytest.approx(0.1)  # type: ignore[union-attr]


@given(
    st.dictionaries(st.integers(0, 9), st.floats(-5, 5), min_size=1),
    st.dictionaries(st.integers(0, 9), st.floats(-5, 5)),
    st.dictionaries(st.integers(0, 9), st.floats(-5, 5)),
)
def test_an_interval_holds_its_effect_and_the_direction_only_turns_it_round(
    trunk: dict[int, float], mine: dict[int, float], calibration: dict[int, float]
) -> None:
    up, down = (change("x", each, trunk, mine, calibration) for each in ("max", "min"))
    if up is None or down is None:
        assert not trunk.keys() & mine.keys()
        return
    assert up.effect == -down.effect
    assert up.n == len(trunk.keys() & mine.keys())
    if up.lo is not None and up.hi is not None and down.lo is not None and down.hi is not None:
        assert up.lo <= up.effect <= up.hi
        assert (up.lo, up.hi) == (-down.hi, -down.lo)
        assert not (up.worse and down.worse)


# --- the lab file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "fix"),
    [
        (DECLARED.replace("recall]", "Recall]"), "evaluate.Recall", "[evaluate.copying]"),
        (DECLARED.replace("command", "comand"), "evaluate.recall.comand", 'did you mean "command"?'),
        (DECLARED + 'direction = "up"\n', "evaluate.recall.direction", 'direction = "m'),
        (DECLARED.replace("{scores}", "{score}"), "evaluate.recall.command", "{scores}"),
    ],
)
def test_a_wrong_declaration_names_the_key_and_the_fix(text: str, key: str, fix: str) -> None:
    with pytest.raises(LabError) as wrong:
        parse(SCORED + text, Path("/nowhere"))
    assert any(each.key.startswith(key) and fix in each.fix for each in wrong.value.problems), wrong.value.problems


def test_the_scripts_of_evaluations_are_protected_and_their_steps_follow_the_score(tmp_path: Path) -> None:
    lab = parse(SCORED + DECLARED, tmp_path)
    assert lab.is_protected("recall.py")
    assert split("0001.r2.screen.s0.a1.evaluate-recall") == ("0001.r2.screen.s0.a1", "evaluate-recall")
    assert split("0001.r2.screen.s0.a1") == ("0001.r2.screen.s0.a1", "")
    row = cast(ShardRow, {"id": "0001.screen.s0.a1", "rung": "screen"})
    assert steps(lab, row) == ["score", "evaluate-recall"]
    for alone in ({"rung": HALF}, {"canary": True}, {"retune": "t1"}):
        assert steps(lab, cast(ShardRow, {**row, **alone})) == ["score"], "its score alone is wanted"
    assert at_step(lab, lab.state, row) == "score"
    place = lab.state.runs / row["id"]
    place.mkdir(parents=True)
    (place / "score-exit.json").touch()
    assert at_step(lab, lab.state, row) == "evaluate-recall"


# --- in a real engine --------------------------------------------------------------------------------------------------


def test_an_evaluation_that_a_gain_harms_shows_at_screen_and_vetoes_the_signature(tiny: Make) -> None:
    lab = tiny(HARMS, more=FILES, extra=DECLARED + FRESH)
    diff = solid(lab)
    with lab.session() as session:
        found = experiments(session.rows()[0])["experiments"][0]
        (recall,) = found["further"]
        assert (recall["name"], recall["n"]) == ("recall", 3)
        assert recall["effect"] == pytest.approx(-0.2)
        assert recall["hi"] < 0
        assert found["verdict"] == "solid", "one metric carries the test"
        sql = "SELECT further['recall'] FROM shards WHERE experiment = '0001' AND metric IS NOT NULL ORDER BY seed"
        answers = wait_for(lambda: session.call("sql", text=sql)["rows"])
        assert [each[0] for each in answers] == [pytest.approx(0.3, abs=0.01)] * 3
        session.call("sign", experiment="0001", diff_hash=diff, request_id="s1")
        wait_for(lambda: rows(session, "experiment")["0001"]["state"] == "vetoed")
        assert "recall got worse by 0.2 [" in rows(session, "experiment")["0001"]["signoff"]["sentence"]
    assert_whole(lab)


def test_one_that_the_gain_leaves_alone_lets_it_through(tiny: Make) -> None:
    lab = tiny(HELPS, more=FILES, extra=DECLARED + FRESH)
    diff = solid(lab)
    with lab.session() as session:
        session.call("sign", experiment="0001", diff_hash=diff, request_id="s1")
        wait_for(lambda: rows(session, "experiment")["0001"]["state"] == "merged")


def test_a_run_whose_evaluation_fails_keeps_its_score_and_a_finding_says_why(tiny: Make) -> None:
    """The scripts are the trunk's; what fails here is what the change left in its checkpoint."""
    breaks = proposal("It forgets to recall", SAVES, SAVES.replace('"recall": RECALL', '"recal": RECALL'))
    lab = tiny(breaks, more=FILES, extra=DECLARED, off=("large-gain", "no-op"))
    solid(lab)
    with lab.session() as session:
        mine = [row for row in rows(session, "shard").values() if row["experiment"] == "0001"]
        assert {(row["outcome"], "further" in row) for row in mine} == {("finished", False)}
        assert all(row["metric"] is not None for row in mine)
        said = [row for row in rows(session, "finding").values() if row["rule"] == "not measured"]
        assert {row["about"] for row in said} == {row["id"] for row in mine}
        assert all("recall was not measured: it failed: KeyError: 'recall'" in row["sentence"] for row in said)


@pytest.mark.skipif(probe().level < 2, reason="no box on this machine keeps an evaluation from writing where it likes")
def test_what_runs_in_an_evaluation_reaches_neither_the_score_nor_what_others_say(tiny: Make) -> None:
    """Evaluations load the model's code, which is the candidate's own."""
    forges = """
import json, os, sys
reached = []
for name in ("score.json", "score-exit.json", "evaluate-second.json"):
    for place in (sys.argv[1], sys.argv[1] + "/../../further/" + os.path.basename(sys.argv[1]) + ".evaluate-second"):
        try:
            json.dump({"metric": 0.001, "how": "exited", "code": 0}, open(os.path.join(place, name), "w"))
            reached.append(name)
        except OSError:
            pass
with open(sys.argv[2], "w") as file:
    json.dump({"metric": len(reached)}, file)
"""
    more = DECLARED.replace("recall]", "second]")
    lab = tiny(HELPS, more={**FILES, "forge.py": forges}, extra=DECLARED.replace("recall.py", "forge.py") + more)
    solid(lab)
    with lab.session() as session:
        mine = [row for row in rows(session, "shard").values() if row["experiment"] == "0001"]
        assert [row["further"] for row in mine] == [{"recall": 0.0, "second": pytest.approx(0.51, abs=0.01)}] * 3
        assert all(row["metric"] > 1 for row in mine)


def test_an_engine_killed_between_the_score_and_an_evaluation_goes_on_from_there(tiny: Make) -> None:
    lab = tiny(HELPS, more=FILES, extra=DECLARED)
    engine = lab.start(COCKPIT_CRASH_AT="score.effect:2")
    wait_for(lambda: engine.poll() is not None)
    assert engine.returncode == -signal.SIGKILL
    lab.start()
    with lab.session() as session:

        def measured() -> bool:
            mine = [row for row in rows(session, "shard").values() if row["experiment"] == "trunk-1"]
            return len(mine) == 3 and all("further" in row for row in mine)

        wait_for(measured)
        ledger = (lab.state.ledger).read_text().splitlines()
        scored = [json.loads(line)["data"]["shard"] for line in ledger if '"shard.scored"' in line]
        assert len(scored) == len(set(scored))
    assert_whole(lab)


# --- on the screen -----------------------------------------------------------------------------------------------------


async def test_the_evidence_page_has_them_with_their_intervals() -> None:
    engine = judged_by_evidence()
    for row in [each for each in engine.rows.values() if each["kind"] == "shard"]:
        if row["experiment"] in ("trunk-1", "0020"):
            harm = 0.2 if row["experiment"] == "0020" else 0.0
            engine.put({**row, "further": {"recall": 0.5 + 0.01 * (row["seed"] % 2) - harm}})
    lab = next(each for each in engine.rows.values() if each["kind"] == "lab")
    engine.put({**lab, "evaluations": {"recall": "max"}})
    async with sitting(engine, (160, 60)) as desk:
        await desk.until(lambda: "0020" in desk.text)
        await desk.press("j")
        await desk.until(lambda: "further: recall −.2000 [" in desk.text)
        await desk.press("enter")
        await desk.until(lambda: "better by  95 % interval" in desk.text)
        line = next(each for each in desk.text.split("\n") if "recall" in each)
        assert "−.2000  [−." in line
        assert "3 seeds" in line
