"""A researcher asks whether the idea won or its learning rate: both sides run the same rates, and what is left is said."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from cockpit.attach import Session
from engine import events as e
from engine.asking_retune import cost, refuse_unretuned, retune
from engine.campaign import Cancel, Launch, Record, plan, setup_of
from engine.confirming import seeds_for
from engine.core import person
from engine.history.store import Store
from engine.lab import Lab, parse
from engine.racing import facts
from engine.retuning import RULE
from engine.rpc import NOT_NOW, RpcError
from engine.scales import scale_of, unscaled
from engine.setups import setup_for
from engine.types import Category, ExperimentState, Outcome, Retuned
from tests.campaigns import WHO, Campaign
from tests.test_campaign import SOLID, TRUNK, settle
from tests.test_confirming import solid
from tests.test_crash import assert_whole
from tests.test_retune import SCALED
from tests.tinylab import TRAIN, TinyLab, proposal, rows, wait_for

Make = Callable[..., TinyLab]
Loss = Callable[[str, float, int], float | Outcome]

BRACKET = "\n[judge.retune]\nfactors = [0.5, 1.0, 2.0]\nseeds = 2\npairs = 3\n"
LAB = parse(SCALED + BRACKET, Path("/nowhere"))
NOT_SOLID = [2.0, 2.02, 1.99]
NOISE = (0.0, 0.004, -0.003, 0.002, -0.001, 0.003)


def judged(metrics: list[float] = SOLID, of: Lab = LAB, category: str = "optimizer") -> Campaign:
    """A campaign whose experiment 0001 has its verdict."""
    campaign = Campaign(setup_of(of))
    campaign.run("trunk-1", TRUNK)
    campaign.run(campaign.approve(campaign.propose(category=category)), metrics)
    settle(campaign, of)
    return campaign


def core_of(campaign: Campaign, of: Lab = LAB) -> Any:
    """As much of an engine's core as a retuning is asked of."""
    return SimpleNamespace(state=campaign.state, lab=of, record=campaign.write)


def asked(campaign: Campaign, of: Lab = LAB, experiment: str = "0001", request: str = "") -> dict[str, Any]:
    request = request or f"r{campaign.state.head}"
    return retune(core_of(campaign, of), experiment, "is it the rate?", person(("Ada", "a@b")), request, setup_of(of))


def race(campaign: Campaign, loss: Loss, of: Lab = LAB, slots: int = 2, rounds: int = 200) -> list[Launch]:
    """Carry out plans until nothing is left to do, or for so many rounds; a run at some rate ends with `loss(arm, scale,
    seed)`. Returns what was launched."""
    ran: list[Launch] = []
    for _ in range(rounds):
        steps = plan(campaign.state, of, slots)
        if not steps:
            break
        for step in steps:
            if isinstance(step, Record):
                campaign.write(step.event)
            elif isinstance(step, Cancel):
                campaign.end(step.shard, Outcome.ENDED_EARLY)
            elif isinstance(step, Launch):
                begin(campaign, step, of)
                found = loss(step.experiment, scale_of(step.rung) or 1.0, step.seed)
                failed = isinstance(found, Outcome)
                campaign.end(step.shard, found if failed else Outcome.FINISHED, None if failed else found)
                ran.append(step)
    return ran


def begin(campaign: Campaign, step: Launch, of: Lab = LAB) -> str:
    setup = setup_for(setup_of(of), step.rung, of)
    name = campaign.intend(step.experiment, step.seed, step.rung, step.slot, setup=setup, retune=step.retune)
    assert name == step.shard
    campaign.write(e.ShardStarted(name, "pid 7"))
    return name


def rate_alone(arm: str, scale: float, seed: int) -> float:
    """The trunk is as good at twice its rate as the experiment is at its own."""
    best = {"trunk-1": 2.0}.get(arm, 1.0)
    return 1.5 + NOISE[seed % 6] + (0.0005 * (seed % 3) if arm != "trunk-1" else 0) + 0.4 * (scale != best)


def idea(arm: str, scale: float, seed: int) -> float:
    """The experiment is better at every rate."""
    return 1.8 + NOISE[seed % 6] - (0.3 + 0.01 * (seed % 3)) * (arm != "trunk-1") + 0.1 * abs(scale - 1)


