"""A researcher runs `cockpit init` in repositories of several kinds and gets a lab file that loads."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import edits, init, lab
from engine.detect import Repository, runner
from engine.script_facts import facts
from engine.wiring import wire

AUTORESEARCH_TRAIN = '''
"""One file, one metric."""
import os
os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"

import time
import torch
from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, evaluate_bpb

torch.manual_seed(42)
torch.cuda.manual_seed(42)
total = 0.0
step = 0
while total < TIME_BUDGET:
    loss = torch.ones(1, requires_grad=True).sum()
    loss.backward()
    print(f"\\rstep {step:05d} ({100 * total / TIME_BUDGET:.1f}%) | loss: {loss:.6f} | dt: 3ms", end="", flush=True)
    step += 1
print()
val_bpb = evaluate_bpb(None, None, 1)
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {total:.1f}")
'''
AUTORESEARCH_PREPARE = """
import os
MAX_SEQ_LEN = 2048
TIME_BUDGET = 300        # seconds
CACHE_DIR = os.path.join(os.path.expanduser("~"), ".cache", "autoresearch")
class Tokenizer: ...
def evaluate_bpb(model, tokenizer, batch_size):
    return 1.0
"""
ARGPARSE_TRAIN = """
import argparse
import torch
from model import Net
from dataset import batches

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-n", "--max-steps", type=int, default=200)
    parser.add_argument("--out-dir", default="out")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    for step in range(args.max_steps):
        loss = Net()(batches())
        loss.backward()
        print(f"step {step}: train loss {loss:.4f}, val loss {loss:.4f}")
    torch.save({}, args.out_dir)

if __name__ == "__main__":
    main()
"""
GLOBALS_TRAIN = """
import time
import torch

max_iters = 600000  # how long
eval_interval = 2000
seed_offset = 0
torch.manual_seed(1337 + seed_offset)
generator = torch.Generator().manual_seed(7)
val_generator = torch.Generator().manual_seed(8)
for it in range(max_iters):
    loss.backward()
    print(f"iter {it}: loss {loss:.4f}, time {time.time():.2f}ms")
