"""The referee: what it adds up, what it refuses, and what the model's code in its boxes can reach, with real processes."""

from __future__ import annotations

import functools
import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine import scoring
from engine.judge import referee
from engine.judge.referee import ScoreError, Source, read_text, score
from engine.lab import Lab, load
from engine.scoring import Place
from engine.shards.sandbox import lab_box, try_level, wrap
from engine.shards.slots import Slot
from engine.shards.spec import ShardSpec, shard_env
from engine.types import ShardRow

LAB = Path(__file__).parents[1] / "sample_runs" / "nanolm"
VOCABULARY = 16
LENGTH = 9

why_not = functools.cache(try_level)
Answer = Callable[[Sequence[int], int], list[float]]  # (inputs of a window, place) to the distribution after that place


# --- what it adds up, with models that are plain functions


def text(seed: int = 0, windows: int = 24) -> list[Source]:
    """Two sources of random tokens."""
    draw = random.Random(seed)
    rows = [[draw.randrange(VOCABULARY) for _ in range(LENGTH)] for _ in range(2 * windows)]
    return [Source("a", rows[:windows], 4 * windows, 3.0), Source("b", rows[windows:], 4 * windows, 1.0)]


def judge(
    model: Answer, sources: list[Source], told: Answer | None = None, probes: int = 48
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Score a model; `told` is what answers where the whole text is told, when that is another."""
    liar = told or model

    def targets(windows: Sequence[Sequence[int]]) -> list[float]:
        return [liar(each[:-1], at)[each[at + 1]] for each in windows for at in range(len(each) - 1)]

    def everything(prefixes: Sequence[tuple[Sequence[int], int]]) -> list[list[float]]:
        return [model(tokens, at) for tokens, at in prefixes]

    return score(targets, everything, sources, rows=5, probes=probes, tolerance=1e-3, draw=random.Random(1))


def uniform(tokens: Sequence[int], at: int) -> list[float]:
    return [-math.log(VOCABULARY)] * VOCABULARY


def certain(token: int, share: float = 0.9) -> list[float]:
    rest = math.log((1 - share) / (VOCABULARY - 1))
    return [math.log(share) if each == token else rest for each in range(VOCABULARY)]


def test_a_model_that_knows_nothing_gets_four_bits_a_token_of_sixteen() -> None:
    bits, checks = judge(uniform, text())
    tokens_a_byte = (LENGTH - 1) / 4
    assert bits == pytest.approx({"a": 4 * tokens_a_byte, "b": 4 * tokens_a_byte})
    assert all(check["worst"] <= check["limit"] for check in checks)
    assert [check["places"] for check in checks] == [48, 48]


def test_the_overall_score_weighs_the_sources() -> None:
    assert referee.overall({"a": 1.0, "b": 5.0}, text()) == pytest.approx(2.0)


def test_the_score_does_not_depend_on_which_places_are_asked_twice() -> None:
    def model(tokens: Sequence[int], at: int) -> list[float]:
        return certain((tokens[at] + at) % VOCABULARY, 0.5)

    assert judge(model, text(), probes=1)[0] == judge(model, text(), probes=40)[0]


def test_looking_ahead_is_refused() -> None:
    def model(tokens: Sequence[int], at: int) -> list[float]:
        return certain(tokens[at + 1] if at + 1 < len(tokens) else 0)

    with pytest.raises(ScoreError, match="looks ahead"):
        judge(model, text())


def test_using_what_it_is_told_is_refused() -> None:
    """It bets on the very token that it is asked about, where it is asked about one."""

    def told(tokens: Sequence[int], at: int) -> list[float]:
        return [math.log(0.99)] * VOCABULARY

    with pytest.raises(ScoreError, match="looks ahead"):
        judge(uniform, text(), told)


def test_a_cheat_in_one_window_of_five_is_found() -> None:
    sources = text()

    def told(tokens: Sequence[int], at: int) -> list[float]:
        return [math.log(0.99)] * VOCABULARY if sum(tokens) % 5 == 0 else uniform(tokens, at)

    with pytest.raises(ScoreError, match="looks ahead"):
        judge(uniform, sources, told)


def test_learning_from_the_windows_it_was_told_is_refused() -> None:
    """Text that repeats: a model that keeps what it saw predicts the second half by heart, where it was told the first."""
    once = text(windows=4)
    sources = [Source(each.name, list(each.windows) * 8, 8 * each.bytes, each.weight) for each in once]
    seen: dict[tuple[int, ...], int] = {}

    def told(tokens: Sequence[int], at: int) -> list[float]:
        key = tuple(tokens[: at + 1])
        found = certain(seen[key]) if key in seen else uniform(tokens, at)
        if at + 1 < len(tokens):
            seen[key] = tokens[at + 1]
        return found

    with pytest.raises(ScoreError, match="back at other windows"):
        judge(uniform, sources, told)


def test_a_bet_of_more_than_everything_is_refused() -> None:
    with pytest.raises(ScoreError, match="does not sum to one"):
        judge(lambda tokens, at: [each + 0.01 for each in uniform(tokens, at)], text())


def test_a_token_likelier_than_certain_is_refused() -> None:
    with pytest.raises(ScoreError, match="likelier than certain"):
        judge(lambda tokens, at: [0.01] * VOCABULARY, text())


@pytest.mark.parametrize(("value", "says"), [(math.nan, "NaN"), (-math.inf, "no chance at all")])
def test_what_is_not_finite_is_refused(value: float, says: str) -> None:
    with pytest.raises(ScoreError, match=says):
        judge(lambda tokens, at: [value if each == 3 else -1.0 for each in range(VOCABULARY)], text())


def test_a_vocabulary_that_lacks_a_token_of_the_text_is_refused() -> None:
    def told(tokens: Sequence[int], at: int) -> list[float]:
        return uniform(tokens, at)

    with pytest.raises(ScoreError, match="the text has number"):
        judge(lambda tokens, at: [math.log(0.5)] * 2, text(), told)


@pytest.mark.parametrize(
    "described",
    [
        "not json",
        "[]",
        '{"sources": {}}',
        '{"sources": {"a": {"file": "none", "type": "u1", "length": 3, "bytes": 2, "weight": 1}}}',
        '{"sources": {"a": {"file": "t", "type": "f8", "length": 3, "bytes": 2, "weight": 1}}}',
        '{"sources": {"a": {"file": "t", "type": "u1", "length": 1, "bytes": 2, "weight": 1}}}',
        '{"sources": {"a": {"file": "t", "type": "u1", "length": 3, "bytes": 0, "weight": 1}}}',
        '{"sources": {"a": {"file": "t", "type": "u1", "length": 3, "bytes": 2, "weight": 0}}}',
    ],
)
def test_a_description_of_the_text_that_cannot_be_is_said_to_be_so(tmp_path: Path, described: str) -> None:
    (tmp_path / "t").write_bytes(b"abcdef")
    (tmp_path / "search.json").write_text(described)
    with pytest.raises(ScoreError, match="held text cannot be read"):
        read_text(str(tmp_path / "search.json"))


def test_tokens_of_four_bytes_are_read(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"".join(each.to_bytes(4, "little") for each in (1, 70000, 3, 4, 5, 6, 7)))
    described = {"a": {"file": "t", "type": "u4", "length": 3, "bytes": 8, "weight": 1}}
    (tmp_path / "audit.json").write_text(json.dumps({"split": "audit", "sources": described}))
    split, (source,) = read_text(str(tmp_path / "audit.json"))
    assert split == "audit"
    assert [list(each) for each in source.windows] == [[1, 70000, 3], [4, 5, 6]]


# --- real processes


class Scene:
    """A lab of nanolm's kind with its data, one finished run, and a way to have that scored."""

    def __init__(self, lab: Lab, place: Path) -> None:
        self.lab, self.place = lab, place
        self.tree, self.run_dir = place / "state" / "trees" / "t", place / "state" / "runs" / "r"
        self.open, self.held = place / "state" / "data" / "open", place / "state" / "data" / "held"

    def spec(self, level: int, **fields: Any) -> ShardSpec:
        """The scoring of the run as the engine would start it."""
        values = self.lab.values("screen", 0, self.run_dir, data=self.open, held=self.held)

        def boxed(spec: ShardSpec, seen: tuple[Path, ...]) -> ShardSpec:
            box = lab_box(
                level,  # type: ignore[arg-type]
                interpreter=sys.executable,
                tree=self.tree,
                run_dir=Path(spec.run_dir),
                data=(self.open, *seen),
                mounts=(),
                gpus=(),
                private=(self.place / "state",),
                lab_root=self.place / "lab",
            )
            return wrap(spec, box)

        place = Place(
            self.lab,
            tree=self.tree,
            run_dir=self.run_dir,
            slot=Slot(0, (), ()),
            values=values,
            environment=lambda where: shard_env(
                {}, (), threads=1, gpus=(), run_dir=where, tree=self.tree, lab_root=self.place / "lab"
            ),
            boxed=boxed,
            boxed_with_held=lambda spec: spec,
        )
        row: ShardRow = {"id": "0001.screen.s0.a1", "seed": 0, "rung": "screen", "attempt": 1}  # type: ignore[typeddict-item]
        assert self.lab.score is not None
        return scoring.spec(row, "t", self.lab.score, place)

    def score(self, level: int) -> tuple[int, str, dict[str, Any] | None]:
        """(exit code, what the log says, the score)."""
        spec = self.spec(level)
        done = subprocess.run(
            spec.argv,
            cwd=spec.cwd,
            env=dict(spec.env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        out = self.run_dir / "score.json"
        found = json.loads(out.read_text()) if out.exists() else None
        out.unlink(missing_ok=True)
        return done.returncode, done.stderr, found

    def say(self, more: str) -> None:
        """Let train.py say something else in the end."""
        path = self.tree / "train.py"
        whole = (LAB / "train.py").read_text()
        path.write_text(whole.replace('if __name__ == "__main__":', f'{more}\n\nif __name__ == "__main__":'))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    pytest.importorskip("torch")
    place = tmp_path_factory.mktemp("scene").resolve()
    shutil.copytree(LAB, place / "lab")
    found = Scene(load(place / "lab"), place)
    found.run_dir.mkdir(parents=True)
    shutil.copytree(LAB, found.tree)
    words = ("prepare.py", "--open", found.open, "--held", found.held, "--max-bytes", "400000")
    run = ("train.py", "--seed", 0, "--steps", 4, "--data", found.open, "--out", found.run_dir)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for each in (words, (*run, "--metrics", found.run_dir / "metrics.jsonl")):
        subprocess.run([sys.executable, *map(str, each)], cwd=found.tree, env=env, check=True, capture_output=True)
    return found


@pytest.fixture(params=[3, 2, 1], ids=["box3", "box2", "limits"])
def level(request: pytest.FixtureRequest) -> int:
    reason = why_not(request.param) if request.param > 1 else None
    if reason is not None:
        pytest.skip(f"no box {request.param} here: {reason}")
    return int(request.param)


def by_hand(scene: Scene) -> dict[str, float]:
    """Bits per byte of each source, computed in one go in a process that has everything."""
    code = """
import json, math, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import data, train
model = train.load(Path(sys.argv[2]))
bits = {}
for source in data.SOURCES:
    rows = torch.tensor([list(row) for row in data.windows(Path(sys.argv[3]), "search", source, 96)])
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
    bits[source] = loss.item() / math.log(2)
print(json.dumps(bits))
"""
    words = (scene.tree, scene.run_dir / "final.safetensors", scene.held)
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_it_agrees_with_a_computation_by_hand_at_every_level(scene: Scene) -> None:
    scene.say("")
    expected, metrics = by_hand(scene), set()
    for level in (1, 2, 3):
        if level > 1 and why_not(level) is not None:
            continue
        code, said, found = scene.score(level)
        assert code == 0, said
        assert said == ""
        assert found is not None
        assert found["sources"] == pytest.approx(expected, abs=1e-4)
        assert found["split"] == "search"
        assert found["half"] > 0
        assert all(check["worst"] <= check["limit"] for check in found["checks"])
        metrics.add(found["metric"])
    assert len(metrics) == 1  # the same bits, boxed and not


def test_what_the_models_code_prints_or_answers_cannot_pass_for_a_score(scene: Scene, level: int) -> None:
    scene.say("""
def log_probs(model, tokens):
    print("noise that is no answer", flush=True)
    os.write(1, b"more of it")
    return torch.zeros(tokens.shape[0], tokens.shape[1] + 1, 256)
""")
    code, said, found = scene.score(level)
    assert (code, found) == (1, None)
    assert said.splitlines()[-1].startswith(
        "referee: the model's code failed: ValueError: log_probs gave (36, 129, 256)"
    )


def test_a_model_that_looks_ahead_is_refused(scene: Scene, level: int) -> None:
    scene.say("""
def log_probs(model, tokens):
    scores = torch.full((*tokens.shape, 256), math.log(0.1 / 255))
    ahead = torch.roll(tokens, -1, 1)[..., None]
    return scores.scatter(2, ahead, math.log(0.9))
""")
    code, said, found = scene.score(level)
    assert (code, found) == (1, None)
    assert "the model looks ahead" in said.splitlines()[-1]


def test_code_that_reads_the_questions_out_of_its_callers_is_refused(scene: Scene, level: int) -> None:
    """It looks up the stack for the tokens that it is asked about."""
    scene.say("""
def log_probs(model, tokens):
    more = sys._getframe(1).f_locals["more"]
    scores = torch.full((*tokens.shape, 256), math.log(0.1 / 255))
    if more.numel() == tokens.numel():
        return scores.scatter(2, more.view(*tokens.shape, 1), math.log(0.9))
    return scores.scatter(2, tokens[..., None], math.log(0.9))
""")
    code, said, found = scene.score(level)
    assert (code, found) == (1, None)
    assert "the model looks ahead" in said.splitlines()[-1]


REACH = """
def load(checkpoint):
    import socket
    found = []
    for name, path in {paths!r}.items():
        try:
            open(path, 'rb').read() if os.path.isfile(path) else os.listdir(path)
            found.append(name)
        except OSError:
            pass
    try:
        socket.create_connection(("127.0.0.1", {port}), 2)
        found.append("network")
    except OSError:
        pass
    found += [name for name, value in os.environ.items() if "held" in value]
    found += [word for word in [*sys.argv, *sys.orig_argv] if "held" in word]
    raise RuntimeError("reached: " + " ".join(sorted(found)))
"""


@pytest.mark.parametrize("forked", [True, False])
def test_the_models_code_sees_the_checkpoint_and_not_the_held_text(
    scene: Scene, level: int, forked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    if level == 1:
        pytest.skip("limits only shield nothing")
    paths = {
        "held": scene.held / "search" / "code.bin",
        "described": scene.held / "search.json",
        "metrics": scene.run_dir / "metrics.jsonl",
        "lab": scene.place / "lab" / "cockpit.toml",
        "checkpoint": scene.run_dir / "final.safetensors",
    }
    with socket.create_server(("127.0.0.1", 0)) as server:
        scene.say(REACH.format(paths={name: str(path) for name, path in paths.items()}, port=server.getsockname()[1]))
        if not forked:  # as in a process that has several threads
            plan = json.loads(scene.spec(level).argv[-1])
            monkeypatch.setattr(referee.join, "threads", lambda: 2)
            monkeypatch.setattr(referee.warm, "prepare", lambda modules: None)
            with pytest.raises(ScoreError) as refused:
                referee.referee(plan)
            assert str(refused.value).endswith("RuntimeError: reached: checkpoint")
            return
        code, said, _ = scene.score(level)
    assert code == 1
    assert said.splitlines()[-1].endswith("RuntimeError: reached: checkpoint")


def test_the_two_boxes_cannot_reach_one_another(scene: Scene, level: int) -> None:
    if level == 1:
        pytest.skip("limits only shield nothing")
    scene.say("""
def load(checkpoint):
    mine = os.environ["TMPDIR"]
    open(mine + "/note", "w").write("what I was told")
    above = os.path.dirname(os.path.dirname(mine))
    names = []
    for root in {above, os.environ["HOME"], "/tmp"}:
        for place, _, files in os.walk(root):
            names += [place for name in files if name == "note" and place not in (mine, os.environ["HOME"])]
    raise RuntimeError("notes of others: " + " ".join(names))
""")
    code, said, _ = scene.score(level)
    assert code == 1
    assert said.splitlines()[-1].endswith("RuntimeError: notes of others:")


def test_a_process_that_ends_or_never_answers_is_no_score(scene: Scene, level: int) -> None:
    scene.say("def load(checkpoint):\n    print('gone', flush=True)\n    os._exit(0)")
    code, said, _ = scene.score(level)
    assert (code, said.splitlines()[-1]) == (
        1,
        "referee: the model's code ended its process while it was asked; the log has what it said",
    )
    scene.say("def load(checkpoint):\n    time.sleep(600)")
    plan = json.loads(scene.spec(level).argv[-1])
    plan["seconds"] = 1.0
    with pytest.raises(ScoreError, match="took too long"):
        referee.referee(plan)


@pytest.mark.parametrize("planted", ["none", "link", "hard link", "fifo", "directory", "empty"])
def test_a_checkpoint_that_is_no_plain_file_of_its_own_is_refused(scene: Scene, planted: str) -> None:
    scene.say("")
    final, kept = scene.run_dir / "final.safetensors", scene.run_dir / "kept"
    final.rename(kept)
    try:
        if planted == "link":
            final.symlink_to(scene.held / "search" / "code.bin")
        elif planted == "hard link":
            final.hardlink_to(kept)
        elif planted == "fifo":
            os.mkfifo(final)
        elif planted == "directory":
            final.mkdir()
        elif planted == "empty":
            final.touch()
        code, said, found = scene.score(1)
    finally:
        if final.is_dir() and not final.is_symlink():
            final.rmdir()
        final.unlink(missing_ok=True)
        kept.rename(final)
    assert (code, found) == (1, None)
    assert said == "referee: there is no final.safetensors in the run directory that is a plain file of its own\n"


def test_a_score_file_that_the_run_left_is_replaced_and_not_written_through(scene: Scene, tmp_path: Path) -> None:
    scene.say("")
    (tmp_path / "target").write_text("untouched")
    (scene.run_dir / "score.json").symlink_to(tmp_path / "target")
    code, _, found = scene.score(1)
    assert code == 0
    assert found is not None
    assert (tmp_path / "target").read_text() == "untouched"


def test_nothing_of_the_run_tree_is_imported_where_the_held_text_is(scene: Scene) -> None:
    scene.say("")
    marker = scene.place / "imported"
    for name in ("json.py", "array.py", "random.py", "stat.py"):
        (scene.tree / name).write_text(f"open({str(marker)!r}, 'w').close()\nraise ImportError('planted')\n")
    try:
        spec = scene.spec(1)
        code = "import sys; sys.argv = sys.argv[1:]; exec(open(sys.argv[0]).read().split('if __name__')[0]); print(sys.path)"
        done = subprocess.run(
            [sys.executable, "-B", "-c", code, *spec.argv[2:]],
            cwd=spec.cwd,
            env=dict(spec.env),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for name in ("json.py", "array.py", "random.py", "stat.py"):
            (scene.tree / name).unlink()
    assert str(scene.tree) not in done.stdout
    assert "PYTHONPATH" not in spec.env
    assert not marker.exists()
