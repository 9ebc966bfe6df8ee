"""A run that was cut off goes on: what it saved moves to the next attempt, and nothing that it planted there is followed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.shards import process
from engine.shards.resuming import begin, left_something


def cut_off(place: Path, step: str | None = "4", steps: int = 8, end: str = '{"step": 8, "lo') -> Path:
    """A run directory that an attempt left."""
    (place / "resume").mkdir(parents=True)
    (place / "resume" / "weights").write_text("w")
    if step is not None:
        (place / "resume" / "step").write_text(step)
    lines = [
        json.dumps({"summary": {"steps": 20}}),
        *(json.dumps({"step": n, "loss": 1.0 / (n + 1)}) for n in range(steps)),
    ]
    (place / "metrics.jsonl").write_text("\n".join(lines) + "\n" + end)
    return place


def resume(place: Path, earlier: Path | str, attempt: int = 2) -> Path:
    place.mkdir()
    directory = process.open_directory(str(place))
    try:
        begin(directory, str(earlier), attempt)
    finally:
        os.close(directory)
    return place


def steps_of(run: Path) -> list[int]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "step" in line]


def test_the_next_attempt_has_what_was_saved_and_the_curve_up_to_it(tmp_path: Path) -> None:
    earlier = cut_off(tmp_path / "a1")
    before = (earlier / "metrics.jsonl").read_text()
    run = resume(tmp_path / "a2", earlier)
    assert (run / "resume" / "weights").read_text() == "w"
    assert steps_of(run) == [0, 1, 2, 3, 4]
    assert (run / "metrics.jsonl").read_text().endswith('{"summary": {"resumed_at": 4, "attempt": 2}}\n')
    assert (earlier / "metrics.jsonl").read_text() == before  # measurements stay where they were made
    assert not (earlier / "resume").exists()


def test_a_first_attempt_has_an_empty_directory(tmp_path: Path) -> None:
    run = resume(tmp_path / "a1", "")
    assert list(run.iterdir()) == [run / "resume"]


@pytest.mark.parametrize("step", [None, "", "-3", "four", "4" * 400])
def test_one_that_does_not_say_its_step_goes_on_without_a_series_before_it(tmp_path: Path, step: str | None) -> None:
    run = resume(tmp_path / "a2", cut_off(tmp_path / "a1", step))
    assert (run / "resume" / "weights").exists()
    assert not (run / "metrics.jsonl").exists()


def test_an_attempt_that_vanished_with_its_directory_is_begun_again(tmp_path: Path) -> None:
    assert list((resume(tmp_path / "a2", tmp_path / "gone") / "resume").iterdir()) == []


def test_links_that_it_planted_lead_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"step": 1, "loss": 7}\n')
    earlier = cut_off(tmp_path / "a1")
    for name in ("metrics.jsonl", "resume/step"):
        (earlier / name).unlink()
    (earlier / "metrics.jsonl").symlink_to(secret)
    (earlier / "resume" / "step").write_text("4")
    assert steps_of(resume(tmp_path / "a2", earlier)) == []
    os.link(secret, tmp_path / "a2" / "resume" / "hard")
    other = cut_off(tmp_path / "b1")
    (other / "metrics.jsonl").unlink()
    os.link(secret, other / "metrics.jsonl")
    assert steps_of(resume(tmp_path / "b2", other)) == []
    outside = tmp_path / "outside"
    outside.mkdir()
    third = tmp_path / "c1"
    third.mkdir()
    (third / "resume").symlink_to(outside)
    run = resume(tmp_path / "c2", third)
    assert not (run / "resume").is_symlink()
    assert outside.is_dir()


def test_an_attempt_cut_off_before_it_took_anything_leaves_it_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = cut_off(tmp_path / "a1")
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", lambda *a, **b: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            resume(tmp_path / "a2", earlier)
    assert not left_something(str(tmp_path / "a2"))
    assert left_something(str(earlier))
    assert steps_of(resume(tmp_path / "a3", earlier, 3)) == [0, 1, 2, 3, 4]
    assert not left_something(str(earlier))
    assert left_something(str(tmp_path / "a3"))
