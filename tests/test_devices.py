"""GPUs without a GPU: which nodes a slot is given, from a faked driver, and that no warm parent ever touches CUDA."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.paths import StateDir
from engine.shards import devices, slots
from engine.shards.devices import Card, by_uuid, cards, driver_libraries, gpu_devices
from engine.shards.local import LocalExecutor
from engine.shards.sandbox import Box, lab_box, wrap
from engine.shards.slots import gpus_here
from engine.shards.spec import ShardSpec, shard_env
from tests import test_warm as warming
from tests.test_launcher import LINUX, end_of, output
from tests.test_warm import says, script, until, venv, was_warm

state, executor, tree = warming.state, warming.executor, warming.tree

INFORMATION = """\
Model: \t\t NVIDIA H200
IRQ:   \t\t 137
GPU UUID: \t {uuid}
Video BIOS: \t 96.00.99.00.01
Bus Type: \t PCIe
Bus Location: \t {bus}
Device Minor: \t {minor}
GPU Excluded:\t No
"""
# On this machine the numbers of the nodes are not in the order of the bus, as happens with several sockets.
MACHINE = (("0000:17:00.0", 1, "GPU-aaaa-1"), ("0000:3d:00.0", 0, "GPU-bbbb-2"), ("0000:60:00.0", 2, "GPU-????????"))


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for bus, minor, uuid in MACHINE:
        (tmp_path / "gpus" / bus).mkdir(parents=True)
        (tmp_path / "gpus" / bus / "information").write_text(INFORMATION.format(bus=bus, minor=minor, uuid=uuid))
    return tmp_path / "gpus"


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    (tmp_path / "dev" / "nvidia-caps").mkdir(parents=True)
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia-caps/nvidia-cap1", "null"):
        (tmp_path / "dev" / name).touch()
    return tmp_path / "dev"


def nodes(dev: Path, proc: Path, *gpus: str) -> set[str]:
    """Names of the nodes of single GPUs that a slot with these devices is given."""
    return {path.name for path in gpu_devices(gpus, dev, proc) if path.name[6:].isdigit()}


def test_the_driver_says_which_gpu_has_which_node(proc: Path, tmp_path: Path) -> None:
    assert cards(proc) == [
        Card("0000:17:00.0", 1, "GPU-aaaa-1"),
        Card("0000:3d:00.0", 0, "GPU-bbbb-2"),
        Card("0000:60:00.0", 2, None),
    ]
    assert cards(tmp_path / "none") == []


def test_a_slot_gets_its_own_gpu_by_uuid_or_number_and_no_other(proc: Path, dev: Path) -> None:
    assert nodes(dev, proc) == set()
    assert nodes(dev, proc, "GPU-aaaa-1") == {"nvidia1"}
    assert nodes(dev, proc, "GPU-bb") == {"nvidia0"}  # cut short, as CUDA takes it
    assert nodes(dev, proc, "0") == {"nvidia1"}  # the first on the bus
    assert nodes(dev, proc, "GPU-aaaa-1", "GPU-bbbb-2") == {"nvidia1", "nvidia0"}
    assert nodes(dev, proc, "MIG-GPU-bbbb-2/1/0") == {"nvidia0"}


def test_a_machine_whose_driver_says_nothing_goes_by_the_number(dev: Path, tmp_path: Path) -> None:
    assert nodes(dev, tmp_path / "none", "2") == {"nvidia2"}


def test_a_container_that_shows_one_node_and_no_driver_has_that_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvidia3", "nvidiactl"):
        (tmp_path / name).touch()
    monkeypatch.setattr(slots, "PROC", tmp_path / "none")
    monkeypatch.setattr(slots, "DEV", tmp_path)
    for module in (slots, devices):  # this machine's own driver may say more
        monkeypatch.setattr(module, "cards", lambda proc=None: [])
    monkeypatch.setenv("PATH", "/nowhere")  # no nvidia-smi
    assert gpus_here({}) == ["0"]
    assert nodes(tmp_path, tmp_path / "none", "0") == {"nvidia3"}


def test_a_driver_beside_the_system_is_found_by_shards_with_a_gpu_and_seen_in_their_box(
    proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on GKE, and on NixOS: LD_LIBRARY_PATH alone says where the driver's libraries lie."""
    driver, other = tmp_path / "driver", tmp_path / "other"
    for each in (driver, other, tmp_path / "tree", tmp_path / "run"):
        each.mkdir()
    (driver / "libcuda.so.1").touch()
    given = {"LD_LIBRARY_PATH": f"{other}:relative::{driver}:{driver}"}
    assert driver_libraries(given) == [driver]
    assert driver_libraries({}) == []

    def environment(gpus: tuple[str, ...], **lab: str) -> dict[str, str]:
        return shard_env(lab, (), 1, gpus, tmp_path / "run", tmp_path / "tree", environ=given)

    assert environment(("GPU-aaaa-1",))["LD_LIBRARY_PATH"] == str(driver)
    assert environment(("GPU-aaaa-1",), LD_LIBRARY_PATH="/opt/lib")["LD_LIBRARY_PATH"] == f"/opt/lib:{driver}"
    assert "LD_LIBRARY_PATH" not in environment(())
    monkeypatch.setenv("LD_LIBRARY_PATH", given["LD_LIBRARY_PATH"])
    for gpus in (("GPU-aaaa-1",), ()):
        box = lab_box(
            3,
            interpreter=sys.executable,
            tree=tmp_path / "tree",
            run_dir=tmp_path / "run",
            data=(),
            mounts=(),
            gpus=gpus,
            private=(),
            lab_root=tmp_path / "lab",
        )
        assert (driver in box.readable) is bool(gpus)
        assert other not in box.readable