def the(campaign: Campaign, name: str = "t0001") -> Any:
    return campaign.state.retunes[name]


# --- what runs ---------------------------------------------------------------------------------------------------------


def test_both_sides_run_every_rate_on_tuning_seeds_and_then_pairs_on_others_at_each_sides_best() -> None:
    campaign = judged()
    before = campaign.state.experiments["0001"]
    assert asked(campaign) == {"state": "retuning", "retune": "t0001", "experiment": "0001"}
    ran = race(campaign, rate_alone)
    bracket = [(arm, f"screen@{factor}") for factor in ("0.5", "1", "2") for arm in ("trunk-1", "0001")]
    assert [(step.experiment, step.rung, step.seed) for step in ran[:12]] == [
        (arm, rung, seed) for seed in (1000, 1001) for arm, rung in bracket
    ]
    assert [(step.experiment, step.rung, step.seed) for step in ran[12:]] == [
        (arm, rung, seed)
        for seed in (1002, 1003, 1004)
        for arm, rung in (("trunk-1", "screen@2"), ("0001", "screen@1"))
    ]
    after = campaign.state.experiments["0001"]
    for name in ("state", "verdict", "pairs", "rung"):
        assert after[name] == before[name], "nothing of it enters the verdict"  # type: ignore[literal-required]
    assert campaign.state.experiments["trunk-1"]["state"] == ExperimentState.JUDGED
    assert sorted(facts(campaign.state, "trunk-1", "screen", setup_of(LAB))) == [0, 1, 2], "nor the baseline"
    assert {(row["scale"], row["rung"]) for row in campaign.state.shards.values() if "retune" in row} == {
        (0.5, "screen@0.5"), (1.0, "screen@1"), (2.0, "screen@2"),
    }  # fmt: skip
    assert plan(campaign.state, LAB, 8) == []


def test_what_a_signature_runs_comes_first_and_its_seeds_are_others() -> None:
    campaign = judged()
    asked(campaign)
    assert not set(seeds_for(campaign.state, LAB, "0001")) & {*the(campaign)["tuning"], *the(campaign)["seeds"]}
    campaign.write(e.Paused(WHO, "lunch"))
    assert plan(campaign.state, LAB, 8) == []


def test_a_second_experiment_finds_the_trunks_bracket_run_and_gets_other_seeds_for_its_pairs() -> None:
    campaign = judged()
    asked(campaign)
    race(campaign, rate_alone)
    campaign.run(campaign.approve(), SOLID)
    settle(campaign, LAB)
    told = cost(campaign.state, LAB, campaign.state.experiments["0002"], setup_of(LAB))
    assert (told["shards"], told["cached"]) == (18, 6)
    asked(campaign, experiment="0002")
    ran = race(campaign, idea)
    tuning = [step for step in ran if step.seed in the(campaign, "t0002")["tuning"]]
    assert {step.experiment for step in tuning} == {"0002"}
    pairs = [{step.seed for step in ran if step not in tuning}, set(the(campaign)["seeds"][:3])]
    assert not pairs[0] & pairs[1]
    assert len(ran) == told["shards"] - told["cached"]


def test_two_at_once_run_the_trunks_bracket_once() -> None:
    campaign = judged()
    campaign.run(campaign.approve(), SOLID)
    settle(campaign, LAB)
    asked(campaign)
    asked(campaign, experiment="0002")
    ran = race(campaign, idea, slots=20)
    trunk = [step.shard for step in ran if step.experiment == "trunk-1" and step.seed in the(campaign)["tuning"]]
    assert len(trunk) == 6
    assert {row["label"] for row in campaign.state.retunes.values()} == {Retuned.HOLDS}


# --- what it says ------------------------------------------------------------------------------------------------------


