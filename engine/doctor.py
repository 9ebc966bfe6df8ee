"""`cockpit doctor`: looks at the machine and the lab, and says what is missing and what to do about it.

Every check is a line of its own that never raises; checks read, and write nothing but a probe file in the state directory.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.doctor_cluster import cluster
from engine.doctor_machine import Check, answer, machine
from engine.globs import Globs
from engine.lab import Lab, LabError, load
from engine.paths import CONFIG, StateDir
from engine.shards.network import shares_host
from engine.shards.sandbox import NO_CUDA, BoxError, choose, probe
from engine.shards.slots import gpus_here
from engine.text import clean

__all__ = ["Check", "checks"]

GIB = 1 << 30
TORCH_TIMEOUT_S = 120.0
SOCKET_BYTES = 104 if sys.platform == "darwin" else 108  # size of sun_path, its closing NUL included
_REMOTE = re.compile(r"nfs\d?|cifs|smb3|smbfs|9p|afs|ceph|lustre|gpfs|beegfs|glusterfs|fuse(\..*)?")
_WATCHES_WANTED = 8192


def checks(root: Path | None, env: Mapping[str, str]) -> list[Check]:
    """All checks; `root` is the lab, None outside of one."""
    out = list(machine(env))
    if root is None:
        out.append(Check("lab", "warn", f"there is no {CONFIG} here or above", "run `cockpit init` in your repository"))
        return out
    try:
        lab = load(root)
    except LabError as error:
        out += [Check("lab", "fail", str(each), each.fix) for each in error.problems]
        return out
    out.append(Check("lab", "ok", f"{lab.name}: {len(lab.rungs)} rungs, metric {lab.metric.name}"))
    for look in (_repository, _code, _interpreter, _seeds, _scoring, _mounts, _slots, _box, cluster, _detectors):
        out += look(lab, env)
    out += state_checks(lab.state)
    return out


# --- the lab


def _repository(lab: Lab, env: Mapping[str, str]) -> Iterator[Check]:
    code, said = answer(["git", "rev-parse", "--verify", "HEAD^{commit}"], env, lab.root)
    if code:
        said = clean(said.splitlines()[0]) if said else f"exit code {code}"
        yield Check("repository", "fail", said, "commit your training code; shards run committed files")
        return
    yield Check("repository", "ok", f"HEAD is {said[:12]}")
    code, said = answer(["git", "check-ignore", "-q", ".cockpit/x"], env, lab.root)
    if code:
        yield Check("git exclude", "warn", "git would track .cockpit", "echo /.cockpit/ >> .git/info/exclude")


def _box(lab: Lab, env: Mapping[str, str]) -> Iterator[Check]:
    """Whether this machine boxes shards as well as the lab asks for."""
    if not lab.here:
        yield Check("box", "ok", "what boxes the nodes can make is found out there, once there is a pilot")
        return
    found = probe()
    gpus = found.level == 2 and bool(gpus_here(env))  # which matters at no other level, and may have to wake the driver
    level, refusal = choose(lab.isolation, found, gpus)
    if refusal is not None:
        yield Check("box", "fail", refusal, 'get what is missing, or set isolation = "auto" under [run]')
        return
    if level < choose(lab.isolation, found)[0]:
        detail, _, fix = NO_CUDA.partition(": ")
        yield Check("box", "warn", f"limits only for shards with GPUs: {detail}", "; ".join((fix, *found.reasons)))
    try:
        shares_host(lab.network, level, lab.ranks)
    except BoxError as error:
        detail, _, fix = str(error).partition("; ")
        yield Check("box", "fail", f"nothing is started: {detail}", fix)
    if lab.network == "host" and level > 1:
        detail = "shards share this machine's network: what listens on it, and all that it reaches, is open to them"
        yield Check("network", "warn", detail, 'network = "none" under [run], and mount what shards need')


def _code(lab: Lab, env: Mapping[str, str]) -> Iterator[Check]:
    """Whether what the lab file names is committed: a shard sees nothing else."""
    code, said = answer(
        ["git", "-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", "-z", "HEAD"], env, lab.root
    )
    if code:
        return
    files = [path for path in said.split("\0") if path]
    idle = [glob for glob in lab.editable if not any(map(Globs([glob]).match, files))]
    missing = [
        part
        for part in lab.command
        if part.endswith(".py") and not part.startswith("/") and part.removeprefix("./") not in files
    ]
    for part in missing:
        yield Check("code", "fail", f"lab.command names {part}, which is not committed", f"git add {part}, and commit")
    for glob in idle:
        yield Check(
            "code", "warn", f'no committed file matches editable "{glob}"', "correct lab.editable, or commit the file"
        )
    if not any(map(lab.is_editable, files)):
        yield Check("code", "fail", "no committed file may be edited", "correct lab.editable and lab.protected")
    elif not missing and not idle:
        yield Check("code", "ok", f"{sum(map(lab.is_editable, files))} of {len(files)} committed files may be edited")


def _interpreter(lab: Lab, env: Mapping[str, str]) -> Iterator[Check]:
    if not any("{python}" in part for part in lab.command):
        program = lab.command[0]
        if "{" in program or "/" in program or shutil.which(program, path=env.get("PATH")):
            yield Check("interpreter", "ok", f"the lab runs {program}")
        else:
            yield Check("interpreter", "fail", f"{program} is not on PATH", "install it, or correct lab.command")
        return
    try:
        python = lab.interpreter()
    except LabError as error:
        yield from (Check("interpreter", "fail", each.wrong, each.fix) for each in error.problems)
        return
    code, said = answer([python, "-c", "import platform; print(platform.python_version())"], env, lab.root)
    if code:
        fix = "make that environment (uv sync, python -m venv …), or correct lab.python"
        yield Check("interpreter", "fail", f"{python} does not run: {_last_line(said)}", fix)
        return
    yield Check("interpreter", "ok", f"Python {said} at {python}")
    if _imports_torch(lab):
        yield torch(*answer([python, "-c", _TORCH], env, lab.root.parent, TORCH_TIMEOUT_S), python)


_TORCH = (
    "import torch; n = torch.cuda.device_count() if torch.cuda.is_available() else 0; "
    "print(torch.__version__, f'{n} GPUs' if n else 'CPU')"
)


def torch(code: int, said: str, python: str) -> Check:
    """What the lab's interpreter answered when it was asked to import torch."""
    if code:
        return Check(
            "torch", "fail", f"the lab imports torch, {python} cannot: {_last_line(said)}", "install torch there"
        )
    return Check("torch", "ok", _last_line(said))


