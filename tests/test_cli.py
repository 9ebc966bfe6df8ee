"""Every command as a script uses it: what it prints, what it answers as JSON, and the code that it ends with."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cockpit import cli
from cockpit.attach import is_running
from tests.tinylab import CRASH, NO_MATCH, TinyLab, better, briefed, decide, rate, rows, wait_for, waiting

Make = Callable[..., TinyLab]
ROOT = Path(__file__).resolve().parent.parent


class Cockpit:
    """The command line on one lab, in this process."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.capsys = capsys
        self.err = ""

    def __call__(self, *words: str) -> tuple[int, str]:
        """Run a command; returns its exit code and what it printed."""
        try:
            code = cli.main(["-C", str(self.root), *words])
        except SystemExit as end:
            code = int(end.code or 0)
        out, self.err = self.capsys.readouterr()
        assert "Traceback" not in self.err
        return code, out

    def json(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json; returns the one object that it printed."""
        ended, out = self(*words, "--json")
        assert ended == code, (words, out, self.err)
        return json.loads(out)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyLab]:
    """A lab with one solid and one broken experiment, and proposals that wait."""
    ideas = [better(1), CRASH, NO_MATCH, better(2), better(3), better(4), better(5)]
    made = TinyLab(tmp_path_factory.mktemp("cli") / "lab", ideas, queue=6, slots=2)
    with made.session() as session:
        wait_for(lambda: len(waiting(session)) == 6)
        for row in waiting(session)[:2]:
            decide(session, row)
        wait_for(lambda: sum(row["verdict"] is not None and row["state"] == "judged" for row in _tried(session)) == 2)
        wait_for(lambda: briefed(session))
    yield made
    made.end()


def _tried(session: Any) -> list[dict[str, Any]]:
    return [row for row in rows(session, "experiment").values() if row["role"] == "experiment"]


@pytest.fixture
def cockpit(lab: TinyLab, capsys: pytest.CaptureFixture[str]) -> Cockpit:
    return Cockpit(lab.root, capsys)


# --- looking -----------------------------------------------------------------------------------------------------------


def test_up_status_and_ls_agree(lab: TinyLab, cockpit: Cockpit) -> None:
    hello = cockpit.json("up")
    status = cockpit.json("status")
    assert hello["pid"] == status["engine"]["pid"]
    assert (status["lab"], status["experiments"], status["warnings"]) == ("tiny", 2, [])
    code, text = cockpit("status")
    assert code == 0
    assert text.splitlines()[0].startswith("tiny")
    listing = cockpit.json("ls")
    solid, broken = listing["experiments"]
    assert (solid["id"], solid["hypothesis"], solid["verdict"]) == ("0001", "A rate of 3.0 is better", "solid")
    assert solid["interval"][0] < solid["effect"] < solid["interval"][1]
    assert [(each["seed"], each["rung"], each["outcome"]) for each in solid["shards"]] == [
        (seed, "screen", "finished") for seed in (0, 1, 2)
    ]
    assert (broken["verdict"], broken["effect"], broken["interval"]) == ("broken", None, None)
    assert {each["metric"] for each in broken["shards"]} == {None}
    assert [each["id"] for each in listing["trunk"]] == ["trunk-1"]
    assert {"p0004", "p0005", "p0006", "p0007"} >= {each["id"] for each in listing["waiting"]} > set()
    code, text = cockpit("ls")
    assert code == 0
    assert "waiting for review" in text
    assert "A wider model learns more" in text


def test_commands_find_the_lab_from_a_directory_below_it(lab: TinyLab, capsys: pytest.CaptureFixture[str]) -> None:
    assert Cockpit(lab.root / "proposals", capsys).json("status")["root"] == str(lab.root)


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("p0001", {"kind": "proposal", "state": "approved", "experiment": "0001"}),
        ("p0003", {"kind": "proposal", "state": "refused", "refusal": "no-match"}),
        ("0001", {"kind": "experiment", "state": "judged"}),
        ("trunk-1", {"kind": "experiment", "role": "trunk"}),
        ("0001.screen.s0.a1", {"kind": "shard", "outcome": "finished", "summary": {"steps": 5.0, "tokens": 50.0}}),
        ("d00001", {"kind": "decision", "action": "approve", "target": "p0001"}),
    ],
)
def test_show_tells_all_about_one_thing(cockpit: Cockpit, name: str, has: dict[str, Any]) -> None:
    value = cockpit.json("show", name)
    summary = {key: value["summary"][key] for key in has.get("summary", {})}
    assert {key: value[key] for key in has if key != "summary"} | ({"summary": summary} if summary else {}) == has
    code, text = cockpit("show", name)
    assert code == 0
    assert name in text


def test_show_has_the_diff_of_an_experiment_and_the_log_of_a_shard(cockpit: Cockpit) -> None:
    value = cockpit.json("show", "0001")
    assert "+RATE = 3.0" in value["diff"]
    assert len(value["shards"]) == 3
    assert cockpit.json("show", "0001.screen.s1.a1")["log"].startswith("step 0 loss")
    crashed = cockpit.json("show", "0002.screen.s0.a1")
    assert "TypeError" in crashed["log"]
    assert crashed["metric"] is None


def test_rank_puts_the_solid_one_first(cockpit: Cockpit) -> None:
    ranking = cockpit.json("rank", "--limit", "5")["experiments"]
    assert (ranking[0]["id"], ranking[0]["verdict"]) == ("0001", "solid")
    assert set(ranking[0]) >= {"id", "hypothesis", "verdict", "effect", "interval", "shards"}
    code, text = cockpit("rank")
    assert code == 0
    assert "solid" in text


def test_sql_answers_a_question_a_named_one_and_lists_them(cockpit: Cockpit) -> None:
    answer = cockpit.json("sql", "SELECT outcome, count(*) AS n FROM shards WHERE experiment = '0001' GROUP BY 1")
    assert (answer["columns"], answer["rows"]) == (["outcome", "n"], [["finished", 3]])
    assert cockpit.json("sql", "SELECT\n1")["rows"] == [[1]]
    cut = cockpit.json("sql", "SELECT * FROM points", "--limit", "3")
    assert (len(cut["rows"]), cut["truncated"]) == (3, True)
    queries = cockpit.json("sql")["queries"]
    assert all(each["title"] and each["description"] for each in queries)
    for each in queries:
        if not each["params"]:
            assert cockpit.json("sql", each["name"])["columns"]
    code, text = cockpit("sql", "SELECT 17 AS seventeen")
    assert code == 0
    assert "seventeen" in text
    assert "1 rows" in text


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("sql", "SELECT nothing FROM nowhere"), 1, "nowhere"),
        (("sql", "DROP TABLE shards"), 1, "SELECT"),
        (("sql", "no-such-question"), 1, "no query 'no-such-question'; there are"),
        (("sql", "SELECT 1", "--param", "rung"), 2, "NAME=VALUE"),
        (("show", "nothing"), 2, "`cockpit ls` lists"),
        (("approve", "p9999", "--diff", "x"), 1, "no proposal 'p9999'"),
        (("approve", "p0003", "--diff", ""), 2, "--diff"),
        (("approve", "p0007", "--diff", "0" * 64), 1, "not the one that was shown"),
        (("approve", "p0007"), 2, "--diff "),
        (("decline", "p0007", "--why", "  "), 1, "reason"),
        (("decline", "p0007"), 2, "--why"),
        (("stop", "0001"), 1, "judged: there is nothing to stop"),
        (("stop", "9999"), 1, "no experiment or shard"),
        (("sign", "0002", "--diff", "x"), 1, "only a solid experiment"),
        (("sign", "p0001"), 2, "no experiment"),
        (("sign", "trunk-1"), 2, "no experiment"),
        (("trunk", "steal"), 2, "invalid choice"),
        (("rank", "--limit", "many"), 2, "not a whole number above 0"),
    ],
)
def test_no_is_said_with_its_reason_and_its_code(
    cockpit: Cockpit, words: tuple[str, ...], code: int, says: str
) -> None:
    before = cockpit.json("status")["events"]
    assert says in cockpit.json(*words, code=code)["error"]
    ended, out = cockpit(*words)
    assert (ended, out) == (code, "")
    assert says in cockpit.err
    assert cockpit.json("status")["events"] == before


# --- deciding ----------------------------------------------------------------------------------------------------------


def test_approve_by_hash_and_a_second_time_it_is_told_who_was_first(lab: TinyLab, cockpit: Cockpit) -> None:
    shown = cockpit.json("show", "p0004")["diff_hash"]
    assert shown in cockpit.json("approve", "p0004", code=2)["error"]
    answer = cockpit.json("approve", "p0004", "--diff", shown, "--why", "cheap")
    assert (answer["state"], answer["first"]) == ("approved", True)
    again = cockpit.json("approve", "p0004", "--diff", shown, code=1)
    assert (again["first"], "Ada" in again["by"]) == (False, True)
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment")[answer["experiment"]]["state"] == "judged")
    assert "cheap" in lab.git("log", "-1", "--format=%B", cockpit.json("show", answer["experiment"])["branch"])


def typed(lab: TinyLab, *words: str, answer: bytes) -> tuple[int, str]:
    """Run a command on a terminal, type `answer` when it asks; returns its exit code and what was on the screen."""
    pid, screen = pty.fork()
    if pid == 0:
        argv = [sys.executable, "-m", "cockpit.cli", "-C", str(lab.root), *words]
        os.execve(sys.executable, argv, {**os.environ, "PYTHONPATH": str(ROOT)})
    seen = b""
    try:
        while b"[yes/no]" not in seen:
            seen += os.read(screen, 4096)
        os.write(screen, answer)
        while more := os.read(screen, 4096):
            seen += more
    except OSError:  # the end of a terminal
        pass
    finally:
        os.close(screen)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode()


def test_on_a_terminal_approve_shows_the_diff_and_asks(lab: TinyLab, cockpit: Cockpit) -> None:
    for answer in (b"no\n", b"\n", b"\x04"):
        code, screen = typed(lab, "approve", "p0005", answer=answer)
        assert code == 1
        assert "+RATE = 5.0" in screen
        assert "not approved" in screen
        assert cockpit.json("show", "p0005")["state"] == "waiting"
    code, screen = typed(lab, "approve", "p0005", answer=b"yes\n")
    assert code == 0
    assert "p0005 approved as experiment" in screen
    assert cockpit.json("show", "p0005")["state"] == "approved"


def test_decline_keeps_the_reason(cockpit: Cockpit) -> None:
    answer = cockpit.json("decline", "p0006", "--why", "we tried this in March")
    assert (answer["state"], answer["first"]) == ("declined", True)
    assert cockpit.json("show", "p0006")["why"] == "we tried this in March"
    code, text = cockpit("decline", "p0006", "--why", "again")
    assert code == 1
    assert "nothing was changed" in text


def test_stop_ends_an_experiment(lab: TinyLab, cockpit: Cockpit) -> None:
    with lab.session() as session:
        wait_for(lambda: all(row["state"] in ("judged", "stopped") for row in _tried(session)))
        lab.hold.touch()
        name = cockpit.json("approve", "p0007", "--diff", cockpit.json("show", "p0007")["diff_hash"])["experiment"]
        wait_for(lambda: any(each["state"] == "running" for each in cockpit.json("show", name)["shards"]))
        answer = cockpit.json("stop", name, "--why", "I was wrong")
        assert answer["state"] == "stopping"
        wait_for(lambda: all(each["state"] == "ended" for each in cockpit.json("show", name)["shards"]))
        lab.hold.unlink()
    row = cockpit.json("show", name)
    assert (row["state"], row["why"]) == ("stopped", "I was wrong")


# --- upkeep ------------------------------------------------------------------------------------------------------------


def test_verify_rebuild_and_gc(lab: TinyLab, cockpit: Cockpit) -> None:
    with lab.session() as session:
        wait_for(lambda: session.call("status")["running"] == 0)
        wait_for(lambda: briefed(session))
    checks = cockpit.json("verify")
    assert checks["ok"]
    assert {each["name"] for each in checks["checks"]} >= {"ledger", "decisions", "shards", "branches", "metrics"}
    points = cockpit.json("sql", "SELECT count(*) FROM points")["rows"]
    assert cockpit.json("rebuild")["events"] == cockpit.json("status")["events"]
    assert cockpit.json("sql", "SELECT count(*) FROM points")["rows"] == points
    would = cockpit.json("gc", "--dry-run")
    assert would["dry_run"]
    assert would["removed"] > 0
    trees = sorted(each.name for each in lab.state.trees.iterdir())
    done = cockpit.json("gc")
    assert (done["removed"], done["bytes"]) == (would["removed"], would["bytes"])
    assert sorted(each.name for each in lab.state.trees.iterdir()) != trees
    assert cockpit.json("gc")["removed"] == 0
    assert cockpit.json("verify")["ok"]
    for words in (("verify",), ("rebuild",), ("gc",)):
        assert cockpit(*words)[0] == 0


def test_pause_and_resume(cockpit: Cockpit) -> None:
    assert cockpit.json("pause", "--why", "the cluster is wanted") == {"paused": True}
    wait_for(lambda: cockpit.json("status")["phase"] == "paused: the cluster is wanted")
    assert cockpit.json("resume") == {"paused": False}
    wait_for(lambda: not cockpit.json("status")["phase"].startswith("paused"))


def test_propose_adds_what_the_proposer_still_has(lab: TinyLab, cockpit: Cockpit) -> None:
    (lab.root / "proposals" / "900.md").write_text(rate(0.9))
    with lab.session() as session:
        added = cockpit.json("propose", "-n", "1")["added"] or [row["id"] for row in waiting(session)]
        assert rows(session, "proposal")[added[0]]["hypothesis"] == "A rate of 0.9 is better"
    assert cockpit.json("propose")["added"] == []
    assert "nothing more" in cockpit("propose")[1]


def test_doctor_checks_machine_and_lab(cockpit: Cockpit) -> None:
    code, out = cockpit("doctor", "--json")
    found = json.loads(out)
    assert code == (0 if found["ok"] else 1)
    assert all(each["state"] in ("ok", "warn", "fail") for each in found["checks"])
    assert cockpit("doctor")[0] == code


def test_version(cockpit: Cockpit) -> None:
    code, out = cockpit("--version")
    assert code == 0
    assert out.startswith("research-cockpit ")


# --- the trunk, sign-off, down and a broken ledger (each a lab of its own) -----------------------------------------------


def test_sign_trunk_and_down(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    lab = tiny(better(1))
    cockpit = Cockpit(lab.root, capsys)
    assert cockpit.json("status") == {"running": False, "root": str(lab.root)}
    assert cockpit.json("down") == {"stopped": False}
    with lab.session() as session:
        row = wait_for(lambda: waiting(session))[0]
        decide(session, row)
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        assert row["diff_hash"] in cockpit.json("sign", "0001", code=2)["error"]
        assert cockpit.json("sign", "0001", "--diff", row["diff_hash"], "--why", "clear")["state"] == "merged"
        wait_for(lambda: cockpit.json("show", "0001")["state"] == "merged")
        assert "in the trunk already" in cockpit.json("sign", "0001", "--diff", row["diff_hash"], code=1)["error"]
    trunk = cockpit.json("trunk")
    assert (trunk["branch"], trunk["trunk_ahead"], trunk["trunk_behind"]) == ("main", 2, 0)
    head = lab.git("rev-parse", "HEAD")
    pushed = cockpit.json("trunk", "push")
    assert pushed["run"] == ["git", "merge", "--ff-only", "cockpit/trunk"]
    assert lab.git("rev-parse", "HEAD") == head
    lab.git(*pushed["run"][1:])
    assert cockpit.json("trunk", "push")["done"] == "your branch has all of the trunk already"
    assert cockpit.json("trunk", "pull")["done"] == "the trunk has all of your branch already"
    lab.git("commit", "-q", "--allow-empty", "-m", "My own idea")
    assert "pulled" in cockpit.json("trunk", "pull")["done"]
    assert lab.git("merge-base", "--is-ancestor", "main", "cockpit/trunk") == ""
    assert cockpit("trunk")[0] == 0
    assert cockpit.json("down")["stopped"] is True
    assert not is_running(lab.state)
    assert cockpit("down") == (0, "no engine runs\n")
    assert cockpit.json("verify")["ok"]
    assert cockpit("verify")[0] == 0


def test_a_broken_ledger_is_found_with_its_line_and_nothing_starts_on_it(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(better(1))
    cockpit = Cockpit(lab.root, capsys)
    with lab.session() as session:
        wait_for(lambda: waiting(session))
    lab.stop()
    raw = lab.state.ledger.read_bytes()
    lab.state.ledger.write_bytes(raw.replace(b'"type":"config', b'"type":"confog', 1))
    code, out = cockpit("verify")
    assert code == 1
    assert "ledger.jsonl:2" in out
    found = cockpit.json("verify", code=1)
    assert not found["ok"]
    assert "ledger.jsonl:2" in found["checks"][0]["detail"]
    error = cockpit.json("up", code=1)["error"]
    assert "ledger.jsonl:2" in error
    assert "restore the file" in error
    lab.state.ledger.write_bytes(raw)
    assert cockpit.json("up")["lab"]["name"] == "tiny"
    assert cockpit.json("down")["stopped"]


# --- no lab here -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [("up",), ("down",), ("status",), ("ls",), ("rank",), ("sql", "SELECT 1"), ("approve", "p1"), ("verify",), ("gc",)],
)
def test_outside_a_lab_it_is_said_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    cockpit = Cockpit(tmp_path, capsys)
    assert "cockpit init" in cockpit.json(*words, code=2)["error"]
    assert cockpit(*words)[0] == 2
    assert "cockpit init" in cockpit.err
    assert list(tmp_path.iterdir()) == []


def test_without_a_command_and_without_a_terminal_the_headless_ones_are_named(
    lab: TinyLab, cockpit: Cockpit, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cockpit()[0] == 2
    assert "need a terminal" in cockpit.err
    assert cockpit("no-such-command")[0] == 2


def test_a_lab_file_that_is_wrong_is_told_by_key_and_line(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    lab = tiny(better(1))
    config = lab.root / "cockpit.toml"
    config.write_text(config.read_text().replace("seeds = [0, 1, 2]", "seeds = [0, 1, 2]\nsedes = [3]"))
    error = Cockpit(lab.root, capsys).json("up", code=1)["error"]
    assert "cockpit.toml:" in error
    assert "sedes" in error


def test_init_makes_a_lab_that_the_engine_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = tmp_path / "research"
    repository.mkdir()
    cockpit = Cockpit(repository, capsys)
    assert "error" in cockpit.json("init", "--yes", code=1)
    (repository / "train.py").write_text("import sys\nprint('step 1 loss 2.0')\n")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "Begin")):
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *who, *words], cwd=repository, check=True)
    made = cockpit.json("init", "--yes")
    assert made["root"] == str(repository)
    assert (repository / "cockpit.toml").is_file()
    again = cockpit.json("init", "--yes", code=1)
    assert "cockpit.toml" in again["error"]


def test_a_reader_that_has_seen_enough_is_no_error(lab: TinyLab) -> None:
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "cockpit.cli", "-C", str(lab.root), "ls"]
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, cwd=ROOT, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