def test_a_gain_that_the_retuned_trunk_matches_is_explained_and_asks_for_a_word_before_sign_off() -> None:
    campaign = judged()
    asked(campaign)
    race(campaign, rate_alone)
    row, experiment = the(campaign), campaign.state.experiments["0001"]
    assert (row["state"], row["label"], row["trunk_best"], row["best"], row["n"]) == (
        "ended", "explained by learning rate", 2.0, 1.0, 3,
    )  # fmt: skip
    assert row["lo"] < 0 < 0.02 > row["hi"]
    assert (
        "the trunk is best at 2x, at the edge of the bracket: widen it; the experiment is best at 1x" in row["sentence"]
    )
    assert experiment["retuned"] == "explained by learning rate"
    assert experiment["verdict"]["verdict"] == "solid", "the numbers of the verdict stand"
    (finding,) = campaign.state.findings.values()
    assert (finding["rule"], finding["about"], finding["severity"]) == (RULE, "0001", "asks")
    assert experiment["asks"] == [finding["id"]]
    assert finding["sentence"] == row["sentence"]


def test_a_gain_that_is_there_at_each_sides_best_holds_and_nothing_stands_against_it() -> None:
    campaign = judged()
    asked(campaign)
    race(campaign, idea)
    assert the(campaign)["label"] == Retuned.HOLDS
    assert the(campaign)["mean"] == pytest.approx(0.31, abs=0.001)
    assert campaign.state.experiments["0001"]["retuned"] == "holds at each side's best rate"
    assert campaign.state.findings == {}


def test_what_beats_a_trunk_whose_best_rate_may_lie_beyond_the_bracket_is_open() -> None:
    of = parse(SCALED + BRACKET + "before_sign = true\n", Path("/nowhere"))
    campaign = judged(of=of)
    asked(campaign, of)
    race(campaign, lambda arm, scale, seed: idea(arm, 1.0, seed) + 0.2 * (2.0 - scale), of)
    assert (the(campaign)["label"], the(campaign)["trunk_best"]) == (Retuned.OPEN, 2.0)
    assert the(campaign)["lo"] > 0
    assert campaign.state.findings == {}
    with pytest.raises(RpcError, match="comes first, with other factors than before"):
        refuse_unretuned(campaign.state, of, campaign.state.experiments["0001"])


def test_what_lost_by_its_rate_alone_was_held_back_and_what_did_not_is_no_better() -> None:
    for loss, label in ((idea, Retuned.HELD_BACK), (rate_alone, Retuned.NO_BETTER)):
        campaign = judged(NOT_SOLID)
        assert campaign.state.experiments["0001"]["verdict"]["verdict"] == "not-solid"
        asked(campaign)
        race(campaign, loss)
        assert the(campaign)["label"] == label
        assert campaign.state.findings == {}, "nothing is asked of what is not signed"


def test_a_rate_that_diverges_loses_costs_one_shard_and_is_no_fault_of_the_experiments() -> None:
    def diverges(arm: str, scale: float, seed: int) -> float | Outcome:
        return Outcome.DIVERGED if scale == 2.0 and arm == "0001" else idea(arm, scale, seed)

    campaign = judged()
    asked(campaign)
    ran = race(campaign, diverges)
    assert [step.seed for step in ran if (step.experiment, step.rung) == ("0001", "screen@2")] == [1000]
    tried = {(each["side"], each["factor"]): each["mean"] for each in the(campaign)["tried"]}
    assert tried["experiment", 2.0] is None
    assert tried["trunk", 2.0] is not None
    row = campaign.state.experiments["0001"]
    assert (the(campaign)["label"], row["verdict"]["verdict"]) == (Retuned.HOLDS, "solid")
    assert not row.get("barred")


def test_an_experiment_that_fails_on_a_pair_at_its_best_rate_says_nothing_of_the_rate() -> None:
    def unstable(arm: str, scale: float, seed: int) -> float | Outcome:
        return Outcome.NONFINITE if arm == "0001" and seed == 1003 else idea(arm, scale, seed)

    campaign = judged()
    asked(campaign)
    race(campaign, unstable)
    assert the(campaign)["label"] == Retuned.FAILED
    assert "nonfinite on seed 1003 at 1x, where the trunk is not" in the(campaign)["sentence"]


