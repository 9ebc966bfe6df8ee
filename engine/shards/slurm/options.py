"""Which further options of Slurm's a lab file may pass on. Pure."""

from __future__ import annotations

import re

_OPTION = re.compile(r"--([a-z][a-z-]*)(=.*)?")
_KEYS = {
    **dict.fromkeys(("nodes",), "nodes"),
    **dict.fromkeys(("gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"), "gpus"),
    **dict.fromkeys(("ntasks", "ntasks-per-node", "cpus-per-task"), "tasks"),
    **dict.fromkeys(("time", "time-min"), "walltime"),
    **{name: name for name in ("partition", "account")},
}
_OURS = frozenset(
    {
        *(
            "array",
            "chdir",
            "error",
            "export",
            "export-file",
            "gid",
            "immediate",
            "input",
            "job-name",
            "jobid",
            "kill-command",
        ),
        *("no-kill", "no-shell", "output", "prolog", "epilog", "requeue", "task-prolog", "task-epilog", "uid", "wrap"),
    }
)


def refused(option: str) -> tuple[str, str] | None:
    """What is wrong with a further option of Slurm's, and what to do; None where it may be passed on. The size that a person
    confirms is said by the lab file's own keys alone, and what a job may see is not the lab file's to say."""
    found = _OPTION.fullmatch(option)
    if found is None:
        return "is not an option in its long form", "write it as in --qos=short"
    name = found[1]
    if name in _KEYS:
        return (
            f"says what slurm.{_KEYS[name]} is for",
            f"{_KEYS[name]} under [slurm], where it is shown before it is asked for",
        )
    if name in _OURS:
        return f"changes how shards are started: --{name} is not for a lab to say", "take it out"
    return None
