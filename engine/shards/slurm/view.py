"""What is to be seen of the pilot: by `cockpit pilot`, as a warning, and when the engine stops. Pure, of what was last seen."""

from __future__ import annotations

from typing import Any

from engine.shards.slurm.clocks import Offset
from engine.shards.slurm.parsing import starts
from engine.shards.slurm.pilot import Pilot
from engine.shards.slurm.settings import shown


def view(pilot: Pilot, idle_release_s: float | None) -> dict[str, Any]:
    """Everything that is known of it; `engine.shards.executor.Allocation.view` names the fields. `idle_release_s` is after how
    many seconds it is given back if nothing starts in it, None while something runs."""
    job = pilot.seen.job if pilot.asked else None
    return {
        "asked": pilot.asked,
        "words": pilot.settings.words(pilot.ranks),
        "sentence": pilot.sentence,
        "job": pilot.job_id if pilot.asked else None,
        "state": job.state.lower() if job else None,
        "why": job.why if job else "",
        "starts": starts(job.start) if job and job.pending else None,
        "left_s": _round(pilot.left_s) if job and not job.pending else None,
        "nodes": [_node(pilot, node) for node in pilot.seen.nodes] if job else [],
        "idle_release_s": _round(idle_release_s),
        "files_offset_s": _round(pilot.seen.files.middle) if pilot.seen.files else None,
    }


def _node(pilot: Pilot, node: str) -> dict[str, Any]:
    seen = pilot.seen
    offset = seen.offsets.get(node)
    return {
        "node": node,
        "state": seen.states.get(node),
        "level": seen.levels.get(node),
        "gpus": pilot.settings.gpus,
        "offset_s": _round(offset.middle) if offset else None,
        "within_s": _round(offset.within) if offset else None,
        "apart": offset is not None and offset.apart,
    }


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def warnings(pilot: Pilot) -> list[str]:
    """Nodes that are not alike, and clocks that are off: nothing is judged by these, but who compares logs should know."""
    spans: list[tuple[str, Offset | None]] = [
        (f"the clock of {node}", each) for node, each in pilot.seen.offsets.items()
    ]
    spans.append(("the clock of the shared file system", pilot.seen.files))
    kinds = pilot.seen.probe.gpus if pilot.seen.probe else ()
    mixed = (
        f"the pilot's nodes have different GPUs ({', '.join(kinds)}), and seeds run on any: ask for one kind, by args = "
        '["--constraint=..."] under [slurm]'
    )
    return ([mixed] if len(kinds) > 1 else []) + [
        f"{name} is {each.words} this machine's: curves and durations do not depend on it, times in logs do"
        for name, each in spans
        if each is not None and each.apart
    ]


def stays(pilot: Pilot, running: int) -> str:
    """What becomes of it when the engine stops while so many steps are in it; empty where there is none."""
    if not pilot.asked:
        return ""
    name = f"pilot {pilot.job_id}" if pilot.job_id else "the pilot that is being asked for"
    back = "`cockpit pilot --release`"
    job, idle = pilot.seen.job, _idle(pilot.settings.idle_s)
    if job is None or job.pending:
        return f"{name} goes on waiting in the queue; {back} calls it off"
    if running:
        return f"{name} stays while they run, and for {idle} more with nothing in it"
    return f"{name} stays for {idle} more with nothing in it; {back} gives it back now"


def _idle(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if 120 <= seconds < 5400 else shown(seconds)
