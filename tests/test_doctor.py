"""A researcher asks the doctor, on a machine and in labs with one thing wrong at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine import doctor, doctor_machine
from engine.doctor import Check, checks
from engine.paths import StateDir
from engine.shards.sandbox import Probe

LAB = """\
[lab]
command = ["{python}", "train.py", "--seed", "{seed}"]
editable = ["train.py"]
[metric]
name = "val_loss"
[rungs.screen]
budget = 3
timeout = "3m"
"""
KEY = "sk-ant-very-secret-0123456789"


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with a key in it and a private runtime directory."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime) if len(str(runtime)) < 60 else "")
    monkeypatch.setenv("TMPDIR", "/tmp")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ANTHROPIC_API_KEY": KEY,
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
    }


def make_lab(root: Path, toml: str = LAB, train: str = "print(1)\n") -> Path:
    root.mkdir()
    (root / "train.py").write_text(train)
    who = ["-c", "user.name=R", "-c", "user.email=r@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "code"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    (root / "cockpit.toml").write_text(toml)
    with (root / ".git/info/exclude").open("a") as file:
        file.write("/.cockpit/\n")
    return root


def named(name: str, found: list[Check]) -> Check:
    return next(check for check in found if check.name == name)


def states(found: list[Check]) -> Mapping[str, str]:
    return {check.name: check.state for check in found}


class TestALab:
    def test_a_healthy_lab_has_no_failure_and_no_secret_is_shown(self, tmp_path: Path, env: dict[str, str]) -> None:
        found = checks(make_lab(tmp_path / "my lab"), env)
        assert [check for check in found if check.state == "fail" and check.name != "disk space"] == []
        assert {"python", "git", "lab", "repository", "code", "interpreter", "slots", "state", "socket"} <= states(
            found
        ).keys()
        assert KEY not in repr(found)
        assert all(check.detail and "\n" not in check.detail + check.fix for check in found)
        assert all(check.fix for check in found if check.state != "ok")

    def test_without_a_lab_it_says_how_to_get_one(self, env: dict[str, str]) -> None:
        assert "cockpit init" in named("lab", checks(None, env)).fix

    def test_every_problem_of_the_lab_file_is_a_line(self, tmp_path: Path, env: dict[str, str]) -> None:
        root = make_lab(tmp_path / "lab", LAB.replace("budget = 3", 'budget = "x"').replace('"3m"', '"soon"'))
        failed = [check for check in checks(root, env) if check.name == "lab"]
        assert [check.state for check in failed] == ["fail", "fail"]
        assert "cockpit.toml:7: rungs.screen.budget" in failed[0].detail

    def test_an_interpreter_that_is_not_there(self, tmp_path: Path, env: dict[str, str]) -> None:
        root = make_lab(tmp_path / "lab", LAB.replace("[lab]\n", '[lab]\npython = ".venv/bin/python"\n'))
        found = named("interpreter", checks(root, env))
        assert found.state == "fail"
        assert str(root / ".venv/bin/python") in found.detail

    def test_torch_is_asked_for_only_where_the_code_imports_it(self, tmp_path: Path, env: dict[str, str]) -> None:
        fake = tmp_path / "python"
        refuse = 'echo "ModuleNotFoundError: No module named torch" >&2; exit 1'
        fake.write_text(f'#!/bin/sh\ncase "$2" in *torch*) {refuse};; esac\nexec "{sys.executable}" "$@"\n')
        fake.chmod(0o755)
        toml = LAB.replace("[lab]\n", f'[lab]\npython = "{fake}"\n')
        assert "torch" not in states(checks(make_lab(tmp_path / "plain", toml), env))
        found = named("torch", checks(make_lab(tmp_path / "torch", toml, "import torch.nn as nn\n"), env))
        assert found.state == "fail"
        assert "No module named torch" in found.detail

    def test_no_secret_reaches_the_interpreter_of_the_lab(self, tmp_path: Path, env: dict[str, str]) -> None:
        fake = tmp_path / "python"
        fake.write_text(f'#!/bin/sh\nenv > "{tmp_path}/seen"\necho 3.11\n')
        fake.chmod(0o755)
        checks(make_lab(tmp_path / "lab", LAB.replace("[lab]\n", f'[lab]\npython = "{fake}"\n')), env)
        seen = (tmp_path / "seen").read_text()
        assert "HOME=" in seen
        assert KEY not in seen

    def test_code_that_is_not_committed(self, tmp_path: Path, env: dict[str, str]) -> None:
        root = make_lab(tmp_path / "lab", LAB.replace('"train.py"', '"go.py"'))
        (root / "go.py").write_text("")
        details = [check.detail for check in checks(root, env) if check.name == "code"]
        assert details[0] == "lab.command names go.py, which is not committed"
        assert 'no committed file matches editable "go.py"' in details
        assert "no committed file may be edited" in details

    def test_a_repository_without_a_commit(self, tmp_path: Path, env: dict[str, str]) -> None:
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
        (tmp_path / "cockpit.toml").write_text(LAB)
        assert named("repository", checks(tmp_path, env)).state == "fail"

    def test_what_makes_verdicts_impossible_or_weak_is_said(self, tmp_path: Path, env: dict[str, str]) -> None:
        toml = LAB.replace(', "--seed", "{seed}"', "") + "[run]\nseeds = [1]\nslots = 1000\n"
        found = checks(make_lab(tmp_path / "lab", toml.replace("[lab]\n", '[lab]\nmounts = ["no"]\n')), env)
        seeds = [check.detail for check in found if check.name == "seeds"]
        assert "1 seeds give no verdict" in seeds[0]
        assert "the same run" in seeds[1]
        assert {name: states(found)[name] for name in ("slots", "scoring", "mounts")} == dict.fromkeys(
            ("slots", "scoring", "mounts"), "warn"
        )

    def test_state_that_git_would_track(self, tmp_path: Path, env: dict[str, str]) -> None:
        root = make_lab(tmp_path / "lab")
        (root / ".git/info/exclude").write_text("")
        assert named("git exclude", checks(root, env)).state == "warn"


class TestTheMachine:
    @pytest.mark.parametrize(
        ("code", "said", "state"),
        [
            (0, "git version 2.39.5", "ok"),
            (0, "git version 2.37.1 (Apple Git)", "fail"),
            (127, "No such file", "fail"),
            (0, "?", "fail"),
        ],
    )
    def test_git(self, code: int, said: str, state: str) -> None:
        assert doctor_machine.git(code, said).state == state

    @pytest.mark.parametrize(
        ("path", "state", "kind"),
        [
            ("/home/a/lab/.cockpit", "warn", "nfs4"), ("/home/ab", "ok", "ext4"), ("/scratch/x", "warn", "lustre"),
            ("/mnt/my disk/lab", "warn", "fuse.sshfs"), ("/local", "ok", "xfs"),
        ],
    )  # fmt: skip
    def test_the_kind_of_disk(self, path: str, state: str, kind: str) -> None:
        mounts = (
            "/dev/sda / ext4 rw 0 0\nserver:/a /home/a nfs4 rw 0 0\nl /scratch lustre rw 0 0\n"
            "s /mnt/my\\040disk fuse.sshfs rw 0 0\n/dev/sdb /local xfs rw 0 0\n"
        )
        found = doctor.filesystem(path, mounts)
        assert found.state == state
        assert kind in found.detail
        assert doctor.filesystem(path, "").state == "ok"

    def test_space_and_watches(self) -> None:
        sizes = [doctor.space(int(gib * doctor.GIB), Path("/x")).state for gib in (0.5, 5, 50)]
        assert sizes == ["fail", "warn", "ok"]
        assert [doctor.inotify(text, "linux").state for text in ("", "100\n", "524288\n")] == ["warn", "warn", "ok"]
        assert doctor.inotify("", "darwin").state == "ok"

    def test_a_socket_path_that_does_not_fit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setattr("tempfile.gettempdir", lambda: "/tmp/" + "x" * 90)
        assert named("socket", doctor.state_checks(StateDir(tmp_path))).state == "fail"

    def test_a_runtime_directory_that_others_may_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with tempfile.TemporaryDirectory(prefix="ck-") as place:  # short: a socket's path has to fit below it
            shared = Path(place) / "cockpit"
            shared.mkdir()
            shared.chmod(0o777)
            monkeypatch.setattr("engine.paths.runtime_base", lambda: shared)
            assert "not a private directory" in named("socket", doctor.state_checks(StateDir(tmp_path))).detail

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
    def test_a_state_directory_that_cannot_be_written(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        assert named("state", doctor.state_checks(StateDir(tmp_path / "s"))).state == "fail"

    def test_isolation_is_what_was_tried_and_says_what_is_missing(self) -> None:
        assert doctor_machine.isolation(Probe(3)).state == "ok"
        second = doctor_machine.isolation(Probe(2, ("level 3 needs bubblewrap",)))
        assert (second.state, second.fix) == ("warn", "level 3 needs bubblewrap")
        first = doctor_machine.isolation(Probe(1, ("level 3 needs bubblewrap", "level 2: landlock is not there")))
        assert "limits only" in first.detail
        assert "level 3 needs bubblewrap; level 2: landlock" in first.fix

    def test_a_key_is_counted_not_shown(self) -> None:
        assert KEY not in repr(doctor_machine.key({"ANTHROPIC_API_KEY": KEY}))
        assert doctor_machine.key({}).state == "warn"


class TestTheTerminal:
    def look(self, **env: str) -> list[Check]:
        return list(doctor_machine.terminal({"PATH": os.environ["PATH"], **env}))

    def test_a_good_one(self) -> None:
        found = self.look(TERM="xterm-256color", COLORTERM="truecolor", LANG="en_GB.UTF-8")
        assert set(states(found).values()) == {"ok"}

    def test_a_poor_one(self) -> None:
        found = states(self.look(TERM="dumb", LC_ALL="C", LANG="en_GB.UTF-8"))
        assert found == {"terminal": "warn", "colours": "warn", "character set": "warn"}

    def test_an_environment_full_of_escapes_is_made_harmless(self) -> None:
        assert "\x1b" not in "".join(
            check.detail for check in self.look(TERM="\x1b]52;c;AAAA\x07", LANG="\x1b[31mUTF-8")
        )

    def test_ssh_is_told_what_helps(self) -> None:
        found = named("ssh", self.look(TERM="xterm", SSH_CONNECTION="192.0.2.7 1 192.0.2.8 22"))
        assert "ssh -C" in found.fix
        assert "192.0.2" not in found.detail

    def test_tmux(self) -> None:
        assert doctor_machine.tmux("tmux 3.3a", "external").state == "ok"
        assert doctor_machine.tmux("tmux 3.3a", "off").state == "warn"
        assert doctor_machine.tmux("tmux 2.9", "on").state == "warn"
        assert doctor_machine.tmux("No such file", "").state == "warn"


def test_a_lab_with_gpus_hears_that_its_boxes_of_level_2_are_none(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "probe", lambda: Probe(2, ("level 3 needs bubblewrap: apt install it",)))
    root = make_lab(tmp_path / "lab")
    assert "box" not in {each.name for each in checks(root, {**env, "CUDA_VISIBLE_DEVICES": ""})}
    found = named("box", checks(root, {**env, "CUDA_VISIBLE_DEVICES": "0"}))
    assert (found.state, found.detail) == (
        "warn",
        "limits only for shards with GPUs: CUDA does not start in a box of level 2 (Landlock)",
    )
    assert found.fix == "install bubblewrap for level 3; level 3 needs bubblewrap: apt install it"
    (root / "cockpit.toml").write_text(LAB + '[run]\nisolation = "require-2"\n')
    found = named("box", checks(root, {**env, "CUDA_VISIBLE_DEVICES": "0"}))
    assert found.state == "fail"
    assert "nothing is started" in found.detail
    assert "CUDA does not start in a box of level 2 (Landlock): install bubblewrap for level 3" in found.detail


def test_a_cluster_is_looked_at_where_shards_run_on_one(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "cockpit.toml").write_text(LAB + '[run]\nexecutor = "slurm"\n[slurm]\ngpus = 4\npartition = "gpu"\n')
    found = {each.name: each for each in checks(tmp_path, {**env, "PATH": "/nonexistent"})}
    assert found["slurm"].state == "fail"
    assert "login node" in found["slurm"].fix
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("salloc", "srun", "squeue", "sinfo", "scancel", "scontrol", "sbatch"):
        (tools / name).write_text("#!/bin/sh\necho 'gpu up 1-00:00:00 16'\n")
        (tools / name).chmod(0o755)
    found = {each.name: each for each in checks(tmp_path, {**env, "PATH": f"{tools}:{env['PATH']}"})}
    assert found["slurm"].state == "ok"
    assert "1 node with 4 GPUs for 4 h on partition gpu" in found["slurm"].detail
    assert found["shared files"].state == "warn"
    assert "clocks" not in found  # there are no files yet whose clock could be looked at
    (tmp_path / ".cockpit").mkdir()
    found = {each.name: each for each in checks(tmp_path, {**env, "PATH": f"{tools}:{env['PATH']}"})}
    assert found["clocks"].state == "ok"
    assert list((tmp_path / ".cockpit").glob(".clock*")) == []


def test_a_table_for_a_cluster_that_is_not_used_is_told(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "cockpit.toml").write_text(LAB + "[slurm]\ngpus = 4\n")
    found = {each.name: each for each in checks(tmp_path, env)}
    assert found["slurm"].state == "warn"
    assert 'executor = "slurm"' in found["slurm"].fix