@pytest.mark.parametrize("name", ["GPU-cccc-3", "GPU-", "MIG-77"])
def test_a_name_that_cannot_be_told_gets_all_gpus(proc: Path, dev: Path, name: str) -> None:
    assert nodes(dev, proc, name) == {"nvidia0", "nvidia1", "nvidia2"}


def test_parts_of_a_gpu_have_nodes_of_their_own(proc: Path, dev: Path) -> None:
    assert dev / "nvidia-caps" in gpu_devices(["MIG-77"], dev, proc)
    assert dev / "nvidia-caps" not in gpu_devices(["GPU-aaaa-1"], dev, proc)
    assert dev / "nvidiactl" in gpu_devices(["GPU-aaaa-1"], dev, proc)


def test_numbers_become_uuids_which_mean_the_same_in_a_box(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_uuid(["1", "2", "7", "GPU-x"], proc) == ["GPU-bbbb-2", "2", "7", "GPU-x"]
    monkeypatch.setattr(slots, "PROC", proc)
    monkeypatch.setenv("PATH", "/nowhere")  # no nvidia-smi
    monkeypatch.setattr(slots, "by_uuid", lambda names: by_uuid(names, proc))
    monkeypatch.setattr(slots, "cards", lambda: cards(proc))
    assert gpus_here({"CUDA_VISIBLE_DEVICES": "1,0"}) == ["GPU-bbbb-2", "GPU-aaaa-1"]
    assert gpus_here({}) == ["GPU-aaaa-1", "GPU-bbbb-2", "2"]


def test_a_box_binds_what_the_slot_was_given_and_its_environment_names_it(
    proc: Path, dev: Path, tmp_path: Path
) -> None:
    gpus = ("GPU-bbbb-2",)
    env = shard_env({"CUDA_VISIBLE_DEVICES": "0,1"}, (), 1, gpus, tmp_path / "run", tmp_path / "tree")
    assert (env["CUDA_VISIBLE_DEVICES"], env["CUDA_DEVICE_ORDER"]) == ("GPU-bbbb-2", "PCI_BUS_ID")
    assert shard_env({}, (), 1, (), tmp_path, tmp_path)["CUDA_VISIBLE_DEVICES"] == ""
    place = {"cwd": str(tmp_path), "run_dir": str(tmp_path / "run")}
    spec = ShardSpec(id="a", argv=("true",), env=env, timeout_s=1.0, gpus=gpus, **place)  # type: ignore[arg-type]
    argv = wrap(spec, Box(3, devices=gpu_devices(gpus, dev, proc)), "bwrap").argv
    bound = {Path(argv[at + 1]).name for at, word in enumerate(argv) if word == "--dev-bind-try"}
    assert {"nvidia0", "nvidiactl", "nvidia-uvm"} <= bound
    assert not bound & {"nvidia1", "nvidia2", "nvidia-caps"}


# --- warm parents

# As torch behaves on a machine with a GPU: to ask whether there is one initialises CUDA, unless NVML is asked.
TORCH = """
import os
class cuda:
    up = {up}
    def is_initialized(): return cuda.up
    def is_available():
        cuda.up = cuda.up or os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK") != "1"
        return True
class default_generator:
    def seed(): pass
ASKED = cuda.is_available()
"""


@LINUX
@pytest.mark.parametrize("up", [False, True])
async def test_a_warm_parent_never_initialises_cuda(
    state: StateDir, executor: LocalExecutor, tree: Path, tmp_path: Path, up: bool
) -> None:
    home = tmp_path / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (home / "torch").mkdir(parents=True)
    (home / "torch" / "__init__.py").write_text(TORCH.format(up=up))
    (home / "torch" / "_dynamo.py").touch()
    python = venv(tmp_path)
    for id in ("a", "b"):
        code = "import os, torch; print(torch.ASKED, os.environ.get('PYTORCH_NVML_BASED_CUDA_CHECK'))"
        shard = script(state, tree, code, id, warm=("torch",), argv=(str(python), f"{id}.py"))
        await executor.launch(shard)
        assert (await end_of(executor)).code == 0
        assert output(shard) == "True None\n"  # the parent's own setting is not handed on
        await until(state, lambda found: all(each["ready"] for each in found))
    assert was_warm(state, "b") is not up, says(state)
    assert ("an import initialised CUDA" in says(state)) is up
