"""A shard on a real GPU through Slurm, which names it; skipped where there is no GPU."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.paths import StateDir
from engine.shards.devices import any_gpu
from engine.shards.sandbox import choose, lab_box, probe, wrap
from engine.shards.slurm.order import GPUS
from engine.shards.spec import shard_env
from tests import test_gpu as one_machine
from tests.slurm.cluster import NODES, Cluster
from tests.slurm.shards import endings, output, piloted, record, shard

a_gpu = one_machine.a_gpu
LOOKS = """
import os, torch
print(os.environ["CUDA_VISIBLE_DEVICES"], torch.cuda.device_count(), torch.ones(8, device="cuda").sum().item())
"""


@pytest.fixture
def slurm(a_gpu: None) -> Iterator[Cluster]:
    """A cluster whose nodes say that they have this machine's first GPU."""
    place = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    made = Cluster(place, gpus=1)
    node = next(each for each in any_gpu() if each.name[6:].isdigit() and each.exists())
    (place / "gres.conf").write_text(f"NodeName={','.join(NODES)} Name=gpu File={node}\n")
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(place, ignore_errors=True)


async def test_a_boxed_step_of_the_pilot_computes_on_the_gpu_that_slurm_gave_it(slurm: Cluster, tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    async with piloted(slurm, state, nodes=1, gpus=1) as executor:
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "looks.py").write_text(LOOKS)
        run_dir = state.runs / "looks"
        env = shard_env({}, (), threads=1, gpus=(GPUS,), run_dir=run_dir, tree=tree)
        argv = (sys.executable, "looks.py")
        box = lab_box(
            choose("auto", probe(), gpus=True)[0],
            interpreter=argv[0],
            tree=tree,
            run_dir=run_dir,
            data=(),
            mounts=(),
            gpus=(GPUS,),
            private=(state.root,),
            lab_root=tmp_path / "lab",
        )
        asked = wrap(shard(state, "looks", argv=argv, cwd=str(tree), env=env), replace(box, devices=any_gpu()))
        await executor.launch(asked)
        ended = record((await endings(executor, 1))["looks"])
        assert (ended.how, ended.code) == ("exited", 0), output(state, "looks")
        visible, count, total = output(state, "looks").splitlines()[-1].split()
        assert visible.isdigit()
        assert (count, total) == ("1", "8.0")
