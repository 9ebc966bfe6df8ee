"""How the pilot stands, in the parts that every executor's allocation has."""

from __future__ import annotations

from engine.shards.executor import Held
from engine.shards.slurm.parsing import starts
from engine.shards.slurm.pilot import Pilot


def held(pilot: Pilot) -> Held:
    """The pilot as it was last seen."""
    asked, job = pilot.settings, pilot.seen.job
    gpu_hours = asked.nodes * asked.gpus * asked.walltime_s / 3600
    if not pilot.asked:
        return Held("none", why=pilot.ended, gpu_hours=gpu_hours)
    trouble = pilot.seen.trouble
    if job is None:
        return Held("asked", pilot.job_id or "", trouble=trouble, gpu_hours=gpu_hours)
    if job.pending:
        return Held("waiting", job.id, why=job.why, trouble=trouble, gpu_hours=gpu_hours, starts=starts(job.start))
    return Held(
        "ready" if pilot.ready else "begun", job.id, job.nodes,
        left_s=pilot.left_s, trouble=trouble, gpu_hours=gpu_hours,
    )  # fmt: skip
