"""The engine asks the detectors: a run that diverges is ended, and what is found in finished runs is in the ledger."""

from __future__ import annotations

from collections.abc import Callable

from cockpit.attach import Session
from tests.tinylab import TinyLab, better, decide, proposal, rows, wait_for, waiting

Make = Callable[..., TinyLab]

DIVERGING = proposal(
    "No floor and no ceiling",
    "        loss = bottom + 2.0 / (1 + step)",
    "        loss = bottom + 0.1 * step\n        time.sleep(0.05)",
    "schedule",
)
SEEDLESS = proposal(
    "The seed is noise",
    '    bottom = 3.0 - 0.1 * math.log(RATE) + SEED_NOISE * noise("seed", seed) + 0.001 * noise(seed, RATE, WIDTH)',
    "    bottom = 2.9",
    "regularisation",
)


def approve_all(session: Session, count: int) -> None:
    for row in wait_for(lambda: len(found := waiting(session)) == count and found):
        assert decide(session, row)["first"]


def found(session: Session) -> set[tuple[str, str, str]]:
    """(experiment, rule, severity) of every finding."""
    return {(row["about"].split(".")[0], row["rule"], row["severity"]) for row in rows(session, "finding").values()}


def test_a_run_that_diverges_is_ended_and_is_the_codes_own_fault(tiny: Make) -> None:
    lab = tiny(DIVERGING, steps=600, seeds=(0,))
    with lab.session() as session:
        approve_all(session, 1)
        shard = wait_for(
            lambda: next(
                (
                    row
                    for row in rows(session, "shard").values()
                    if row["experiment"] == "0001" and row["state"] == "ended"
                ),
                None,
            ),
        )
        assert shard["outcome"] == "diverged"
        assert shard["metric"] is None
        assert "loss" in shard["detail"]
        assert shard["ended"] - shard["started"] < 600 * 0.05, "it was not left to run to its end"
        assert ("0001", "divergence", "stop") in found(session)
        verdict = wait_for(lambda: rows(session, "experiment")["0001"]["verdict"])
        assert verdict["verdict"] == "broken"


def test_seeds_that_are_not_wired_are_found_and_an_honest_idea_is_left_alone(tiny: Make) -> None:
    lab = tiny(SEEDLESS, better(1))
    with lab.session() as session:
        approve_all(session, 2)
        both = {"0001.screen.s1.a1", "0001.screen.s2.a1"}
        wait_for(
            lambda: both == {row["about"] for row in rows(session, "finding").values() if row["rule"] == "unwired-seed"}
        )
        wait_for(lambda: rows(session, "experiment")["0002"]["verdict"])
        barred = {about for about, _, severity in found(session) if severity in ("bars a keep", "stop")}
        assert barred == {"0001"}
        before = rows(session, "finding")
        sql = session.call("sql", text="SELECT count(*) FROM findings WHERE rule = 'unwired-seed'")
        assert sql["rows"] == [[2]]
    lab.stop()
    with lab.session() as session:
        wait_for(lambda: rows(session, "lab"))
        assert rows(session, "finding") == before, "a new engine says nothing twice"
