"""`cockpit doctor` finds, before anything is asked for, what Slurm would refuse and what another lab has taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.doctor import checks
from engine.doctor_machine import Check
from engine.shards.slurm import owner
from tests.slurm.cluster import Cluster
from tests.test_doctor import LAB


def looked(root: Path, slurm: Cluster, keys: str) -> dict[str, Check]:
    root.mkdir(exist_ok=True)
    (root / "cockpit.toml").write_text(f'{LAB}[run]\nexecutor = "slurm"\n[slurm]\npartition = "low"\n{keys}')
    return {each.name: each for each in checks(root, slurm.env)}


def test_what_slurm_would_never_give_is_found_and_nothing_is_asked_of_it(slurm: Cluster, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    fits = looked(lab, slurm, "nodes = 2\ngpus = 4\n")["slurm"]
    assert (fits.state, fits.detail) == ("ok", "2 nodes with 4 GPUs each for 4 h on partition low: 8 shards at once")
    for keys, word in (("nodes = 9\ngpus = 4\n", "not available"), ('gpus = 4\nargs = ["--nonsense"]\n', "--nonsense")):
        found = looked(lab, slurm, keys)["slurm"]
        assert found.state == "fail"
        assert word in found.detail
        assert "[slurm]" in found.fix
    assert slurm.run("squeue", "--noheader") == ""


def test_a_pilot_that_would_only_have_to_wait_is_well(slurm: Cluster, tmp_path: Path) -> None:
    slurm.run("sbatch", "--nodes=2", "--gres=gpu:4", "--output=/dev/null", "--wrap=sleep 600")
    assert looked(tmp_path / "lab", slurm, "nodes = 2\ngpus = 4\n")["slurm"].state == "ok"


def test_a_shared_directory_of_another_lab_is_found(slurm: Cluster, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    keys = f'gpus = 4\nshared = "{shared}"\n'
    assert looked(tmp_path / "lab", slurm, keys)["shared files"].state == "ok"
    shared.mkdir()
    owner.take(shared, tmp_path / "other" / ".cockpit")
    found = looked(tmp_path / "lab", slurm, keys)["shared files"]
    assert found.state == "fail"
    assert str(tmp_path / "other") in found.detail


@pytest.mark.parametrize("where", ["a file", "below a file"])
def test_a_shared_directory_that_can_never_be_made_is_found(slurm: Cluster, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    shared = tmp_path / "file" if where == "a file" else tmp_path / "file" / "shared"
    assert looked(tmp_path / "lab", slurm, f'gpus = 4\nshared = "{shared}"\n')["shared files"].state == "fail"
