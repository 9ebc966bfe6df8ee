"""What `cockpit doctor` looks at where shards run on a cluster: Slurm's commands, the partition, and where the files lie."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.doctor_machine import Check, answer
from engine.lab import Lab
from engine.shards.executor import ExecutorError
from engine.shards.slurm import owner
from engine.shards.slurm.clocks import of_files
from engine.shards.slurm.commands import Programs, SlurmError, find, plain, trial
from engine.shards.slurm.parsing import never
from engine.shards.slurm.settings import Settings, shown
from engine.text import clean


def cluster(lab: Lab, env: Mapping[str, str]) -> Iterator[Check]:
    """Nothing where shards run on this machine."""
    settings = lab.slurm
    if settings is None:
        if "slurm" in tomllib.loads((lab.root / "cockpit.toml").read_text()):
            fix = 'executor = "slurm" under [run], or take [slurm] out'
            yield Check("slurm", "warn", "there is a table [slurm], and shards run on this machine", fix)
        return
    try:
        programs = find(env)
    except SlurmError as error:
        yield Check("slurm", "fail", str(error), "run the cockpit on a login node, or load its Slurm module first")
        return
    where = [f"--partition={settings.partition}"] if settings.partition else []
    code, said = answer([programs["sinfo"], "--noheader", *where, "--format=%P %a %l %D"], programs.env)
    lines = [line for line in said.splitlines() if line.strip()]
    name = f"partition {settings.partition}" if settings.partition else "the default partition"
    if code:
        yield Check("slurm", "fail", f"the controller does not answer: {clean(said)[:200]}", "ask who runs the cluster")
    elif not lines:
        yield Check("slurm", "fail", f"there is no {name}", "`sinfo` lists them; correct slurm.partition")
    else:
        yield _pilot(lab, settings, programs)
    if lab.nodes > 1:
        detail = (
            f"each shard trains on {lab.nodes} nodes and shares their network: what listens on them, and all that they reach, "
            "is open to it"
        )
        yield Check("network", "warn", detail, f"ranks = {lab.ranks // lab.nodes} under [run], to stay on one node")
    long = [rung.name for rung in lab.rungs if rung.timeout_s > settings.walltime_s]
    if long and not lab.resumable:
        detail = f"a pilot of {shown(settings.walltime_s)} may end before a run at {', '.join(long)} does"
        yield Check("walltime", "warn", detail, "raise slurm.walltime, or let runs go on: {resume} in lab.command")
    if settings.shared is None:
        detail = f"the nodes must see {lab.state.root}, where runs, run trees and the index lie"
        fix = "set shared under [slurm] to a directory that they see, and state_dir under [store] to a local disk"
        yield Check("shared files", "warn", detail, fix)
    else:
        yield _shared(settings.shared, lab.state.root)
    yield from _clock(lab.state.shared_root)


def _pilot(lab: Lab, settings: Settings, programs: Programs) -> Check:
    """Whether Slurm could ever give the pilot, as it says itself; it is asked for nothing."""
    code, said = answer(trial(programs, settings, lab.ranks, lab.threads), programs.env)
    words = settings.words(lab.ranks)
    if code:
        fix = "correct the keys of [slurm]; `sinfo --Node --long` shows what its nodes have"
        return Check("slurm", "fail" if never(said) else "warn", f"{clean(plain(said))}: {words}", fix)
    return Check("slurm", "ok", words)


def _shared(shared: Path, state_dir: Path) -> Check:
    """Whether this lab may keep its files there."""
    there = next(each for each in (shared, *shared.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check("shared files", "fail", f"you may not write to {there}", "name another directory as slurm.shared")
    try:
        owner.look(shared, state_dir)
    except ExecutorError as error:
        return Check("shared files", "fail", clean(str(error)), "give each lab a slurm.shared of its own")
    if not shared.is_dir():
        return Check("shared files", "ok", f"{shared} is not a directory yet; the first engine makes it")
    return Check("shared files", "ok", f"runs, run trees, caches and data in {shared}")


def _clock(shared: Path) -> Iterator[Check]:
    """How far the clock that dates shared files is from this machine's; nothing where there is no such directory yet."""
    offset = of_files(shared) if shared.is_dir() else None
    if offset is None:
        return
    if offset.apart:
        detail = f"the clock of the file system of {shared} is {offset.words} this machine's"
        yield Check("clocks", "warn", detail, "nothing is judged by it; ask who runs the cluster to synchronise them")
    else:
        yield Check(
            "clocks", "ok", f"the file system of {shared} and this machine agree; `cockpit pilot` shows the nodes'"
        )
