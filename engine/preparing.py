"""The lab's data: made once by its own `[prepare]` command, from the trunk's run tree, and again when what makes them changes.

What shards read and what the referee alone reads lie in `data/<key>/open` and `data/<key>/held`; the key is a hash of the
command and of the protected code, and part of every shard's setup, so that runs on different data are never compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

from engine import faults
from engine.core import Core
from engine.runs import Runs
from engine.shards.spec import ShardSpec

log = logging.getLogger("engine")
TRIES = 2
"""How often a preparation is started that vanished with the launcher."""
ROOMIER = 4
"""How much more than a shard's run directory that of a preparation may hold, which is where it downloads to."""


class Preparation:
    """Sees to it that the data of the present trunk lie ready."""

    def __init__(self, core: Core, runs: Runs) -> None:
        self.core = core
        self.runs = runs
        self.running: str | None = None  # id of the preparation that runs now
        self.error: str | None = None  # why there are no data, in a sentence
        self._arm = ""
        self._key = ""
        self._vanished = 0

    async def look(self) -> bool:
        """True when the data lie ready; starts their preparation when they do not and it has not failed."""
        core, lab = self.core, self.core.lab
        if self._arm != core.state.trunk_arm:
            self._arm, self._vanished = core.state.trunk_arm, 0
            key = await self._find_key()
            if key != self._key:
                self._key, self.error = key, None
        if lab.prepare is None:
            self.runs.use(None, self._key)
            return True
        ready = core.dir.data / self._key
        if (ready / "ready.json").is_file():
            self.runs.use(ready, self._key)
            return True
        self.runs.use(None, "")
        if self.running is None and self.error is None and self.runs.refusal is None and self.runs.shortage is None:
            await self._start()
        return False

    async def _find_key(self) -> str:
        """Hash of what the data depend on: the command, the interpreter, and the trunk's protected code."""
        core, lab = self.core, self.core.lab
        if lab.prepare is None:
            return ""
        entries = await core.git(core.repo.entries, self._commit())
        named = set(lab.prepare.command)
        code = {
            path: entry.oid
            for path, entry in entries.items()
            if path in named or (path.endswith(".py") and lab.is_protected(path))
        }
        text = json.dumps([lab.prepare.command, sorted(code.items()), lab.interpreter()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _commit(self) -> str:
        return str(self.core.state.experiments[self._arm]["commit"])

    async def _start(self) -> None:
        core, lab, key = self.core, self.core.lab, self._key
        assert lab.prepare is not None
        for old in await self.runs.executor.reattach():
            if old.startswith(f"prepare-{key}-"):  # an engine before this one started it
                self.running = old
                return
        name = f"prepare-{key}-{len(list(core.dir.runs.glob(f'prepare-{key}-*'))) + 1}"
        faults.point("prepare.intent")
        tree = await core.git(core.repo.export, self._commit(), core.dir.trees)
        part = await asyncio.to_thread(_fresh, core.dir.data / f"{key}.part")
        run_dir = core.dir.runs / name
        slot = self.runs.slots[0]
        values = lab.prepare_values(data=part / "open", held=part / "held")
        spec = ShardSpec(
            id=name,
            argv=lab.fill(lab.prepare.command, values),
            cwd=str(tree),
            env=self.runs.environment(tree, run_dir, slot, lab.fill_env(values)),
            run_dir=str(run_dir),
            timeout_s=lab.prepare.timeout_s,
            threads=lab.threads,
            nice=lab.nice,
            disk=ROOMIER * lab.limits.disk,
            log_bytes=lab.limits.log,
        )
        handle = await self.runs.executor.launch(spec)
        faults.point("prepare.effect")
        self.running = name
        if handle.state != "running":
            self.ended(name)

    def ended(self, name: str) -> None:
        """The preparation ended: its result is taken whole, or not at all."""
        self.running = None
        key = name.split("-")[1]
        error = self.runs.step_error(name)
        if error == "it vanished" and self._vanished + 1 < TRIES:
            self._vanished += 1
            return
        if error is not None:
            where = f"see runs/{name}/output.log; `cockpit down` and `cockpit up` try again"
            self.error = f"preparing data failed: {error} ({where})"
            self.core.warnings.append(self.error)
            return
        part = self.core.dir.data / f"{key}.part"
        (part / "ready.json").write_text(json.dumps({"key": key, "by": name}))
        os.rename(part, self.core.dir.data / key)
        faults.point("prepare.done")


def _fresh(part: Path) -> Path:
    """An empty pair of directories, `open` and `held`, at `part`."""
    shutil.rmtree(part, ignore_errors=True)
    for place in (part / "open", part / "held"):
        place.mkdir(parents=True, mode=0o700)
    return part