def test_a_trunk_that_takes_no_scale_explains_nothing() -> None:
    campaign = judged()
    asked(campaign)
    ran = race(campaign, lambda arm, scale, seed: 2.0 + NOISE[seed % 6] - 0.5 * (arm != "trunk-1"))
    assert the(campaign)["label"] == Retuned.FAILED
    assert "the scale changes nothing in the trunk" in the(campaign)["sentence"]
    assert len(ran) == 12, "no pair is run for that"


def test_a_seed_on_which_the_trunk_fails_is_replaced() -> None:
    def stumbles(arm: str, scale: float, seed: int) -> float | Outcome:
        return Outcome.CRASHED if arm == "trunk-1" and seed == 1002 else idea(arm, scale, seed)

    campaign = judged()
    asked(campaign)
    race(campaign, stumbles)
    assert [each["seed"] for each in the(campaign)["pairs"]] == [1003, 1004, 1005]
    assert the(campaign)["label"] == Retuned.HOLDS


# --- what goes wrong on the way ----------------------------------------------------------------------------------------


def test_bad_luck_runs_a_seed_again_but_not_for_ever_and_asking_again_takes_the_same_seeds() -> None:
    campaign = judged()
    asked(campaign)
    race(campaign, lambda arm, scale, seed: Outcome.LOST if seed == 1003 else idea(arm, scale, seed))
    assert (the(campaign)["state"], the(campaign)["label"]) == ("withdrawn", "")
    assert "was lost and is not run again: ask again" in the(campaign)["sentence"]
    assert "retuned" not in campaign.state.experiments["0001"]
    seeds, tuning = the(campaign)["seeds"], the(campaign)["tuning"]
    asked(campaign)
    assert (the(campaign, "t0002")["seeds"], the(campaign, "t0002")["tuning"]) == (seeds, tuning)
    ran = race(campaign, idea)
    assert the(campaign, "t0002")["label"] == Retuned.HOLDS
    assert {step.seed for step in ran} <= {1003, 1004}, "what has run is not run again"


def test_a_trunk_that_moves_or_other_settings_end_it_and_what_runs_is_stopped() -> None:
    campaign = judged()
    asked(campaign)
    (first, *_) = [step for step in plan(campaign.state, LAB, 2) if isinstance(step, Launch)]
    running = begin(campaign, first)
    campaign.trunk_moves()
    settle(campaign, LAB)
    assert "the trunk moved while it ran against trunk-1" in the(campaign)["sentence"]
    assert Cancel(running) in plan(campaign.state, LAB, 4)
    campaign = judged()
    asked(campaign)
    other = parse((SCALED + BRACKET).replace("budget = 5\n", "budget = 6\n"), Path("/nowhere"))
    assert [step for step in plan(campaign.state, other, 4, launching=False) if isinstance(step, Record)] == []
    settle(campaign, other)
    assert "has changed since it was asked for" in the(campaign)["sentence"]


def test_a_person_stops_it_and_the_experiment_stands_as_before() -> None:
    campaign = judged()
    asked(campaign)
    steps = [step for step in plan(campaign.state, LAB, 2) if isinstance(step, Launch)]
    mine, theirs = (begin(campaign, step) for step in steps)
    campaign.stop("0001", theirs)
    campaign.end(theirs, Outcome.KILLED)
    assert the(campaign)["sentence"] == f"{WHO['name']} stopped it: enough"
    assert campaign.state.experiments["0001"]["state"] == ExperimentState.JUDGED
    assert plan(campaign.state, LAB, 4) == [Cancel(mine)]
    campaign.end(mine, Outcome.ENDED_EARLY)
    asked(campaign)
    race(campaign, idea)
    assert the(campaign, "t0002")["label"] == Retuned.HOLDS, "what was ended since nobody wanted it runs again"


def test_a_machine_that_has_changed_runs_both_sides_again() -> None:
    campaign = judged()
    asked(campaign)
    race(campaign, idea, rounds=4)
    canary = campaign.start("trunk-1", 0, canary=True)
    campaign.end(canary, Outcome.FINISHED, 3.0)
    before = [row["id"] for row in campaign.state.shards.values() if "retune" in row]
    campaign.write(e.FindingNoted("f00001", canary, "canary", "warning", "the machine has changed"))
    assert before
    assert set(before) <= campaign.state.set_aside
    again = {(step.experiment, step.rung, step.seed) for step in race(campaign, idea)}
    assert {
        (row["experiment"], row["rung"], row["seed"]) for name, row in campaign.state.shards.items() if name in before
    } <= again
    assert the(campaign)["label"] == Retuned.HOLDS