def _last_line(text: str) -> str:
    return clean((text.splitlines() or [""])[-1][:200])


def _imports_torch(lab: Lab) -> bool:
    """Whether a script in the lab's top directory, or one that its command names, imports torch."""
    named = [lab.root / part for part in lab.command if part.endswith(".py")]
    for path in (*named, *sorted(lab.root.glob("*.py"))[:50]):
        try:
            with path.open("rb") as file:
                if re.search(rb"(?m)^\s*(import|from)\s+torch\b", file.read(1 << 20)):
                    return True
        except OSError:
            continue
    return False


def _seeds(lab: Lab, _: Mapping[str, str]) -> Iterator[Check]:
    if len(lab.seeds) < 3:
        yield Check("seeds", "warn", f"{len(lab.seeds)} seeds give no verdict", "run.seeds = [0, 1, 2] or more")
    if not any("{seed}" in part for part in (*lab.command, *lab.env.values())):
        fix = 'put "{seed}" into lab.command or lab.env'
        yield Check("seeds", "warn", "neither the command nor env names {seed}: all repeats are the same run", fix)


def _scoring(lab: Lab, _: Mapping[str, str]) -> Iterator[Check]:
    if lab.score is None:
        fix = "add a [score] command that scores a checkpoint by protected code"
        yield Check("scoring", "warn", "the metric is self-reported: a diff could print any number", fix)


def _detectors(lab: Lab, _: Mapping[str, str]) -> Iterator[Check]:
    """Which failure detectors worked when the trunk last ran, by the ledger, and what the others lack."""
    last = None
    try:
        with lab.state.ledger.open("rb") as file:
            for line in file:
                last = line if b'"type":"detectors.awake"' in line[:200] else last
        known = json.loads(last)["data"] if last else None
    except (OSError, ValueError, KeyError):
        known = None
    if known is None:
        yield Check("detectors", "ok", "which of them work is known once the trunk has run")
        return
    active, asleep = known["active"], known["asleep"]
    lacks = "; ".join(f"{each['detector']} lacks {', '.join(each['missing'])}" for each in asleep)
    detail = f"{len(active)} of {len(active) + len(asleep)} are active{'; ' + lacks if lacks else ''}"
    yield Check("detectors", "ok", clean(detail))


def _mounts(lab: Lab, _: Mapping[str, str]) -> Iterator[Check]:
    for path in lab.mounts:
        if not path.is_dir():
            yield Check("mounts", "warn", f"{path} is not a directory", "make it, or take it out of lab.mounts")


