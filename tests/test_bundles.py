"""Several solid experiments are signed together: it is measured before it is merged, and nothing unread gets in."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from cockpit.attach import Session
from engine import events as e
from engine.campaign import Branch, Launch, plan, setup_of
from engine.past_merges import claim_of
from engine.pricing import price_of
from engine.rpc import INVALID_PARAMS, RpcError
from engine.shortlist import shortlist
from engine.types import ExperimentState, Outcome
from tests.campaigns import WHO, Campaign
from tests.fakes import COSINE, proposal_row
from tests.test_app import sitting
from tests.test_campaign import TRUNK, settle
from tests.test_cli import Cockpit
from tests.test_confirming import LAB
from tests.test_crash import anchored, assert_whole, gains
from tests.tinylab import TinyLab, better, briefed, decide, proposal, rows, wait_for, waiting

Make = Callable[..., TinyLab]


def solid(*gained: float) -> Campaign:
    """A campaign whose experiments 0001, 0002, … gained so much, and are solid."""
    campaign = Campaign(setup_of(LAB))
    campaign.run("trunk-1", TRUNK)
    for gain in gained:
        name = campaign.approve()
        campaign.run(name, [trunk - gain - spread for trunk, spread in zip(TRUNK, (0.0, 0.01, -0.01), strict=True)])
    settle(campaign, LAB)
    return campaign


def bundle(campaign: Campaign, *parts: str, branched: bool = True) -> str:
    """A person signs these together; returns the bundle."""
    state = campaign.state
    name, decision = f"{state.counts['experiment'] + 1:04d}", f"d{state.counts['decision'] + 1:05d}"
    plan_of = e.BundleIntended(
        name, list(parts), ["f" * 64 for _ in parts], [0.2 for _ in parts], decision, [], [], campaign.trunk,
        state.trunk_arm, f"exp/{name}-bundle", 1.0, ["Ada", "a@b"], "Bundle", "screen", campaign.setup,
        list(range(1000, 1016)), WHO, "", f"b{name}",
    )  # fmt: skip
    campaign.write(plan_of)
    if branched:
        campaign.write(e.ExperimentBranched(name, name * 10, name[::-1] * 10, plan_of.branch))
    return name


def run_fresh(campaign: Campaign, name: str, *gained: float) -> None:
    for seed, gain in enumerate(gained, 1000):
        for arm, metric in (("trunk-1", 2.0), (name, 2.0 - gain)):
            campaign.end(campaign.start(arm, seed, fresh=True), Outcome.FINISHED, metric)
    settle(campaign, LAB)


def listed(campaign: Campaign) -> list[str]:
    state = campaign.state
    return [
        each["experiment"] for each in shortlist(state.trunk_arm, state.experiments.values(), state.shards.values())
    ]


# --- what runs, and what it says ---------------------------------------------------------------------------------------


def test_a_bundle_gets_its_branch_and_then_fresh_pairs_before_anything_else() -> None:
    campaign = solid(0.2, 0.3)
    name = bundle(campaign, "0001", "0002", branched=False)
    assert (name, campaign.state.experiments[name]["state"]) == ("0003", ExperimentState.SIGNED)
    steps = plan(campaign.state, LAB, 8)
    assert [step for step in steps if isinstance(step, Branch)] == [Branch(name)]
    assert [step for step in steps if isinstance(step, Launch) and step.fresh] == []
    campaign.branch(name)
    waits = campaign.approve()
    found = [(step.experiment, step.seed) for step in plan(campaign.state, LAB, 7) if isinstance(step, Launch)]
    assert found == [*((arm, seed) for seed in (1000, 1001, 1002) for arm in ("trunk-1", name)), (waits, 0)]
    assert campaign.state.race.places[waits] == 3, "a bundle is no idea that counts against the bar"


def test_what_it_is_expected_to_gain_stands_beside_what_is_measured_and_its_parts_go_with_it() -> None:
    campaign = solid(0.2, 0.3)
    name = bundle(campaign, "0001", "0002")
    run_fresh(campaign, name, 0.44, 0.45, 0.46)
    row = campaign.state.experiments[name]
    assert (row["signoff"]["state"], row["verdict"]) == ("confirmed", None)
    assert row["signoff"]["mean"] == pytest.approx(0.45)
    assert row["bundle"] == {"parts": ["0001", "0002"], "shrunk": [0.2, 0.2], "promised": 0.4}
    campaign.write(e.MergeDone(name, "c" * 40, "d" * 40))
    campaign.trunk_moves("c" * 40, "d" * 40)
    for part in ("0001", "0002"):
        merged = campaign.state.experiments[part]
        assert (merged["state"], merged["why"], merged["merged_with"]) == ("merged", f"merged with {name}", name)
    assert claim_of(campaign.state.experiments[name])["claimed"] == pytest.approx(0.45)
    assert len(campaign.state.merged) == 1


def test_a_veto_leaves_the_parts_on_the_shortlist() -> None:
    campaign = solid(0.2, 0.3)
    before = listed(campaign)
    name = bundle(campaign, "0001", "0002")
    run_fresh(campaign, name, -0.1, -0.1, -0.11)
    assert campaign.state.experiments[name]["state"] == ExperimentState.VETOED
    assert listed(campaign) == before == ["0002", "0001"]
    assert campaign.state.signoffs == {}


def test_its_price_leaves_out_what_goes_into_the_trunk_with_it() -> None:
    campaign = solid(0.2, 0.3, 0.25)
    told = price_of(campaign.state, LAB, "screen", but=["0001", "0002"])
    assert (told["pairs"], told["restarts"]) == ([3, 8], ["0003"])


def test_a_bundle_that_cannot_be_made_is_the_end_of_it_and_a_ledger_read_again_says_the_same() -> None:
    campaign = solid(0.2, 0.3)
    name = bundle(campaign, "0001", "0002", branched=False)
    campaign.write(e.ExperimentFailed(name, "no branch could be made"))
    assert campaign.state.experiments[name]["state"] == ExperimentState.FAILED
    assert campaign.state.signoffs == {}
    for _, _, event in campaign.events:
        kind, data = e.dump(event)
        assert e.load(kind, 1, json.dumps(data).encode()) == event


# --- with a real engine ------------------------------------------------------------------------------------------------


def judged(lab: TinyLab, session: Session, count: int) -> list[str]:
    """Approve what waits, and wait until all of it is solid; returns the hashes of the diffs."""
    found = wait_for(lambda: len(these := waiting(session)) == count and these)
    for row in found:
        decide(session, row)
    names = [f"{number:04d}" for number in range(1, count + 1)]
    wait_for(lambda: all(rows(session, "experiment").get(name, {}).get("state") == "judged" for name in names))
    assert {rows(session, "experiment")[name]["verdict"]["verdict"] for name in names} == {"solid"}
    wait_for(lambda: briefed(session))
    return [str(row["diff_hash"]) for row in found]


def together(session: Session, diffs: list[str], request: str = "b1") -> dict[str, Any]:
    names = [f"{number:04d}" for number in range(1, len(diffs) + 1)]
    return dict(session.call("bundle", experiments=names, diff_hashes=diffs, request_id=request))


def test_what_was_signed_together_is_merged_by_itself_with_what_was_expected_beside_it(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(*gains(2))
    anchored(lab, 2)
    cockpit = Cockpit(lab.root, capsys)
    with lab.session() as session:
        diffs = judged(lab, session, 2)
        price = session.call("bundle_price", experiments=["0001", "0002"])
        assert price["promised"] == pytest.approx(sum(price["shrunk"]))
        assert "puts 0001 and 0002 together" in price["sentence"]
        assert "runs 3 to 8 pairs on fresh seeds" in price["sentence"]
        given = [word for diff in diffs for word in ("--diff", diff)]
        answer = cockpit.json("sign", "0001", "0002", *given, "--why", "both are clear")
        assert (answer["state"], answer["experiment"], answer["promised"]) == ("confirming", "0003", price["promised"])
        wait_for(lambda: rows(session, "experiment")["0003"]["state"] == "merged")
        found = rows(session, "experiment")
        row, off = found["0003"], found["0003"]["signoff"]
        assert off["mean"] == pytest.approx(0.2, abs=0.02)
        assert [(found[part]["state"], found[part]["why"]) for part in row["bundle"]["parts"]] == [
            ("merged", "merged with 0003"), ("merged", "merged with 0003"),
        ]  # fmt: skip
        assert lab.git("log", "-1", "--format=%P", "exp/0003-bundle").split() == [row["parent"]]
        for branch in ("exp/0003-bundle", "cockpit/trunk"):
            message = lab.git("log", "-1", "--format=%B", branch)
            assert "Cockpit-Bundle: 0001, 0002\n" in message
        assert f"Cockpit-Promised: {price['promised']:+.6g}" in message
        assert f"Cockpit-Headline: {off['mean']:+.6g} [" in message
        text = lab.git("show", "cockpit/trunk:train.py")
        assert "noise(seed, 0)" in text
        assert "noise(seed, 1)" in text
        sql = "SELECT bundle, promised, headline FROM experiments WHERE id = '0003'"
        told = session.call("sql", text=sql)["rows"]
        assert told == [[["0001", "0002"], pytest.approx(price["promised"]), pytest.approx(off["mean"])]]
        sql = "SELECT id FROM experiments WHERE merged_with = '0003' ORDER BY id"
        assert session.call("sql", text=sql)["rows"] == [["0001"], ["0002"]]
        listing = {each["id"]: each for each in cockpit.json("ls")["experiments"]}
        assert (listing["0003"]["bundle"]["parts"], listing["0003"]["headline"]) == (["0001", "0002"], off["mean"])
        *_, signed, came = cockpit.json("ledger", "show")["decisions"]
        assert (signed["action"], signed["target"], signed["why"]) == ("sign", "0003", "both are clear")
        parts = signed["shown"]["bundle"]["parts"]
        assert [(each["experiment"], each["diff_hash"], each["verdict"]["verdict"]) for each in parts] == [
            ("0001", diffs[0], "solid"), ("0002", diffs[1], "solid"),
        ]  # fmt: skip
        assert (came["action"], came["shown"]["bundle"]["mean"]) == ("confirmed", pytest.approx(off["mean"]))
        assert "expected of its parts" in cockpit("ledger", "show")[1]
    assert_whole(lab)


def refused(lab: TinyLab, session: Session, diffs: list[str], match: str) -> None:
    """The signature is refused, before it as well as at it, and nothing is written."""
    head, branches = session.call("status")["events"], lab.git("branch", "--list")
    names = [f"{number:04d}" for number in range(1, len(diffs) + 1)]
    with pytest.raises(RpcError, match=match):
        session.call("bundle_price", experiments=names)
    with pytest.raises(RpcError, match=match):
        together(session, diffs)
    assert (session.call("status")["events"], lab.git("branch", "--list")) == (head, branches)


def test_a_conflict_refuses_it_and_says_which_and_where_before_anything_is_written(tiny: Make) -> None:
    lab = tiny(better(1), better(2))
    with lab.session() as session:
        diffs = judged(lab, session, 2)
        refused(lab, session, diffs, "0002 conflicts after 0001 in train.py")
        with pytest.raises(RpcError, match="two experiments or more") as wrong:
            together(session, diffs[:1])
        assert wrong.value.code == INVALID_PARAMS
        with pytest.raises(RpcError, match="not the one that was shown"):
            together(session, [diffs[0], "0" * 64])
    assert_whole(lab)


def test_a_part_that_reads_differently_after_the_others_than_it_was_approved_is_refused(tiny: Make) -> None:
    near = proposal("Nearby", "    pad_0 = 2", "    bottom -= 0.1 + 0.01 * noise(seed, 8)", "schedule")
    lab = tiny(*gains(1), near)
    anchored(lab, 1)
    with lab.session() as session:
        diffs = judged(lab, session, 2)
        refused(lab, session, diffs, "0002 reads differently after 0001 than what was approved: sign it by itself")
    assert_whole(lab)


def undoing() -> list[str]:
    """Two that each gain by themselves, and lose together."""
    first = "    first = True\n    bottom -= 0.2 + 0.01 * noise(seed, 0)"
    second = "    bottom -= (-0.5 if 'first' in locals() else 0.2) + 0.01 * noise(seed, 1)"
    return [
        proposal("One way to do it", "# anchor 0", first, "schedule"),
        proposal("Another way to do it", "# anchor 1", second, "schedule"),
    ]


def test_what_gains_apart_and_loses_together_is_vetoed_and_stays_on_the_shortlist(tiny: Make) -> None:
    lab = tiny(*undoing())
    anchored(lab, 2)
    with lab.session() as session:
        diffs = judged(lab, session, 2)
        trunk = lab.git("rev-parse", "cockpit/trunk")
        lab.hold.touch()
        name = together(session, diffs)["experiment"]
        assert together(session, diffs)["experiment"] == name, "the same request is the same signature"
        wait_for(lambda: any(each["experiment"] == name for each in rows(session, "shard").values()))
        session.call("stop", id=name, why="the machine is wanted", request_id="x1")
        wait_for(lambda: rows(session, "experiment")[name]["state"] == "judged")
        lab.hold.unlink()
        again = together(session, diffs, "b2")
        assert (again["experiment"], again["seeds"][0]) == (name, 1000), "once more is no second draw"
        wait_for(lambda: rows(session, "experiment")[name]["state"] == "vetoed")
        assert "no gain on 3 fresh seeds" in rows(session, "experiment")[name]["why"]
        assert {each["experiment"] for each in session.call("shortlist")["experiments"]} == {"0001", "0002"}
        assert lab.git("rev-parse", "cockpit/trunk") == trunk
        with pytest.raises(RpcError, match="were vetoed by their fresh pairs"):
            together(session, diffs, "b3")
        session.call("sign", experiment="0001", diff_hash=diffs[0], request_id="s1")
        wait_for(lambda: rows(session, "experiment")["0001"]["state"] == "merged")
    assert_whole(lab)


STAGES = ("intent", "effect", "done")
POINTS = (
    "bundle.done",
    *(f"{act}.{stage}" for act in ("branch", "launch", "end", "score") for stage in STAGES),
    "headline.done",
    *(f"merge.{stage}" for stage in STAGES),
)
"""In the order in which one bundle passes them."""


def test_killed_anywhere_on_the_way_a_bundle_is_merged_once(tiny: Make) -> None:
    lab = tiny(*gains(2))
    anchored(lab, 2)
    with lab.session() as session:
        diffs = judged(lab, session, 2)
    lab.stop()
    for point in POINTS:
        engine = lab.start(COCKPIT_CRASH_AT=point)
        wait_for(lambda engine=engine: lab.dies(engine, lambda session: together(session, diffs)), 240)
        assert engine.wait(1) == -signal.SIGKILL, point
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment")["0003"]["state"] == "merged")
        counts = session.call("sql", text="SELECT type, count(*) FROM events GROUP BY type")["rows"]
        assert {kind: count for kind, count in counts if kind in ("bundle.intended", "merge.intended", "merge.done")} == {
            "bundle.intended": 1, "merge.intended": 1, "merge.done": 1,
        }  # fmt: skip
        fresh = [each for each in rows(session, "shard").values() if each.get("fresh")]
        assert len(fresh) == len({(each["experiment"], each["seed"]) for each in fresh}) == 6
    assert_whole(lab)


# --- on the screen -----------------------------------------------------------------------------------------------------


async def test_what_is_marked_on_the_shortlist_is_signed_together_on_the_second_stroke() -> None:
    async with sitting() as desk:
        desk.engine.put(proposal_row("p0005", "Squared ReLU", COSINE, state="approved"))
        await desk.press("v", "space", "j", "space", "s")
        await desk.until(lambda: desk.asking)
        assert "Sign 0002, 0005 off together?" in desk.text
        assert "+0.0300 is expected" in desk.text
        assert desk.engine.asked("bundle") == []
        await desk.press("enter")
        asked: list[dict[str, Any]] = []
        await desk.until(lambda: asked.extend(desk.engine.asked("bundle")) or asked)
        assert (asked[0]["experiments"], len(asked[0]["diff_hashes"])) == (["0002", "0005"], 2)
        await desk.until(lambda: "signed as 0012" in desk.text)


async def test_one_mark_signs_only_what_the_cursor_is_on() -> None:
    async with sitting() as desk:
        await desk.press("v", "space", "s")
        await desk.until(lambda: desk.asking)
        assert "Sign 0002 off?" in desk.text
