"""The sample lab: its data, its runs and its referee keep the promises that the cockpit's statistics rest on."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from engine.judge.referee import read_text

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

LAB = Path(__file__).parents[1] / "sample_runs" / "nanolm"
FILES = ("train.py", "data.py", "probes.py", "prepare.py", "mix.toml")
CATEGORIES = (
    "architecture",
    "optimizer",
    "schedule",
    "initialisation",
    "data mix",
    "regularisation",
    "systems",
    "bug fix",
)
STEPS = 6


def python(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's files as a shard would find them."""
    folder = tmp_path_factory.mktemp("tree")
    for name in FILES:
        shutil.copy(LAB / name, folder)
    return folder


@pytest.fixture(scope="module")
def lab(tree: Path) -> Iterator[SimpleNamespace]:
    """The lab's modules, imported from that tree into this process."""
    names = ("data", "train", "prepare")
    before, bytecode = list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    modules: dict[str, ModuleType] = {name: importlib.import_module(name) for name in names}
    yield SimpleNamespace(**modules)
    torch.set_num_threads(threads)
    for name in names:
        del sys.modules[name]
    sys.path[:], sys.dont_write_bytecode = before, bytecode


@pytest.fixture(scope="module")
def prepared(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A small version of the data: the folder that training may read, and the one that it may not."""
    folder = tmp_path_factory.mktemp("data")
    return prepare(tree, folder)


def prepare(tree: Path, folder: Path) -> SimpleNamespace:
    done = python("prepare.py", "--open", folder / "open", "--held", folder / "held", "--max-bytes", 400_000, cwd=tree)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(open=folder / "open", held=folder / "held")


@pytest.fixture(scope="module")
def run(tree: Path, prepared: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one short run, made the way that the cockpit starts it."""
    folder = tmp_path_factory.mktemp("run")
    command = tomllib.loads((LAB / "cockpit.toml").read_text())["lab"]["command"]
    values = {"python": sys.executable, "seed": 0, "budget": STEPS, "data": prepared.open, "run_dir": folder}
    values["rate_scale"] = 1
    words = [word.format(**values, metrics=folder / "metrics.jsonl") for word in command]
    done = python(*words[1:], cwd=tree)
    assert done.returncode == 0, done.stderr
    return folder


def points(run: Path) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "step" in line]


def summary(run: Path) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        merged |= line.get("summary", {})
    return merged


class TestData:
    def test_making_it_twice_gives_the_same_bytes(self, tree, prepared, tmp_path):
        again = prepare(tree, tmp_path)
        for folder, other in ((prepared.open, again.open), (prepared.held, again.held)):
            files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
            assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
            assert all((folder / path).read_bytes() == (other / path).read_bytes() for path in files)

    def test_a_run_is_given_train_and_dev_alone(self, prepared):
        assert {path.name for path in prepared.open.iterdir()} == {"train", "dev", "manifest.json"}
        held = {"search", "audit", "locked", "dev"}  # of dev the windows alone, by which a run's own word is checked
        assert not list((prepared.held / "dev").glob("*.bin"))
        described = {f"{split}.json" for split in held}
        assert {path.name for path in prepared.held.iterdir()} == held | described | {"manifest.json"}
        told = json.loads((prepared.open / "manifest.json").read_text())
        assert set(told["splits"]) == {"train", "dev"}

    def test_splits_share_no_document_and_few_passages(self, lab, prepared):
        texts = {}
        for folder in (prepared.open, prepared.held):
            for split in {path.parent.name for path in folder.glob("*/*.bin")}:
                texts[split] = [
                    text for each in lab.data.SOURCES for text in lab.data.read_documents(folder, split, each)
                ]
        assert set(texts) == {"train", "dev", "search", "audit", "locked"}
        training = b"\0".join(texts["train"])
        seen = {training[at : at + 48] for at in range(len(training) - 47)}
        for split in ("dev", "search", "audit", "locked"):
            assert not set(texts[split]) & set(texts["train"])
            for text in texts[split]:
                starts = [
                    match.start() for match in re.finditer(rb"(?<!\S)\S", text) if match.start() + 48 <= len(text)
                ]
                assert sum(text[at : at + 48] in seen for at in starts) <= 0.2 * len(starts)

    def test_a_copied_document_is_dropped_from_the_held_split(self, lab):
        corpus = lab.prepare.Corpus(10**6)
        fresh = [
            bytes(f"{number} words that nobody else has written down, number {number} ", "ascii") * 3
            for number in range(9)
        ]
        for split in lab.prepare.SPLITS:
            for source in lab.prepare.SOURCES:
                corpus.texts[split, source] = []
        corpus.texts["train", "code"] = fresh[:4]
        corpus.texts["search", "docs"] = [fresh[0], fresh[5], b"and once more: " + fresh[2]]
        corpus.texts["audit", "docs"] = [fresh[5], fresh[6]]
        counts = lab.prepare.drop_overlap(corpus)
        assert corpus.texts["search", "docs"] == [fresh[5]]
        assert corpus.texts["audit", "docs"] == [fresh[6]]
        assert counts["search"] == {"same_text": 1, "shared_passages": 1, "kept": 1}

    def test_code_loses_its_docstrings_and_docs_gain_them(self, lab):
        code, docs = lab.prepare.code_and_docstrings(
            '"""About it."""\n\n\ndef f():\n    """Give one."""\n    return 1\n'
        )
        assert "About" not in code
        assert "return 1" in code
        assert docs == "About it.\n\nGive one."

    def test_the_mix_decides_what_is_drawn_and_the_rules_what_is_there(self, lab, prepared, tmp_path):
        path = tmp_path / "mix.toml"
        path.write_text("[weights]\narithmetic = 1\n[select]\nmax_bytes = 300\n")
        mix = lab.data.load_mix(path)
        batch = lab.data.Batches(prepared.open, mix, 0, 8, 64).next()
        assert len(batch) == 8 * 65
        assert set(batch) <= set(b"0123456789 +-*=\n\0")
        chosen = lab.data.select([b"abc", b"abc", b"!!!?", b"x" * 900], lab.data.Rules(0, 300, 0.5, 0.0, True))
        assert chosen == [b"abc", b"x" * 300]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[weights]\nnews = 1\n", "unknown news"),
            ("[weights]\ncode = -1\n", "code = -1 is not a weight"),
            ("[weights]\ncode = 0\n", "no source has a weight above 0"),
            ("[weights]\ncode = 1\n[select.code]\nlonger = 2\n", "unknown longer"),
            ("[weights\n", "mix.toml"),
        ],
    )
    def test_a_mix_that_makes_no_sense_is_refused_by_name(self, lab, tmp_path, text, said):
        (tmp_path / "mix.toml").write_text(text)
        with pytest.raises(lab.data.MixError, match=re.escape(said)):
            lab.data.load_mix(tmp_path / "mix.toml")


