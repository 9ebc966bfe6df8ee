"""What docs/logging.md tells people to paste into their training code is read as it was meant, to the last line."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import Any

from benchmarks.logging_cost import lines
from engine.files import read_regular
from engine.watch.parse import make_parser

ROOT = Path(__file__).resolve().parent.parent


def metrics(code: str, path: Path) -> Any:
    """The class `Metrics` of this code, writing to `path`."""
    names: dict[str, Any] = {}
    exec(compile(code, "logging.md", "exec"), names)
    return names["Metrics"](path)


def test_the_lines_of_the_page_are_read_back_number_by_number(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = metrics(lines(), path)
    log.summarise(steps=3, tokens=300)
    log.log(0, loss=2.5, lr=0.001)
    log.log(1, loss=math.nan, lr=math.inf)
    log.summarise(val_bpb=1.25)
    found = make_parser("jsonl").feed(read_regular(path, 1 << 20))
    assert found.summary == {"steps": 3.0, "tokens": 300.0, "val_bpb": 1.25}
    assert [point.step for point in found.points] == [0, 1]
    assert found.points[0].values == {"loss": 2.5, "lr": 0.001}
    assert math.isnan(found.points[1].values["loss"])
    assert all(point.t is not None for point in found.points)
    assert (found.garbage, found.ignored, found.consumed) == (0, 0, path.stat().st_size)


def test_each_call_is_one_whole_line_in_the_file_when_it_returns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    one, other = metrics(lines(), path), metrics(lines(), path)  # two ranks, one file
    for step in range(4):
        (one if step % 2 else other).log(step, loss=1.0)
        assert [json.loads(line)["step"] for line in path.read_bytes().splitlines()] == list(range(step + 1))


def test_there_are_no_more_lines_than_are_promised() -> None:
    assert len(lines().splitlines()) <= 15


def test_the_sample_lab_logs_in_the_same_way(tmp_path: Path) -> None:
    tree = ast.parse((ROOT / "sample_runs" / "nanolm" / "train.py").read_text())
    (theirs,) = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == "Metrics"]
    code = "from __future__ import annotations\nimport json, os\n" + ast.unparse(theirs)
    row = {"step": 1, "t": 2.0, "loss": math.nan}
    for name, text in (("page", lines()), ("lab", code)):
        metrics(text, tmp_path / name).write(row)
    assert (tmp_path / "page").read_bytes() == (tmp_path / "lab").read_bytes()
