"""A researcher meets a finding on a solid experiment: it cannot be signed until they have said why, and sometimes never."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cockpit import cli
from cockpit.attach import Session
from engine.rpc import NOT_NOW, RpcError
from tests.tinylab import SCORE, TinyLab, better, decide, proposal, rows, wait_for, waiting

Make = Callable[..., TinyLab]

SEEDLESS = proposal(
    "The seed is noise",
    '    bottom = 3.0 - 0.1 * math.log(RATE) + SEED_NOISE * noise("seed", seed) + 0.001 * noise(seed, RATE, WIDTH)',
    "    bottom = 2.5",
    "regularisation",
)
FORGED = (
    better(1)
    + """
train.py
<<<<<<< SEARCH
    write(fd, {"summary": {"val": bottom}})
=======
    write(fd, {"summary": {"val": bottom - 0.05}})
>>>>>>> REPLACE
"""
)


def checked() -> dict[str, str]:
    """A score command that looks at the run's word too."""
    return {"score.py": SCORE.replace('"split": "search"', '"split": "search", "evaluated": bottom')}


def judged(session: Session, name: str = "0001") -> dict[str, Any]:
    """Approve what waits; the experiment, once it and the trunk have run all of their seeds."""
    for row in wait_for(lambda: waiting(session)):
        decide(session, row)
    wait_for(lambda: rows(session, "experiment").get(name, {}).get("state") == "judged")
    return rows(session, "experiment")[name]


def sign(session: Session, name: str = "0001") -> dict[str, Any]:
    row = rows(session, "experiment")[name]
    shown = rows(session, "proposal")[row["proposal"]]["diff_hash"]
    return dict(session.call("sign", experiment=name, diff_hash=shown, why="clear", request_id=f"sign-{len(row)}"))


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(RpcError) as error:
        call()
    assert error.value.code == NOT_NOW
    return error.value.message


def cockpit(lab: TinyLab, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.main(["-C", str(lab.root), *words])
    return code, capsys.readouterr().out


def test_a_solid_result_with_a_finding_is_barred_until_a_person_says_why(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(SEEDLESS)
    with lab.session() as session:
        row = judged(session)
        verdict = row["verdict"]
        assert verdict["verdict"] == "barred"
        assert (verdict["n"], verdict["effect"] > 0.4, verdict["lo"] > 0) == (3, True, True), "its numbers are kept"
        found = rows(session, "finding")
        assert {found[each]["rule"] for each in row["barred"]} == {"unwired-seed"}
        said = refused(lambda: sign(session))
        assert all(each in said for each in row["barred"])
        assert "the seed is not used" in said
        assert rows(session, "experiment")["0001"]["state"] == "judged"

        code, out = cockpit(lab, capsys, "ls", "--json")
        (listed,) = json.loads(out)["experiments"]
        assert (code, listed["verdict"], listed["barred"]) == (0, "barred", row["barred"])
        _, out = cockpit(lab, capsys, "findings", "0001")
        assert "unwired-seed" in out
        assert "detectors are active" in out
        asked = session.call("sql", text="SELECT verdict, barred FROM experiments WHERE id = '0001'")
        assert asked["rows"] == [["barred", row["barred"]]]

        with pytest.raises(SystemExit):
            cli.main(["-C", str(lab.root), "ack", row["barred"][0]])  # without a reason
        code, out = cockpit(lab, capsys, "ack", *row["barred"], "--why", "it has no seed, and needs none", "--json")
        assert (code, json.loads(out)["open"]) == (0, {"0001": []})
        after = rows(session, "experiment")["0001"]
        assert (after["verdict"], after["barred"]) == ({**verdict, "verdict": "solid"}, [])
        decided = [each for each in rows(session, "decision").values() if each["action"] == "acknowledge"]
        assert {each["target"] for each in decided} == set(row["barred"])
        assert {(each["who"]["kind"], each["why"]) for each in decided} == {
            ("person", "it has no seed, and needs none")
        }
        assert len({each["id"] for each in rows(session, "decision").values()}) == len(rows(session, "decision"))
        answer = session.call("sql", query="findings", params={"experiment": "0001", "all": True})
        assert len(answer["rows"]) >= len(row["barred"])
        assert sign(session)["state"] == "merged"
        assert all(check["ok"] for check in session.call("verify")["checks"])
    lab.stop()
    with lab.session() as session:
        again = rows(session, "experiment")["0001"]
        assert (again["verdict"], again["barred"]) == (after["verdict"], []), "the ledger says the same to a new engine"


def test_a_forged_report_can_never_be_signed_or_acknowledged_away(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(FORGED, more=checked())
    with lab.session() as session:
        row = judged(session)
        assert row["verdict"]["verdict"] == "barred"
        found = [rows(session, "finding")[each] for each in row["barred"]]
        assert {(each["rule"], each["severity"]) for each in found} == {("forged-report", "never kept")}
        assert len(found) == 3, "on every seed"
        said = refused(lambda: session.call("ack", findings=[found[0]["id"]], why="I trust it", request_id="a"))
        assert "cannot be acknowledged" in said
        assert "cockpit propose --edit" in said
        code, _ = cockpit(lab, capsys, "ack", found[0]["id"], "--why", "please")
        assert code == 1
        assert "can never be signed off" in refused(lambda: sign(session))
        assert not [each for each in rows(session, "decision").values() if each["action"] in ("acknowledge", "sign")]
        assert rows(session, "shard")[found[0]["about"]]["evaluated"] == pytest.approx(
            found[0]["evidence"]["evaluated"]
        )


def test_a_large_gain_bars_nothing_and_asks_for_a_word_before_sign_off(tiny: Make) -> None:
    lab = tiny(better(8), off=())
    with lab.session() as session:
        row = judged(session)
        assert (row["verdict"]["verdict"], row["barred"]) == ("solid", [])
        found = rows(session, "finding")
        assert {found[each]["rule"] for each in row["asks"]} == {"large-gain"}
        assert {found[each]["severity"] for each in row["asks"]} == {"asks"}
        assert {found[each]["about"] for each in row["asks"]} == {f"0001.screen.s{seed}.a1" for seed in range(3)}
        assert "nobody has acknowledged" in refused(lambda: sign(session))
        assert session.call("ack", findings=row["asks"], why="the rate was far too low", request_id="a")["open"] == {
            "0001": []
        }
        assert sign(session)["state"] == "merged"


def test_which_detectors_work_is_told_once_the_trunk_has_run(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    lab = tiny(better(1), off=(), more=checked())
    with lab.session() as session:
        judged(session)
        known = rows(session, "lab")["lab"]["detectors"]
        assert {"non-finite", "large-gain", "one-source", "forged-report", "changed-files", "unwired-seed"} <= set(
            known["active"]
        )
        assert {"not-learning": ["update_ratio"]}.items() <= {
            each["detector"]: each["missing"] for each in known["asleep"]
        }.items()
        told = [line for line in cockpit(lab, capsys, "status")[1].splitlines() if line.startswith("detectors")]
        assert told == [f"detectors {len(known['active'])} of 31 detectors are active"]
        assert json.loads(cockpit(lab, capsys, "status", "--json")[1])["detectors"] == known
        _, out = cockpit(lab, capsys, "doctor", "--json")
        (check,) = [each for each in json.loads(out)["checks"] if each["name"] == "detectors"]
        assert check["detail"].startswith(f"{len(known['active'])} of 31 are active; ")
        assert "not-learning lacks update_ratio" in check["detail"]
        events = session.call("sql", text="SELECT count(*) FROM events WHERE type = 'detectors.awake'")
        assert events["rows"] == [[1]], "said once, since nothing changed"