class TestTraining:
    def losses(self, lab, prepared, out: Path, seed: int, **changes: Any) -> list[float]:
        metrics = lab.train.Metrics(out / "metrics.jsonl")
        lab.train.train(seed, STEPS, prepared.open, out, metrics, lab.train.Config(**changes))
        return [point["loss"] for point in points(out)]

    def test_one_seed_gives_the_same_loss_to_the_last_bit(self, lab, prepared, run, tmp_path):
        again = self.losses(lab, prepared, tmp_path, seed=0)
        assert again == [point["loss"] for point in points(run)]
        for name in ("half.safetensors", "final.safetensors"):
            assert (tmp_path / name).read_bytes() == (run / name).read_bytes()

    def test_another_seed_gives_another_start_and_another_data_order(self, lab, prepared, run, tmp_path):
        other = self.losses(lab, prepared, tmp_path, seed=1)
        assert all(a != b.get("loss") for a, b in zip(other, points(run), strict=True))
        assert summary(tmp_path)["data_order"] != summary(run)["data_order"]

    def test_one_layer_more_leaves_the_rest_and_the_data_order_as_they_were(self, lab, prepared, run, tmp_path):
        models = []
        for layers in (2, 3):
            config = lab.train.Config(layers=layers)
            models.append(lab.train.GPT(config))
            lab.train.initialise(models[-1], 5, config)
        small, large = (dict(model.named_parameters()) for model in models)
        assert small.keys() < large.keys()
        assert all(torch.equal(small[name], large[name]) for name in small)
        self.losses(lab, prepared, tmp_path, seed=0, layers=3)
        assert summary(tmp_path)["data_order"] == summary(run)["data_order"]

    def test_metrics_say_what_a_shard_must_say(self, run):
        measured = points(run)
        assert [point["step"] for point in measured] == list(range(1, STEPS + 1))
        assert all({"loss", "grad_norm", "lr", "tokens_per_s"} <= point.keys() for point in measured)
        assert all(math.isfinite(value) for point in measured for value in point.values())
        said = summary(run)
        assert said["steps"] == STEPS
        assert said["tokens"] == STEPS * 1024
        assert said["first_loss"] == measured[0]["loss"]
        assert {"parameters", "flops_per_token", "device", "step_time", "peak_memory", "val_bpb"} <= said.keys()
        first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
        assert {"steps", "tokens"} <= first["summary"].keys()

    def test_the_schedule_stretches_to_the_budget(self, lab):
        config = lab.train.Config(final_rate=0.1)
        for steps in (10, 300):
            rates = [lab.train.rate_at(step, steps, config) for step in range(1, steps + 1)]
            assert max(rates) == pytest.approx(config.rate)
            assert rates.index(max(rates)) + 1 == round(config.warmup * steps)
            assert rates[-1] == pytest.approx(0.1 * config.rate)

    def test_it_learns(self, lab, prepared, tmp_path):
        losses = self.losses(lab, prepared, tmp_path, seed=0, rate=1e-2)
        assert losses[-1] < losses[0] - 0.5

    def test_a_loss_that_is_no_number_is_written_down_and_ends_the_run(
        self, lab, prepared, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.setattr(lab.train, "Config", functools.partial(lab.train.Config, rate=1e38))
        words = ["--seed", 0, "--steps", 9, "--data", prepared.open, "--out", tmp_path]
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words), "--metrics", str(tmp_path / "metrics.jsonl")])
        deterministic = torch.are_deterministic_algorithms_enabled()
        try:
            assert lab.train.main() == lab.train.NONFINITE_EXIT == 3
        finally:
            torch.use_deterministic_algorithms(deterministic)
        assert math.isnan(points(tmp_path)[-1]["loss"])
        assert "non-finite: the loss is nan" in capsys.readouterr().err
        assert not (tmp_path / "final.safetensors").exists()