def _slots(lab: Lab, env: Mapping[str, str]) -> Iterator[Check]:
    if not lab.here:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    code, said = answer(["nvidia-smi", "-L"], env)
    gpus = sum(line.startswith("GPU ") for line in said.splitlines()) if code == 0 else 0
    have = f"{gpus} GPUs" if gpus else f"{cores} CPU cores"
    most = max(1, (gpus or cores // lab.threads) // lab.ranks)
    if 0 < gpus < lab.ranks:
        yield Check(
            "slots", "warn", f"ranks = {lab.ranks} on {have}: ranks will share them", f"ranks = {gpus} under [run]"
        )
    if lab.slots > most:
        fix = f'run.slots = "auto", or at most {most}'
        yield Check("slots", "warn", f"{lab.slots} shards at once on {have}: they will slow each other down", fix)
    else:
        yield Check("slots", "ok", f"{lab.slots or most} shards at once on {have}")


# --- where the state lies


def state_checks(state: StateDir) -> list[Check]:
    """Whether the engine can keep its state there: writable, local, roomy, watched; and whether its socket fits."""
    near = state.root
    while not near.exists() and near != near.parent:
        near = near.parent
    return [
        _writable(state.root, near),
        filesystem(str(near.resolve()), _text("/proc/self/mounts")),
        space(shutil.disk_usage(near).free, near),
        inotify(_text("/proc/sys/fs/inotify/max_user_watches"), sys.platform),
        _socket(state),
    ]


def _writable(root: Path, near: Path) -> Check:
    try:
        if near == root:
            with tempfile.TemporaryFile(dir=root):
                pass
        elif not os.access(near, os.W_OK | os.X_OK):
            raise PermissionError(13, "no permission")
    except OSError as error:
        return Check(
            "state", "fail", f"{root} cannot be written ({error.strerror})", "make it yours, or set store.state_dir"
        )
    return Check("state", "ok", f"{root}{'' if near == root else ' (not made yet)'}")


def filesystem(path: str, mounts: str) -> Check:
    """Whether `path` lies on a local disk, by the text of /proc/self/mounts; locks and renames over a network are not safe."""
    best, kind = "", ""
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), parts[1])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, parts[2]
    if not kind:
        return Check("state disk", "ok", "the kind of file system is not known here")
    if _REMOTE.fullmatch(kind):
        fix = 'set state_dir under [store] to a directory on a local disk, e.g. "/var/tmp/you/lab"'
        return Check("state disk", "warn", f"{path} lies on {kind}: locks and the database are not safe there", fix)
    return Check("state disk", "ok", f"{kind} at {best}")


def space(free: int, where: Path) -> Check:
    """Whether `free` bytes are enough for run trees, checkpoints and the index."""
    detail = f"{free / GIB:.1f} GiB free at {where}"
    if free < GIB:
        return Check("disk space", "fail", detail, "free some: shards have no room for checkpoints")
    if free < 10 * GIB:
        return Check("disk space", "warn", detail, "`cockpit gc` frees run trees and refereed checkpoints")
    return Check("disk space", "ok", detail)


def inotify(watches: str, platform: str) -> Check:
    """Whether files can be watched rather than polled."""
    if not platform.startswith("linux"):
        return Check("file watching", "ok", "by the system's own events")
    if not watches.strip().isdigit():
        return Check("file watching", "warn", "inotify is not there: files are polled", "nothing; it is only slower")
    if int(watches) < _WATCHES_WANTED:
        fix = "sudo sysctl fs.inotify.max_user_watches=524288"
        return Check("file watching", "warn", f"only {int(watches)} inotify watches", fix)
    return Check("file watching", "ok", f"{int(watches)} inotify watches")


def _socket(state: StateDir) -> Check:
    path = max(state.socket, state.launcher_socket, key=lambda each: len(os.fsencode(each)))
    size = len(os.fsencode(path)) + 1
    if size > SOCKET_BYTES:
        fix = "set XDG_RUNTIME_DIR or TMPDIR to a short path"
        return Check("socket", "fail", f"{path} has {size} bytes, a socket's path at most {SOCKET_BYTES}", fix)
    base = state.runtime.parent
    if base.exists():
        info = base.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
            fix = "remove it, or set XDG_RUNTIME_DIR to a directory that is yours alone"
            return Check("socket", "fail", f"{base} is not a private directory of yours", fix)
    return Check("socket", "ok", f"{path} ({size} of {SOCKET_BYTES} bytes)")


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