# --- who may, and what it holds up -------------------------------------------------------------------------------------


def refused(campaign: Campaign, of: Lab = LAB) -> str:
    with pytest.raises(RpcError) as error:
        asked(campaign, of)
    assert error.value.code == NOT_NOW
    return error.value.message


def test_it_is_refused_where_it_can_say_nothing_and_the_reason_says_what_to_do() -> None:
    bare = parse(SCALED, Path("/nowhere"))
    assert "hand {rate_scale} to the training code" in refused(judged(of=bare), bare)
    campaign = judged()
    asked(campaign)
    assert "is being retuned already, as t0001" in refused(campaign)
    race(campaign, idea)
    assert "was retuned in this bracket, as t0001" in refused(campaign)
    wider = parse(SCALED + BRACKET.replace("2.0]", "2.0, 4.0]"), Path("/nowhere"))
    asked(campaign, wider)
    ran = race(campaign, idea, wider)
    assert {step.rung for step in ran if step.seed in the(campaign)["tuning"]} == {"screen@4"}, "the rest has run"
    campaign = judged()
    campaign.trunk_moves()
    assert "was measured against trunk-1" in refused(campaign)
    campaign = judged()
    campaign.sign("0001")
    assert "0001 is signed" in refused(campaign)
    campaign = Campaign(setup_of(LAB))
    campaign.approve()
    assert "there is no verdict yet" in refused(campaign)


def test_the_same_request_twice_is_asked_for_once() -> None:
    campaign = judged()
    assert asked(campaign, request="r1") == asked(campaign, request="r1")
    assert len(campaign.state.retunes) == 1
    decisions = [row for row in campaign.state.rows.values() if row["kind"] == "decision" and row["action"] == "retune"]
    assert [(row["target"], row["why"]) for row in decisions] == [("0001", "is it the rate?")]


def test_a_lab_may_want_it_before_a_signature_of_what_a_rate_could_explain() -> None:
    of = parse(SCALED + BRACKET + "before_sign = true\n", Path("/nowhere"))
    campaign = judged(of=of)

    def row() -> Any:
        return campaign.state.experiments["0001"]

    with pytest.raises(RpcError, match="`cockpit retune 0001` comes first"):
        refuse_unretuned(campaign.state, of, row())
    refuse_unretuned(campaign.state, LAB, row())
    asked(campaign, of)
    with pytest.raises(RpcError, match="is being retuned: wait"):
        refuse_unretuned(campaign.state, of, row())
    race(campaign, idea, of)
    refuse_unretuned(campaign.state, of, row())
    campaign = judged(of=of, category=Category.DATA_MIX)
    refuse_unretuned(campaign.state, of, row())


def test_what_it_costs_is_said_before() -> None:
    campaign = judged()
    told = cost(campaign.state, LAB, campaign.state.experiments["0001"], setup_of(LAB))
    assert (told["shards"], told["cached"], told["tuning"]) == (18, 0, [1000, 1001])
    assert told["sentence"].startswith(
        "runs both sides at 0.5x 1x 2x of their learning rate on 2 tuning seeds, then 3 pairs on other seeds at each side's "
        "best: 18 shards at most, "
    )
    assert told["seconds"] == 18.0, "a second from the start of a run to its end"