class TestHeldText:
    def test_the_windows_that_are_scored_are_described_and_are_the_splits_own(self, lab, prepared):
        split, sources = read_text(str(prepared.held / "search.json"))
        assert split == "search"
        assert {each.name: each.weight for each in sources} == lab.data.SCORE_WEIGHTS
        for each in sources:
            rows = lab.data.windows(prepared.held, "search", each.name, lab.prepare.WINDOWS)
            assert [bytes(window) for window in each.windows] == rows
            assert each.bytes == lab.data.CONTEXT * len(rows)

    def test_each_held_split_has_windows_of_its_own(self, prepared):
        texts = {}
        for split in ("search", "audit", "locked"):
            texts[split] = {
                bytes(window) for each in read_text(str(prepared.held / f"{split}.json"))[1] for window in each.windows
            }
        assert (
            not texts["search"] & texts["audit"] | texts["search"] & texts["locked"] | texts["audit"] & texts["locked"]
        )
        assert not list(prepared.open.rglob("*.windows"))


BLOCK = re.compile(r"^(\S+)\n<{7} SEARCH\n(.*?)^={7}\n(.*?)^>{7} REPLACE$", re.S | re.M)
EDITABLE = {"train.py", "mix.toml"}


def recorded() -> list[tuple[str, dict[str, str], list[tuple[str, str, str]]]]:
    found = []
    for path in sorted((LAB / "proposals").glob("*.md")):
        header, body = path.read_text().split("\n\n", 1)
        values = dict(line.split(": ", 1) for line in header.replace("\n  ", " ").split("\n"))
        found.append((path.name, values, [match.groups() for match in BLOCK.finditer(body)]))
    return found


class TestProposals:
    def test_there_are_enough_and_each_says_what_it_expects(self):
        proposals = recorded()
        assert len(proposals) >= 18
        assert {values["category"] for _, values, _ in proposals} == set(CATEGORIES)
        for name, values, blocks in proposals:
            assert re.fullmatch(r"\d\d-[a-z0-9-]+\.md", name)
            assert values.keys() == {"hypothesis", "category", "mechanism", "prediction", "predicted_effect"}
            assert re.search(r"\d", values["prediction"]), name
            assert math.isfinite(float(values["predicted_effect"]))
            assert blocks

    def test_all_but_two_apply_and_what_comes_out_is_still_python_and_toml(self):
        unmatched, protected = [], []
        for name, _, blocks in recorded():
            texts = {path: (LAB / path).read_text() for path in {path for path, _, _ in blocks}}
            if set(texts) - EDITABLE:
                protected.append(name)
                continue
            before = dict(texts)
            if any(texts[path].count(search) != 1 for path, search, _ in blocks):
                unmatched.append(name)
                continue
            for path, search, replace in blocks:
                texts[path] = texts[path].replace(search, replace)
            assert texts != before
            for path, text in texts.items():
                ast.parse(text) if path.endswith(".py") else tomllib.loads(text)
        assert len(unmatched) == 1
        assert len(protected) == 1

    def test_the_lab_file_is_toml_that_names_the_lab_and_only_files_that_are_there(self):
        table = tomllib.loads((LAB / "cockpit.toml").read_text())
        assert table["lab"]["name"] == "nanolm"
        assert set(table["lab"]["editable"]) == EDITABLE
        assert all((LAB / path).is_file() for path in table["lab"]["editable"])
        assert {"data.py", "prepare.py"} <= set(table["lab"]["protected"])
        assert "python" not in table["lab"]
