"""A researcher takes the history into a notebook, and hands a page to somebody who uses no terminal."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from engine.history.export_files import ExportError, head_of, prepare, write_tables
from engine.history.store import Store
from tests.history_samples import losses, small_history
from tests.test_cli import Cockpit
from tests.tinylab import TinyLab, better, briefed, decide, rows, wait_for, waiting


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyLab]:
    """A lab with one solid experiment, and an engine that runs on."""
    made = TinyLab(tmp_path_factory.mktemp("exporting") / "lab", [better(1), better(2)], queue=2, slots=2)
    with made.session() as session:
        wait_for(lambda: len(waiting(session)) == 2)
        decide(session, waiting(session)[0])
        wait_for(lambda: any(_done(row) for row in rows(session, "experiment").values()))
        wait_for(lambda: briefed(session))
    yield made
    made.end()


def _done(row: dict[str, Any]) -> bool:
    return row["role"] == "experiment" and row["verdict"] is not None and row["state"] == "judged"


@pytest.fixture
def cockpit(lab: TinyLab, capsys: pytest.CaptureFixture[str]) -> Cockpit:
    return Cockpit(lab.root, capsys)


def left_behind(lab: TinyLab) -> list[Path]:
    return list(lab.root.rglob("export-*")) + list(lab.root.rglob("*.partial"))


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_the_whole_history_lands_in_a_notebook(lab: TinyLab, cockpit: Cockpit, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "it's here"
    told = cockpit.json("export", str(folder), "--format", form)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert told == manifest
    assert manifest["lab"] == "tiny"
    assert manifest["format"] == form
    named = {each["table"]: each for each in manifest["tables"]}
    assert {"experiments", "shards", "points", "proposals", "decisions", "verdicts", "events"} <= set(named)
    assert {each.name for each in folder.iterdir()} == {"manifest.json", *(each["file"] for each in named.values())}
    for each in named.values():
        body = (folder / each["file"]).read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (each["bytes"], each["sha256"])
    assert named["events"]["rows"] == manifest["head"] > 0
    answer = cockpit.json("sql", "select count(*) from points")
    assert [[named["points"]["rows"]]] == answer["rows"]
    assert _count(folder / named["points"]["file"]) == named["points"]["rows"] > 0
    assert not left_behind(lab), "the copy is gone, and the engine's own file was never touched"
    assert cockpit("verify")[0] == 0


def _count(path: Path) -> int:
    if path.suffix == ".parquet":
        return int(pq.read_table(path).num_rows)
    with path.open(newline="") as file:
        return sum(1 for _ in (csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, file)))


def test_a_few_tables_and_views_are_enough(cockpit: Cockpit, tmp_path: Path) -> None:
    code, text = cockpit("export", str(tmp_path / "few"), "--tables", "leaderboard,runs", "--format", "csv")
    assert code == 0
    assert "2 tables" in text
    assert sorted(each.name for each in (tmp_path / "few").iterdir()) == [
        "leaderboard.csv",
        "manifest.json",
        "runs.csv",
    ]
    code, _ = cockpit("export", str(tmp_path / "wrong"), "--tables", "nothing")
    assert code == 1
    assert "there is no table nothing: there are" in cockpit.err
    assert "experiments" in cockpit.err
    assert not (tmp_path / "wrong" / "manifest.json").exists()


def test_nothing_is_written_over_without_a_word(lab: TinyLab, cockpit: Cockpit, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    code, _ = cockpit("export", str(tmp_path))
    assert code == 2
    assert "is not empty" in cockpit.err
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]
    assert cockpit("export", str(tmp_path), "--force", "--tables", "lab")[0] == 0
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    page = tmp_path / "report.html"
    page.write_text("mine")
    code, _ = cockpit("report", str(page))
    assert code == 2
    assert "is there already" in cockpit.err
    assert page.read_text() == "mine"
    code, _ = cockpit("report", str(tmp_path / "no" / "report.html"))
    assert code == 2
    assert "make it first" in cockpit.err
    assert not left_behind(lab)


def test_a_copy_is_private_and_one_that_was_forgotten_goes(lab: TinyLab) -> None:
    with lab.session() as session:
        first = Path(session.call("history_copy")["path"])
        assert first.parent.stat().st_mode & 0o777 == 0o700
        assert first.stat().st_mode & 0o777 == 0o600
        os.utime(first, (0, 0))
        second = Path(session.call("history_copy")["path"])
        assert not first.exists()
        assert head_of(second) > 0
        second.unlink()


def test_the_campaign_becomes_one_page(cockpit: Cockpit, tmp_path: Path) -> None:
    told = cockpit.json("report", str(tmp_path / "campaign.html"))
    assert told["unanswered"] == []
    document = (tmp_path / "campaign.html").read_text()
    assert told["bytes"] == len(document.encode())
    assert "A rate of 3.0 is better" in document
    assert "0001.screen.s0.a1" in document
    assert document.count('<svg class="chart"') >= 2, "effects with intervals, and curves"
    assert [each.name for each in tmp_path.iterdir()] == ["campaign.html"]


def test_an_answer_is_drawn_in_the_shell(cockpit: Cockpit) -> None:
    code, text = cockpit(
        "plot", "select experiment, effect from leaderboard where effect is not null", "--as", "bars", "1", "effect"
    )
    assert code == 0
    assert text.startswith("→ effect  1 bar")
    assert "0001" in text
    assert "━" in text
    drawn = cockpit.json("plot", "curves", "--param", "shard=0001.screen.s0.a1")
    assert drawn["picture"].split("\n")[0] == f"↑ value  → step  {len(drawn['rows'])} points"
    code, _ = cockpit("plot", "curves", "--param", "shard=0001.screen.s0.a1", "--as", "bars", "step", "nothing")
    assert code == 2
    assert "there are step, value, seconds" in cockpit.err


# --- the files themselves


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    history, events = small_history()
    with_points = losses("0001.screen.s0.a1", [3.0, math.nan, math.inf, 2.5])
    store = Store.open(tmp_path / "copy.duckdb")
    store.index(history, events, len(events))
    store.append([with_points])
    store.checkpoint()
    store.close()
    return tmp_path / "copy.duckdb"


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_nan_stays_one_and_a_missing_metric_stays_missing(copy: Path, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "out"
    prepare(folder, force=False)
    write_tables(copy, folder, form, ["points", "shards"])
    reader = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}[form]
    found: Any = {}
    for name in ("points", "shards"):
        path = str(folder / f"{name}.{form}").replace("'", "''")
        found[name] = (
            duckdb.sql(f"FROM {reader}('{path}')").fetchall() if form != "jsonl" else _lines(folder / f"{name}.jsonl")
        )
    values = [row[4] for row in found["points"]]
    assert values[0] == 3.0
    assert math.isnan(values[1])
    assert math.isinf(values[2])
    metric = 8
    assert [row[metric] for row in found["shards"] if row[0] == "0003.screen.s1.a1"] == [None]


def _lines(path: Path) -> list[list[Any]]:
    return [list(json.loads(line).values()) for line in path.read_text().splitlines()]


def test_an_export_that_fails_leaves_no_half_files(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    prepare(folder, force=False)
    (folder / ".shards.csv.partial").mkdir()  # in the way of the second table
    with pytest.raises((ExportError, OSError)):
        write_tables(copy, folder, "csv", ["points", "shards"])
    assert sorted(each.name for each in folder.iterdir() if each.is_file()) == ["points.csv"]
    with pytest.raises(ExportError, match="choose parquet"):
        write_tables(copy, folder, "xlsx")
    with pytest.raises(ExportError, match="name another folder"):
        prepare(copy, force=True)