def test_sql_reaches_it_and_no_view_of_results_does(tmp_path: Path) -> None:
    campaign = judged()
    asked(campaign)
    race(campaign, rate_alone)
    store = Store.open(tmp_path / "history.duckdb")
    events = [
        {"n": n, "t": t, **dict(zip(("type", "data"), e.dump(event), strict=True))} for n, t, event in campaign.events
    ]
    store.index(list(campaign.state.rows.values()), json.loads(json.dumps(events)), campaign.state.head)
    assert all(each["rung"] == "screen" for each in store.rank()[0]["shards"])
    store.close()
    with duckdb.connect(str(tmp_path / "history.duckdb"), read_only=True) as con:
        asked_of = "SELECT retuned FROM experiments WHERE id = '0001'"
        assert con.execute(asked_of).fetchone() == ("explained by learning rate",)
        columns = "experiment, label, trunk_best, best, n, len(pairs), len(tried), who"
        assert con.execute(f"SELECT {columns} FROM retunes").fetchone() == (
            "0001", "explained by learning rate", 2.0, 1.0, 3, 3, 6, WHO_ASKED,
        )  # fmt: skip
        assert con.execute("SELECT count(*), count(DISTINCT scale) FROM shards WHERE retune = 't0001'").fetchone() == (
            18,
            3,
        )
        assert con.execute("SELECT DISTINCT rung FROM finals").fetchall() == [("screen",)]


WHO_ASKED = person(("Ada", "a@b")).name


# --- with a real engine ------------------------------------------------------------------------------------------------

TUNABLE = (
    TRAIN.replace(
        'bottom = 3.0 - 0.1 * math.log(RATE) + SEED_NOISE * noise("seed", seed) + 0.001 * noise(seed, RATE, WIDTH)',
        "rate = RATE * scale\n    bottom = 3.0 + 0.1 * math.log(rate / 4) ** 2 - 0.05 * (WIDTH - 8)\n"
        '    bottom += SEED_NOISE * noise("seed", seed) + 0.001 * noise(seed, rate, WIDTH)',
    )
    .replace("def main(seed, steps, run_dir, metrics, hold):", "def main(seed, steps, run_dir, metrics, hold, scale):")
    .replace("sys.argv[4], sys.argv[5])", "sys.argv[4], sys.argv[5], float(sys.argv[6]))")
)
"""A trunk whose rate is a quarter of what is best for it."""

RATE = proposal("A rate of 4 is better", "RATE = 1.0", "RATE = 4.0")
IDEA = proposal("A wider model is better", "WIDTH = 8", "WIDTH = 10", "architecture")


