"""What clients may ask of an audit: to read the trunk's code and its runs for silent bugs, now."""

from __future__ import annotations

import asyncio
from typing import Any

from engine.audit.by_model import ModelAudit
from engine.audit.filing import file_findings, sources, suspicions
from engine.conductor import Conductor
from engine.core import Core
from engine.runs import Runs

AUDITED = ("audit",)


class AuditMethods:
    """The methods, bound to one engine."""

    def __init__(self, core: Core, conductor: Conductor, runs: Runs) -> None:
        self.core = core
        self.runs = runs
        self.model = ModelAudit(core, conductor)

    async def do_audit(self, model: bool = True) -> dict[str, Any]:
        """Read the trunk: its editable Python files by the static rules, its finished runs by the detectors; and have Claude
        read it, where Claude is the lab's proposer, there is a key, and `model`. What is new is filed as findings.
        `{commit, arm, read, left_out, suspected, new, runs, found, model}`."""
        core = self.core
        core.check_writable()
        await core.until(lambda: bool(core.state.trunk_arm))
        arm = core.state.trunk_arm
        commit = str(core.state.experiments[arm]["commit"])
        found = await core.git(self._sources, commit)
        suspected, read = await asyncio.to_thread(suspicions, found)
        told = file_findings(core, arm, suspected)
        detecting = self.runs.detecting
        looked = await detecting.look_again(arm) if detecting is not None else []
        asked: dict[str, Any] | None = None
        if model:
            more, asked = await self._ask(arm)
            told += more
        ours = {row["id"] for row in core.state.shards_of(arm)}
        return {
            "commit": commit,
            "arm": arm,
            "read": sorted(read.files),
            "left_out": dict(read.left_out),
            "suspected": told,
            "new": sum(each["new"] for each in told),
            "runs": looked,
            "found": [row for row in core.state.findings.values() if row["about"] in ours],
            "model": asked,
        }

    async def _ask(self, arm: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """What Claude suspects, filed; each new one that came with a fix has its `proposal`."""
        found, asked = await self.model.ask(arm)
        told = file_findings(self.core, arm, [suspicion for suspicion, _ in found])
        for each, (suspicion, fix) in zip(told, found, strict=False):
            if each["new"] and fix:
                each["proposal"] = await self.model.propose(each["id"], suspicion, fix)
                asked["proposals"].append(each["proposal"])
        return told, asked

    def _sources(self, commit: str) -> Any:
        """On git's thread."""
        lab, repo = self.core.lab, self.core.repo
        return sources(repo, commit, filter(lab.is_editable, repo.entries(commit)))
