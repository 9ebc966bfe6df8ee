"""What a job of its own runs on its node: the agent of the shard that its number stands for.

    task.main([BATCH, NUMBER])     BATCH is the directory of the batch, whose tasks.json names each shard's order and its nonce

An order that was taken away meanwhile, or replaced, is nobody's to run: the job then ends at once. Standard library only.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from engine.shards.slurm import agent
from engine.shards.slurm.order import OrderError, read
from engine.shards.slurm.step import CLAIMED


def main(argv: list[str]) -> int:
    """Do what the module's text says; the exit code is the agent's."""
    batch, number = Path(argv[0]), int(argv[1])
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if array and task:
        os.environ["SLURM_JOB_ID"] = f"{array}_{task}"  # the name by which the queue shows it, and scancel takes it
    os.environ["SLURM_STEP_ID"] = "batch"
    try:
        place, nonce = json.loads((batch / "tasks.json").read_bytes())[number]
        order = read(Path(place))
    except (OSError, ValueError, LookupError, TypeError, OrderError) as error:
        print(f"cockpit: nothing is to be run: {error}", flush=True)
        return CLAIMED
    if order.nonce != nonce:
        print("cockpit: nothing is to be run: its order was replaced", flush=True)
        return CLAIMED
    return agent.main([place])
