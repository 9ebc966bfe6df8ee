"""Which executor a lab's shards run on, and in how many slots: the one place that knows them all."""

from __future__ import annotations

from engine.lab import Lab
from engine.paths import StateDir
from engine.shards.executor import Executor, ExecutorError
from engine.shards.local import LocalExecutor
from engine.shards.slots import Slot, slots_here
from engine.shards.slurm import notes
from engine.shards.slurm.settings import slots_of


def make_executor(lab: Lab, state: StateDir) -> tuple[Executor, tuple[Slot, ...]]:
    """The lab's executor and its slots. Raises ExecutorError that says what is missing on this machine, or what is still held
    by an executor that the lab file had before."""
    held = notes.held(state.root)
    if lab.slurm is None:
        if held:
            raise ExecutorError(
                'this lab still holds a pilot allocation, and cockpit.toml no longer says executor = "slurm": say so again, '
                "`cockpit pilot --release`, then change it"
            )
        return LocalExecutor(state), slots_here(lab.slots or "auto", lab.threads, lab.ranks)
    from engine.shards.slurm.commands import SlurmError, find  # what a lab without a cluster need not load
    from engine.shards.slurm.executor import SlurmExecutor

    steps = str(state.shared_root / "steps")
    if held and held.get("steps", steps) != steps:
        raise ExecutorError(
            f"what runs in this lab's pilot allocation has its orders in {held['steps']}, and slurm.shared has changed: change "
            "it back, `cockpit pilot --release`, then change it"
        )
    try:
        programs = find()
    except SlurmError as error:
        raise ExecutorError(f'cockpit.toml says executor = "slurm", and {error}') from error
    return SlurmExecutor(state, lab.slurm, programs, lab.ranks, lab.threads), slots_of(lab.slurm, lab.ranks)