def command(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a script uses it."""
    argv = [sys.executable, "-m", "cockpit.cli", "-C", str(root), *words]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)


def tuned_lab() -> dict[str, Any]:
    """Options of a lab whose trunk can be tuned."""
    extra = "\n[judge.retune]\nfactors = [0.5, 1.0, 4.0, 8.0]\npairs = 3\n"
    return {"extra": extra, "more": {"train.py": TUNABLE}}


def hand_over(lab: TinyLab) -> TinyLab:
    """Have the lab's command hand the scale of the rate to its training code."""
    config = (lab.root / "cockpit.toml").read_text()
    (lab.root / "cockpit.toml").write_text(config.replace('.hold/hold"]', '.hold/hold", "{rate_scale}"]', 1))
    lab.git("commit", "-qam", "Hand over the scale of the rate")
    return lab


def tunable(tiny: Make, *proposals: str) -> TinyLab:
    """Such a lab."""
    return hand_over(tiny(*proposals, **tuned_lab()))


def test_a_win_that_is_only_learning_rate_is_called_that_and_signed_only_with_a_word(tiny: Make) -> None:
    lab = tunable(tiny, RATE)
    diff = solid(lab)
    with lab.session() as session:
        verdict = rows(session, "experiment")["0001"]["verdict"]
        told = session.call("retune_cost", experiment="0001")
        assert told["shards"] == 2 * 4 * 2 + 2 * 3
        session.call("retune", experiment="0001", why="is it the rate?", request_id="r1")
        wait_for(lambda: rows(session, "retune")["t0001"]["ended"])
        row, experiment = rows(session, "retune")["t0001"], rows(session, "experiment")["0001"]
        assert (row["label"], row["trunk_best"], row["best"]) == ("explained by learning rate", 4.0, 1.0)
        assert experiment["verdict"] == verdict
        with pytest.raises(RpcError, match=r"findings that nobody has acknowledged: .*explained by learning rate"):
            session.call("sign", experiment="0001", diff_hash=diff, request_id="s1")
        (finding,) = [each for each in rows(session, "finding").values() if each["rule"] == RULE]
        session.call("ack", findings=[finding["id"]], why="the trunk gets the rate with it", request_id="a1")
        session.call("sign", experiment="0001", diff_hash=diff, request_id="s2")
        wait_for(lambda: rows(session, "experiment")["0001"]["state"] == "merged")
        message = lab.git("log", "-1", "--format=%B", "cockpit/trunk")
        assert f"Cockpit-Acknowledged: {finding['id']} by Ada" in message
        scaled = [each for each in rows(session, "shard").values() if "retune" in each]
        assert {each["outcome"] for each in scaled} == {"finished"}
        assert {unscaled(each["rung"]) for each in scaled} == {"screen"}
    assert_whole(lab)
    book = command(lab.root, "ledger").stdout
    assert "retune 0001" in book
    assert "why: is it the rate?" in book
    assert "shown: explained by learning rate" in book


def test_a_win_that_is_not_holds_at_each_sides_best_and_every_twin_says_so(tiny: Make) -> None:
    lab = tunable(tiny, IDEA)
    diff = solid(lab)
    unasked = command(lab.root, "retune", "0001")
    assert unasked.returncode == 2
    assert "22 shards at most" in unasked.stderr
    done = command(lab.root, "retune", "0001", "--yes", "--json")
    answer = json.loads(done.stdout)
    assert (answer["retune"], answer["cost"]["shards"]) == ("t0001", 22)
    with lab.session() as session:
        wait_for(lambda: rows(session, "retune")["t0001"]["ended"])
        row = rows(session, "retune")["t0001"]
        assert (row["label"], row["trunk_best"], row["best"]) == ("holds at each side's best rate", 4.0, 4.0)
        assert row["mean"] == pytest.approx(0.1, abs=0.01)
        sql = "SELECT retuned, label, mean > 0.09 FROM experiments e JOIN retunes r ON r.experiment = e.id"
        assert session.call("sql", text=sql)["rows"] == [
            ["holds at each side's best rate", "holds at each side's best rate", True]
        ]
        session.call("sign", experiment="0001", diff_hash=diff, request_id="s1")
        wait_for(lambda: rows(session, "experiment")["0001"]["state"] == "merged")
    listed = json.loads(command(lab.root, "ls", "--json").stdout)["experiments"][0]
    assert listed["retuned"] == "holds at each side's best rate"
    assert {each["rung"] for each in listed["shards"]} == {"screen"}
    assert "t0001        holds at each side's best rate: +0.1" in command(lab.root, "show", "0001").stdout
    assert_whole(lab)


STAGES = ("intent", "effect", "done")
POINTS = (
    "retune.done",
    *(f"{act}.{stage}" for act in ("launch", "end", "score") for stage in STAGES),
    "tuned.done",
    "retuned.done",
)
"""In the order in which one retuning passes them."""


def test_killed_anywhere_on_the_way_it_goes_on_and_nothing_runs_twice(tiny: Make) -> None:
    lab = tunable(tiny, RATE)
    solid(lab)
    lab.stop()
    for point in POINTS:
        engine = lab.start(COCKPIT_CRASH_AT=point)

        def ask(session: Session) -> None:
            session.call("retune", experiment="0001", request_id="r1")

        wait_for(lambda engine=engine: lab.dies(engine, ask), 240)
        assert engine.wait(1) == -signal.SIGKILL, point
    with lab.session() as session:
        wait_for(lambda: rows(session, "retune")["t0001"]["ended"])
        assert rows(session, "retune")["t0001"]["label"] == "explained by learning rate"
        names = [row for row in rows(session, "shard").values() if "retune" in row]
        assert len(names) == 22
        assert {row["attempt"] for row in names} == {1}
        assert len([row for row in rows(session, "finding").values() if row["rule"] == RULE]) == 1
        events = "SELECT type, count(*) FROM events WHERE type LIKE 'retune.%' GROUP BY 1 ORDER BY 1"
        assert session.call("sql", text=events)["rows"] == [
            ["retune.ended", 1],
            ["retune.intended", 1],
            ["retune.tuned", 1],
        ]
    assert_whole(lab)
