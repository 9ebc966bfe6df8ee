"""A researcher brings last year's runs into the lab: they answer in SQL, marked unverified, and a rebuild makes them again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cockpit.attach import Session
from cockpit.cli import main
from engine.rpc import RpcError
from tests.tinylab import TinyLab

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"


def told(session: Session, path: Path, **more: Any) -> dict[str, Any]:
    return dict(session.call("import", path=str(path), request_id="r", **more))


def rows(session: Session, sql: str) -> list[Any]:
    return list(session.call("sql", text=sql)["rows"])


def night(lab: TinyLab) -> Path:
    """One night of autoresearch in the lab: a keep on a branch, a discard that was reset away, one that is gone."""
    commits = []
    train = (lab.root / "train.py").read_text()
    for rate in ("2.0", "3.0"):
        (lab.root / "train.py").write_text(train.replace("RATE = 1.0", f"RATE = {rate}"))
        lab.git("commit", "-q", "-am", f"rate {rate}")
        commits.append(lab.git("rev-parse", "HEAD").strip())
    lab.git("branch", "night", commits[0])
    lab.git("reset", "-q", "--hard", "HEAD~2")
    path = lab.root / "results.tsv"
    path.write_text(
        f"{HEADER}{commits[0][:7]}\t0.9979\t44.0\tkeep\tbaseline\n{commits[1][:7]}\t0.9860\t44.0\tdiscard\trate 3\n"
        "feedbee\t0.000000\t0.0\tcrash\tOOM at batch 64\nand then I went to bed\n"
    )
    return path


def test_a_night_of_autoresearch_is_imported_with_its_commits(tiny: Callable[..., TinyLab]) -> None:
    lab = tiny()
    path = night(lab)
    with lab.session() as session:
        first = told(session, path)
        assert (first["first"], first["format"], first["runs"]) == (True, "autoresearch", 3)
        assert (first["total"], first["header"], first["run"], first["not_understood"]) == (5, 1, 3, 1)
        assert first["problems"][0]["line"] == 5
        assert first["commits"] == {"named": 3, "branch": 1, "dangling": 1, "missing": 1, "diffs": 2}
        found = rows(
            session, "SELECT place, metric, outcome, commit_state, gain > 0, verified FROM imported ORDER BY n"
        )
        assert found == [
            [2, 0.9979, "finished", "branch", False, False],
            [1, 0.986, "finished", "dangling", True, False],
            [None, None, "oom", "missing", None, False],
        ]
        ((diff,),) = rows(session, "SELECT diff FROM imported WHERE place = 2")
        assert "+RATE = 2.0" in session.call("body", hash=diff)["text"]
        assert rows(session, "SELECT count(*) FROM shards WHERE metric < 1") == [[0]]
        assert session.call("rank")["experiments"] == []


def test_importing_twice_changes_nothing_and_a_rebuild_makes_it_again(tiny: Callable[..., TinyLab]) -> None:
    lab = tiny()
    path = night(lab)
    everything = "SELECT * FROM imported ORDER BY run"
    with lab.session() as session:
        first = told(session, path)
        acts = "SELECT count(*) FROM events WHERE type = 'history.imported'"
        before = rows(session, everything)
        path.rename(lab.root / "elsewhere.tsv")
        again = told(session, lab.root / "elsewhere.tsv")
        assert (again["first"], again["import"]) == (False, first["import"])
        assert (rows(session, everything), rows(session, acts)) == (before, [[1]])
        (lab.root / "elsewhere.tsv").unlink()
        session.call("rebuild")
        assert rows(session, everything) == before
        assert all(each["ok"] for each in session.call("verify")["checks"])


def test_a_wrong_guess_is_put_right_in_place(tiny: Callable[..., TinyLab], tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("trial,val_loss,accuracy\n1,3.0,0.5\n2,2.0,0.7\n")
    lab = tiny()
    with lab.session() as session:
        first = told(session, path)
        assert rows(session, "SELECT measure, direction, metric FROM imported ORDER BY n")[0] == [
            "val_loss",
            "min",
            3.0,
        ]
        again = told(session, path, mapping={"metric": "accuracy"})
        assert (again["first"], again["import"]) == (True, first["import"])
        assert rows(session, "SELECT measure, direction, place FROM imported ORDER BY n") == [
            ["accuracy", "max", 2],
            ["accuracy", "max", 1],
        ]
        session.call("rebuild")
        assert rows(session, "SELECT measure, place FROM imported ORDER BY n") == [["accuracy", 2], ["accuracy", 1]]


def test_what_cannot_be_imported_is_refused_with_what_to_do(tiny: Callable[..., TinyLab], tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "prose.txt").write_text("nothing\n")
    (tmp_path / "runs.csv").write_text("a,val_loss\n1,2\n")
    with tiny().session() as session:
        for name, asked, why in (
            ("link.csv", {}, "symbolic link"),
            ("pipe.csv", {}, "no plain file"),
            ("none.csv", {}, "cannot be read"),
            ("prose.txt", {}, "--format"),
            ("runs.csv", {"format": "excel"}, "no format"),
            ("runs.csv", {"mapping": {"metric": "nope"}}, "it has a, val_loss"),
            ("runs.csv", {"mapping": {"colour": "a"}}, "no such role"),
            ("runs.csv", {"format": "wandb"}, "tells of a run"),
        ):
            with pytest.raises(RpcError, match=why):
                told(session, tmp_path / name, **asked)
        with pytest.raises(RpcError, match="relative"):
            told(session, Path("runs.csv"))
        assert session.call("imports")["imports"] == []


def test_points_of_curves_come_in_with_their_runs(tiny: Callable[..., TinyLab], tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"run": run, "step": step, "val_loss": 3 - run - step / 10} for run in (0, 1) for step in range(5)]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines) + '{"run": 1, "step": 5, "val_loss": NaN}\n')
    with tiny().session() as session:
        assert told(session, path)["points"] == 11
        assert rows(session, "SELECT name, outcome, metric FROM imported ORDER BY n") == [
            ["0", "finished", 2.6],
            ["1", "nonfinite", None],
        ]
        assert rows(session, "SELECT count, nonfinite, min FROM imported_summaries ORDER BY run") == [
            [5, 0, 2.6],
            [6, 1, 1.6],
        ]
        assert rows(session, "SELECT count(*) FROM points WHERE metric = 'val_loss'") == [[0]]


def test_the_command_reports_where_each_line_went(
    tiny: Callable[..., TinyLab], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.tsv"
    path.write_text(f"{HEADER}aaaa111\t0.9\t1.0\tkeep\tbaseline\n\x1b[2Jgone\n# a comment\n")
    assert main(["import", str(path), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "lines     4 = 1 of runs + 1 header + 1 comments and blanks + 1 not understood" in shown
    assert "? line 3: neither a comment nor a row of the table: ␛[2Jgone" in shown
    assert main(["import", str(path), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"][0]["line"] == 3
    lab = tiny()
    with lab.session():
        assert main(["-C", str(lab.root), "import", str(path)]) == 0
        shown = capsys.readouterr().out
        assert "unverified" in shown
        assert "cockpit sql imported" in shown
        assert main(["-C", str(lab.root), "import", str(path)]) == 0
        assert "nothing changed" in capsys.readouterr().out
        assert main(["-C", str(lab.root), "sql", "imported", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["rows"][0][2:4] == [1, 0.9]
    assert main(["import", str(tmp_path / "none"), "--dry-run"]) == 1
    assert main(["import", str(path), "--dry-run", "--map", "metric"]) == 2


def test_a_source_whose_body_was_lost_costs_itself_alone(tiny: Callable[..., TinyLab], tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("name,val_loss\na,1.0\n")
    two.write_text("name,val_loss\nb,2.0\n")
    lab = tiny()
    with lab.session() as session:
        told(session, one)
        told(session, two)
        body = next(each["body"] for each in session.call("imports")["imports"] if each["name"] == "one.csv")
        (lab.state.blobs / body[:2] / body).unlink()
        session.call("rebuild")
        assert rows(session, "SELECT name, metric FROM imported") == [["b", 2.0]]
        assert any("one.csv" in each for each in session.call("status")["warnings"])
        assert [each["name"] for each in session.call("verify")["checks"] if not each["ok"]] == ["bodies"]


def test_a_file_outside_any_repository_says_nothing_of_commits(tiny: Callable[..., TinyLab], tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    path.write_text(f"{HEADER}aaaa111\t0.9\t1.0\tkeep\tbaseline\n")
    lab = tiny()
    with lab.session() as session:
        assert told(session, path)["commits"] == {"named": 1, "branch": 0, "dangling": 0, "missing": 0, "diffs": 0}
    with tiny().session() as session:
        found = told(session, path, repo=str(lab.root))
        assert found["commits"]["missing"] == 1
        assert any("not linked" in each for each in told(session, night(lab), repo=str(tmp_path))["notes"])