"""


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-c", "user.name=R", "-c", "user.email=r@example.org", *arguments],
        cwd=root, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


def repository(root: Path, files: dict[str, str]) -> Path:
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "code")
    return root


def initialise(root: Path, answers: dict[str, str] | None = None) -> tuple[init.InitPlan, lab.Lab]:
    plan = init.plan(root, answers, env={})
    init.write(plan)
    return plan, lab.load(root)


def applied(text: str, path: str, source: str) -> str:
    """The source after the drafted proposal, by the applier that takes every other proposal."""
    after = edits.apply(edits.parse(text), {path: source.encode()}.get, path.__eq__, lambda _: False)[path]
    assert after is not None
    return after.decode()


class TestRepositories:
    def test_an_autoresearch_pair_is_recognised(self, tmp_path: Path) -> None:
        root = repository(
            tmp_path / "auto research", {"train.py": AUTORESEARCH_TRAIN, "prepare.py": AUTORESEARCH_PREPARE}
        )
        plan, made = initialise(root)
        assert made.metric.name == "val_bpb"
        assert (made.metric.source, made.metric.direction, made.metric.loss) == ("summary", "min", "loss")
        assert made.compare == "time"
        assert made.rungs[0].budget == 300
        assert made.rungs[0].timeout_s > 600
        assert made.is_editable("train.py")
        assert made.is_protected("prepare.py")
        assert made.command == ("{python}", "train.py")
        assert made.fill_env(made.values("screen", 3, root)) == {"COCKPIT_SEED": "3", "COCKPIT_BUDGET": "300"}
        assert plan.questions == ()
        assert made.smoke is None
        assert any("No smoke run: the budget cannot be set from outside yet" in finding for finding in plan.findings)
        assert "# [smoke]" in plan.toml
        assert "# budget = 10  # seconds" in plan.toml
        assert [name for name, _ in plan.inbox] == ["0001-wire-seed-and-budget.md"]
        assert (root / ".cockpit/inbox/0001-wire-seed-and-budget.md").read_text() == plan.inbox[0][1]

    def test_its_wiring_makes_seed_and_budget_obey_the_environment(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"train.py": AUTORESEARCH_TRAIN, "prepare.py": AUTORESEARCH_PREPARE})
        plan, _ = initialise(root)
        after = applied(plan.inbox[0][1], "train.py", AUTORESEARCH_TRAIN)
        assert after.count('manual_seed(int(os.environ.get("COCKPIT_SEED", "42")))') == 2
        body = after.split("import time", 1)[1].split("torch.manual_seed", 1)[0].replace("import torch\n", "")
        space: dict[str, object] = {"os": type("os", (), {"environ": {"COCKPIT_BUDGET": "7"}})}
        exec(
            body.replace("from prepare import MAX_SEQ_LEN, TIME_BUDGET, Tokenizer, evaluate_bpb", "TIME_BUDGET = 300"),
            space,
        )
        assert space["TIME_BUDGET"] == 7

    def test_a_script_with_arguments_needs_no_wiring(self, tmp_path: Path) -> None:
        files = {
            "train.py": ARGPARSE_TRAIN,
            "model.py": "class Net: ...",
            "dataset.py": "def batches(): ...",
            "evaluate.py": "print('scores')",
        }
        root = repository(tmp_path / "lab", files)
        plan, made = initialise(root)
        expected = ("{python}", "train.py", "--seed", "{seed}", "--max-steps", "{budget}", "--out-dir", "{run_dir}")
        assert made.command == expected
        assert plan.inbox == ()
        assert made.env == {}
        assert made.rungs[0].budget == 200
        assert made.smoke is not None
        assert (made.smoke.budget, made.smoke.timeout_s) == (1, made.rungs[0].timeout_s)
        assert not any("smoke" in finding for finding in plan.findings)
        assert made.editable == ("train.py", "model.py")
        assert made.is_protected("dataset.py")
        assert made.is_protected("evaluate.py")
        assert (made.metric.name, made.metric.source, made.metric.loss) == ("val_loss", "regex", "train_loss")
        assert any("requires --data" in finding for finding in plan.findings)

    def test_the_pattern_reads_the_line_that_the_script_prints(self, tmp_path: Path) -> None:
        _, made = initialise(repository(tmp_path / "lab", {"train.py": ARGPARSE_TRAIN}))
        assert made.metric.pattern is not None
        found = re.search(made.metric.pattern, "step 250: train loss 2.3000, val loss 1e-05\n")
        assert found is not None
        assert found.groupdict() == {"step": "250", "train_loss": "2.3000", "val_loss": "1e-05"}

    def test_hard_coded_globals_are_wired_with_an_import(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"train.py": GLOBALS_TRAIN})
        plan, made = initialise(root)
        after = applied(plan.inbox[0][1], "train.py", GLOBALS_TRAIN)
        assert 'max_iters = int(os.environ.get("COCKPIT_BUDGET", "600000"))  # how long' in after
        assert 'torch.manual_seed(int(os.environ.get("COCKPIT_SEED", "1337")) + seed_offset)' in after
        assert "val_generator = torch.Generator().manual_seed(8)" in after  # held-out data stays as it was
        assert after.count("import os\n") == 1
        assert made.rungs[0].budget == 1000  # a full run is no screening run
        assert any("No checkpoint is saved" in finding for finding in plan.findings)

    def test_a_uv_project_names_the_environment_that_uv_makes(self, tmp_path: Path) -> None:
        files = {"pyproject.toml": "[project]\nname='x'\n", "uv.lock": "", "src/pretrain.py": ARGPARSE_TRAIN}
        root = repository(tmp_path / "lab", files)
        plan, made = initialise(root)
        assert made.interpreter() == str(root / ".venv/bin/python")
        assert made.command[:2] == ("{python}", "src/pretrain.py")
        assert any("uv sync" in finding for finding in plan.findings)

    def test_a_repository_with_only_a_readme_is_asked_about(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"README.md": "# soon"})
        assert [question.key for question in init.questions(root)] == ["script", "metric"]
        plan, made = initialise(root)
        assert made.command == ("{python}", "train.py")
        assert any("No training script" in finding for finding in plan.findings)

    def test_answers_override_what_was_detected(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"train.py": ARGPARSE_TRAIN, "other/go.py": GLOBALS_TRAIN})
        _, made = initialise(root, {"script": "other/go.py", "metric": "my_bpb", "budget": "12"})
        assert "other/go.py" in made.command
        assert (made.metric.name, made.rungs[0].budget) == ("my_bpb", 12)

    def test_names_that_need_quoting_survive(self, tmp_path: Path) -> None:
        root = repository(tmp_path / 'a "lab" {x} \\ é', {"train.py": ARGPARSE_TRAIN})
        _, made = initialise(root)
        assert made.name == root.name

    def test_only_committed_code_counts(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"README.md": "x"})
        (root / "train.py").write_text(ARGPARSE_TRAIN)
        assert "script" in [question.key for question in init.questions(root)]

    @pytest.mark.parametrize("text", ["def broken(:\n", "\x00", "print 'two'\n", "x = 1\r\nloss.backward()\r\n"])
    def test_a_script_that_does_not_parse_is_said_so(self, tmp_path: Path, text: str) -> None:
        root = repository(tmp_path / "lab", {"train.py": text})
        plan, made = initialise(root)
        assert made.command
        assert plan.inbox == ()


class TestWriting:
    def test_git_status_shows_the_lab_file_alone_and_nothing_tracked_changes(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"train.py": AUTORESEARCH_TRAIN, "prepare.py": AUTORESEARCH_PREPARE})
        (root / "train.py").write_text("work in progress")
        head, stash = git(root, "rev-parse", "HEAD"), git(root, "stash", "list")
        initialise(root)
        assert git(root, "status", "--porcelain").split("\n")[:-1] == [" M train.py", "?? cockpit.toml"]
        assert (git(root, "rev-parse", "HEAD"), git(root, "stash", "list")) == (head, stash)

    def test_a_new_lab_is_judged_one_seed_after_the_other(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"train.py": ARGPARSE_TRAIN})
        initialise(root)
        made = lab.load(root).judge
        assert (made.mode, made.calibration) == ("fast", 8)

    def test_the_state_directory_is_excluded_once_also_in_a_linked_worktree(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"train.py": ARGPARSE_TRAIN})
        (root / ".git/info/exclude").write_text("*.tmp")  # without a newline at its end
        git(root, "worktree", "add", "-q", str(tmp_path / "linked tree"), "-b", "other")
        linked = tmp_path / "linked tree"
        assert (linked / ".git").is_file()
        initialise(linked)
        assert git(linked, "status", "--porcelain") == "?? cockpit.toml\n"
        initialise(root)
        assert (root / ".git/info/exclude").read_text() == "*.tmp\n/.cockpit/\n"

    def test_a_lab_is_never_overwritten(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"train.py": ARGPARSE_TRAIN})
        plan = init.plan(root, env={})
        (root / "cockpit.toml").write_text("mine")
        with pytest.raises(init.InitError, match="a lab already"):
            init.write(plan)
        with pytest.raises(init.InitError, match="a lab already"):
            init.plan(root, env={})
        assert (root / "cockpit.toml").read_text() == "mine"

    def test_a_state_directory_that_leads_elsewhere_is_refused(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"train.py": GLOBALS_TRAIN})
        (tmp_path / "elsewhere").mkdir()
        (root / ".cockpit").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(init.InitError, match="symbolic link"):
            init.write(init.plan(root, env={}))
        assert list((tmp_path / "elsewhere").iterdir()) == []

    def test_init_works_from_a_directory_below_the_root(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"src/train.py": ARGPARSE_TRAIN})
        plan = init.plan(root / "src", env={})
        assert plan.root == root
        assert any("whole repository" in finding for finding in plan.findings)

    def test_clear_errors(self, tmp_path: Path) -> None:
        with pytest.raises(init.InitError, match=r"not inside a git work tree.*git init"):
            init.plan(tmp_path)
        git(tmp_path, "init", "-q")
        with pytest.raises(init.InitError, match=r"no commit yet.*commit it"):
            init.plan(tmp_path)
        root = repository(tmp_path / "lab", {"train.py": ARGPARSE_TRAIN})
        with pytest.raises(init.InitError, match=r"'nope.py' is not committed.*train.py"):
            init.plan(root, {"script": "nope.py"})
        with pytest.raises(init.InitError, match="not a budget"):
            init.plan(root, {"budget": "soon"})


def seen(
    files: tuple[str, ...] = (), disk: tuple[str, ...] = (), env: dict[str, str] | None = None, **texts: str
) -> Repository:
    """A repository of committed `files` and things on `disk`; `environment_yml=` is the text of environment.yml."""
    read = lambda path: texts.get(path.replace(".", "_"))  # noqa: E731
    return Repository("My Lab", files, read, disk.__contains__, env or {}, "/cockpit")


class TestRunners:
    def test_its_own_virtual_environment_comes_first(self) -> None:
        assert (
            runner(seen(disk=("venv/bin/python", "/a/bin/python"), env={"VIRTUAL_ENV": "/a"})).python
            == "venv/bin/python"
        )

    def test_an_active_environment_counts_unless_it_is_the_cockpits(self) -> None:
        assert runner(seen(disk=("/a/bin/python",), env={"VIRTUAL_ENV": "/a"})).python == "/a/bin/python"
        assert runner(seen(disk=("/cockpit/bin/python",), env={"VIRTUAL_ENV": "/cockpit"})).python is None

    def test_a_python_on_the_path_counts_when_it_can_train(self, tmp_path: Path) -> None:
        root = repository(tmp_path / "lab", {"train.py": ARGPARSE_TRAIN})
        fake = tmp_path / "bin/python3"
        fake.parent.mkdir()
        for code, expected in ((0, "python3"), (1, None)):
            fake.write_text(f"#!/bin/sh\nexit {code}\n")
            fake.chmod(0o755)
            made = lab.parse(init.plan(root, env={"PATH": f"{fake.parent}:{os.environ['PATH']}"}).toml, root)
            assert made.python == expected

    def test_conda(self) -> None:
        files, text = ("environment.yml",), "name: gpt\ndependencies: []\n"
        active = {"CONDA_PREFIX": "/c/envs/gpt", "CONDA_DEFAULT_ENV": "gpt"}
        assert runner(seen(files, env=active, environment_yml=text)).python == "/c/envs/gpt/bin/python"
        found = runner(seen(files, ("/h/miniforge3/envs/gpt/bin/python",), {"HOME": "/h"}, environment_yml=text))
        assert found.python == "/h/miniforge3/envs/gpt/bin/python"
        as_it_stands = runner(seen(files, environment_yml=text))
        assert as_it_stands.prefix[:2] == ("conda", "run")
        assert "conda env create" in as_it_stands.finding

    def test_a_container_file_alone_gives_the_command_as_it_stands(self, tmp_path: Path) -> None:
        found = runner(seen(("Dockerfile", "train.py")))
        assert found.prefix[:2] == ("docker", "run")
        assert "my-lab" in found.prefix
        assert runner(seen(("Dockerfile",), ("/.dockerenv",))).python == "python3"
        root = repository(tmp_path / "lab", {"Dockerfile": "FROM x", "train.py": GLOBALS_TRAIN})
        _, made = initialise(root)
        assert made.values("screen", 1, tmp_path)["run_dir"] == str(tmp_path)
        assert made.command[0] in ("docker", "{python}")  # the second where the tests themselves run in a container


PARTS = (
    "torch.manual_seed(42)",
    "torch.manual_seed(1); torch.manual_seed(2)",
    "torch.manual_seed(\n    1 + x\n)",
    "np.random.seed(seed)",
    "def f():\n    torch.manual_seed(9)\n    return 1",
    "seed = 4",
    "if x:\n    seed = 2",
    "max_steps = 100",
    "import torch",
    "import os",
    "x = 1",
    "",
    "# note",
    '"""text\nover lines"""',
)


class TestWiring:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("import random\nrandom.seed(1)\n", 'random.seed(int(os.environ.get("COCKPIT_SEED", "1")))'),
            ("SEED = 3\ntorch.manual_seed(SEED)\n", 'SEED = int(os.environ.get("COCKPIT_SEED", "3"))'),
            ("key = jax.random.PRNGKey(0)\n", 'jax.random.PRNGKey(int(os.environ.get("COCKPIT_SEED", "0")))'),
            ("@dataclass\nclass C:\n    seed: int = 5\n", 'seed: int = int(os.environ.get("COCKPIT_SEED", "5"))'),
            (
                "é = 'ü'; torch.manual_seed(6)  # ö\n",
                'é = \'ü\'; torch.manual_seed(int(os.environ.get("COCKPIT_SEED", "6")))  # ö',
            ),
            ("TIME_BUDGET = 5 * 60\n", 'TIME_BUDGET = int(os.environ.get("COCKPIT_BUDGET", 5 * 60))'),
            ("def main():\n    num_steps = 10\n", 'num_steps = int(os.environ.get("COCKPIT_BUDGET", "10"))'),
            ("max_steps = 1e4\n", 'max_steps = float(os.environ.get("COCKPIT_BUDGET", 1e4))'),
        ],
    )
    def test_constants_become_defaults(self, before: str, after: str) -> None:
        done = wire("a.py", before, seed=True, budget=True)
        assert done.text is not None
        result = applied(done.text, "a.py", before)
        assert after in result
        assert result.index("import os") < result.index("os.environ")

    def test_import_goes_below_docstring_future_and_shebang(self) -> None:
        text = '#!/usr/bin/env python\n"""Doc."""\nfrom __future__ import annotations\n\ntorch.manual_seed(1)\n'
        done = wire("a.py", text, seed=True, budget=False)
        assert done.text is not None
        result = applied(done.text, "a.py", text)
        assert result.startswith("#!/usr/bin/env python\n")
        assert ast.get_docstring(ast.parse(result)) == "Doc."
        compile(result, "a.py", "exec")

    @pytest.mark.parametrize(
        "text", ["x = 1\n", "torch.manual_seed(args.seed)\n", "torch.manual_seed(1)\r\n", "def (\n"]
    )
    def test_nothing_to_wire_is_said_in_words(self, text: str) -> None:
        done = wire("a.py", text, seed=True, budget=True)
        assert done.text is None
        assert "a.py" in done.note

    @settings(max_examples=120, deadline=None)
    @given(st.lists(st.sampled_from(PARTS), max_size=14))
    def test_any_drafted_wiring_applies_and_changes_constants_only(self, parts: list[str]) -> None:
        text = "".join(f"{part}\n" for part in parts)
        done = wire("a.py", text, seed=True, budget=True)
        if done.text is None:
            return
        result = applied(done.text, "a.py", text)
        ast.parse(result)
        assert facts(result).seeds == ()  # every constant that was found now reads the environment
        assert facts(result).budget is None
        undone = result.replace("import os\n", "")
        for name in ("COCKPIT_SEED", "COCKPIT_BUDGET"):
            undone = re.sub(rf'int\(os\.environ\.get\("{name}", "(\d+)"\)\)', r"\1", undone)
        assert undone == text.replace("import os\n", "")
